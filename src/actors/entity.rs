//! One entity: handles one input at a time, decides, evolves, and says what is to be journaled. Its actor is a shell around
//! it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::kept::{self, Copied};
use super::outbox::{Handled, Pending};
use crate::journal::RECORD_BYTES_MAX;
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, PayloadHash, Version};
use crate::model::record::{Input, Record};
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::Ticket;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::rules::{self, Outcome, Taken, Verdict};
use crate::store::{Store, StoreError, StoredIdentity};
use crate::vital;

/// What an entity is given to handle.
pub enum Work {
    Event {
        taken: Box<Taken>,
        ticket: Ticket,
    },
    /// For the system's own entities; `done` hears when it is durable.
    System {
        entity: EntityKey,
        input: Input,
        done: oneshot::Sender<Lsn>,
    },
}

impl Work {
    /// The entity it is for.
    pub fn entity(&self) -> &EntityKey {
        match self {
            Work::Event { taken, .. } => &taken.entity,
            Work::System { entity, .. } => entity,
        }
    }
}

/// What every entity of a shard needs.
pub struct Surroundings {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub types: std::collections::HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub entity_bytes_max: usize,
    /// [`rules::decide`]; a test's may panic.
    pub decide: fn(&State, Box<Taken>, Option<PayloadHash>, Timestamp) -> Verdict,
    /// What to do when the store cannot be read: the process ends.
    pub fatal: Arc<dyn Fn(StoreError) + Send + Sync>,
}

/// One entity: its state, and all that changes it.
pub struct Entity {
    key: EntityKey,
    state: State,
    /// Bytes merged since the state's size was last worked out.
    grown: usize,
}

impl Entity {
    /// An entity nothing was heard of yet, or one that was loaded.
    pub fn new(key: EntityKey, state: State) -> Self {
        Entity { key, state, grown: 0 }
    }

    /// One whose stored form has `bytes`: a large one is measured at its first event, however often it was passivated.
    pub(super) fn loaded(key: EntityKey, state: State, bytes: usize) -> Self {
        Entity { key, state, grown: bytes }
    }

    /// Type and key.
    pub fn key(&self) -> &EntityKey {
        &self.key
    }

