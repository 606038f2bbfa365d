//! The actor of one key: a thin shell around [`Entity`], which handles one input at a time and puts what comes of it into
//! its shard's outbox.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::outbox::{Handled, Outbox, Pending, Recorded};
use crate::journal::RECORD_BYTES_MAX;
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::codec;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, PayloadHash, Version};
use crate::model::record::{Record, SinkProgress};
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::Ticket;
use crate::model::state::{LsnBook, State};
use crate::model::time::Timestamp;
use crate::rules::{self, Outcome, Taken, Verdict};
use crate::store::{EntityWrite, Store, StoreError, StoredIdentity, StoredRow};
use crate::vital;

/// Format of a stored entity: its state and where its records are.
pub const ENTITY_FORMAT: u8 = 1;

/// What an entity is given to handle.
#[allow(clippy::large_enum_variant)] // nearly all of it is events
pub enum Work {
    Event {
        taken: Taken,
        ticket: Ticket,
    },
    /// For the system's own entities; `done` hears when it is durable.
    Progress {
        entity: EntityKey,
        progress: SinkProgress,
        done: oneshot::Sender<Lsn>,
    },
}

impl Work {
    /// The entity it is for.
    pub fn entity(&self) -> &EntityKey {
        match self {
            Work::Event { taken, .. } => &taken.entity,
            Work::Progress { entity, .. } => entity,
        }
    }
}

/// An entity as it is asked for.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
    pub lsns: LsnBook,
}

/// What every entity of a shard needs.
pub struct Surroundings {
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub types: std::collections::HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub entity_bytes_max: usize,
    /// [`rules::decide`]; a test's may panic.
    pub decide: fn(&State, Taken, Option<PayloadHash>, Timestamp) -> Verdict,
    /// What to do when the store cannot be read: the process ends.
    pub fatal: Arc<dyn Fn(StoreError) + Send + Sync>,
}

/// One entity: its state, and where its records are.
pub struct Entity {
    key: EntityKey,
    state: State,
    lsns: LsnBook,
    /// Bytes merged since the state's size was last worked out.
    grown: usize,
}

impl Entity {
    /// An entity nothing was heard of yet, or one that was loaded.
    pub fn new(key: EntityKey, state: State, lsns: LsnBook) -> Self {
        Entity { key, state, lsns, grown: 0 }
    }

    /// Reads what [`Entity::encode`] made.
    pub fn decode(key: EntityKey, bytes: &[u8]) -> Result<Self, codec::CodecError> {
        let (state, lsns) = codec::decode(ENTITY_FORMAT, bytes)?;
        // A large one is measured at its first event, however often it was passivated.
        Ok(Entity { grown: bytes.len(), ..Self::new(key, state, lsns) })
    }

