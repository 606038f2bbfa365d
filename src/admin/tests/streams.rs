//! Streams inside one process, where time can be told to pass: where they begin, what they tell, how they end.

use std::pin::Pin;
use std::time::Duration;

use actix_web::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::test::{TestRequest, call_service, init_service};
use serde_json::{Value, json};

use super::super::{NodeState, configure};
use super::node::{Node, Options, noted, paid};
use crate::model::ids::Lsn;

/// The body of a stream.
struct Stream {
    body: Pin<Box<BoxBody>>,
}

impl Stream {
    async fn open(node: &Node, uri: &str, last: Option<&str>) -> Self {
        let app = init_service(App::new().configure(configure(node.api.clone(), super::super::Routes::All))).await;
        let mut request = TestRequest::get().uri(uri).insert_header(("accept", "text/event-stream"));
        if let Some(last) = last {
            request = request.insert_header(("last-event-id", last));
        }
        let response = call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), 200, "{uri}");
        assert_eq!(response.headers().get("content-type").unwrap(), "text/event-stream");
        Stream { body: Box::pin(response.into_body()) }
    }

    /// The next chunk; none at the end.
    async fn chunk(&mut self) -> Option<String> {
        let chunk = std::future::poll_fn(|cx| self.body.as_mut().poll_next(cx)).await?;
        Some(String::from_utf8(chunk.expect("bodies cannot fail").to_vec()).unwrap())
    }

    /// The next chunk's events: id, event, data.
    async fn events(&mut self) -> Vec<(String, String, Value)> {
        let chunk = self.chunk().await.expect("it goes on");
        chunk.split_terminator("\n\n").map(event).collect()
    }
}

fn event(text: &str) -> (String, String, Value) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let data = field("data: ");
    (field("id: "), field("event: "), serde_json::from_str(&data).unwrap_or(Value::Null))
}

async fn expect_problem(node: &Node, uri: &str, status: u16, code: &str) -> String {
    let request = TestRequest::get().uri(uri).insert_header(("accept", "text/event-stream"));
    node.answer(request).await.problem(status, code)
}

/// If this failed, a reader that comes back would miss decisions or see them twice, in the middle of a record too.
#[actix_web::test]
async fn a_stream_goes_on_where_it_was() {
    let node = Node::start();
    node.post("", noted("1", "a", "x")).await.expect(202);
    let mut new = Stream::open(&node, "/v1/decisions", None).await;
    assert_eq!(new.events().await, [("1".to_owned(), String::new(), Value::Null)], "it begins with its position");
    node.post("", paid("2", "a", 120)).await.expect(202);
    let told =
        |id: &str, lsn: u64, name: &str| (id.to_owned(), "decision".to_owned(), json!({ "lsn": lsn, "type": name }));
    assert_eq!(new.events().await, [told("2.1", 2, "Celebrated"), told("2", 2, "Confirmed")]);
    for (uri, last) in [("/v1/decisions?after=2.1", None), ("/v1/decisions?after=0", Some("2.1"))] {
        let mut again = Stream::open(&node, uri, last).await;
        again.chunk().await;
        assert_eq!(again.events().await, [told("2", 2, "Confirmed")], "{uri} {last:?}");
    }
    let mut few = Stream::open(&node, "/v1/decisions?after=0&decision=Confirmed&type=order&key=a", None).await;
    few.chunk().await;
    assert_eq!(few.events().await, [told("2", 2, "Confirmed")]);
    assert_eq!(node.api.metrics.streams.with_label_values(&["decisions"]).get(), 2, "the others are closed");
}

/// If this failed, who watches an entity would miss a change, see one twice, or not know what it changed.
#[actix_web::test]
async fn an_entity_is_told_and_then_its_changes() {
    let node = Node::start();
    let mut early = Stream::open(&node, "/v1/entities/order/a", None).await;
    let [_, first] = early.events().await.try_into().unwrap();
    assert_eq!(first, ("0".to_owned(), "entity".to_owned(), Value::Null), "there is none yet");
    node.post("", noted("1", "a", "x")).await.expect(202);
    node.post("", noted("1", "b", "y")).await.expect(202);
    let mut late = Stream::open(&node, "/v1/entities/order/a", None).await;
    let [_, (id, event, document)] = late.events().await.try_into().unwrap();
    assert_eq!((&*event, &document["fields"]["note"], &document["lsn"]), ("entity", &json!("x"), &json!(1)));
    assert_eq!(id, "2", "all before was looked at");
    node.post("", noted("2", "a", "z")).await.expect(202);
    let mut of_type = Stream::open(&node, "/v1/entities/order?after=1", None).await;
    of_type.chunk().await;
    for (stream, expected) in [(&mut early, vec![1, 3]), (&mut late, vec![3]), (&mut of_type, vec![2, 3])] {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            for (id, event, change) in stream.events().await {
                assert_eq!((&*event, change["lsn"].to_string()), ("change", id), "{change}");
                assert_eq!(change["type"], "order");
                seen.push(change["lsn"].as_u64().unwrap());
            }
        }
        assert_eq!(seen, expected);
    }
}

