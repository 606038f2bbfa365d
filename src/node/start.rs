//! Starting, running and draining a node.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::Arbiter;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::checkpointer::{Checkpointer, Request, slices};
use super::commits::Commits;
use super::fatal::{self, Fatal};
use super::guard::Guard;
use super::prepare::Prepared;
use super::recovery::{self, RecoveryError};
use super::sinks::{Setup, SinkError, Sinks};
use crate::actors::{HandedOver, ShardSetup, Shards, Supervisor, Surroundings, Tag, Work};
use crate::config::{Address, Config, SourceKind};
use crate::ingress::{Admission, Credits, Deliver, Gate, Phase, SourceMetrics, TcpSource};
use crate::journal::{JournalReader, JournalWriter, spawn_writer};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::{EntityKey, Lsn};
use crate::rules::{Ruleset, decide};
use crate::store::Store;

/// Of the time to drain, what is kept back for the last steps.
const DRAIN_RESERVE: Duration = Duration::from_millis(500);
/// The share of the time to drain that senders and sinks get, each.
const DRAIN_SHARE: f64 = 0.4;
/// Batches of inputs that may wait for the writer beyond what credits bound: inputs from inside, and copies.
const WRITER_QUEUE_SPARE: usize = 4096;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot listen on {address}; is it in use, or not this machine's?")]
    Listen { address: String, source: std::io::Error },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("cannot start {what}")]
    Start { what: &'static str, source: std::io::Error },
}

/// Runs a node until SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// When it cannot start. Once it runs, a failing disk ends the process with exit code 3.
pub fn run(config: Config, prepared: Prepared) -> Result<(), NodeError> {
    let started = |what| move |source| NodeError::Start { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(started("the I/O threads"))?;
    let system = actix::System::new();
    let outcome = system.block_on(Starting { config, prepared, runtime: &runtime }.run());
    runtime.shutdown_timeout(DRAIN_RESERVE);
    outcome
}

struct Starting<'a> {
    config: Config,
    prepared: Prepared,
    runtime: &'a Runtime,
}

/// What runs.
struct Node {
    config: Config,
    shards: Shards,
    arbiters: Vec<Arbiter>,
    admission: Arc<Admission>,
    phase: watch::Sender<Phase>,
    sources: Vec<tokio::task::JoinHandle<()>>,
    sinks: Sinks,
    checkpoints: crossbeam_channel::Sender<Request>,
    checkpointer: std::thread::JoinHandle<()>,
    writer: std::thread::JoinHandle<Option<crate::journal::Journal>>,
}

/// What the parts of a node share.
struct Shared {
    metrics: Arc<Metrics>,
    types: HashMap<Arc<str>, Arc<TypeMetrics>>,
    fatal: Fatal,
    store: Store,
    journal: JournalReader,
    committed: watch::Receiver<Lsn>,
    watermark: watch::Sender<Lsn>,
    journaled_bytes: Arc<AtomicU64>,
    handed_bytes: Arc<AtomicU64>,
}

