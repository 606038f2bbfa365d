//! Events in over HTTP: every form in which they may be posted, what is answered, and waiting for what comes of them.

mod common;

use std::time::Duration;

use common::orders::{BATCH, NDJSON, RULES, STRUCTURED, created, event, feed, lines, paid, reserved, shipped};
use common::{Http, Setup, deliver, wait_for};
use serde_json::{Value, json};

/// The receipt tells what was taken and where to look at it; the same event again changes nothing.
#[test]
fn one_event_and_the_same_again() {
    let server = Setup::new(RULES).start();
    for (round, content_type) in
        [STRUCTURED, "application/json", "application/cloudevents+json; charset=UTF-8"].into_iter().enumerate()
    {
        let answer = server.post("/v1/events", content_type, created("o-1").to_string()).expect(202).json();
        let counts = (answer["accepted"].as_u64(), answer["duplicates"].as_u64());
        let expected = if round == 0 { (Some(1), Some(0)) } else { (Some(0), Some(1)) };
        assert_eq!(counts, expected, "{content_type}: {answer}");
        assert!(answer["lsn"].is_u64(), "{answer}");
        assert_eq!(answer["entities"], json!(["/v1/entities/order/o-1"]), "{answer}");
    }
    assert_eq!(server.entity("order", "o-1")["events"], 1);
}

/// A batch is one request; what is wrong in it is told by its place, and does not take the rest with it.
#[test]
fn batches_and_ndjson() {
    let server = Setup::new(RULES).start();
    let events = [created("o-1"), paid("o-1", "successful"), created("o-2"), created("o-1")];
    let answer = server.post("/v1/events", BATCH, Value::from(events.to_vec()).to_string()).expect(202).json();
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(3), &json!(1)), "{answer}");
    let answer = feed(&server, &[reserved("o-1"), shipped("o-2"), created("o-2")]);
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(2), &json!(1)), "{answer}");

    let wrong =
        [created("o-3"), json!({"id": "x", "type": "Nonsense"}), json!({"type": "OrderCreated"}), created("o-4")];
    let bodies = [(BATCH, Value::from(wrong.to_vec()).to_string()), (NDJSON, lines(&wrong))];
    for (round, (content_type, body)) in bodies.into_iter().enumerate() {
        let response = server.post("/v1/events", content_type, body);
        assert_eq!(response.status, 400, "{}", response.text());
        let answer = response.json();
        let refused: Vec<_> = answer["refused"].as_array().expect("refusals").iter().collect();
        let places: Vec<_> = refused.iter().map(|refusal| (&refusal["line"], &refusal["code"])).collect();
        assert_eq!(places, [(&json!(2), &json!("unmatched")), (&json!(3), &json!("missing_id"))], "{answer}");
        let counts = (answer["accepted"].as_u64(), answer["duplicates"].as_u64());
        assert_eq!(
            counts,
            if round == 0 { (Some(2), Some(0)) } else { (Some(0), Some(2)) },
            "{content_type}: {answer}"
        );
    }
    assert_eq!(server.entity("order", "o-4")["events"], 1, "what was taken stays");
}

/// Binary mode: attributes in headers, data in the body.
#[test]
fn binary_mode() {
    let server = Setup::new(RULES).start();
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "n-1"),
        ("ce-source", "/test"),
        ("ce-type", "Noted"),
        ("ce-time", "2026-11-20T10:00:00Z"),
        ("ce-subject", "Euro%20%E2%82%AC"), // percent-encoded, as the HTTP binding of CloudEvents says
        ("ce-author", "eva"),
    ];
    let answer = server.request("POST", "/v1/events", &headers, br#"{"any":["data"]}"#).expect(202).json();
    assert_eq!(answer["accepted"], 1, "{answer}");
    let note = server.entity("note", "Euro €");
    assert_eq!(note["fields"], json!({"text": {"any": ["data"]}, "by": "eva"}));
    let structured = json!({"id": "n-1", "source": "/test", "type": "Noted", "time": "2026-11-20T10:00:00Z",
                            "subject": "Euro €", "data": {"any": ["data"]}});
    let again = server.post("/v1/events", STRUCTURED, structured.to_string()).expect(202).json();
    assert_eq!(again["duplicates"], 1, "the same event in structured mode is the same event: {again}");
    let missing = server.request("POST", "/v1/events", &headers[..2], b"{}");
    assert_eq!(missing.problem(400), "missing_id");
}

/// A body over the limit is refused before it fills the memory.
#[test]
fn a_body_that_is_too_large() {
    let limits = "[limits]\nevent_bytes_max = \"4KiB\"\nhttp_body_bytes_max = \"16KiB\"";
    let server = Setup::new(RULES).tables(limits).start();
    let many = lines(&vec![created("o-1"); 1_000]);
    let response = server.post("/v1/events", NDJSON, many);
    assert_eq!(response.problem(413), "too_large");
    let exact = event("n", "OrderCreated", "o-2", &json!({"text": "x".repeat(3_000)}));
    assert_eq!(server.post("/v1/events", STRUCTURED, exact.to_string()).expect(202).json()["accepted"], 1);
}

