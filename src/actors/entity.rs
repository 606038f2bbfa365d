//! One entity: handles one input at a time, decides, evolves, and says what is to be journaled. Its actor is a shell around
//! it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::aftermath::Aftermath;
use super::kept::{self, Copied};
use super::outbox::{Asker, Handled, Pending};
use crate::journal::RECORD_BYTES_MAX;
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, PayloadHash, Version};
use crate::model::outbox::{Outgoing, Receipt};
use crate::model::record::{Input, Record};
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::{Noted, Ticket};
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::rules::{self, Decided, EntityRules, Outcome, Ruleset, Taken, Verdict};
use crate::store::{Store, StoreError, StoredIdentity};
use crate::telemetry::{About, Reception, Tracer, tell};
use crate::vital;

/// What an entity is given to handle.
pub enum Work {
    Event {
        taken: Box<Taken>,
        ticket: Ticket,
        trace: Option<Arc<Reception>>,
    },
    /// For the system's own entities; `done` hears when it is durable.
    System {
        entity: EntityKey,
        input: Input,
        done: oneshot::Sender<Lsn>,
    },
    /// A rest, a step of an effect; `done` hears what became of it.
    Inside {
        entity: EntityKey,
        input: Input,
        done: Option<oneshot::Sender<Noted>>,
    },
    /// From another entity, or from itself.
    Letter(Box<Outgoing>),
    /// For the supervisor of `sender`: what that has sent has arrived.
    Receipt {
        sender: EntityKey,
        receipt: Box<Receipt>,
    },
    /// It is to be looked at: its time has come, or the process has started.
    Wake(EntityKey),
}

impl Work {
    /// The entity it is for.
    pub fn entity(&self) -> &EntityKey {
        match self {
            Work::Event { taken, .. } => &taken.entity,
            Work::System { entity, .. } | Work::Inside { entity, .. } | Work::Wake(entity) => entity,
            Work::Letter(letter) => &letter.to,
            Work::Receipt { sender, .. } => sender,
        }
    }
}

/// What every entity of a shard needs.
pub struct Surroundings {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub types: std::collections::HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub ruleset: Arc<Ruleset>,
    pub tracer: Tracer,
    pub entity_bytes_max: usize,
    /// [`rules::decide`]; a test's may panic.
    pub decide: fn(&State, Box<Taken>, Option<PayloadHash>, Timestamp) -> Verdict,
    /// What to do when the store cannot be read: the process ends.
    pub fatal: Arc<dyn Fn(StoreError) + Send + Sync>,
}

/// One entity: its state, and all that changes it. The default is one nothing was heard of yet.
#[derive(Default)]
pub struct Entity {
    state: State,
    size: Size,
}

/// What is known of a state's size, identities left out.
enum Size {
    /// It was small enough when it was last worked out; so many bytes were merged since.
    Grown(u32),
    TooLarge(u32),
}

/// Half the size, since there are as many as live entities; what is larger is too large all the same.
fn as_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Default for Size {
    fn default() -> Self {
        Size::Grown(0)
    }
}

impl Entity {
    /// One whose stored form has `bytes`: a large one is measured at its first event, however often it was passivated.
    pub(super) fn loaded(state: State, bytes: usize) -> Self {
        Entity { state, size: Size::Grown(as_u32(bytes)) }
    }

