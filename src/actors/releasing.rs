//! Releasing what paused entities hold, once they are resumed: a slice of an entity's events at a time, the next one when it
//! is committed, and only so many entities at once. Goes on by itself; after a crash those that hold events are looked at
//! again at the start.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::aftermath::Aftermath;
use super::entity::{Entity, Surroundings, Work};
use super::outbox::{Handled, Pending};
use super::slots::Batches;
use super::supervisor::Supervisor;
use crate::journal::RECORD_BYTES_MAX;
use crate::metrics::TypeMetrics;
use crate::model::ids::EntityKey;
use crate::model::record::{EventInput, Input, Merge};
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::rules::{self, Outcome, Ruleset};
use crate::vital;

/// So many events of an entity are released before what follows from them is committed.
const SLICE_EVENTS: u32 = 32;
/// So many entities of a shard are released at a time.
const RELEASING_MAX: usize = 64;

/// An entity that is paused, or holds events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is paused itself, and not only its type.
    pub by_hand: bool,
    pub held: u32,
}

impl Standing {
    /// How it stands with an entity; none for one that is not concerned.
    pub(super) fn of(state: &State) -> Option<Standing> {
        let pause = state.pause()?;
        let held = u32::try_from(pause.held.len()).unwrap_or(u32::MAX);
        Some(Standing { by_hand: pause.by_hand.is_some(), held })
    }
}

impl Entity {
    /// Applies the event that was held first, unless it is still to be held. The end of a slice is told in any case.
    pub(super) fn release(
        &mut self,
        (key, is_last): (EntityKey, bool),
        around: &Surroundings,
        metrics: &TypeMetrics,
        now: Timestamp,
    ) -> Handled {
        let rules = around.ruleset.get(key.kind()).cloned().filter(|_| !around.pauses.is_paused(key.kind()));
        let first = self.state().pause().and_then(|pause| pause.first()).cloned();
        let (Some(rules), Some(input)) = (rules, first) else { return self.released_nothing(&key, around, is_last) };
        let merges = merges_now(&around.ruleset, &key, &input).unwrap_or_else(|why| {
            around.metrics.rule_errors.with_label_values(&[key.kind(), &*input.event.kind]).inc();
            tracing::error!(
                r#type = %key.kind(), key = %key.key(), event_id = %input.event.id,
                "an event that was held does not fit the rules any more; it counts, and changes nothing: {why}"
            );
            Vec::new()
        });
        let decided = vital::guarded(|| rules::release(&rules, key.clone(), self.state(), merges, now));
        let without = || rules::without_conclusions(key.clone(), self.state(), Input::Released(input.clone()), now);
        let mut decided = match decided {
            Ok(Some(decided)) => decided,
            Ok(None) => return self.released_nothing(&key, around, is_last),
            Err(why) => {
                tracing::error!(r#type = %key.kind(), key = %key.key(), "a rule panicked on an event that was held: {why}");
                around.metrics.rule_errors.with_label_values(&[key.kind(), "panic"]).inc();
                without()
            }
        };
        let mut bytes = decided.record.encode();
        if bytes.len() > RECORD_BYTES_MAX {
            tracing::error!(
                r#type = %key.kind(), key = %key.key(), event_id = %input.event.id,
                "what follows from an event that was held takes {} bytes, at most {RECORD_BYTES_MAX} are possible; it is left out",
                bytes.len()
            );
            around.metrics.rule_errors.with_label_values(&[key.kind(), "too_large"]).inc();
            decided = without();
            bytes = decided.record.encode();
        }
        match decided.outcome {
            Outcome::Merged => metrics.merged.inc(),
            Outcome::Stale | Outcome::Held => metrics.stale.inc(),
        }
        let mut handled = self.take(&decided, bytes, Pending::Nothing, &rules, around, metrics);
        if self.state().pause().is_none() {
            self.measure_again();
        }
        if let Handled::Recorded { aftermath, .. } = &mut handled {
            aftermath.get_or_insert_default().slice_ended = is_last;
        }
        handled
    }

    fn released_nothing(&self, key: &EntityKey, around: &Surroundings, is_last: bool) -> Handled {
        let rules = around.ruleset.get(key.kind()).filter(|_| is_last);
        self.unrecorded(rules.map_or(Pending::Nothing, |rules| {
            let mut aftermath = Aftermath::of(key, self.state(), rules).unwrap_or_default();
            aftermath.slice_ended = true;
            Pending::Act(aftermath)
        }))
    }
}

/// What the rules make of an event that was admitted before; nothing if they do not take it any more.
fn merges_now(ruleset: &Ruleset, key: &EntityKey, input: &EventInput) -> Result<Vec<Merge>, String> {
    let taken = ruleset.take_again(key.kind(), key, input, &input.event.unpack()).map_err(|refusal| refusal.message)?;
    // New rules may make it one of another key, which has it then.
    Ok(taken.filter(|taken| taken.entity == *key).map_or(Vec::new(), |taken| taken.merges))
}

/// What a shard knows of pauses.
#[derive(Default)]
pub(super) struct Releasing {
    /// Every entity that is paused itself or holds events.
    standing: BTreeMap<EntityKey, Standing>,
    /// By type, those of them that are released as soon as their type is not paused.
    waiting: HashMap<Box<str>, BTreeSet<EntityKey>>,
    /// Those whose slice is under way.
    under_way: HashSet<EntityKey>,
}

impl Releasing {
    pub(super) fn knows(&self, key: &EntityKey) -> bool {
        self.standing.contains_key(key)
    }

