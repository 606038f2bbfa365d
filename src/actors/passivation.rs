//! Passivation: actors that are not needed are stopped, without losing what comes for them meanwhile.
//!
//! Only an actor with nothing under way is stopped. It is marked as closing before it is told, so that nothing is sent
//! behind the word to stop; what comes until it has handed over its entity waits in its slot.

use std::sync::atomic::Ordering;

use super::entity::{Entity, Stop};
use super::mailbox::post;
use super::slots::{Queued, Slot};
use super::supervisor::{HandedOver, Supervisor};
use crate::model::ids::EntityKey;
use crate::model::time::Timestamp;

/// So many busy actors are passed over, each time, in the search for some that can be stopped.
const BUSY_PASSED_MAX: usize = 8;

impl Supervisor {
    /// Stops the least recently used actors while there are too many.
    pub(super) fn make_room(&mut self) {
        let mut surplus = self.slots.len().saturating_sub(self.live_max + self.closing);
        let mut passed = 0;
        while surplus > 0 && passed < BUSY_PASSED_MAX {
            let Some((key, slot)) = self.slots.peek_lru() else { return };
            let (key, idle) = (key.clone(), slot.is_idle());
            // Looked at: it goes to the other end, closing or busy.
            self.slots.promote(&key);
            if idle {
                self.stop(&key);
                surplus -= 1;
            } else {
                passed += 1;
            }
        }
    }

    /// Stops actors that were not used for long, and forgets watchers that have gone.
    pub(super) fn stop_idle(&mut self) {
        self.tick += 1;
        let Some(before) = self.tick.checked_sub(self.idle_ticks) else { return };
        let idle = self.slots.iter().rev().take_while(|(_, slot)| slot.last_used_tick < before);
        let idle: Vec<EntityKey> = idle.filter(|(_, slot)| slot.is_idle()).map(|(key, _)| key.clone()).collect();
        for key in idle {
            self.stop(&key);
        }
        self.watchers.retain(|_, waiting| {
            waiting.retain(|watcher| !watcher.is_closed());
            !waiting.is_empty()
        });
    }

    fn stop(&mut self, key: &EntityKey) {
        let Some(slot) = self.slots.peek_mut(key) else { return };
        slot.closing = Some(Vec::new());
        self.closing += 1;
        self.outbox.borrow_mut().asked();
        post(&slot.actor, Stop { news: std::mem::take(&mut slot.news) });
    }

    /// An actor has ended and handed over its entity.
    pub(super) fn gone(&mut self, key: &EntityKey, mut entity: Entity, now: Timestamp) {
        let Some(slot) = self.slots.pop(key) else { return };
        self.closing -= 1;
        if let Some(metrics) = self.around.types.get(key.kind()) {
            metrics.live.dec();
        }
        let clean = slot.is_clean();
        let Slot { stored, book_stale, listed, closing, news, .. } = slot;
        if let Some(last) = news.spilled {
            entity.spilled(last);
        }
        let queue = closing.unwrap_or_default();
        if queue.is_empty() {
            if !clean {
                let handed =
                    HandedOver { version: entity.version(), stored, book_stale, listed, bytes: entity.encode() };
                self.handed_bytes.fetch_add(handed.bytes.len() as u64, Ordering::Relaxed);
                self.handed.insert(key.clone(), handed);
            }
            return;
        }
        let slot = self.spawn(key, entity, stored);
        slot.book_stale = book_stale;
        slot.listed = listed;
        for queued in queue {
            match queued {
                Queued::Work(work) => self.route(key, vec![work], now),
                Queued::Read(reply) => self.read(key, reply),
            }
        }
    }
}
