//! Forgetting an entity: what it held is nowhere in the journal any more, whoever was told of it; everything else stays; and
//! neither ends without warning nor sinks that lag behind keep it from being done.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::hook::{Answer, Hook};
use common::orders::NDJSON;
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.person]
key = "event.subject"
fields = { name = { on = "Named", take = "latest", value = "event.data.name" }, seen = { on = "Seen", take = "count" } }
[entity.person.decision.Known]
data = { name = "person.name", seen = "person.seen" }
when = "has(person.name)"
[entity.visit]
key = "event.subject"
fields = { who = { on = "Visited", take = "latest", value = "event.data.who" } }
[entity.visit.ref.person]
entity = "person"
key = "visit.who"
[entity.visit.derived]
name = "person.name"
"#;
/// Segments, checkpoints and passivations all the time.
const BUSY: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n\
                    [checkpoint]\njournal_bytes = \"64KiB\"\n[actors]\nshards = 2\nmax_live = 20\nidle = \"1s\"\n";
const SECRET: &str = "Mnemosyne-von-Lethe";

fn event(id: &str, kind: &str, subject: &str, data: &Value) -> Value {
    json!({"id": id, "type": kind, "time": "2026-11-20T10:00:00Z", "subject": subject, "data": data})
}

fn post(server: &Server, events: &[Value]) {
    let lines: String = events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
    // A small journal is full at times; whoever is told so sends again.
    let answer = wait_for("the events are admitted", || {
        Some(server.post("/v1/events", NDJSON, lines.as_str())).filter(|answer| answer.status != 429)
    });
    answer.expect(202);
}

fn named(person: &str, name: &str) -> Value {
    event(&format!("{person}-{name}"), "Named", person, &json!({ "name": name }))
}

/// Events of others, each a round of so many.
fn others(round: usize, count: usize) -> Vec<Value> {
    let pad = "x".repeat(400);
    let other = |n: usize| named(&format!("other-{}", n % 50), &format!("{round}-{n}-{pad}"));
    (0..count).map(other).collect()
}

fn forget(server: &Server, key: &str) {
    let body = br#"{"by":"ann","why":"she asked for it"}"#;
    server.request("DELETE", &format!("/v1/entities/person/{key}"), &[], body).expect(202);
}

fn forgotten(server: &Server) -> Vec<Value> {
    server.get("/v1/forgotten").expect(200).json()["items"].as_array().unwrap().clone()
}

fn wait_until_done(server: &Server) -> Vec<Value> {
    wait_for("it is done", || {
        let all = forgotten(server);
        all.iter().all(|it| it["state"] == "done").then_some(all)
    })
}

/// Files of the journal that hold this text.
fn files_with(journal: &Path, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    };
    files.filter(holds).map(|path| path.display().to_string()).collect()
}

/// If this failed, what the law says must go would stay on the disk, or others would lose what they have.
#[test]
fn nothing_is_left_of_it_under_load_and_kills_and_others_are_unharmed() {
    let mut server = Setup::new(RULES).tables(BUSY).start();
    let journal = server.path("data/journal");
    post(&server, &[named("eve", SECRET), event("v", "Visited", "v1", &json!({ "who": "eve" }))]);
    wait_for("the visit shows her", || (server.entity("visit", "v1")["waiting_for"] == json!([])).then_some(()));
    for round in 0..6 {
        post(&server, &others(round, 400));
        post(
            &server,
            &[event(&format!("s{round}"), "Seen", "eve", &Value::Null), named("eve", &format!("{SECRET}{round}"))],
        );
    }
    assert!(!files_with(&journal, SECRET).is_empty(), "it is looked for in the right place");
    let before = server.entities("person", 1000);
    forget(&server, "eve");
    for round in 6..9 {
        post(&server, &others(round, 100));
        server.restart();
        assert_eq!(forgotten(&server).len(), 1, "what was asked for is known after a kill");
    }
    let done = wait_until_done(&server);
    assert_eq!((&done[0]["by"], &done[0]["why"]), (&json!("ann"), &json!("she asked for it")));
    assert!(files_with(&journal, SECRET).is_empty(), "{:?}", files_with(&journal, SECRET));
    let gone = server.get("/v1/entities/person/eve").expect(410).json();
    assert_eq!(gone["code"], "forgotten");
    assert_eq!(server.entity("visit", "v1")["waiting_for"][0]["key"], "eve", "who saw her waits for her again");
    for was in before.iter().filter(|it| it["key"] != "eve") {
        let is = server.entity("person", was["key"].as_str().unwrap());
        assert!(is["events"].as_u64() >= was["events"].as_u64(), "{is}");
    }
    // The journal is read to its end, blank records and all.
    server.restart();
    let known = server.get("/v1/decisions?limit=1000").expect(200).json();
    assert!(known["items"].as_array().unwrap().iter().all(|it| it["subject"] != "eve"));
    post(&server, &[named("eve", "another")]);
    let again = server.entity("person", "eve");
    assert_eq!((&again["events"], &again["fields"]["name"]), (&json!(1), &json!("another")));
    let revision = again["decisions"]["Known"]["revision"].as_u64().unwrap();
    assert!(revision > 7, "its revisions go on: {again}");
    wait_for("the sink goes on", || {
        let file = server.decisions_file();
        file.iter().any(|it| it["subject"] == "eve" && it["revision"] == revision).then_some(())
    });
}

