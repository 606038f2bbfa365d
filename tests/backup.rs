//! Backups of a server under load, and what is restored from them: everything acknowledged before is there, no id is given
//! again with other content, calls that may have been made are not made again, and what is no backup is not taken for one.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::hook::{Answer, Gate, Hook};
use common::orders::{STRUCTURED, feed, paid, reserved, shipped};
use common::steps::{self, Lane, acked, under_load};
use common::tcp::deliver_some;
use common::{Server, Setup, orders, wait_for};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

const LANES: usize = 4;
const STEPS: usize = 3_000;
/// Checkpoints, new segments and trims all the time.
const BUSY: &str = "[journal]\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\nretention = \"0s\"\n\
                    [checkpoint]\njournal_bytes = \"64KiB\"\n[actors]\nshards = 2\nmax_live = 40\nidle = \"50ms\"\n";
/// What is told a backup that is to take longer than a test.
const SLOW: &str = "64KiB";

fn setup(rules: &str) -> Setup {
    Setup::new(rules).server("backups = \"backups\"")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn expect(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Makes a backup and gives its folder.
#[track_caller]
fn back_up(server: &Server, name: &str) -> PathBuf {
    expect(&server.cli(&["backup", name]), 0);
    server.path("backups").join(name)
}

/// Restores into the data folder of a server that does not run.
#[track_caller]
fn restore(server: &Server, backup: &Path) -> Value {
    let output = server.cli(&["restore", &backup.display().to_string(), "--json"]);
    expect(&output, 0);
    serde_json::from_slice(&output.stdout).expect("a document")
}

fn revision(line: &Value) -> u64 {
    line["revision"].as_u64().or_else(|| line["revision"].as_str()?.parse().ok()).expect("a revision")
}

fn send_all(server: &Server, lane: &Lane) {
    let mut left: VecDeque<String> = lane.texts().collect();
    while !left.is_empty() {
        deliver_some(server.tcp(), &mut left, 64, &lane.acked);
    }
}

/// What is acknowledged while a backup is made may be in it or not; what was before must be, as it was. A second incarnation then
/// gives its decisions other ids, and takes nothing away from a file that others read.
#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before() {
    let mut random = StdRng::seed_from_u64(11);
    let lanes: Vec<Lane> = (0..LANES).map(|n| Lane::new(&format!("lane-{n}"), STEPS, &[], &mut random)).collect();
    let mut original = setup(steps::RULES).tables(BUSY).start();
    let mut before = Vec::new();
    under_load(&mut original, &lanes, |server, _| {
        let all: usize = lanes.iter().map(Lane::len).sum();
        wait_for("a part is acknowledged", || (acked(&lanes) > all / 4).then_some(()));
        before = lanes.iter().map(|lane| lane.acked.load(Ordering::SeqCst)).collect();
        expect(&server.cli(&["backup", "monday", "--rate", "4MiB", "--by", "ann", "--why", "drill"]), 0);
        wait_for("everything is acknowledged", || lanes.iter().all(Lane::is_acked).then_some(()));
    });
    wait_for("the sink has every revision", || (original.decisions_file().len() >= LANES * STEPS * 2).then_some(()));
    let published = original.decisions_file();
    original.kill();
    let backup = original.path("backups/monday");
    let manifest: Value = serde_json::from_slice(&std::fs::read(backup.join("backup.json")).unwrap()).unwrap();
    assert_eq!((&manifest["by"], &manifest["why"]), (&json!("ann"), &json!("drill")));

    // On the same machine: the sink's file is there, and ahead of what is restored.
    let mut second = setup(steps::RULES).tables(BUSY).write();
    let restored = restore(&second, &backup);
    assert_eq!((&restored["incarnation"], &restored["first_revision"]), (&json!(1), &json!(1_000_001)));
    let file = std::fs::read(original.path("out/decisions.ndjson")).unwrap();
    std::fs::create_dir(second.path("out")).unwrap();
    std::fs::write(second.path("out/decisions.ndjson"), &file).unwrap();
    second.start();
    for (lane, before) in lanes.iter().zip(before) {
        lane.acked.store(before, Ordering::SeqCst);
        lane.check_acked(&second, "restored");
        lane.acked.store(0, Ordering::SeqCst);
        send_all(&second, lane);
        lane.check_acked(&second, "sent again");
    }
    let highest = |lines: &[Value]| lines.iter().map(revision).max().unwrap();
    wait_for("the sink has new revisions", || (highest(&second.decisions_file()) > 1_000_000).then_some(()));
    second.restart();
    assert_eq!(second.terminate().code(), Some(0));
    let kept = std::fs::read(second.path("out/decisions.ndjson")).unwrap();
    assert!(kept.starts_with(&file), "what was published stays in the file");

    let known = manifest["last_lsn"].as_u64().unwrap();
    assert!(known > 0 && published.len() > 1000, "{manifest}");
    let mut contents: BTreeMap<String, Value> = BTreeMap::new();
    for line in published.into_iter().chain(second.decisions_file()) {
        let id = line["id"].as_str().expect("an id").to_owned();
        let first = contents.entry(id).or_insert_with(|| line.clone());
        assert_eq!(*first, line, "an id has one content");
    }
    assert!(contents.values().any(|line| revision(line) > 1_000_000));
}

/// If this failed, half a backup would be taken for one when it is needed.
#[test]
fn a_backup_that_was_cut_short_is_none() {
    let mut server = setup(orders::RULES).start();
    for n in 0..200 {
        feed(&server, &[paid(&format!("o-{n}"), "successful"), reserved(&format!("o-{n}"))]);
    }
    let folder = server.path("backups/cut");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.cli(&["backup", "cut", "--rate", SLOW]));
        wait_for("it is under way", || folder.join("journal").exists().then_some(()));
        // Nobody listens any more: the same end as that of a client that goes.
        server.signal("-KILL");
        expect(&asking.join().unwrap(), 3);
    });
    server.kill();
    assert!(folder.exists() && !folder.join("backup.json").exists());
    let target = setup(orders::RULES).write();
    let said = expect(&target.cli(&["restore", &folder.display().to_string()]), 3);
    assert!(said.contains("is no backup"), "{said}");
    assert!(!target.path("data").exists(), "nothing is left of it");
    server.start();
    let said = expect(&server.cli(&["backup", "cut"]), 1);
    assert!(said.contains("is not empty"), "{said}");
    back_up(&server, "whole");
}

