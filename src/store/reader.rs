//! Look-ups. Each call sees one snapshot of what is committed; every row is verified before any of it is returned.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use redb::{AccessGuard, StorageError};

use super::error::StoreError;
use super::file::Store;
use super::gauges::TypeGauges;
use super::row::{self, StoredIdentity, StoredRow, Wake};
use super::tables::{self, AGENDA, ENTITIES, GAUGES, HISTORY, HistoryRowKey, IDENTITIES};
use crate::model::book::LsnChunk;
use crate::model::ids::{EntityKey, IdentityHash, Lsn};

impl Store {
    /// The stored state of `entity`.
    pub fn get(&self, entity: &EntityKey) -> Result<Option<StoredRow>, StoreError> {
        let Some(key) = tables::entity_key(entity.kind(), entity.key()) else { return Ok(None) };
        self.read(|transaction| match transaction.open_table(ENTITIES)?.get(key.as_slice())? {
            Some(found) => Ok(Some(row::view_state(&key, found.value())?.to_owned())),
            None => Ok(None),
        })
    }

    /// Identity `id` of `entity`, if it is one of those that spilled out of the state row.
    pub fn identity(&self, entity: &EntityKey, id: IdentityHash) -> Result<Option<StoredIdentity>, StoreError> {
        let Some(key) = tables::entity_key(entity.kind(), entity.key()) else { return Ok(None) };
        let key = tables::identity_key(tables::owner(&key), id);
        self.read(|transaction| match transaction.open_table(IDENTITIES)?.get(&key)? {
            Some(found) => Ok(Some(row::decode_identity(&key, found.value())?)),
            None => Ok(None),
        })
    }

    /// Positions of records of `entity`, those that spilled out of its row: at most `limit` chunks in order, beginning with
    /// the one that may hold `from`.
    pub fn history_from(&self, entity: &EntityKey, from: Lsn, limit: usize) -> Result<Vec<LsnChunk>, StoreError> {
        let Some(key) = tables::entity_key(entity.kind(), entity.key()) else { return Ok(Vec::new()) };
        let owner = tables::owner(&key);
        let (first, at, end) = ends(owner, from);
        self.read(|transaction| {
            let history = transaction.open_table(HISTORY)?;
            let holds = history.range::<&HistoryRowKey>(&first..=&at)?.next_back().transpose()?;
            let start = holds.map_or(at, |(key, _)| *key.value());
            history.range::<&HistoryRowKey>(&start..=&end)?.take(limit).map(chunk).collect()
        })
    }

    /// The same, newest first, of chunks that begin before `before`.
    pub fn history_before(&self, entity: &EntityKey, before: Lsn, limit: usize) -> Result<Vec<LsnChunk>, StoreError> {
        let Some(key) = tables::entity_key(entity.kind(), entity.key()) else { return Ok(Vec::new()) };
        let (first, at, _) = ends(tables::owner(&key), before);
        self.read(|transaction| {
            let history = transaction.open_table(HISTORY)?;
            history.range::<&HistoryRowKey>(&first..&at)?.rev().take(limit).map(chunk).collect()
        })
    }

    /// Entities that are to be looked at up to `through`, in the order of time, beginning after one: at most `limit`.
    pub fn agenda(
        &self,
        after: Option<&(Wake, EntityKey)>,
        through: Wake,
        limit: usize,
    ) -> Result<Vec<(Wake, EntityKey)>, StoreError> {
        let after = after.and_then(|(wake, entity)| {
            let key = tables::entity_key(entity.kind(), entity.key())?;
            Some(tables::agenda_key(*wake, &key))
        });
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|transaction| {
            let agenda = transaction.open_table(AGENDA)?;
            let mut found = Vec::new();
            for entry in agenda.range::<&[u8]>((start, Bound::Unbounded))? {
                let (wake, entity) = tables::parse_agenda_key(entry?.0.value())?;
                if wake > through || found.len() == limit {
                    break;
                }
                found.push((wake, entity));
            }
            Ok(found)
        })
    }

    /// Keys of type `kind` in byte order: those that begin with `prefix` and come after `after`, at most `limit`.
    pub fn keys(
        &self,
        kind: &str,
        after: Option<&str>,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        let Some(first) = tables::entity_key(kind, prefix) else { return Ok(Vec::new()) };
        let after = after.and_then(|after| tables::entity_key(kind, after)).filter(|after| *after >= first);
        let start = match &after {
            Some(after) => Bound::Excluded(after.as_slice()),
            None => Bound::Included(first.as_slice()),
        };
        self.read(|transaction| {
            let entities = transaction.open_table(ENTITIES)?;
            let mut keys = Vec::new();
            for entry in entities.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                if keys.len() == limit || !key.value().starts_with(&first) {
                    break;
                }
                if row::view_state(key.value(), value.value())?.gaps.is_none() {
                    continue;
                }
                keys.push(tables::parse_entity_key(key.value())?.key().into());
            }
            Ok(keys)
        })
    }

    /// All rows in the order of their keys, beginning after one: at most `limit`, of all types.
    pub fn rows(&self, after: Option<&EntityKey>, limit: usize) -> Result<Vec<(EntityKey, StoredRow)>, StoreError> {
        let after = after.and_then(|after| tables::entity_key(after.kind(), after.key()));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|transaction| {
            let entities = transaction.open_table(ENTITIES)?;
            let mut rows = Vec::new();
            for entry in entities.range::<&[u8]>((start, Bound::Unbounded))?.take(limit) {
                let (key, value) = entry?;
                let row = row::view_state(key.value(), value.value())?.to_owned();
                rows.push((tables::parse_entity_key(key.value())?, row));
            }
            Ok(rows)
        })
    }

    /// Counts of all types that have stored entities, the system's own (`$…`) among them.
    pub fn gauges(&self) -> Result<BTreeMap<String, TypeGauges>, StoreError> {
        self.read(|transaction| tables::all_records(transaction, GAUGES, "gauges"))
    }
}

/// The keys of an entity's chunks that begin first, at `lsn`, and last.
fn ends(owner: [u8; 16], lsn: Lsn) -> (HistoryRowKey, HistoryRowKey, HistoryRowKey) {
    let key = |lsn| tables::history_key(owner, lsn);
    (key(Lsn::ZERO), key(lsn), key(Lsn(u64::MAX)))
}

type HistoryRow<'a> = (AccessGuard<'a, &'static HistoryRowKey>, AccessGuard<'a, &'static [u8]>);

fn chunk(row: Result<HistoryRow<'_>, StorageError>) -> Result<LsnChunk, StoreError> {
    let (key, value) = row?;
    row::decode_chunk(key.value(), tables::history_first(key.value()), value.value())
}
