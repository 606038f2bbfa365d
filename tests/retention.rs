//! What is given up: entities that expire, and segments of the journal that are old or many; and what is not.

mod common;

use common::hook::{Answer, Hook};
use common::orders::NDJSON;
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.session]
key = "event.subject"
expire = "2s"
fields = { pages = { on = "Viewed", take = "count" } }
[entity.session.decision.Seen]
data = { pages = "session.pages" }
"#;
const SMALL: &str = "segment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n[checkpoint]\njournal_bytes = \"64KiB\"\n";

fn viewed(id: usize, session: &str) -> Value {
    let data = json!({ "pad": "x".repeat(1000) });
    json!({"id": id.to_string(), "type": "Viewed", "time": "2026-11-20T10:00:00Z", "subject": session, "data": data})
}

fn post(server: &Server, events: &[Value]) {
    let lines: String = events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect();
    // A small journal is full at times; whoever is told so sends again.
    let answer = wait_for("the events are admitted", || {
        Some(server.post("/v1/events", NDJSON, lines.as_str())).filter(|answer| answer.status != 429)
    });
    answer.expect(202);
}

fn journal(server: &Server) -> Value {
    server.get("/v1/status").expect(200).json()["journal"].clone()
}

/// If this failed, sessions that are over would fill the disk, be listed for ever, or come back with old numbers.
#[test]
fn entities_expire_also_while_nothing_runs_and_begin_anew() {
    let mut server = Setup::new(RULES).start();
    post(&server, &[viewed(1, "a"), viewed(2, "b")]);
    let gone = |server: &Server, key: &str| {
        let answer = server.get(&format!("/v1/entities/session/{key}"));
        (answer.status == 410).then(|| answer.json())
    };
    let problem = wait_for("a expires", || gone(&server, "a"));
    assert_eq!(problem["code"], "expired");
    assert!(problem["at"].is_string(), "{problem}");
    wait_for("b expires", || gone(&server, "b"));
    assert_eq!(server.entities("session", 10), Vec::<Value>::new());
    assert_eq!(server.metric("turnstile_entities{entity=\"session\"}"), Some(0.0));
    assert_eq!(server.metric("turnstile_entities_expired_total{entity=\"session\"}"), Some(2.0));
    let text = server.get("/metrics").expect(200).text();
    assert!(!text.contains("$expire"), "the deadline is nobody's");

    post(&server, &[viewed(1, "a"), viewed(3, "c")]);
    let again = server.entity("session", "a");
    assert_eq!((&again["events"], &again["decisions"]["Seen"]["revision"]), (&json!(1), &json!(2)), "{again}");
    assert_eq!(server.entities("session", 10).len(), 2, "what begins anew is listed at once");
    server.kill();
    server.start();
    wait_for("they expire after a kill, too", || gone(&server, "a").and(gone(&server, "c")));
    server.terminate();
    server.start();
    assert_eq!(gone(&server, "a").expect("it stays gone")["code"], "expired");
    let made: Vec<_> = server.decisions_file().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(made.len(), 4, "nothing is taken back: {made:?}");
}

/// If this failed, the journal would fill the disk in spite of its bound, or lose what a sink still has to deliver.
#[test]
fn the_journal_is_bounded_in_bytes_but_for_what_a_sink_needs() {
    let hook = Hook::start(|_, _| Answer::Status(503));
    let sink = hook.sink("hook", "retry = { attempts = 1000, backoff = \"1s..5s\" }");
    let tables = format!("[journal]\nretention_bytes = \"2MiB\"\n{SMALL}{sink}");
    let mut server = Setup::new(&RULES.replace("expire = \"2s\"\n", "")).tables(&tables).start();
    let mut id = 0;
    let mut fill = |server: &Server, events: usize| {
        for _ in 0..events / 100 {
            let batch: Vec<Value> = (id..id + 100).map(|n| viewed(n, &format!("s{}", n % 10))).collect();
            id += 100;
            post(server, &batch);
        }
    };
    fill(&server, 6000);
    let held = wait_for("it says who holds it", || {
        let journal = journal(&server);
        (journal["held_by"] == "sink hook").then_some(journal)
    });
    assert_eq!(held["first_lsn"], 1, "{held}");
    assert!(held["since"].is_string(), "{held}");
    assert!(server.metric("turnstile_journal_needed_lsn{by=\"sink hook\"}").is_some_and(|lsn| lsn < 10.0));

    server.terminate();
    let config = std::fs::read_to_string(server.path("config.toml")).unwrap();
    server.rewrite(&config.replace(&tables, &format!("[journal]\nretention_bytes = \"2MiB\"\n{SMALL}")));
    server.start();
    fill(&server, 1000);
    let kept = wait_for("what nobody needs goes", || {
        let journal = journal(&server);
        (journal["held_by"] == "retention" && journal["first_lsn"].as_u64() > Some(1)).then_some(journal)
    });
    let first = kept["first_lsn"].as_u64().unwrap();
    wait_for("the metric follows", || {
        (server.metric("turnstile_journal_first_lsn") >= Some(first as f64)).then_some(())
    });
    let files = std::fs::read_dir(server.path("data/journal")).unwrap().filter_map(Result::ok);
    let bytes: u64 = files.map(|file| file.metadata().map_or(0, |about| about.len())).sum();
    assert!(bytes < 6 << 20, "{bytes} bytes are left");
}

/// If this failed, a full disk would stop the node while the journal keeps what is only kept for its age.
#[test]
fn where_room_is_short_the_age_gives_way() {
    // No disk has so much room.
    let tables = format!("[journal]\nretention = \"30d\"\n{SMALL}[limits]\ndisk_free_min = \"1000TiB\"\n");
    let roomy = tables.replace("1000TiB", "1MiB");
    let mut server = Setup::new(&RULES.replace("expire = \"2s\"\n", "")).tables(&roomy).start();
    for round in 0..20 {
        let batch: Vec<Value> = (0..200).map(|n| viewed(round * 200 + n, &format!("s{}", n % 10))).collect();
        post(&server, &batch);
    }
    assert_eq!(journal(&server)["first_lsn"], 1, "it is not thirty days old");
    server.terminate();
    let config = std::fs::read_to_string(server.path("config.toml")).unwrap();
    server.rewrite(
        &config
            .replace("\"1MiB\"\n\n[entity", "\"1000TiB\"\n\n[entity")
            .replace("disk_free_min = \"1MiB\"", "disk_free_min = \"1000TiB\""),
    );
    server.start();
    wait_for("it gives way", || (journal(&server)["first_lsn"].as_u64() > Some(1)).then_some(()));
}
