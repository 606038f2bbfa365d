//! `POST /v1/events`: every way to send events, every answer.

use actix_web::test::TestRequest;
use serde_json::json;

use super::super::NodeState;
use super::node::{Node, noted, paid};

/// If this failed, senders would not learn what became of their event, or where to ask for its entity.
#[actix_web::test]
async fn one_event_is_taken_once() {
    let node = Node::start();
    let answer = node.post("", noted("1", "a/b", "hi")).await.expect(202);
    assert_eq!(answer, json!({ "accepted": 1, "duplicates": 0, "lsn": 1, "entities": ["/v1/entities/order/a%2Fb"] }));
    let again = node.post("", noted("1", "a/b", "hi")).await.expect(202);
    assert_eq!(again["duplicates"], 1);
    assert_eq!(again["accepted"], 0);
    let link = answer["entities"][0].as_str().unwrap();
    assert_eq!(node.get(link).await.expect(200)["key"], "a/b");
    let ignored = node.post("", r#"{"id":"1","type":"Ping"}"#).await.expect(202);
    assert_eq!(ignored, json!({ "accepted": 1, "duplicates": 0, "lsn": 0, "entities": [] }));
}

/// If this failed, a refused event would be answered with another status or code than documented.
#[actix_web::test]
async fn a_refused_event_has_its_own_status() {
    let node = Node::start();
    node.post("", noted("1", "a", "hi")).await.expect(202);
    let long = noted("1", "a", &"x".repeat(2000));
    let deep = format!(r#"{{"id":"1","type":"Noted","data":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for (body, status, code) in [
        ("{", 400, "invalid_json"),
        ("", 400, "invalid_json"),
        (&*deep, 400, "too_deep"),
        (r#"{"type":"Noted"}"#, 400, "missing_id"),
        (r#"{"id":"1"}"#, 400, "missing_type"),
        (r#"{"id":"1","type":"Noted","time":"noon"}"#, 400, "invalid_time"),
        (r#"{"id":"1","type":"Noted","data":{}}"#, 400, "missing_key"),
        (r#"{"id":"1","type":"Noted","data":{"order":[]}}"#, 400, "invalid_key"),
        (r#"{"id":"2","type":"Paid","data":{"order":"a","amount":"much"}}"#, 400, "invalid_value"),
        (r#"{"id":"1","type":"Unheard"}"#, 400, "unmatched"),
        (&*noted("1", "a", "other"), 409, "conflict"),
        (&*noted("panic", "a", "other"), 500, "internal"),
        (&*long, 413, "too_large"),
    ] {
        let detail = node.post("", body).await.problem(status, code);
        assert!(!detail.is_empty());
    }
    let body = vec![b' '; (2 << 20) + 1];
    let answer = node.answer(TestRequest::post().uri("/v1/events").set_payload(body)).await;
    assert!(answer.problem(413, "too_large").contains("http_body_bytes_max"));
    let metrics = node.get("/metrics").await;
    for line in [
        r#"turnstile_events_refused_total{code="too_large",source="http"} 2"#,
        r#"turnstile_events_refused_total{code="conflict",source="http"} 1"#,
        r#"turnstile_http_requests_total{code="409",route="/v1/events"} 1"#,
    ] {
        assert!(metrics.text().contains(line), "{line} is not in {}", metrics.text());
    }
}

/// If this failed, a sender could not tell which of its events to mend.
#[actix_web::test]
async fn of_several_events_the_good_ones_are_taken() {
    let node = Node::start();
    let lines =
        [noted("1", "a", "x"), "{".into(), String::new(), noted("1", "a", "x"), noted("1", "a", "y")].join("\n");
    let answer = node.post("", lines).await;
    answer.problem(400, "refused");
    let document = answer.json();
    assert_eq!((&document["accepted"], &document["duplicates"], &document["lsn"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(document["entities"], json!(["/v1/entities/order/a"]));
    let refused: Vec<_> = document["refused"].as_array().unwrap().iter().map(|r| (&r["line"], &r["code"])).collect();
    assert_eq!(refused, [(&json!(2), &json!("invalid_json")), (&json!(4), &json!("conflict"))]);
    assert!(document["refused"][0]["message"].is_string());
}

/// If this failed, CloudEvents senders of one mode or another could not talk to the node.
#[actix_web::test]
async fn all_modes_are_understood() {
    let node = Node::start();
    let post = || TestRequest::post().uri("/v1/events");
    let batch = format!("[{},{}]", noted("1", "batch", "x"), noted("2", "batch", "x"));
    let lines = format!("{}\n{}\n", noted("1", "lines", "x"), noted("2", "lines", "x"));
    for (request, accepted) in
        [
            (post().insert_header(("content-type", "application/cloudevents-batch+json")).set_payload(batch), 2),
            (post().insert_header(("content-type", "application/x-ndjson")).set_payload(lines.clone()), 2),
            (post().set_payload(lines), 0),
            (
                post()
                    .insert_header(("content-type", "application/cloudevents+json; charset=utf-8"))
                    .set_payload(noted("1", "structured", "x")),
                1,
            ),
            (
                post()
                    .insert_header(("content-type", "application/json"))
                    .insert_header(("ce-id", "1"))
                    .insert_header(("ce-type", "Noted"))
                    .insert_header(("Ce-Subject", "%C3%BC"))
                    .set_payload(r#"{"order":"binary","text":"x"}"#),
                1,
            ),
        ]
    {
        assert_eq!(node.answer(request).await.expect(202)["accepted"], accepted);
    }
    for key in ["batch", "lines", "structured", "binary"] {
        assert_eq!(node.get(&format!("/v1/entities/order/{key}")).await.expect(200)["fields"]["note"], "x", "{key}");
    }
}

/// If this failed, callers would be told of a decision too early, too late or never.
#[actix_web::test]
async fn a_post_can_wait() {
    let node = Node::start();
    let applied = node.post("?wait=applied", paid("1", "a", 60)).await.expect(200);
    assert_eq!(applied["accepted"], 1);
    assert_eq!(applied["entities"][0]["fields"]["paid"], 60);
    let undecided = node.post("?wait=Confirmed&timeout=0s", paid("1", "a", 60)).await.expect(202);
    assert_eq!(undecided["entities"][0]["decisions"]["Confirmed"]["state"], "pending");
    for wait in ["Confirmed", "Remarked,Confirmed", "any"] {
        let query = format!("?wait={wait}&timeout=1m");
        let order = format!("by-{}", wait.len());
        let waiting = {
            let (node, order) = (node.clone(), order.clone());
            actix::spawn(async move { node.post(&query, paid("1", &order, 60)).await })
        };
        node.post("", paid("2", &order, 60)).await.expect(202);
        let decided = waiting.await.unwrap().expect(200);
        let confirmed = &decided["entities"][0]["decisions"]["Confirmed"];
        assert_eq!((&confirmed["state"], &confirmed["data"]["paid"]), (&json!("made"), &json!(120)), "{wait}");
    }
    let ignored = node.post("?wait=any", r#"{"id":"1","type":"Ping"}"#).await.expect(202);
    assert_eq!(ignored["entities"], json!([]));
    let many: Vec<String> = (0..1001).map(|_| "{}".into()).collect();
    node.post("?wait=applied", many.join("\n")).await.problem(400, "invalid_value");
}

/// If this failed, a slip in a query would be taken for something else.
#[actix_web::test]
async fn wrong_queries_are_refused() {
    let node = Node::start();
    for (query, expected) in [
        ("?wait=Confirmd", "did you mean `Confirmed`?"),
        ("?wait=", "decision"),
        ("?wiat=any", "wiat"),
        ("?wait=any&timeout=30", "write it like"),
        ("?timeout=1h", "5m"),
    ] {
        let detail = node.post(query, noted("1", "a", "x")).await.problem(400, "invalid_value");
        assert!(detail.contains(expected), "{query}: {detail}");
    }
    node.get("/v1/entities/order/a").await.problem(404, "not_found");
}

/// If this failed, a stopping or overloaded node would take events it may not be able to keep, or tell senders to give up.
#[actix_web::test]
async fn a_node_that_cannot_take_events_says_so() {
    let node = Node::start();
    node.api.admission.gate.set("disk", Some("the disk is full".into()));
    let answer = node.post("", noted("1", "a", "x")).await;
    assert!(answer.problem(429, "busy").contains("the disk is full"));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    let batch = node.post("", [noted("1", "a", "x"), noted("2", "a", "x")].join("\n")).await;
    batch.problem(429, "busy");
    assert_eq!(batch.json()["refused"][1]["line"], 2);
    node.api.admission.gate.set("disk", None);
    node.post("", noted("1", "a", "x")).await.expect(202);

    let waiting = {
        let node = node.clone();
        actix::spawn(async move { node.post("?wait=Confirmed&timeout=5m", paid("9", "a", 1)).await })
    };
    while !node.get("/v1/entities/order/a/events/9").await.text().contains("applied") {
        tokio::task::yield_now().await;
    }
    node.state.send_replace(NodeState::Draining);
    waiting.await.unwrap().expect(202);
    let answer = node.post("", noted("2", "a", "x")).await;
    answer.problem(503, "draining");
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    node.get("/v1/entities/order/a").await.expect(200);
}
