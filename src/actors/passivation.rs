//! Passivation: actors that are not needed are stopped, without losing what comes for them meanwhile.
//!
//! Only an actor with nothing under way is stopped. It is marked as closing before it is told, so that nothing is sent
//! behind the word to stop; what comes until it has handed over its entity waits in its slot.

use std::sync::atomic::Ordering;

use super::actor::Stop;
use super::entity::Entity;
use super::handed::HandedOver;
use super::kept::Kept;
use super::mailbox::post;
use super::slots::{Arrival, Batches, Slot, SlotId};
use super::supervisor::Supervisor;
use crate::model::outbox::Outbox;
use crate::model::time::Timestamp;

/// So many busy actors are passed over, each time, in the search for some that can be stopped.
const BUSY_PASSED_MAX: usize = 8;

impl Supervisor {
    /// Stops the least recently used actors while there are too many.
    pub(super) fn make_room(&mut self) {
        let mut surplus = self.slots.len().saturating_sub(self.live_max + self.closing);
        let mut passed = 0;
        while surplus > 0 && passed < BUSY_PASSED_MAX {
            // Looked at: it goes to the other end, closing or busy.
            let Some((id, slot)) = self.slots.rotate() else { return };
            if slot.is_idle() {
                self.stop(id);
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
        let idle: Vec<SlotId> =
            self.slots.unused_since(before).filter(|(_, slot)| slot.is_idle()).map(|(id, _)| id).collect();
        for id in idle {
            self.stop(id);
        }
        self.watchers.retain(|_, waiting| {
            waiting.retain(|watcher| !watcher.is_closed());
            !waiting.is_empty()
        });
    }

    fn stop(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.aside.close();
        self.closing += 1;
        self.shared.outbox.borrow_mut().asked();
        post(&slot.actor, Stop);
    }

    /// An actor has ended and handed over its entity.
    pub(super) fn gone(&mut self, id: SlotId, entity: Entity) {
        let Some(slot) = self.slots.remove(id) else { return };
        self.closing -= 1;
        if let Some(metrics) = self.shared.around.types.get(slot.key.kind()) {
            metrics.live.dec();
        }
        let clean = slot.is_clean();
        let Slot { key, book, stored, listed, aside, .. } = slot;
        let queue = aside.into_queued();
        // One with letters is not stopped.
        let kept = Kept { entity, book, outbox: Outbox::default() };
        if queue.is_empty() {
            if !clean {
                let handed = HandedOver::new(&kept, stored, listed);
                self.handed_bytes.fetch_add(handed.memory_bytes(), Ordering::Relaxed);
                self.handed.insert(key, handed);
            }
            return;
        }
        self.spawn(key.clone(), kept, stored, listed);
        for arrival in queue {
            match arrival {
                Arrival::Work(work) => {
                    let mut batches = Batches::default();
                    self.sort(*work, &mut batches);
                    self.send(batches, Timestamp::now());
                }
                Arrival::Read(reply) => self.read(&key, reply),
            }
        }
    }
}
