//! Entities take their new rules: what follows is journaled, then they are stored.

use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use super::progress::Progress;
use crate::actors::Kept;
use crate::journal::{Committer, Entry, Journal, RECORD_BYTES_MAX};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::{Input, Record};
use crate::model::state::State;
use crate::model::system::{RULES_KIND, RulesInForce};
use crate::model::time::Timestamp;
use crate::node::recovery::RecoveryError;
use crate::rules::{self, EntityRules, Rebuilt, Ruled, decide_system};
use crate::store::{CheckpointWriter, EntityWrite, Store, TypeMark};
use crate::vital;

/// So many entities take their rules at a time.
pub(super) const ENTITIES_AT_ONCE: usize = 1000;

/// An entity that is to take new rules.
pub(super) struct Job {
    pub key: EntityKey,
    pub rules: Arc<EntityRules>,
    pub fields: Fields,
}

/// What becomes of an entity's fields.
pub(super) enum Fields {
    /// They, and which events count, are what the rules make of the events.
    Rebuilt(Rebuilt),
    /// They keep their values; these are the names of the slots they are in.
    Kept(Arc<[String]>),
    /// Its own rules are the same.
    Same,
}

/// Where what is adopted goes.
pub(super) struct Adopting {
    store: Store,
    writer: CheckpointWriter,
    committer: Committer<usize>,
    last: Lsn,
    server: Arc<str>,
    threads: usize,
    now: Timestamp,
    progress: Arc<Progress>,
    /// Records made, and decisions in them.
    pub records: u64,
    pub decisions: u64,
}

/// An entity as it is to be stored.
struct Adopted {
    key: EntityKey,
    kept: Kept,
    record: Option<Record>,
}

impl Adopting {
    pub fn new(store: Store, journal: Journal, server: Arc<str>, threads: usize, progress: Arc<Progress>) -> Self {
        let last = journal.last_lsn();
        Adopting {
            writer: CheckpointWriter::new(store.clone()),
            store,
            committer: Committer::new(journal),
            last,
            server,
            threads,
            now: Timestamp::now(),
            progress,
            records: 0,
            decisions: 0,
        }
    }

    /// Entities that were made anew.
    ///
    /// # Errors
    /// Journal or store fail; then it has to begin again.
    pub fn rebuilt(&mut self, jobs: Vec<Job>) -> Result<(), RecoveryError> {
        let writes = self.journaled(jobs)?;
        Ok(self.writer.rewrite(writes, self.last)?)
    }

    /// Entities that stay what they are; `mark` tells how far this has come with their type.
    ///
    /// # Errors
    /// As above.
    pub fn kept(&mut self, jobs: Vec<Job>, mark: Option<(&str, &TypeMark)>) -> Result<(), RecoveryError> {
        let writes = self.journaled(jobs)?;
        match mark {
            Some(mark) => self.writer.write_marked(&writes, mark, self.last)?,
            None => drop(self.writer.write(writes, self.last)?),
        }
        Ok(())
    }

    /// Notes by which rules types are from now on, and whether they were made anew; and ends: all that was journaled is
    /// stored.
    ///
    /// # Errors
    /// As above.
    pub fn finish(mut self, changed: &[Arc<EntityRules>], is_rebuilt: bool) -> Result<Journal, RecoveryError> {
        let mut noted = Vec::new();
        for rules in changed {
            let key = EntityKey::new(RULES_KIND, &*rules.name);
            let old = Kept::load(&self.store, &key)?.unwrap_or_default();
            let input = Input::RulesNoted(RulesInForce { fingerprint: rules.fingerprint, is_rebuilt });
            let Some(record) = decide_system(key.clone(), old.entity.state(), input, self.now) else { continue };
            let mut state = old.entity.state().clone();
            rules::evolve(&mut state, &record);
            noted.push(Adopted { key, kept: old.with_state(state), record: Some(record) });
        }
        let writes = self.commit(noted)?;
        self.writer.write(writes, self.last)?;
        self.writer.finish(self.last)?;
        Ok(self.committer.into_journal())
    }