    /// The state's version.
    pub fn version(&self) -> Version {
        self.state.version
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies a journaled record, unless the state has it already; returns whether it did.
    ///
    /// # Errors
    /// The version the state has, if records in between are missing.
    pub fn replay(&mut self, record: &Record) -> Result<bool, Version> {
        if record.version > self.state.version.next() {
            return Err(self.state.version);
        }
        let is_next = record.version == self.state.version.next();
        if is_next {
            rules::evolve(&mut self.state, record);
        }
        Ok(is_next)
    }

    /// Its copy for the store.
    pub fn copy(&self) -> Copied {
        let overflow = self.state.identities.overflow();
        let stored = overflow.map(|seen| (seen.id, StoredIdentity { payload: seen.payload, seen_ms: seen.at_ms }));
        let identities: Vec<_> = stored.collect();
        let state = if identities.is_empty() {
            kept::encode_state(&self.state)
        } else {
            kept::encode_state(&self.state.without_overflow())
        };
        let (version, ended, gaps) = (self.state.version, self.state.ended(), self.state.gaps());
        Copied { version, ended, gaps, wake: kept::wake(&self.state), state, identities }
    }

    /// Drops identities that are rows of the store now.
    pub fn spilled(&mut self, last: IdentityHash) {
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
            (Work::Event { taken, ticket, trace }, Some(metrics)) => {
                let deciding = trace.and_then(|receiving| receiving.decide(&taken.entity));
                self.event(taken, Asker::Sender(ticket), around, metrics, now).traced(deciding)
            }
            (Work::Event { taken, ticket, .. }, None) => {
                let why = format!("entity type `{}` has no rules", taken.entity.kind());
                self.unrecorded(Pending::Refused(ticket, Box::new(Refusal::new(Code::Internal, why))))
            }
            (Work::System { entity, input, done }, _) => self.system(entity, input, done, around, now),
            (work, Some(metrics)) => self.inside(work, around, metrics, now),
            (_, None) => self.unrecorded(Pending::Nothing),
        }
    }

    fn system(
        &mut self,
        entity: EntityKey,
        input: Input,
        done: oneshot::Sender<Lsn>,
        around: &Surroundings,
        now: Timestamp,
    ) -> Handled {
        let Some(record) = rules::decide_system(entity, &self.state, input, now) else {
            return self.unrecorded(Pending::Noted(done));
        };
        if let Input::DeadLetter(letter) = &record.input {
            around.metrics.dead_letters.with_label_values(&[&*letter.reason]).inc();
        }
        let bytes = record.encode();
        self.evolve(&record, bytes, Pending::Noted(done))
    }

    pub(super) fn event(
        &mut self,
        taken: Box<Taken>,
        asker: Asker,
        around: &Surroundings,
        metrics: &TypeMetrics,
        now: Timestamp,
    ) -> Handled {
        let prior = match self.prior(&taken, around, now) {
            Ok(prior) => prior,
            Err(error) => {
                (around.fatal)(error);
                let gone = Refusal::new(Code::Internal, "the store cannot be read; the process ends");
                return self.unrecorded(asker.refused(gone));
            }
        };
        let rules = taken.rules.clone();
        // Told when something goes wrong, which the event itself is not there for any more.
        let (key, event_id) = (taken.entity.clone(), taken.input.event.id.clone());
        let correlation = rules::given_correlation(&taken.input.event);
        match vital::guarded(|| (around.decide)(&self.state, taken, prior, now)) {
            Ok(Verdict::Record(decided)) => {
                // Asked only here: what counted before is a duplicate, however large the entity has become since.
                if let Some(refusal) = self.too_large(around) {
                    metrics.failed.inc();
                    return self.unrecorded(asker.refused(refusal));
                }
                let bytes = decided.record.encode();
                if bytes.len() > RECORD_BYTES_MAX {
                    metrics.failed.inc();
                    let why =
                        format!("its record takes {} bytes, at most {RECORD_BYTES_MAX} are possible", bytes.len());
                    return self.unrecorded(asker.refused(Refusal::new(Code::TooLarge, why)));
                }
                match decided.outcome {
                    Outcome::Merged => metrics.merged.inc(),
                    Outcome::Stale => metrics.stale.inc(),
                }
                self.take(&decided, bytes, asker.counted(), &rules, around, metrics)
            }
            Ok(Verdict::Duplicate) => {
                metrics.duplicate.inc();
                self.unrecorded(asker.duplicate())
            }
            Ok(Verdict::Conflict) => {
                metrics.conflict.inc();
                let why = format!(
                    "{} {:?} counted event {event_id:?} before with another payload (type, subject, data or time)",
                    key.kind(),
                    key.key()
                );
                self.unrecorded(asker.refused(Refusal::new(Code::Conflict, why)))
            }
            Err(why) => {
                metrics.failed.inc();
                let first = if self.state.events == 0 { &event_id } else { &self.state.correlation };
                let about = About { event_id: Some(&event_id), ..About::entity(&key) };
                tell!(error, about.correlated(correlation.as_deref().unwrap_or(first)), "a rule panicked: {why}");
                let refusal = Refusal::new(Code::Internal, format!("a rule of `{}` panicked: {why}", key.kind()));
                self.unrecorded(asker.refused(refusal))
            }
        }
    }

