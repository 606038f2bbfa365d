//! Starting the sinks where their progress says, and ending them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fatal::Fatal;
use super::retention::Need;
use crate::actors::Shards;
use crate::admin;
use crate::config::{self, Config, SinkKind};
use crate::disk::{Disk, RealDisk};
use crate::egress::{
    Beyond, DispatcherSetup, FileSink, LineSink, Lines, Nats, Outlet, Reached, Retry, Routing, Sends, SendsSetup,
    SinkControl, SinkPhase, StdoutSink, Takes, Transport, Webhook, dispatch,
};
use crate::journal::JournalReader;
use crate::metrics::Metrics;
use crate::model::ids::{EntityKey, Incarnation, Lsn};
use crate::model::record::Input;
use crate::model::system::{DEAD_LETTER_KIND, SINK_KIND, SinkProgress, SinkWindow, SystemState};
use crate::rules::{Expr, Ruleset};
use crate::store::{Beginning, Store};
use crate::telemetry::Tracer;
use crate::vital;

/// Pauses after a message that NATS did not take.
const NATS_RETRY: Retry =
    Retry { attempts_max: None, first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// Of the time to finish, what is kept back for the last note of progress.
const NOTE_SHARE: f64 = 0.1;

/// So many dead letters are looked up at a time.
const KEYS_AT_ONCE: usize = 500;

/// What sinks are started with.
pub struct Setup<'a> {
    pub config: &'a Config,
    /// The compiled `if` of those that have one.
    pub conditions: HashMap<String, Expr>,
    pub shards: &'a Shards,
    pub store: &'a Store,
    /// Which incarnation of the data folder this is.
    pub beginning: Beginning,
    pub journal: &'a JournalReader,
    pub ruleset: &'a Arc<Ruleset>,
    pub metrics: &'a Arc<Metrics>,
    pub tracer: &'a Tracer,
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
    reached: Arc<Reached>,
    delivered: IntCounter,
    lag: IntGauge,
    control: SinkControl,
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
    pub async fn start(mut setup: Setup<'_>) -> Result<Self, SinkError> {
        let phase = watch::Sender::new(SinkPhase::Running);
        let mut sinks = Sinks { phase, threads: Vec::new(), running: Vec::new() };
        count_dead_letters(&setup).await;
        let mut prepared = Vec::new();
        for declared in &setup.config.sinks {
            prepared.push(sinks.prepare(declared, &mut setup).await?);
        }
        // None runs before all can.
        for dispatcher in prepared {
            sinks.run(dispatcher, &setup)?;
        }
        Ok(sinks)
    }

    async fn prepare(&mut self, declared: &config::Sink, setup: &mut Setup<'_>) -> Result<DispatcherSetup, SinkError> {
        let name = declared.name.value.clone();
        let entity = EntityKey::new(SINK_KIND, &name);
        let snapshot = setup.shards.read(&entity).await;
        // What was noted before the restore says nothing of what was delivered after the backup.
        let Beginning { incarnation, after } = setup.beginning;
        let is_of_now = incarnation == Incarnation::default()
            || snapshot.as_ref().is_none_or(|snapshot| snapshot.lsns.last > after);
        let stored = snapshot.and_then(|snapshot| snapshot.state.system).map(|system| *system);
        let is_new = stored.is_none();
        let begin = Begin::new(declared, stored, setup.journal);
        let beyond = if is_of_now { Beyond::Cut } else { Beyond::Keep };
        let (outlet, done, control) = outlet(declared, begin, beyond, setup).await?;
        if is_new || !is_of_now {
            // Durable before anything is delivered, or a crash would move the sink's beginning, or the end of its file.
            let _ = setup.shards.note(entity.clone(), outlet.progress()).await;
        }
        let reached = Arc::new(Reached::new(done.delivered()));
        let shards = setup.shards.clone();
        let dispatcher = DispatcherSetup {
            routing: Routing {
                sink: name.clone(),
                server: setup.config.server.name.clone(),
                ruleset: setup.ruleset.clone(),
                takes: takes(declared, &setup.config.sinks),
                condition: setup.conditions.remove(&name),
                metrics: setup.metrics.clone(),
                tracer: setup.tracer.clone(),
                told: AtomicBool::new(false),
            },
            outlet,
            done,
            journal: setup.journal.clone(),
            note: Box::new(move |input| shards.note(entity.clone(), input)),
            reached: reached.clone(),
        };
        let delivered = setup.metrics.sink_deliveries.with_label_values(&[name.as_str(), "ok"]);
        let lag = setup.metrics.sink_lag.with_label_values(&[&name]);
        self.running.push(Running { name, kind: kind_name(&declared.kind), reached, delivered, lag, control });
        Ok(dispatcher)
    }

    fn run(&mut self, dispatcher: DispatcherSetup, setup: &Setup<'_>) -> Result<(), SinkError> {
        let name = dispatcher.routing.sink.clone();
        let (committed, phase) = (setup.committed.clone(), self.phase.subscribe());
        let (fatal, runtime) = (setup.fatal.clone(), setup.runtime.clone());
        let run = move || {
            vital::mark();
            if let Err(error) = dispatch(dispatcher, committed, phase, &runtime) {
                fatal(&error);
            }
        };
        let thread = std::thread::Builder::new().name(format!("sink {name}")).spawn(run);
        self.threads.push(thread.map_err(|source| SinkError { name, what: "no thread".into(), source })?);
        Ok(())
    }

    /// A function that tells how far no sink will ever deliver anything again.
    pub fn settled(&self) -> Arc<dyn Fn() -> Lsn + Send + Sync> {
        let reached: Vec<_> = self.running.iter().map(|sink| sink.reached.clone()).collect();
        Arc::new(move || reached.iter().map(|reached| reached.settled()).min().unwrap_or(Lsn(u64::MAX)))
    }

    /// A function that tells what each of them still has to read.
    pub fn needs(&self) -> Arc<dyn Fn() -> Vec<Need> + Send + Sync> {
        let sinks = self.running.clone();
        let need = |sink: &Running| Need::after(format!("sink {}", sink.name), sink.reached.noted());
        Arc::new(move || sinks.iter().map(need).collect())
    }

    /// A function that describes the sinks for the status document: how many decisions each has taken since the start,
    /// how many records it has yet to pass, and the LSN it would go on from after a crash.
    pub fn status(&self) -> impl Fn() -> serde_json::Value + Send + Sync + use<> {
        let sinks = self.running.clone();
        move || {
            let shown = sinks.iter().map(|sink| {
                let mut document = serde_json::json!({
                    "name": sink.name,
                    "kind": sink.kind,
                    "lsn": sink.reached.noted().0,
                    "delivered": sink.delivered.get(),
                    "lag": sink.lag.get(),
                });
                if let Some(trouble) = sink.control.trouble() {
                    document["trouble"] = trouble.into();
                }
                document
            });
            shown.collect()
        }
    }

    /// What may be asked of them over HTTP.
    pub fn asked(&self) -> admin::Sinks {
        let controls = self.running.iter().map(|sink| (sink.name.clone(), sink.control.clone())).collect();
        admin::Sinks { listed: Arc::new(self.status()), controls }
    }

    /// Lets the sinks deliver what is committed, for so long at most; returns their threads, which end after that.
    pub fn finish(self, limit: Duration) -> Vec<JoinHandle<()>> {
        let until = Instant::now() + limit.mul_f64(1.0 - NOTE_SHARE);
        self.phase.send_replace(SinkPhase::Finishing(until));
        self.threads
    }
}

