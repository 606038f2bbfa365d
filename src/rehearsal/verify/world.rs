//! What is verified: a journal, a store, and entities as they are. Here that of a server that is not running, which is not
//! changed; a running one has its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::actors::{Kept, Snapshot};
use crate::disk::Place;
use crate::journal::{JournalError, JournalReader};
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;
use crate::model::time::Timestamp;
use crate::rules::Ruleset;
use crate::store::{Store, StoreError, StoreOptions, TypeMark};

/// The page cache of a store that is read once.
const STORE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why nothing can be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("there is no data in {}", .0.display())]
    None(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    #[error("the record at LSN {lsn} is not read as it was written")]
    Record { lsn: Lsn, source: CodecError },
    #[error("the rules of {} differ from those the data was written with; verify it with those", .0.join(", "))]
    RulesChanged(Vec<String>),
    #[error("nobody waits for the outcome any more")]
    Unwanted,
    #[error("the node is about to end")]
    Ending,
}

/// A source, and when it last had an event.
#[derive(Clone, Debug)]
pub struct Heard {
    pub source: String,
    pub last: Timestamp,
    /// It had none since the node started, at `last`.
    pub never: bool,
}

/// What is verified.
pub trait World {
    fn journal(&self) -> &JournalReader;
    fn store(&self) -> &Store;

    /// Where the journal begins for as long as it is verified.
    fn first(&self) -> Lsn {
        self.journal().first_lsn()
    }

    /// Entities show what is journaled up to here, at least.
    fn committed(&self) -> Lsn;

    /// Entities as they are, in the order they are asked for; also those whose life has ended, and those that others only
    /// wait for.
    ///
    /// # Errors
    /// When they cannot be asked any more.
    fn read(&self, entities: &[EntityKey]) -> Result<Vec<Option<Snapshot>>, VerifyError>;

    /// Keys of a type that the store does not have yet: in order, after one, at most `limit`.
    fn unsaved(&self, kind: &str, after: Option<&str>, limit: usize) -> Vec<Arc<str>>;

    /// When sources had their last event; none where nothing runs.
    fn heard(&self) -> Vec<Heard>;
}

/// The data folder of a server that is not running.
pub struct Stopped {
    store: Store,
    journal: JournalReader,
    /// Entities that have records above the watermark, with these.
    tail: HashMap<EntityKey, Kept>,
}

impl Stopped {
    /// Opens a data folder without changing it. While this is kept no server can start there.
    ///
    /// # Errors
    /// There is none, a server runs, it is damaged as a whole, or was written under other rules.
    pub fn open(data_dir: &Path, ruleset: &Ruleset) -> Result<Self, VerifyError> {
        let none = || VerifyError::None(data_dir.to_owned());
        let place = Place::from(data_dir);
        let options = StoreOptions { cache_bytes: STORE_CACHE_BYTES };
        let store = Store::of_stopped(place.clone(), options)?.ok_or_else(none)?;
        let journal = JournalReader::of_stopped(place)?.ok_or_else(none)?;
        check_rules(&store, ruleset)?;
        let mut tail: HashMap<EntityKey, Kept> = HashMap::new();
        let from = store.watermark()?.next();
        for block in journal.read_from(from)? {
            for (lsn, bytes) in block?.records().filter(|(lsn, _)| *lsn >= from) {
                let record = Record::decode(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
                let kept = match tail.remove(&record.entity) {
                    Some(kept) => Ok(Some(kept)),
                    None => Kept::load(&store, &record.entity),
                };
                // A row that cannot be read is told of when all are compared, and so is a record that does not fit.
                let Ok(kept) = kept else { continue };
                let mut kept = kept.unwrap_or_default();
                let _ = kept.replay(&record, lsn, ruleset.server());
                tail.insert(record.entity, kept);
            }
        }
        Ok(Stopped { store, journal, tail })
    }
}

/// States mean what they say only under the rules that made them.
fn check_rules(store: &Store, ruleset: &Ruleset) -> Result<(), VerifyError> {
    let marks = store.fingerprints()?.into_iter();
    // A type that was taken out of the rules is left as it is.
    let is_other = |name: &str, fingerprint: [u8; 32]| match ruleset.get(name) {
        Some(rules) => rules.fingerprint != fingerprint,
        None => fingerprint != TypeMark::UNSETTLED,
    };
    let changed: Vec<_> = marks.filter(|(name, mark)| is_other(name, mark.fingerprint)).map(|(name, _)| name).collect();
    if changed.is_empty() { Ok(()) } else { Err(VerifyError::RulesChanged(changed)) }
}

impl World for Stopped {
    fn journal(&self) -> &JournalReader {
        &self.journal
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn committed(&self) -> Lsn {
        self.journal.last_lsn()
    }

    fn read(&self, entities: &[EntityKey]) -> Result<Vec<Option<Snapshot>>, VerifyError> {
        let shown = |kept: &Kept| Snapshot { state: kept.entity.state().clone(), lsns: kept.book.clone() };
        let read = |entity| match self.tail.get(entity) {
            Some(kept) => Ok(Some(shown(kept))),
            None => Ok(Kept::load(&self.store, entity)?.as_ref().map(shown)),
        };
        entities.iter().map(read).collect()
    }

    fn unsaved(&self, kind: &str, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        let of_kind = self.tail.iter().filter(|(entity, kept)| entity.kind() == kind && kept.entity.state().exists());
        let mut keys: Vec<&str> = of_kind.map(|(entity, _)| entity.key()).collect();
        keys.retain(|key| after.is_none_or(|after| *key > after));
        keys.sort_unstable();
        keys.into_iter().take(limit).map(Arc::from).collect()
    }

    fn heard(&self) -> Vec<Heard> {
        Vec::new()
    }
}
