//! The end of an entity's life: when it expires, and what is recorded when it does or is to be forgotten.

use std::time::Duration;

use super::decide::{Decided, Outcome};
use super::entity_rules::{EntityRules, ExpireRules};
use crate::model::dealings::{DeadlineTimes, Dealings};
use crate::model::ids::Version;
use crate::model::life::{EXPIRE, Ending};
use crate::model::record::{DeadlineSet, DecisionState, Input, Record, ReferenceSet};
use crate::model::state::State;
use crate::model::time::Timestamp;

/// An entity may be kept longer by this part of the time, so that most events leave the time as it is.
const GRAINS: i128 = 128;

/// Puts into `record` when the entity expires, if that has changed.
pub(super) fn note(expire: &ExpireRules, state: &State, dealings: &Dealings, record: &mut Record) {
    let at = match &expire.decision {
        None if record.input.event().is_some() || begins_to_expire(dealings, record) => {
            Some(after_last(record.now, expire.after))
        }
        None => return,
        Some(decision) => stands_since(decision, state, record).map(|time| time.after(expire.after)),
    };
    if at != dealings.deadline(EXPIRE).map(|known| known.times.at) {
        let to = at.map(|at| DeadlineTimes { at, due: at, has_passed: false });
        record.deadlines.push(DeadlineSet { name: EXPIRE.into(), to });
    }
}

/// Whether rules have come by which the entity expires, and did not before.
fn begins_to_expire(dealings: &Dealings, record: &Record) -> bool {
    matches!(record.input, Input::Rules { .. }) && dealings.deadline(EXPIRE).is_none()
}

/// The end of the grain in which the time after `now` is over.
fn after_last(now: Timestamp, after: Duration) -> Timestamp {
    let exact = now.after(after);
    let grain = i128::try_from(after.as_nanos()).unwrap_or(i128::MAX) / GRAINS;
    let over = exact.nanos().checked_rem_euclid(grain).filter(|over| *over > 0);
    over.and_then(|over| Timestamp::from_nanos(exact.nanos() - over + grain)).unwrap_or(exact)
}

/// When a decision was last made or revised, if it stands after the record; of one for each element, the latest.
fn stands_since(decision: &str, state: &State, record: &Record) -> Option<Timestamp> {
    let made = record.decisions.iter().filter(|it| &*it.name == decision && it.state != DecisionState::Withdrawn);
    let is_replaced =
        |element: &Option<Box<str>>| record.decisions.iter().any(|it| &*it.name == decision && it.element == *element);
    let ledger = state.ledger.iter().filter(|it| &*it.name == decision && it.state != DecisionState::Withdrawn);
    let kept = ledger.filter(|it| !is_replaced(&it.element));
    made.map(|it| it.time).chain(kept.map(|it| it.time)).max()
}

/// What follows when an entity's life ends with the input of `record`: it refers to nobody any more. None if it does not end,
/// since it is there longer, or not at all.
pub(super) fn end(rules: &EntityRules, state: &State, mut record: Record) -> Option<Decided> {
    let dealings = state.dealings.as_deref();
    let ends = match &record.input {
        Input::Due { name, at } => {
            let expire = dealings.and_then(|dealings| dealings.deadline(name)).filter(|_| state.pause().is_none());
            // What is held is still to come, and one that is paused waits for somebody.
            expire.is_some_and(|expire| expire.times.at == *at)
        }
        // Also one that has expired, or whose events rules have given to others since: its records hold them.
        _ => state.version > Version(0) && state.end().is_none_or(|end| end.how != Ending::Forgotten),
    };
    if !ends {
        return None;
    }
    record.missing = 0;
    for view in dealings.iter().flat_map(|dealings| &dealings.views) {
        let Some(rules) = rules.references.iter().find(|it| it.name == view.reference) else { continue };
        record.references.push(ReferenceSet {
            reference: view.reference.clone(),
            place: view.place,
            kind: (&*rules.kind).into(),
            from: Some(view.to.clone()),
            to: None,
        });
    }
    Some(Decided { record, outcome: Outcome::Merged, errors: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, an entity would be given up too early, or each of its events would move the time.
    #[test]
    fn the_time_is_not_before_and_hardly_after() {
        let at = |millis: i128| Timestamp::from_nanos(millis * 1_000_000).unwrap();
        let after = Duration::from_secs(128);
        for (now, expected) in [(0, 128_000), (1, 129_000), (999, 129_000), (1000, 129_000), (1001, 130_000)] {
            assert_eq!(after_last(at(now), after), at(expected), "at {now} ms");
        }
        assert_eq!(after_last(at(5), Duration::from_nanos(1)), at(5).after(Duration::from_nanos(1)));
    }
}
