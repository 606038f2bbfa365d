//! Opening a data folder and bringing the states up to the end of the journal.

use std::collections::{BTreeMap, HashMap};

use crate::actors::{HandedOver, Kept};
use crate::config::Tuning;
use crate::disk::Place;
use crate::journal::{Journal, JournalError, JournalOptions};
use crate::metrics::TypeMetrics;
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::Record;
use crate::rules::Ruleset;
use crate::store::{CheckpointWriter, Store, StoreError, StoreOptions, TypeMark};

/// The page cache of the store and of the journal, in bytes.
const STORE_CACHE_BYTES: usize = 128 * 1024 * 1024;
const JOURNAL_CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Enough that most recoveries write nothing; at most a few hundred megabytes.
const REPLAYED_HELD_MAX: usize = 200_000;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("cannot create or enter the data folder {path}; see to its permissions, or set server.data_dir")]
    Folder { path: String, source: std::io::Error },
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
        "the rules of {} differ from those {folder} was written with; start with the old rules, or on an empty folder",
        types.join(", ")
    )]
    RulesChanged { folder: String, types: Vec<String> },
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
    pub store: Store,
    pub journal: Journal,
    /// So many replayed entities are held before they are written to the store.
    pub replayed_held_max: usize,
}

/// Opens or creates the data folder.
pub fn open(folder: impl Into<Place>, tuning: &Tuning, ruleset: &Ruleset) -> Result<Opened, RecoveryError> {
    let folder = folder.into();
    let shown = folder.path.display().to_string();
    let in_folder = |source| RecoveryError::Folder { path: shown.clone(), source };
    folder.create_dirs().map_err(in_folder)?;
    let journal_uuid = Journal::exists(folder.clone())?;
    if journal_uuid.is_some() && !Store::exists(&folder)? {
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
    let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let options = JournalOptions {
        segment_bytes: tuning.journal.segment_bytes,
        commit_bytes_max: limit(tuning.journal.commit_bytes_max),
        cache_bytes: JOURNAL_CACHE_BYTES,
    };
    let journal = Journal::open(folder, store.uuid(), options)?;
    if highest > journal.last_lsn() {
        return Err(no_journal(format!("ends at LSN {}", journal.last_lsn())));
    }
    if store.watermark()?.next() < journal.first_lsn() {
        return Err(no_journal(format!("begins at LSN {}", journal.first_lsn())));
    }
    check_rules(&store, journal.last_lsn(), ruleset, &shown)?;
    Ok(Opened { store, journal, replayed_held_max: REPLAYED_HELD_MAX })
}

/// Old data is only opened with the rules it was written with; new entity types may be added.
fn check_rules(store: &Store, last: Lsn, ruleset: &Ruleset, folder: &str) -> Result<(), RecoveryError> {
    let mut known = store.fingerprints()?;
    let declared: BTreeMap<String, TypeMark> = ruleset
        .types()
        .iter()
        .map(|rules| {
            let mark = TypeMark { fingerprint: rules.fingerprint, names: rules.slot_names() };
            (rules.name.to_string(), mark)
        })
        .collect();
    if last == Lsn::ZERO {
        known.clear();
    }
    let changed: Vec<String> = known
        .iter()
        .filter(|(name, mark)| declared.get(*name).is_none_or(|declared| declared.fingerprint != mark.fingerprint))
        .map(|(name, _)| if declared.contains_key(name) { name.clone() } else { format!("{name} (removed)") })
        .collect();
    if !changed.is_empty() {
        return Err(RecoveryError::RulesChanged { folder: folder.to_owned(), types: changed });
    }
    if known.len() != declared.len() {
        store.set_fingerprints(&declared)?;
    }
    Ok(())
}

/// What recovery found.
pub struct Recovered {
    /// Entities the store does not have as they are now.
    pub entities: HashMap<EntityKey, HandedOver>,
    pub records: u64,
    /// What the records took: the journal's tail that is not in the store.
    pub bytes: u64,
}

/// Applies the journal's records above the watermark.
#[expect(clippy::implicit_hasher, reason = "the node has one such map")]
pub fn replay(
    opened: &Opened,
    types: &HashMap<std::sync::Arc<str>, std::sync::Arc<TypeMetrics>>,
) -> Result<Recovered, RecoveryError> {
    for (kind, gauges) in opened.store.gauges()? {
        let Some(metrics) = types.get(kind.as_str()) else { continue };
        metrics.entities.set(i64::try_from(gauges.entities).unwrap_or(i64::MAX));
        for (gauge, missing) in metrics.incomplete.iter().zip(gauges.missing) {
            gauge.set(i64::try_from(missing).unwrap_or(i64::MAX));
        }
    }
    let from = opened.store.watermark()?.next();
    let mut replay = Replay { opened, types, held: HashMap::new(), records: 0, bytes: 0 };
    for block in opened.journal.reader().read_from(from)? {
        let block = block?;
        for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn >= from) {
            let record = Record::decode(bytes).map_err(|source| RecoveryError::Record { lsn, source })?;
            replay.record(&record, lsn)?;
            replay.bytes += bytes.len() as u64;
        }
        if replay.held.len() > opened.replayed_held_max {
            replay.store_held(block.last_lsn())?;
        }
    }
    let (records, bytes) = (replay.records, replay.bytes);
    let entities = replay.changed().map(|(key, kept, stored)| (key, handed_over(&kept, stored))).collect();
    Ok(Recovered { entities, records, bytes })
}

fn handed_over(kept: &Kept, stored: Version) -> HandedOver {
    HandedOver { version: kept.entity.version(), stored, listed: true, bytes: kept.encode() }
}

struct Replay<'a> {
    opened: &'a Opened,
    types: &'a HashMap<std::sync::Arc<str>, std::sync::Arc<TypeMetrics>>,
    /// Replayed entities, each with the version the store has.
    held: HashMap<EntityKey, (Kept, Version)>,
    records: u64,
    bytes: u64,
}

impl Replay<'_> {
    fn record(&mut self, record: &Record, lsn: Lsn) -> Result<(), RecoveryError> {
        let (kept, _) = match self.held.entry(record.entity.clone()) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let stored = Kept::load(&self.opened.store, &record.entity)?;
                let version = stored.as_ref().map_or(Version(0), |kept| kept.entity.version());
                free.insert((stored.unwrap_or_default(), version))
            }
        };
        let (missing, version) = (kept.entity.state().missing, kept.entity.version());
        kept.replay(record, lsn).map_err(|state| RecoveryError::Gap {
            entity: record.entity.to_string(),
            lsn,
            found: record.version.0,
            state: state.0,
        })?;
        if let Some(metrics) = self.types.get(record.entity.kind()) {
            metrics.missing_changed(missing, kept.entity.state().missing);
            if version == Version(0) {
                metrics.entities.inc();
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Lets go of what is held; returns what of it the store does not have. A recovery that was cut short may have stored
    /// the rest, with records that this one has not come to yet.
    fn changed(&mut self) -> impl Iterator<Item = (EntityKey, Kept, Version)> {
        let held = self.held.drain().map(|(key, (kept, stored))| (key, kept, stored));
        held.filter(|(_, kept, stored)| kept.entity.version() > *stored)
    }

    /// Writes what is held, so that a long journal does not need memory for all its entities.
    fn store_held(&mut self, highest: Lsn) -> Result<(), RecoveryError> {
        let writes = self.changed().map(|(key, kept, _)| kept.write(key)).collect();
        CheckpointWriter::new(self.opened.store.clone()).write(writes, highest)?;
        Ok(())
    }
}
