//! Copying changed states for a checkpoint, in slices, so that no shard is held up for long.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::entity::Copy;
use super::mailbox::post;
use super::supervisor::Supervisor;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::store::EntityWrite;

/// Copies for the store; every record in them is committed.
pub struct Slice {
    pub shard: u16,
    pub writes: Vec<EntityWrite>,
    /// Nothing is left to copy in this shard.
    pub is_last: bool,
    /// No record in the copies is above this.
    pub committed: Lsn,
}

/// A checkpoint's progress in a shard: which entities are still to be copied, and which copies may be stored.
#[derive(Default)]
pub struct Copies {
    /// Entities still to be copied.
    left: Vec<EntityKey>,
    /// Whether a slice was asked for and not sent yet.
    is_asked: bool,
    /// Copies that actors were asked for and have not made yet.
    awaited: usize,
    /// Copies that ran ahead of the journal: they are stored once their last record is committed.
    unripe: HashMap<EntityKey, EntityWrite>,
    ripe: Vec<EntityWrite>,
}

impl Copies {
    /// A checkpoint begins: `changed` is to be copied, with what the last one has left. Returns how much that is.
    pub fn begin(&mut self, changed: Vec<EntityKey>) -> usize {
        self.left.extend(changed);
        self.left.len()
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
    pub(super) fn wait_for_one(&mut self) {
        self.awaited += 1;
    }

    /// A copy was made that had to be waited for.
    pub(super) fn came(&mut self) {
        self.awaited -= 1;
    }

    /// A copy; it is stored once the journal has its last record.
    pub fn made(&mut self, write: EntityWrite, committed: Version) {
        if write.row.version <= committed {
            self.ripe.push(write);
        } else {
            self.unripe.insert(write.entity.clone(), write);
        }
    }

    /// A record was committed: a copy of its entity may be ripe.
    pub fn ripen(&mut self, entity: &EntityKey, version: Version) {
        if self.unripe.get(entity).is_some_and(|write| write.row.version <= version) {
            self.ripe.extend(self.unripe.remove(entity));
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

/// Begins a checkpoint: all entities that changed are to be copied. Answers how many.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BeginCopying {
    pub reply: oneshot::Sender<usize>,
}

impl Handler<BeginCopying> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: BeginCopying, _: &mut Self::Context) {
        let changed = std::mem::take(&mut self.changed);
        let _ = message.reply.send(self.copying.begin(changed));
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
            if let Some(slot) = self.slots.peek_mut(&key) {
                if slot.closing.is_some() {
                    // Its actor is handing its state over: looked at again in the next slice.
                    self.copying.put_off(key);
                    continue;
                }
                slot.listed = false;
                slot.sent += 1;
                self.copying.wait_for_one();
                self.outbox.borrow_mut().asked();
                let news = Supervisor::news_for(slot);
                post(&slot.actor, Copy { news });
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.listed = false;
                handed.book_stale = false;
                // What has no actor has nothing uncommitted.
                self.copying.made(handed.entity(&key).write(), handed.version);
            }
        }
        self.finish_slice();
    }
}

impl Supervisor {
    /// An actor has made its copy. One whose book is behind, since records in it were not committed yet, must be followed
    /// by another, or their positions would be missing for ever.
    pub(super) fn copied(&mut self, write: EntityWrite, book_is_behind: bool) {
        self.copying.came();
        if let Some(slot) = self.slots.peek_mut(&write.entity) {
            slot.book_stale = book_is_behind;
            if book_is_behind && !slot.listed {
                slot.listed = true;
                self.changed.push(write.entity.clone());
            }
        }
        let committed = self.slots.peek(&write.entity).map_or(write.row.version, |slot| slot.committed.0);
        self.copying.made(write, committed);
    }

    /// Sends the slice that was asked for, if it is there.
    pub(super) fn finish_slice(&mut self) {
        let Some((writes, is_last)) = self.copying.slice() else { return };
        let slice = Slice { shard: self.index, writes, is_last, committed: self.committed };
        // The checkpointer has given up if it does not listen any more; then the process is ending.
        let _ = self.slices.try_send(slice);
    }
}

/// Tells that copies are stored: the version each has there, and the last of its identities that has a row of its own.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stored(pub Vec<(EntityKey, Version, Option<IdentityHash>)>);

impl Handler<Stored> for Supervisor {
    type Result = ();

    fn handle(&mut self, Stored(rows): Stored, _: &mut Self::Context) {
        for (key, version, spilled) in rows {
            self.unsaved.remove(&key);
            if let Some(slot) = self.slots.peek_mut(&key) {
                slot.stored = version;
                slot.news.spilled = spilled.or(slot.news.spilled);
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.stored = version;
                if handed.version == version && !handed.book_stale {
                    self.handed_bytes.fetch_sub(handed.bytes.len() as u64, Ordering::Relaxed);
                    self.handed.remove(&key);
                }
            }
        }
    }
}