/// Counts the dead letters that are there, by reason; those that come later are counted where they are recorded.
async fn count_dead_letters(setup: &Setup<'_>) {
    let kind: Arc<str> = DEAD_LETTER_KIND.into();
    let mut after: Option<String> = None;
    loop {
        // In this order: what is stored in between is found there.
        let mut keys = setup.shards.unsaved(&kind, after.as_deref(), "", KEYS_AT_ONCE).await;
        match setup.store.keys(&kind, after.as_deref(), "", KEYS_AT_ONCE) {
            Ok(stored) => keys.extend(stored),
            Err(error) => return (setup.fatal)(&error),
        }
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(KEYS_AT_ONCE);
        for key in &keys {
            let read = setup.shards.read(&EntityKey::new(DEAD_LETTER_KIND, key)).await;
            let system = read.and_then(|snapshot| snapshot.state.system);
            if let Some(SystemState::DeadLetter(letter)) = system.as_deref() {
                setup.metrics.dead_letters.with_label_values(&[&*letter.reason]).inc();
            }
        }
        match keys.pop() {
            Some(last) if keys.len() + 1 == KEYS_AT_ONCE => after = Some(last.to_string()),
            _ => return,
        }
    }
}

/// Where a sink begins: after what it has finished.
enum Begin {
    InOrder(SinkProgress),
    Window(SinkWindow),
}

