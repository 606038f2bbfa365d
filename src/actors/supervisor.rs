//! The supervisor of a shard: routes inputs to the actor of their key, hands records to the writer, releases what commits
//! release, keeps the number of live actors within bounds. It is the only sender to its entity actors.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::copying::{Copies, Slice};
use super::entity::{Entity, EntityActor, Handle, News, Read, Snapshot, Surroundings, Work};
use super::mailbox::post;
use super::outbox::{Handled, Outbox, Pending, Recorded, Take};
use super::slots::{Queued, Slot, Slots};
use crate::journal::{Entry, JournalWriter};
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::state::{LsnBook, State};
use crate::model::time::Timestamp;
use crate::vital;

/// How often idle actors are looked for.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// What travels through the journal's writer with a record, and comes back with its position.
pub struct Tag {
    pub shard: u16,
    pub entity: EntityKey,
    pub version: Version,
    pub pending: Pending,
}

/// An entity without an actor whose state is not, or not whole, in the store yet.
pub struct HandedOver {
    pub version: Version,
    /// The version the store has.
    pub stored: Version,
    pub book_stale: bool,
    /// It is on the list of changed entities.
    pub listed: bool,
    /// [`Entity::encode`]
    pub bytes: Vec<u8>,
}

impl HandedOver {
    /// The entity itself.
    pub(super) fn entity(&self, key: &EntityKey) -> Entity {
        match Entity::decode(key.clone(), &self.bytes) {
            Ok(entity) => entity,
            // It was encoded in this process: memory is damaged.
            Err(error) => {
                tracing::error!(entity = %key, %error, "a state in memory cannot be read back; the process ends");
                std::process::abort();
            }
        }
    }
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
}

/// The actor.
pub struct Supervisor {
    pub(super) index: u16,
    pub(super) around: Rc<Surroundings>,
    pub(super) outbox: Rc<RefCell<Outbox>>,
    writer: JournalWriter<Tag>,
    pub(super) slices: Sender<Slice>,
    /// The last record that this shard knows to be committed.
    pub(super) committed: Lsn,
    pub(super) live_max: usize,
    pub(super) idle_ticks: u64,
    pub(super) slots: Slots,
    /// Slots whose actors were told to stop.
    pub(super) closing: usize,
    pub(super) handed: HashMap<EntityKey, HandedOver>,
    pub(super) handed_bytes: Arc<AtomicU64>,
    /// Entities that changed since they were last copied for the store.
    pub(super) changed: Vec<EntityKey>,
    /// Entities the store has no row of.
    pub(super) unsaved: BTreeSet<EntityKey>,
    /// Who waits for an entity to change.
    pub(super) watchers: HashMap<EntityKey, Vec<oneshot::Sender<()>>>,
    pub(super) copying: Copies,
    pub(super) tick: u64,
}

impl Supervisor {
    /// Starts a shard on an arbiter.
    pub fn start_on(arbiter: &actix::ArbiterHandle, setup: ShardSetup) -> Addr<Supervisor> {
        Supervisor::start_in_arbiter(arbiter, move |context| Supervisor::new(setup, context.address()))
    }

    fn new(setup: ShardSetup, address: Addr<Supervisor>) -> Self {
        let handed = setup.recovered;
        let handed_bytes = setup.handed_bytes;
        handed_bytes.fetch_add(handed.values().map(|handed| handed.bytes.len() as u64).sum(), Ordering::Relaxed);
        let unsaved = handed.iter().filter(|(_, handed)| handed.stored == Version(0)).map(|(key, _)| key.clone());
        Supervisor {
            index: setup.index,
            around: Rc::new(setup.around),
            outbox: Rc::new(RefCell::new(Outbox::new(address))),
            writer: setup.writer,
            slices: setup.slices,
            committed: setup.committed,
            live_max: setup.live_max,
            idle_ticks: setup.idle.as_secs().div_ceil(TICK.as_secs()).max(1),
            slots: Slots::unbounded(),
            closing: 0,
            unsaved: unsaved.collect(),
            changed: handed.keys().cloned().collect(),
            handed,
            handed_bytes,
            watchers: HashMap::new(),
            copying: Copies::default(),
            tick: 0,
        }
    }

    /// An entity that has no actor: handed over, stored, or new.
    pub(super) fn load(&mut self, key: &EntityKey) -> Option<(Entity, Version, bool, bool)> {
        if let Some(handed) = self.handed.get(key) {
            return Some((handed.entity(key), handed.stored, handed.book_stale, handed.listed));
        }
        match super::load_stored(&self.around.store, key) {
            Ok(Some(entity)) => {
                let version = entity.version();
                Some((entity, version, false, false))
            }
            Ok(None) => {
                Some((Entity::new(key.clone(), State::default(), LsnBook::default()), Version(0), false, false))
            }
            Err(error) => {
                (self.around.fatal)(error);
                None
            }
        }
    }

    pub(super) fn spawn(&mut self, key: &EntityKey, entity: Entity, stored: Version) -> &mut Slot {
        let version = entity.version();
        let lsn = entity.lsn();
        let actor = EntityActor { entity, around: self.around.clone(), outbox: self.outbox.clone() }.start();
        if let Some(metrics) = self.around.types.get(&key.kind) {
            metrics.live.inc();
        }
        let slot = Slot::new(actor, version, lsn, stored, self.tick);
        self.slots.get_or_insert_mut(key.clone(), || slot)
    }

    /// The entity's slot; its actor is started if there is none.
    fn slot(&mut self, key: &EntityKey) -> Option<&mut Slot> {
        if !self.slots.contains(key) {
            let (entity, stored, book_stale, listed) = self.load(key)?;
            if let Some(handed) = self.handed.remove(key) {
                self.handed_bytes.fetch_sub(handed.bytes.len() as u64, Ordering::Relaxed);
            }
            let slot = self.spawn(key, entity, stored);
            slot.book_stale = book_stale;
            slot.listed = listed;
        }
        let tick = self.tick;
        let slot = self.slots.get_mut(key)?;
        slot.last_used_tick = tick;
        Some(slot)
    }

