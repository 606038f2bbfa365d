//! Copying changed states for a checkpoint, in slices, so that no shard is held up for long.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::actor::{Copy, Spilled};
use super::kept::Copied;
use super::mailbox::post;
use super::slots::{Slot, SlotId};
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

/// A checkpoint's progress in a shard.
#[derive(Default)]
pub(super) struct Copying {
    /// Entities still to be copied.
    left: Vec<EntityKey>,
    /// Whether a slice was asked for and not sent yet.
    is_asked: bool,
    /// Copies that actors were asked for and have not made yet.
    awaited: usize,
    /// Copies that ran ahead of the journal: they are stored once their last record is committed.
    unripe: HashMap<SlotId, Copied>,
    ripe: Vec<EntityWrite>,
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
        self.copying.left.extend(changed);
        let _ = message.reply.send(self.copying.left.len());
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
        self.copying.is_asked = true;
        let keys = self.copying.left.split_off(self.copying.left.len().saturating_sub(message.entities_max));
        for key in keys {
            if let Some(slot) = self.slots.find(&key).and_then(|id| self.slots.get_mut(id)) {
                if slot.closing.is_some() {
                    // Its actor is handing its state over: looked at again in the next slice.
                    self.copying.left.push(key);
                    continue;
                }
                slot.listed = false;
                slot.sent += 1;
                self.copying.awaited += 1;
                self.shared.outbox.borrow_mut().asked();
                post(&slot.actor, Copy);
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.listed = false;
                // What has no actor has nothing uncommitted.
                self.copying.ripe.push(handed.kept(&key).write(key));
            }
        }
        self.finish_slice();
    }
}

impl Copying {
    /// A record of `slot` was committed: a copy of its entity may be ripe. Its book is then that of the copy's last record.
    pub(super) fn ripen(&mut self, slot: &Slot, id: SlotId) {
        if self.unripe.get(&id).is_some_and(|copied| copied.version <= slot.book.version)
            && let Some(copied) = self.unripe.remove(&id)
        {
            self.ripe.push(copied.write(slot.key.clone(), &slot.book));
        }
    }
}

impl Supervisor {
    /// An actor has made its copy. No record after it has gone to the journal yet.
    pub(super) fn copied(&mut self, id: SlotId, copied: Copied) {
        self.copying.awaited -= 1;
        self.copying.unripe.insert(id, copied);
        if let Some(slot) = self.slots.get_mut(id) {
            self.copying.ripen(slot, id);
        }
    }

    /// Sends the slice that was asked for, if its copies are made; the last one once everything is committed.
    pub(super) fn finish_slice(&mut self) {
        let Copying { left, is_asked, awaited, unripe, ripe } = &mut self.copying;
        let is_last = left.is_empty() && unripe.is_empty();
        if !*is_asked || *awaited > 0 || (left.is_empty() && !is_last) {
            return;
        }
        *is_asked = false;
        let writes = std::mem::take(ripe);
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
            if let Some(slot) = self.slots.find(&key).and_then(|id| self.slots.get_mut(id)) {
                slot.stored = version;
                // An actor that is stopping hands over identities that have rows: they are dropped when it is written again.
                if let Some(last) = spilled
                    && slot.closing.is_none()
                {
                    slot.sent += 1;
                    self.shared.outbox.borrow_mut().asked();
                    post(&slot.actor, Spilled(last));
                }
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.stored = version;
                if handed.version == version {
                    self.handed_bytes.fetch_sub(handed.bytes.len() as u64, Ordering::Relaxed);
                    self.handed.remove(&key);
                }
            }
        }
    }
}
