//! What a supervisor keeps of each entity that is in memory, and the order in which they were last used.
//!
//! A slot is found by its entity's key once, when an input comes; from then on whatever belongs to that input carries the
//! slot's id. A slot is only given up when nothing of it is under way, so an id that travels always leads to its slot.

use std::collections::VecDeque;

use actix::Addr;
use lru::LruCache;
use slotmap::SlotMap;

use super::actor::{Batch, EntityActor};
use super::entity::Work;
use super::kept::Snapshot;
use super::outbox::{Pending, Released};
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::outbox::{Outbox, Outgoing, Receipt};
use crate::model::state::LsnBook;
use crate::store::Wake;

slotmap::new_key_type! {
    /// The place of a live entity in its shard.
    pub struct SlotId;
}

/// One live entity.
pub(super) struct Slot {
    pub key: EntityKey,
    pub actor: Addr<EntityActor>,
    /// Messages sent to the actor and not yet taken from the outbox.
    pub sent: u32,
    /// Where among the batches that are being put together its own is; only meant while they are.
    pub batch: u32,
    /// The version of its last record.
    pub latest: Version,
    /// Where its committed records are.
    pub book: LsnBook,
    /// The version that the store has.
    pub stored: Version,
    /// It is listed for the next checkpoint.
    pub listed: bool,
    /// Whether it is there itself, and not only waited for.
    pub exists: bool,
    /// What most entities have nothing of at most times.
    pub aside: Aside,
    pub last_used_tick: u32,
}

/// A place for what few live entities have; there are many of them, so it is made when it is needed.
#[derive(Default)]
pub(super) struct Aside(Option<Box<Few>>);

struct Few {
    /// When it is to be looked at according to the shard's wheel, or [`Wake::NEVER`].
    wake: Wake,
    /// What it has to tell others.
    outbox: Outbox,
    /// The actor was told to stop; what comes meanwhile waits here.
    closing: Option<Queued>,
    /// What waits for commits, in order of versions.
    waiting: VecDeque<(Version, Pending)>,
}

impl Default for Few {
    fn default() -> Self {
        Few { wake: Wake::NEVER, outbox: Outbox::default(), closing: None, waiting: VecDeque::new() }
    }
}

impl Aside {
    fn few(&mut self) -> &mut Few {
        self.0.get_or_insert_default()
    }

    /// Gives up what holds nothing any more.
    fn tidy(&mut self) {
        self.0.take_if(|few| {
            few.wake == Wake::NEVER && few.outbox.is_empty() && few.closing.is_none() && few.waiting.is_empty()
        });
    }

    /// When it is to be looked at according to the shard's wheel, or [`Wake::NEVER`].
    pub fn wake(&self) -> Wake {
        self.0.as_ref().map_or(Wake::NEVER, |few| few.wake)
    }

    pub fn set_wake(&mut self, wake: Wake) {
        if wake != self.wake() {
            self.few().wake = wake;
            self.tidy();
        }
    }

    /// What it has to tell others, if anything.
    pub fn outbox(&self) -> Option<&Outbox> {
        self.0.as_ref().map(|few| &few.outbox).filter(|outbox| !outbox.is_empty())
    }

    pub fn outbox_mut(&mut self) -> Option<&mut Outbox> {
        self.0.as_mut().map(|few| &mut few.outbox).filter(|outbox| !outbox.is_empty())
    }

    /// Adds what it has to tell others.
    pub fn put(&mut self, letters: Vec<Outgoing>) {
        if !letters.is_empty() {
            self.few().outbox.put(letters);
        }
    }

    /// Notes that something has arrived.
    pub fn arrived(&mut self, receipt: Receipt) {
        if let Some(few) = &mut self.0 {
            few.outbox.arrived(receipt);
            self.tidy();
        }
    }

    /// With these letters and nothing else.
    pub fn with(outbox: Outbox) -> Self {
        let mut aside = Aside::default();
        if !outbox.is_empty() {
            aside.few().outbox = outbox;
        }
        aside
    }

    /// The actor is told to stop.
    pub fn close(&mut self) {
        self.few().closing = Some(Queued::default());
    }

    pub fn is_closing(&self) -> bool {
        self.0.as_ref().is_some_and(|few| few.closing.is_some())
    }

    /// What came since the actor was told to stop, if it was.
    pub fn closing_mut(&mut self) -> Option<&mut Queued> {
        self.0.as_mut()?.closing.as_mut()
    }

    /// Holds something back until `version` is committed.
    fn wait(&mut self, version: Version, pending: Pending) {
        self.few().waiting.push_back((version, pending));
    }

    /// The first that waits, if it is for `version` or an earlier one.
    fn pop_until(&mut self, version: Version) -> Option<Pending> {
        let first = self.0.as_mut()?.waiting.pop_front_if(|(waits_for, _)| *waits_for <= version)?;
        self.tidy();
        Some(first.1)
    }

