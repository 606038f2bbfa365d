//! The log as JSON, through the real binary: a line about an entity names it by the same members wherever it comes from.

mod common;

use common::hook::{Answer, Hook};
use common::orders::{NDJSON, lines};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.account]
key = "event.data.id"
[entity.account.fields]
amount = { on = "Booked", take = "latest", value = "event.data.amount" }
own = { on = "Fed", take = "latest", value = "event.data.share" }
parent = { on = "Booked", take = "latest", value = "event.data.?parent.orValue('none')" }
[entity.account.ref.above]
entity = "account"
key = "account.parent"
[entity.account.deadline.late]
at = "timestamp('2026-11-20T10:00:00Z')"
grace = "10ms"
[entity.account.decision.Share]
data = { share = "100 / account.amount" }
[entity.account.decision.Fed]
data = { share = "account.amount" }
to = ["self", "decisions"]
[entity.account.decision.Late]
when = "has(account.late)"
[entity.account.decision.Above]
data = { amount = "above.amount" }
[entity.account.decision.Called]
when = "account.tell.state != 'requested'"
[entity.account.decision.Rested]
settle = "10ms"
data = { amount = "account.amount" }
[entity.account.effect.tell]
[entity.account.effect.tell.request]
url = "URL"
json = { key = "key" }
"#;

fn start(hook: &Hook) -> Server {
    Setup::new(&RULES.replace("URL", &hook.url()))
        .tables(&format!(
            "[log]\nformat = \"json\"\n[sink.hook]\nkind = \"webhook\"\nurl = {:?}\nallow_private = true\n\
             secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\nretry = {{ attempts = 2, backoff = \"10ms..10ms\" }}\n\
             types = [\"Late\"]",
            hook.url()
        ))
        .start()
}

fn booked(id: &str, account: &str, amount: i64, more: &Value) -> Value {
    let mut event = json!({"id": id, "type": "Booked", "source": "/bank", "data": {"id": account, "amount": amount}});
    for (name, value) in more.as_object().expect("members") {
        event[name] = value.clone();
    }
    event
}

/// The first line that says this.
fn logged(server: &Server, what: &str) -> Value {
    wait_for(what, || {
        let log = server.stderr();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        let mut about = lines.filter(|line| line["message"].as_str().is_some_and(|message| message.contains(what)));
        about.next()
    })
}

/// If this failed, whoever looks for all lines about one order, or about all that one request led to, would miss some.
#[test]
fn every_line_about_an_entity_names_it_alike() {
    let hook = Hook::start(|_, _| Answer::Status(400));
    let server = start(&hook);
    let events = [booked("b-1", "a", 0, &json!({"correlationid": "request-7"}))];
    server.post("/v1/events", NDJSON, lines(&events)).expect(202);
    let with_event = [
        ("a rule cannot be computed", Some("b-1")),
        ("an effect has not succeeded", None),
        // The deadline made this decision, and no event.
        ("could not be delivered and is tried again", None),
        ("given up, now a dead letter", None),
    ];
    for (what, event_id) in with_event {
        let line = logged(&server, what);
        let member = |name: &str| line[name].as_str();
        assert_eq!((member("type"), member("key")), (Some("account"), Some("a")), "{line}");
        assert_eq!(member("correlationid"), Some("request-7"), "{line}");
        assert_eq!(member("event_id"), event_id, "{line}");
        assert_eq!(line["lsn"].is_u64(), what != "a rule cannot be computed", "known where it is committed: {line}");
    }
    let buried = logged(&server, "given up, now a dead letter");
    assert_eq!(buried["id"], "account/a/Late/1");
    wait_for("the letter is there", || {
        let letters = server.get("/v1/dead-letters").expect(200).json();
        (letters["items"][0]["decision"] == buried["id"]).then_some(())
    });
}

/// If this failed, what one request led to could not be put together again from what was decided.
#[test]
fn whatever_its_cause_a_decision_says_what_it_correlates_with() {
    let hook = Hook::start(|_, _| Answer::Status(200));
    let server = start(&hook);
    server
        .post(
            "/v1/events",
            NDJSON,
            lines(&[booked("b-1", "a", 5, &json!({"data": {"id": "a", "amount": 5, "parent": "p"}}))]),
        )
        .expect(202);
    server.post("/v1/events", NDJSON, lines(&[booked("b-2", "p", 7, &json!({}))])).expect(202);
    let of = |name: &str| {
        let decisions = server.decisions_file();
        let mut found = decisions.into_iter().filter(|it| it["type"] == name && it["subject"] == "a");
        found.next_back().map(|it| it["correlationid"].as_str().unwrap_or_default().to_owned())
    };
    wait_for("it sees the other one", || of("Above"));
    let changed = booked("b-3", "p", 8, &json!({"correlationid": "request-8"}));
    server.post("/v1/events", NDJSON, lines(&[changed])).expect(202);
    wait_for("the other's cause is told", || (of("Above")? == "request-8").then_some(()));
    for (name, correlated) in [
        ("Share", "b-1"),  // of an event: the entity's first
        ("Fed", "b-1"),    // and back to it
        ("Late", "b-1"),   // of a deadline
        ("Called", "b-1"), // of an effect
        ("Rested", "b-1"), // of a rest
    ] {
        assert_eq!(wait_for(name, || of(name)), correlated, "{name}");
    }
    for decision in server.decisions_file() {
        assert!(decision["correlationid"].as_str().is_some_and(|id| !id.is_empty()), "{decision}");
    }
}
