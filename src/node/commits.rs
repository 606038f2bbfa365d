//! What a commit sets off, on the writer's thread: shards are told of their records, and everybody of
//! the new end of the journal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::actors::{Committed, Shards, Tag};
use crate::journal;
use crate::metrics::Metrics;
use crate::model::ids::Lsn;

/// Passes commits on.
pub struct Commits {
    /// Set once the shards have started; nothing is committed before.
    pub shards: Arc<OnceLock<Shards>>,
    pub committed: watch::Sender<Lsn>,
    pub journaled_bytes: Arc<AtomicU64>,
    pub metrics: Arc<Metrics>,
}

impl Commits {
    /// Passes one commit on.
    pub fn pass_on(&self, commit: journal::Committed<Tag>) {
        let Some(shards) = self.shards.get() else { return };
        self.journaled_bytes.fetch_add(commit.bytes as u64, Ordering::Relaxed);
        let records = commit.tags.len();
        let mut by_shard: Vec<Vec<_>> = (0..shards.count()).map(|_| Vec::new()).collect();
        for (lsn, tag) in commit.tags {
            by_shard[usize::from(tag.shard)].push((lsn, tag.record));
        }
        // Before the new end is told: a checkpoint cuts there, and its copies must know every position up to the cut.
        for (shard, records) in by_shard.into_iter().enumerate() {
            if !records.is_empty() {
                shards.committed(shard as u16, Committed(records));
            }
        }
        self.metrics.commit_duration.observe(commit.took.as_secs_f64());
        self.metrics.commit_records.observe(records as f64);
        self.metrics.journal_lsn.set(i64::try_from(commit.last_lsn.0).unwrap_or(i64::MAX));
        self.committed.send_replace(commit.last_lsn);
    }
}
