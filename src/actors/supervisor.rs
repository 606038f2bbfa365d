//! The supervisor of a shard: routes inputs to the actor of their key, hands records to the writer, releases what commits
//! release, keeps the number of live actors within bounds. It is the only sender to its entity actors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::actor::{EntityActor, Handle, Read, Shared};
use super::aftermath::Aftermath;
use super::copying::{Copies, Slice};
use super::entity::{Surroundings, Work};
use super::handed::HandedOver;
use super::kept::{Kept, Snapshot};
use super::mailbox::post;
use super::outbox::{Handled, Outbox, Pending, Released, Take};
use super::releasing::Releasing;
use super::shards::Shards;
use super::slots::{Arrival, Aside, Batches, Slot, SlotId, Slots};
use super::wheel::{Horizon, TURN, Wheel};
use crate::journal::{Entry, JournalWriter};
use crate::model::dealings::Call;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::system::DEAD_LETTER_KIND;
use crate::model::time::Timestamp;
use crate::vital;

/// How often idle actors are looked for.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// What travels through the journal's writer with a record, and comes back with its position.
pub struct Tag {
    pub shard: u16,
    pub record: Recorded,
}

/// A record that is on its way through the journal.
pub struct Recorded {
    slot: SlotId,
    version: Version,
    /// As in [`LsnBook::note`](crate::model::state::LsnBook::note).
    standing: Option<Box<[Version]>>,
    pending: Pending,
    aftermath: Option<Box<Aftermath>>,
}

/// What a supervisor needs to know.
pub struct ShardSetup {
    pub index: u16,
    pub around: Surroundings,
    pub writer: JournalWriter<Tag>,
    /// Where copies for the store go.
    pub slices: Sender<Slice>,
    /// The last committed record.
    pub committed: Lsn,
    pub live_max: usize,
    pub idle: Duration,
    /// What recovery replayed and the store does not have yet.
    pub recovered: HashMap<EntityKey, HandedOver>,
    /// Bytes of states that wait for the store, over all shards.
    pub handed_bytes: Arc<AtomicU64>,
    /// All shards, once they have started.
    pub peers: Arc<OnceLock<Shards>>,
    /// Has calls made that effects ask for; never blocks.
    pub calls: MakeCalls,
    pub horizon: Horizon,
}

/// Has calls made.
pub type MakeCalls = Arc<dyn Fn(Vec<Call>) + Send + Sync>;

/// The actor.
pub struct Supervisor {
    pub(super) index: u16,
    pub(super) shared: Rc<Shared>,
    writer: JournalWriter<Tag>,
    pub(super) slices: Sender<Slice>,
    /// The last record that this shard knows to be committed.
    pub(super) committed: Lsn,
    pub(super) live_max: usize,
    pub(super) idle_ticks: u32,
    pub(super) slots: Slots,
    /// Slots whose actors were told to stop.
    pub(super) closing: usize,
    pub(super) handed: HashMap<EntityKey, HandedOver>,
    pub(super) handed_bytes: Arc<AtomicU64>,
    /// Entities that changed since they were last copied for the store.
    pub(super) changed: Vec<EntityKey>,
    /// Who waits for an entity to change.
    pub(super) watchers: HashMap<EntityKey, Vec<oneshot::Sender<()>>>,
    pub(super) copying: Copies<SlotId>,
    pub(super) tick: u32,
    pub(super) wheel: Wheel,
    pub(super) peers: Arc<OnceLock<Shards>>,
    pub(super) calls: MakeCalls,
    pub(super) releasing: Releasing,
}

impl Supervisor {
    /// Starts a shard on an arbiter.
    pub fn start_on(arbiter: &actix::ArbiterHandle, setup: ShardSetup) -> Addr<Supervisor> {
        Supervisor::start_in_arbiter(arbiter, move |context| Supervisor::new(setup, context.address()))
    }

    fn new(setup: ShardSetup, address: Addr<Supervisor>) -> Self {
        let handed = setup.recovered;
        let handed_bytes = setup.handed_bytes;
        handed_bytes.fetch_add(handed.values().map(HandedOver::memory_bytes).sum(), Ordering::Relaxed);
        let mut wheel = Wheel::new(setup.horizon);
        for (key, handed) in &handed {
            if let Some(wake) = handed.wake {
                wheel.insert(wake, key.clone());
            }
        }
        Supervisor {
            index: setup.index,
            shared: Rc::new(Shared { around: setup.around, outbox: RefCell::new(Outbox::new(address)) }),
            writer: setup.writer,
            slices: setup.slices,
            committed: setup.committed,
            live_max: setup.live_max,
            idle_ticks: u32::try_from(setup.idle.as_secs().div_ceil(TICK.as_secs()).max(1)).unwrap_or(u32::MAX),
            slots: Slots::default(),
            closing: 0,
            changed: handed.keys().cloned().collect(),
            handed,
            handed_bytes,
            watchers: HashMap::new(),
            copying: Copies::default(),
            tick: 0,
            wheel,
            peers: setup.peers,
            calls: setup.calls,
            releasing: Releasing::default(),
        }
    }

