//! The sink `nats` against a real server that is killed, restarted, and sometimes not there: each decision revision is
//! in the stream once, in order per key. Skipped, and said so, where there is no server to be had.

mod common;

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::nats::Nats;
use common::tools::make_certificates;
use common::totals::{RULES, check_received, feed_revisions};
use common::{Server, Setup, wait_for};
use futures_util::StreamExt;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

fn setup(nats: &Nats, more: &str) -> Setup {
    let sink = format!(
        "[sink.bus]\nkind = \"nats\"\nservers = \"{}\"\nsubject = \"orders.{{decision}}.{{key}}\"\n\
         types = [\"Total\"]\n{more}",
        nats.url()
    );
    Setup::new(RULES).tables(&sink)
}

fn orders(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("o-{n}")).collect()
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

async fn connect(nats: &Nats) -> Client {
    async_nats::connect(nats.url()).await.expect("it listens")
}

/// Makes the stream that takes all orders.
fn make_stream(runtime: &Runtime, nats: &Nats, more: stream::Config) {
    runtime.block_on(async {
        let config = stream::Config { name: "ORDERS".to_owned(), subjects: vec!["orders.>".to_owned()], ..more };
        jetstream::new(connect(nats).await).create_stream(config).await.expect("the stream is made");
    });
}

/// A message as it lies in the stream.
struct Stored {
    subject: String,
    headers: HeaderMap,
    payload: String,
}

impl Stored {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }
}