    /// Notes how it stands with an entity; returns how it stood before.
    fn note(&mut self, key: &EntityKey, now: Option<Standing>, slice_ended: bool) -> Option<Standing> {
        if slice_ended {
            self.under_way.remove(key);
        }
        let is_waiting = now.is_some_and(|it| !it.by_hand && it.held > 0) && !self.under_way.contains(key);
        match self.waiting.get_mut(key.kind()) {
            Some(waiting) if is_waiting => drop(waiting.insert(key.clone())),
            Some(waiting) => drop(waiting.remove(key)),
            None if is_waiting => drop(self.waiting.insert(key.kind().into(), [key.clone()].into())),
            None => {}
        }
        match now {
            Some(now) => self.standing.insert(key.clone(), now),
            None => self.standing.remove(key),
        }
    }

    /// The next entity to release, with how many events it holds.
    fn next(&mut self, is_paused: impl Fn(&str) -> bool) -> Option<(EntityKey, u32)> {
        if self.under_way.len() >= RELEASING_MAX {
            return None;
        }
        let key =
            self.waiting.iter_mut().filter(|(kind, _)| !is_paused(kind)).find_map(|(_, keys)| keys.pop_first())?;
        self.under_way.insert(key.clone());
        let held = self.standing.get(&key).map_or(0, |it| it.held);
        Some((key, held))
    }

    fn list(&self, kind: Option<&str>, after: Option<&EntityKey>, limit: usize) -> Vec<(EntityKey, Standing)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all =
            self.standing.range((from, Bound::Unbounded)).filter(|(key, _)| kind.is_none_or(|it| it == key.kind()));
        all.take(limit).map(|(key, it)| (key.clone(), *it)).collect()
    }
}

impl Supervisor {
    /// Notes how it stands with an entity after a commit.
    pub(super) fn note_pause(&mut self, key: &EntityKey, now: Option<Standing>, slice_ended: bool) {
        if now.is_none() && !slice_ended && !self.releasing.knows(key) {
            return;
        }
        let before = self.releasing.note(key, now, slice_ended);
        if let Some(metrics) = self.shared.around.types.get(key.kind()) {
            let paused = |it: Option<Standing>| i64::from(it.is_some_and(|it| it.by_hand));
            let held = |it: Option<Standing>| i64::from(it.map_or(0, |it| it.held));
            metrics.paused.add(paused(now) - paused(before));
            metrics.held.add(held(now) - held(before));
        }
        self.release_waiting();
    }

    /// Begins to release entities that may be, as many as are possible at a time.
    pub(super) fn release_waiting(&mut self) {
        if self.wheel.is_stopped() {
            return;
        }
        let shared = self.shared.clone();
        let mut batches = Batches::default();
        while let Some((entity, held)) = self.releasing.next(|kind| shared.around.pauses.is_paused(kind)) {
            let events = held.clamp(1, SLICE_EVENTS);
            for nth in 1..=events {
                self.sort(Work::Release { entity: entity.clone(), is_last: nth == events }, &mut batches);
            }
        }
        self.send(batches, Timestamp::now());
    }
}

/// Asks for entities that are paused or hold events, in order, after one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListPaused {
    pub kind: Option<String>,
    pub after: Option<EntityKey>,
    pub limit: usize,
    pub reply: oneshot::Sender<Vec<(EntityKey, Standing)>>,
}

impl Handler<ListPaused> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ListPaused, _: &mut Self::Context) {
        let ListPaused { kind, after, limit, reply } = message;
        drop(reply.send(self.releasing.list(kind.as_deref(), after.as_ref(), limit)));
    }
}
