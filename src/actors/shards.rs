//! All shards as one: brings inputs to the shard of their key, asks entities.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::oneshot;

use super::copying::{BeginCopying, CopySlice, Stored, StoredCopy, TakeChanged};
use super::entity::Work;
use super::history::ReadBook;
use super::kept::Snapshot;
use super::mailbox::post;
use super::releasing::{ListPaused, Standing};
use super::supervisor::{Committed, Inputs, ListUnsaved, ReadEntity, Supervisor, WatchEntity};
use super::wheel::{Filled, Schedule};
use crate::model::book::LsnBook;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Input;
use crate::model::settle::Noted;
use crate::model::state::State;
use crate::store::Wake;

/// The supervisors, by shard.
#[derive(Clone)]
pub struct Shards(Arc<[Addr<Supervisor>]>);

impl Shards {
    /// The shards with these supervisors.
    pub fn new(supervisors: Vec<Addr<Supervisor>>) -> Self {
        Shards(supervisors.into())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn of(&self, entity: &EntityKey) -> &Addr<Supervisor> {
        &self.0[entity.partition().shard(self.0.len())]
    }

    /// Brings inputs to their entities; those of one key stay in order. Never blocks.
    pub fn deliver(&self, inputs: impl IntoIterator<Item = Work>) {
        let mut by_shard: Vec<Vec<Work>> = self.0.iter().map(|_| Vec::new()).collect();
        for work in inputs {
            by_shard[work.entity().partition().shard(self.0.len())].push(work);
        }
        for (supervisor, work) in self.0.iter().zip(by_shard) {
            if !work.is_empty() {
                post(supervisor, Inputs(work));
            }
        }
    }

    /// The entity, as of its last committed record at least; `None` if nothing was heard of it, or its life has ended.
    pub async fn read(&self, entity: &EntityKey) -> Option<Snapshot> {
        self.read_whole(entity).await.filter(|snapshot| snapshot.state.exists())
    }

    /// The same, also of one whose life has ended: then with what outlives it.
    pub async fn read_ended(&self, entity: &EntityKey) -> Option<Snapshot> {
        let is_known = |state: &State| state.exists() || state.end().is_some();
        self.read_whole(entity).await.filter(|snapshot| is_known(&snapshot.state))
    }

    /// The same, of whatever has records: also one that others only wait for.
    pub async fn read_whole(&self, entity: &EntityKey) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        post(self.of(entity), ReadEntity { entity: entity.clone(), reply });
        answer.await.ok().flatten()
    }

    /// Where the entity's records are; that of version 0 has none. `None` when the process is ending.
    pub async fn book(&self, entity: &EntityKey) -> Option<LsnBook> {
        let (reply, answer) = oneshot::channel();
        post(self.of(entity), ReadBook { entity: entity.clone(), reply });
        answer.await.ok()
    }

    /// Asks to be told of the entity's next change. To miss none: watch, then read, then wait.
    pub fn watch(&self, entity: &EntityKey) -> oneshot::Receiver<()> {
        let (changed, told) = oneshot::channel();
        post(self.of(entity), WatchEntity { entity: entity.clone(), changed });
        told
    }

    /// Keys of a type that the store may not have as they are now: in order, after `after`, beginning with `prefix`.
    pub async fn unsaved(&self, kind: &Arc<str>, after: Option<&str>, prefix: &str, limit: usize) -> Vec<Arc<str>> {
        let mut keys = Vec::new();
        for supervisor in &*self.0 {
            let (reply, answer) = oneshot::channel();
            let (after, prefix) = (after.map(str::to_owned), prefix.to_owned());
            post(supervisor, ListUnsaved { kind: kind.clone(), after, prefix, limit, reply });
            keys.extend(answer.await.unwrap_or_default());
        }
        keys.sort();
        keys.truncate(limit);
        keys
    }

    /// Entities that are paused or hold events: in order, after `after`, of one type or of all.
    pub async fn paused(
        &self,
        kind: Option<&str>,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Vec<(EntityKey, Standing)> {
        let mut listed = Vec::new();
        for supervisor in &*self.0 {
            let (reply, answer) = oneshot::channel();
            post(supervisor, ListPaused { kind: kind.map(str::to_owned), after: after.cloned(), limit, reply });
            listed.extend(answer.await.unwrap_or_default());
        }
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        listed.truncate(limit);
        listed
    }

    /// Journals an input of one of the system's own entities; answers where, once that is durable.
    pub fn note(&self, entity: EntityKey, input: Input) -> oneshot::Receiver<Lsn> {
        let (done, durable) = oneshot::channel();
        self.deliver([Work::System { entity, input, done }]);
        durable
    }

    /// Has an entity handle an input from inside; answers what became of it, once that is durable.
    pub fn step(&self, entity: EntityKey, input: Input) -> oneshot::Receiver<Noted> {
        let (done, durable) = oneshot::channel();
        self.deliver([Work::Inside { entity, input, done: Some(done) }]);
        durable
    }

    /// Gives entities to the wheels of their shards, to be looked at; answers how full they are then.
    pub async fn schedule(&self, rows: Vec<(Wake, EntityKey)>) -> Filled {
        let mut by_shard: Vec<Vec<_>> = self.0.iter().map(|_| Vec::new()).collect();
        for row in rows {
            by_shard[row.1.partition().shard(self.0.len())].push(row);
        }
        let mut filled = Filled::default();
        for (supervisor, rows) in self.0.iter().zip(by_shard) {
            let (reply, answer) = oneshot::channel();
            post(supervisor, Schedule { rows, reply });
            filled = filled.max(answer.await.unwrap_or_default());
        }
        filled
    }

    /// Tells a shard of commits.
    pub fn committed(&self, shard: u16, committed: Committed) {
        post(&self.0[usize::from(shard)], committed);
    }

    /// Begins a checkpoint in a shard; answers the entities that changed, in no order.
    pub fn take_changed(&self, shard: u16) -> oneshot::Receiver<Vec<EntityKey>> {
        let (reply, answer) = oneshot::channel();
        post(&self.0[usize::from(shard)], TakeChanged { reply });
        answer
    }

    /// Gives back what [`Shards::take_changed`] answered: copied in this order, the last one first.
    pub fn begin_copying(&self, shard: u16, changed: Vec<EntityKey>) {
        post(&self.0[usize::from(shard)], BeginCopying(changed));
    }

    /// Asks a shard for its next slice of a checkpoint.
    pub fn copy_slice(&self, shard: u16, entities_max: usize) {
        post(&self.0[usize::from(shard)], CopySlice { entities_max });
    }

    /// Tells the shards what is stored.
    pub fn stored(&self, rows: Vec<StoredCopy>) {
        let mut by_shard: Vec<Vec<_>> = self.0.iter().map(|_| Vec::new()).collect();
        for row in rows {
            by_shard[row.entity.partition().shard(self.0.len())].push(row);
        }
        for (supervisor, rows) in self.0.iter().zip(by_shard) {
            if !rows.is_empty() {
                post(supervisor, Stored(rows));
            }
        }
    }
}
