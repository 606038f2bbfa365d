//! A copy of the whole store while it is used: one snapshot, row by row, into a file of its own.
//!
//! Every row is verified on the way, so that damage is not carried into a backup. Pages that the snapshot sees are not reused
//! before the copy is whole: meanwhile the store's file grows by what checkpoints write.

use std::ops::ControlFlow;

use redb::{Database, Key, ReadTransaction, TableDefinition, Value};

use super::error::StoreError;
use super::file::{Beginning, Store, StoreOptions, update, write_new};
use super::row;
use super::tables::{
    self, AGENDA, BEGINNING, ENTITIES, GAUGES, HIGHEST_LSN, HISTORY, IDENTITIES, META, TYPES, WATERMARK,
    parse_agenda_key,
};
use crate::disk::Place;
use crate::model::ids::Lsn;

/// So much is copied in one transaction, in bytes, unless a single row has more.
const SLICE_BYTES: usize = 1024 * 1024;
/// redb's cache for the new file: it is written once, from its first key to its last.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCopy {
    pub watermark: Lsn,
    /// No row holds a record above this.
    pub highest_lsn: Lsn,
    pub beginning: Beginning,
}

impl Store {
    /// Writes a copy into `dir`, which must exist and have no store. `pace` is told of every slice's bytes; it may take its time,
    /// and break off. None if it did.
    ///
    /// # Errors
    /// This store cannot be read, or the copy not be written; what there is of it has no name of a store.
    pub fn copy(
        &self,
        dir: impl Into<Place>,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<StoreCopy>, StoreError> {
        let dir = dir.into();
        self.read(|reading| {
            let copied = write_new(&dir, StoreOptions { cache_bytes: CACHE_BYTES }, |database| {
                Copying { reading, database, pace }.all()
            })?;
            if copied.is_break() {
                return Ok(None);
            }
            let synced = dir.disk.sync_dir(&dir.path);
            synced.map_err(|source| StoreError::Io { action: "sync the directory of", source })?;
            let watermark = tables::read_mark(reading, WATERMARK)?;
            let highest_lsn = tables::read_mark(reading, HIGHEST_LSN)?;
            Ok(Some(StoreCopy { watermark, highest_lsn, beginning: tables::read_mark(reading, BEGINNING)? }))
        })
    }
}

struct Copying<'a> {
    reading: &'a ReadTransaction,
    database: &'a Database,
    pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
}

impl Copying<'_> {
    /// Every table there is. The marks come last: without them a file is no store.
    fn all(mut self) -> Result<ControlFlow<()>, StoreError> {
        let sealed = |name| move |key: &[u8], value: &[u8]| row::unseal(name, key, value).map(drop);
        if self.table(ENTITIES, sealed("entities"))?.is_break()
            || self.table(IDENTITIES, sealed("identities"))?.is_break()
            || self.table(HISTORY, sealed("history"))?.is_break()
            || self.table(AGENDA, |key, _| parse_agenda_key(key).map(drop))?.is_break()
            || self.table(GAUGES, sealed("gauges"))?.is_break()
            || self.table(TYPES, sealed("types"))?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        self.table(META, sealed("meta"))
    }

    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<K, V>,
        check: impl Fn(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let from = self.reading.open_table(table)?;
        let mut rows = from.range::<K::SelfType<'_>>(..)?;
        let mut is_end = false;
        while !is_end {
            let mut bytes = 0;
            update(self.database, |transaction| {
                let mut to = transaction.open_table(table)?;
                while bytes < SLICE_BYTES {
                    let Some(entry) = rows.next() else {
                        is_end = true;
                        break;
                    };
                    let (key, value) = entry?;
                    let (key, value) = (key.value(), value.value());
                    let (key_bytes, value_bytes) = (K::as_bytes(&key), V::as_bytes(&value));
                    check(key_bytes.as_ref(), value_bytes.as_ref())?;
                    bytes += key_bytes.as_ref().len() + value_bytes.as_ref().len();
                    to.insert(&key, &value)?;
                }
                Ok(())
            })?;
            if (self.pace)(bytes as u64).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