    /// The stored form, with every identity.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(ENTITY_FORMAT, &(&self.state, &self.lsns))
    }

    /// The state's version.
    pub fn version(&self) -> Version {
        self.state.version
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Applies a journaled record; those the state has already only tell their position.
    ///
    /// # Errors
    /// The version the state has, if records in between are missing.
    pub fn replay(&mut self, record: &Record, lsn: Lsn) -> Result<(), Version> {
        if record.version > self.state.version.next() {
            return Err(self.state.version);
        }
        if record.version == self.state.version.next() {
            rules::evolve(&mut self.state, record);
        }
        self.lsns.note(record.version, lsn, &self.state.ledger);
        Ok(())
    }

    /// Notes where records are in the journal.
    pub fn committed(&mut self, commits: &[(Version, Lsn)]) {
        for (version, lsn) in commits {
            self.lsns.note(*version, *lsn, &self.state.ledger);
        }
    }

    /// The entity's row and the identities that get rows of their own.
    pub fn write(&self) -> EntityWrite {
        let overflow = self.state.identities.overflow();
        let stored = overflow.map(|seen| (seen.id, StoredIdentity { payload: seen.payload, seen_ms: seen.at_ms }));
        let identities: Vec<_> = stored.collect();
        let state = if identities.is_empty() {
            self.encode()
        } else {
            let mut rest = self.state.clone();
            identities.last().inspect(|(last, _)| rest.identities.spill_through(*last));
            codec::encode(ENTITY_FORMAT, &(&rest, &self.lsns))
        };
        let row = StoredRow { version: self.state.version, lsn: self.lsns.last, missing: self.state.missing, state };
        EntityWrite { entity: self.key.clone(), row, identities }
    }

    /// Drops identities that are rows of the store now.
    pub fn spilled(&mut self, last: IdentityHash) {
        self.state.identities.spill_through(last);
    }

    /// Where its last record is.
    pub fn lsn(&self) -> Lsn {
        self.lsns.last
    }

    /// A copy for whoever asks.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.state.clone(), lsns: self.lsns.clone() }
    }

    /// Handles one input: decides, evolves, and says what is to be journaled, or what waits.
    fn handle(&mut self, work: Work, around: &Surroundings, now: Timestamp) -> Handled {
        match work {
            Work::Event { taken, ticket } => self.event(taken, ticket, around, now),
            Work::Progress { progress, done, .. } => {
                let record = rules::decide_progress(self.key.clone(), &self.state, progress, now);
                let bytes = record.encode();
                self.evolve(record, bytes, Pending::Progress(done))
            }
        }
    }

    fn event(&mut self, taken: Taken, ticket: Ticket, around: &Surroundings, now: Timestamp) -> Handled {
        let Some(metrics) = around.types.get(self.key.kind()) else {
            let why = format!("entity type `{}` has no rules", self.key.kind());
            return self.unrecorded(Pending::Refused(ticket, Refusal::new(Code::Internal, why)));
        };
        let prior = match self.prior(&taken, around, now) {
            Ok(prior) => prior,
            Err(error) => {
                (around.fatal)(error);
                let gone = Refusal::new(Code::Internal, "the store cannot be read; the process ends");
                return self.unrecorded(Pending::Refused(ticket, gone));
            }
        };
        let rules = taken.rules.clone();
        let event_id = taken.input.event.id.clone();
        let decided = vital::guarded(|| (around.decide)(&self.state, taken, prior, now));
        match decided {
            Ok(Verdict::Record(decided)) => {
                // Asked only here: what counted before is a duplicate, however large the entity has become since.
                if let Some(refusal) = self.too_large(around) {
                    metrics.failed.inc();
                    return self.unrecorded(Pending::Refused(ticket, refusal));
                }
                let bytes = decided.record.encode();
                if bytes.len() > RECORD_BYTES_MAX {
                    metrics.failed.inc();
                    let why =
                        format!("its record takes {} bytes, at most {RECORD_BYTES_MAX} are possible", bytes.len());
                    return self.unrecorded(Pending::Refused(ticket, Refusal::new(Code::TooLarge, why)));
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
                let handled = self.evolve(decided.record, bytes, Pending::Counted(ticket));
                metrics.missing_changed(before, self.state.missing);
                if is_new {
                    metrics.entities.inc();
                }
                self.count_decisions(&handled, &rules, metrics);
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
                    self.key.kind(), self.key.key()
                );
                self.unrecorded(Pending::Refused(ticket, Refusal::new(Code::Conflict, why)))
            }
            Err(why) => {
                metrics.failed.inc();
                tracing::error!(r#type = %self.key.kind(), key = %self.key.key(), event_id = %event_id, "a rule panicked: {why}");
                let refusal = Refusal::new(Code::Internal, format!("a rule of `{}` panicked: {why}", self.key.kind()));
                self.unrecorded(Pending::Refused(ticket, refusal))
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
        let bytes = self.encode().len();
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

    fn evolve(&mut self, record: Record, bytes: Vec<u8>, pending: Pending) -> Handled {
        self.grown += bytes.len();
        // A panic here ends the process, as everywhere on this thread: memory would no longer agree with the journal.
        rules::evolve(&mut self.state, &record);
        Handled::Recorded(Recorded {
            entity: self.key.clone(),
            version: record.version,
            bytes,
            decisions: record.decisions,
            event_time: match &record.input {
                crate::model::record::Input::Event(input) => Some(input.time()),
                crate::model::record::Input::Progress(_) => None,
            },
            pending,
        })
    }

    fn unrecorded(&self, pending: Pending) -> Handled {
        Handled::Unrecorded { entity: self.key.clone(), version: self.state.version, pending }
    }

    fn count_decisions(&self, handled: &Handled, rules: &rules::EntityRules, metrics: &TypeMetrics) {
        let Handled::Recorded(recorded) = handled else { return };
        for revision in &recorded.decisions {
            let Some(decision) = metrics.decision(&revision.name) else { continue };
            decision.counter(revision.state).inc();
            if let Some(event_time) = recorded.event_time {
                decision.delay.observe(revision.time.since(event_time).as_seconds().max(0.0));
            }
            metrics.completeness.observe(rules::completeness(rules, &self.state));
        }
    }
}

/// The actor.
pub(super) struct EntityActor {
    pub entity: Entity,
    pub around: Rc<Surroundings>,
    pub outbox: Rc<RefCell<Outbox>>,
}

impl Actor for EntityActor {
    type Context = Context<Self>;
}

/// What the supervisor tells along with every message: which records were committed, which identities were stored.
#[derive(Default)]
pub(super) struct News {
    pub commits: Vec<(Version, Lsn)>,
    /// The last of the identities that are rows of the store now.
    pub spilled: Option<IdentityHash>,
}

impl EntityActor {
    fn hear(&mut self, news: &News) {
        self.entity.committed(&news.commits);
        if let Some(last) = news.spilled {
            self.entity.spilled(last);
        }
    }
}

/// A batch's inputs for this entity, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Handle {
    pub work: Vec<Work>,
    pub now: Timestamp,
    pub news: News,
}

impl Handler<Handle> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Handle, _: &mut Self::Context) {
        self.hear(&message.news);
        for work in message.work {
            let handled = self.entity.handle(work, &self.around, message.now);
            self.outbox.borrow_mut().put(handled);
        }
        self.outbox.borrow_mut().answered(&self.entity.key);
    }
}

/// Asks for a snapshot.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Read {
    pub reply: oneshot::Sender<Option<Snapshot>>,
    pub news: News,
}

impl Handler<Read> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Read, _: &mut Self::Context) {
        self.hear(&message.news);
        let pending = Pending::Snapshot(message.reply, Box::new(self.entity.snapshot()));
        let mut outbox = self.outbox.borrow_mut();
        outbox.put(self.entity.unrecorded(pending));
        outbox.answered(&self.entity.key);
    }
}

/// Asks for a copy to be stored.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Copy {
    pub news: News,
}

impl Handler<Copy> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Copy, _: &mut Self::Context) {
        self.hear(&message.news);
        let mut outbox = self.outbox.borrow_mut();
        let book_is_behind = self.entity.lsns.version < self.entity.version();
        outbox.put(Handled::Copied { write: self.entity.write(), book_is_behind });
        outbox.answered(&self.entity.key);
    }
}

/// Ends the actor; it hands over its entity.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop {
    pub news: News,
}

impl Handler<Stop> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Stop, context: &mut Self::Context) {
        self.hear(&message.news);
        let key = self.entity.key.clone();
        let left = Entity::new(key.clone(), State::default(), LsnBook::default());
        let entity = std::mem::replace(&mut self.entity, left);
        self.outbox.borrow_mut().gone(key, entity);
        context.stop();
    }
}
