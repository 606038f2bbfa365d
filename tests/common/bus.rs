//! Orders in a stream of NATS, the server that takes them, and the test's own view of both.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{self, PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::nats::Nats;
use super::totals::RULES;
use super::{Server, Setup, wait_for};

pub const STREAM: &str = "stream = \"ORDERS\"\nconsumer = \"turnstile\"\n";
/// So many messages are published before their acknowledgements are looked at.
const AT_ONCE: usize = 200;

pub fn source(nats: &Nats, more: &str) -> String {
    format!("[source.bus]\nkind = \"nats\"\nservers = \"{}\"\n{more}\n", nats.url())
}

pub fn setup(nats: &Nats, more: &str) -> Setup {
    Setup::new(RULES).tables(&source(nats, more))
}

/// The test's own view of NATS.
pub struct Bus {
    pub runtime: Runtime,
    pub jetstream: jetstream::Context,
}

impl Bus {
    pub fn new(nats: &Nats) -> Bus {
        let runtime = Runtime::new().expect("a runtime");
        let jetstream = runtime.block_on(async {
            let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
            jetstream::new(options.connect(nats.url()).await.expect("an address"))
        });
        Bus { runtime, jetstream }
    }

    /// Makes the stream of all orders.
    pub fn make_stream(&self) {
        let (name, subjects) = ("ORDERS".to_owned(), vec!["orders.>".to_owned()]);
        let config = stream::Config { name, subjects, ..stream::Config::default() };
        self.runtime.block_on(self.jetstream.create_stream(config)).expect("the stream is made");
    }

    /// Makes the consumer, so that what is not acknowledged comes again at once.
    pub fn make_consumer(&self) {
        let config = pull::Config {
            durable_name: Some("turnstile".to_owned()),
            ack_wait: Duration::from_secs(1),
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        self.runtime.block_on(self.jetstream.create_consumer_on_stream(config, "ORDERS")).expect("it is made");
    }

    /// What NATS knows of the consumer, once it answers.
    pub fn consumer(&self) -> consumer::Info {
        wait_for("the consumer", || {
            self.runtime.block_on(async {
                let found = self.jetstream.get_consumer_from_stream("turnstile", "ORDERS").await;
                found.ok().map(|consumer: PullConsumer| consumer.cached_info().clone())
            })
        })
    }

    /// Waits until nothing is left that is not acknowledged.
    pub fn drained(&self) {
        wait_for("every message is acknowledged", || {
            let info = self.consumer();
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        });
    }

    /// Publishes to the stream, again and again until it has said that it has each.
    pub fn publish(&self, messages: &[(String, HeaderMap, Vec<u8>)]) {
        self.runtime.block_on(async {
            for messages in messages.chunks(AT_ONCE) {
                let mut left: Vec<_> = messages.iter().collect();
                while !left.is_empty() {
                    let sent = left.iter().map(|(subject, headers, payload)| async {
                        let payload = payload.clone().into();
                        self.jetstream.publish_with_headers(subject.clone(), headers.clone(), payload).await?.await
                    });
                    let stored = join_all(sent).await;
                    left =
                        left.into_iter().zip(stored).filter(|(_, stored)| stored.is_err()).map(|(it, _)| it).collect();
                }
            }
        });
    }

    pub fn publish_events(&self, events: &[Value]) {
        let message = |event: &Value| ("orders.priced".to_owned(), HeaderMap::new(), event.to_string().into_bytes());
        self.publish(&events.iter().map(message).collect::<Vec<_>>());
    }
}

pub fn orders(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("o-{n}")).collect()
}

/// Each order has counted each of its prices once, and stands at the last.
pub fn check_orders(server: &Server, orders: &[String], prices: u32) {
    for order in orders {
        let entity = server.entity("order", order);
        assert_eq!((&entity["events"], &entity["fields"]["total"]), (&json!(prices), &json!(prices)), "{entity}");
    }
}

pub fn letters(server: &Server, count: usize) -> Vec<Value> {
    wait_for("the dead letters", || {
        let letters = server.get("/v1/dead-letters?source=bus").expect(200).json();
        let items = letters["items"].as_array().expect("items").clone();
        assert!(items.len() <= count, "{letters}");
        (items.len() == count).then_some(items)
    })
}

pub fn shown(server: &Server) -> Value {
    let status = server.get("/v1/status").expect(200).json();
    let sources = status["sources"].as_array().expect("sources").clone();
    sources.into_iter().find(|source| source["name"] == "bus").expect("the source")
}