    /// What is to be stored, once all that follows is durable.
    fn journaled(&mut self, jobs: Vec<Job>) -> Result<Vec<EntityWrite>, RecoveryError> {
        self.progress.adopted(jobs.len() as u64);
        let mut parts: Vec<Vec<Job>> = (0..self.threads).map(|_| Vec::new()).collect();
        jobs.into_iter().enumerate().for_each(|(at, job)| parts[at % self.threads].push(job));
        let this = &*self;
        let adopted: Result<Vec<Vec<Adopted>>, RecoveryError> = std::thread::scope(|scope| {
            let run = |part: Vec<Job>| scope.spawn(move || this.adopt_all(part));
            let threads: Vec<_> = parts.into_iter().map(run).collect();
            let joined = threads.into_iter().map(ScopedJoinHandle::join);
            joined.map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        self.commit(adopted?.into_iter().flatten().collect())
    }

    fn adopt_all(&self, jobs: Vec<Job>) -> Result<Vec<Adopted>, RecoveryError> {
        let mut adopted = Vec::with_capacity(jobs.len());
        for job in jobs {
            adopted.extend(self.adopt(job)?);
        }
        Ok(adopted)
    }

    /// The entity as it is from now on; none if it is that already.
    fn adopt(&self, Job { key, rules, fields }: Job) -> Result<Option<Adopted>, RecoveryError> {
        let mut kept = Kept::load(&self.store, &key)?.unwrap_or_default();
        let old = kept.entity.state();
        let state = match fields {
            Fields::Rebuilt(rebuilt) => rebuilt.carrying(old),
            Fields::Kept(names) => rules::moved(&rules, old.clone(), &names),
            Fields::Same => old.clone(),
        };
        if !state.exists() && !old.exists() {
            return Ok(None);
        }
        let Ruled { state, record, .. } = under(&rules, &key, state, self.now);
        if record.is_none() && state == *old {
            return Ok(None);
        }
        if let Some(record) = &record {
            kept.outbox.put(rules::messages(&self.server, &state, record));
        }
        Ok(Some(Adopted { key, kept: kept.with_state(state), record }))
    }

    fn commit(&mut self, mut adopted: Vec<Adopted>) -> Result<Vec<EntityWrite>, RecoveryError> {
        let mut entries = Vec::new();
        for (tag, adopted) in adopted.iter().enumerate() {
            let Some(record) = &adopted.record else { continue };
            self.decisions += record.decisions.len() as u64;
            entries.push(Entry { bytes: record.encode(), has_decision: !record.decisions.is_empty(), tag });
        }
        self.records += entries.len() as u64;
        self.committer.append(entries);
        while let Some(committed) = self.committer.step()? {
            self.last = committed.last_lsn;
            for (lsn, tag) in committed.tags {
                let kept = &mut adopted[tag].kept;
                let standing = kept.entity.state().standing();
                kept.book.note(kept.entity.version(), lsn, standing.as_deref());
            }
        }
        Ok(adopted.into_iter().map(|adopted| adopted.kept.write(adopted.key)).collect())
    }
}

/// The entity under its new rules. One whose rules panic, or say more than a record holds, is left as it is.
fn under(rules: &Arc<EntityRules>, key: &EntityKey, state: State, now: Timestamp) -> Ruled {
    let outcome = vital::guarded(|| rules::adopt(rules, key, state.clone(), now));
    let why = match outcome {
        Ok(it) if it.record.as_ref().is_none_or(|record| record.encode().len() <= RECORD_BYTES_MAX) => {
            return it;
        }
        Ok(_) => format!("what follows takes more than {RECORD_BYTES_MAX} bytes"),
        Err(why) => why,
    };
    tracing::error!(r#type = %key.kind(), key = %key.key(), "nothing is concluded from the new rules: {why}");
    Ruled { state, record: None, errors: Vec::new() }
}