/// If this failed, a reader would take the node's end for a broken network.
#[actix_web::test]
async fn the_end_is_told() {
    let node = Node::start();
    let mut waiting = Stream::open(&node, "/v1/entities/order", None).await;
    waiting.chunk().await;
    node.state.send_replace(NodeState::Draining);
    let [(_, event, data)] = waiting.events().await.try_into().unwrap();
    assert_eq!((&*event, &data["code"]), ("end", &json!("draining")), "{data}");
    assert_eq!(waiting.chunk().await, None);
    let cut = |reason| node.api.metrics.streams_cut.with_label_values(&[reason]).get();
    assert_eq!(cut("draining"), 1);
    drop(waiting);
    let open = |kind| node.api.metrics.streams.with_label_values(&[kind]).get();
    assert_eq!(open("type"), 0);
}

/// If this failed, a reader whose filter few pass would have to begin again where the journal is no longer kept.
#[actix_web::test]
async fn a_quiet_stream_says_how_far_it_has_read() {
    let node = Node::start();
    let mut stream = Stream::open(&node, "/v1/decisions?key=other", None).await;
    stream.chunk().await;
    for n in 1..=3 {
        node.post("", noted(&n.to_string(), "a", &n.to_string())).await.expect(202);
    }
    // Time stands still but for timers, so the first thing to come is the heartbeat, once all is read.
    let first = tokio::time::timeout(Duration::from_millis(200), stream.chunk()).await;
    assert!(first.is_err(), "nothing is told: {first:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(16)).await;
    assert_eq!(stream.chunk().await.unwrap(), ": heartbeat\nid: 3\n\n");
}

/// If this failed, a reader would wait for ever for what cannot come, or not learn what it missed.
#[actix_web::test]
async fn a_stream_that_cannot_begin_is_a_problem() {
    let node = Node::start_with(Options { segment_bytes: 1, ..Options::default() });
    for n in 1..=3 {
        node.post("", noted(&n.to_string(), "a", &n.to_string())).await.expect(202);
    }
    let mut behind = Stream::open(&node, "/v1/decisions?after=1", None).await;
    behind.chunk().await;
    node.journal.trim(Lsn(3)).unwrap();
    node.post("", noted("4", "a", "4")).await.expect(202);
    let [(_, event, data)] = behind.events().await.try_into().unwrap();
    assert_eq!((&*event, &data["code"]), ("end", &json!("trimmed")), "{data}");
    for (uri, status, code) in [
        ("/v1/decisions?after=0", 410, "trimmed"),
        ("/v1/decisions?after=99", 400, "invalid_value"),
        ("/v1/decisions?after=x", 400, "invalid_value"),
        ("/v1/decisions?limit=5", 400, "invalid_value"),
        ("/v1/decisions?type=nonsense", 400, "invalid_value"),
        ("/v1/entities/nonsense", 404, "not_found"),
        ("/v1/entities/order?prefix=a", 400, "invalid_value"),
        ("/v1/entities/order/a?wait=any", 400, "invalid_value"),
        ("/v1/stream", 400, "invalid_value"),
    ] {
        expect_problem(&node, uri, status, code).await;
    }
}

/// If this failed, streams would take all the memory there is.
#[actix_web::test]
async fn there_are_only_so_many_streams() {
    let node = Node::start_with(Options { limits: "streams_max = 2", ..Options::default() });
    let first = Stream::open(&node, "/v1/decisions", None).await;
    let _second = Stream::open(&node, "/v1/entities/order", None).await;
    let detail = expect_problem(&node, "/v1/decisions", 429, "busy").await;
    assert!(detail.contains("limits.streams_max = 2"), "{detail}");
    drop(first);
    Stream::open(&node, "/v1/decisions", None).await;
}
