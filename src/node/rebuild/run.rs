//! From the old rules to the new ones, from the first step to the last.

use std::sync::Arc;

use super::adopting::{Adopting, ENTITIES_AT_ONCE, Fields, Job};
use super::forward;
use super::left_out::LeftOut;
use super::plan::Plan;
use super::progress::{Progress, Telling};
use super::reading::{Pass, Reading, Refused};
use crate::model::ids::{EntityKey, Lsn, PARTITIONS};
use crate::node::recovery::{Opened, RecoveryError};
use crate::node::replay::Recovered;
use crate::rules::{EntityRules, Ruleset};
use crate::store::{CheckpointWriter, Store, StoreError, TypeMark};

/// What is done where rules changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All events are taken again.
    #[default]
    Rebuild,
    /// Values stay; the rules go on from them.
    ForwardOnly,
}

/// Makes a data folder what its rules say. Everything is in the store afterwards.
///
/// # Errors
/// The events are no longer there; or journal or store fail.
pub fn run(
    opened: Opened,
    recovered: Recovered,
    plan: &Plan,
    ruleset: &Ruleset,
    mode: Mode,
    progress: &Arc<Progress>,
) -> Result<Opened, RecoveryError> {
    let first = opened.journal.first_lsn();
    if mode == Mode::Rebuild && first > Lsn::FIRST {
        return Err(RecoveryError::Trimmed { folder: opened.folder, types: plan.names(), first });
    }
    let unfinished =
        |rules: &&Arc<EntityRules>| plan.known.get(&*rules.name).is_some_and(|mark| mark.layouts.is_empty());
    if mode == Mode::ForwardOnly
        && let Some(rules) = plan.changed.iter().find(unfinished)
    {
        return Err(RecoveryError::Unfinished { folder: opened.folder, kind: rules.name.to_string() });
    }
    tracing::info!(types = %plan.names().join(", "), ?mode, "the rules changed");
    let last = opened.journal.last_lsn();
    store_all(&opened.store, recovered, last)?;
    progress.begin(last.0);
    let _telling = Telling::start(progress);
    let Opened {
        folder,
        store,
        journal,
        server,
        replayed_held_max,
        replaying_threads,
        rebuilt_bytes_max,
        beginning,
        ..
    } = opened;
    let threads = replaying_threads.max(1);
    let reader = journal.reader();
    let mut adopting = Adopting::new(store.clone(), journal, server.clone(), threads, progress.clone());
    match mode {
        Mode::ForwardOnly => {
            for (rules, mark) in plan.changed.iter().filter_map(|it| Some((it, plan.known.get(&*it.name)?))) {
                forward::go_on(&store, &mut adopting, rules, mark)?;
            }
        }
        Mode::Rebuild => {
            mark_under_way(&store, plan)?;
            let kinds = &plan.changed;
            let mut left_out = LeftOut::default();
            left_out.forgotten(&store)?;
            left_out.held(&reader, last)?;
            let left_out = &left_out;
            let reading = Reading { reader, ruleset, left_out, kinds, threads, bytes_max: rebuilt_bytes_max, progress };
            let refused = rebuild(&store, &mut adopting, &reading)?;
            if let Some(first) = refused.first {
                tracing::warn!(
                    events = refused.count,
                    "events do not fit the new rules and count no more; the first: {first}"
                );
            }
        }
    }
    for rules in &plan.referred {
        each_stored(&store, rules, |keys| {
            let job = |key| Job { key, rules: rules.clone(), fields: Fields::Same };
            adopting.kept(keys.into_iter().map(job).collect(), None)
        })?;
    }
    let (records, decisions) = (adopting.records, adopting.decisions);
    let journal = adopting.finish(&plan.changed, mode == Mode::Rebuild)?;
    let watermark = store.watermark()?;
    store.set_fingerprints(&plan.marks)?;
    tracing::info!(records, decisions, "all entities are as the new rules say");
    Ok(Opened {
        folder,
        changed: None,
        store,
        journal,
        watermark,
        beginning,
        server,
        replayed_held_max,
        replaying_threads,
        rebuilt_bytes_max,
    })
}

/// Stores what recovery found, so that the store is all there is.
fn store_all(store: &Store, recovered: Recovered, last: Lsn) -> Result<(), StoreError> {
    let mut writer = CheckpointWriter::new(store.clone());
    writer.write(recovered.entities.into_iter().map(|(key, handed)| handed.write(key)).collect(), last)?;
    writer.finish(last)
}

/// From here on nobody takes the states for whole, whatever rules come next.
fn mark_under_way(store: &Store, plan: &Plan) -> Result<(), StoreError> {
    let mut marks = plan.known.clone();
    for rules in &plan.changed {
        let under_way = TypeMark { fingerprint: TypeMark::UNSETTLED, layouts: Vec::new() };
        marks.insert(rules.name.to_string(), under_way);
    }
    store.set_fingerprints(&marks)
}

fn rebuild(store: &Store, adopting: &mut Adopting, reading: &Reading<'_>) -> Result<Refused, RecoveryError> {
    let mut refused = Refused::default();
    let mut first = 0;
    while first < PARTITIONS {
        let mut pass = reading.pass(first)?;
        refused.add(std::mem::take(&mut pass.refused));
        first = pass.partitions.end;
        reading.progress.expect(pass.entities.len() as u64);
        adopt_pass(store, adopting, reading.kinds, pass)?;
    }
    reading.progress.finish();
    Ok(refused)
}

/// Those that are stored, with what was made of them, if anything; then those that are new.
fn adopt_pass(
    store: &Store,
    adopting: &mut Adopting,
    kinds: &[Arc<EntityRules>],
    mut pass: Pass,
) -> Result<(), RecoveryError> {
    for rules in kinds {
        each_stored(store, rules, |keys| {
            let job = |key: EntityKey| {
                let rebuilt = pass.entities.remove(&key).map(|made| made.rebuilt).unwrap_or_default();
                Job { key, rules: rules.clone(), fields: Fields::Rebuilt(rebuilt) }
            };
            let is_here = |key: &EntityKey| pass.partitions.contains(&key.partition().0);
            let keys: Vec<EntityKey> = keys.into_iter().filter(is_here).collect();
            adopting.rebuilt(keys.into_iter().map(job).collect())
        })?;
    }
    let rules_of = |key: &EntityKey| kinds.iter().find(|rules| *rules.name == *key.kind()).cloned();
    let mut new = pass
        .entities
        .into_iter()
        .filter_map(|(key, made)| Some(Job { rules: rules_of(&key)?, key, fields: Fields::Rebuilt(made.rebuilt) }));
    loop {
        let jobs: Vec<Job> = new.by_ref().take(ENTITIES_AT_ONCE).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        adopting.rebuilt(jobs)?;
    }
}

/// Gives out the entities of a type that are stored, in the order of their keys.
fn each_stored(
    store: &Store,
    rules: &EntityRules,
    mut take: impl FnMut(Vec<EntityKey>) -> Result<(), RecoveryError>,
) -> Result<(), RecoveryError> {
    let mut after: Option<Arc<str>> = None;
    loop {
        let keys = store.keys(&rules.name, after.as_deref(), "", ENTITIES_AT_ONCE)?;
        let Some(last) = keys.last().cloned() else { return Ok(()) };
        take(keys.iter().map(|key| EntityKey::new(&rules.name, key)).collect())?;
        after = Some(last);
    }
}
