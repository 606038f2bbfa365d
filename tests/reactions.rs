//! Entities that depend on each other and on time, through the real binary: references, deadlines, rests, decisions that are
//! events to their own entity; across passivation, restarts and SIGKILL.

mod common;

use std::collections::BTreeMap;

use common::orders::{feed_patiently, happened};
use common::{Setup, percent, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.shipment]
key = "event.data.id"
[entity.shipment.fields]
created = { on = "ShipmentCreated", take = "min", value = "event.time" }
segment = { on = "SegmentRegistered", take = "latest", value = "event.data.segment" }
[entity.routing]
key = "event.data.id"
[entity.routing.fields]
doc = { on = "RoutingReceived", take = "latest" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.doc.shipmentId"
[entity.routing.derived]
segment = "shipment.segment"
[entity.routing.decision.Dispatch]
data = "{'segment': shipment.segment}"
[entity.invoice]
key = "event.data.id"
[entity.invoice.fields]
doc = { on = "InvoiceReceived", take = "latest" }
[entity.invoice.ref.routing]
entity = "routing"
key = "invoice.doc.routingId"
[entity.invoice.decision.Book]
data = "{'segment': routing.segment}"
"#;

/// Many actors fewer than there are entities, several shards, and checkpoints all the time.
const BUSY: &str = "[actors]\nshards = 4\nmax_live = 20\nidle = \"1s\"\n[checkpoint]\njournal_bytes = \"64KiB\"\n";

/// If this failed, a child would be dispatched without what its parent knows, or wait for ever, depending on which came
/// first; here both, over several shards, while actors come and go.
#[test]
fn children_see_their_parents_whichever_comes_first() {
    let server = Setup::new(RULES).tables(BUSY).start();
    let parents = |from: usize, to: usize| {
        (from..to).map(|n| {
            let data = json!({"id": format!("S{n}"), "segment": format!("seg{n}")});
            happened(&format!("s{n}"), "SegmentRegistered", &data)
        })
    };
    let children = (0..300).flat_map(|n| {
        let routing = json!({"id": format!("R{n}"), "shipmentId": format!("S{n}")});
        let invoice = json!({"id": format!("I{n}"), "routingId": format!("R{n}")});
        [
            happened(&format!("i{n}"), "InvoiceReceived", &invoice),
            happened(&format!("r{n}"), "RoutingReceived", &routing),
        ]
    });
    feed_patiently(&server, &parents(0, 100).collect::<Vec<_>>());
    feed_patiently(&server, &children.collect::<Vec<_>>());
    wait_for("what has a parent is booked", || {
        (server.metric("turnstile_entities_waiting{entity=\"routing\",reference=\"shipment\"}") == Some(200.0))
            .then_some(())
    });
    let waiting = server.entities_that("routing", 500, "waiting=shipment");
    assert_eq!(waiting.len(), 200, "those whose shipment is not there");
    let first = &waiting[0]["waiting_for"][0];
    assert_eq!((&first["reference"], &first["type"]), (&json!("shipment"), &json!("shipment")));
    assert!(first["since"].is_string(), "{first}");
    server.get("/v1/entities/shipment/S250").expect(404);
    assert!(server.entities("shipment", 500).len() == 100, "what is only waited for is not there");
    feed_patiently(&server, &parents(100, 300).collect::<Vec<_>>());
    let booked =
        || server.entities("invoice", 500).iter().filter(|it| it["decisions"]["Book"]["state"] == "made").count();
    wait_for("every invoice is booked", || (booked() == 300).then_some(()));
    for n in 0..300 {
        let invoice = server.entity("invoice", &format!("I{n}"));
        assert_eq!(invoice["decisions"]["Book"]["data"]["segment"], format!("seg{n}"), "{invoice}");
    }
    assert!(server.entities_that("routing", 500, "waiting=true").is_empty());
}

/// If this failed, one parent of many could not tell all of them, or would keep them from being told of what is new.
#[test]
fn one_parent_tells_ten_thousand_children() {
    let server = Setup::new(RULES).tables("[actors]\nshards = 2\nmax_live = 2000\n").start();
    let count = 10_000;
    let children: Vec<Value> = (0..count)
        .map(|n| happened(&format!("r{n}"), "RoutingReceived", &json!({"id": format!("R{n}"), "shipmentId": "S"})))
        .collect();
    for children in children.chunks(5_000) {
        feed_patiently(&server, children);
    }
    for (id, segment) in [("s1", "sea"), ("s2", "air")] {
        let time = if id == "s1" { "2026-11-20T10:00:00Z" } else { "2026-11-20T11:00:00Z" };
        let data = json!({"id": "S", "segment": segment});
        feed_patiently(&server, &[json!({"id": id, "type": "SegmentRegistered", "time": time, "data": data})]);
    }
    let seen = |text: &str| {
        let filter = format!("where={}", percent(&format!("routing.segment == '{text}'")));
        server.entities_that("routing", 500, &filter).len()
    };
    wait_for("all children see the newest", || (seen("air") == count).then_some(()));
}

/// If this failed, news of a parent would be lost with the process that was about to tell it.
#[test]
fn no_news_is_lost_between_a_parents_commit_and_its_childs() {
    let mut server = Setup::new(RULES).tables(BUSY).start();
    let rounds = common::from_env("REACTION_KILLS", 6);
    let count = 60;
    let mut expected = BTreeMap::new();
    for round in 0..rounds {
        let mut events = Vec::new();
        for n in 0..count {
            let (segment, at) = (format!("seg{round}-{n}"), format!("2026-11-20T10:{round:02}:00Z"));
            let data = json!({"id": format!("S{n}"), "segment": segment});
            let id = format!("s{n}-{round}");
            events.push(json!({"id": id, "type": "SegmentRegistered", "time": at, "data": data}));
            expected.insert(format!("I{n}"), segment);
            if round == 0 {
                let routing = json!({"id": format!("R{n}"), "shipmentId": format!("S{n}")});
                let invoice = json!({"id": format!("I{n}"), "routingId": format!("R{n}")});
                events.push(happened(&format!("r{n}"), "RoutingReceived", &routing));
                events.push(happened(&format!("i{n}"), "InvoiceReceived", &invoice));
            }
        }
        feed_patiently(&server, &events);
        // Acknowledged: the events are durable, what follows from them is still on its way.
        server.kill();
        server.start();
    }
    for (key, segment) in expected {
        wait_for(&format!("{key} sees {segment}"), || {
            (server.entity("invoice", &key)["decisions"]["Book"]["data"]["segment"] == *segment).then_some(())
        });
    }
}

const TIMED: &str = r#"
[entity.order]
key = "event.data.id"
[entity.order.fields]
due = { on = "Ordered", take = "latest", value = "timestamp(event.data.due)" }
paid = { on = "Paid", take = "latest", value = "true" }
[entity.order.deadline.unpaid]
at = "order.due"
unless = "has(order.paid)"
grace = "100ms"
[entity.order.decision.Overdue]
when = "has(order.unpaid)"
data = { since = "order.unpaid" }
"#;

fn in_seconds(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    chrono::DateTime::from_timestamp(now + seconds, 0).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn ordered(id: &str, order: &str, due: &str) -> Value {
    json!({"id": id, "type": "Ordered", "time": due, "data": {"id": order, "due": due}})
}

/// If this failed, something missing would never be noticed, since its actor or its process was not there at the time.
#[test]
fn deadlines_pass_whatever_was_stopped_meanwhile() {
    let mut server = Setup::new(TIMED).tables(BUSY).start();
    let due = in_seconds(2);
    let orders: Vec<Value> = (0..200).map(|n| ordered(&format!("o{n}"), &format!("O{n}"), &due)).collect();
    feed_patiently(&server, &orders);
    let late = in_seconds(3600);
    feed_patiently(
        &server,
        &[ordered("later", "later", &late), ordered("moved", "moved", &late), ordered("over", "over", &due)],
    );
    let moved =
        json!({"id": "moved-2", "type": "Ordered", "time": in_seconds(7200), "data": {"id": "moved", "due": due}});
    let paid = json!({"id": "over-paid", "type": "Paid", "time": due, "data": {"id": "over"}});
    feed_patiently(&server, &[moved, paid]);
    // Some pass while nothing runs.
    server.kill();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    server.start();
    let overdue = || server.entities_that("order", 500, &format!("where={}", percent("has(order.unpaid)"))).len();
    wait_for("all that are due have passed", || (overdue() == 201).then_some(()));
    assert_eq!(server.entity("order", "moved")["decisions"]["Overdue"]["data"]["since"], due);
    assert_eq!(server.entity("order", "later")["deadlines"]["unpaid"]["state"], "pending");
    assert_eq!(server.entity("order", "over")["deadlines"], json!({}), "paid in time");
    assert_eq!(server.metric("turnstile_deadlines_fired_total{deadline=\"unpaid\",entity=\"order\"}"), Some(201.0));
    // What is paid late is taken back.
    feed_patiently(&server, &[json!({"id": "p", "type": "Paid", "time": late, "data": {"id": "O7"}})]);
    assert_eq!(server.entity("order", "O7")["decisions"]["Overdue"]["state"], "withdrawn");
}

const RESTING: &str = r#"
[entity.day]
key = "event.data.id"
[entity.day.fields]
hours = { on = "Worked", take = "sum", value = "event.data.hours" }
closed = { on = "DayClosed", take = "count" }
[entity.day.decision.DayClosed]
when = "day.hours > 0"
data = { hours = "day.hours" }
settle = "400ms"
to = ["decisions", "self"]
"#;

/// If this failed, a decision that waits for quiet would be made on half the data, or never after a crash.
#[test]
fn a_rest_is_waited_for_and_survives_a_kill() {
    let mut server = Setup::new(RESTING).start();
    let worked = |n: u64| happened(&format!("w{n}"), "Worked", &json!({"id": "d", "hours": 1}));
    for n in 0..10 {
        feed_patiently(&server, &[worked(n), worked(n)]);
    }
    let day = server.entity("day", "d");
    assert!(day["decisions"]["DayClosed"]["state"] == "pending" || day["events"] == 11, "{day}");
    server.kill();
    server.start();
    let day = wait_for("the day is closed and knows of it", || {
        Some(server.entity("day", "d")).filter(|day| day["fields"]["closed"] == 1)
    });
    assert_eq!(day["decisions"]["DayClosed"]["data"]["hours"], 10, "{day}");
    assert_eq!(day["decisions"]["DayClosed"]["revision"], 1, "made once, after the rest");
}
