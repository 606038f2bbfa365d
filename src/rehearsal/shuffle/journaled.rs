//! Events as the journal of a stopped server holds them: those that counted, in the order in which they did.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recording::Recording;
use crate::journal::{JournalError, JournalReader};
use crate::model::codec::CodecError;
use crate::model::ids::{IdentityHash, Lsn};
use crate::model::record::{Input, Record};
use crate::rules::Ruleset;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournaledError {
    #[error("there is no journal in {}", .0.display())]
    None(PathBuf),
    #[error("the journal cannot be read; the server must be stopped")]
    Journal(#[from] JournalError),
    #[error("the record at LSN {lsn} is not read as it was written")]
    Record { lsn: Lsn, source: CodecError },
}

/// Adds every event that the journal in `data_dir` still holds. The folder is not changed.
///
/// # Errors
/// There is no journal, a server has it open, or it is damaged.
pub fn read_journal(data_dir: &Path, ruleset: &Arc<Ruleset>, recording: &mut Recording) -> Result<(), JournaledError> {
    let reader = JournalReader::of_stopped(data_dir)?.ok_or_else(|| JournaledError::None(data_dir.to_owned()))?;
    // An event has a record in each entity that took it, and is admitted to all of them at the first.
    let mut known = HashSet::new();
    for block in reader.read_from(reader.first_lsn())? {
        for (lsn, bytes) in block?.records() {
            let record = Record::decode(bytes).map_err(|source| JournaledError::Record { lsn, source })?;
            let (Input::Event(input) | Input::Held(input)) = record.input else { continue };
            let identity = IdentityHash::of(&input.event.source, &input.event.id);
            if known.insert((identity, input.payload)) {
                recording.add(ruleset, lsn.0, &input.event.unpack());
            }
        }
    }
    Ok(())
}
