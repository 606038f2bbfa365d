//! What happened to a key, as `turnstile explain` and the history tell it: late, stale, repeated and filtered events,
//! references, crashes at any time, a trimmed journal, a key with very many events.

mod common;

use std::collections::BTreeMap;

use common::{Server, Setup, percent, wait_for};
use serde_json::{Value, json};

const NDJSON: &str = "application/x-ndjson";

const RULES: &str = r#"
[entity.shipment]
key = "event.data.id"
[entity.shipment.fields]
segment = { on = "SegmentRegistered", take = "latest", value = "event.data.segment" }
[entity.routing]
key = "event.data.id"
[entity.routing.fields]
doc = { on = "RoutingReceived", take = "latest" }
weight = { on = "Weighed", take = "max", value = "event.data.kg", if = "event.data.kg > 0" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.doc.shipmentId"
[entity.routing.deadline.overdue]
at = "routing.doc.by"
unless = "has(shipment.segment)"
[entity.routing.decision.Dispatch]
data = "{'segment': shipment.segment}"
[entity.count]
key = "event.data.key"
[entity.count.fields]
n = { on = "Counted", take = "sum", value = "event.data.n" }
last = { on = "Counted", take = "latest", value = "event.data.n" }
"#;

/// Small segments, checkpoints all the time, and actors that come and go.
const BUSY: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n\
                    [checkpoint]\njournal_bytes = \"64KiB\"\n[actors]\nshards = 2\nmax_live = 20\nidle = \"50ms\"\n";

fn event(id: &str, kind: &str, time: &str, data: &Value) -> Value {
    json!({"id": id, "source": "shop", "type": kind, "time": time, "data": data})
}

fn counted(id: &str, key: &str, n: i64) -> Value {
    event(id, "Counted", "2026-11-20T10:00:00Z", &json!({"key": key, "n": n}))
}

fn post(server: &Server, events: &[Value]) {
    let lines: String = events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
    // A small journal is full at times; whoever is told so sends again.
    let answer = wait_for("the events are admitted", || {
        Some(server.post("/v1/events", NDJSON, lines.as_str())).filter(|answer| answer.status != 429)
    });
    answer.expect(202);
}

/// One page of a history.
fn page(server: &Server, kind: &str, key: &str, query: &str) -> Value {
    server.get(&format!("/v1/entities/{kind}/{}/history?{query}", percent(key))).expect(200).json()
}

/// All records of a history, page by page; from the end with `order` `desc`.
fn all(server: &Server, kind: &str, key: &str, order: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut from) = (Vec::new(), String::new());
    loop {
        let page = page(server, kind, key, &format!("order={order}&limit={limit}{from}"));
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        from = format!("&{}={next}", if order == "asc" { "after" } else { "before" });
    }
}

fn lsns(items: &[Value]) -> Vec<u64> {
    items.iter().map(|item| item["lsn"].as_u64().unwrap()).collect()
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["input"]["id"].as_str().unwrap()).collect()
}

fn said(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = server.cli(arguments);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}\n{error}");
    out + &error
}

