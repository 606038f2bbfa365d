//! A shard's wheel: which of its entities are to be looked at when, though nothing comes for them.
//!
//! It holds what the store does not have yet, and of what it has the near future, which the node loads into it. An entry is a
//! hint: the entity itself knows what is due, and one that comes too early or twice does nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::entity::Work;
use super::kept::wake_at;
use super::slots::{Batches, SlotId};
use super::supervisor::Supervisor;
use crate::model::ids::EntityKey;
use crate::model::time::Timestamp;
use crate::store::Wake;

/// How often the wheel turns.
pub(super) const TURN: Duration = Duration::from_millis(50);
/// So many entities are looked at in a turn; the others in the next.
const WAKES_MAX: usize = 500;

/// What wheels and whoever loads them have in common.
#[derive(Clone)]
pub struct Horizon {
    /// Rows of the store up to this time are in the wheels, or are just being loaded; in milliseconds since 1970.
    through_ms: Arc<AtomicI64>,
    is_stopped: Arc<AtomicBool>,
}

impl Default for Horizon {
    fn default() -> Self {
        Horizon { through_ms: Arc::new(AtomicI64::new(i64::MIN)), is_stopped: Arc::new(AtomicBool::new(true)) }
    }
}

impl Horizon {
    /// Moves on. To be called before the rows up to there are read, so that none is stored unseen in between.
    pub fn advance(&self, through: Wake) {
        self.through_ms.store(through.0, Ordering::SeqCst);
    }

    fn is_beyond(&self, wake: Wake) -> bool {
        wake.0 > self.through_ms.load(Ordering::SeqCst)
    }

    /// Entities are woken from now on.
    pub fn start(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
    }

    /// Nothing is woken any more.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }
}

/// The wheel.
pub(super) struct Wheel {
    entries: BTreeSet<(Wake, EntityKey)>,
    horizon: Horizon,
}

impl Wheel {
    pub fn new(horizon: Horizon) -> Self {
        Wheel { entries: BTreeSet::new(), horizon }
    }

    pub fn insert(&mut self, wake: Wake, key: EntityKey) {
        self.entries.insert((wake, key));
    }

    /// An entity is stored: what the store will tell of in time need not be here.
    pub fn forget_stored(&mut self, wake: Wake, key: &EntityKey) -> bool {
        self.horizon.is_beyond(wake) && self.entries.remove(&(wake, key.clone()))
    }

    /// Whether nothing is to be begun by itself: before the node is ready, and once it is about to end.
    pub fn is_stopped(&self) -> bool {
        self.horizon.is_stopped.load(Ordering::SeqCst)
    }

    fn due(&mut self, now: Timestamp) -> Vec<EntityKey> {
        let mut due = Vec::new();
        if self.is_stopped() {
            return due;
        }
        let now = now.millis();
        while due.len() < WAKES_MAX && self.entries.first().is_some_and(|(wake, _)| wake.0 <= now) {
            due.extend(self.entries.pop_first().map(|(_, key)| key));
        }
        due
    }
}

impl Supervisor {
    /// Looks at entities whose time has come.
    pub(super) fn turn(&mut self) {
        // A type may have been resumed.
        self.release_waiting();
        let now = Timestamp::now();
        let due = self.wheel.due(now);
        if due.is_empty() {
            return;
        }
        let mut batches = Batches::default();
        for key in due {
            if let Some(slot) = self.slots.find(&key).and_then(|id| self.slots.get_mut(id)) {
                slot.aside.set_wake(Wake::NEVER);
            }
            self.sort(Work::Wake(key), &mut batches);
        }
        self.send(batches, now);
        self.make_room();
    }

    /// A live entity's next deadline.
    pub(super) fn schedule(&mut self, id: SlotId, due: Timestamp) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let wake = wake_at(due);
        let old = slot.aside.wake();
        if old != wake {
            slot.aside.set_wake(wake);
            self.wheel.entries.remove(&(old, slot.key.clone()));
            self.wheel.insert(wake, slot.key.clone());
        }
    }
}

/// How full a wheel is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filled {
    pub entries: usize,
    /// Some of them are to be looked at because the node has started.
    pub has_started: bool,
}

impl Filled {
    /// As full as the fuller of both.
    #[must_use]
    pub fn max(self, other: Filled) -> Filled {
        Filled { entries: self.entries.max(other.entries), has_started: self.has_started || other.has_started }
    }
}

/// Rows of the store's agenda for this shard; answers how full the wheel is then.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Schedule {
    pub rows: Vec<(Wake, EntityKey)>,
    pub reply: oneshot::Sender<Filled>,
}

impl Handler<Schedule> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: Schedule, _: &mut Self::Context) {
        self.wheel.entries.extend(message.rows);
        let entries = &self.wheel.entries;
        let has_started = entries.first().is_some_and(|(wake, _)| *wake == Wake::AT_START);
        let _ = message.reply.send(Filled { entries: entries.len(), has_started });
    }
}