/// If this failed, whoever goes would leave a backup without end behind, or two would be made at once.
#[test]
fn one_backup_at_a_time_and_only_while_somebody_waits_for_it() {
    let server = setup(orders::RULES).start();
    for n in 0..200 {
        feed(&server, &[paid(&format!("o-{n}"), "successful"), reserved(&format!("o-{n}"))]);
    }
    let order = |name: &str| json!({"folder": name, "rate": SLOW}).to_string();
    let mut asking = common::Client::connect(server.http());
    let body = order("slow");
    asking.send_bytes(
        format!("POST /v1/backup HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    wait_for("it is under way", || server.path("backups/slow").exists().then_some(()));
    assert_eq!(server.post("/v1/backup", STRUCTURED, order("other")).problem(409), "busy");
    drop(asking);
    wait_for("what was begun is gone", || (!server.path("backups/slow").exists()).then_some(()));
    wait_for("the place is free", || server.cli(&["backup", "other"]).status.success().then_some(()));

    for (name, status) in [("../data", 400), ("/tmp/x", 400), ("a/b", 400), ("", 400), (".x", 400), ("other", 409)] {
        let answer = server.post("/v1/backup", STRUCTURED, order(name));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    let full = setup(orders::RULES).tables("[limits]\ndisk_free_min = \"900TiB\"").start();
    assert_eq!(full.post("/v1/backup", STRUCTURED, order("x")).problem(507), "no_space");
    assert!(!full.path("backups/x").exists());
    let nowhere = Setup::new(orders::RULES).start();
    let said = expect(&nowhere.cli(&["backup", "x"]), 1);
    assert!(said.contains("[server] backups"), "it says what to do: {said}");
}

/// Numbers of the journal's segments.
fn segments(server: &Server) -> Vec<u64> {
    let names = std::fs::read_dir(server.path("data/journal")).expect("the journal").flatten();
    let numbers = names.filter_map(|name| name.file_name().to_str()?.strip_suffix(".redb")?.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// If this failed, checkpoints would take away what a backup is about to copy; or the journal would grow for ever after one.
#[test]
fn the_journal_is_kept_while_a_backup_is_made() {
    // Large states, which take their time; and a decision for each event, or the sink would hold the journal, too.
    let rules = r#"
[entity.large]
key = "event.subject"
[entity.large.fields]
text = { on = "Said", take = "latest", value = "event.data" }
n = { on = "Said", take = "count" }
[entity.large.decision.Heard]
data = "large.n"
"#;
    let server = setup(rules).tables(BUSY).start();
    let text = "x".repeat(20_000);
    let mut n = 0;
    let mut feed_some = || {
        let events: Vec<Value> = (0..20)
            .map(|_| {
                n += 1;
                json!({"id": n.to_string(), "type": "Said", "subject": (n % 200).to_string(), "data": text})
            })
            .collect();
        // Checkpoints are slower than this sender.
        wait_for("they are taken", || {
            (server.post("/v1/events", orders::NDJSON, orders::lines(&events)).status == 202).then_some(())
        });
    };
    (0..15).for_each(|_| feed_some());
    let order = json!({"folder": "slow", "rate": SLOW}).to_string();
    let mut asking = common::Client::connect(server.http());
    let head = format!("POST /v1/backup HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{order}", order.len());
    asking.send_bytes(head.as_bytes());
    wait_for("it is under way", || server.path("backups/slow").exists().then_some(()));
    let before = segments(&server);
    let watermark = || server.metric("turnstile_watermark_lsn").unwrap_or_default();
    let at = watermark();
    wait_for("segments are filled and stored", || {
        feed_some();
        (segments(&server).len() >= before.len() + 3 && watermark() > at).then_some(())
    });
    assert!(server.path("backups/slow").exists(), "it is still being made");
    assert_eq!(segments(&server)[0], before[0], "nothing is trimmed");
    drop(asking);
    wait_for("what was begun is gone", || (!server.path("backups/slow").exists()).then_some(()));
    wait_for("it is trimmed again", || {
        feed_some();
        (segments(&server)[0] > before[0]).then_some(())
    });
}

/// If this failed, damage would come back with the backup, or a data folder that is in use be lost.
#[test]
fn what_is_damaged_is_not_restored() {
    let server = setup(orders::RULES).tables(BUSY).start();
    for n in 0..50 {
        feed(&server, &[paid(&format!("o-{n}"), "successful"), reserved(&format!("o-{n}"))]);
    }
    let backup = back_up(&server, "sound");
    let path = backup.display().to_string();
    let manifest: Value = serde_json::from_slice(&std::fs::read(backup.join("backup.json")).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned());
    let files: Vec<String> = files.chain(["backup.json".to_owned()]).collect();
    assert!(files.len() >= 3, "{manifest}");
    let target = setup(orders::RULES).write();
    let refused = |what: &str| {
        let said = expect(&target.cli(&["restore", &path]), 3);
        assert!(!target.path("data/state.redb").exists(), "{what}: nothing to start on is left: {said}");
        // Nor does a server begin anew where a restore was cut short.
        if target.path("data").exists() {
            let output = target.run_to_end();
            assert_eq!(output.status.code(), Some(3), "{what}");
            std::fs::remove_dir_all(target.path("data")).unwrap();
        }
        said
    };
    for file in &files {
        let whole = std::fs::read(backup.join(file)).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        for (what, bytes) in [("a flipped bit", flipped), ("a file cut short", whole[..middle].to_vec())] {
            std::fs::write(backup.join(file), bytes).unwrap();
            refused(&format!("{what} in {file}"));
        }
        std::fs::remove_file(backup.join(file)).unwrap();
        refused(&format!("{file} is missing"));
        std::fs::write(backup.join(file), whole).unwrap();
    }
    for (member, other) in [("incarnation", json!(7)), ("last_lsn", json!(3)), ("uuid", json!("0"))] {
        let mut changed = manifest.clone();
        changed[member] = other;
        std::fs::write(backup.join("backup.json"), changed.to_string()).unwrap();
        let said = refused(member);
        assert!(said.contains("is not as the backup's manifest says"), "{said}");
    }
    std::fs::write(backup.join("backup.json"), manifest.to_string()).unwrap();
    restore(&target, &backup);
    let said = expect(&target.cli(&["restore", &path]), 1);
    assert!(said.contains("is not empty"), "{said}");
}

/// If this failed, a restore of a restore would give the numbers of the first one again.
#[test]
fn each_restore_begins_another_incarnation() {
    let mut server = setup(orders::RULES).start();
    feed(&server, &[paid("o", "successful"), reserved("o")]);
    let mut entity = server.entity("order", "o");
    for incarnation in 1..=2 {
        let backup = back_up(&server, "it");
        let mut next = setup(orders::RULES).write();
        let restored = restore(&next, &backup);
        assert_eq!(restored["incarnation"], incarnation);
        next.start();
        assert_eq!(next.entity("order", "o"), entity, "as it was");
        assert_eq!(next.get("/v1/status").expect(200).json()["incarnation"], incarnation);
        let days = json!({"estimatedDays": incarnation});
        let mut event = orders::event(&format!("s{incarnation}"), "ShippingCalculated", "o", &days);
        event["time"] = format!("2026-11-20T10:0{incarnation}:00Z").into();
        feed(&next, &[event]);
        entity = next.entity("order", "o");
        let revision = &entity["decisions"]["OrderConfirmed"]["revision"];
        assert_eq!(*revision, incarnation * 1_000_000 + 1, "{entity}");
        // Of the same incarnation: numbered on.
        next.restart();
        let other = format!("p{incarnation}");
        feed(&next, &[shipped(&other), paid(&other, "failed"), reserved(&other)]);
        let rejected = next.entity("order", &other);
        assert_eq!(rejected["decisions"]["OrderRejected"]["revision"], incarnation * 1_000_000 + 1);
        next.verify_clean();
        server = next;
    }
    let backup = back_up(&server, "last").display().to_string();
    let other = setup(orders::RULES).write();
    let said = expect(&other.cli(&["restore", &backup, "--incarnation", "2"]), 1);
    assert!(said.contains("3 or more"), "{said}");
    std::fs::remove_dir_all(other.path("data")).unwrap();
    let output = other.cli(&["restore", &backup, "--incarnation", "9", "--data-dir", "elsewhere"]);
    assert!(expect(&output, 0).contains("new revisions begin at 9000001"));
}

fn effects(hook: &Hook, guarantee: &str) -> String {
    format!(
        r#"
[entity.application]
key = "event.data.id"
[entity.application.fields]
amount = {{ on = "Requested", take = "latest", value = "event.data.amount" }}
[entity.application.effect.pull]
guarantee = "{guarantee}"
timeout = "30s"
concurrency = 1
[entity.application.effect.pull.request]
url = "{}"
json = {{ id = "key", amount = "application.amount" }}
"#,
        hook.url()
    )
}

/// A call that was asked for before the backup and not begun may have been made since. If this failed, it would be made twice
/// where it must be made once, or never where it must be made.
#[test]
fn what_may_have_been_called_since_is_not_called_again() {
    for guarantee in ["at_most_once", "at_least_once"] {
        let gate = Arc::new(Gate::default());
        let closed = gate.clone();
        let hook = Hook::start(move |_, _| Answer::Behind(closed.clone()));
        let rules = effects(&hook, guarantee);
        let mut server = setup(&rules).start();
        for id in ["a", "b", "c"] {
            let event =
                json!({"id": id, "type": "Requested", "time": "2026-11-20T10:00:00Z", "data": {"id": id, "amount": 7}});
            feed(&server, &[event]);
        }
        wait_for("the first call is under way", || (hook.calls().len() == 1).then_some(()));
        let backup = back_up(&server, "it");
        // The original goes on, and makes them all.
        gate.open();
        wait_for("all are called", || (hook.calls().len() == 3).then_some(()));
        server.kill();
        let mut second = setup(&rules).write();
        assert_eq!(restore(&second, &backup)["effects_begun"], 2, "{guarantee}");
        second.start();
        let expected = if guarantee == "at_most_once" { "unknown" } else { "succeeded" };
        for id in ["a", "b", "c"] {
            wait_for(&format!("{guarantee}: {id} is {expected}"), || {
                (second.entity("application", id)["effects"]["pull"]["state"] == expected).then_some(())
            });
            let calls = hook.calls().iter().filter(|call| call.id() == format!("application/{id}/pull/1")).count();
            assert_eq!(calls, if guarantee == "at_most_once" { 1 } else { 2 }, "{guarantee}: calls of {id}");
        }
        let known = hook.calls().len();
        feed(&second, &[json!({"id": "d", "type": "Requested", "data": {"id": "d", "amount": 7}})]);
        wait_for("what is asked for from then on is called", || (hook.calls().len() > known).then_some(()));
    }
}
