//! What the systems did that Turnstile is for, beside what it does: lost updates of concurrent writers, a delay queue in
//! front of documents that come late, a flag that is checked before a call is made. Each of the old ways is a few lines here,
//! and goes wrong.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Barrier, Mutex};

use common::hook::{Answer, Hook};
use common::orders::{feed, happened};
use common::{Setup, wait_for};
use serde_json::{Value, json};

const WRITERS: usize = 8;

/// Two services that report on one order load its aggregate, add what they know and store it: the later store wins whole.
#[test]
fn concurrent_writers_of_one_aggregate() {
    let stored: Mutex<BTreeMap<String, Value>> = Mutex::default();
    let all_have_read = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stored, all_have_read) = (&stored, &all_have_read);
            scope.spawn(move || {
                let mut aggregate = stored.lock().unwrap().clone();
                all_have_read.wait();
                aggregate.insert(format!("part{writer}"), json!(writer));
                *stored.lock().unwrap() = aggregate;
            });
        }
    });
    assert_eq!(stored.lock().unwrap().len(), 1, "of all that was written, what was written last is left");

    let mut fields = String::new();
    for n in 0..WRITERS {
        let _ = writeln!(fields, "part{n} = {{ on = \"Part{n}\", take = \"latest\" }}");
    }
    let rules = format!("[entity.order]\nkey = \"event.data.order\"\n[entity.order.fields]\n{fields}");
    let server = Setup::new(&rules).start();
    let all_are_ready = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for n in 0..WRITERS {
            let (server, all_are_ready) = (&server, &all_are_ready);
            scope.spawn(move || {
                all_are_ready.wait();
                let data = json!({"order": "o", "n": n});
                feed(server, &[happened(&format!("e{n}"), &format!("Part{n}"), &data)]);
            });
        }
    });
    assert_eq!(
        server.entity("order", "o")["fields"].as_object().unwrap().len(),
        WRITERS,
        "each writer's part is there"
    );
}

/// A routing needs its shipment's segment. It was put off by five seconds, which is enough until a shipment takes six.
#[test]
fn a_delay_queue_and_a_reference() {
    const ROUTINGS: usize = 50;
    const DELAY: u64 = 5;
    let registered_at = |n: usize| if n.is_multiple_of(2) { 6 } else { 1 };
    let dispatched_wrong = (0..ROUTINGS).filter(|n| registered_at(*n) > DELAY).count();
    assert_eq!(dispatched_wrong, ROUTINGS / 2, "each one whose shipment takes longer than the delay");

    let server = Setup::new(
        r#"
[entity.shipment]
key = "event.data.id"
[entity.shipment.fields]
segment = { on = "SegmentRegistered", take = "latest", value = "event.data.segment" }
[entity.routing]
key = "event.data.id"
[entity.routing.fields]
doc = { on = "RoutingReceived", take = "latest" }
[entity.routing.ref.shipment]
entity = "shipment"
key = "routing.doc.shipment"
[entity.routing.decision.Dispatch]
data = "{'segment': shipment.segment}"
"#,
    )
    .start();
    let shipment =
        |n: usize| happened(&format!("s{n}"), "SegmentRegistered", &json!({"id": n, "segment": format!("seg{n}")}));
    let routing = |n: usize| happened(&format!("r{n}"), "RoutingReceived", &json!({"id": n, "shipment": n}));
    let early: Vec<Value> = (0..ROUTINGS).filter(|n| registered_at(*n) <= DELAY).map(shipment).collect();
    let late: Vec<Value> = (0..ROUTINGS).filter(|n| registered_at(*n) > DELAY).map(shipment).collect();
    for events in [early, (0..ROUTINGS).map(routing).collect(), late] {
        feed(&server, &events);
    }
    let dispatched = wait_for("all are dispatched", || {
        Some(server.decisions_file()).filter(|decisions| decisions.len() >= ROUTINGS)
    });
    assert_eq!(dispatched.len(), ROUTINGS, "each once");
    for decision in dispatched {
        let key = decision["subject"].as_str().unwrap();
        assert_eq!(decision["data"]["segment"], format!("seg{key}"), "{decision}");
    }
}

/// A credit application is sent again while its pull takes its time. A flag is looked at before the call and set after it.
#[test]
fn a_flag_and_an_effect() {
    let (is_pulled, pulls) = (Mutex::new(false), Mutex::new(0));
    let all_have_looked = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let was_pulled = *is_pulled.lock().unwrap();
                all_have_looked.wait();
                if !was_pulled {
                    *pulls.lock().unwrap() += 1;
                    *is_pulled.lock().unwrap() = true;
                }
            });
        }
    });
    assert_eq!(*pulls.lock().unwrap(), WRITERS, "whoever looked before the first call was over made one of its own");

    let bureau = Hook::start(|_, _| Answer::Status(200));
    let server = Setup::new(&format!(
        r#"
[entity.application]
key = "event.data.id"
[entity.application.fields]
request = {{ on = "CreditRequested", take = "latest" }}
[entity.application.effect.pull]
guarantee = "at_most_once"
request = {{ url = "{}", json = {{ id = "key" }} }}
"#,
        bureau.url()
    ))
    .start();
    let all_are_ready = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                all_are_ready.wait();
                feed(&server, &[happened("c1", "CreditRequested", &json!({"id": "A-1"}))]);
            });
        }
    });
    wait_for("the pull is over", || {
        (server.entity("application", "A-1")["effects"]["pull"]["state"] == "succeeded").then_some(())
    });
    assert_eq!(bureau.calls().len(), 1);
}
