//! Verifying a running node: on a thread of its own that steps back before all others, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::checkpointer::step_back;
use super::fatal::causes;
use super::retention::{Holds, Kept};
use super::start::{Role, Shared, Starting};
use crate::actors::{Shards, Snapshot};
use crate::admin::{NodeState, NotVerified, Verify};
use crate::config::{Config, HTTP_SOURCE};
use crate::journal::{JournalError, JournalReader};
use crate::metrics::Metrics;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::time::Timestamp;
use crate::rehearsal::verify::{
    AgainstError, Batch, Effects, Findings, HELD_MAX, Heard, Kind, Options, Progress, Report, Setup, VerifyError,
    World, against, verify,
};
use crate::rules::Ruleset;
use crate::store::Store;

/// So many entities are asked at a time.
const READS_AT_ONCE: usize = 32;
/// Lines that wait for whoever asked; of more, those that tell how far it is are left out.
const LINES_MAX: usize = 16;

/// What to do where the journal was trimmed although it is verified.
const TRIMMED: &str =
    "that happens while the disk has too little room (limits.disk_free_min): make room, then verify again";

/// A node that runs, as it is verified.
#[derive(Clone)]
struct Running {
    config: Arc<Config>,
    ruleset: Arc<Ruleset>,
    shards: Shards,
    store: Store,
    journal: JournalReader,
    committed: watch::Receiver<Lsn>,
    kept: watch::Receiver<Kept>,
    state: watch::Receiver<NodeState>,
    runtime: Handle,
    metrics: Arc<Metrics>,
    started: Timestamp,
    effects: Effects,
}

impl Starting<'_> {
    /// What the interface verifies with.
    pub(super) fn verifying(&self, shared: &Shared, shards: &Shards, state: watch::Receiver<NodeState>) -> Verify {
        let running = Running {
            config: Arc::new(self.config.clone()),
            ruleset: self.prepared.ruleset.clone(),
            shards: shards.clone(),
            store: shared.store.clone(),
            journal: shared.journal.clone(),
            committed: shared.committed.clone(),
            kept: shared.kept.subscribe(),
            state,
            runtime: self.runtime.handle().clone(),
            metrics: shared.metrics.clone(),
            started: Timestamp::now(),
            effects: if self.options.role == Role::Shadow { Effects::LeftOut } else { Effects::Called },
        };
        let (comparing, holds) = (running.clone(), shared.holds.clone());
        Verify {
            begin: Arc::new(move |body| begin(&running, body, &holds)),
            against: Arc::new(move |body| compare(&comparing, body)),
        }
    }
}

/// Begins a verification, unless one is under way. As long as it is busy, nothing of the journal is trimmed unless room is
/// short.
fn begin(running: &Running, body: &[u8], holds: &Holds) -> Result<mpsc::Receiver<Vec<u8>>, NotVerified> {
    let options = Options::parse(body).map_err(NotVerified::Invalid)?;
    if !holds.verify() {
        return Err(NotVerified::Busy);
    }
    let ending = Ending(holds.verification.clone());
    let (lines, told) = mpsc::channel(LINES_MAX);
    let running = running.clone();
    let run = move || {
        step_back();
        let last = running.run(options, &lines);
        // Whoever has the report may ask for the next one.
        drop(ending);
        // Nobody is there to read it: then it is not needed.
        let _ = lines.try_send(line(&last));
    };
    let thread = std::thread::Builder::new().name("verify".to_owned()).spawn(run);
    thread.map(|_| told).map_err(|error| NotVerified::Failed(format!("no thread: {error}")))
}

