//! What a supervisor keeps of each entity that is in memory, and the order in which they were last used.

use std::collections::VecDeque;

use actix::Addr;
use lru::LruCache;

use super::entity::{EntityActor, News, Work};
use super::outbox::Pending;
use crate::model::ids::{EntityKey, Lsn, Version};

/// One live entity.
pub(super) struct Slot {
    pub actor: Addr<EntityActor>,
    /// Messages sent to the actor and not yet taken from the outbox.
    pub sent: u32,
    /// The version of its last record.
    pub latest: Version,
    /// The version of its last committed record, and where that is.
    pub committed: (Version, Lsn),
    /// The version that the store has.
    pub stored: Version,
    /// The stored row lacks positions that were not known when it was copied.
    pub book_stale: bool,
    /// It is listed for the next checkpoint.
    pub listed: bool,
    /// What waits for a commit, in order of versions.
    pub waiting: VecDeque<(Version, Pending)>,
    pub news: News,
    /// The actor was told to stop; what comes meanwhile waits here.
    pub closing: Option<Vec<Queued>>,
    pub last_used_tick: u64,
}

/// What arrives while the actor stops.
#[allow(clippy::large_enum_variant)] // nearly all of it is work
pub(super) enum Queued {
    Work(Work),
    Read(tokio::sync::oneshot::Sender<Option<super::entity::Snapshot>>),
}

impl Slot {
    pub(super) fn new(actor: Addr<EntityActor>, version: Version, lsn: Lsn, stored: Version, tick: u64) -> Self {
        Slot {
            actor,
            sent: 0,
            latest: version,
            committed: (version, lsn),
            stored,
            book_stale: false,
            listed: false,
            waiting: VecDeque::new(),
            news: News::default(),
            closing: None,
            last_used_tick: tick,
        }
    }

    /// Whether the store has everything of it.
    pub(super) fn is_clean(&self) -> bool {
        self.stored == self.latest && !self.book_stale
    }

    /// Whether nothing of it is under way, so that its actor may be stopped.
    pub(super) fn is_idle(&self) -> bool {
        self.sent == 0 && self.committed.0 == self.latest && self.waiting.is_empty() && self.closing.is_none()
    }

    /// Holds back what waits for `version`, or releases it at once if that is committed.
    pub(super) fn hold(&mut self, version: Version, pending: Pending) {
        if version <= self.committed.0 {
            pending.release(self.committed.1);
        } else {
            self.waiting.push_back((version, pending));
        }
    }

    /// The record of `version` was committed at `lsn`.
    pub(super) fn commit(&mut self, version: Version, lsn: Lsn) {
        self.committed = (version, lsn);
        self.news.commits.push((version, lsn));
        while self.waiting.front().is_some_and(|(waits_for, _)| *waits_for <= version) {
            if let Some((_, pending)) = self.waiting.pop_front() {
                pending.release(lsn);
            }
        }
    }
}

/// Live entities, least recently used first.
pub(super) type Slots = LruCache<EntityKey, Slot>;