/// If this failed, a decision that was acknowledged would never be told, or one that was given up would keep the secret.
#[test]
fn sinks_that_lag_behind_are_waited_for_and_what_they_gave_up_is_forgotten_too() {
    let hook = Hook::start(|_, _| Answer::Status(500));
    let sink = hook.sink("hook", "retry = { attempts = 4, backoff = \"200ms..1s\" }");
    let server = Setup::new(RULES).tables(&sink).start();
    post(&server, &[named("eve", SECRET)]);
    forget(&server, "eve");
    wait_for("it says what it waits for", || {
        forgotten(&server)[0]["doing"].as_str().filter(|doing| doing.contains("sink")).map(str::to_owned)
    });
    let done = wait_until_done(&server);
    assert!(done[0]["records"].as_u64().unwrap() >= 2, "her event and the dead letter: {done:?}");
    assert!(hook.calls().len() >= 4, "it was tried as often as is configured");
    let letters = server.get("/v1/dead-letters").expect(200).json();
    assert_eq!(letters["items"], json!([]), "{letters}");
    let journal = server.path("data/journal");
    assert!(files_with(&journal, SECRET).is_empty(), "{:?}", files_with(&journal, SECRET));
}

/// If this failed, a receiver that is down would keep what is to go in sight, and whom else it should forget alive.
#[test]
fn while_a_sink_lags_behind_none_of_it_is_shown_and_more_can_be_asked_for() {
    let is_up = Arc::new(AtomicBool::new(false));
    let seen = is_up.clone();
    let hook = Hook::start(move |_, _| Answer::Status(if seen.load(Ordering::Relaxed) { 200 } else { 500 }));
    let sink = hook.sink("hook", "retry = { attempts = 1000, backoff = \"200ms..200ms\" }");
    let server = Setup::new(RULES).tables(&sink).start();
    let eve = event("eve-1", "Named", "eve", &json!({ "name": SECRET }));
    post(&server, &[eve, named("abel", SECRET), event("v", "Visited", "v1", &json!({ "who": "eve" }))]);
    let told = |path: &str| server.get(path).expect(200).text();
    let paths = ["/v1/entities/person/eve/history", "/v1/correlations/eve-1", "/v1/entities/visit/v1/history"];
    for path in paths {
        wait_for(&format!("all of it is shown by {path}"), || told(path).contains(SECRET).then_some(()));
    }
    for who in ["eve", "abel"] {
        forget(&server, who);
        let path = format!("/v1/entities/person/{who}");
        wait_for("its life ends", || (server.get(&path).status == 410).then_some(()));
        let history = format!("{path}/history");
        wait_for("none of it is shown", || (!told(&history).contains(SECRET)).then_some(()));
    }
    for path in paths {
        assert!(!told(path).contains(SECRET), "{path}: {}", told(path));
    }
    let journal = server.path("data/journal");
    assert!(!files_with(&journal, SECRET).is_empty(), "the sink still needs it");
    is_up.store(true, Ordering::Relaxed);
    assert_eq!(wait_until_done(&server).len(), 2);
    assert!(files_with(&journal, SECRET).is_empty(), "{:?}", files_with(&journal, SECRET));
}

