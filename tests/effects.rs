//! Calls that rules ask for, through the real binary: how often they are made when requests are repeated at once, when
//! answers fail, and when the process is killed in mid-call.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::hook::{Answer, Call, Gate, Hook};
use common::orders::{feed, happened};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

fn rules(hook: &Hook, guarantee: &str) -> String {
    format!(
        r#"
[entity.application]
key = "event.data.id"
[entity.application.fields]
amount = {{ on = "Requested", take = "latest", value = "event.data.amount" }}
[entity.application.effect.pull]
guarantee = "{guarantee}"
timeout = "20s"
{}
[entity.application.effect.pull.request]
url = "{}"
headers = {{ authorization = "Bearer s3cret" }}
json = {{ id = "key", amount = "application.amount" }}
[entity.application.decision.Pulled]
when = "application.pull.state != 'requested'"
data = {{ state = "application.pull.state", status = "application.pull.status" }}
"#,
        if guarantee == "at_least_once" { "retry = { attempts = 50, backoff = \"10ms..50ms\" }" } else { "" },
        hook.url()
    )
}

fn requested(id: &str) -> Value {
    happened(id, "Requested", &json!({"id": id, "amount": 7}))
}

fn pull(server: &Server, id: &str) -> Value {
    server.entity("application", id)["effects"]["pull"].clone()
}

fn key_of(call: &Call) -> String {
    call.id().to_owned()
}

/// If this failed, a caller that does not wait for the answer would have the call made again each time it asks.
#[test]
fn a_request_that_is_repeated_at_once_is_one_call() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let server = Setup::new(&rules(&hook, "at_most_once")).start();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| feed(&server, &[requested("a"), requested("b"), requested("a")]));
        }
    });
    for id in ["a", "b"] {
        let pull = wait_for("the call is over", || {
            Some(pull(&server, id)).filter(|pull| pull["state"] != "requested" && !pull.is_null())
        });
        assert_eq!((&pull["state"], &pull["status"], &pull["attempts"]), (&json!("succeeded"), &json!(200), &json!(1)));
    }
    let mut keys: Vec<String> = hook.calls().iter().map(key_of).collect();
    keys.sort();
    assert_eq!(keys, ["application/a/pull/1", "application/b/pull/1"]);
    let call = &hook.calls()[0];
    assert_eq!(call.headers["authorization"], "Bearer s3cret");
    // What is secret is put in when the call is made, and is nowhere else.
    for file in std::fs::read_dir(server.path("data").join("journal")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "a secret is in the journal");
    }
}

/// If this failed, what failed would pass for done, or be tried where it must not be.
#[test]
fn answers_are_told_apart() {
    let hook = Hook::start(|call, _| match key_of(call).split('/').nth(1) {
        Some("redirect") => Answer::Header(307, "Location", "http://127.0.0.1:1/".to_owned()),
        Some("refused") => Answer::Status(422),
        Some("broken") => Answer::Status(500),
        _ => Answer::Reset,
    });
    let server = Setup::new(&rules(&hook, "at_most_once")).start();
    for (id, state, status) in [
        ("redirect", "failed", json!(307)),
        ("refused", "failed", json!(422)),
        ("broken", "failed", json!(500)),
        ("reset", "unknown", Value::Null),
    ] {
        feed(&server, &[requested(id)]);
        let made = wait_for("the call is over", || {
            Some(server.entity("application", id)).filter(|it| it["decisions"]["Pulled"]["state"] == "made")
        });
        assert_eq!(made["effects"]["pull"]["state"], state, "{made}");
        assert_eq!(made["effects"]["pull"]["status"], status, "{made}");
        assert_eq!(made["decisions"]["Pulled"]["data"]["state"], state, "{made}");
    }
    assert_eq!(hook.calls().len(), 4, "each was called once");
}

/// If this failed, a call that must be made once would be made again after a crash, or a human would never hear of it; and
/// one that may be made again would be given up, or not be recognised by whoever is called.
#[test]
fn a_process_that_is_killed_in_mid_call_keeps_its_guarantee() {
    let kills = common::from_env("EFFECT_KILLS", 6);
    for guarantee in ["at_most_once", "at_least_once"] {
        let (gate, seen) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let (closed, count) = (gate.clone(), seen.clone());
        let hook = Hook::start(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            Answer::Behind(closed.clone())
        });
        let mut server = Setup::new(&rules(&hook, guarantee)).start();
        for n in 0..kills {
            let before = seen.load(Ordering::SeqCst);
            feed(&server, &[requested(&format!("k{n}"))]);
            wait_for("the call is under way", || (seen.load(Ordering::SeqCst) > before).then_some(()));
            server.kill();
            server.start();
        }
        gate.open();
        let expected = if guarantee == "at_most_once" { "unknown" } else { "succeeded" };
        for n in 0..kills {
            wait_for(&format!("k{n} is {expected}"), || {
                (pull(&server, &format!("k{n}"))["state"] == expected).then_some(())
            });
        }
        for n in 0..kills {
            let key = format!("application/k{n}/pull/1");
            let calls: Vec<Call> = hook.calls().into_iter().filter(|call| key_of(call) == key).collect();
            let bodies: Vec<&str> = calls.iter().map(|call| call.body.as_str()).collect();
            assert!(bodies.iter().all(|body| *body == bodies[0]), "always the same body: {bodies:?}");
            match guarantee {
                "at_most_once" => assert!(calls.len() <= 1, "{key} was called {} times", calls.len()),
                _ => assert!(!calls.is_empty(), "{key} was never called"),
            }
        }
    }
}

/// If this failed, the end of a process would make every call under way unknown, though its answer was a moment away.
#[test]
fn calls_under_way_are_waited_for_at_the_end() {
    let gate = Arc::new(Gate::default());
    let (closed, seen) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    let hook = Hook::start(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Answer::Behind(closed.clone())
    });
    let mut server = Setup::new(&rules(&hook, "at_most_once")).start();
    feed(&server, &[requested("a")]);
    wait_for("the call is under way", || (seen.load(Ordering::SeqCst) == 1).then_some(()));
    server.signal_term();
    std::thread::sleep(Duration::from_millis(200));
    gate.open();
    assert!(server.wait_for_exit().success());
    server.start();
    assert_eq!(pull(&server, "a")["state"], "succeeded");
}
