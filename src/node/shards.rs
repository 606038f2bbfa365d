//! Starting what an event goes through: the journal's writer and the shards.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use actix::Arbiter;
use tokio::sync::watch;

use super::commits::Commits;
use super::start::{NodeError, Shared, Starting};
use crate::actors::{HandedOver, MakeCalls, ShardSetup, Shards, Slice, Supervisor, Surroundings, Tag, Work};
use crate::egress::Effects;
use crate::ingress::Deliver;
use crate::journal::{Journal, JournalWriter, spawn_writer};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::{EntityKey, Lsn};
use crate::rules::{EntityRules, Ruleset, decide};

/// Batches that may wait for the writer beyond those that credits bound: inputs from inside, and copies.
const WRITER_QUEUE_SPARE: usize = 4096;
/// More batches never wait for the writer, whatever the limits say.
const WRITER_QUEUE_MAX: usize = 1 << 20;

/// The journal's writer and what it sets off.
pub(super) struct Writing {
    pub(super) writer: JournalWriter<Tag>,
    pub(super) thread: std::thread::JoinHandle<Option<Journal>>,
    /// Where the writer finds the shards once they have started.
    pub(super) shards: Arc<OnceLock<Shards>>,
}

impl Starting<'_> {
    pub(super) fn writing(
        &self,
        shared: &Shared,
        journal: Journal,
        committed: watch::Sender<Lsn>,
    ) -> Result<Writing, NodeError> {
        let shards = shared.shards.clone();
        let commits = Commits {
            shards: shards.clone(),
            committed,
            journaled_bytes: shared.journaled_bytes.clone(),
            metrics: shared.metrics.clone(),
        };
        let in_flight = usize::try_from(self.config.tuning.limits.in_flight_records_max).unwrap_or(usize::MAX);
        let queued_max = in_flight.min(WRITER_QUEUE_MAX) + WRITER_QUEUE_SPARE;
        let fatal = shared.fatal.clone();
        let (writer, thread) =
            spawn_writer(journal, queued_max, move |commit| commits.pass_on(commit), move |error| fatal(&error))
                .map_err(|source| NodeError::Start { what: "the journal's writer", source })?;
        Ok(Writing { writer, thread, shards })
    }

    pub(super) fn shards(
        &self,
        shared: &Shared,
        writing: &Writing,
        slices: &crossbeam_channel::Sender<Slice>,
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
                    ruleset: self.prepared.ruleset.clone(),
                    tracer: shared.tracer.clone(),
                    entity_bytes_max: usize::try_from(self.config.tuning.limits.entity_bytes_max).unwrap_or(usize::MAX),
                    decide,
                    fatal: Arc::new(move |error| fatal(&error)),
                },
                writer: writing.writer.clone(),
                slices: slices.clone(),
                committed: *shared.committed.borrow(),
                live_max: (usize::try_from(actors.max_live).unwrap_or(usize::MAX) / count).max(1),
                idle: actors.idle,
                recovered,
                handed_bytes: shared.handed_bytes.clone(),
                peers: writing.shards.clone(),
                calls: making(&shared.effects),
                horizon: shared.horizon.clone(),
            };
            let arbiter = Arbiter::new();
            supervisors.push(Supervisor::start_on(&arbiter.handle(), setup));
            arbiters.push(arbiter);
        }
        let shards = Shards::new(supervisors);
        let _ = writing.shards.set(shards.clone());
        (shards, arbiters)
    }
}

/// The metrics of every entity type.
pub(super) fn type_metrics(metrics: &Metrics, ruleset: &Ruleset) -> HashMap<Arc<str>, Arc<TypeMetrics>> {
    let of = |rules: &Arc<EntityRules>| {
        let complete: Vec<&str> = rules.missing_names(u64::MAX).collect();
        let decisions: Vec<&str> = rules.decisions.iter().map(|decision| &*decision.name).collect();
        let references: Vec<&str> = rules.references.iter().map(|reference| &*reference.name).collect();
        (rules.name.clone(), metrics.entity_type(&rules.name, &complete, &references, &decisions))
    };
    ruleset.types().iter().map(of).collect()
}

/// Has calls made that effects ask for.
fn making(effects: &Arc<Effects>) -> MakeCalls {
    let effects = effects.clone();
    Arc::new(move |calls| effects.begin(calls))
}

/// Brings what was admitted to its entities.
pub(super) fn delivering(shards: Shards) -> Deliver {
    Arc::new(move |deliveries| {
        let work = |delivery: crate::ingress::Delivery| {
            let crate::ingress::Delivery { taken, ticket, trace } = delivery;
            Work::Event { taken, ticket, trace }
        };
        shards.deliver(deliveries.into_iter().map(work));
    })
}