    /// An entity that has no actor: handed over, stored, or new; with the version the store has.
    pub(super) fn load(&mut self, key: &EntityKey) -> Option<(Kept, Version)> {
        if let Some(handed) = self.handed.get(key) {
            return Some((handed.kept(key), handed.stored));
        }
        match Kept::load(&self.shared.around.store, key) {
            Ok(Some(kept)) => {
                let version = kept.entity.version();
                Some((kept, version))
            }
            Ok(None) => Some((Kept::default(), Version(0))),
            Err(error) => {
                (self.shared.around.fatal)(error);
                None
            }
        }
    }

    /// Starts the actor of an entity.
    pub(super) fn spawn(&mut self, key: EntityKey, kept: Kept, stored: Version, listed: bool) -> SlotId {
        let Kept { entity, book, outbox } = kept;
        let metrics = self.shared.around.types.get(key.kind()).cloned();
        if let Some(metrics) = &metrics {
            metrics.live.inc();
        }
        let (shared, last_used_tick) = (self.shared.clone(), self.tick);
        let exists = entity.state().exists();
        let id = self.slots.insert(key.clone(), |slot| Slot {
            key,
            latest: entity.version(),
            actor: EntityActor { slot, entity, metrics, shared }.start(),
            sent: 0,
            batch: 0,
            book,
            stored,
            listed,
            exists,
            aside: Aside::with(outbox),
            last_used_tick,
        });
        self.send_letters(id);
        id
    }

    /// The entity's slot; its actor is started if there is none.
    fn slot(&mut self, key: &EntityKey) -> Option<SlotId> {
        if let Some(id) = self.slots.touch(key) {
            return Some(id);
        }
        let (kept, stored) = self.load(key)?;
        let handed = self.handed.remove(key);
        if let Some(handed) = &handed {
            self.handed_bytes.fetch_sub(handed.memory_bytes(), Ordering::Relaxed);
        }
        Some(self.spawn(key.clone(), kept, stored, handed.is_some_and(|handed| handed.listed)))
    }

    /// Puts an input with the others of its entity.
    pub(super) fn sort(&mut self, work: Work, batches: &mut Batches) {
        let work = match work {
            Work::Receipt { sender, receipt } => return self.arrived(&sender, *receipt),
            work => work,
        };
        let Some(id) = self.slot(work.entity()) else { return };
        let tick = self.tick;
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.last_used_tick = tick;
        match slot.aside.closing_mut() {
            Some(queue) => queue.0.push(Arrival::Work(Box::new(work))),
            None => batches.add(id, slot, work),
        }
    }

    /// Sends each entity its inputs.
    pub(super) fn send(&mut self, batches: Batches, now: Timestamp) {
        for (id, work) in batches.into_iter() {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.sent += 1;
                self.shared.outbox.borrow_mut().asked();
                post(&slot.actor, Handle { work, now });
            }
        }
    }

    pub(super) fn read(&mut self, key: &EntityKey, reply: oneshot::Sender<Option<Snapshot>>) {
        if let Some(slot) = self.slots.touch(key).and_then(|id| self.slots.get_mut(id)) {
            if let Some(queue) = slot.aside.closing_mut() {
                queue.0.push(Arrival::Read(reply));
                return;
            }
            slot.sent += 1;
            self.shared.outbox.borrow_mut().asked();
            post(&slot.actor, Read { reply });
            return;
        }
        // Without an actor nothing is under way; and reading starts none.
        if let Some((Kept { entity, book, .. }, _)) = self.load(key) {
            let is_known = entity.version() > Version(0);
            drop(reply.send(is_known.then(|| Snapshot { state: entity.state().clone(), lsns: book })));
        }
    }

    /// What came of a message to the entity of `id`; records go to `entries`.
    fn take(&mut self, id: SlotId, handled: Handled, entries: &mut Vec<Entry<Tag>>, released: &mut Released) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match handled {
            Handled::Recorded { version, bytes, standing, exists, pending, letters, aftermath } => {
                slot.latest = version;
                slot.exists = exists;
                if !slot.listed {
                    slot.listed = true;
                    self.changed.push(slot.key.clone());
                }
                // Sinks are told of dead letters, too.
                let has_decision = standing.is_some() || slot.key.kind() == DEAD_LETTER_KIND;
                let record = Recorded { slot: id, version, standing, pending, aftermath };
                entries.push(Entry { bytes, has_decision, tag: Tag { shard: self.index, record } });
                self.post_letters(id, letters);
            }
            Handled::Unrecorded { version, pending } => slot.hold(id, version, pending, released),
            Handled::Copied(copied) => self.copied(id, *copied),
            Handled::Answered => slot.sent -= 1,
            Handled::Gone(entity) => self.gone(id, *entity),
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        vital::mark();
        context.set_mailbox_capacity(0);
        context.run_interval(TICK, |supervisor, _| supervisor.stop_idle());
        context.run_interval(TURN, |supervisor, _| supervisor.turn());
    }
}

