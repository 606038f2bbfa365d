//! Rules that change between a stop, or a kill, and the next start, through the real binary: what entities are afterwards,
//! what is published, what is called, and what is said of it beforehand.

mod common;

use std::collections::BTreeMap;

use common::hook::{Answer, Hook};
use common::{Server, Setup, from_env, percent, wait_for};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const NDJSON: &str = "application/x-ndjson";

/// Orders of customers: paid and shipped in any order, corrected now and then.
const BEFORE: &str = r#"
[entity.order]
key = "event.data.order"
[entity.order.fields]
paid = { on = "Paid", take = "latest", value = "event.data.amount" }
sent = { on = "Sent", take = "count" }
[entity.order.complete]
fields = ["paid"]
[entity.order.decision.Price]
data = { amount = "order.paid" }
[entity.order.decision.Welcome]
policy = "once"
data = { amount = "order.paid" }
[entity.order.effect.announce]
when = "order.paid > 0"
request = { url = "HOOK", json = { order = "key", amount = "order.paid" } }
[entity.customer]
key = "event.data.customer"
fields = { orders = { on = "Paid", take = "set", value = "event.data.order" } }
decision.Known = { data = { orders = "size(customer.orders)" } }
[entity.gone]
key = "event.data.order"
fields = { n = { on = "*", take = "count" } }
"#;

/// Another operator, more fields, another text of a decision and of a call, another key, a type more and one less.
const AFTER: &str = r#"
[entity.order]
key = "event.data.order"
[entity.order.fields]
also = { on = "*", take = "set", value = "event.type" }
paid = { on = "Paid", take = "sum", value = "event.data.amount" }
sent = { on = "Sent", take = "count" }
[entity.order.complete]
fields = ["sent"]
[entity.order.ref.who]
entity = "customer"
key = "'2'"
[entity.order.decision.Price]
when = "order.sent > 0"
data = { amount = "order.paid" }
[entity.order.decision.Welcome]
policy = "once"
data = { amount = "order.paid + 1" }
[entity.order.effect.announce]
when = "order.paid > 0"
request = { url = "HOOK", json = { amount = "order.paid" } }
[entity.customer]
key = "event.data.amount"
fields = { orders = { on = "Paid", take = "set", value = "event.data.order" } }
decision.Known = { data = { orders = "size(customer.orders)" } }
[entity.day]
key = "date(event.time)"
fields = { n = { on = "Paid", take = "count" } }
"#;

fn setup(rules: &str, hook: &Hook) -> Setup {
    Setup::new(&rules.replace("HOOK", &hook.url()))
}

/// Events of so many orders, mixed.
fn events(orders: usize, seed: u64) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(from_env("REBUILD_SEED", seed));
    let mut events = Vec::new();
    for order in 0..orders {
        for n in 0..random.random_range(1..5) {
            let data = json!({
                "order": format!("o{order}"),
                "customer": format!("c{}", order % 7),
                "amount": random.random_range(1..5),
            });
            let kind = if random.random_bool(0.6) { "Paid" } else { "Sent" };
            let time = format!("2026-11-{:02}T10:00:{:02}Z", random.random_range(10..20), random.random_range(0..60));
            events.push(json!({"id": format!("{order}-{n}"), "type": kind, "time": time, "data": data}));
        }
    }
    events.shuffle(&mut random);
    events
}

fn post(server: &Server, events: &[Value]) {
    for events in events.chunks(500) {
        let lines: String = events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
        // What is refused because too much waits for the disk is sent again, with all others.
        wait_for("the events are taken", || (server.post("/v1/events", NDJSON, &lines).status == 202).then_some(()));
    }
}

