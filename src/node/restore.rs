//! Restoring a backup into an empty data folder, where no server runs, so that a node can start there.
//!
//! What happened after the backup is not known, and some of it was seen outside. So the folder begins another incarnation: new
//! revisions are numbered from a place that no decision can have come to ([`Incarnation`]), and every effect that was asked for
//! and not begun is noted as begun, as if the process had ended in mid-call: what is to be called once at most is unknown then,
//! what may be called again is, with the same key. All of it is done in a folder inside, whose content is named only when it is
//! whole: the journal first, since a folder with a journal and no store is not started on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::recovery::{self, Opened, RecoveryError, UNFINISHED_RESTORE};
use super::replay::replay;
use crate::actors::Kept;
use crate::backup::{BackupError, Manifest, Progress, bring_back};
use crate::disk::{Disk, Place, RealDisk};
use crate::journal::{BlockBuilder, JournalError, JournalOptions};
use crate::model::dealings::{Effect, EffectStage};
use crate::model::ids::{EntityKey, Incarnation, Lsn, Revision};
use crate::model::record::Input;
use crate::model::time::Timestamp;
use crate::rules;
use crate::store::{Beginning, CheckpointWriter, EntityWrite, StoreError};

/// The journal is written to once; the server that starts here has sizes of its own.
const JOURNAL: JournalOptions =
    JournalOptions { segment_bytes: 1 << 30, commit_bytes_max: 1 << 20, cache_bytes: 32 << 20 };
/// So many rows of the store are looked at together.
const ROWS_AT_ONCE: usize = 1_000;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{} is not empty; restore into a new folder, and keep the old one until all is well", .0.display())]
    NotEmpty(PathBuf),
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the backup cannot be opened")]
    Open(#[from] RecoveryError),
    #[error("{what} is not as the backup's manifest says: {found}, not {told}; take another backup")]
    Differs { what: &'static str, found: String, told: String },
    #[error(
        "incarnation {asked} is too low: the backup is of incarnation {known} and has revision {highest}, so the next one is {next} \
         or more"
    )]
    TooLow { asked: u32, known: u32, highest: u32, next: u32 },
    #[error("incarnation {asked} is too high: {last} is the last there can be", last = Incarnation::MAX.0)]
    TooHigh { asked: u32 },
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        RestoreError::Open(error.into())
    }
}

impl From<JournalError> for RestoreError {
    fn from(error: JournalError) -> Self {
        RestoreError::Open(error.into())
    }
}

/// A folder that was restored.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    pub incarnation: Incarnation,
    /// Effects that had been asked for and not begun.
    pub effects_begun: u64,
    /// Position of the journal's last record.
    pub last_lsn: Lsn,
}

