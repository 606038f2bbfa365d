//! Writing checkpoints: entity rows in transactions of bounded size, then the watermark.
//!
//! All rows of one entity are in one transaction. Each transaction is durable when it returns and notes how far up
//! the journal its rows reach, so that after a crash between two of them the store is a mix of versions that replay
//! from the old watermark brings together, or that is seen to be ahead of its journal.

use redb::{Table, WriteTransaction};

use super::error::StoreError;
use super::file::Store;
use super::gauges::GaugesInTransaction;
use super::row::{self, IDENTITY_ROW_BYTES, STATE_ROW_OVERHEAD_BYTES, StoredIdentity, StoredRow};
use super::tables::{self, AGENDA, ENTITIES, HIGHEST_LSN, IDENTITIES, IdentityRowKey, META, WATERMARK};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};

/// Keys and values of one transaction, in bytes; more only if a single entity has more.
pub const TRANSACTION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The largest state that is stored, in bytes. The rules' own limit is far lower; this one keeps redb's pages sane.
pub const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One entity to be stored, at one version.
#[derive(Clone, Debug)]
pub struct EntityWrite {
    pub entity: EntityKey,
    /// Replaces the stored row.
    pub row: StoredRow,
    /// Identities that were stored with a version before this one are of an earlier life: they go.
    pub ended: Version,
    /// Identities that no longer fit into the state: added to those already stored.
    pub identities: Vec<(IdentityHash, StoredIdentity)>,
}

impl EntityWrite {
    /// Bytes of keys and values that this write puts into the file.
    pub fn stored_bytes(&self) -> usize {
        let key = self.entity.kind().len() + 1 + self.entity.key().len();
        let identity = size_of::<IdentityRowKey>() + IDENTITY_ROW_BYTES;
        key + STATE_ROW_OVERHEAD_BYTES + self.row.state.len() + self.identities.len() * identity
    }
}

/// What a call of [`CheckpointWriter::write`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    pub transactions: u64,
    pub entities: u64,
    pub identities: u64,
    /// Keys and values, without what the tree around them costs.
    pub bytes: u64,
}

/// The store's one writer of entities. Blocks on the disk: give it a thread of its own.
pub struct CheckpointWriter {
    store: Store,
}

impl CheckpointWriter {
    /// A writer into `store`. More than one would wait for each other in every transaction.
    pub fn new(store: Store) -> Self {
        CheckpointWriter { store }
    }

    /// Stores `writes` durably. No record in them may be above `highest`, which the journal must already have
    /// committed. The same version may be written again, as a replay after a crash does.
    ///
    /// # Errors
    /// After an error an unknown part of `writes` is stored, whole entities only; the process must not go on.
    pub fn write(&mut self, mut writes: Vec<EntityWrite>, highest: Lsn) -> Result<WriteStats, StoreError> {
        for write in &writes {
            check(write, highest)?;
        }
        writes.sort_unstable_by(|a, b| (&a.entity, a.row.version).cmp(&(&b.entity, b.row.version)));
        let mut stats = WriteStats::default();
        let mut rest = writes.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            self.store.update(|transaction| {
                write_rows(transaction, batch)?;
                raise_highest(&mut transaction.open_table(META)?, highest)
            })?;
            stats.transactions += 1;
            for write in batch {
                stats.entities += 1;
                stats.identities += write.identities.len() as u64;
                stats.bytes += write.stored_bytes() as u64;
            }
            rest = later;
        }
        Ok(stats)
    }

    /// Ends a checkpoint: every record up to `watermark` is stored. Durable when it returns.
    pub fn finish(&mut self, watermark: Lsn) -> Result<(), StoreError> {
        self.store.update(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let stored = tables::lsn_mark(&meta, WATERMARK)?;
            if watermark < stored {
                return Err(StoreError::WatermarkRegression { stored, offered: watermark });
            }
            tables::put_mark(&mut meta, WATERMARK, &watermark)?;
            raise_highest(&mut meta, watermark)
        })
    }
}

