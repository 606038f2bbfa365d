//! Starting a node: the data folder, recovery, the writer, the shards, sinks, checkpoints, and at last the sources.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::agenda::Agenda;
use super::checkpointer::{Checkpointer, Request, slices};
use super::drain::{DRAIN_RESERVE, Node, terminated};
use super::fatal::{self, Fatal};
use super::guard::Guard;
use super::open_files;
use super::prepare::Prepared;
use super::recovery::{self, Opened, RecoveryError};
use super::replay::{Recovered, replay};
use super::shards::{delivering, type_metrics};
use super::sinks::{Setup, SinkError, Sinks};
use super::sources::{self, Bound, Kind};
use crate::actors::{Horizon, Shards, Slice, Tag};
use crate::admin::{self, Api, NodeState, Sources};
use crate::config::{Config, Limits};
use crate::egress::{Effects, EffectsSetup, NoteStep, write_cloud_event};
use crate::ingress::{Admission, Credits, Gate, Phase, Receiving, SourceMetrics};
use crate::journal::{JournalReader, JournalWriter};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::Lsn;
use crate::store::Store;
use crate::vital;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot listen on {address} (is it in use, or not this machine's?)")]
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
pub fn run(config: &Config, prepared: Prepared) -> Result<(), NodeError> {
    vital::end_process_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|source| NodeError::Start { what: "the I/O threads", source })?;
    let mut limits = config.tuning.limits.clone();
    limits.connections_max = open_files::connections_max(limits.connections_max, config.sources.len());
    let outcome = actix::System::new().block_on(async {
        let node = Starting { config, limits, prepared, runtime: &runtime }.run().await?;
        terminated().await.map_err(|source| NodeError::Start { what: "the handling of signals", source })?;
        node.drain().await;
        Ok(())
    });
    runtime.shutdown_timeout(DRAIN_RESERVE);
    outcome
}

pub(super) struct Starting<'a> {
    pub(super) config: &'a Config,
    /// As configured, and as the system allows.
    limits: Limits,
    pub(super) prepared: Prepared,
    runtime: &'a Runtime,
}

/// Describes something as it is at the moment.
type Describe = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the parts of a node share.
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) types: HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub(super) fatal: Fatal,
    pub(super) store: Store,
    pub(super) journal: JournalReader,
    pub(super) committed: watch::Receiver<Lsn>,
    pub(super) watermark: watch::Sender<Lsn>,
    pub(super) journaled_bytes: Arc<AtomicU64>,
    pub(super) handed_bytes: Arc<AtomicU64>,
    pub(super) saved_bytes: Arc<AtomicU64>,
    pub(super) horizon: Horizon,
    /// All shards, once they have started.
    pub(super) shards: Arc<OnceLock<Shards>>,
    pub(super) effects: Arc<Effects>,
}

