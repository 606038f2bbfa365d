//! New rules over a folder that was used, step by step: in little memory, cut short, and with more identities than a state
//! holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixtures::{RULES, event, order, ruleset, tuning};
use super::{Folder, Harness, Wiring, added};
use crate::actors::Kept;
use crate::model::identities::IDENTITIES_IN_STATE_MAX;
use crate::model::ids::{EntityKey, IdentityHash, Lsn};
use crate::model::state::State;
use crate::model::system::{RULES_KIND, SystemState};
use crate::node::rebuild::{self, Mode, Progress};
use crate::node::recovery::{self, Opened};
use crate::node::replay::{Recovered, replay};
use crate::rules::Ruleset;

/// Orders say how many they had.
fn changed() -> String {
    RULES.replace(
        "total = { on = \"Added\", take = \"sum\", value = \"event.data.n\" }",
        "total = { on = \"*\", take = \"count\" }",
    )
}

const KEYS: usize = 40;
/// One key with more identities than a state holds.
const HOT: usize = 3 * IDENTITIES_IN_STATE_MAX;

fn used() -> Folder {
    let folder = Folder::new();
    let mut harness = Harness::start(&folder, Wiring::default());
    let mut events: Vec<_> = (0..3 * KEYS).map(|n| added(&format!("e{n}"), &format!("k{}", n % KEYS), 60)).collect();
    events.extend((0..HOT).map(|n| added(&format!("hot{n}"), "hot", 1)));
    events.push(event("h", "Heard", r#"{"recent":"r"}"#));
    harness.settle(&events[..KEYS]);
    harness.checkpoint();
    harness.settle(&events[KEYS..]);
    drop(harness);
    folder
}

fn opened(folder: &Folder, rules: &Arc<Ruleset>) -> (Opened, Recovered) {
    let opened = recovery::open(folder.path(), &tuning(), rules).unwrap();
    let recovered = replay(&opened, &std::collections::HashMap::new()).unwrap();
    (opened, recovered)
}

fn rebuilt(folder: &Folder, text: &str, bytes_max: u64) -> Opened {
    let rules = ruleset(text);
    let (mut opened, recovered) = opened(folder, &rules);
    opened.rebuilt_bytes_max = bytes_max;
    let plan = opened.changed.take().expect("the rules changed");
    let progress: Arc<Progress> = Arc::default();
    let opened = rebuild::run(opened, recovered, &plan, &rules, Mode::Rebuild, &progress).unwrap();
    assert!((progress.done() - 1.0).abs() < f64::EPSILON, "{progress:?}");
    opened
}

/// States as they are stored, without when their decisions were made.
fn stored(opened: &Opened) -> BTreeMap<EntityKey, State> {
    let keys = ["order", "tally", "recent"].map(|kind| {
        opened.store.keys(kind, None, "", 1000).unwrap().into_iter().map(move |key| EntityKey::new(kind, key))
    });
    keys.into_iter()
        .flatten()
        .map(|key| {
            let mut state = Kept::load(&opened.store, &key).unwrap().unwrap().entity.state().clone();
            state.now = crate::model::time::Timestamp::default();
            state.ledger.iter_mut().for_each(|entry| entry.time = state.now);
            (key, state)
        })
        .collect()
}

/// If this failed, a journal with more entities than memory holds would come to other states, or to two of one.
#[test]
fn little_memory_takes_longer_and_comes_to_the_same() {
    let folder = used();
    let copies = [u64::MAX, 20_000, 1].map(|bytes_max| (folder.copy(), bytes_max));
    let all = copies.each_ref().map(|(copy, bytes_max)| stored(&rebuilt(copy, &changed(), *bytes_max)));
    assert_eq!(all[0].len(), 2 * (KEYS + 1) + 1);
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    let first = &all[0][&order("k0")];
    assert_eq!(
        first.fields[1].as_ref().and_then(crate::model::state::FieldState::value),
        Some(crate::model::value::Value::Int(3))
    );
    assert_eq!(first.decision("Large", None).unwrap().revision.0, 3, "made, revised, and withdrawn by the rules");
}

/// If this failed, an event would count twice once its identity left the state, or not at all though it never came.
#[test]
fn identities_that_have_rows_are_those_of_the_new_rules() {
    let folder = used();
    let other_ids = changed().replace("[entity.order]\n", "[entity.order]\nid = \"event.id + '!'\"\n");
    let opened = rebuilt(&folder, &other_ids, u64::MAX);
    let has = |id: &str| {
        let id = IdentityHash::of("test", id);
        let state = Kept::load(&opened.store, &order("hot")).unwrap().unwrap();
        let in_state = state.entity.state().identities.get(id).is_some();
        in_state || opened.store.identity(&order("hot"), id).unwrap().is_some()
    };
    for n in 0..HOT {
        assert!(has(&format!("hot{n}!")), "{n}");
        assert!(!has(&format!("hot{n}")), "{n}");
    }
}

/// If this failed, a crash after the journal has what follows and before the store has it would say it again, or lose it.
#[test]
fn what_is_journaled_and_not_stored_is_found_again() {
    let folder = used();
    let before = folder.copy();
    let done = rebuilt(&folder, &changed(), u64::MAX);
    let (expected, last) = (stored(&done), done.journal.last_lsn());
    drop(done);
    // The journal of the end, the store of the beginning.
    std::fs::remove_dir_all(before.path().join("journal")).unwrap();
    let journal = Folder::new();
    for entry in std::fs::read_dir(folder.path().join("journal")).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), journal.path().join(entry.file_name())).unwrap();
    }
    std::fs::rename(journal.path(), before.path().join("journal")).unwrap();
    let again = rebuilt(&before, &changed(), u64::MAX);
    assert_eq!(stored(&again), expected);
    assert_eq!(again.journal.last_lsn(), last.next(), "nothing is said again but that it was done");
    assert_eq!(again.store.watermark().unwrap(), last.next());
    let noted = Kept::load(&again.store, &EntityKey::new(RULES_KIND, "order")).unwrap().unwrap();
    let fingerprint = ruleset(&changed()).get("order").unwrap().fingerprint;
    let Some(SystemState::Rules(known)) = noted.entity.state().system.as_deref() else { panic!("it is noted") };
    assert_eq!(known.fingerprint, fingerprint);
    drop(again);
    let (opened, recovered) = opened(&before, &ruleset(&changed()));
    assert!(opened.changed.is_none() && recovered.records == 0 && last > Lsn::ZERO);
}
