//! One checkpoint, and when the next is due: what the checkpointer's thread does between waiting, as plain structures.

use crate::actors::Slice;
use crate::config::Tuning;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::store::{CheckpointWriter, EntityWrite, Store, StoreError, TRANSACTION_BYTES_MAX};

/// Copies are gathered to so many bytes before they are written: a transaction's worth.
const GATHERED_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;

/// What is stored of an entity: the version, and the last of its identities that has a row of its own.
pub type StoredCopy = (EntityKey, Version, Option<IdentityHash>);

/// A checkpoint under way. Everything committed before it began is in the copies it is given, or in the store.
pub struct Checkpoint {
    writer: CheckpointWriter,
    cut: Lsn,
    /// Copies that are written together.
    gathered: Vec<EntityWrite>,
    gathered_bytes: usize,
    /// No record in the gathered copies is above this.
    committed: Lsn,
}

impl Checkpoint {
    /// Begins a checkpoint that is to reach `cut`: the end of the journal, asked for before anything is copied.
    pub fn begin(store: Store, cut: Lsn) -> Self {
        Checkpoint {
            writer: CheckpointWriter::new(store),
            cut,
            gathered: Vec::new(),
            gathered_bytes: 0,
            committed: Lsn::ZERO,
        }
    }

    /// Takes a slice; stores what is gathered when that is enough or the slice is its shard's last. Returns what is stored.
    pub fn take(&mut self, slice: Slice) -> Result<Vec<StoredCopy>, StoreError> {
        self.gathered_bytes += slice.writes.iter().map(EntityWrite::stored_bytes).sum::<usize>();
        self.committed = self.committed.max(slice.committed);
        self.gathered.extend(slice.writes);
        if slice.is_last || self.gathered_bytes >= GATHERED_BYTES_MAX { self.store() } else { Ok(Vec::new()) }
    }

    /// Stores what is gathered; returns what that is.
    pub(super) fn store(&mut self) -> Result<Vec<StoredCopy>, StoreError> {
        self.gathered_bytes = 0;
        let writes = std::mem::take(&mut self.gathered);
        let stored =
            |write: &EntityWrite| (write.entity.clone(), write.row.version, write.identities.last().map(|(id, _)| *id));
        let stored: Vec<StoredCopy> = writes.iter().map(stored).collect();
        self.writer.write(writes, self.committed)?;
        Ok(stored)
    }

    /// Every shard's last slice is stored: the cut becomes the watermark. Returns it.
    pub fn finish(mut self) -> Result<Lsn, StoreError> {
        self.writer.finish(self.cut)?;
        Ok(self.cut)
    }
}

/// When a checkpoint is due.
#[derive(Debug)]
pub struct Pacing {
    journal_bytes: u64,
    dirty_bytes_max: u64,
    /// How many bytes were journaled when the last checkpoint began.
    checkpointed_bytes: u64,
}

impl Pacing {
    /// The pacing after a start.
    pub fn new(tuning: &Tuning) -> Self {
        Pacing {
            journal_bytes: tuning.checkpoint.journal_bytes,
            dirty_bytes_max: tuning.checkpoint.dirty_bytes_max,
            checkpointed_bytes: 0,
        }
    }

    /// Whether a checkpoint should begin, `journaled` bytes after the start, while states of `handed` bytes wait for it.
    pub fn is_due(&self, journaled: u64, handed: u64) -> bool {
        journaled - self.checkpointed_bytes >= self.journal_bytes || handed >= self.dirty_bytes_max / 2
    }

    /// A checkpoint that began at `journaled` bytes is complete.
    pub fn completed(&mut self, journaled: u64) {
        self.checkpointed_bytes = journaled;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixtures::tuning;
    use super::*;

    /// A checkpoint that is never due lets the journal grow without end; one that always is slows everything down.
    #[test]
    fn a_checkpoint_is_due_for_the_journal_or_for_memory() {
        let mut tuning = tuning();
        (tuning.checkpoint.journal_bytes, tuning.checkpoint.dirty_bytes_max) = (100, 1000);
        let mut pacing = Pacing::new(&tuning);
        assert!(!pacing.is_due(99, 499));
        assert!(pacing.is_due(100, 0));
        assert!(pacing.is_due(0, 500));
        pacing.completed(150);
        assert!(!pacing.is_due(249, 0));
        assert!(pacing.is_due(250, 0));
    }
}
