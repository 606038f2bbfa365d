//! Waiting: for a decision, for a position to be committed. Always bounded, and given up when the node drains.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::api::{Api, NodeState};
use super::problem::{Problem, suggest};
use crate::actors::Snapshot;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::DecisionState;
use crate::rules::{EntityRules, Ruleset};

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The entity is there, and holds no events.
    Applied,
    /// Any decision stands.
    Any,
    /// One of these decisions stands.
    Decisions(Vec<String>),
}

impl Wait {
    /// Reads `applied`, `any` or names of decisions, which must be some that `types` can make.
    pub fn parse<'r>(text: &str, types: impl Iterator<Item = &'r EntityRules>) -> Result<Self, Problem> {
        match text {
            "applied" => return Ok(Wait::Applied),
            "any" => return Ok(Wait::Any),
            _ => {}
        }
        let mut known: Vec<&str> = types.flat_map(|rules| &rules.decisions).map(|rules| &*rules.name).collect();
        known.extend(["applied", "any"]);
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => {
                Err(Problem::invalid(format!("wait: no decision is called {unknown:.80?}{}", suggest(unknown, known))))
            }
            None => Ok(Wait::Decisions(names)),
        }
    }

    /// As [`Wait::parse`], over all types.
    pub fn parse_any(text: Option<&str>, ruleset: &Ruleset) -> Result<Option<Self>, Problem> {
        text.map(|text| Wait::parse(text, ruleset.types().iter().map(|rules| &**rules))).transpose()
    }

    /// Whether the entity has what is waited for.
    pub fn is_met(&self, snapshot: &Snapshot) -> bool {
        let mut standing = snapshot.state.ledger.iter().filter(|entry| entry.state != DecisionState::Withdrawn);
        match self {
            Wait::Applied => snapshot.state.pause().is_none_or(|pause| pause.held.is_empty()),
            Wait::Any => standing.next().is_some(),
            Wait::Decisions(names) => standing.any(|entry| names.iter().any(|name| **name == *entry.name)),
        }
    }
}

/// When waiting ends.
pub(super) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout
}

/// Waits until one of the entities has what is waited for, or until the deadline, or until the node drains.
pub(super) async fn wait_for(api: &Api, entities: &[EntityKey], wait: &Wait, deadline: Instant) {
    if entities.is_empty() {
        return;
    }
    let met = select_all(entities.iter().map(|entity| Box::pin(until_met(api, entity, wait))));
    tokio::select! {
        _ = met => {}
        () = tokio::time::sleep_until(deadline) => {}
        () = draining(api) => {}
    }
}

async fn until_met(api: &Api, entity: &EntityKey, wait: &Wait) {
    loop {
        // In this order, so that no change falls between reading and waiting.
        let changed = api.shards.watch(entity);
        if api.shards.read(entity).await.is_some_and(|snapshot| wait.is_met(&snapshot)) {
            return;
        }
        if changed.await.is_err() {
            // The shard has ended, and the process is about to.
            return std::future::pending().await;
        }
    }
}

async fn draining(api: &Api) {
    let mut state = api.state.clone();
    // An error means that the node is gone, which is as good as draining.
    let _ = state.wait_for(|state| *state == NodeState::Draining).await;
}

/// Waits until the journal has committed `lsn`.
///
/// # Errors
/// If it has not by the deadline, or the node drains.
pub(super) async fn wait_committed(api: &Api, lsn: Lsn, deadline: Instant) -> Result<(), Problem> {
    let mut committed = api.committed.clone();
    let reached = async { committed.wait_for(|committed| *committed >= lsn).await.is_ok() };
    let reached = tokio::select! {
        biased;
        reached = reached => reached,
        () = tokio::time::sleep_until(deadline) => false,
        () = draining(api) => false,
    };
    if reached {
        return Ok(());
    }
    let last = *api.committed.borrow();
    Err(Problem::unavailable("busy", format!("the journal has not committed LSN {lsn} yet, only {last}")))
}
