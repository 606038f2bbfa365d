//! What was read of the journal lately, so that streams that are at about the same place read it once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::web;
use lru::LruCache;
use tokio::sync::Semaphore;

use super::stretch::{ReadError, Reading, Stretch};
use crate::admin::api::RenderDecisions;
use crate::journal::JournalReader;
use crate::model::ids::Lsn;

/// Most bytes of stretches that are kept; those in use by a stream may go beyond.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Who reads no further behind the end of the journal than this many records is not held up by those who catch up.
const NEAR_RECORDS: u64 = 100_000;

/// Stretches of the journal, each read by one stream and found there by the others.
pub(super) struct Shelf {
    journal: JournalReader,
    render: RenderDecisions,
    kept: Mutex<Kept>,
    /// One reads at a time near the end, and one further back: decoding takes no more than two cores, whoever asks.
    near: Semaphore,
    far: Semaphore,
}

struct Kept {
    stretches: LruCache<(Reading, Lsn), Arc<Stretch>>,
    bytes: usize,
    /// Counts how often all was thrown away.
    cleared: u64,
}

impl Shelf {
    pub fn new(journal: JournalReader, render: RenderDecisions) -> Self {
        let kept = Kept { stretches: LruCache::unbounded(), bytes: 0, cleared: 0 };
        Shelf { journal, render, kept: Mutex::new(kept), near: Semaphore::new(1), far: Semaphore::new(1) }
    }

    pub fn journal(&self) -> &JournalReader {
        &self.journal
    }

    /// What comes at `from` or later; none if the node is about to end.
    pub async fn stretch(self: &Arc<Self>, reading: Reading, from: Lsn) -> Option<Result<Arc<Stretch>, ReadError>> {
        if let Some(stretch) = self.find(reading, from) {
            return Some(Ok(stretch));
        }
        let is_near = from.plus(NEAR_RECORDS) > self.journal.last_lsn();
        // Neither is ever closed.
        let _turn = if is_near { self.near.acquire().await } else { self.far.acquire().await };
        // Most likely somebody has read it meanwhile.
        if let Some(stretch) = self.find(reading, from) {
            return Some(Ok(stretch));
        }
        let (all, cleared) = (self.clone(), self.kept().cleared);
        let read = web::block(move || {
            let stretch = Arc::new(Stretch::read(&all.journal, &all.render, reading, from)?);
            all.keep(reading, from, &stretch, cleared);
            Ok(stretch)
        });
        read.await.ok()
    }

    fn find(&self, reading: Reading, from: Lsn) -> Option<Arc<Stretch>> {
        self.kept().stretches.get(&(reading, from)).cloned()
    }

    /// Throws everything away, since the journal no longer holds all of it.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.stretches.clear();
        (kept.bytes, kept.cleared) = (0, kept.cleared + 1);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, reading: Reading, from: Lsn, stretch: &Arc<Stretch>, cleared: u64) {
        let mut kept = self.kept();
        if kept.cleared != cleared {
            // It was read before.
            return;
        }
        kept.bytes += stretch.bytes;
        if let Some(before) = kept.stretches.put((reading, from), stretch.clone()) {
            kept.bytes -= before.bytes;
        }
        while kept.bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = kept.stretches.pop_lru()
        {
            kept.bytes -= oldest.bytes;
        }
    }
}
