//! Starting a node: the data folder, recovery, the writer, the shards, sinks, checkpoints, and at last the sources.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::agenda::Agenda;
use super::checkpointer::{Checkpointer, Request, slices};
use super::drain::{DRAIN_RESERVE, Node, terminated};
use super::fatal::{self, Fatal};
use super::forget::Forgetter;
use super::guard::Guard;
use super::http::{self, Http};
use super::nats_sources::NatsSources;
use super::open_files;
use super::prepare::Prepared;
use super::rebuild;
use super::recovery::{self, Opened, RecoveryError};
use super::reload;
use super::replay::{Recovered, count_stored, replay};
use super::retention::{Holds, Kept};
use super::shards::{delivering, type_metrics};
use super::sinks::{Setup, SinkError, Sinks};
use super::sources::{self, Bound};
use super::told::Told;
use super::traces::Traces;
use crate::actors::{Horizon, Pauses, Shards, Slice, Tag};
use crate::admin::{NodeState, Sources, Stop};
use crate::config::{Config, Limits};
use crate::egress::{Effects, EffectsSetup, NoteStep};
use crate::ingress::{Admission, Again, Credits, Gate, Phase, Receipts, Receiving};
use crate::journal::{JournalReader, JournalRewriter, JournalWriter};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::Lsn;
use crate::store::{Beginning, Store};
use crate::telemetry::Tracer;
use crate::vital;

/// What a node is started for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Production,
    /// It runs beside production, on the same input: no effect is called.
    Shadow,
}

/// How a node is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// What to do if the rules were changed.
    pub changed: rebuild::Mode,
    pub role: Role,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot listen on {address} (is it in use, or not this machine's?)")]
    Listen { address: String, source: std::io::Error },
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("source `{name}` cannot start")]
    Source { name: String, source: std::io::Error },
    #[error("cannot start {what}")]
    Start { what: &'static str, source: std::io::Error },
}

/// Runs a node until SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// When it cannot start. Once it runs, a failing disk ends the process with exit code 3.
pub fn run(config: &Config, prepared: Prepared, options: StartOptions) -> Result<(), NodeError> {
    vital::end_process_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|source| NodeError::Start { what: "the I/O threads", source })?;
    let mut limits = config.tuning.limits.clone();
    let listeners = config.sources.len() + usize::from(config.server.admin.is_some());
    limits.connections_max = open_files::connections_max(limits.connections_max, listeners);
    let outcome = actix::System::new().block_on(async {
        let node = Starting { config, limits, prepared, options, runtime: &runtime }.run().await?;
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
    pub(super) limits: Limits,
    pub(super) prepared: Prepared,
    pub(super) options: StartOptions,
    pub(super) runtime: &'a Runtime,
}

/// What the parts of a node share.
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) types: HashMap<Arc<str>, Arc<TypeMetrics>>,
    pub(super) fatal: Fatal,
    pub(super) store: Store,
    pub(super) beginning: Beginning,
    pub(super) journal: JournalReader,
    pub(super) rewriter: JournalRewriter,
    pub(super) kept: watch::Sender<Kept>,
    pub(super) committed: watch::Receiver<Lsn>,
    pub(super) watermark: watch::Sender<Lsn>,
    pub(super) journaled_bytes: Arc<AtomicU64>,
    pub(super) handed_bytes: Arc<AtomicU64>,
    pub(super) saved_bytes: Arc<AtomicU64>,
    pub(super) horizon: Horizon,
    pub(super) holds: Holds,
    /// All shards, once they have started.
    pub(super) shards: Arc<OnceLock<Shards>>,
    pub(super) effects: Arc<Effects>,
    pub(super) pauses: Arc<Pauses>,
    pub(super) tracer: Tracer,
}