/// Lets the next one begin when this one is gone, however it went.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Running {
    /// Verifies; gives the last line.
    fn run(&self, options: Options, lines: &mpsc::Sender<Vec<u8>>) -> serde_json::Value {
        let setup = Setup {
            world: self,
            ruleset: &self.ruleset,
            config: &self.config,
            options,
            effects: self.effects,
            records_per_second: Some(self.config.tuning.limits.verify_records_per_second),
            held_max: HELD_MAX,
        };
        let mut tell = |Progress { done, total, entities }| {
            // There is always room for the last line.
            if lines.capacity() > 1 {
                let _ = lines.try_send(line(&json!({
                    "progress": { "done": done, "total": total, "entities": entities },
                })));
            }
            !lines.is_closed() && !self.is_ending()
        };
        match verify(&setup, &mut tell) {
            Ok(report) => {
                self.count(&report);
                json!({ "report": report.to_json() })
            }
            Err(VerifyError::Unwanted | VerifyError::Ending) => {
                json!({ "error": "the node is about to end, or nobody waits for the outcome any more" })
            }
            Err(VerifyError::Journal(error @ JournalError::Trimmed { .. })) => {
                json!({ "error": format!("{error}; {TRIMMED}") })
            }
            Err(error) => {
                tracing::error!("verification has failed: {}", causes(&error));
                json!({ "error": causes(&error) })
            }
        }
    }

    fn count(&self, report: &Report) {
        let metrics = &self.metrics.verify;
        self.set(&report.findings, prometheus::IntGauge::set);
        metrics.last_success.set(Timestamp::now().millis() as f64 / 1e3);
        metrics.duration.set(report.took().as_secs_f64());
    }

    fn set(&self, findings: &Findings, set: impl Fn(&prometheus::IntGauge, i64)) {
        for kind in Kind::ALL {
            let count = i64::try_from(findings.count(kind)).unwrap_or(i64::MAX);
            set(&self.metrics.verify.findings.with_label_values(&[kind.word()]), count);
        }
    }

    fn is_ending(&self) -> bool {
        *self.state.borrow() == NodeState::Draining
    }
}

impl World for Running {
    fn journal(&self) -> &JournalReader {
        &self.journal
    }

    fn store(&self) -> &Store {
        &self.store
    }

    /// What was let go before the verification began may still go.
    fn first(&self) -> Lsn {
        let kept = self.kept.borrow().from;
        let begun = self.journal.spans().into_iter().map(|(first, _)| first).take_while(|first| *first <= kept);
        begun.last().unwrap_or_else(|| self.journal.first_lsn())
    }

    fn committed(&self) -> Lsn {
        *self.committed.borrow()
    }

    fn read(&self, entities: &[EntityKey]) -> Result<Vec<Option<Snapshot>>, VerifyError> {
        let read = |entity: EntityKey| async move { self.shards.read_whole(&entity).await };
        let reading = stream::iter(entities.to_vec()).map(read).buffered(READS_AT_ONCE);
        let read = self.runtime.block_on(reading.collect());
        // While the shards end, nothing is there any more.
        if self.is_ending() { Err(VerifyError::Ending) } else { Ok(read) }
    }

    fn unsaved(&self, kind: &str, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.runtime.block_on(self.shards.unsaved(&kind.into(), after, "", limit))
    }

    fn heard(&self) -> Vec<Heard> {
        let heard = self.config.sources.iter().filter_map(|source| {
            let name = &source.name.value;
            let seconds = self.metrics.sources.last_event.with_label_values(&[name]).get();
            let last = Timestamp::from_nanos((seconds * 1e9) as i128).filter(|_| seconds > 0.0);
            // HTTP is there whether anybody sends events that way or not.
            let is_used = last.is_some() || name != HTTP_SOURCE;
            is_used.then(|| Heard { source: name.clone(), last: last.unwrap_or(self.started), never: last.is_none() })
        });
        heard.collect()
    }
}

/// Compares a part of an outside list.
fn compare(running: &Running, body: &[u8]) -> Result<serde_json::Value, NotVerified> {
    let batch: Batch = serde_json::from_slice(body)
        .map_err(|error| NotVerified::Invalid(format!("the body must be like {{\"rows\": [{{…}}]}}: {error}")))?;
    let found = against(running, &running.ruleset, &batch).map_err(|error| match error {
        AgainstError::Invalid(why) => NotVerified::Invalid(why),
        AgainstError::Failed(error) => NotVerified::Failed(causes(&error)),
    })?;
    // A list comes in parts: they add up, until the next verification.
    running.set(&found, prometheus::IntGauge::add);
    Ok(json!({ "findings": found.to_json() }))
}

fn line(document: &serde_json::Value) -> Vec<u8> {
    format!("{document}\n").into_bytes()
}