/// If this failed, what is forgotten would lie in the journal until sinks have something to do again.
#[test]
fn where_no_sink_has_anything_to_do_it_is_forgotten_all_the_same() {
    let server = Setup::new(RULES).start();
    post(&server, &[named("other", "Other")]);
    wait_for("the sink is done", || (!server.decisions_file().is_empty()).then_some(()));
    // No decision follows from a visit.
    post(&server, &[event("v", "Visited", "v-1", &json!({ "who": "other", "note": SECRET }))]);
    let body = br#"{"by":"ann","why":"she asked for it"}"#;
    server.request("DELETE", "/v1/entities/visit/v-1", &[], body).expect(202);
    wait_until_done(&server);
    let left = files_with(&server.path("data/journal"), SECRET);
    assert!(left.is_empty(), "{left:?}");
    let told = server.get("/v1/entities/visit/v-1/history").expect(200).text();
    assert!(!told.contains(SECRET), "{told}");
}

/// If this failed, a wrong word would delete something, or anybody could.
#[test]
fn only_what_is_there_is_forgotten_and_only_by_who_may() {
    let tokens = "[server.tokens.reader]\ntoken = \"read\"\nscopes = [\"read\", \"send\"]\n\
                  [server.tokens.boss]\ntoken = \"boss\"\nscopes = [\"read\", \"send\", \"admin\"]\n";
    let server = Setup::new(RULES).tables(tokens).start();
    let request = |token: &str, method: &str, path: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        server.request(method, path, &[("authorization", &bearer), ("content-type", NDJSON)], body)
    };
    let line = named("eve", "Eve").to_string();
    request("boss", "POST", "/v1/events", line.as_bytes()).expect(202);
    request("read", "DELETE", "/v1/entities/person/eve", b"").expect(403);
    request("boss", "DELETE", "/v1/entities/person/adam", b"").expect(404);
    request("boss", "DELETE", "/v1/entities/nobody/eve", b"").expect(404);
    request("boss", "DELETE", "/v1/entities/person/eve", b"{\"by\":1}").expect(400);
    request("boss", "GET", "/v1/entities/person/eve", b"").expect(200);
    request("boss", "DELETE", "/v1/entities/person/eve", b"").expect(202);
    wait_for("it is gone", || (request("read", "GET", "/v1/entities/person/eve", b"").status == 410).then_some(()));
}

const ORDERED: &str = r#"
[entity.customer]
key = "event.data.customer"
fields = { orders = { on = "Ordered", take = "count" } }
[entity.order]
key = "event.data.order"
fields = { name = { on = "Ordered", take = "latest", value = "event.data.name" } }
[entity.order.decision.Sum]
data = { name = "order.name" }
when = "has(order.name)"
"#;

/// The same, but that nobody beside the order takes the event.
fn order_alone() -> String {
    ORDERED.replace("on = \"Ordered\", take = \"count\"", "on = \"Cancelled\", take = \"count\"")
}

/// These, and a type that is made of the same events.
fn and_persons(rules: &str) -> String {
    format!(
        "{rules}[entity.person]\nkey = \"event.data.name\"\n\
         fields = {{ orders = {{ on = \"Ordered\", take = \"set\", value = \"event.data.order\" }} }}\n"
    )
}

fn ordered() -> Value {
    event("e", "Ordered", "-", &json!({ "order": "a", "customer": "c", "name": SECRET }))
}

