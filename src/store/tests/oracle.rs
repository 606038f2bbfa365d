//! Random checkpoints and restarts against a map in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::TypeGauges;

const KINDS: [&str; 3] = ["order", "orders", "$sinks"];
const KEYS: [&str; 6] = ["", "a", "a\0", "ab", "é", "\u{10ffff}"];

/// One entity's next version: which entity, how many versions on, mask, state, identities.
type Step = (usize, usize, u64, u64, Vec<u8>, Vec<u64>);

#[derive(Clone, Debug)]
enum Action {
    Write(Vec<Step>),
    Finish(u64),
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let mask = prop_oneof![Just(0), 0..16_u64, any::<u64>()];
    let state = prop::collection::vec(any::<u8>(), 0..40);
    let step = (0..KINDS.len(), 0..KEYS.len(), 0..3_u64, mask, state, prop::collection::vec(0..20_u64, 0..3));
    let action = prop_oneof![
        6 => prop::collection::vec(step, 0..10).prop_map(Action::Write),
        2 => (0..5_u64).prop_map(Action::Finish),
        1 => Just(Action::Reopen),
    ];
    prop::collection::vec(action, 1..12)
}

/// What the store should hold.
#[derive(Default)]
struct Oracle {
    rows: BTreeMap<EntityKey, StoredRow>,
    identities: BTreeMap<(EntityKey, IdentityHash), StoredIdentity>,
    watermark: u64,
    highest: u64,
}

impl Oracle {
    /// Turns steps into writes, the oracle having them already. A version that stays is written the same again.
    fn writes(&mut self, steps: Vec<Step>) -> Vec<EntityWrite> {
        let mut writes = Vec::new();
        for (kind, key, ahead, missing, state, numbers) in steps {
            let entity = EntityKey::new(KINDS[kind], KEYS[key]);
            let version = self.rows.get(&entity).map_or(1, |row| row.version.0 + ahead);
            let row = match self.rows.get(&entity) {
                Some(same) if same.version.0 == version => same.clone(),
                _ => row(version, missing, &state),
            };
            let identities: Vec<_> = numbers.into_iter().map(identity).collect();
            self.identities.extend(identities.iter().map(|&(id, stored)| ((entity.clone(), id), stored)));
            self.rows.insert(entity.clone(), row.clone());
            writes.push(EntityWrite { entity, row, ended: Version(0), identities });
        }
        writes.reverse(); // the writer puts them in order
        writes
    }

    fn gauges(&self) -> BTreeMap<String, TypeGauges> {
        let mut gauges: BTreeMap<String, TypeGauges> = BTreeMap::new();
        for (entity, row) in &self.rows {
            let gauge = gauges.entry(entity.kind().to_owned()).or_default();
            gauge.entities += 1;
            gauge.missing.resize(64, 0);
            for (bit, count) in gauge.missing.iter_mut().enumerate() {
                *count += row.gaps.unwrap_or_default().missing >> bit & 1;
            }
        }
        gauges
    }

    fn check(&self, store: &Store) {
        for kind in KINDS {
            let expected: Vec<_> = self.rows.keys().filter(|entity| entity.kind() == kind).collect();
            let listed = store.keys(kind, None, "", 100).unwrap();
            assert_eq!(listed, expected.iter().map(|entity| entity.key().into()).collect::<Vec<_>>());
            for key in KEYS {
                let entity = EntityKey::new(kind, key);
                assert_eq!(store.get(&entity).unwrap(), self.rows.get(&entity).cloned());
                for number in 0..20 {
                    let id = identity(number).0;
                    let expected = self.identities.get(&(entity.clone(), id)).copied();
                    assert_eq!(store.identity(&entity, id).unwrap(), expected);
                }
            }
        }
        let mut gauges = store.gauges().unwrap();
        for gauge in gauges.values_mut() {
            gauge.missing.resize(64, 0);
        }
        assert_eq!(gauges, self.gauges());
        assert_eq!(store.watermark().unwrap(), Lsn(self.watermark));
        assert_eq!(store.highest_lsn().unwrap(), Lsn(self.highest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever is written, in whatever order, the store reads as the fold of it.
    #[test]
    fn the_store_is_the_fold_of_its_writes(actions in actions()) {
        let (dir, store) = scratch();
        let mut store = Some(store);
        let mut oracle = Oracle::default();
        for action in actions {
            let open_store = store.take().unwrap_or_else(|| open(dir.path()));
            let mut writer = CheckpointWriter::new(open_store.clone());
            match action {
                Action::Write(steps) => {
                    let writes = oracle.writes(steps);
                    if let Some(highest) = writes.iter().map(|write| write.row.lsn.0).max() {
                        oracle.highest = oracle.highest.max(highest);
                        writer.write(writes, Lsn(highest)).unwrap();
                    }
                }
                Action::Finish(ahead) => {
                    oracle.watermark += ahead;
                    oracle.highest = oracle.highest.max(oracle.watermark);
                    writer.finish(Lsn(oracle.watermark)).unwrap();
                }
                Action::Reopen => continue, // drops this store; the next turn opens it again
            }
            store = Some(open_store);
        }
        oracle.check(&store.unwrap_or_else(|| open(dir.path())));
    }
}
