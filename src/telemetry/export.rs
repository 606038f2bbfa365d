//! Brings spans out, many at a time, in the background; what cannot be brought out is counted and forgotten.

use std::time::Duration;

use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// So many spans wait for their export; further ones are dropped.
pub const QUEUED_MAX: usize = 16_384;
/// So many go out at once.
const BATCH_MAX: usize = 512;
/// The first of them waits no longer for the others.
const GATHER_MAX: Duration = Duration::from_secs(1);
/// An export that takes longer is given up.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The task that brings spans out.
pub struct Exporting {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Exporting {
    /// Brings out what is there, for so long at most.
    pub async fn finish(self, patience: Duration) {
        let _ = self.stop.send(());
        let _ = timeout(patience, self.task).await;
    }
}

/// Brings out what comes through `queue`; counts what could not be.
pub fn export(
    exporter: impl SpanExporter + 'static,
    queue: mpsc::Receiver<SpanData>,
    dropped: IntCounter,
    runtime: &Handle,
) -> Exporting {
    let (stop, stopped) = oneshot::channel();
    let task = runtime.spawn(Exporter { to: exporter, dropped, told: false }.run(queue, stopped));
    Exporting { task, stop }
}

struct Exporter<E> {
    to: E,
    dropped: IntCounter,
    /// That it fails was logged.
    told: bool,
}

impl<E: SpanExporter> Exporter<E> {
    async fn run(mut self, mut queue: mpsc::Receiver<SpanData>, mut stop: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                // Nothing is gathered after that, but what is there is brought out.
                _ = &mut stop, if !queue.is_closed() => queue.close(),
                count = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    tokio::select! {
                        () = gather(&mut queue, &mut batch) => {}
                        _ = &mut stop, if !queue.is_closed() => queue.close(),
                    }
                    self.export(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    async fn export(&mut self, spans: Vec<SpanData>) {
        let count = spans.len() as u64;
        let failed = match timeout(EXPORT_TIMEOUT, self.to.export(spans)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer in {EXPORT_TIMEOUT:?}")),
        };
        match failed {
            None if std::mem::take(&mut self.told) => tracing::info!("spans are exported again"),
            None => {}
            Some(why) => {
                self.dropped.inc_by(count);
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!("spans cannot be exported and are dropped; nothing else suffers from it: {why}");
                }
            }
        }
    }
}

/// Waits for more, until there is enough or the first has waited long.
async fn gather(queue: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    let until = Instant::now() + GATHER_MAX;
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        match timeout_at(until, queue.recv_many(batch, room)).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}