impl Begin {
    /// A sink that has become one of another kind goes on where it was, and may deliver a little again.
    fn new(declared: &config::Sink, stored: Option<SystemState>, journal: &JournalReader) -> Self {
        let window = match stored {
            Some(SystemState::Progress(progress)) if is_in_order(&declared.kind) => return Begin::InOrder(progress),
            Some(SystemState::Progress(progress)) => SinkWindow::through(progress.delivered),
            Some(SystemState::Window(window)) => window,
            _ => SinkWindow::through(match declared.from {
                config::From::New => journal.last_lsn(),
                config::From::All => Lsn(journal.first_lsn().0.saturating_sub(1)),
            }),
        };
        if !is_in_order(&declared.kind) {
            return Begin::Window(window);
        }
        let offset = match &declared.kind {
            SinkKind::File { path } => RealDisk.length(path).unwrap_or(0),
            _ => 0,
        };
        Begin::InOrder(SinkProgress { delivered: window.delivered(), offset })
    }
}

fn is_in_order(kind: &SinkKind) -> bool {
    matches!(kind, SinkKind::Stdout | SinkKind::File { .. })
}

/// What a sink is for, among all of them.
fn takes(declared: &config::Sink, all: &[config::Sink]) -> Takes {
    if declared.dead_letters {
        let for_letters = all.iter().filter(|sink| sink.dead_letters);
        return Takes::DeadLetters(for_letters.map(|sink| sink.name.value.clone()).collect());
    }
    Takes::Decisions(declared.types.iter().map(|glob| glob.value.clone()).collect())
}

fn kind_name(kind: &SinkKind) -> &'static str {
    match kind {
        SinkKind::Stdout => "stdout",
        SinkKind::File { .. } => "file",
        SinkKind::Nats(_) => "nats",
        SinkKind::Webhook(_) => "webhook",
    }
}

/// The outlet of a sink, and what it has finished.
async fn outlet(
    declared: &config::Sink,
    begin: Begin,
    beyond: Beyond,
    setup: &Setup<'_>,
) -> Result<(Box<dyn Outlet>, SinkWindow, SinkControl), SinkError> {
    let name = &declared.name.value;
    let failed = |what: String| move |source| SinkError { name: name.clone(), what, source };
    let progress = match begin {
        Begin::InOrder(mut progress) => {
            let sink: Box<dyn LineSink> = match &declared.kind {
                SinkKind::File { path } => {
                    let opened = FileSink::open(path, progress.offset, beyond);
                    let opened = opened.map_err(failed(format!("cannot open {}", path.display())))?;
                    progress.offset = opened.length();
                    Box::new(opened)
                }
                _ => Box::new(StdoutSink),
            };
            let done = SinkWindow::through(progress.delivered);
            let lines = Lines::new(name, sink, progress, setup.tracer.clone(), setup.metrics);
            let control = lines.control();
            return Ok((Box::new(lines), done, control));
        }
        Begin::Window(window) => window,
    };
    let (transport, in_flight_max, retry) =
        transport(declared, &setup.runtime).await.map_err(failed("set-up".into()))?;
    let shards = setup.shards.clone();
    let sends = SendsSetup {
        name: name.clone(),
        transport,
        progress: progress.clone(),
        in_flight_max,
        retry,
        tracer: setup.tracer.clone(),
        bury: Box::new(move |letter| {
            let entity = EntityKey::new(DEAD_LETTER_KIND, letter.origin.key());
            shards.note(entity, Input::DeadLetter(Box::new(letter)))
        }),
        runtime: setup.runtime.clone(),
    };
    let sends = Sends::new(sends, setup.metrics);
    let control = sends.control();
    Ok((Box::new(sends), progress, control))
}

async fn transport(declared: &config::Sink, runtime: &Handle) -> std::io::Result<(Arc<dyn Transport>, usize, Retry)> {
    match &declared.kind {
        SinkKind::Nats(nats) => {
            let (name, nats) = (declared.name.value.clone(), nats.clone());
            let window = nats.window;
            // It connects in the background, on the threads that the rest of the network is on.
            let connecting = runtime.spawn(async move { Nats::connect(&name, &nats, window).await });
            Ok((Arc::new(connecting.await??), window, NATS_RETRY))
        }
        SinkKind::Webhook(webhook) => {
            let (first, longest) = webhook.backoff;
            let retry = Retry { attempts_max: Some(webhook.attempts), first, longest };
            Ok((Arc::new(Webhook::new(webhook)?), webhook.window, retry))
        }
        SinkKind::Stdout | SinkKind::File { .. } => Err(std::io::Error::other("it is not one that sends")),
    }
}