/// What events alone make of the entities of these types.
fn made(server: &Server, kinds: &[&str]) -> BTreeMap<String, Value> {
    let mut made = BTreeMap::new();
    for kind in kinds {
        for listed in server.entities(kind, 500) {
            let key = listed["key"].as_str().expect("a key");
            let document = server.entity(kind, key);
            let members = ["events", "fields", "derived", "completeness", "missing"];
            let mut shown: serde_json::Map<String, Value> =
                members.iter().map(|name| ((*name).to_owned(), document[*name].clone())).collect();
            for name in ["Price", "Known"] {
                let decision = &document["decisions"][name];
                let stands = ["made", "revised"].contains(&decision["state"].as_str().unwrap_or_default());
                shown.insert(name.to_owned(), if stands { decision["data"].clone() } else { Value::Null });
            }
            made.insert(format!("{kind}/{key}"), shown.into());
        }
    }
    made
}

/// What a node that has had these rules from the start makes of the events.
fn fresh(rules: &str, hook: &Hook, events: &[Value], kinds: &[&str]) -> BTreeMap<String, Value> {
    let server = setup(rules, hook).start();
    post(&server, events);
    made(&server, kinds)
}

/// All decisions that were published, by id; none of them twice.
fn published(server: &Server) -> BTreeMap<String, Value> {
    let mut by_id = BTreeMap::new();
    for decision in server.decisions_file() {
        let id = decision["id"].as_str().expect("an id").to_owned();
        assert!(by_id.insert(id, decision.clone()).is_none(), "published twice: {decision}");
    }
    by_id
}

/// Waits until the sink has every revision that entities show.
fn settled(server: &Server, kinds: &[&str]) -> BTreeMap<String, Value> {
    let mut shown = Vec::new();
    for kind in kinds {
        for listed in server.entities(kind, 500) {
            let key = listed["key"].as_str().expect("a key").to_owned();
            let decisions = server.entity(kind, &key)["decisions"].as_object().cloned().unwrap_or_default();
            let revisions = decisions.into_iter().filter_map(|(name, it)| Some((name, it["revision"].as_u64()?)));
            shown.extend(revisions.map(|(name, revision)| format!("{kind}/{}/{name}/{revision}", percent(&key))));
        }
    }
    wait_for("the sink has what is shown", || {
        let published = published(server);
        shown.iter().all(|id| published.contains_key(id)).then_some(published)
    })
}

/// If this failed, an entity would be what neither the old rules nor the new ones make of its events, a decision would not
/// be corrected, or a call be made twice.
#[test]
fn states_are_what_the_new_rules_make_of_the_events() {
    for end in ["stop", "kill"] {
        let hook = Hook::start(|_, _| Answer::Status(200));
        let events = events(300, 1);
        let mut server = setup(BEFORE, &hook).start();
        post(&server, &events);
        let before = settled(&server, &["order", "customer"]);
        let first = made(&server, &["order", "customer", "gone"]);
        let paid =
            events.iter().filter(|event| event["type"] == "Paid").map(|event| event["data"]["order"].to_string());
        let announced = paid.collect::<std::collections::BTreeSet<_>>().len();
        wait_for("all calls are made", || (hook.taken().len() == announced).then_some(()));
        if end == "stop" {
            assert_eq!(server.terminate().code(), Some(0));
        } else {
            server.kill();
        }

        server.rewrite(&setup(AFTER, &hook).text());
        server.start();
        let kinds = ["order", "customer", "day"];
        let expected = fresh(AFTER, &Hook::start(|_, _| Answer::Status(200)), &events, &kinds);
        assert_eq!(made(&server, &kinds), expected, "after a {end}");
        let after = settled(&server, &["order", "customer", "day"]);
        for (id, decision) in &before {
            assert_eq!(after.get(id), Some(decision), "what was said stays said");
        }
        let new: Vec<_> = after.iter().filter(|(id, _)| !before.contains_key(*id)).collect();
        assert!(new.iter().all(|(_, it)| it["causationid"].as_str().is_some_and(|id| id.starts_with("rules:"))));
        assert!(new.iter().any(|(id, it)| id.ends_with("Price/2") && it["decisionstate"] != "made"));
        assert!(new.iter().any(|(id, it)| id.starts_with("customer/c1/Known") && it["decisionstate"] == "withdrawn"));
        for (id, decision) in before.iter().filter(|(id, _)| id.contains("/Welcome/")) {
            assert_eq!(after[id]["data"], decision["data"], "{id}");
            assert!(!after.contains_key(&id.replace("/Welcome/1", "/Welcome/2")), "what is said once stays");
        }

        assert_eq!(server.verify_clean()["not_comparable"], 0);

        // An event that is new counts under the new rules, one that is known does not.
        post(&server, &events[..20]);
        let more = json!({"id": "more", "type": "Sent", "time": "2026-11-21T10:00:00Z", "data": {"order": "o1"}});
        post(&server, std::slice::from_ref(&more));
        assert_eq!(
            server.entity("order", "o1")["fields"]["sent"],
            json!(expected["order/o1"]["fields"]["sent"].as_u64().unwrap_or(0) + 1)
        );
        server.kill();

        // Back again: the type that was away has missed nothing.
        server.rewrite(&setup(BEFORE, &hook).text());
        server.start();
        let all = [&events[..], std::slice::from_ref(&more)].concat();
        let kinds = ["order", "customer", "gone"];
        let back = made(&server, &kinds);
        assert_eq!(back, fresh(BEFORE, &Hook::start(|_, _| Answer::Status(200)), &all, &kinds), "after a {end}");
        assert_eq!(back["customer/c1"], first["customer/c1"]);
        settled(&server, &["order", "customer"]);
        assert_eq!(hook.taken().len(), announced, "no call is made again");
        assert_eq!(server.verify_clean()["not_comparable"], 0);
    }
}