/// Inputs for this shard's entities, in the order they came.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inputs(pub Vec<Work>);

impl Handler<Inputs> for Supervisor {
    type Result = ();

    fn handle(&mut self, Inputs(inputs): Inputs, _: &mut Self::Context) {
        let mut batches = Batches::default();
        for work in inputs {
            self.sort(work, &mut batches);
        }
        self.send(batches, Timestamp::now());
        self.make_room();
    }
}

impl Handler<Take> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Take, context: &mut Self::Context) {
        let handled = self.shared.outbox.borrow_mut().take();
        let (mut entries, mut released) = (Vec::with_capacity(handled.len()), Released::default());
        for (slot, handled) in handled {
            self.take(slot, handled, &mut entries, &mut released);
        }
        self.tell(released, context);
        if !entries.is_empty() {
            // The writer is gone only after an I/O error, and then the process is ending.
            let _ = self.writer.append(entries);
        }
        self.finish_slice();
        self.make_room();
    }
}

/// Records that were committed, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Committed(pub Vec<(Lsn, Recorded)>);

impl Handler<Committed> for Supervisor {
    type Result = ();

    fn handle(&mut self, Committed(records): Committed, context: &mut Self::Context) {
        let mut released = Released::default();
        for (lsn, Recorded { slot: id, version, standing, pending, aftermath }) in records {
            self.committed = self.committed.max(lsn);
            let Some(slot) = self.slots.get_mut(id) else { continue };
            slot.commit(id, version, lsn, standing.as_deref(), &mut released);
            pending.release(id, &slot.book, &mut released);
            released.acts.extend(aftermath.map(|aftermath| (id, aftermath)));
            if !self.watchers.is_empty()
                && let Some(watchers) = self.watchers.remove(&slot.key)
            {
                for watcher in watchers {
                    let _ = watcher.send(());
                }
            }
            self.copying.ripen(&id, &slot.key, &slot.book, slot.aside.outbox());
            if slot.aside.outbox().is_some() {
                self.send_letters(id);
            }
        }
        self.tell(released, context);
        self.finish_slice();
        // What was busy until now may be stopped.
        self.make_room();
    }
}

/// Asks for an entity, also for one whose life has ended; `None` is answered for one that nothing was heard of.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadEntity {
    pub entity: EntityKey,
    pub reply: oneshot::Sender<Option<Snapshot>>,
}

impl Handler<ReadEntity> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ReadEntity, _: &mut Self::Context) {
        self.read(&message.entity, message.reply);
    }
}

/// Asks to be told when the entity next changes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchEntity {
    pub entity: EntityKey,
    pub changed: oneshot::Sender<()>,
}

impl Handler<WatchEntity> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: WatchEntity, _: &mut Self::Context) {
        self.watchers.entry(message.entity).or_default().push(message.changed);
    }
}

/// Asks for keys of a type that the store may not have as they are now, in order, after one, with a prefix.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ListUnsaved {
    pub kind: Arc<str>,
    pub after: Option<String>,
    pub prefix: String,
    pub limit: usize,
    pub reply: oneshot::Sender<Vec<Arc<str>>>,
}

impl Handler<ListUnsaved> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ListUnsaved, _: &mut Self::Context) {
        // One that others wait for, or whose life has ended, may be in the store and come to be there only now.
        let is_wanted = |entity: &EntityKey, stored: Version, latest: Version, exists: bool| {
            exists
                && stored < latest
                && *entity.kind() == *message.kind
                && entity.key().starts_with(&message.prefix)
                && message.after.as_deref().is_none_or(|after| entity.key() > after)
        };
        let live = self.slots.iter().map(|slot| (&slot.key, slot.stored, slot.latest, slot.exists));
        let handed =
            self.handed.iter().map(|(key, handed)| (key, handed.stored, handed.version, handed.gaps.is_some()));
        let wanted =
            live.chain(handed).filter(|(key, stored, latest, exists)| is_wanted(key, *stored, *latest, *exists));
        let mut keys: Vec<Arc<str>> = wanted.map(|(key, ..)| key.key().into()).collect();
        keys.sort_unstable();
        keys.truncate(message.limit);
        drop(message.reply.send(keys));
    }
}
