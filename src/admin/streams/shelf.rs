//! What was read of the journal lately, so that streams that are at about the same place read it once.

use std::sync::{Arc, Mutex, PoisonError};

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
}

impl Shelf {
    pub fn new(journal: JournalReader, render: RenderDecisions) -> Self {
        let kept = Kept { stretches: LruCache::unbounded(), bytes: 0 };
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
        let all = self.clone();
        let read = web::block(move || {
            let stretch = Arc::new(Stretch::read(&all.journal, &all.render, reading, from)?);
            all.keep(reading, from, &stretch);
            Ok(stretch)
        });
        read.await.ok()
    }

    fn find(&self, reading: Reading, from: Lsn) -> Option<Arc<Stretch>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.stretches.get(&(reading, from)).cloned()
    }

    fn keep(&self, reading: Reading, from: Lsn, stretch: &Arc<Stretch>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
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