    fn has_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|few| !few.waiting.is_empty())
    }

    /// What came meanwhile.
    pub fn into_queued(self) -> Vec<Arrival> {
        self.0.and_then(|few| few.closing).unwrap_or_default().0
    }
}

/// What arrives while the actor stops, in order.
#[derive(Default)]
pub(super) struct Queued(pub Vec<Arrival>);

pub(super) enum Arrival {
    Work(Box<Work>),
    Read(tokio::sync::oneshot::Sender<Option<Snapshot>>),
}

impl Slot {
    /// Whether the store has everything of it.
    pub(super) fn is_clean(&self) -> bool {
        self.stored == self.latest
    }

    /// Whether nothing of it is under way, so that its actor may be stopped.
    pub(super) fn is_idle(&self) -> bool {
        let has_work = self.aside.has_waiting() || self.aside.outbox().is_some() || self.aside.is_closing();
        self.sent == 0 && self.book.version == self.latest && !has_work
    }

    /// Holds back what waits for `version`, or releases it at once if that is committed.
    pub(super) fn hold(&mut self, id: SlotId, version: Version, pending: Pending, released: &mut Released) {
        if let Pending::Duplicate(_) = pending {
            self.book.count_duplicate();
        }
        if version <= self.book.version {
            pending.release(id, &self.book, released);
        } else {
            self.aside.wait(version, pending);
        }
    }

    /// The record of `version` was committed at `lsn`; `standing` as in [`LsnBook::note`].
    pub(super) fn commit(
        &mut self,
        id: SlotId,
        version: Version,
        lsn: Lsn,
        standing: Option<&[Version]>,
        released: &mut Released,
    ) {
        self.book.note(version, lsn, standing);
        while let Some(pending) = self.aside.pop_until(version) {
            pending.release(id, &self.book, released);
        }
    }

    /// Letters that may be sent now.
    pub(super) fn letters(&mut self) -> Vec<Outgoing> {
        let committed = self.book.version;
        self.aside.outbox_mut().map(|outbox| outbox.send(committed)).unwrap_or_default()
    }
}

/// Live entities.
#[derive(Default)]
pub(super) struct Slots {
    slots: SlotMap<SlotId, Slot>,
    /// Least recently used last.
    by_key: ByKey,
}

struct ByKey(LruCache<EntityKey, SlotId>);

impl Default for ByKey {
    fn default() -> Self {
        ByKey(LruCache::unbounded())
    }
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The entity's slot, which is used now.
    pub(super) fn touch(&mut self, key: &EntityKey) -> Option<SlotId> {
        self.by_key.0.get(key).copied()
    }

    /// The entity's slot; that is not a use of it.
    pub(super) fn find(&self, key: &EntityKey) -> Option<SlotId> {
        self.by_key.0.peek(key).copied()
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// A new slot; `make` is told its id.
    pub(super) fn insert(&mut self, key: EntityKey, make: impl FnOnce(SlotId) -> Slot) -> SlotId {
        let id = self.slots.insert_with_key(make);
        self.by_key.0.put(key, id);
        id
    }

    pub(super) fn remove(&mut self, id: SlotId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        self.by_key.0.pop(&slot.key);
        Some(slot)
    }

    /// The least recently used one, which becomes the most recently used.
    pub(super) fn rotate(&mut self) -> Option<(SlotId, &mut Slot)> {
        let (key, id) = self.by_key.0.peek_lru()?;
        let (key, id) = (key.clone(), *id);
        self.by_key.0.promote(&key);
        Some((id, self.slots.get_mut(id)?))
    }

    /// Those last used before the tick `before`.
    pub(super) fn unused_since(&self, before: u32) -> impl Iterator<Item = (SlotId, &Slot)> {
        let by_age = self.by_key.0.iter().rev().filter_map(|(_, id)| self.slots.get(*id).map(|slot| (*id, slot)));
        by_age.take_while(move |(_, slot)| slot.last_used_tick < before)
    }
}

/// Batches that are being put together, one for each entity that has inputs, in the order of their first ones.
#[derive(Default)]
pub(super) struct Batches(Vec<(SlotId, Batch)>);

impl Batches {
    /// Adds an input for the entity of `slot`.
    pub(super) fn add(&mut self, id: SlotId, slot: &mut Slot, work: Work) {
        match self.0.get_mut(slot.batch as usize) {
            Some((known, batch)) if *known == id => batch.push(work),
            _ => {
                slot.batch = self.0.len() as u32;
                self.0.push((id, Batch::from_iter([work])));
            }
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (SlotId, Batch)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    /// If this failed, every live entity would take more memory, and there are hundreds of thousands.
    #[test]
    fn what_is_kept_of_each_live_entity_is_small() {
        use crate::actors::actor::EntityActor;
        assert!(size_of::<super::Slot>() <= 128, "{}", size_of::<super::Slot>());
        assert!(size_of::<EntityActor>() <= 200, "{}", size_of::<EntityActor>());
    }
}
