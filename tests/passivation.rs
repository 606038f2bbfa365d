//! Entities that are put away and called back all the time: nothing is lost, counted twice or told too early, and in the
//! end no actor is left behind.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::tcp::deliver_some;
use common::{Setup, wait_for};

const RULES: &str = r#"
[entity.meter]
key = "event.subject"
[entity.meter.fields]
readings = { on = "Read", take = "count" }
total = { on = "Read", take = "sum", value = "event.data" }
[entity.meter.decision.Total]
data = "meter.total"
"#;
const KEYS: usize = 200;
const CONNECTIONS: usize = 8;
const READINGS: usize = 5_000;
/// Unacknowledged lines of a connection. So few, that entities come to rest between two inputs.
const WINDOW: usize = 32;

/// The meter that a connection reads as its `n`-th: all of them equally often, in an order that looks like none.
fn meter(connection: usize, n: usize) -> usize {
    (n * 7 + n / KEYS * 13 + connection * 11) % KEYS
}

/// Very few live actors are allowed and all meters are read all the time, so that many inputs find their actor on its
/// way out.
#[test]
fn actors_that_come_and_go_under_load() {
    let tuning = "[actors]\nshards = 1\nmax_live = 20\nidle = \"1ms\"\n[checkpoint]\njournal_bytes = \"64KiB\"";
    let mut server = Setup::new(RULES).tables(tuning).start();
    let address = server.tcp();
    let acked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let acked = &acked;
            scope.spawn(move || {
                let mut lines: VecDeque<String> =
                    (0..READINGS).map(|n| reading(connection, n, meter(connection, n))).collect();
                deliver_some(address, &mut lines, WINDOW, acked);
            });
        }
    });
    assert_eq!(acked.load(Ordering::SeqCst), CONNECTIONS * READINGS, "every line is acknowledged");
    wait_for("surplus actors are put away", || {
        (server.metric(r#"turnstile_actors_live{entity="meter"}"#)? <= 20.0).then_some(())
    });
    let each = CONNECTIONS * READINGS / KEYS;
    for start in 0..2 {
        let meters = server.entities("meter", 1000);
        assert_eq!(meters.len(), KEYS);
        for meter in meters {
            assert_eq!(meter["fields"]["readings"], each, "start {start}: {meter}");
            assert_eq!(meter["fields"]["total"].as_f64(), Some(each as f64 / 10.0), "start {start}: {meter}");
            assert_eq!(meter["decisions"]["Total"]["revision"], each, "start {start}: {meter}");
        }
        server.restart();
    }
}

fn reading(connection: usize, n: usize, meter: usize) -> String {
    format!(
        r#"{{"id":"{connection}/{n}","type":"Read","subject":"meter-{meter}","time":"2026-11-20T10:00:00Z","data":0.1}}"#
    )
}
