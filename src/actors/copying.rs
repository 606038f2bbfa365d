//! Copying changed states for a checkpoint, in slices, so that no shard is held up for long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::Ordering;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::actor::{Copy, Spilled};
use super::kept::Copied;
use super::mailbox::post;
use super::slots::SlotId;
use super::supervisor::Supervisor;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::model::outbox::Outbox;
use crate::model::state::LsnBook;
use crate::store::{EntityWrite, Wake};

/// Copies for the store; every record in them is committed.
pub struct Slice {
    pub shard: u16,
    pub writes: Vec<EntityWrite>,
    /// Nothing is left to copy in this shard.
    pub is_last: bool,
    /// No record in the copies is above this.
    pub committed: Lsn,
}

/// A checkpoint's progress in a shard: which entities are still to be copied, and which copies may be stored. `K` is what
/// tells live entities apart.
pub struct Copies<K> {
    /// Entities still to be copied, the first one at the end.
    left: Vec<EntityKey>,
    /// Whether a slice was asked for and not sent yet.
    is_asked: bool,
    /// Copies that were asked for and are not made yet.
    awaited: usize,
    /// Copies that ran ahead of the journal: they are stored once their last record is committed.
    unripe: HashMap<K, Copied>,
    ripe: Vec<EntityWrite>,
}

impl<K> Default for Copies<K> {
    fn default() -> Self {
        Copies { left: Vec::new(), is_asked: false, awaited: 0, unripe: HashMap::new(), ripe: Vec::new() }
    }
}

impl<K: Eq + Hash> Copies<K> {
    /// A checkpoint begins: `changed` is to be copied, the last one first, with what the last checkpoint has left.
    pub fn begin(&mut self, changed: Vec<EntityKey>) {
        self.left.extend(changed);
    }

    /// The next slice is wanted: these are to be copied now.
    pub fn ask(&mut self, entities_max: usize) -> Vec<EntityKey> {
        self.is_asked = true;
        self.left.split_off(self.left.len().saturating_sub(entities_max))
    }

    /// An entity cannot be copied now: it comes with the next slice.
    pub(super) fn put_off(&mut self, entity: EntityKey) {
        self.left.push(entity);
    }

    /// A copy will be made later; the slice waits for it.
    pub fn wait_for_one(&mut self) {
        self.awaited += 1;
    }

    /// A copy was made that had to be waited for.
    pub fn came(&mut self, id: K, copied: Copied) {
        self.awaited -= 1;
        self.unripe.insert(id, copied);
    }

    /// A copy that has nothing uncommitted was made at once.
    pub(super) fn made(&mut self, write: EntityWrite) {
        self.ripe.push(write);
    }

    /// A copy of a live entity may be ripe: one was made, or a record of it was committed. To be called after each, since
    /// at the commit of the copy's last record, and only then, `book` is the copy's.
    pub fn ripen(&mut self, id: &K, entity: &EntityKey, book: &LsnBook, outbox: Option<&Outbox>) {
        if self.unripe.get(id).is_some_and(|copied| copied.version <= book.version)
            && let Some(copied) = self.unripe.remove(id)
        {
            self.ripe.push(copied.write(entity.clone(), book, outbox));
        }
    }

    /// The slice that was asked for, once its copies are made, and whether it is the last: that one comes when everything
    /// is committed.
    pub fn slice(&mut self) -> Option<(Vec<EntityWrite>, bool)> {
        let is_last = self.left.is_empty() && self.unripe.is_empty();
        if !self.is_asked || self.awaited > 0 || (self.left.is_empty() && !is_last) {
            return None;
        }
        self.is_asked = false;
        Some((std::mem::take(&mut self.ripe), is_last))
    }
}

/// Begins a checkpoint: answers the entities that changed, which are to be given back in the order in which they are wanted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeChanged {
    pub reply: oneshot::Sender<Vec<EntityKey>>,
}

impl Handler<TakeChanged> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: TakeChanged, _: &mut Self::Context) {
        let _ = message.reply.send(std::mem::take(&mut self.changed));
    }
}

