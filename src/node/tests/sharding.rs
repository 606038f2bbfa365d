//! How many shards there are is nobody's business but this process's.

use super::checkpoints::all_known;
use super::{Folder, Harness, Wiring, added};

/// If this failed, a machine with more cores would know other things of the same data.
#[test]
fn any_number_of_shards_comes_to_the_same() {
    let folder = Folder::new();
    let wiring = |shards| Wiring { shards, live_max: 5, ..Wiring::default() };
    let mut harness = Harness::start(&folder, wiring(3));
    let events: Vec<_> = (0..600_i64).map(|n| added(&format!("e{n}"), &format!("k{}", n * n % 41), n % 30)).collect();
    harness.settle(&events[..300]);
    harness.checkpoint();
    harness.settle(&events[300..500]);
    harness.checkpoint_partly(10);
    harness.settle(&events[500..]);
    let live = all_known(&harness, true);
    for shards in [1, 4] {
        let left = folder.copy();
        let mut recovered = Harness::start(&left, wiring(shards));
        assert!(recovered.replayed >= 600, "two takers, 300 events above the watermark");
        assert!(all_known(&recovered, true) == live, "{shards} shards");
        recovered.settle(&[added("new", "k1", 1)]);
        recovered.checkpoint();
        assert_eq!(recovered.settle(&events).len(), 600);
        assert_eq!(
            recovered.types["order"].merged.get() + recovered.types["order"].stale.get(),
            1,
            "all are duplicates"
        );
    }
}
