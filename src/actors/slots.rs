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
use crate::model::outbox::{Outbox, Outgoing};
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
    /// When it is to be looked at, if that is in the shard's wheel.
    pub wake: Option<Wake>,
    /// What it has to tell others; nothing for most.
    pub outbox: Option<Box<Outbox>>,
    /// What waits for a commit, in order of versions.
    pub waiting: Waiting,
    /// The actor was told to stop; what comes meanwhile waits here.
    pub closing: Option<Box<Queued>>,
    pub last_used_tick: u32,
}

/// What waits for commits; nothing does for most entities at most times, and there are many.
#[derive(Default)]
#[allow(clippy::box_collection)] // a quarter of the size
pub(super) struct Waiting(Option<Box<VecDeque<(Version, Pending)>>>);

impl Waiting {
    fn push(&mut self, version: Version, pending: Pending) {
        self.0.get_or_insert_default().push_back((version, pending));
    }

    /// The first, if it waits for `version` or an earlier one.
    fn pop_until(&mut self, version: Version) -> Option<Pending> {
        let waiting = self.0.as_mut()?;
        let first = waiting.pop_front_if(|(waits_for, _)| *waits_for <= version);
        if waiting.is_empty() {
            self.0 = None;
        }
        first.map(|(_, pending)| pending)
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
        let has_nothing_waiting = self.waiting.0.is_none() && self.outbox.is_none() && self.closing.is_none();
        self.sent == 0 && self.book.version == self.latest && has_nothing_waiting
    }

    /// Holds back what waits for `version`, or releases it at once if that is committed.
    pub(super) fn hold(&mut self, id: SlotId, version: Version, pending: Pending, released: &mut Released) {
        if version <= self.book.version {
            pending.release(id, &self.book, released);
        } else {
            self.waiting.push(version, pending);
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
        while let Some(pending) = self.waiting.pop_until(version) {
            pending.release(id, &self.book, released);
        }
    }

    /// Letters that may be sent now.
    pub(super) fn letters(&mut self) -> Vec<Outgoing> {
        let committed = self.book.version;
        self.outbox.as_mut().map(|outbox| outbox.send(committed)).unwrap_or_default()
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