/// Everything in the stream, once it has so many messages.
fn stored(runtime: &Runtime, nats: &Nats, count: u64) -> Vec<Stored> {
    runtime.block_on(async {
        let stream = jetstream::new(connect(nats).await).get_stream_no_info("ORDERS").await.expect("the stream");
        for _ in 0..600 {
            if stream.get_info().await.is_ok_and(|info| info.state.messages >= count) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let found = stream.get_info().await.expect("its state").state.messages;
        assert!(found >= count, "{found} of {count} messages");
        let config =
            pull::Config { ack_policy: AckPolicy::None, deliver_policy: DeliverPolicy::All, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let messages = consumer.fetch().max_messages(found as usize).messages().await.expect("messages");
        let stored = messages.map(|message| {
            let message = message.expect("a message").message;
            Stored {
                subject: message.subject.to_string(),
                headers: message.headers.unwrap_or_default(),
                payload: String::from_utf8(message.payload.to_vec()).expect("JSON is text"),
            }
        });
        stored.collect().await
    })
}

fn ids(stored: &[Stored]) -> Vec<(String, String)> {
    stored.iter().map(|message| (message.header("Nats-Msg-Id").to_owned(), message.payload.clone())).collect()
}

fn in_log(server: &Server, what: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(what)).count()
}

/// If this failed, receivers would read other attributes than those of the decision, or a key could write into other
/// subjects.
#[test]
fn a_message_is_a_cloud_event_in_binary_mode() {
    let Some(nats) = Nats::start("") else { return };
    let runtime = runtime();
    make_stream(&runtime, &nats, stream::Config::default());
    let server = setup(&nats, "").start();
    feed_revisions(&server, &["a.b >*\té%".to_owned()], 1..3);
    let stored = stored(&runtime, &nats, 2);
    let [_, message] = &stored[..] else { panic!("{} messages", stored.len()) };
    assert_eq!(message.subject, "orders.Total.a%2Eb%20%3E%2A%09%C3%A9%25");
    assert_eq!(serde_json::from_str::<Value>(&message.payload).expect("JSON"), json!({"total": 2}));
    for (name, expected) in [
        ("Nats-Msg-Id", "order/a%2Eb%20%3E%2A%09%C3%A9%25/Total/2"),
        ("ce-id", "order/a%252Eb%2520%253E%252A%2509%25C3%25A9%2525/Total/2"),
        ("ce-specversion", "1.0"),
        ("ce-source", "/turnstile/order"),
        ("ce-type", "Total"),
        ("ce-subject", "a.b%20>*%09%C3%A9%25"),
        ("ce-revision", "2"),
        ("ce-decisionstate", "revised"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(message.header(name), expected, "{name}");
    }
}

/// If this failed, a crash of either side would lose a decision, or show one twice.
#[test]
fn every_revision_is_in_the_stream_once_whoever_crashes() {
    let Some(mut nats) = Nats::start("") else { return };
    let runtime = runtime();
    make_stream(&runtime, &nats, stream::Config::default());
    let mut server = setup(&nats, "").start();
    let orders = orders(100);
    for round in 0..6 {
        feed_revisions(&server, &orders, round * 5 + 1..round * 5 + 4);
        match round % 3 {
            0 => nats.kill(),
            1 => server.restart(),
            _ => {
                nats.kill();
                server.restart();
            }
        }
        feed_revisions(&server, &orders, round * 5 + 4..round * 5 + 6);
        if round % 3 != 1 {
            nats.run();
        }
    }
    let stored = stored(&runtime, &nats, 3000);
    check_received(&ids(&stored), &orders, 30);
    assert_eq!(stored.len(), 3000, "each once");
    wait_for("other sinks have everything", || (server.decisions_file().len() == 3000).then_some(()));
}

/// If this failed, Turnstile would need NATS and its stream in order to start, or fill the log while they are not there.
#[test]
fn it_starts_before_nats_and_before_the_stream() {
    let Some(mut nats) = Nats::prepare("") else { return };
    let runtime = runtime();
    let server = setup(&nats, "").start();
    let orders = orders(50);
    feed_revisions(&server, &orders, 1..3);
    let failed = |least: f64| {
        let count = server.metric("turnstile_sink_deliveries_total{result=\"failed\",sink=\"bus\"}");
        count.filter(|count| *count > least)
    };
    let before = wait_for("attempts without a server", || failed(100.0));
    nats.run();
    wait_for("it connects", || (in_log(&server, "connected to NATS") >= 1).then_some(()));
    wait_for("attempts without a stream", || failed(before + 100.0));
    assert_eq!(in_log(&server, "not connected to NATS"), 1, "{}", server.stderr());
    assert_eq!(in_log(&server, "could not be delivered"), 1, "{}", server.stderr());
    make_stream(&runtime, &nats, stream::Config::default());
    check_received(&ids(&stored(&runtime, &nats, 100)), &orders, 2);
}

/// If this failed, a message that the stream never takes would hold up its key for ever.
#[test]
fn what_the_stream_never_takes_is_a_dead_letter() {
    let Some(nats) = Nats::start("max_payload: 4096") else { return };
    let runtime = runtime();
    make_stream(&runtime, &nats, stream::Config { max_message_size: 2048, ..stream::Config::default() });
    let server = setup(&nats, "").start();
    // Too long for a subject, for the stream with its headers, and for the server.
    let orders = ["k".repeat(1000), "ok".to_owned(), "/".repeat(1020)];
    feed_revisions(&server, &orders, 1..2);
    let letters = wait_for("two dead letters", || {
        let letters = server.get("/v1/dead-letters?sink=bus").expect(200).json();
        (letters["items"].as_array().expect("items").len() == 2).then_some(letters)
    });
    let items = letters["items"].as_array().expect("items");
    assert!(items.iter().all(|item| item["reason"] == "too_large" && item["attempts"] == 1), "{letters}");
    assert_eq!(ids(&stored(&runtime, &nats, 1))[0].0, "order/ok/Total/1");
}

/// If this failed, those who listen without a stream would hear nothing.
#[test]
fn core_reaches_whoever_listens() {
    let Some(nats) = Nats::start("") else { return };
    let runtime = runtime();
    let mut heard = runtime.block_on(async {
        let client = connect(&nats).await;
        let heard = client.subscribe("orders.>").await.expect("a subscription");
        client.flush().await.expect("it is known");
        heard
    });
    let server = setup(&nats, "delivery = \"core\"\n").start();
    let orders = orders(10);
    feed_revisions(&server, &orders, 1..4);
    let messages = runtime.block_on(async {
        let taken = (&mut heard).take(30).collect::<Vec<_>>();
        tokio::time::timeout(common::PATIENCE, taken).await.expect("30 messages")
    });
    let received: Vec<_> = messages
        .iter()
        .map(|message| {
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).expect("an id");
            (id.to_string(), String::from_utf8_lossy(&message.payload).into_owned())
        })
        .collect();
    check_received(&received, &orders, 3);
}

/// If this failed, what is wrong with one sink would look like a crash, or its secret would stand in the log.
#[test]
fn credentials_that_are_none_end_the_start_with_a_message() {
    let sink = "[sink.bus]\nkind = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nsubject = \"{key}\"\n\
                credentials_file = \"secret\"\n";
    let server = Setup::new(RULES).tables(sink).write();
    std::fs::write(server.path("secret"), "hidden-7").expect("the secret is written");
    let output = server.run_to_end();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("sink `bus` cannot start") && !told.contains("panicked") && !told.contains("hidden"),
        "{told}"
    );
}

