//! Mending by hand what went wrong, on the real binary: pauses over kills, sinks that are stuck, dead letters that are tried
//! again, effects of which nobody knows.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::database::{Database, Kind};
use common::hook::{Answer, Gate, Hook};
use common::orders::feed;
use common::totals::{RULES, feed_revisions, priced};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

/// With the smallest limits what is held is stored, trimmed from the journal and passivated all the time.
const BUSY: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
                    [checkpoint]\njournal_bytes = \"64KiB\"\ndirty_bytes_max = \"1MiB\"\n\
                    [actors]\nshards = 2\nmax_live = 4\nidle = \"50ms\"\n";
/// Events of each key.
const EVENTS: u32 = 400;

fn cli(server: &Server, arguments: &[&str], exit: i32) -> String {
    let output = server.cli(arguments);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {out}{err}");
    out
}

fn held(server: &Server) -> Option<f64> {
    server.metric("turnstile_events_held{entity=\"order\"}")
}

/// The totals that were decided, by order, as they stand in the sink's file.
fn totals(server: &Server) -> BTreeMap<String, Vec<u64>> {
    let mut totals: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for decision in server.decisions_file().iter().filter(|decision| decision["type"] == "Total") {
        let total = decision["data"]["total"].as_u64().expect("a total");
        totals.entry(decision["subject"].as_str().expect("a subject").to_owned()).or_default().push(total);
    }
    totals
}

/// If this failed, a kill while events are held, or while they are released, would lose one, apply one twice, or shuffle
/// them: each event of an order revises its total, and one that is applied out of order would not.
#[test]
fn pauses_survive_kills_and_keep_the_order() {
    let mut server = Setup::new(RULES).tables(BUSY).start();
    let orders: Vec<String> = (0..12).map(|n| format!("o-{n}")).collect();
    feed_revisions(&server, &orders, 1..10);
    let paused = cli(&server, &["pause", "order", "o-3", "--by", "ann", "--why", "odd sums"], 0);
    assert!(paused.starts_with("order o-3 is paused since ") && paused.contains("(by ann: odd sums)"), "{paused}");
    feed_revisions(&server, &orders, 10..60);
    let document = server.entity("order", "o-3");
    assert_eq!((&document["fields"]["total"], &document["paused"]["held"]), (&json!(9), &json!(50)));
    assert_eq!(server.get("/v1/entities/order/o-3/events/o-3-20?source=/test").json()["state"], "held");
    cli(&server, &["pause", "order", "--by", "bob"], 0);
    feed_revisions(&server, &orders, 60..200);
    server.restart();
    wait_for("all that is held is known again", || (held(&server) == Some(12.0 * 140.0 + 50.0)).then_some(()));
    // What was held is a duplicate all the same.
    feed_revisions(&server, &orders, 190..EVENTS);
    let listed = cli(&server, &["ls", "order", "--paused", "--json"], 0);
    assert_eq!(listed.lines().count(), 12, "{listed}");
    let page = wait_for("what is stored as paused was looked at", || {
        Some(server.get("/v1/paused").expect(200).json()).filter(|page| page["complete"] == true)
    });
    assert_eq!((&page["types"][0]["paused"]["by"], page["items"].as_array().unwrap().len()), (&json!("bob"), 12));

    server.verify_clean();

    // Kills while it is released; what comes meanwhile stays behind.
    cli(&server, &["resume", "order"], 0);
    for n in 0..4 {
        feed(&server, &[priced("o-5", EVENTS + n)]);
        server.restart();
    }
    wait_for("all but the key that is paused itself", || (held(&server) == Some(f64::from(EVENTS - 10))).then_some(()));
    assert_eq!(server.entity("order", "o-3")["fields"]["total"], 9);
    cli(&server, &["resume", "order", "o-3"], 0);
    server.restart();
    wait_for("nothing is held any more", || {
        (held(&server) == Some(0.0) && server.entity("order", "o-3")["fields"]["total"] == EVENTS - 1).then_some(())
    });
    assert_eq!(server.metric("turnstile_entities_paused{entity=\"order\"}"), Some(0.0));
    server.verify_clean();
    wait_for("every revision in the sink's file, in order", || {
        let totals = totals(&server);
        let expected = |order: &str| (1..u64::from(EVENTS) + if order == "o-5" { 4 } else { 0 }).collect::<Vec<_>>();
        let is_whole = |order: &String| totals.get(order).is_some_and(|known| known.len() >= expected(order).len());
        orders.iter().all(is_whole).then(|| {
            for order in &orders {
                assert_eq!(totals[order], expected(order), "{order}");
            }
        })
    });
}