/// If this failed, one person at night could not tell what happened to a key, why an event did nothing, or what it waits for.
#[test]
fn a_person_reads_what_happened_and_why() {
    let mut server = Setup::new(RULES).start();
    let routing = |shipment: &str| json!({"id": "R 1", "shipmentId": shipment, "by": null});
    post(&server, &[event("r-2", "RoutingReceived", "2026-01-02T00:00:00Z", &routing("S1"))]);
    post(&server, &[event("r-1", "RoutingReceived", "2026-01-01T00:00:00Z", &routing("S0"))]);
    post(&server, &[event("w-1", "Weighed", "2026-01-02T00:00:00Z", &json!({"id": "R 1", "kg": -1}))]);
    for _ in 0..3 {
        post(&server, &[event("r-2", "RoutingReceived", "2026-01-02T00:00:00Z", &routing("S1"))]);
    }
    post(&server, &[event("r-3", "RoutingReceived", "2026-01-03T00:00:00Z", &routing("S2"))]);
    let mut shipped = event("s-1", "SegmentRegistered", "2026-01-03T00:00:00Z", &json!({"id": "S2", "segment": "x9"}));
    shipped["correlationid"] = json!("trip-7");
    post(&server, &[shipped]);
    wait_for("the routing is dispatched", || {
        let routing = server.get("/v1/entities/routing/R%201").expect(200).json();
        (routing["decisions"]["Dispatch"]["state"] == "made").then_some(())
    });
    // What was told before is told after a restart, too, from what recovery read.
    for round in 0..2 {
        let told = said(&server, &["explain", "routing", "R 1"], 0);
        let lines = [
            "routing R 1\n",
            "RoutingReceived r-2 from shop\n",
            " late\n",
            "doc           nothing → {",
            "waits for     shipment S1 since ",
            "undecided     Dispatch needs shipment.segment\n",
            "doc           left as it is: what is there is newer, or the same\n",
            "weight        left as it is: its `if` keeps this event out\n",
            "doc           shipmentId: S1 → S2\n",
            "reference     shipment points to shipment S2\n",
            "shipment S2 tells what it shows (reference shipment)\n",
            "decided       Dispatch revision 1, made {\"segment\":\"x9\"}\n",
        ];
        let mut rest = &told[..];
        for line in lines {
            let at = rest.find(line).unwrap_or_else(|| panic!("{line:?} is missing, or in another order, in\n{told}"));
            rest = &rest[at..];
        }
        let duplicates = if round == 0 { "3 duplicates came" } else { "" };
        assert!(told.contains(duplicates), "{told}");

        let two = said(&server, &["explain", "routing", "R 1", "--limit", "1", "--json"], 0);
        let item: Value = serde_json::from_str(&two).expect("one document");
        assert_eq!(item["decisions"][0]["id"], "routing/R%201/Dispatch/1", "{item}");
        assert_eq!(item["cause"], "s-1", "what made another entity tell is the cause");

        let told = said(&server, &["explain", "--correlation", "trip-7"], 0);
        for line in ["shipment S2  SegmentRegistered s-1 from shop", "routing R 1  shipment S2 tells what it shows"] {
            assert!(told.contains(line), "{line} is missing in\n{told}");
        }
        server.kill();
        server.start();
    }
    said(&server, &["explain", "routing", "none"], 1);
    said(&server, &["explain", "--correlation", "none"], 1);
}

/// If this failed, a history would lack records, or show some twice, depending on when the process died.
#[test]
fn no_record_is_missing_or_twice_whatever_crashed() {
    let mut server = Setup::new(RULES).tables(BUSY).start();
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..6 {
        for batch in 0..8 {
            let mut events = Vec::new();
            for n in 0..200 {
                // One key in five events is the same one, so that it has chunks.
                let key = if n % 5 == 0 { "hot".to_owned() } else { format!("k{}", n % 37) };
                let id = format!("{round}.{batch}.{n}");
                events.push(counted(&id, &key, n));
                sent.entry(key).or_default().push(id);
            }
            post(&server, &events);
        }
        server.kill();
        server.start();
        for (key, expected) in &sent {
            let items = all(&server, "count", key, "asc", 170);
            let (mut told, mut sent) = (ids(&items), expected.iter().map(String::as_str).collect::<Vec<_>>());
            told.sort_unstable();
            sent.sort_unstable();
            assert_eq!(told, sent, "{key} after round {round}");
            assert!(lsns(&items).is_sorted_by(|a, b| a < b), "{key}");
            let versions: Vec<_> = items.iter().map(|item| item["version"].as_u64().unwrap()).collect();
            assert!(versions.iter().copied().eq(1..=expected.len() as u64), "{key}: {versions:?}");
        }
    }
}