/// If this failed, a crash while states are made anew would leave some of them as they were, or say things twice.
#[test]
fn kills_while_states_are_made_anew_change_nothing() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let events = events(from_env("REBUILD_ORDERS", 3000), 2);
    let mut random = StdRng::seed_from_u64(from_env("REBUILD_SEED", 3));
    let mut server = setup(BEFORE, &hook).start();
    post(&server, &events);
    settled(&server, &["customer"]);
    server.kill();
    let mut cut_short = 0;
    for n in 0..from_env("REBUILD_KILLS", 12) {
        // Now and then with the old rules again.
        server.rewrite(&setup(if n % 4 == 3 { BEFORE } else { AFTER }, &hook).text());
        cut_short += usize::from(server.start_and_kill_recovering(random.random_range(0..20_000)));
    }
    assert!(cut_short > 0, "no kill came early enough");
    for (rules, kinds) in [(AFTER, ["order", "customer", "day"]), (BEFORE, ["order", "customer", "gone"])] {
        server.rewrite(&setup(rules, &hook).text());
        server.start();
        let expected = fresh(rules, &Hook::start(|_, _| Answer::Status(200)), &events, &kinds);
        assert_eq!(made(&server, &kinds), expected);
        settled(&server, &kinds[..2]);
        server.kill();
    }
}

/// Small segments that go as soon as they are not needed.
const TRIMMED: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
                       [checkpoint]\njournal_bytes = \"64KiB\"\ndirty_bytes_max = \"1MiB\"\n";

