//! Copying changed states for a checkpoint, in slices, so that no shard is held up for long.

use std::sync::atomic::Ordering;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::entity::{Copy, Entity};
use super::mailbox::post;
use super::supervisor::{Supervisor, Tag};
use crate::journal::Entry;
use crate::model::ids::{EntityKey, IdentityHash, Version};
use crate::store::EntityWrite;

/// A checkpoint's progress in a shard.
#[derive(Default)]
pub(super) struct Copying {
    /// Entities still to be copied.
    left: Vec<EntityKey>,
    slice: Option<Slice>,
}

struct Slice {
    writes: Vec<EntityWrite>,
    /// Copies that actors were asked for and have not made yet.
    awaited: usize,
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

/// Asks for the next slice; it comes back through the writer, once all that is in it is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CopySlice {
    pub entities_max: usize,
}

impl Handler<CopySlice> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: CopySlice, _: &mut Self::Context) {
        let mut slice = Slice { writes: Vec::new(), awaited: 0 };
        let keys = self.copying.left.split_off(self.copying.left.len().saturating_sub(message.entities_max));
        for key in keys {
            if let Some(slot) = self.slots.peek_mut(&key) {
                if slot.closing.is_some() {
                    // Its actor is handing its state over: looked at again in the next slice.
                    self.copying.left.push(key);
                    continue;
                }
                slot.listed = false;
                slot.book_stale = slot.latest > slot.committed.0;
                slot.sent += 1;
                slice.awaited += 1;
                self.outbox.borrow_mut().asked();
                let news = Supervisor::news_for(slot);
                post(&slot.actor, Copy { news });
            } else if let Some(handed) = self.handed.get_mut(&key) {
                handed.listed = false;
                handed.book_stale = false;
                match Entity::decode(key.clone(), &handed.bytes) {
                    Ok(entity) => slice.writes.push(entity.write()),
                    Err(error) => {
                        tracing::error!(entity = %key, %error, "a state in memory cannot be read back; the process ends");
                        std::process::abort();
                    }
                }
            }
        }
        self.copying.slice = Some(slice);
        self.finish_slice();
    }
}

impl Supervisor {
    /// An actor has made its copy.
    pub(super) fn copied(&mut self, write: EntityWrite) {
        if let Some(slice) = &mut self.copying.slice {
            slice.awaited -= 1;
            slice.writes.push(write);
        }
    }

    /// Sends the slice off if all its copies are made.
    pub(super) fn finish_slice(&mut self) {
        if let Some(slice) = self.copying.slice.take_if(|slice| slice.awaited == 0) {
            let is_last = self.copying.left.is_empty();
            let _ = self.writer.append(vec![Entry::Barrier(Tag::Slice {
                shard: self.index(),
                writes: slice.writes,
                is_last,
            })]);
        }
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