/// The settings of a server that trusts an operator, and the credentials file of a user of one of its accounts.
fn credentials() -> (String, String) {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let token = |issuer: &KeyPair, subject: &KeyPair, nats: Value| {
        let part = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let head = part(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
        let (iss, sub) = (issuer.public_key(), subject.public_key());
        let claims = json!({"jti": "1", "iat": 1_700_000_000, "iss": iss, "sub": sub, "name": sub, "nats": nats});
        let signed = format!("{head}.{}", part(claims));
        let signature = issuer.sign(signed.as_bytes()).expect("it is signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1});
    let of_operator = token(&operator, &operator, json!({"type": "operator", "version": 2}));
    let account_claims = json!({"type": "account", "version": 2, "limits": limits});
    let of_account = token(&operator, &account, account_claims.clone());
    let of_system = token(&operator, &system, account_claims);
    let of_user = token(&account, &user, json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}));
    let settings = format!(
        "operator: {of_operator}\nresolver: MEMORY\nsystem_account: {system}\n\
         resolver_preload: {{ {account}: {of_account}, {system}: {of_system} }}",
        account = account.public_key(),
        system = system.public_key()
    );
    let seed = user.seed().expect("its seed");
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
    );
    (settings, file)
}

/// If this failed, a server that asks who we are would not be told, or the log would tell everybody.
#[test]
fn it_logs_in_each_way_and_tells_no_secret() {
    let user = KeyPair::new_user();
    let seed = user.seed().expect("its seed");
    let nkey = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key());
    let (operator, credentials) = credentials();
    let ways = [
        (
            "authorization { user: me, password: pass-word-7 }",
            "user = \"me\"\npassword = \"pass-word-7\"\n",
            "pass-word-7",
        ),
        ("authorization { token: tok-en-7 }", "token_file = \"secret\"\n", "tok-en-7"),
        (&nkey, "nkey_file = \"secret\"\n", &seed),
        (&operator, "credentials_file = \"secret\"\n", &credentials),
    ];
    for (settings, keys, secret) in ways {
        let Some(nats) = Nats::start(settings) else { return };
        let mut server = setup(&nats, "delivery = \"core\"\n").write();
        let plain = setup(&nats, "delivery = \"core\"\n").text();
        std::fs::write(server.path("secret"), format!("{secret}\n")).expect("the secret is written");
        server.rewrite(&plain);
        server.start();
        feed_revisions(&server, &orders(1), 1..2);
        wait_for("it is told", || (in_log(&server, "not connected to NATS") == 1).then_some(()));
        assert_eq!(server.terminate().code(), Some(0));
        server.rewrite(&plain.replace("delivery = \"core\"\n", &format!("delivery = \"core\"\n{keys}")));
        server.start();
        wait_for("it is delivered", || {
            let delivered = server.metric("turnstile_sink_deliveries_total{result=\"ok\",sink=\"bus\"}");
            (delivered == Some(1.0)).then_some(())
        });
        let printed = server.cli(&["check", "--print"]);
        assert_eq!(printed.status.code(), Some(0), "{}", String::from_utf8_lossy(&printed.stderr));
        let told = server.stderr() + &String::from_utf8_lossy(&printed.stdout);
        assert!(!secret.lines().any(|line| !line.is_empty() && told.contains(line)), "{told}");
    }
}

/// If this failed, decisions would go over the net in the clear, or to whoever claims to be the server.
#[test]
fn tls_knows_its_authority_and_shows_its_certificate() {
    let certificates = tempfile::tempdir().expect("a temporary directory");
    if !make_certificates(certificates.path()) {
        return;
    }
    let file = |name: &str| certificates.path().join(name);
    let settings = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let Some(nats) = Nats::start(&settings) else { return };
    let identity = format!("tls_cert = {:?}\ntls_key = {:?}\n", file("client.pem"), file("client.key"));
    let authority = format!("tls_ca = {:?}\n", file("ca.pem"));
    let text = |more: &str| setup(&nats, &format!("delivery = \"core\"\n{more}")).text().replace("nats://", "tls://");
    let mut server = Setup::new(RULES).write();
    for (more, is_right) in [(&identity, false), (&authority, false), (&format!("{authority}{identity}"), true)] {
        server.rewrite(&text(more));
        let before = in_log(&server, "not connected to NATS");
        server.start();
        if is_right {
            feed_revisions(&server, &orders(1), 1..2);
            wait_for("it is delivered", || {
                let delivered = server.metric("turnstile_sink_deliveries_total{result=\"ok\",sink=\"bus\"}");
                (delivered == Some(1.0)).then_some(())
            });
        } else {
            wait_for("it is told", || (in_log(&server, "not connected to NATS") > before).then_some(()));
        }
        assert_eq!(server.terminate().code(), Some(0));
    }
    // A client that knows the authority sees that the server is what it should be.
    let trusted = ConnectOptions::new()
        .add_root_certificates(file("ca.pem"))
        .add_client_certificate(file("client.pem"), file("client.key"))
        .require_tls(true);
    runtime().block_on(trusted.connect(nats.url())).expect("the certificates are right");
}