/// `wait=applied` saves the second request: the answer has the entities as they are with the event.
#[test]
fn wait_applied() {
    let server = Setup::new(RULES).start();
    let answer = server.post("/v1/events?wait=applied", STRUCTURED, created("o-1").to_string()).expect(200).json();
    let documents = answer["entities"].as_array().expect("documents");
    assert_eq!(documents.len(), 1, "{answer}");
    assert_eq!(documents[0], server.entity("order", "o-1"));
}

/// Who waits for a decision gets it when it is made, by whomever; and the entity as it is if that takes too long.
#[test]
fn wait_for_a_decision() {
    let server = Setup::new(RULES).start();
    let late = server.post("/v1/events?wait=OrderConfirmed&timeout=100ms", STRUCTURED, created("o-1").to_string());
    assert_eq!(late.status, 202, "{}", late.text());
    assert!(late.text().contains(r#""key":"o-1""#), "the answer has the document: {}", late.text());

    for (order, wait) in [("o-2", "OrderConfirmed"), ("o-3", "OrderRejected,OrderConfirmed"), ("o-4", "any")] {
        let path = format!("/v1/events?wait={wait}&timeout=60s");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| server.post(&path, STRUCTURED, paid(order, "successful").to_string()));
            let url = format!("/v1/entities/order/{order}");
            wait_for("the first event is in", || (server.get(&url).status == 200).then_some(()));
            feed(&server, &[reserved(order)]);
            let answer = waiting.join().expect("an answer");
            assert_eq!(answer.status, 200, "{wait}: {}", answer.text());
            assert!(answer.text().contains(r#""state":"made""#), "{wait}: {}", answer.text());
        });
        let path = format!("/v1/entities/order/{order}?wait={wait}&timeout=60s");
        let made = server.get(&path).expect(200).json();
        assert_eq!(made["decisions"]["OrderConfirmed"]["revision"], 1, "a wait for what is made ends at once: {made}");
    }
    let unknown = server.get("/v1/entities/order/o-1?wait=Nonsense&timeout=1s");
    assert_eq!(unknown.status, 400, "a decision that no rule makes would be waited for in vain: {}", unknown.text());
}

/// `timeout` must not be taken from the patience of the caller without telling.
#[test]
fn a_wait_ends_with_its_timeout() {
    let server = Setup::new(RULES).start();
    feed(&server, &[created("o")]);
    let begun = std::time::Instant::now();
    let answer = server.get("/v1/entities/order/o?wait=any&timeout=200ms");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(200), "it did not wait");
    assert_eq!(server.get("/v1/entities/order/o?wait=any&timeout=soon").status, 400);
}

/// Numbers that went through a double would come back as others.
#[test]
fn numbers_keep_their_value() {
    let server = Setup::new(RULES).start();
    let body = r#"{"id":"1","type":"Noted","subject":"n","time":"1948-01-01T00:00:00Z",
        "data":[9007199254740993,-9223372036854775808,123456789012345678901234567890,0.1,1e-10,12345678901234567890.123456789]}"#;
    assert_eq!(server.post("/v1/events", STRUCTURED, body).expect(202).json()["accepted"], 1);
    let text = server.get("/v1/entities/note/n").expect(200).text();
    for number in [
        "9007199254740993",
        "-9223372036854775808",
        "123456789012345678901234567890",
        "0.1",
        "12345678901234567890.123456789",
    ] {
        assert!(text.contains(number), "{number} is not in {text}");
    }
}

/// Many requests on one connection, pipelined waits on others: none is mixed up with another.
#[test]
fn connections_are_kept() {
    let server = Setup::new(RULES).start();
    let mut http = Http::connect(server.http());
    for n in 0..200 {
        let order = format!("o-{n}");
        let headers = [("content-type", STRUCTURED)];
        let answer = http.request("POST", "/v1/events", &headers, created(&order).to_string().as_bytes()).expect(202);
        assert_eq!(answer.json()["entities"][0], format!("/v1/entities/order/{order}"));
        let document = http.request("GET", &format!("/v1/entities/order/{order}"), &[], b"").expect(200);
        assert_eq!(document.json()["key"], order);
    }
}

/// If this failed, which of several events without a time counts as the latest would be a matter of their ids.
#[test]
fn of_events_without_a_time_the_one_sent_last_is_the_latest() {
    let server = Setup::new(RULES).start();
    let noted = |n: u32| {
        json!({"id": format!("zz{}", 9 - n), "source": format!("s{}", 9 - n), "type": "Noted",
                                "subject": "tie", "data": n})
    };
    let all: Vec<Value> = (1..7).map(noted).collect();
    feed(&server, &all[..4]);
    assert_eq!(server.entity("note", "tie")["fields"]["text"], 4);
    assert_eq!(deliver(server.tcp(), &all.iter().map(Value::to_string).collect::<Vec<_>>()).duplicates, 4);
    assert_eq!(server.entity("note", "tie")["fields"]["text"], 6);
}