    /// The state's version.
    pub fn version(&self) -> Version {
        self.state.version
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies a journaled record, unless the state has it already.
    ///
    /// # Errors
    /// The version the state has, if records in between are missing.
    pub(super) fn replay(&mut self, record: &Record) -> Result<(), Version> {
        if record.version > self.state.version.next() {
            return Err(self.state.version);
        }
        if record.version == self.state.version.next() {
            rules::evolve(&mut self.state, record);
        }
        Ok(())
    }

    /// Its copy for the store.
    pub(super) fn copy(&self) -> Copied {
        let overflow = self.state.identities.overflow();
        let stored = overflow.map(|seen| (seen.id, StoredIdentity { payload: seen.payload, seen_ms: seen.at_ms }));
        let identities: Vec<_> = stored.collect();
        let state = match identities.last() {
            None => kept::encode_state(&self.state),
            Some((last, _)) => {
                let mut rest = self.state.clone();
                rest.identities.spill_through(*last);
                kept::encode_state(&rest)
            }
        };
        let State { version, missing, .. } = self.state;
        Copied { entity: self.key.clone(), version, missing, state, identities }
    }

    /// Drops identities that are rows of the store now.
    pub(super) fn spilled(&mut self, last: IdentityHash) {
        self.state.identities.spill_through(last);
    }

    /// Handles one input: decides, evolves, and says what is to be journaled, or what waits.
    pub(super) fn handle(
        &mut self,
        work: Work,
        around: &Surroundings,
        metrics: Option<&TypeMetrics>,
        now: Timestamp,
    ) -> Handled {
        match (work, metrics) {
            (Work::Event { taken, ticket }, Some(metrics)) => self.event(taken, ticket, around, metrics, now),
            (Work::Event { ticket, .. }, None) => {
                let why = format!("entity type `{}` has no rules", self.key.kind());
                self.refused(ticket, Refusal::new(Code::Internal, why))
            }
            (Work::System { input, done, .. }, _) => self.system(input, done, around, now),
        }
    }

    fn system(&mut self, input: Input, done: oneshot::Sender<Lsn>, around: &Surroundings, now: Timestamp) -> Handled {
        let Some(record) = rules::decide_system(self.key.clone(), &self.state, input, now) else {
            return self.unrecorded(Pending::Noted(done));
        };
        if let Input::DeadLetter(letter) = &record.input {
            around.metrics.dead_letters.with_label_values(&[&*letter.reason]).inc();
        }
        let bytes = record.encode();
        self.evolve(&record, bytes, Pending::Noted(done))
    }

    fn event(
        &mut self,
        taken: Box<Taken>,
        ticket: Ticket,
        around: &Surroundings,
        metrics: &TypeMetrics,
        now: Timestamp,
    ) -> Handled {
        let prior = match self.prior(&taken, around, now) {
            Ok(prior) => prior,
            Err(error) => {
                (around.fatal)(error);
                let gone = Refusal::new(Code::Internal, "the store cannot be read; the process ends");
                return self.refused(ticket, gone);
            }
        };
        let rules = taken.rules.clone();
        // Told when something goes wrong, which the event itself is not there for any more.
        let event_id = taken.input.event.id.clone();
        match vital::guarded(|| (around.decide)(&self.state, taken, prior, now)) {
            Ok(Verdict::Record(decided)) => {
                // Asked only here: what counted before is a duplicate, however large the entity has become since.
                if let Some(refusal) = self.too_large(around) {
                    metrics.failed.inc();
                    return self.refused(ticket, refusal);
                }
                let bytes = decided.record.encode();
                if bytes.len() > RECORD_BYTES_MAX {
                    metrics.failed.inc();
                    let why =
                        format!("its record takes {} bytes, at most {RECORD_BYTES_MAX} are possible", bytes.len());
                    return self.refused(ticket, Refusal::new(Code::TooLarge, why));
                }
                match decided.outcome {
                    Outcome::Merged => metrics.merged.inc(),
                    Outcome::Stale => metrics.stale.inc(),
                }
                for rule in &decided.errors {
                    around.metrics.rule_errors.with_label_values(&[&*rules.name, rule]).inc();
                }
                let before = self.state.missing;
                let is_new = self.state.version.0 == 0;
                let handled = self.evolve(&decided.record, bytes, Pending::Counted(ticket));
                metrics.missing_changed(before, self.state.missing);
                if is_new {
                    metrics.entities.inc();
                }
                self.count_decisions(&decided.record, &rules, metrics);
                handled
            }
            Ok(Verdict::Duplicate) => {
                metrics.duplicate.inc();
                self.unrecorded(Pending::Duplicate(ticket))
            }
            Ok(Verdict::Conflict) => {
                metrics.conflict.inc();
                let why = format!(
                    "{} {:?} counted event {event_id:?} before with another payload (type, subject, data or time)",
                    self.key.kind(),
                    self.key.key()
                );
                self.refused(ticket, Refusal::new(Code::Conflict, why))
            }
            Err(why) => {
                metrics.failed.inc();
                tracing::error!(r#type = %self.key.kind(), key = %self.key.key(), event_id = %event_id, "a rule panicked: {why}");
                let refusal = Refusal::new(Code::Internal, format!("a rule of `{}` panicked: {why}", self.key.kind()));
                self.refused(ticket, refusal)
            }
        }
    }

    /// Why the entity takes nothing more, if it has grown too large. Worked out only after it grew by a good part.
    fn too_large(&mut self, around: &Surroundings) -> Option<Refusal> {
        let bytes_max = around.entity_bytes_max;
        if self.grown <= bytes_max / 4 {
            return None;
        }
        self.grown = 0;
        let bytes = kept::encode_state(&self.state).len();
        (bytes > bytes_max).then(|| {
            self.grown = bytes_max;
            let why = format!("the entity has {bytes} bytes, more than limits.entity_bytes_max = {bytes_max}");
            Refusal::new(Code::TooLarge, why)
        })
    }

    fn prior(&self, taken: &Taken, around: &Surroundings, now: Timestamp) -> Result<Option<PayloadHash>, StoreError> {
        if let Some(seen) = self.state.identities.get(taken.identity) {
            return Ok(Some(seen.payload));
        }
        if !self.state.identities.has_spilled() {
            return Ok(None);
        }
        let stored = around.store.identity(&self.key, taken.identity)?;
        let lapsed = |seen: &StoredIdentity| {
            let window = taken.rules.dedupe.and_then(|window| i64::try_from(window.as_millis()).ok());
            window.is_some_and(|window| seen.seen_ms < now.max(self.state.now).millis() - window)
        };
        Ok(stored.filter(|seen| !lapsed(seen)).map(|stored| stored.payload))
    }

    fn evolve(&mut self, record: &Record, bytes: Vec<u8>, pending: Pending) -> Handled {
        self.grown += bytes.len();
        // A panic here ends the process, as everywhere on this thread: memory would no longer agree with the journal.
        rules::evolve(&mut self.state, record);
        Handled::Recorded { version: record.version, bytes, standing: self.state.standing(), pending }
    }

    fn refused(&self, ticket: Ticket, refusal: Refusal) -> Handled {
        self.unrecorded(Pending::Refused(ticket, Box::new(refusal)))
    }

    pub(super) fn unrecorded(&self, pending: Pending) -> Handled {
        Handled::Unrecorded { version: self.state.version, pending }
    }

    fn count_decisions(&self, record: &Record, rules: &rules::EntityRules, metrics: &TypeMetrics) {
        for revision in &record.decisions {
            let Some(decision) = metrics.decision(&revision.name) else { continue };
            decision.counter(revision.state).inc();
            if let Input::Event(input) = &record.input {
                decision.delay.observe(revision.time.since(input.time()).as_seconds().max(0.0));
            }
            metrics.completeness.observe(rules::completeness(rules, &self.state));
        }
    }
}