impl Starting<'_> {
    async fn run(mut self) -> Result<(), NodeError> {
        let listeners = self.listeners()?;
        let metrics = Arc::new(Metrics::new());
        let ruleset = self.prepared.ruleset.clone();
        let types = type_metrics(&metrics, &ruleset);
        let opened = recovery::open(&self.config.server.data_dir, &self.config.tuning, &ruleset)?;
        let recovered = recovery::replay(&opened, &types)?;
        let (committed, committed_seen) = watch::channel(opened.journal.last_lsn());
        let watermark = opened.store.watermark().map_err(RecoveryError::from)?;
        let gauge = |lsn: Lsn| i64::try_from(lsn.0).unwrap_or(i64::MAX);
        metrics.journal_lsn.set(gauge(opened.journal.last_lsn()));
        metrics.watermark_lsn.set(gauge(watermark));
        let shared = Shared {
            metrics,
            types,
            fatal: fatal::exit(),
            journal: opened.journal.reader(),
            store: opened.store,
            committed: committed_seen,
            watermark: watch::Sender::new(watermark),
            journaled_bytes: Arc::default(),
            handed_bytes: Arc::default(),
        };
        let (slice_sender, slice_receiver) = slices();
        let shards_cell = Arc::new(OnceLock::new());
        let commits = Commits {
            shards: shards_cell.clone(),
            slices: slice_sender,
            committed,
            journaled_bytes: shared.journaled_bytes.clone(),
            metrics: shared.metrics.clone(),
        };
        let queued_max = usize::try_from(self.config.tuning.limits.in_flight_records_max).unwrap_or(usize::MAX / 2);
        let on_fatal = shared.fatal.clone();
        let (writer, writer_thread) = spawn_writer(
            opened.journal,
            queued_max.min(1 << 20) + WRITER_QUEUE_SPARE,
            move |commit| commits.pass_on(commit),
            move |error| on_fatal(&error),
        )
        .map_err(|source| NodeError::Start { what: "the journal's writer", source })?;
        let (shards, arbiters) = self.shards(&shared, &writer, recovered.entities);
        let _ = shards_cell.set(shards.clone());
        let admission = Arc::new(Admission {
            ruleset: ruleset.clone(),
            credits: Credits::new(
                self.config.tuning.limits.in_flight_records_max,
                self.config.tuning.limits.in_flight_bytes_max,
            ),
            gate: Gate::default(),
            metrics: shared.metrics.clone(),
            deliver: delivering(shards.clone()),
        });
        let sinks = Sinks::start(Setup {
            config: &self.config,
            shards: &shards,
            journal: &shared.journal,
            ruleset: &ruleset,
            metrics: &shared.metrics,
            committed: &shared.committed,
            runtime: self.runtime.handle().clone(),
            fatal: shared.fatal.clone(),
        })
        .await?;
        let (checkpoints, requests) = crossbeam_channel::bounded(1);
        let checkpointer = Checkpointer {
            store: shared.store.clone(),
            shards: shards.clone(),
            slices: slice_receiver,
            requests,
            committed: shared.committed.clone(),
            journal: writer,
            journaled_bytes: shared.journaled_bytes.clone(),
            handed_bytes: shared.handed_bytes.clone(),
            metrics: shared.metrics.clone(),
            tuning: self.config.tuning.clone(),
            sinks_delivered: sinks.delivered(),
            fatal: shared.fatal.clone(),
            watermark: shared.watermark.clone(),
        };
        let checkpointer = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || checkpointer.run())
            .map_err(|source| NodeError::Start { what: "the checkpointer", source })?;
        let guard = Guard {
            folder: self.config.server.data_dir.clone(),
            tuning: self.config.tuning.clone(),
            admission: admission.clone(),
            journal: shared.journal.clone(),
            store: shared.store.clone(),
            metrics: shared.metrics.clone(),
            journaled_bytes: shared.journaled_bytes.clone(),
            handed_bytes: shared.handed_bytes.clone(),
            watermark: shared.watermark.subscribe(),
        };
        guard.look(0);
        self.runtime.spawn(guard.run());
        let phase = watch::Sender::new(Phase::Running);
        let mut out = std::io::stdout();
        let entities: i64 = shared.types.values().map(|types| types.entities.get()).sum();
        let _ = writeln!(out, "turnstile {} ready", env!("CARGO_PKG_VERSION"));
        let sources = self.sources(listeners, &admission, &phase)?;
        let _ = writeln!(out, "recovered {entities} entities, {} records replayed", recovered.records);
        let _ = out.flush();
        let node = Node {
            config: self.config,
            shards,
            arbiters,
            admission,
            phase,
            sources,
            sinks,
            checkpoints,
            checkpointer,
            writer: writer_thread,
        };
        terminated().await.map_err(|source| NodeError::Start { what: "the handling of signals", source })?;
        node.drain().await;
        Ok(())
    }

    /// Binds every source's address, before anything else can fail late.
    fn listeners(&self) -> Result<HashMap<String, std::net::TcpListener>, NodeError> {
        let mut listeners = HashMap::new();
        for source in &self.config.sources {
            let SourceKind::Tcp { listen, .. } = &source.kind else { continue };
            listeners.insert(source.name.value.clone(), bind(&listen.value)?);
        }
        Ok(listeners)
    }

    fn shards(
        &self,
        shared: &Shared,
        writer: &JournalWriter<Tag>,
        recovered: HashMap<EntityKey, HandedOver>,
    ) -> (Shards, Vec<Arbiter>) {
        let actors = &self.config.tuning.actors;
        let count = usize::from(actors.shards).max(1);
        let mut by_shard: Vec<HashMap<EntityKey, HandedOver>> = (0..count).map(|_| HashMap::new()).collect();
        for (key, handed) in recovered {
            by_shard[key.partition().shard(count)].insert(key, handed);
        }
        let mut arbiters = Vec::new();
        let mut supervisors = Vec::new();
        for (index, recovered) in by_shard.into_iter().enumerate() {
            let fatal = shared.fatal.clone();
            let setup = ShardSetup {
                index: index as u16,
                around: Surroundings {
                    store: shared.store.clone(),
                    metrics: shared.metrics.clone(),
                    types: shared.types.clone(),
                    entity_bytes_max: usize::try_from(self.config.tuning.limits.entity_bytes_max).unwrap_or(usize::MAX),
                    decide,
                    fatal: Arc::new(move |error| fatal(&error)),
                },
                writer: writer.clone(),
                live_max: (usize::try_from(actors.max_live).unwrap_or(usize::MAX) / count).max(1),
                idle: actors.idle,
                recovered,
                handed_bytes: shared.handed_bytes.clone(),
            };
            let arbiter = Arbiter::new();
            supervisors.push(Supervisor::start_on(&arbiter.handle(), setup));
            arbiters.push(arbiter);
        }
        (Shards::new(supervisors), arbiters)
    }

    fn sources(
        &mut self,
        mut listeners: HashMap<String, std::net::TcpListener>,
        admission: &Arc<Admission>,
        phase: &watch::Sender<Phase>,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>, NodeError> {
        let mut tasks = Vec::new();
        let _inside = self.runtime.enter();
        for source in &self.config.sources {
            let name = &source.name.value;
            let SourceKind::Tcp { token, .. } = &source.kind else { continue };
            let (Some(listener), Some(decoder)) = (listeners.remove(name), self.prepared.decoders.remove(name)) else {
                continue;
            };
            let listening = |source| NodeError::Listen { address: name.clone(), source };
            let address = listener.local_addr().map_err(listening)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(listening)?;
            println!("source {name} listening on {address}");
            let tcp = TcpSource {
                name: name.clone(),
                admission: admission.clone(),
                decoder,
                token: token.clone(),
                connections_max: self.config.tuning.limits.connections_max,
                metrics: SourceMetrics::new(&admission.metrics, name),
                phase: phase.subscribe(),
                connections: AtomicU64::new(0),
            };
            tasks.push(self.runtime.spawn(Arc::new(tcp).run(listener)));
        }
        Ok(tasks)
    }
}