impl Starting<'_> {
    async fn run(mut self) -> Result<Node, NodeError> {
        let bound = sources::bind_all(self.config)?;
        let metrics = Arc::new(Metrics::new());
        let types = type_metrics(&metrics, &self.prepared.ruleset);
        let (opened, recovered) = self.recover(&metrics, &types, &bound).await?;
        let watermark = opened.store.watermark().map_err(RecoveryError::from)?;
        let (committed, committed_seen) = watch::channel(opened.journal.last_lsn());
        metrics.journal_lsn.set(gauge(opened.journal.last_lsn()));
        metrics.watermark_lsn.set(gauge(watermark));
        let shards: Arc<OnceLock<Shards>> = Arc::default();
        let effects = self.effects(&metrics, &shards)?;
        let shared = Shared {
            effects,
            shards,
            metrics,
            types,
            fatal: fatal::exit(),
            journal: opened.journal.reader(),
            store: opened.store,
            committed: committed_seen,
            watermark: watch::Sender::new(watermark),
            // The tail that a crash left counts too, or crashes in a row would let it grow for ever.
            journaled_bytes: Arc::new(AtomicU64::new(recovered.bytes)),
            handed_bytes: Arc::default(),
            saved_bytes: Arc::default(),
            horizon: Horizon::default(),
        };
        let writing = self.writing(&shared, opened.journal, committed)?;
        let (slice_sender, slice_receiver) = slices(usize::from(self.config.tuning.actors.shards));
        let (shards, arbiters) = self.shards(&shared, &writing, &slice_sender, recovered.entities);
        let admission = self.admission(&shared, &shards);
        let sinks = self.sinks(&shared, &shards).await?;
        let (checkpoints, checkpointer) =
            self.checkpointer(&shared, &shards, &sinks, writing.writer, slice_receiver)?;
        self.guard(&shared, &admission);
        shared.horizon.start();
        let agenda = Agenda {
            store: shared.store.clone(),
            shards: shards.clone(),
            horizon: shared.horizon.clone(),
            fatal: shared.fatal.clone(),
        };
        self.runtime.spawn(agenda.load());

        let (phase, state) = (watch::Sender::new(Phase::Running), watch::Sender::new(NodeState::Ready));
        let entities: i64 = shared.types.values().map(|types| types.entities.get()).sum();
        let mut out = std::io::stdout();
        let _ = writeln!(out, "turnstile {} ready", env!("CARGO_PKG_VERSION"));
        let decoders = &mut self.prepared.decoders;
        let polled = sources::start_polling(self.config, decoders, &admission, &shards, &phase, self.runtime)?;
        let listed = sources::listed(self.config, &bound, &polled);
        let status = status(&shared, &shards, &sinks, listed.clone());
        let (mut tasks, mut http) = (polled.tasks, None);
        let mut described = Some((Sources { listed, polled: polled.controls }, status));
        for bound in bound {
            match bound.kind {
                Kind::Http => {
                    let _ = writeln!(out, "http listening on http://{}", bound.address);
                    let state = state.subscribe();
                    if let Some(described) = described.take() {
                        http = Some(self.http(bound, &shared, &shards, &admission, state, described)?);
                    }
                }
                Kind::Tcp(token) => {
                    let _ = writeln!(out, "source {} listening on {}", *bound.source.name, bound.address);
                    tasks.push(sources::serve_tcp(
                        bound,
                        token.clone(),
                        &mut self.prepared.decoders,
                        &admission,
                        &self.limits,
                        phase.subscribe(),
                        self.runtime,
                    )?);
                }
            }
        }
        let _ = writeln!(out, "recovered {entities} entities, {} records replayed", recovered.records);
        let _ = out.flush();
        Ok(Node {
            drain: self.config.tuning.limits.drain,
            horizon: shared.horizon,
            effects: shared.effects,
            shards,
            arbiters,
            admission,
            phase,
            state,
            sources: tasks,
            http,
            sinks,
            checkpoints,
            checkpointer,
            writer: writing.thread,
        })
    }

    /// Opens the data folder and replays the journal, on a thread of its own; HTTP says meanwhile that it is not ready.
    async fn recover(
        &self,
        metrics: &Arc<Metrics>,
        types: &HashMap<Arc<str>, Arc<TypeMetrics>>,
        bound: &[Bound<'_>],
    ) -> Result<(Opened, Recovered), NodeError> {
        let mut waiting = None;
        if let Some(bound) = bound.iter().find(|bound| matches!(bound.kind, Kind::Http)) {
            let listening = |source| NodeError::Listen { address: bound.address.to_string(), source };
            let listener = bound.listener.try_clone().map_err(listening)?;
            let server = admin::serve_recovering(metrics.clone(), listener).map_err(listening)?;
            waiting = Some(server.handle());
            actix_rt::spawn(server);
        }
        let (config, ruleset, types) = (self.config.clone(), self.prepared.ruleset.clone(), types.clone());
        let recovery = actix_rt::task::spawn_blocking(move || {
            let opened = recovery::open(&config.server.data_dir, &config.tuning, &ruleset)?;
            let recovered = replay(&opened, &types)?;
            Ok::<_, RecoveryError>((opened, recovered))
        });
        let recovered = recovery.await;
        if let Some(waiting) = waiting {
            waiting.stop(false).await;
        }
        let failed = |error| NodeError::Start { what: "recovery", source: std::io::Error::other(error) };
        Ok(recovered.map_err(failed)??)
    }

    fn effects(&self, metrics: &Metrics, shards: &Arc<OnceLock<Shards>>) -> Result<Arc<Effects>, NodeError> {
        let shards = shards.clone();
        let note: NoteStep = Arc::new(move |entity, input| match shards.get() {
            Some(shards) => shards.step(entity, input),
            // Calls come from shards: there are some.
            None => tokio::sync::oneshot::channel().1,
        });
        let effects = Effects::new(&EffectsSetup {
            ruleset: &self.prepared.ruleset,
            note,
            metrics,
            limits: &self.limits,
            runtime: self.runtime.handle().clone(),
        });
        effects.map(Arc::new).map_err(|source| NodeError::Start { what: "effects", source })
    }

    fn admission(&self, shared: &Shared, shards: &Shards) -> Arc<Admission> {
        let limits = &self.config.tuning.limits;
        Arc::new(Admission {
            ruleset: self.prepared.ruleset.clone(),
            credits: Credits::new(limits.in_flight_records_max, limits.in_flight_bytes_max),
            receiving: Receiving::new(limits.receiving_bytes_max, limits.receiving_timeout),
            gate: Gate::default(),
            metrics: shared.metrics.clone(),
            deliver: delivering(shards.clone()),
        })
    }

    async fn sinks(&mut self, shared: &Shared, shards: &Shards) -> Result<Sinks, SinkError> {
        Sinks::start(Setup {
            config: self.config,
            conditions: std::mem::take(&mut self.prepared.conditions),
            shards,
            store: &shared.store,
            journal: &shared.journal,
            ruleset: &self.prepared.ruleset,
            metrics: &shared.metrics,
            committed: &shared.committed,
            runtime: self.runtime.handle().clone(),
            fatal: shared.fatal.clone(),
        })
        .await
    }

    fn checkpointer(
        &self,
        shared: &Shared,
        shards: &Shards,
        sinks: &Sinks,
        journal: JournalWriter<Tag>,
        slices: crossbeam_channel::Receiver<Slice>,
    ) -> Result<(crossbeam_channel::Sender<Request>, std::thread::JoinHandle<()>), NodeError> {
        let (checkpoints, requests) = crossbeam_channel::bounded(1);
        let checkpointer = Checkpointer {
            store: shared.store.clone(),
            shards: shards.clone(),
            slices,
            requests,
            committed: shared.committed.clone(),
            journal,
            journaled_bytes: shared.journaled_bytes.clone(),
            handed_bytes: shared.handed_bytes.clone(),
            metrics: shared.metrics.clone(),
            tuning: self.config.tuning.clone(),
            sinks_delivered: sinks.delivered(),
            fatal: shared.fatal.clone(),
            watermark: shared.watermark.clone(),
            saved_bytes: shared.saved_bytes.clone(),
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || checkpointer.run());
        Ok((checkpoints, thread.map_err(|source| NodeError::Start { what: "the checkpointer", source })?))
    }

    fn guard(&self, shared: &Shared, admission: &Arc<Admission>) {
        let guard = Guard {
            folder: self.config.server.data_dir.clone(),
            tuning: self.config.tuning.clone(),
            admission: admission.clone(),
            journal: shared.journal.clone(),
            store: shared.store.clone(),
            metrics: shared.metrics.clone(),
            journaled_bytes: shared.journaled_bytes.clone(),
            handed_bytes: shared.handed_bytes.clone(),
            saved_bytes: shared.saved_bytes.clone(),
        };
        guard.look();
        self.runtime.spawn(guard.run());
    }

    fn http(
        &mut self,
        bound: Bound<'_>,
        shared: &Shared,
        shards: &Shards,
        admission: &Arc<Admission>,
        state: watch::Receiver<NodeState>,
        (sources, status): (Sources, Describe),
    ) -> Result<actix_web::dev::ServerHandle, NodeError> {
        let server_name = self.config.server.name.clone();
        let api = Api {
            server_name: server_name.clone(),
            admission: admission.clone(),
            decoder: sources::take_decoder(&mut self.prepared.decoders, sources::HTTP)?,
            source: SourceMetrics::new(&shared.metrics, sources::HTTP),
            shards: shards.clone(),
            store: shared.store.clone(),
            journal: shared.journal.clone(),
            ruleset: self.prepared.ruleset.clone(),
            metrics: shared.metrics.clone(),
            token: self.config.server.token.clone(),
            limits: self.limits.clone(),
            committed: shared.committed.clone(),
            state,
            fatal: shared.fatal.clone(),
            render_decisions: Arc::new(move |_, record| {
                let render = |decision| {
                    let mut out = Vec::new();
                    write_cloud_event(&mut out, &server_name, record, decision);
                    out
                };
                record.decisions.iter().map(render).collect()
            }),
            sources,
            status,
        };
        let server = admin::serve(Arc::new(api), bound.listener)
            .map_err(|source| NodeError::Listen { address: bound.address.to_string(), source })?;
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(handle)
    }
}

/// The node's own members of the status document.
fn status(shared: &Shared, shards: &Shards, sinks: &Sinks, sources: Describe) -> Describe {
    let started = Instant::now();
    let sinks = sinks.status();
    let (committed, watermark) = (shared.committed.clone(), shared.watermark.subscribe());
    let shards = shards.count();
    Arc::new(move || {
        let committed = *committed.borrow();
        serde_json::json!({
            "uptime_seconds": started.elapsed().as_secs(),
            "lsn": committed.0,
            "watermark": watermark.borrow().0,
            "shards": shards,
            "sources": sources(),
            "sinks": sinks(),
        })
    })
}

fn gauge(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}
