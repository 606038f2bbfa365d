//! Watching the limits that close admission: free disk space, states that wait for the store, the journal's unsaved tail.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::disk_space::free_bytes;
use crate::config::Tuning;
use crate::ingress::Admission;
use crate::journal::JournalReader;
use crate::metrics::Metrics;
use crate::store::Store;

/// How often the limits are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The unsaved tail of the journal may grow to so many times `checkpoint.journal_bytes` before admission waits.
const TAIL_FACTOR_MAX: u64 = 4;

/// The guard.
pub struct Guard {
    pub folder: PathBuf,
    pub tuning: Tuning,
    pub admission: Arc<Admission>,
    pub journal: JournalReader,
    pub store: Store,
    pub metrics: Arc<Metrics>,
    pub journaled_bytes: Arc<AtomicU64>,
    pub handed_bytes: Arc<AtomicU64>,
    /// How many of the journaled bytes are in the store.
    pub saved_bytes: Arc<AtomicU64>,
}

impl Guard {
    /// Looks at the limits until the node ends.
    pub async fn run(self) {
        loop {
            self.look();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at the limits once.
    pub fn look(&self) {
        let gate = &self.admission.gate;
        gate.set("the free disk space", self.disk());
        let handed = self.handed_bytes.load(Ordering::Relaxed);
        let handed_max = self.tuning.checkpoint.dirty_bytes_max;
        gate.set(
            "what waits for the store",
            (handed > handed_max).then(|| {
                format!("{handed} bytes wait for the store, more than checkpoint.dirty_bytes_max = {handed_max}")
            }),
        );
        let saved = self.saved_bytes.load(Ordering::Relaxed);
        let tail = self.journaled_bytes.load(Ordering::Relaxed).saturating_sub(saved);
        let tail_max = self.tuning.checkpoint.journal_bytes.saturating_mul(TAIL_FACTOR_MAX);
        gate.set(
            "the journal's unsaved tail",
            (tail > tail_max).then(|| format!("{tail} bytes of the journal are not in the store yet")),
        );
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.admission_open.set(if gate.is_open() { 1.0 } else { 0.0 });
        self.metrics.in_flight_records.set(gauge(self.admission.credits.in_flight()));
        self.metrics.store_bytes.with_label_values(&["journal"]).set(gauge(self.journal.bytes()));
        self.metrics.store_bytes.with_label_values(&["state"]).set(gauge(self.store.file_bytes()));
    }

    fn disk(&self) -> Option<String> {
        let least = self.tuning.limits.disk_free_min;
        match free_bytes(&self.folder) {
            Ok(free) => {
                self.metrics.node.disk_free_bytes.set(i64::try_from(free).unwrap_or(i64::MAX));
                self.metrics.node.disk_free_min_bytes.set(i64::try_from(least).unwrap_or(i64::MAX));
                (free < least)
                    .then(|| format!("{free} bytes are free on the disk, less than limits.disk_free_min = {least}"))
            }
            Err(error) => Some(format!("the free disk space cannot be told: {error}")),
        }
    }
}
