//! What a disk holds, and what a power cut makes of what was not synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::content::{Content, SECTOR_BYTES};

pub type FileId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File(FileId),
}

/// Names and files.
#[derive(Clone, Debug)]
pub struct Image {
    pub names: BTreeMap<PathBuf, Entry>,
    pub files: BTreeMap<FileId, Content>,
}

impl Image {
    /// An empty disk.
    pub fn empty() -> Self {
        Image { names: BTreeMap::from([(PathBuf::from("/"), Entry::Dir)]), files: BTreeMap::new() }
    }

    pub fn name(&mut self, change: &NameChange) {
        match change {
            NameChange::MakeDir(path) => self.names.insert(path.clone(), Entry::Dir),
            NameChange::Create(path, file) => self.names.insert(path.clone(), Entry::File(*file)),
            NameChange::Rename(from, to, file) => {
                self.names.remove(from);
                self.names.insert(to.clone(), Entry::File(*file))
            }
            NameChange::Remove(path) => self.names.remove(path),
        };
    }
}

/// A change of names; durable once the folder is synced.
#[derive(Clone, Debug)]
pub enum NameChange {
    MakeDir(PathBuf),
    Create(PathBuf, FileId),
    Rename(PathBuf, PathBuf, FileId),
    Remove(PathBuf),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (NameChange::MakeDir(path)
        | NameChange::Create(path, _)
        | NameChange::Rename(path, ..)
        | NameChange::Remove(path)) = self;
        path.parent().unwrap()
    }
}

/// A change of a file; durable once the file is synced.
#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Arc<[u8]>),
    SetLength(u64),
}

impl Change {
    pub fn apply(&self, content: &mut Content) {
        match self {
            Change::Write(offset, bytes) => content.write(*offset, bytes),
            Change::SetLength(length) => content.set_length(*length),
        }
    }
}

/// What was asked of the disk, in order.
#[derive(Clone, Debug)]
pub enum Io {
    Name(NameChange),
    Change(FileId, Change),
    Sync(FileId),
    /// The sync failed. What it was to write may be forgotten, though everybody still reads it.
    SyncFailed(FileId, u64),
    SyncDir(PathBuf),
}

/// What is durable, and what is not yet.
pub struct Shadow {
    durable: Image,
    changes: BTreeMap<FileId, Vec<Change>>,
    names: Vec<NameChange>,
}

/// What becomes of one file's, or the names', unsynced changes.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// The first few are kept.
    Prefix,
    /// Each by chance.
    Some,
    /// Each sector of each by chance.
    Torn,
    /// As `Torn`, and in any order.
    Shuffled,
}

const FATES: [Fate; 6] = [Fate::Lost, Fate::Kept, Fate::Prefix, Fate::Some, Fate::Torn, Fate::Shuffled];

impl Shadow {
    pub fn new(durable: Image) -> Self {
        Shadow { durable, changes: BTreeMap::new(), names: Vec::new() }
    }

    pub fn step(&mut self, io: &Io) {
        match io {
            Io::Name(change) => self.names.push(change.clone()),
            Io::Change(file, change) => self.changes.entry(*file).or_default().push(change.clone()),
            Io::Sync(file) => {
                let content = self.durable.files.entry(*file).or_default();
                self.changes.remove(file).unwrap_or_default().iter().for_each(|change| change.apply(content));
            }
            Io::SyncFailed(file, seed) => {
                let mut random = StdRng::seed_from_u64(*seed);
                if let Some(changes) = self.changes.get_mut(file) {
                    changes.retain(|change| matches!(change, Change::SetLength(_)) || random.random_bool(0.5));
                }
            }
            Io::SyncDir(dir) => {
                let durable = &mut self.durable;
                self.names.extract_if(.., |change| change.dir() == dir).for_each(|change| durable.name(&change));
            }
        }
    }

    /// The disk after the power was cut here.
    pub fn cut(&self, random: &mut StdRng) -> Image {
        let mut image = self.durable.clone();
        let fate = FATES[random.random_range(0..4)];
        survivors(&self.names, fate, random).for_each(|change| image.name(change));
        let lost: Vec<_> = image
            .names
            .keys()
            .filter(|path| !path.ancestors().all(|dir| image.names.contains_key(dir)))
            .cloned()
            .collect();
        for path in &lost {
            image.names.remove(path);
        }
        let same = random.random_bool(0.3).then(|| *pick(random));
        for (file, changes) in &self.changes {
            let fate = same.unwrap_or_else(|| *pick(random));
            let content = image.files.entry(*file).or_default();
            match fate {
                Fate::Torn | Fate::Shuffled => {
                    let mut torn: Vec<Change> = changes.iter().flat_map(|change| tear(change, random)).collect();
                    if matches!(fate, Fate::Shuffled) {
                        torn.shuffle(random);
                    }
                    for change in torn {
                        change.apply(content);
                    }
                }
                fate => survivors(changes, fate, random).for_each(|change| change.apply(content)),
            }
        }
        let named: Vec<FileId> = image
            .names
            .values()
            .filter_map(|entry| match entry {
                Entry::File(file) => Some(*file),
                Entry::Dir => None,
            })
            .collect();
        image.files.retain(|file, _| named.contains(file));
        for file in named {
            image.files.entry(file).or_default();
        }
        image
    }
}

fn pick(random: &mut StdRng) -> &'static Fate {
    &FATES[random.random_range(0..FATES.len())]
}

fn survivors<'a, T>(changes: &'a [T], fate: Fate, random: &mut StdRng) -> impl Iterator<Item = &'a T> {
    let prefix = random.random_range(..=changes.len());
    let kept: Vec<bool> = (0..changes.len())
        .map(|n| match fate {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Prefix => n < prefix,
            Fate::Some | Fate::Torn | Fate::Shuffled => random.random_bool(0.5),
        })
        .collect();
    changes.iter().zip(kept).filter_map(|(change, kept)| kept.then_some(change))
}

/// The sectors of a write that reached the disk.
fn tear(change: &Change, random: &mut StdRng) -> Vec<Change> {
    let Change::Write(offset, bytes) = change else {
        return if random.random_bool(0.5) { vec![change.clone()] } else { Vec::new() };
    };
    let mut sectors = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let at = offset + start as u64;
        let end = bytes.len().min(start + SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize);
        if random.random_bool(0.5) {
            sectors.push(Change::Write(at, bytes[start..end].into()));
        }
        start = end;
    }
    sectors
}
