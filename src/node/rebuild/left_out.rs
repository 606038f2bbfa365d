//! Events that are not taken again: those of entities that are to be forgotten, and those that are held.

use crate::journal::JournalReader;
use crate::model::ids::Lsn;
use crate::model::record::Record;
use crate::model::record_head::RecordHead;
use crate::node::forget::Fates;
use crate::node::recovery::RecoveryError;
use crate::rules::{HeldBack, Taken};
use crate::store::{Store, StoreError};

/// What is left out.
#[derive(Default)]
pub(super) struct LeftOut {
    forgotten: Fates,
    held: HeldBack,
}

impl LeftOut {
    /// What is to be forgotten, as the store has it.
    pub fn forgotten(&mut self, store: &Store) -> Result<(), StoreError> {
        self.forgotten = Fates::pending(store)?;
        Ok(())
    }

    /// What is held after the record at `through`.
    pub fn held(&mut self, reader: &JournalReader, through: Lsn) -> Result<(), RecoveryError> {
        self.held = HeldBack::default();
        for block in reader.read_from(Lsn::FIRST)? {
            let block = block?;
            for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn <= through) {
                let unread = |source| RecoveryError::Record { lsn, source };
                if RecordHead::of(bytes).map_err(unread)?.may_hold() {
                    self.held.note(&Record::decode(bytes).map_err(unread)?);
                }
            }
            if block.last_lsn() >= through {
                break;
            }
        }
        Ok(())
    }

    /// Whether this is none of what somebody makes of a record's event.
    pub fn has(&self, record: &Record, taken: &Taken) -> bool {
        // A forgotten entity itself ends when that comes.
        let is_forgotten = taken.entity != record.entity && self.forgotten.hides(&record.entity, record.version);
        is_forgotten || self.held.has(taken)
    }
}