/// How many of `writes`, at least one, fit into a transaction.
fn batch_len(writes: &[EntityWrite]) -> usize {
    let mut bytes = 0;
    let fit = writes.iter().take_while(|write| {
        bytes += write.stored_bytes();
        bytes <= TRANSACTION_BYTES_MAX
    });
    fit.count().max(1)
}

fn check(write: &EntityWrite, highest: Lsn) -> Result<(), StoreError> {
    let why = if tables::entity_key(write.entity.kind(), write.entity.key()).is_none() {
        "its type's name has a NUL"
    } else if write.row.state.len() > STATE_BYTES_MAX {
        "its state is larger than a row may be"
    } else if write.row.lsn > highest {
        "it holds a record above the highest LSN of its checkpoint"
    } else {
        return Ok(());
    };
    Err(StoreError::InvalidWrite { entity: write.entity.clone(), why })
}

fn write_rows(transaction: &WriteTransaction, batch: &[EntityWrite]) -> Result<(), StoreError> {
    let mut entities = transaction.open_table(ENTITIES)?;
    let mut agenda = transaction.open_table(AGENDA)?;
    let mut gauges = GaugesInTransaction::open(transaction)?;
    let mut identities: Vec<(IdentityRowKey, StoredIdentity)> = Vec::new();
    let mut past_owners = Vec::new();
    for write in batch {
        let (kind, key) = (write.entity.kind(), write.entity.key());
        let Some(key) = tables::entity_key(kind, key) else { continue }; // `check` has refused it
        let replaced = {
            let value = row::encode_state(&key, &write.row);
            match entities.insert(key.as_slice(), value.as_slice())? {
                Some(old) => {
                    let old = row::view_state(&key, old.value())?;
                    Some((old.version, old.gaps, old.wake))
                }
                None => None,
            }
        };
        if let Some((stored, ..)) = replaced
            && write.row.version < stored
        {
            let (entity, offered) = (write.entity.clone(), write.row.version);
            return Err(StoreError::VersionRegression { entity, stored, offered });
        }
        gauges.replace(kind, replaced.and_then(|(_, gaps, _)| gaps), write.row.gaps)?;
        let (old, new) = (replaced.and_then(|(_, _, wake)| wake), write.row.wake);
        if old != new {
            if let Some(old) = old {
                agenda.remove(tables::agenda_key(old, &key).as_slice())?;
            }
            if let Some(new) = new {
                agenda.insert(tables::agenda_key(new, &key).as_slice(), ())?;
            }
        }
        let owner = tables::identity_owner(&key);
        if replaced.is_some_and(|(stored, ..)| stored < write.ended) {
            past_owners.push(owner);
        }
        identities.extend(write.identities.iter().map(|&(id, identity)| (tables::identity_key(owner, id), identity)));
    }
    gauges.write()?;
    delete_identities(transaction, past_owners)?;
    write_identities(transaction, identities)
}

/// Deletes all identities of these entities.
fn delete_identities(transaction: &WriteTransaction, owners: Vec<[u8; 16]>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(IDENTITIES)?;
    for owner in owners {
        let [first, last] = [0, u8::MAX].map(|byte| tables::identity_key(owner, IdentityHash([byte; 16])));
        table.retain_in::<&IdentityRowKey, _>(&first..=&last, |_, _| false)?;
    }
    Ok(())
}

/// In key order, which touches each page of the table once.
fn write_identities(
    transaction: &WriteTransaction,
    mut rows: Vec<(IdentityRowKey, StoredIdentity)>,
) -> Result<(), StoreError> {
    rows.sort_unstable_by_key(|(key, _)| *key);
    let mut table = transaction.open_table(IDENTITIES)?;
    for (key, identity) in rows {
        table.insert(&key, &row::encode_identity(&key, identity))?;
    }
    Ok(())
}

fn raise_highest(meta: &mut Table<&[u8], &[u8]>, highest: Lsn) -> Result<(), StoreError> {
    if highest > tables::lsn_mark(meta, HIGHEST_LSN)? {
        tables::put_mark(meta, HIGHEST_LSN, &highest)?;
    }
    Ok(())
}