    /// Evolves by what was decided, and counts it.
    pub(super) fn take(
        &mut self,
        decided: &Decided,
        bytes: Vec<u8>,
        pending: Pending,
        rules: &EntityRules,
        around: &Surroundings,
        metrics: &TypeMetrics,
    ) -> Handled {
        let record = &decided.record;
        let before = self.state.gaps();
        let mut handled = self.evolve(record, bytes, pending);
        metrics.gaps_changed(before, self.state.gaps());
        self.count_decisions(record, rules, metrics);
        self.tell_errors(decided, rules, around);
        if let Handled::Recorded { letters, aftermath, .. } = &mut handled
            && (self.state.dealings.is_some() || !record.feedback.is_empty())
        {
            *letters = rules::messages(around.ruleset.server(), &self.state, record);
            *aftermath = Aftermath::of(&record.entity, &self.state, rules);
            if let Some(aftermath) = aftermath.as_mut().filter(|_| !record.effects.is_empty()) {
                aftermath.belongs_to(around.tracer.released(record), &record.effects);
            }
        }
        handled
    }

    /// Counts rules that went wrong; the first time, each is told.
    fn tell_errors(&self, decided: &Decided, rules: &EntityRules, around: &Surroundings) {
        for rule in &decided.errors {
            let counter = around.metrics.rule_errors.with_label_values(&[&*rules.name, rule]);
            if counter.get() == 0 {
                let about = About::record(&decided.record).correlated(&self.state.correlation);
                tell!(warn, about, %rule, "a rule cannot be computed; the entity's `errors` say why. Told once, then counted");
            }
            counter.inc();
        }
    }

    /// Why the entity takes nothing more, if it has grown too large. Worked out only after it grew by a good part; identities
    /// do not count, most of which get rows of their own.
    fn too_large(&mut self, around: &Surroundings) -> Option<Refusal> {
        let bytes_max = around.entity_bytes_max;
        if let Size::Grown(grown) = self.size {
            if grown as usize <= bytes_max / 4 {
                return None;
            }
            let identities = std::mem::take(&mut self.state.identities);
            let bytes = kept::encode_state(&self.state).len();
            self.state.identities = identities;
            // One that is too large takes nothing that would change its size.
            self.size = if bytes > bytes_max { Size::TooLarge(as_u32(bytes)) } else { Size::Grown(0) };
        }
        let Size::TooLarge(bytes) = self.size else { return None };
        let why = format!("the entity has {bytes} bytes, more than limits.entity_bytes_max = {bytes_max}");
        Some(Refusal::new(Code::TooLarge, why))
    }

    fn prior(&self, taken: &Taken, around: &Surroundings, now: Timestamp) -> Result<Option<PayloadHash>, StoreError> {
        if let Some(seen) = self.state.identities.get(taken.identity) {
            return Ok(Some(seen.payload));
        }
        if !self.state.identities.has_spilled() {
            return Ok(None);
        }
        let stored = around.store.identity(&taken.entity, taken.identity)?;
        let lapsed = |seen: &StoredIdentity| {
            let window = taken.rules.dedupe.and_then(|window| i64::try_from(window.as_millis()).ok());
            window.is_some_and(|window| seen.seen_ms < now.max(self.state.now).millis() - window)
        };
        Ok(stored.filter(|seen| !lapsed(seen)).map(|stored| stored.payload))
    }

    fn evolve(&mut self, record: &Record, bytes: Vec<u8>, pending: Pending) -> Handled {
        if let Size::Grown(grown) = &mut self.size {
            *grown = grown.saturating_add(as_u32(bytes.len()));
        }
        // A panic here ends the process, as everywhere on this thread: memory would no longer agree with the journal.
        rules::evolve(&mut self.state, record);
        if record.input.ending().is_some() {
            self.size = Size::default();
        }
        Handled::Recorded {
            version: record.version,
            bytes,
            standing: self.state.standing(),
            exists: self.state.exists(),
            pending,
            letters: Vec::new(),
            aftermath: None,
        }
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