/// If this failed, new rules would bring to life again, and publish, what was forgotten while another type held the same event.
#[test]
fn new_rules_leave_the_forgotten_where_it_is() {
    let setup = Setup::new(ORDERED);
    let mut server = setup.start();
    let pause =
        |change: &str| server.request("POST", &format!("/v1/entities/customer/{change}"), &[], b"{}").expect(200);
    pause("pause");
    post(&server, &[ordered()]);
    server.request("DELETE", "/v1/entities/order/a", &[], b"").expect(202);
    wait_until_done(&server);
    pause("resume");
    wait_for("the customer has it", || (server.entity("customer", "c")["events"] == 1).then_some(()));
    assert_eq!(server.terminate().code(), Some(0));
    server.rewrite(&Setup::new(&ORDERED.replace("name = \"order.name\" }", "name = \"order.name + '!'\" }")).text());
    server.start();
    server.get("/v1/entities/order/a").expect(410);
    server.verify_clean();
    let told =
        server.decisions_file().iter().filter(|it| it["subject"] == "a" && it["decisionstate"] == "made").count();
    assert_eq!(told, 1, "that of its first life: {:?}", server.decisions_file());
}

/// If this failed, a type that came with new rules would take what was forgotten, as long as some sink was behind.
#[test]
fn new_types_take_nothing_of_what_is_being_forgotten() {
    let hook = Hook::start(|_, _| Answer::Status(500));
    let sink = hook.sink("hook", "retry = { attempts = 1000, backoff = \"10s..20s\" }");
    let mut server = Setup::new(&order_alone()).tables(&sink).start();
    post(&server, &[ordered()]);
    server.request("DELETE", "/v1/entities/order/a", &[], b"").expect(202);
    wait_for("it has ended", || (server.get("/v1/entities/order/a").status == 410).then_some(()));
    wait_for("that is noted", || (forgotten(&server)[0]["state"] == "ended").then_some(()));
    server.kill();
    server.rewrite(&Setup::new(&and_persons(&order_alone())).tables(&sink).text());
    server.start();
    server.get(&format!("/v1/entities/person/{SECRET}")).expect(404);
}

/// If this failed, a decision that others were told would be told with another content under the same id.
#[test]
fn what_was_decided_from_it_keeps_its_content() {
    let rules = "[entity.customer]\nkey = \"event.subject\"\n\
                 fields = { name = { on = \"Named\", take = \"latest\", value = \"event.data.name\" } }\n\
                 [entity.order]\nkey = \"event.subject\"\n\
                 fields = { of = { on = \"Ordered\", take = \"latest\", value = \"event.data.of\" } }\n\
                 [entity.order.ref.customer]\nentity = \"customer\"\nkey = \"order.of\"\n\
                 [entity.order.decision.Ready]\nwhen = \"has(customer.name)\"\n";
    let server = Setup::new(rules).start();
    post(&server, &[event("o", "Ordered", "o-1", &json!({ "of": "c-1" }))]);
    post(&server, &[event("n", "Named", "c-1", &json!({ "name": SECRET }))]);
    let decisions = || server.get("/v1/decisions").expect(200).json()["items"].as_array().unwrap().clone();
    let made = wait_for("it is decided", || decisions().first().cloned());
    assert_eq!(made["causationid"], "n");
    server.request("DELETE", "/v1/entities/customer/c-1", &[], b"").expect(202);
    wait_until_done(&server);
    let withdrawn = wait_for("it is withdrawn", || decisions().get(1).cloned());
    assert_eq!((&withdrawn["revision"], &withdrawn["causationid"]), (&json!(2), &json!("forgotten:customer/c-1")));
    assert_eq!(decisions()[0], made);
    let left = files_with(&server.path("data/journal"), SECRET);
    assert!(left.is_empty(), "{left:?}");
}

/// If this failed, a healthy folder would be called damaged once somebody was forgotten of whom others were made by new rules.
#[test]
fn what_new_rules_made_of_it_before_is_no_damage() {
    let mut server = Setup::new(&order_alone()).start();
    post(&server, &[ordered()]);
    assert_eq!(server.terminate().code(), Some(0));
    server.rewrite(&Setup::new(&and_persons(&order_alone())).text());
    server.start();
    let path = format!("/v1/entities/person/{SECRET}");
    assert_eq!(server.get(&path).expect(200).json()["events"], 1);
    assert_eq!(server.verify_clean()["not_comparable"], 0);
    server.request("DELETE", "/v1/entities/order/a", &[], b"").expect(202);
    wait_until_done(&server);
    assert_eq!(server.get(&path).expect(200).json()["events"], 1, "it had taken it");
    assert_eq!(server.verify_clean()["not_comparable"], 1);
}

