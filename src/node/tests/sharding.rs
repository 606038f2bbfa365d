//! How many shards there are is nobody's business but this process's, and a journal says the same whenever it is read.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::checkpoints::all_known;
use super::{Folder, Harness, Wiring, event};
use crate::model::event::Event;
use crate::model::time::Timestamp;

/// Every operator, entries by name, derived values, decisions of both kinds, a window for identities.
const RICH: &str = r#"
[entity.order]
key = "event.data.key"
dedupe = "1h"
[entity.order.fields]
first = { on = "Added", take = "first", value = "event.data.n" }
last = { on = ["Added", "Named"], take = "latest", value = "event.data.n" }
least = { on = "Added", take = "min", value = "event.data.n" }
most = { on = "*", take = "max", value = "event.time" }
total = { on = "Added", take = "sum", value = "event.data.n" }
times = { on = "Added", take = "count" }
names = { on = "Named", take = "set", value = "event.data.name" }
recent = { on = "Named", take = "list", keep = 5, value = "event.data" }
lines = { on = "Named", take = "latest", by = "event.data.name", value = "event.data.n", order_by = "event.data.n" }
[entity.order.derived]
is_large = "order.total > 100"
[entity.order.complete]
fields = ["last", "names"]
[entity.order.decision.Large]
when = "order.is_large"
data = { total = "order.total", lines = "order.lines" }
[entity.order.decision.Once]
when = "order.times > 3"
policy = "once"
data = { first = "order.first" }
[entity.order.decision.Named]
data = { names = "order.names", times = "order.times" }
[entity.tally]
key = "event.data.name"
if = "has(event.data.name)"
duplicates = "lenient"
[entity.tally.fields]
times = { on = "Named", take = "count" }
total = { on = "Named", take = "sum", value = "event.data.n" }
"#;

/// Some events come again, some late, some say null.
fn events(random: &mut StdRng, count: usize) -> Vec<Event> {
    let one = |_| {
        let (n, key): (i64, i64) = (random.random_range(-9..40), random.random_range(0..30));
        let id = format!("e{}", random.random_range(0..2000));
        let seed = id.len() as u64 + n.unsigned_abs();
        let name = format!("n{}", seed % 7);
        let mut event = match random.random_range(0..3) {
            0 => event(&id, "Named", &format!(r#"{{"key":"k{key}","name":"{name}","n":{n}}}"#)),
            1 => event(&id, "Named", &format!(r#"{{"key":"k{key}","name":"{name}","n":null}}"#)),
            _ => event(&id, "Added", &format!(r#"{{"key":"k{key}","n":{n}.5}}"#)),
        };
        let nanos = event.time.nanos() + random.random_range(0..5_000_000_000);
        event.time = Timestamp::from_nanos(nanos).unwrap();
        event
    };
    (0..count).map(one).collect()
}

/// If this failed, a machine with more cores would know other things of the same data, or a second recovery than the first.
#[test]
fn any_number_of_shards_comes_to_the_same() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = Folder::new();
        let wiring = |shards| Wiring { shards, live_max: 5, rules: RICH, ..Wiring::default() };
        let mut harness = Harness::start(&folder, wiring(3));
        let events = events(&mut random, 900);
        harness.settle(&events[..300]);
        harness.checkpoint();
        harness.settle(&events[300..600]);
        harness.checkpoint_partly(random.random_range(1..20));
        harness.settle(&events[600..]);
        let live = all_known(&harness, true);
        let decisions: usize = harness.records().iter().map(|(_, record)| record.decisions.len()).sum();
        assert!(live.len() > 30 && decisions > 300, "{} entities, {decisions} decisions", live.len());
        for shards in [1, 4, 1, 4] {
            let left = folder.copy();
            let mut recovered = Harness::start(&left, wiring(shards));
            assert!(recovered.replayed >= 400, "only {} records are above the watermark", recovered.replayed);
            assert!(all_known(&recovered, true) == live, "seed {seed}, {shards} shards");
            let before = recovered.journal.last_lsn();
            assert_eq!(recovered.settle(&events).len(), events.len());
            assert_eq!(recovered.journal.last_lsn(), before, "whatever came before is known");
        }
    }
}