/// If this failed, states would be made of half their events without a word; or nobody could go on at all.
#[test]
fn where_events_are_gone_values_stay_if_that_is_asked_for() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let mut server = setup(BEFORE, &hook).tables(TRIMMED).start();
    let mut n = 0;
    wait_for("the journal's beginning is gone", || {
        n += 1;
        let filler = |at: usize| {
            json!({"id": format!("f{n}-{at}"), "type": "Sent", "time": "2026-11-20T10:00:00Z",
                   "data": {"order": "filler", "text": "x".repeat(2000)}})
        };
        let paid = json!({"id": format!("p{n}"), "type": "Paid", "time": "2026-11-20T10:00:00Z",
                          "data": {"order": format!("o{}", n % 9), "customer": "c", "amount": n}});
        post(&server, &(0..50).map(filler).chain([paid]).collect::<Vec<_>>());
        (server.get("/v1/status").expect(200).json()["journal"]["first_lsn"].as_u64() > Some(1)).then_some(())
    });
    let before = server.entity("order", "o1");
    assert_eq!(server.terminate().code(), Some(0));

    // `sent` moves to another slot; `paid` becomes a sum, which a last value is not.
    server.rewrite(&setup(AFTER, &hook).tables(TRIMMED).text());
    let refused = server.run_to_end();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    for part in ["order", "customer", "trimmed", "--rules-forward-only"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    server.set_options(&["--rules-forward-only"]);
    server.start();
    let after = server.entity("order", "o1");
    assert_eq!(after["events"], before["events"]);
    assert_eq!(server.entity("order", "filler")["fields"]["sent"], json!(50 * n), "in another slot, the same value");
    assert_eq!(after["fields"].get("paid").cloned().unwrap_or_default(), Value::Null);
    let event = json!({"id": "new", "type": "Paid", "time": "2026-11-20T10:00:00Z",
                       "data": {"order": "o1", "customer": "c", "amount": 5}});
    post(&server, &[event]);
    assert_eq!(server.entity("order", "o1")["fields"]["paid"], 5);
    settled(&server, &["order"]);
    assert!(server.verify_clean()["not_comparable"].as_u64() > Some(0), "nobody knows what their events were");
    server.set_options(&[]);
    server.restart();
    assert_eq!(server.entity("order", "o1")["fields"]["paid"], 5, "the rules are known now");
}

/// How often each decision is made, revised or withdrawn because of the rules.
fn corrected(published: &BTreeMap<String, Value>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let by_rules = |it: &&Value| it["causationid"].as_str().is_some_and(|cause| cause.starts_with("rules:"));
    for decision in published.values().filter(by_rules) {
        let kind = decision["source"].as_str().and_then(|source| source.rsplit('/').next()).expect("a source");
        let text = |member: &str| decision[member].as_str().expect("text").to_owned();
        *counts.entry(format!("{kind} {} {}", text("type"), text("decisionstate"))).or_insert(0) += 1;
    }
    counts
}