/// If this failed, a life that began while the one before it was being forgotten could not be forgotten, or would be accepted
/// for it and stay; or what became of its decisions would be lost with the old life's.
#[test]
fn a_new_life_is_forgotten_on_its_own() {
    let is_up = Arc::new(AtomicBool::new(false));
    let seen = is_up.clone();
    let hook = Hook::start(move |_, _| Answer::Status(if seen.load(Ordering::Relaxed) { 200 } else { 500 }));
    let refused = Hook::start(|call, _| Answer::Status(if call.body.contains("second") { 422 } else { 200 }));
    let sinks = hook.sink("stuck", "retry = { attempts = 1000, backoff = \"200ms..200ms\" }")
        + &refused.sink("picky", "retry = { attempts = 2, backoff = \"200ms..200ms\" }");
    let mut server = Setup::new(RULES).tables(&sinks).start();
    post(&server, &[named("eve", "first")]);
    forget(&server, "eve");
    wait_for("its life ends", || (server.get("/v1/entities/person/eve").status == 410).then_some(()));
    post(&server, &[named("eve", "second")]);
    let letters =
        |server: &Server| server.get("/v1/dead-letters").expect(200).json()["items"].as_array().unwrap().len();
    wait_for("what it decided is refused", || (letters(&server) == 1).then_some(()));
    server.restart();
    is_up.store(true, Ordering::Relaxed);
    wait_until_done(&server);
    assert_eq!(server.entity("person", "eve")["fields"]["name"], "second");
    assert_eq!(letters(&server), 1, "it is the new life's");
    let letter = server.get("/v1/dead-letters").expect(200).json()["items"][0]["id"].as_str().unwrap().to_owned();
    server.request("DELETE", &format!("/v1/dead-letters/{letter}"), &[], b"{}").expect(200);

    is_up.store(false, Ordering::Relaxed);
    post(&server, &[named("abel", "first")]);
    forget(&server, "abel");
    wait_for("its life ends", || (server.get("/v1/entities/person/abel").status == 410).then_some(()));
    post(&server, &[named("abel", SECRET)]);
    wait_for("it lives again", || (server.get("/v1/entities/person/abel").status == 200).then_some(()));
    forget(&server, "abel");
    wait_for("that ends, too", || (server.get("/v1/entities/person/abel").status == 410).then_some(()));
    is_up.store(true, Ordering::Relaxed);
    wait_until_done(&server);
    let left = files_with(&server.path("data/journal"), SECRET);
    assert!(left.is_empty(), "{left:?}");
    server.verify_clean();
}

/// If this failed, what a key had before its type got another one could never be taken out of the journal.
#[test]
fn a_key_of_earlier_rules_is_forgotten_too() {
    let rules = |key: &str| {
        format!(
            "[entity.session]\nkey = \"event.data.{key}\"\n\
             fields = {{ name = {{ on = \"In\", take = \"latest\", value = \"event.data.name\" }} }}\n"
        )
    };
    let mut server = Setup::new(&rules("id")).start();
    post(&server, &[event("e", "In", "-", &json!({ "id": "s-1", "user": "u-1", "name": SECRET }))]);
    let change = |server: &mut Server, key: &str| {
        assert_eq!(server.terminate().code(), Some(0));
        server.rewrite(&Setup::new(&rules(key)).text());
        server.start();
    };
    change(&mut server, "user");
    assert_eq!(server.entity("session", "u-1")["fields"]["name"], SECRET);
    server.get("/v1/entities/session/s-1").problem(404);
    for key in ["u-1", "s-1"] {
        server.request("DELETE", &format!("/v1/entities/session/{key}"), &[], b"").expect(202);
    }
    wait_until_done(&server);
    let left = files_with(&server.path("data/journal"), SECRET);
    assert!(left.is_empty(), "{left:?}");
    server.verify_clean();
    change(&mut server, "id");
    server.get("/v1/entities/session/s-1").problem(410);
    server.verify_clean();
}
