//! The end of a node: what was read is settled, sinks finish, what time allows is stored; the rest is left to recovery.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::Arbiter;
use actix_rt::task::spawn_blocking;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::checkpointer::Request;
use super::http;
use super::sinks::Sinks;
use super::traces::Traces;
use crate::actors::{Horizon, Shards};
use crate::admin::{HttpServer, NodeState, Stop};
use crate::egress::Effects;
use crate::ingress::{Admission, Phase};
use crate::journal::Journal;

/// Of the time to drain, what is kept back for the last steps.
pub(super) const DRAIN_RESERVE: Duration = Duration::from_millis(500);
/// The share of the time to drain that senders and sinks get, each.
const DRAIN_SHARE: f64 = 0.4;
/// How often it is looked whether everything admitted is settled.
const SETTLED_EVERY: Duration = Duration::from_millis(5);

/// A running node.
pub(super) struct Node {
    pub drain: Duration,
    pub horizon: Horizon,
    pub effects: Arc<Effects>,
    pub traces: Traces,
    pub shards: Shards,
    pub arbiters: Vec<Arbiter>,
    pub admission: Arc<Admission>,
    pub phase: watch::Sender<Phase>,
    pub state: watch::Sender<NodeState>,
    pub sources: Vec<tokio::task::JoinHandle<()>>,
    pub http: Vec<HttpServer>,
    pub sinks: Sinks,
    /// It is carried on after the next start.
    pub forgetter: tokio::task::JoinHandle<()>,
    pub checkpoints: crossbeam_channel::Sender<Request>,
    pub checkpointer: JoinHandle<()>,
    pub writer: JoinHandle<Option<Journal>>,
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn terminated() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    Ok(())
}

impl Node {
    /// Ends the node, step by step, each with its share of the time.
    pub async fn drain(self) {
        let limit = self.drain.saturating_sub(DRAIN_RESERVE);
        let deadline = Instant::now() + limit;
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            tracing::info!("the time to drain is over; recovery will do the rest");
            std::process::exit(0);
        });
        let share = limit.mul_f64(DRAIN_SHARE);
        self.state.send_replace(NodeState::Draining);
        self.admission.metrics.node.ready.set(0);
        self.phase.send_replace(Phase::Draining);
        self.forgetter.abort();
        self.horizon.stop();
        let effects = self.effects;
        let calls = tokio::spawn(async move { effects.drain(share).await });
        let settled = async {
            for source in self.sources {
                let _ = source.await;
            }
            while self.admission.credits.in_flight() > 0 {
                tokio::time::sleep(SETTLED_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(share, settled).await;
        // Their outcomes are recorded like all that was settled.
        let _ = calls.await;
        let _ = tokio::time::timeout(share, http::stop(self.http, Stop::Gracefully)).await;
        let sinks = self.sinks.finish(share);
        let finished = spawn_blocking(move || sinks.into_iter().for_each(|sink| drop(sink.join())));
        let _ = tokio::time::timeout(share, finished).await;
        // Nothing makes spans any more; they leave while states are stored.
        let exporting = tokio::spawn(self.traces.finish(share));
        let checkpointer = self.checkpointer;
        let _ = self.checkpoints.send(Request::Finish { deadline });
        let _ = spawn_blocking(move || checkpointer.join()).await;
        drop(self.shards);
        for arbiter in self.arbiters {
            arbiter.stop();
            let _ = spawn_blocking(move || arbiter.join()).await;
        }
        let writer = self.writer;
        let _ = spawn_blocking(move || writer.join()).await;
        let _ = exporting.await;
        tracing::info!("drained");
    }
}
