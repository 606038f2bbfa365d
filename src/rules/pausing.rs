//! Pausing: events of a paused entity count at once, and are applied when it is resumed, in the order they came. What has
//! come to rest then is what would have been without the pause.

use super::admit::Taken;
use super::decide::{Decided, Outcome, Verdict, apply, unknown, without_conclusions};
use super::entity_rules::EntityRules;
use crate::model::ids::{EntityKey, PayloadHash};
use crate::model::record::{Input, Merge};
use crate::model::state::State;
use crate::model::system::SystemState;
use crate::model::time::Timestamp;

/// Decides an event that has to wait: its identity counts, so that duplicates and conflicts are told as always, and nothing
/// else follows.
pub fn hold(state: &State, taken: Box<Taken>, prior: Option<PayloadHash>, now: Timestamp) -> Verdict {
    let now = now.max(state.now);
    let forget_before = match unknown(&taken, state, prior, now) {
        Ok(forget_before) => forget_before,
        Err(known) => return known,
    };
    let Taken { entity, input, .. } = *taken;
    let mut decided = without_conclusions(entity, state, Input::Held(input), now);
    decided.record.forget_before = forget_before;
    decided.outcome = Outcome::Held;
    Verdict::Record(Box::new(decided))
}

/// Decides the event that was held first, as an event that comes now. `merges` is what the rules make of it. `None` while
/// the entity itself is paused, and when it holds nothing.
pub fn release(
    rules: &EntityRules,
    entity: EntityKey,
    state: &State,
    merges: Vec<Merge>,
    now: Timestamp,
) -> Option<Decided> {
    let input = state.pause()?.first()?.clone();
    Some(apply(rules, entity, state, (Input::Released, input, merges), now.max(state.now)))
}

/// Whether a pause or its end, of an entity or of a type, is not known yet.
pub fn is_news(state: &State, input: &Input) -> bool {
    let is_paused = match state.system.as_deref() {
        Some(SystemState::TypePause(pause)) => pause.is_paused,
        _ => state.dealings.as_deref().is_some_and(crate::model::dealings::Dealings::is_paused),
    };
    match input {
        Input::Paused(_) => !is_paused,
        Input::Resumed(_) => is_paused,
        _ => false,
    }
}