/// Tells what is to be copied, the first one at the end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginCopying(pub Vec<EntityKey>);

impl Handler<BeginCopying> for Supervisor {
    type Result = ();

    fn handle(&mut self, BeginCopying(changed): BeginCopying, _: &mut Self::Context) {
        self.copying.begin(changed);
    }
}

/// Asks for the next slice.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CopySlice {
    pub entities_max: usize,
}

impl Handler<CopySlice> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: CopySlice, _: &mut Self::Context) {
        for key in self.copying.ask(message.entities_max) {
            if let Some(slot) = self.slots.find(&key).and_then(|id| self.slots.get_mut(id)) {
                if slot.aside.is_closing() {
                    // Its actor is handing its state over: looked at again in the next slice.
                    self.copying.put_off(key);
                    continue;
                }
                slot.listed = false;
                slot.sent += 1;
                self.copying.wait_for_one();
                self.shared.outbox.borrow_mut().asked();
                post(&slot.actor, Copy);
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.listed = false;
                // What has no actor has nothing uncommitted.
                self.copying.made(handed.write(key));
            }
        }
        self.finish_slice();
    }
}

impl Supervisor {
    /// An actor has made its copy. No record after it has gone to the journal yet.
    pub(super) fn copied(&mut self, id: SlotId, copied: Copied) {
        self.copying.came(id, copied);
        if let Some(slot) = self.slots.get_mut(id) {
            self.copying.ripen(&id, &slot.key, &slot.book, slot.aside.outbox());
        }
    }

    /// Sends the slice that was asked for, if it is there.
    pub(super) fn finish_slice(&mut self) {
        let Some((writes, is_last)) = self.copying.slice() else { return };
        let slice = Slice { shard: self.index, writes, is_last, committed: self.committed };
        // The checkpointer has given up if it does not listen any more; then the process is ending.
        let _ = self.slices.try_send(slice);
    }
}

/// What the store has of an entity now.
#[derive(Debug)]
pub struct StoredCopy {
    pub entity: EntityKey,
    pub version: Version,
    /// Where the record of that version is; positions up to there that did not fit its row have rows of their own.
    pub lsn: Lsn,
    /// The last of its identities that has a row of its own.
    pub spilled: Option<IdentityHash>,
}

impl StoredCopy {
    /// What a write that was made tells.
    pub fn of(write: &EntityWrite) -> Self {
        let spilled = write.identities.last().map(|(id, _)| *id);
        StoredCopy { entity: write.entity.clone(), version: write.row.version, lsn: write.row.lsn, spilled }
    }
}

/// Tells that copies are stored.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stored(pub Vec<StoredCopy>);

impl Handler<Stored> for Supervisor {
    type Result = ();

    fn handle(&mut self, Stored(rows): Stored, _: &mut Self::Context) {
        for StoredCopy { entity: key, version, lsn, spilled } in rows {
            if let Some(slot) = self.slots.find(&key).and_then(|id| self.slots.get_mut(id)) {
                slot.stored = version;
                slot.book.spill_through(lsn);
                let wake = slot.aside.wake();
                // The store tells of one that is paused at the start, and not when its deadlines are due.
                let is_told = !self.releasing.knows(&key);
                if is_told && slot.latest == version && wake != Wake::NEVER && self.wheel.forget_stored(wake, &key) {
                    slot.aside.set_wake(Wake::NEVER);
                }
                // An actor that is stopping hands over identities that have rows: they are dropped when it is written again.
                if let Some(last) = spilled
                    && !slot.aside.is_closing()
                {
                    slot.sent += 1;
                    self.shared.outbox.borrow_mut().asked();
                    post(&slot.actor, Spilled(last));
                }
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.stored = version;
                if handed.version == version {
                    if let Some(wake) = handed.wake {
                        self.wheel.forget_stored(wake, &key);
                    }
                    self.handed_bytes.fetch_sub(handed.memory_bytes(), Ordering::Relaxed);
                    self.handed.remove(&key);
                }
            }
        }
    }
}