impl Starting<'_> {
    async fn run(mut self) -> Result<Node, NodeError> {
        let http = Http::bind(self.config)?;
        let bound = sources::bind_all(self.config)?;
        self.reload_on_hangup(http.as_ref(), &bound)?;
        let metrics = Arc::new(Metrics::new());
        let types = type_metrics(&metrics, &self.prepared.ruleset);
        let (opened, recovered) = self.recover(&metrics, &types, http.as_ref()).await?;
        let (committed, committed_seen) = watch::channel(opened.journal.last_lsn());
        metrics.journal_lsn.set(gauge(opened.journal.last_lsn()));
        metrics.watermark_lsn.set(gauge(opened.watermark));
        let shards: Arc<OnceLock<Shards>> = Arc::default();
        let traces = Traces::start(self.config, &metrics, self.runtime.handle())?;
        let effects = self.effects(&metrics, &traces.tracer, &shards)?;
        let shared = Shared {
            effects,
            pauses: Arc::new(Pauses::new(&self.prepared.ruleset)),
            tracer: traces.tracer.clone(),
            shards,
            metrics,
            types,
            fatal: fatal::exit(),
            journal: opened.journal.reader(),
            rewriter: opened.journal.rewriter(),
            kept: watch::Sender::default(),
            store: opened.store,
            beginning: opened.beginning,
            committed: committed_seen,
            watermark: watch::Sender::new(opened.watermark),
            // The tail that a crash left counts too, or crashes in a row would let it grow for ever.
            journaled_bytes: Arc::new(AtomicU64::new(recovered.bytes)),
            handed_bytes: Arc::default(),
            saved_bytes: Arc::default(),
            horizon: Horizon::default(),
            holds: Holds::default(),
        };
        let writing = self.writing(&shared, opened.journal, committed)?;
        let (slice_sender, slice_receiver) = slices(usize::from(self.config.tuning.actors.shards));
        let (shards, arbiters) = self.shards(&shared, &writing, &slice_sender, recovered.entities);
        shared.pauses.load(&shards).await;
        let admission = self.admission(&shared, &shards);
        let again = Again::new(admission.clone(), sources::with_letters(self.config, &self.prepared.decoders));
        let phase = watch::Sender::new(Phase::Running);
        let messages =
            NatsSources::connect(self.config, &mut self.prepared.decoders, &admission, &shards, &phase, self.runtime)
                .await?;
        let sinks = self.sinks(&shared, &shards).await?;
        let (checkpoints, checkpointer) =
            self.checkpointer(&shared, &shards, &sinks, writing.writer.clone(), slice_receiver)?;
        let (forgetter, forgetting) =
            Forgetter::start(&shared, &shards, &sinks, writing.writer, &checkpoints, self.runtime);
        self.guard(&shared, &admission);
        self.turn_wheels(&shared, &shards);

        let state = watch::Sender::new(NodeState::Ready);
        shared.metrics.node.ready.set(1);
        let entities: i64 = shared.types.values().map(|types| types.entities.get()).sum();
        let mut out = std::io::stdout();
        let role = if self.options.role == Role::Shadow { " (shadow: no effects are called)" } else { "" };
        let _ = writeln!(out, "turnstile {} ready{role}", env!("CARGO_PKG_VERSION"));
        let decoders = &mut self.prepared.decoders;
        let polled = sources::start_polling(self.config, decoders, &admission, &shards, &phase, self.runtime)?;
        let listening = http.iter().flat_map(|http| http.status(self.config)).chain(bound.iter().map(Bound::status));
        let listed = sources::listed(listening.collect(), &polled, &messages);
        let told = Told::new(&shared, self.options.role, shards.count(), &sinks, listed.clone(), &messages);
        let listed = Sources { listed, polled: polled.controls };
        let http = match http {
            Some(http) => {
                let asked = (listed, sinks.asked(), told, forgetting);
                let api = self.api(&shared, &shards, &admission, state.subscribe(), asked, again)?;
                http.serve(api, &mut out)?
            }
            None => Vec::new(),
        };
        let mut tasks = polled.tasks;
        for bound in bound {
            let _ = writeln!(out, "source {} listening on {}", *bound.source.name, bound.address);
            let (decoders, phase) = (&mut self.prepared.decoders, phase.subscribe());
            tasks.push(sources::serve_tcp(bound, decoders, &admission, &self.limits, phase, self.runtime)?);
        }
        tasks.extend(messages.start(&mut out, self.runtime));
        let _ = writeln!(out, "recovered {entities} entities, {} records replayed", recovered.records);
        let _ = out.flush();
        Ok(Node {
            drain: self.config.tuning.limits.drain,
            horizon: shared.horizon,
            effects: shared.effects,
            traces,
            shards,
            arbiters,
            admission,
            phase,
            state,
            sources: tasks,
            http,
            sinks,
            forgetter,
            checkpoints,
            checkpointer,
            writer: writing.thread,
        })
    }

    /// Looks at entities whose time has come, from now on.
    fn turn_wheels(&self, shared: &Shared, shards: &Shards) {
        shared.horizon.start();
        let agenda = Agenda {
            store: shared.store.clone(),
            shards: shards.clone(),
            horizon: shared.horizon.clone(),
            pauses: shared.pauses.clone(),
            fatal: shared.fatal.clone(),
        };
        self.runtime.spawn(agenda.load());
    }

    /// Certificates are read again when SIGHUP comes.
    fn reload_on_hangup(&self, http: Option<&Http>, bound: &[Bound<'_>]) -> Result<(), NodeError> {
        let secured = http.iter().map(|http| (sources::HTTP.to_owned(), &http.certificates));
        let secured = secured.chain(bound.iter().map(|bound| (bound.source.name.value.clone(), &bound.certificates)));
        let secured = secured.filter_map(|(name, certificates)| Some((name, certificates.clone()?)));
        reload::on_hangup(secured.collect(), self.runtime)
    }

    /// Opens the data folder, replays the journal, and makes states anew if the rules changed, on a thread of its own; HTTP
    /// says meanwhile that it is not ready.
    async fn recover(
        &self,
        metrics: &Arc<Metrics>,
        types: &HashMap<Arc<str>, Arc<TypeMetrics>>,
        http: Option<&Http>,
    ) -> Result<(Opened, Recovered), NodeError> {
        let progress: Arc<rebuild::Progress> = Arc::default();
        let waiting = http.map(|http| http.serve_recovering(metrics, &self.limits, &progress)).transpose()?;
        let (config, ruleset, types) = (self.config.clone(), self.prepared.ruleset.clone(), types.clone());
        let mode = self.options.changed;
        let recovery = actix_rt::task::spawn_blocking(move || {
            let mut opened = recovery::open(&config.server.data_dir, &config.tuning, &ruleset)?;
            let recovered = replay(&opened, &types)?;
            let Some(plan) = opened.changed.take() else { return Ok((opened, recovered)) };
            let records = recovered.records;
            let opened = rebuild::run(opened, recovered, &plan, &ruleset, mode, &progress)?;
            count_stored(&opened.store, &types)?;
            Ok::<_, RecoveryError>((opened, Recovered { records, ..Recovered::default() }))
        });
        let recovered = recovery.await;
        if let Some(waiting) = waiting {
            http::stop(waiting, Stop::AtOnce).await;
        }
        let failed = |error| NodeError::Start { what: "recovery", source: std::io::Error::other(error) };
        Ok(recovered.map_err(failed)??)
    }

    fn effects(
        &self,
        metrics: &Metrics,
        tracer: &Tracer,
        shards: &Arc<OnceLock<Shards>>,
    ) -> Result<Arc<Effects>, NodeError> {
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
            tracer: tracer.clone(),
            limits: &self.limits,
            runtime: self.runtime.handle().clone(),
        });
        effects.map(Arc::new).map_err(|source| NodeError::Start { what: "effects", source })
    }

    fn admission(&mut self, shared: &Shared, shards: &Shards) -> Arc<Admission> {
        let limits = &self.config.tuning.limits;
        Arc::new(Admission {
            ruleset: self.prepared.ruleset.clone(),
            credits: Credits::new(limits.in_flight_records_max, limits.in_flight_bytes_max),
            receiving: Receiving::new(limits.receiving_bytes_max, limits.receiving_timeout),
            gate: Gate::default(),
            metrics: shared.metrics.clone(),
            tracer: shared.tracer.clone(),
            receipts: Receipts::default(),
            deliver: delivering(shards.clone()),
            sequences: std::mem::take(&mut self.prepared.sequences),
        })
    }

    async fn sinks(&mut self, shared: &Shared, shards: &Shards) -> Result<Sinks, SinkError> {
        Sinks::start(Setup {
            config: self.config,
            conditions: std::mem::take(&mut self.prepared.conditions),
            shards,
            store: &shared.store,
            beginning: shared.beginning,
            journal: &shared.journal,
            ruleset: &self.prepared.ruleset,
            metrics: &shared.metrics,
            tracer: &shared.tracer,
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
            sinks_need: sinks.needs(),
            reader: shared.journal.clone(),
            data_dir: self.config.server.data_dir.clone(),
            kept: shared.kept.clone(),
            fatal: shared.fatal.clone(),
            watermark: shared.watermark.clone(),
            saved_bytes: shared.saved_bytes.clone(),
            holds: shared.holds.clone(),
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || checkpointer.run());
        Ok((checkpoints, thread.map_err(|source| NodeError::Start { what: "the checkpointer", source })?))
    }

    fn guard(&self, shared: &Shared, admission: &Arc<Admission>) {
        let connections_max = i64::try_from(self.limits.connections_max).unwrap_or(i64::MAX);
        shared.metrics.node.connections_max.set(connections_max);
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
}

fn gauge(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}