/// If this failed, an operator would be told of a beginning that was none, or could read nothing of a key that lost some.
#[test]
fn what_is_gone_is_said_to_be_gone() {
    let tables = BUSY.replace("[checkpoint]", "retention = \"0s\"\n[checkpoint]");
    let server = Setup::new(RULES).tables(&tables).start();
    let filler = "x".repeat(400);
    let mut sent = 0;
    let trimmed = wait_for("the journal is trimmed", || {
        let events: Vec<Value> = (sent..sent + 300)
            .map(|n| {
                let mut event = counted(&format!("{n:06}"), "k", n);
                event["data"]["filler"] = json!(filler);
                event
            })
            .collect();
        post(&server, &events);
        sent += 300;
        page(&server, "count", "k", "limit=1")["trimmed_before"].as_u64()
    });
    let items = all(&server, "count", "k", "desc", 500);
    assert!(lsns(&items).iter().all(|lsn| *lsn >= trimmed) && items.len() < sent as usize);
    // Each event is a version; what was refused as one too many was sent again, after others.
    let versions = items.iter().map(|item| item["version"].as_i64().expect("a version"));
    assert!(versions.eq((1..=sent).rev().take(items.len())), "all that is kept is told");
    let told = said(&server, &["explain", "count", "k", "--limit", "3"], 0);
    assert!(told.contains("are no longer in the journal"), "{told}");
}

/// If this failed, the busiest keys, which are asked about most, could not be looked at, or their last pages would be others.
#[test]
fn a_hot_key_is_paged_from_the_back_to_the_front() {
    let mut server = Setup::new(RULES).tables(BUSY).start();
    let events: Vec<Value> = (0..20_000).map(|n| counted(&format!("{n}"), "hot", n)).collect();
    for batch in events.chunks(1000) {
        post(&server, batch);
    }
    let newest = page(&server, "count", "hot", "order=desc&limit=2")["items"].clone();
    let number: i64 = ids(newest.as_array().unwrap())[0].parse().unwrap();
    let changes = newest[0]["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["field"] == "n" && change["added"] == number), "{newest}");
    let before: Vec<u64> = lsns(&all(&server, "count", "hot", "desc", 777));
    server.kill();
    server.start();
    let items = all(&server, "count", "hot", "desc", 1000);
    assert_eq!(lsns(&items), before, "the same after a crash");
    // What was refused as one too many was sent again, after others.
    let mut known: Vec<i64> = ids(&items).into_iter().map(|id| id.parse().unwrap()).collect();
    known.sort_unstable();
    assert!(known.into_iter().eq(0..20_000), "every event is told of once");
    let told = said(&server, &["explain", "count", "hot", "--limit", "2"], 0);
    assert!(told.contains("version 20,000, ") && told.contains(&format!("Counted {number} from")), "{told}");
}

/// If this failed, nobody would find out from a key who had kept its events back, once its type is resumed.
#[test]
fn who_paused_a_type_is_told_by_its_keys() {
    let mut server = Setup::new(RULES).start();
    let change = |server: &Server, what: &str, by: &str| {
        let body = json!({"by": by, "why": format!("{what} for a look")}).to_string();
        server.request("POST", &format!("/v1/entities/count/{what}"), &[], body.as_bytes()).expect(200);
    };
    for (round, [pauses, resumes]) in [["ann", "bob"], ["cyd", "dan"]].into_iter().enumerate() {
        change(&server, "pause", pauses);
        post(&server, &[counted(&format!("e{round}"), "k", 1)]);
        server.restart();
        change(&server, "resume", resumes);
        wait_for("it is released", || (server.entity("count", "k")["paused"].is_null()).then_some(()));
    }
    let items = all(&server, "count", "k", "asc", 100);
    let who = |item: &Value| [&item["type_paused"]["by"], &item["type_resumed"]["by"]].map(Value::clone);
    let told: Vec<_> =
        items.iter().map(|item| (item["input"]["kind"].as_str().unwrap().to_owned(), who(item))).collect();
    let told: Vec<_> = told.iter().map(|(kind, who)| (kind.as_str(), who[0].as_str(), who[1].as_str())).collect();
    assert_eq!(
        told,
        [
            ("held", Some("ann"), None),
            ("released", None, Some("bob")),
            ("held", Some("cyd"), None),
            ("released", None, Some("dan")),
        ]
    );
    let read = said(&server, &["explain", "count", "k"], 0);
    assert!(
        read.contains("because       the type was paused ") && read.contains("(by cyd: pause for a look)"),
        "{read}"
    );
}