/// Restores the backup in `from` into `data_dir`, which must be empty or not there, as `incarnation` or as the next one.
///
/// # Errors
/// The backup is none or damaged, or something cannot be read or written. No server starts on what is left then.
pub fn restore(
    from: &Path,
    data_dir: &Path,
    incarnation: Option<Incarnation>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Restored, RestoreError> {
    let manifest = Manifest::read(from)?;
    check_empty(data_dir)?;
    let unfinished = data_dir.join(UNFINISHED_RESTORE);
    bring_back(&manifest, from, &unfinished, tell)?;
    let opened = recovery::open_both(&Place::from(&unfinished), JOURNAL, &manifest.server.as_str().into(), 1)?;
    let restored = Restoring { manifest, opened, effects_begun: 0, highest: Revision::default() }.run(incarnation)?;
    publish(&unfinished, data_dir)?;
    Ok(restored)
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RestoreError + 'a {
    move |source| RestoreError::Io { action, path: path.to_path_buf(), source }
}

fn check_empty(folder: &Path) -> Result<(), RestoreError> {
    let is_there = RealDisk.exists(folder).map_err(at("look at", folder))?;
    if is_there && !RealDisk.names(folder).map_err(at("list", folder))?.is_empty() {
        return Err(RestoreError::NotEmpty(folder.to_path_buf()));
    }
    Ok(())
}

/// What was made in `unfinished` becomes the content of `data_dir`.
fn publish(unfinished: &Path, data_dir: &Path) -> Result<(), RestoreError> {
    for name in ["journal", "state.redb"] {
        RealDisk.rename(&unfinished.join(name), &data_dir.join(name)).map_err(at("name", &data_dir.join(name)))?;
        RealDisk.sync_dir(data_dir).map_err(at("sync", data_dir))?;
    }
    std::fs::remove_dir(unfinished).map_err(at("delete", unfinished))?;
    RealDisk.sync_dir(data_dir).map_err(at("sync", data_dir))
}

struct Restoring {
    manifest: Manifest,
    opened: Opened,
    effects_begun: u64,
    /// The highest revision of any decision.
    highest: Revision,
}

impl Restoring {
    fn run(mut self, asked: Option<Incarnation>) -> Result<Restored, RestoreError> {
        self.check()?;
        self.store_all()?;
        self.look_at_all()?;
        let incarnation = self.incarnation(asked)?;
        let last_lsn = self.opened.journal.last_lsn();
        self.opened.store.begin(Beginning { incarnation, after: last_lsn })?;
        Ok(Restored { manifest: self.manifest, incarnation, effects_begun: self.effects_begun, last_lsn })
    }

    /// Store and journal are those the manifest tells of.
    fn check(&self) -> Result<(), RestoreError> {
        let Opened { store, journal, .. } = &self.opened;
        let told = &self.manifest;
        for (what, found, told) in [
            ("the store's uuid", store.uuid().to_string(), told.uuid.clone()),
            ("the store's incarnation", store.beginning()?.incarnation.0.to_string(), told.incarnation.to_string()),
            ("the store's watermark", store.watermark()?.to_string(), told.watermark.to_string()),
            ("the journal's first record", journal.first_lsn().to_string(), told.first_lsn.to_string()),
            ("the journal's last record", journal.last_lsn().to_string(), told.last_lsn.to_string()),
        ] {
            if found != told {
                return Err(RestoreError::Differs { what, found, told });
            }
        }
        Ok(())
    }

    /// Brings the store up to the end of the journal, which reads all of it.
    fn store_all(&self) -> Result<(), RestoreError> {
        let Opened { store, journal, .. } = &self.opened;
        // No metrics are told: nobody reads any.
        let recovered = replay(&self.opened, &HashMap::new())?;
        let writes: Vec<EntityWrite> = recovered.entities.into_iter().map(|(key, it)| it.write(key)).collect();
        let mut checkpoint = CheckpointWriter::new(store.clone());
        checkpoint.write(writes, journal.last_lsn())?;
        Ok(checkpoint.finish(journal.last_lsn())?)
    }

    /// Looks at every entity: for its revisions, and for what it has asked for.
    fn look_at_all(&mut self) -> Result<(), RestoreError> {
        let mut after: Option<EntityKey> = None;
        let mut begun = BlockBuilder::with_capacity(0);
        loop {
            let rows = self.opened.store.rows(after.as_ref(), ROWS_AT_ONCE)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            for (key, row) in rows {
                let kept = Kept::decode(&row.state).map_err(|error| StoreError::Corrupt {
                    what: error.to_string(),
                    table: "entities",
                    key: key.to_string(),
                })?;
                let state = kept.entity.state();
                let past = state.past().into_iter().flat_map(|past| &past.decisions).map(|past| past.revision);
                let revisions = state.ledger.iter().map(|entry| entry.revision).chain(past);
                self.highest = revisions.fold(self.highest, Revision::max);
                self.begin_effects(&key, kept, &mut begun);
                if begun.stored_bytes() >= JOURNAL.commit_bytes_max {
                    let full = std::mem::replace(&mut begun, BlockBuilder::with_capacity(0));
                    self.opened.journal.append(&mut [full])?;
                }
            }
        }
        if begun.count() > 0 {
            self.opened.journal.append(&mut [begun])?;
        }
        Ok(())
    }

    /// Notes that the first attempt of what was asked for has begun: somebody else may have made it since.
    fn begin_effects(&mut self, key: &EntityKey, mut kept: Kept, begun: &mut BlockBuilder) {
        let effects = kept.entity.state().dealings.iter().flat_map(|dealings| &dealings.effects);
        let asked = effects.filter(|effect| effect.stage == EffectStage::Requested);
        let started = |it: &Effect| Input::Started { effect: it.name.clone(), run: it.run, attempt: it.attempts + 1 };
        for input in asked.map(started).collect::<Vec<_>>() {
            let decided = rules::without_conclusions(key.clone(), kept.entity.state(), input, Timestamp::now());
            begun.push(&decided.record.encode(), false);
            self.effects_begun += 1;
            // Further ones follow on this; it is the next version, so there is no gap.
            let _ = kept.entity.replay(&decided.record);
        }
    }

    fn incarnation(&self, asked: Option<Incarnation>) -> Result<Incarnation, RestoreError> {
        let (known, highest) = (self.manifest.incarnation, self.highest);
        let next = Incarnation::after(Incarnation(known), highest);
        let chosen = asked.unwrap_or(next);
        if chosen < next {
            return Err(RestoreError::TooLow { asked: chosen.0, known, highest: highest.0, next: next.0 });
        }
        if chosen > Incarnation::MAX { Err(RestoreError::TooHigh { asked: chosen.0 }) } else { Ok(chosen) }
    }
}