/// If this failed, whoever looks before changing rules would be told something else than what then happens.
#[test]
fn what_is_told_beforehand_is_what_happens() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let events = events(200, 4);
    let mut server = setup(BEFORE, &hook).start();
    post(&server, &events);
    settled(&server, &["order", "customer"]);
    let before = made(&server, &["order", "customer", "gone"]);
    wait_for("all calls are made", || {
        let open = server.entities("order", 500).iter().any(|listed| {
            let order = server.entity("order", listed["key"].as_str().expect("a key"));
            order["effects"]["announce"]["state"] == "requested"
        });
        (!open).then_some(())
    });
    std::fs::write(server.path("new.toml"), setup(AFTER, &hook).text()).expect("a file");
    let ask = |server: &Server, options: &[&str]| {
        let arguments = [&["replay", "--rules", "new.toml", "--json"], options].concat();
        let output = server.cli(&arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let report: Value = serde_json::from_str(&told)
            .unwrap_or_else(|error| panic!("{error}: {told}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), report)
    };
    let untouched = server.entity("order", "o1");
    let (code, report) = ask(&server, &["--diff"]);
    assert_eq!((code, &report["changes"]), (Some(1), &json!(true)));
    assert_eq!(ask(&server, &[]).0, Some(0), "it was only looked");
    assert_eq!(made(&server, &["order", "customer", "gone"]), before, "nothing is touched");
    let (_, one) = ask(&server, &["--entity", "order/o1"]);
    assert_eq!(one["types"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(
        (&one["types"]["order"]["entities"], &one["types"]["order"]["examples"][0]["key"]),
        (&json!(1), &json!("o1"))
    );
    let shown = server.cli(&["replay", "--rules", "new.toml", "--diff"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in ["order: ", "entities change", "Price revised", "→", "gone has no rules any more"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let same = server.cli(&["replay", "--rules", "config.toml", "--diff"]);
    assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stdout));
    let wrong = server.post("/v1/replay", "application/toml", "[entity.order]\nkey = \"nonsense\"\n");
    assert_eq!(wrong.problem(400), "invalid_value");
    assert_eq!(server.entity("order", "o1"), untouched, "its version too");

    assert_eq!(server.terminate().code(), Some(0));
    let (code, stopped) = ask(&server, &["--diff", "--data-dir", "data"]);
    assert_eq!(code, Some(1));
    assert_eq!(stopped["types"], report["types"], "of a folder it is the same");

    server.rewrite(&setup(AFTER, &hook).text());
    server.start();
    let after = made(&server, &["order", "customer", "day"]);
    let happened = corrected(&settled(&server, &["order", "customer", "day"]));
    let mut predicted = BTreeMap::new();
    for (kind, tally) in report["types"].as_object().expect("types") {
        for (name, count) in tally["decisions"].as_object().into_iter().flatten() {
            predicted.insert(format!("{kind} {name}"), count.as_u64().expect("a count"));
        }
        let of_kind = |entities: &BTreeMap<String, Value>| {
            entities
                .keys()
                .filter(|key| key.starts_with(&format!("{kind}/")))
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (were, are) = (of_kind(&before), of_kind(&after));
        assert_eq!(tally["new"], json!(are.difference(&were).count()), "{kind}");
        assert_eq!(tally["gone"], json!(were.difference(&are).count()), "{kind}");
        for field in ["paid", "also", "orders"] {
            let value = |entities: &BTreeMap<String, Value>, key: &str| {
                entities.get(key).map_or(Value::Null, |it| it["fields"].get(field).cloned().unwrap_or_default())
            };
            let differ = were.union(&are).filter(|key| value(&before, key) != value(&after, key)).count();
            assert_eq!(
                tally["fields"].get(field).and_then(Value::as_u64).unwrap_or(0),
                differ as u64,
                "{kind}.{field}"
            );
        }
    }
    assert_eq!(predicted, happened);
}

/// If this failed, a trial of rules on real input would call the outside, or touch what production has.
#[test]
fn a_shadow_does_nothing_that_anybody_outside_notices() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let events = events(20, 5);
    let webhook = format!(
        "[sink.hook]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"\n",
        hook.url()
    );
    let mut server = setup(BEFORE, &hook).tables(&webhook).write();
    server.set_options(&["--shadow"]);
    server.start();
    post(&server, &events);
    let status = server.get("/v1/status").expect(200).json();
    assert_eq!(status["shadow"], json!(true));
    let shown = server.entity("order", "o1")["decisions"]["Price"]["revision"].as_u64();
    wait_for("its file has the decision", || {
        let text = std::fs::read_to_string(server.path("out/decisions.ndjson.shadow")).unwrap_or_default();
        text.contains(&format!("order/o1/Price/{}", shown.expect("a revision"))).then_some(())
    });
    let asked = |server: &Server| {
        server
            .entities("order", 500)
            .iter()
            .filter(|listed| {
                let order = server.entity("order", listed["key"].as_str().expect("a key"));
                order["effects"]["announce"]["state"] == "requested"
            })
            .count()
    };
    let open = asked(&server);
    assert!(open > 0, "what would be called is seen");
    // Not after a restart either.
    server.restart();
    assert_eq!(asked(&server), open);
    assert!(server.stderr().contains("this is a shadow") && server.stderr().contains("hook"), "{}", server.stderr());
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(hook.calls().len(), 0, "nobody was called");

    server.set_options(&[]);
    server.start();
    assert_eq!(server.entities("order", 500).len(), 0, "production has nothing of it");
    post(&server, &events);
    wait_for("production calls", || (hook.taken().len() >= open).then_some(()));
}