fn bind(address: &Address) -> Result<std::net::TcpListener, NodeError> {
    let shown = address.to_string();
    let failed = |source| NodeError::Listen { address: shown.clone(), source };
    let listener = std::net::TcpListener::bind((address.host.as_str(), address.port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn type_metrics(metrics: &Metrics, ruleset: &Ruleset) -> HashMap<Arc<str>, Arc<TypeMetrics>> {
    let of = |rules: &Arc<crate::rules::EntityRules>| {
        let complete: Vec<&str> = rules.missing_names(u64::MAX).collect();
        let decisions: Vec<&str> = rules.decisions.iter().map(|decision| &*decision.name).collect();
        (rules.name.clone(), metrics.entity_type(&rules.name, &complete, &decisions))
    };
    ruleset.types().iter().map(of).collect()
}

fn delivering(shards: Shards) -> Deliver {
    Arc::new(move |deliveries| {
        shards.deliver(
            deliveries.into_iter().map(|delivery| Work::Event { taken: delivery.taken, ticket: delivery.ticket }),
        );
    })
}

async fn terminated() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}

impl Node {
    /// Stops reading, settles what was read, lets sinks finish, stores what time allows; the rest is left to recovery.
    async fn drain(self) {
        let limit = self.config.tuning.limits.drain.saturating_sub(DRAIN_RESERVE);
        let deadline = Instant::now() + limit;
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            tracing::info!("the time to drain is over; recovery will do the rest");
            std::process::exit(0);
        });
        let share = limit.mul_f64(DRAIN_SHARE);
        self.phase.send_replace(Phase::Draining);
        let settled = async {
            for source in self.sources {
                let _ = source.await;
            }
            while self.admission.credits.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(share, settled).await;
        let sinks = self.sinks.finish();
        let finished = actix_rt::task::spawn_blocking(move || sinks.into_iter().for_each(|sink| drop(sink.join())));
        let _ = tokio::time::timeout(share, finished).await;
        let checkpointer = self.checkpointer;
        let _ = self.checkpoints.send(Request::Finish { deadline });
        let _ = actix_rt::task::spawn_blocking(move || checkpointer.join()).await;
        drop(self.shards);
        for arbiter in self.arbiters {
            arbiter.stop();
            let _ = actix_rt::task::spawn_blocking(move || arbiter.join()).await;
        }
        let writer = self.writer;
        let _ = actix_rt::task::spawn_blocking(move || writer.join()).await;
    }
}
