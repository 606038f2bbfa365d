//! A running node is asked what other rules would change: one question at a time, on a thread of its own.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc::{self, Sender};

use super::predict::Prediction;
use super::progress::Progress;
use crate::admin::{Replay, ReplayRefused};
use crate::config::{self, Loaded};
use crate::journal::JournalReader;
use crate::model::ids::{EntityKey, Incarnation};
use crate::model::json as text;
use crate::node::causes;
use crate::node::recovery::RecoveryError;
use crate::rules::{Ruleset, compile};
use crate::store::Store;

/// Lines that wait for whoever asked.
const LINES_MAX: usize = 16;
/// How often it is told how far it has come.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// What is held in memory at a time, beside a node at work.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Answers questions about other rules than those in force.
pub fn replays(
    ruleset: &Arc<Ruleset>,
    incarnation: Incarnation,
    (journal, store): (&JournalReader, &Store),
    key_bytes_max: usize,
) -> Replay {
    let (old, journal, store) = (ruleset.clone(), journal.clone(), store.clone());
    let is_busy = Arc::new(AtomicBool::new(false));
    Arc::new(move |text: &str, entity: Option<EntityKey>| {
        let new = Arc::new(rules_of(text, key_bytes_max).map_err(ReplayRefused::Wrong)?);
        new.begin(incarnation);
        if is_busy.swap(true, Ordering::AcqRel) {
            return Err(ReplayRefused::Busy);
        }
        let busy = Busy(is_busy.clone());
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        let prediction = Prediction::new(old.clone(), new, entity, BYTES_MAX);
        let (journal, store) = (journal.clone(), store.clone());
        let run = move || {
            let _busy = busy;
            answer(prediction, &journal, &store, &lines);
        };
        let begun = std::thread::Builder::new().name("replay".to_owned()).spawn(run);
        // Without a thread nobody is busy, and the lines end at once.
        begun.map(|_| receiver).map_err(|_| ReplayRefused::Busy)
    })
}

/// Under way until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The rules of a TOML document.
fn rules_of(text: &str, key_bytes_max: usize) -> Result<Ruleset, String> {
    let Loaded { files, mut diagnostics, config, .. } = config::load_sent(text);
    let types = config.as_ref().and_then(|config| compile(&config.entities, &files, &mut diagnostics));
    match (config, types) {
        (Some(config), Some(types)) if !diagnostics.has_errors() => {
            Ok(Ruleset::new(types, &config.server.ignore, key_bytes_max).on_server(&config.server.name))
        }
        _ => Err(diagnostics.render(&files)),
    }
}

fn answer(mut prediction: Prediction, journal: &JournalReader, store: &Store, lines: &Sender<Vec<u8>>) {
    let mut told = Instant::now();
    let mut go_on = |progress: &Progress| {
        if lines.is_closed() {
            return ControlFlow::Break(());
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            // Whoever is slow to listen hears less of it.
            let _ = lines.try_send(format!("{}\n", json!({ "progress": progress.document() })).into_bytes());
        }
        ControlFlow::Continue(())
    };
    let left_out = prediction.leave_out_forgotten(store).map_err(RecoveryError::from);
    let line = match left_out.and_then(|()| prediction.run(journal, journal.last_lsn(), &mut go_on)) {
        Ok(Some(report)) => format!("{{\"report\":{}}}\n", text::to_string(&report.document())),
        Ok(None) => return,
        Err(error) => format!("{}\n", json!({ "failed": causes(&error) })),
    };
    // Nobody listens any more: so be it.
    let _ = lines.blocking_send(line.into_bytes());
}
