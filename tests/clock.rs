//! A clock that is set back, an hour or ten years, while the server runs and between two starts: no time that was told goes
//! back, nothing is made or sent twice, and no identity is forgotten or kept for that.

mod common;

use std::collections::BTreeMap;

use common::around::Clock;
use common::{Server, Setup, deliver, instant, steps, wait_for};
use serde_json::Value;

/// `window` forgets identities after two hours.
const RULES: &str = r#"
[entity.order]
key = "event.subject"
[entity.order.fields]
payments = { on = "Paid", take = "count" }
[entity.order.decision.Counted]
data = "order.payments"
[entity.order.decision.Welcome]
policy = "once"
[entity.window]
key = "event.subject"
dedupe = "2h"
[entity.window.fields]
payments = { on = "Paid", take = "count" }
"#;
const ORDERS: usize = 5;
const YEAR: i64 = 365 * 24 * 3600 * 1_000_000_000;

fn paid(round: usize, order: usize) -> String {
    format!(r#"{{"id":"{round}","type":"Paid","subject":"o-{order}","time":"2020-11-20T10:00:00Z"}}"#)
}

/// What was told of each entity: its `updated` and its decisions' revisions.
type Told = BTreeMap<(String, String), (i64, Vec<u64>)>;

fn told(server: &Server) -> Told {
    let entities = ["order", "window"].into_iter().flat_map(|kind| server.entities(kind, 100));
    let entities = entities.filter(|entity| entity["key"].as_str().is_some_and(|key| !key.starts_with("fresh")));
    let entry = |entity: Value| {
        let name = (entity["type"].to_string(), entity["key"].to_string());
        let updated = instant(entity["updated"].as_str().expect("a time")).expect("RFC 3339");
        let decisions = entity["decisions"].as_object().expect("decisions").values();
        (name, (updated, decisions.map(|decision| decision["revision"].as_u64().unwrap_or(0)).collect()))
    };
    entities.map(entry).collect()
}

#[test]
fn a_clock_set_back_takes_nothing_back_and_repeats_nothing() {
    // Put away and looked at again all the time, by timers that the clock has no part in.
    let tuning = "[actors]\nmax_live = 2\nidle = \"50ms\"\n[checkpoint]\njournal_bytes = \"64KiB\"";
    let mut server = Setup::new(RULES).tables(tuning).write();
    let Some((clock, around)) = Clock::new(server.dir()) else { return };
    server.set_around(around);
    server.start();
    let mut before = Told::new();
    let mut lines = Vec::new();
    for (round, (offset, restarts)) in
        [("+0", false), ("-1h", false), ("-10y", false), ("-10y", true), ("-1h", true), ("+1h", false), ("-10y", true)]
            .into_iter()
            .enumerate()
    {
        let how = format!("round {round}, the clock at {offset}");
        clock.set(offset);
        if restarts {
            server.restart();
        }
        lines.extend((0..ORDERS).map(|order| paid(round, order)));
        // Everything so far is sent again, too.
        let outcome = deliver(server.tcp(), &lines);
        assert_eq!(outcome.duplicates as usize, lines.len() - ORDERS, "{how}: each event counts once");
        assert!(outcome.refused.is_empty(), "{how}: {:?}", outcome.refused);
        let now = told(&server);
        for (name, (updated, revisions)) in &before {
            assert!(now[name].0 >= *updated, "{how}: `updated` of {name:?} went back");
            assert_eq!(now[name].1.len(), revisions.len());
        }
        for (name, (_, revisions)) in &now {
            let expected = if name.0.contains("order") { vec![round as u64 + 1, 1] } else { vec![] };
            assert_eq!(*revisions, expected, "{how}: revisions of {name:?}");
        }
        before = now;
        // An order that nobody spoke of before shows which time it is for the server.
        let fresh = format!(r#"{{"id":"{round}","type":"Paid","subject":"fresh-{round}"}}"#);
        assert_eq!(deliver(server.tcp(), &[fresh]).acked, 1);
        let updated = server.entity("order", &format!("fresh-{round}"))["updated"].clone();
        let apart = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_nanos())
            .expect("a time")
            - instant(updated.as_str().expect("a time")).expect("RFC 3339");
        assert_eq!(apart > 9 * YEAR, offset == "-10y", "{how}: the server says {updated}");
    }
    // The other way round a window does end: two hours and more later an identity counts again, where rules say so.
    clock.set("+4h");
    let outcome = deliver(server.tcp(), &lines[..ORDERS]);
    assert_eq!(outcome.acked as usize, ORDERS);
    assert_eq!(server.entity("window", "o-0")["fields"]["payments"], 8, "seven, and the first one again");
    assert_eq!(server.entity("order", "o-0")["fields"]["payments"], 7);

    let expected = ORDERS * (7 + 1) + 7 * 2;
    wait_for("the sink has every revision", || (server.decisions_file().len() >= expected).then_some(()));
    let last = steps::check_file(&server);
    assert_eq!(last.values().map(|last| last.revision).sum::<u64>(), expected as u64, "each once, with rising times");
    assert_eq!(server.terminate().code(), Some(0), "timers of the end do not follow the clock");
}