/// If this failed, a receiver that will not take one decision would hold up its key until somebody changes the receiver, or
/// what was skipped could never be sent; and the gauge of dead letters would not fall again.
#[test]
fn what_a_sink_is_stuck_on_is_skipped_and_sent_again_later() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let hook = Hook::start(move |call, _| {
        let is_odd = call.id() == "order/o-1/Total/2" && !mended.load(Ordering::SeqCst);
        Answer::Status(if is_odd { 500 } else { 200 })
    });
    let sink = hook.sink("hook", "types = [\"Total\"]\nretry = { attempts = 1000, backoff = \"10s..20s\" }");
    let mut server = Setup::new(RULES).tables(&sink).start();
    feed_revisions(&server, &["o-1".to_owned(), "o-2".to_owned()], 1..4);
    let stuck = wait_for("the sink is stuck", || {
        let sinks = server.get("/v1/sinks").expect(200).json();
        sinks["items"].as_array()?.iter().find(|sink| sink["name"] == "hook" && sink["stuck_keys"] == 1).cloned()
    });
    assert_eq!(stuck["stuck"][0]["decision"], "order/o-1/Total/2");
    assert!(cli(&server, &["sinks", "ls"], 0).contains("order/o-1/Total/2  HTTP 500"));
    cli(&server, &["sinks", "skip", "hook", "order/o-1/Total/3"], 1);
    cli(&server, &["sinks", "skip", "decisions", "order/o-1/Total/2"], 1);
    cli(&server, &["sinks", "skip", "hook", "order/o-1/Total/2", "--by", "ann", "--why", "they cannot read it"], 0);
    wait_for("the key goes on", || hook.taken().contains(&"order/o-1/Total/3".to_owned()).then_some(()));
    let letters = server.get("/v1/dead-letters?reason=skipped").expect(200).json();
    let letter = letters["items"][0].clone();
    assert_eq!((&letter["by"], &letter["why"]), (&json!("ann"), &json!("they cannot read it")));
    assert_eq!((&letter["decision"], &letter["detail"]), (&json!("order/o-1/Total/2"), &json!("HTTP 500")));
    let id = letter["id"].as_str().unwrap();
    let open = |server: &Server| server.metric("turnstile_dead_letters{reason=\"skipped\"}");
    assert_eq!(open(&server), Some(1.0));

    let again = cli(&server, &["dead-letters", "retry", id, "--by", "bob"], 1);
    assert!(again.starts_with("refused again: failed (HTTP 500"), "{again}");
    assert_eq!((open(&server), server.metric("turnstile_dead_letters{reason=\"failed\"}")), (Some(0.0), Some(1.0)));
    server.restart();
    is_mended.store(true, Ordering::SeqCst);
    wait_for("the letter is counted after the restart", || {
        (server.metric("turnstile_dead_letters{reason=\"failed\"}") == Some(1.0)).then_some(())
    });
    let retried =
        cli(&server, &["dead-letters", "retry", "--sink", "hook", "--by", "bob", "--why", "they mended it"], 0);
    assert_eq!(retried, "1 of 1 retried, 0 refused again, 0 not tried\n");
    let calls = hook.calls();
    let bodies: Vec<&str> =
        calls.iter().filter(|call| call.id() == "order/o-1/Total/2").map(|call| call.body.as_str()).collect();
    assert!(
        bodies.len() >= 3 && bodies.iter().all(|body| *body == bodies[0]),
        "the same id, the same bytes: {bodies:?}"
    );
    assert_eq!(server.metric("turnstile_dead_letters{reason=\"failed\"}"), Some(0.0));
    assert_eq!(server.get("/v1/dead-letters").json()["items"], json!([]));
    let closed = server.get("/v1/dead-letters?closed=true").json()["items"][0].clone();
    assert_eq!(
        (&closed["closed"], &closed["by"], &closed["why"]),
        (&json!("retried"), &json!("bob"), &json!("they mended it"))
    );
    cli(&server, &["dead-letters", "retry", id], 1);
    server.restart();
    let counted = server.metric("turnstile_dead_letters{reason=\"failed\"}");
    assert!(counted.is_none_or(|counted| counted < 0.5), "{counted:?}");
}

