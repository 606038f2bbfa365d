//! Opening a data folder: journal and store belong together, and it is known by which rules they were written.

use std::sync::Arc;

use super::rebuild::Plan;
use crate::config::Tuning;
use crate::disk::Place;
use crate::journal::{Journal, JournalError, JournalOptions};
use crate::model::codec::CodecError;
use crate::model::ids::Lsn;
use crate::rules::Ruleset;
use crate::store::{Beginning, Store, StoreError, StoreOptions};

/// The page cache of the store and of the journal, in bytes.
const STORE_CACHE_BYTES: usize = 128 * 1024 * 1024;
const JOURNAL_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Enough that recoveries write nothing unless the limits of checkpoints were raised.
const REPLAYED_HELD_MAX: usize = 1_000_000;
/// States that new rules make of events, while they are made; the journal is read as often as that takes.
const REBUILT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Where a backup is brought back, in the data folder it is for.
pub(super) const UNFINISHED_RESTORE: &str = "restoring";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("cannot create or enter the data folder {path}; see to its permissions, or set server.data_dir")]
    Folder { path: String, source: std::io::Error },
    #[error(
        "{folder} holds a restore that was cut short ({UNFINISHED_RESTORE}); delete the folder and restore the backup again"
    )]
    RestoreUnfinished { folder: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(
        "{folder} holds a journal but no store (state.redb); bring back the store that belongs to it, or start on an empty folder"
    )]
    StoreMissing { folder: String },
    #[error(
        "{folder} holds a store up to LSN {highest} but its journal {found}; bring back the journal that belongs to it"
    )]
    JournalMissing { folder: String, highest: Lsn, found: String },
    #[error(
        "the rules of {} differ from those {folder} was written with, and what they make of its events cannot be worked out: \
         the journal begins at LSN {first}, earlier records are trimmed. Start with the old rules; or with \
         --rules-forward-only: entities keep the values they have, and the new rules go on from there",
        types.join(", ")
    )]
    Trimmed { folder: String, types: Vec<String>, first: Lsn },
    #[error(
        "states of {kind} in {folder} were being made anew when that was cut short; start without --rules-forward-only, so \
         that it is done again"
    )]
    Unfinished { folder: String, kind: String },
    #[error("the record at LSN {lsn} cannot be read; the journal is damaged, or of another version")]
    Record { lsn: Lsn, source: CodecError },
    #[error(
        "the journal has version {found} of {entity} at LSN {lsn}, but its state is at version {state}; \
         records are missing, and nothing is guessed"
    )]
    Gap { entity: String, lsn: Lsn, found: u64, state: u64 },
}

/// An opened data folder.
pub struct Opened {
    /// As it is shown.
    pub folder: String,
    /// What is to be done first, if the rules are others than those it was written with.
    pub changed: Option<Plan>,
    /// So much memory is taken by states that are made anew at a time, about.
    pub rebuilt_bytes_max: u64,
    pub store: Store,
    pub journal: Journal,
    /// Up to here all is in the store.
    pub watermark: Lsn,
    /// Which incarnation of the folder this is.
    pub beginning: Beginning,
    /// The name in decisions' source.
    pub server: Arc<str>,
    /// So many replayed entities are held before they are written to the store.
    pub replayed_held_max: usize,
    /// Threads that replay, each its share of the partitions; one replays on the caller's.
    pub replaying_threads: usize,
}

/// Opens or creates the data folder.
pub fn open(folder: impl Into<Place>, tuning: &Tuning, ruleset: &Ruleset) -> Result<Opened, RecoveryError> {
    let folder = folder.into();
    let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let options = JournalOptions {
        segment_bytes: tuning.journal.segment_bytes,
        commit_bytes_max: limit(tuning.journal.commit_bytes_max),
        cache_bytes: JOURNAL_CACHE_BYTES,
    };
    let mut opened = open_both(&folder, options, ruleset.server(), usize::from(tuning.actors.shards))?;
    opened.changed = Plan::of(&opened.store, opened.journal.last_lsn(), ruleset)?;
    ruleset.begin(opened.beginning.incarnation);
    Ok(opened)
}

/// Opens or creates store and journal, whatever rules they were written with.
pub(super) fn open_both(
    folder: &Place,
    options: JournalOptions,
    server: &Arc<str>,
    replaying_threads: usize,
) -> Result<Opened, RecoveryError> {
    let shown = folder.path.display().to_string();
    let in_folder = |source| RecoveryError::Folder { path: shown.clone(), source };
    folder.create_dirs().map_err(in_folder)?;
    if folder.join(UNFINISHED_RESTORE).exists().map_err(in_folder)? {
        return Err(RecoveryError::RestoreUnfinished { folder: shown });
    }
    let journal_uuid = Journal::exists(folder.clone())?;
    if journal_uuid.is_some() && !Store::exists(folder)? {
        return Err(RecoveryError::StoreMissing { folder: shown });
    }
    let store = Store::open(folder.clone(), StoreOptions { cache_bytes: STORE_CACHE_BYTES })?;
    let highest = store.highest_lsn()?;
    let no_journal = |found: String| RecoveryError::JournalMissing { folder: shown.clone(), highest, found };
    match journal_uuid {
        None if highest > Lsn::ZERO => return Err(no_journal("is missing".to_owned())),
        Some(uuid) if uuid != store.uuid() => {
            return Err(no_journal(format!("is another's ({uuid}, not {})", store.uuid())));
        }
        _ => {}
    }
    let journal = Journal::open(folder.clone(), store.uuid(), options)?;
    if highest > journal.last_lsn() {
        return Err(no_journal(format!("ends at LSN {}", journal.last_lsn())));
    }
    let (watermark, beginning) = (store.watermark()?, store.beginning()?);
    if watermark.next() < journal.first_lsn() {
        return Err(no_journal(format!("begins at LSN {}", journal.first_lsn())));
    }
    let (server, replayed_held_max) = (server.clone(), REPLAYED_HELD_MAX);
    let rebuilt_bytes_max = REBUILT_BYTES_MAX;
    let changed = None;
    Ok(Opened {
        folder: shown,
        changed,
        rebuilt_bytes_max,
        store,
        journal,
        watermark,
        beginning,
        server,
        replayed_held_max,
        replaying_threads,
    })
}
