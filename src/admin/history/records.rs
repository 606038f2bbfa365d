//! Records by their positions. Neighbours are mostly in the same block, so the last one stays at hand.

use super::super::api::Api;
use super::super::problem::Problem;
use super::unreadable;
use crate::journal::{Block, JournalError};
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal's record {lsn} cannot be read; stop, keep a copy of the folder, and restore it from a backup")]
pub(super) struct Unreadable {
    pub lsn: Lsn,
    pub source: CodecError,
}

/// Reads single records.
pub(super) struct Records<'a> {
    api: &'a Api,
    block: Option<Block>,
}

impl<'a> Records<'a> {
    pub(super) fn new(api: &'a Api) -> Self {
        Records { api, block: None }
    }

    /// The record of `entity` at `lsn`, and how many bytes it takes; `None` if the journal has been trimmed so far, or
    /// the record was, or is about to be, forgotten.
    pub(super) fn get(&mut self, entity: &EntityKey, lsn: Lsn) -> Result<Option<(Record, usize)>, Problem> {
        let api = self.api;
        let Some(block) = self.block_of(lsn)? else { return Ok(None) };
        let Some(bytes) = block.at(lsn) else { return Ok(None) };
        let read = api.forgetting.read(bytes).map_err(|source| unreadable(api, Unreadable { lsn, source }))?;
        let Some(record) = read else { return Ok(None) };
        if record.entity != *entity {
            tracing::error!(entity = %entity, lsn = lsn.0, "the index of its records leads to one of {}", record.entity);
            return Err(Problem::internal(format!("the index of {entity} leads to a record of another entity")));
        }
        let size = bytes.len();
        Ok(Some((record, size)))
    }

    fn block_of(&mut self, lsn: Lsn) -> Result<Option<&Block>, Problem> {
        let holds = |block: &Block| block.first_lsn <= lsn && lsn <= block.last_lsn();
        if !self.block.as_ref().is_some_and(holds) {
            self.block = match self.read(lsn) {
                Ok(block) => block.filter(holds),
                Err(JournalError::Trimmed { .. }) => None,
                Err(error) => return Err(unreadable(self.api, error)),
            };
        }
        Ok(self.block.as_ref())
    }

    fn read(&self, lsn: Lsn) -> Result<Option<Block>, JournalError> {
        self.api.journal.read_from(lsn)?.next().transpose()
    }
}