/// If this failed, a dead letter would say that it was dropped, or was never taken, although somebody else had it delivered.
#[test]
fn a_dead_letter_is_in_one_pair_of_hands_at_a_time() {
    let gate = Arc::new(Gate::default());
    let behind = gate.clone();
    let hook =
        Hook::start(move |_, before| if before < 2 { Answer::Status(500) } else { Answer::Behind(behind.clone()) });
    let sink = hook.sink("hook", "types = [\"Total\"]\nretry = { attempts = 2, backoff = \"10ms..20ms\" }");
    let server = Setup::new(RULES).tables(&sink).start();
    feed_revisions(&server, &["o-1".to_owned()], 1..2);
    let letters = || server.get("/v1/dead-letters").expect(200).json()["items"].clone();
    let letter = wait_for("it is given up", || letters().get(0).cloned());
    let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    let retry = format!("{path}/retry");
    std::thread::scope(|scope| {
        let ann = scope.spawn(|| server.request("POST", &retry, &[], br#"{"by":"ann"}"#).expect(200).json());
        wait_for("it is being sent", || (hook.calls().len() == 3).then_some(()));
        server.request("POST", &retry, &[], br#"{"by":"bob"}"#).problem(409);
        server.request("DELETE", &path, &[], br#"{"by":"bob"}"#).problem(409);
        let all = server.request("POST", "/v1/dead-letters/retry", &[], br#"{"all":true,"by":"bob"}"#).expect(200);
        assert_eq!(all.json()["not_tried"], 1);
        assert_eq!(letters()[0], letter, "none of that leaves a trace");
        gate.open();
        let came = ann.join().unwrap();
        assert_eq!((&came["outcome"], &came["by"]), (&json!("retried"), &json!("ann")), "{came}");
    });
    assert_eq!(hook.calls().len(), 3);
}

fn applications(hook: &Hook) -> String {
    format!(
        "[entity.application]\nkey = \"event.data.id\"\n[entity.application.fields]\n\
         amount = {{ on = \"Requested\", take = \"latest\", value = \"event.data.amount\" }}\n\
         [entity.application.effect.pull]\nguarantee = \"at_most_once\"\ntimeout = \"20s\"\n\
         [entity.application.effect.pull.request]\nurl = \"{}\"\njson = {{ id = \"key\" }}\n\
         [entity.application.decision.Pulled]\nwhen = \"application.pull.state == 'succeeded'\"\n\
         data = {{ score = \"application.pull.response.score\" }}\n",
        hook.url()
    )
}

fn pull(server: &Server, id: &str) -> Value {
    server.entity("application", id)["effects"]["pull"].clone()
}

/// If this failed, a call of which nobody knows would stay so for ever, or be made twice without anybody asking for it.
#[test]
fn an_effect_of_which_nobody_knows_is_resolved_or_made_again_by_hand() {
    let gate = Arc::new(Gate::default());
    let closed = gate.clone();
    let hook =
        Hook::start(move |_, before| if before == 0 { Answer::Behind(closed.clone()) } else { Answer::Status(200) });
    let mut server = Setup::new(&applications(&hook)).start();
    let requested = |id: &str| json!({"id": id, "type": "Requested", "data": {"id": id, "amount": 7}});
    feed(&server, &[requested("a"), requested("b")]);
    wait_for("both calls are under way", || (hook.calls().len() == 2).then_some(()));
    server.restart();
    for id in ["a", "b"] {
        wait_for("nobody knows", || (pull(&server, id)["state"] == "unknown").then_some(()));
    }
    let listed = cli(&server, &["effects", "ls", "--state", "unknown", "--json"], 0);
    assert!(listed.lines().count() == 2 && listed.contains("application/a/pull/1"), "{listed}");
    let resolve = ["effects", "resolve", "application", "a", "pull", "succeeded", "--status", "200", "--response"];
    let resolved = cli(&server, &[&resolve[..], &["{\"score\":7}", "--by", "ann", "--why", "they called"]].concat(), 0);
    assert_eq!(resolved, "application/a/pull/1 is succeeded\n");
    wait_for("rules go on from there", || {
        let decisions = server.decisions_file();
        decisions.iter().any(|it| it["subject"] == "a" && it["data"] == json!({"score": 7})).then_some(())
    });
    cli(&server, &["effects", "resolve", "application", "a", "pull", "failed"], 1);
    cli(&server, &["effects", "retry", "application", "a", "pull"], 1);
    cli(&server, &["effects", "resolve", "application", "b", "push", "failed"], 1);
    cli(&server, &["effects", "resolve", "application", "b", "pull", "sunk"], 2);
    for status in ["99", "600"] {
        cli(&server, &["effects", "resolve", "application", "b", "pull", "failed", "--status", status], 2);
        let body = format!("{{\"state\":\"failed\",\"status\":{status}}}");
        let said = server.post("/v1/entities/application/b/effects/pull/resolve", "application/json", body);
        assert_eq!(said.problem(400), "invalid_value", "{status}");
    }
    assert_eq!(hook.calls().len(), 2, "nothing is called again by itself");
    assert_eq!(
        cli(&server, &["effects", "retry", "application", "b", "pull", "--by", "ann"], 0),
        "application/b/pull/1 is requested\n"
    );
    wait_for("it is called again", || (pull(&server, "b")["state"] == "succeeded").then_some(()));
    let ids: Vec<String> = hook.calls().iter().map(|call| call.id().to_owned()).collect();
    assert_eq!(ids.iter().filter(|id| *id == "application/b/pull/1").count(), 2, "under the same key: {ids:?}");
    assert_eq!(server.get("/v1/effects").expect(200).json()["items"], json!([]));
    gate.open();
    server.restart();
    assert_eq!(
        (pull(&server, "a")["state"].clone(), pull(&server, "b")["state"].clone()),
        (json!("succeeded"), json!("succeeded"))
    );
}

/// If this failed, rows that were refused would be lost although the mapping was mended, or count twice.
#[test]
fn rows_that_were_refused_are_brought_in_once_the_mapping_is_mended() {
    let database = Database::start(Kind::Sqlite).expect("it needs no server");
    database.run_sql("CREATE TABLE prices (id INTEGER PRIMARY KEY, o VARCHAR(20), total BIGINT)");
    database.run_sql("INSERT INTO prices (o, total) VALUES ('a', 1), ('a', 2), ('b', 3)");
    let configured = |kind: &str| {
        Setup::new(RULES).tables(&format!(
            "[source.shop]\nkind = \"sql\"\nurl = {:?}\nevery = \"20ms\"\ncursor = \"id\"\n\
             query = \"SELECT * FROM prices WHERE id > :cursor ORDER BY id LIMIT :limit\"\n\
             event = {{ id = \"row.id\", type = \"'{kind}'\", data = \"{{'orderId': row.o, 'total': row.total}}\" }}\n",
            database.url()
        ))
    };
    let mut server = configured("Prized").start();
    let open = |server: &Server| server.metric("turnstile_dead_letters{reason=\"unmatched\"}");
    wait_for("all rows are dead letters", || (open(&server) == Some(3.0)).then_some(()));
    let again = cli(&server, &["dead-letters", "retry", "--source", "shop"], 1);
    assert!(again.starts_with("0 of 3 retried, 3 refused again, 0 not tried\n  refused again (unmatched: "), "{again}");
    assert!(again.ends_with(" and 2 more\n"), "{again}");
    server.kill();
    server.rewrite(&configured("Priced").text());
    server.start();
    let first = server.get("/v1/dead-letters?source=shop&limit=1").json()["items"][0].clone();
    assert_eq!((&first["attempts"], &first["reason"]), (&json!(2), &json!("unmatched")));
    let id = first["id"].as_str().expect("an id").to_owned();
    assert_eq!(cli(&server, &["dead-letters", "retry", &id, "--by", "ann", "--why", "a slip"], 0), "retried\n");
    server.restart();
    cli(&server, &["dead-letters", "retry", &id], 1);
    assert_eq!(cli(&server, &["dead-letters", "retry", "--all"], 0), "2 of 2 retried, 0 refused again, 0 not tried\n");
    // Read from the beginning, they are what was counted already.
    cli(&server, &["sources", "rewind", "shop", "--to", "0"], 0);
    wait_for("they were read again", || {
        let sources = server.get("/v1/sources").json();
        let shop = sources["items"].as_array()?.iter().find(|source| source["name"] == "shop").cloned()?;
        (shop["cursor"] == 3 && !shop["caught_up"].is_null()).then_some(())
    });
    assert_eq!(
        (server.entity("order", "a")["events"].clone(), server.entity("order", "b")["events"].clone()),
        (json!(2), json!(1))
    );
    assert_eq!(open(&server), Some(0.0));
    assert!(cli(&server, &["dead-letters", "ls", "--closed"], 0).contains(&id));
}

/// If this failed, an event that is held would be applied because the rules change, and once more when it is released.
#[test]
fn what_is_held_stays_held_while_rules_change() {
    let rules = "[entity.order]\nkey = \"event.data.order\"\n\
                 fields = { n = { on = \"E\", take = \"count\" }, paid = { on = \"E\", take = \"sum\", value = \"event.data.amount\" } }\n\
                 [entity.order.decision.D]\ndata = { total = \"order.paid\" }\n\
                 [entity.customer]\nkey = \"event.data.customer\"\nfields = { n = { on = \"E\", take = \"count\" } }\n";
    let event = |id: &str, amount: u32| {
        json!({"id": id, "type": "E", "time": "2026-11-20T10:00:00Z",
               "data": {"order": "a", "customer": "c", "amount": amount}})
    };
    for paused in [&["pause", "order"][..], &["pause", "order", "a"]] {
        let mut server = Setup::new(rules).start();
        feed(&server, &[event("1", 1)]);
        cli(&server, paused, 0);
        feed(&server, &[event("2", 10)]);
        let total = |server: &Server| {
            let order = server.entity("order", "a");
            (order["events"].clone(), order["fields"]["paid"].clone())
        };
        assert_eq!(total(&server), (json!(1), json!(1)));
        assert_eq!(server.terminate().code(), Some(0));
        server.rewrite(&Setup::new(&rules.replace("total =", "sum =")).text());
        server.start();
        assert_eq!(total(&server), (json!(1), json!(1)), "{paused:?}");
        assert_eq!(server.entity("customer", "c")["events"], 2);
        server.verify_clean();
        cli(&server, &[&["resume"], &paused[1..]].concat(), 0);
        wait_for("it is released", || (total(&server) == (json!(2), json!(11))).then_some(()));
        server.verify_clean();
        let told: Vec<_> = server.decisions_file().iter().map(|it| it["data"].clone()).collect();
        assert!(!told.contains(&json!({"sum": 21})), "{told:?}");
    }
}