    pub(super) fn route(&mut self, key: &EntityKey, mut work: Vec<Work>, now: Timestamp) {
        let outbox = self.outbox.clone();
        let Some(slot) = self.slot(key) else { return };
        if let Some(queue) = &mut slot.closing {
            queue.extend(work.drain(..).map(Queued::Work));
            return;
        }
        slot.sent += 1;
        outbox.borrow_mut().asked();
        let news = std::mem::take(&mut slot.news);
        post(&slot.actor, Handle { work, now, news });
    }

    pub(super) fn read(&mut self, key: &EntityKey, reply: oneshot::Sender<Option<Snapshot>>) {
        if let Some(slot) = self.slots.get_mut(key) {
            if let Some(queue) = &mut slot.closing {
                queue.push(Queued::Read(reply));
                return;
            }
            slot.sent += 1;
            self.outbox.borrow_mut().asked();
            post(&slot.actor, Read { reply, news: std::mem::take(&mut slot.news) });
            return;
        }
        // Without an actor nothing is under way; and reading starts none.
        if let Some((entity, ..)) = self.load(key) {
            let known = entity.version() > Version(0);
            drop(reply.send(known.then(|| entity.snapshot())));
        }
    }

    fn recorded(&mut self, recorded: Recorded, entries: &mut Vec<Entry<Tag>>) {
        let Recorded { entity, version, bytes, decisions, pending, .. } = recorded;
        if version == Version(1) {
            self.unsaved.insert(entity.clone());
        }
        if let Some(slot) = self.slots.peek_mut(&entity) {
            slot.latest = version;
            if !slot.listed {
                slot.listed = true;
                self.changed.push(entity.clone());
            }
        }
        let tag = Tag { shard: self.index, entity, version, pending };
        entries.push(Entry { bytes, has_decision: !decisions.is_empty(), tag });
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        vital::mark();
        context.set_mailbox_capacity(0);
        context.run_interval(TICK, |supervisor, _| supervisor.stop_idle());
    }
}

/// Inputs for this shard's entities, in the order they came.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inputs(pub Vec<Work>);

impl Handler<Inputs> for Supervisor {
    type Result = ();

    fn handle(&mut self, Inputs(inputs): Inputs, _: &mut Self::Context) {
        let now = Timestamp::now();
        // One message for each key, in the order of their first inputs.
        let mut by_key: HashMap<EntityKey, usize> = HashMap::with_capacity(inputs.len());
        let mut batches: Vec<(EntityKey, Vec<Work>)> = Vec::with_capacity(inputs.len());
        for work in inputs {
            let at = *by_key.entry(work.entity().clone()).or_insert_with(|| {
                batches.push((work.entity().clone(), Vec::new()));
                batches.len() - 1
            });
            batches[at].1.push(work);
        }
        for (key, work) in batches {
            self.route(&key, work, now);
        }
        self.make_room();
    }
}

impl Handler<Take> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Take, _: &mut Self::Context) {
        let handled = self.outbox.borrow_mut().take();
        let now = Timestamp::now();
        let mut entries = Vec::with_capacity(handled.len());
        for handled in handled {
            match handled {
                Handled::Recorded(recorded) => self.recorded(recorded, &mut entries),
                Handled::Unrecorded { entity, version, pending } => match self.slots.peek_mut(&entity) {
                    Some(slot) => slot.hold(version, pending),
                    None => pending.release(Lsn::ZERO),
                },
                Handled::Copied { write, book_is_behind } => self.copied(write, book_is_behind),
                Handled::Answered(key) => {
                    if let Some(slot) = self.slots.peek_mut(&key) {
                        slot.sent -= 1;
                    }
                }
                Handled::Gone(key, entity) => self.gone(&key, *entity, now),
            }
        }
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
pub struct Committed(pub Vec<(EntityKey, Version, Lsn, Pending)>);

impl Handler<Committed> for Supervisor {
    type Result = ();

    fn handle(&mut self, Committed(records): Committed, _: &mut Self::Context) {
        for (entity, version, lsn, pending) in records {
            if !self.watchers.is_empty()
                && let Some(watchers) = self.watchers.remove(&entity)
            {
                for watcher in watchers {
                    let _ = watcher.send(());
                }
            }
            pending.release(lsn);
            self.committed = self.committed.max(lsn);
            self.copying.ripen(&entity, version);
            if let Some(slot) = self.slots.peek_mut(&entity) {
                slot.commit(version, lsn);
            }
        }
        self.finish_slice();
        // What was busy until now may be stopped.
        self.make_room();
    }
}

/// Asks for an entity; `None` is answered for one that nothing was heard of.
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

/// Asks for keys of a type that the store does not have yet, in order, after one, with a prefix.
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
        let from = message.after.as_deref().unwrap_or_default().max(&message.prefix);
        let from = EntityKey::new(message.kind.clone(), from);
        let keys = self.unsaved.range(from..).take_while(|entity| {
            entity.kind == message.kind && (entity.key.starts_with(&message.prefix) || *entity.key < *message.prefix)
        });
        let after = message.after.as_deref();
        let keys = keys.filter(|entity| after.is_none_or(|after| &*entity.key > after));
        drop(message.reply.send(keys.take(message.limit).map(|entity| entity.key.clone()).collect()));
    }
}

impl Supervisor {
    /// What the actor has to be told first.
    pub(super) fn news_for(slot: &mut Slot) -> News {
        std::mem::take(&mut slot.news)
    }
}
