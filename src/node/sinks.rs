//! Starting the sinks where their progress says, and ending them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use prometheus::{IntCounter, IntGauge};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fatal::Fatal;
use crate::actors::Shards;
use crate::config::{self, Config, SinkKind};
use crate::egress::{DispatcherSetup, FileSink, Sink, SinkPhase, StdoutSink, dispatch};
use crate::journal::JournalReader;
use crate::metrics::Metrics;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::SinkProgress;
use crate::rules::Ruleset;
use crate::vital;

/// The entity type of sinks' progress.
const SINK_KIND: &str = "$sink";

/// What sinks are started with.
pub struct Setup<'a> {
    pub config: &'a Config,
    pub shards: &'a Shards,
    pub journal: &'a JournalReader,
    pub ruleset: &'a Arc<Ruleset>,
    pub metrics: &'a Arc<Metrics>,
    pub committed: &'a watch::Receiver<Lsn>,
    pub runtime: Handle,
    pub fatal: Fatal,
}

/// The running sinks.
pub struct Sinks {
    phase: watch::Sender<SinkPhase>,
    threads: Vec<JoinHandle<()>>,
    running: Vec<Running>,
}

/// A sink, how far it has delivered for good, and what it counts.
#[derive(Clone)]
struct Running {
    name: String,
    kind: &'static str,
    noted: Arc<AtomicU64>,
    delivered: IntCounter,
    lag: IntGauge,
}

/// Why a sink cannot start.
#[derive(Debug, thiserror::Error)]
#[error("sink `{name}` cannot start: {what}")]
pub struct SinkError {
    name: String,
    what: String,
    source: std::io::Error,
}

impl Sinks {
    /// Starts every configured sink.
    pub async fn start(setup: Setup<'_>) -> Result<Self, SinkError> {
        let phase = watch::Sender::new(SinkPhase::Running);
        let mut sinks = Sinks { phase, threads: Vec::new(), running: Vec::new() };
        for declared in &setup.config.sinks {
            let entity = EntityKey::new(SINK_KIND, declared.name.as_str());
            let stored =
                setup.shards.read(&entity).await.and_then(|snapshot| snapshot.state.progress).map(|progress| *progress);
            let is_new = stored.is_none();
            let progress = stored.unwrap_or_else(|| first_progress(declared, setup.journal));
            if is_new {
                // Durable before anything is delivered, or a crash would move the sink's beginning.
                let _ = setup.shards.note_progress(entity.clone(), progress.clone()).await;
            }
            let (kind, sink) = open(declared, &progress)?;
            let noted = Arc::new(AtomicU64::new(progress.delivered.0));
            let shards = setup.shards.clone();
            let dispatcher = DispatcherSetup {
                name: declared.name.value.clone(),
                server: setup.config.server.name.clone(),
                sink,
                progress,
                journal: setup.journal.clone(),
                ruleset: setup.ruleset.clone(),
                metrics: setup.metrics.clone(),
                note: Box::new(move |progress| shards.note_progress(entity.clone(), progress)),
                noted: noted.clone(),
            };
            let name = declared.name.value.clone();
            let delivered = setup.metrics.sink_deliveries.with_label_values(&[name.as_str(), "ok"]);
            let lag = setup.metrics.sink_lag.with_label_values(&[&name]);
            sinks.running.push(Running { name, kind, noted, delivered, lag });
            let (committed, phase) = (setup.committed.clone(), sinks.phase.subscribe());
            let (fatal, runtime) = (setup.fatal.clone(), setup.runtime.clone());
            let run = move || {
                vital::mark();
                if let Err(error) = dispatch(dispatcher, committed, phase, &runtime) {
                    fatal(&error);
                }
            };
            let thread = std::thread::Builder::new().name(format!("sink {}", declared.name.value)).spawn(run);
            let failed = |source| SinkError { name: declared.name.value.clone(), what: "no thread".into(), source };
            sinks.threads.push(thread.map_err(failed)?);
        }
        Ok(sinks)
    }

    /// A function that tells how far all sinks have delivered for good.
    pub fn delivered(&self) -> Arc<dyn Fn() -> Lsn + Send + Sync> {
        let noted: Vec<_> = self.running.iter().map(|sink| sink.noted.clone()).collect();
        Arc::new(move || Lsn(noted.iter().map(|noted| noted.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)))
    }

    /// A function that describes the sinks for the status document: how many decisions each has taken since the start,
    /// how many records it has yet to pass, and the LSN it would go on from after a crash.
    pub fn status(&self) -> impl Fn() -> serde_json::Value + Send + Sync + use<> {
        let sinks = self.running.clone();
        move || {
            let shown = sinks.iter().map(|sink| {
                serde_json::json!({
                    "name": sink.name,
                    "kind": sink.kind,
                    "lsn": sink.noted.load(Ordering::Relaxed),
                    "delivered": sink.delivered.get(),
                    "lag": sink.lag.get(),
                })
            });
            shown.collect()
        }
    }

    /// Lets the sinks deliver what is committed; returns their threads, which end after that.
    pub fn finish(self) -> Vec<JoinHandle<()>> {
        self.phase.send_replace(SinkPhase::Finishing);
        self.threads
    }
}

/// Where a sink without progress begins.
fn first_progress(declared: &config::Sink, journal: &JournalReader) -> SinkProgress {
    let delivered = match declared.from {
        config::From::New => journal.last_lsn(),
        config::From::All => Lsn(journal.first_lsn().0.saturating_sub(1)),
    };
    let offset = match &declared.kind {
        SinkKind::File { path } => std::fs::metadata(path).map_or(0, |found| found.len()),
        SinkKind::Stdout => 0,
    };
    SinkProgress { delivered, offset }
}

fn open(declared: &config::Sink, progress: &SinkProgress) -> Result<(&'static str, Box<dyn Sink>), SinkError> {
    match &declared.kind {
        SinkKind::Stdout => Ok(("stdout", Box::new(StdoutSink))),
        SinkKind::File { path } => match FileSink::open(path, progress.offset) {
            Ok(sink) => Ok(("file", Box::new(sink))),
            Err(source) => {
                let what = format!("cannot open {}", path.display());
                Err(SinkError { name: declared.name.value.clone(), what, source })
            }
        },
    }
}
