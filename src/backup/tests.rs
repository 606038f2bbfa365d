//! Making backups of a store and a journal, and bringing them back, without a node around.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::making::make;
use super::*;
use crate::journal::{BlockBuilder, Journal, JournalOptions};
use crate::model::ids::Lsn;
use crate::model::mandate::Mandate;
use crate::store::{Store, StoreOptions};

const FAST: u64 = 1 << 40;

/// A data folder with records in several segments.
fn data(folder: &Path) -> (Store, Journal) {
    let store = Store::open(folder, StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let options = JournalOptions { segment_bytes: 1, commit_bytes_max: 1 << 20, cache_bytes: 1 << 20 };
    let mut journal = Journal::open(folder, store.uuid(), options).unwrap();
    for n in 0..3 {
        let mut block = BlockBuilder::with_capacity(0);
        block.push(&[n; 100], false);
        journal.append(&mut [block]).unwrap();
    }
    (store, journal)
}

fn facts(store: &Store, journal: &Journal) -> Facts {
    Facts { store: store.clone(), journal: journal.reader(), server: "test".into() }
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A backup must hold the same records, and be told from one that is not whole.
#[test]
fn what_is_backed_up_comes_back() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, journal) = data(from.path());
    let folder = to.path().join("one/backup");
    let made = make(&facts(&store, &journal), &Mandate::default(), &folder, FAST, &mut go_on).unwrap();
    assert_eq!((made.first_lsn, made.last_lsn, made.incarnation, made.files.len()), (1, 3, 0, 4));
    assert_eq!(Manifest::read(&folder).unwrap(), made);
    let back = to.path().join("back");
    bring_back(&made, &folder, &back, &mut |_| {}).unwrap();
    let opened = Store::open(&back, StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let options = JournalOptions { segment_bytes: 1, commit_bytes_max: 1 << 20, cache_bytes: 1 << 20 };
    let journal = Journal::open(&back, opened.uuid(), options).unwrap();
    let records: Vec<Vec<u8>> = journal
        .reader()
        .read_from(Lsn(1))
        .unwrap()
        .flat_map(|block| block.unwrap().records().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>())
        .collect();
    assert_eq!(records, [0, 1, 2].map(|n| vec![n; 100]));
    assert!(matches!(Manifest::read(&back), Err(BackupError::NoManifest(_))));
}

/// If this failed, what is left of a backup that was given up would be in the way, or be taken for one.
#[test]
fn nothing_is_left_of_what_was_given_up() {
    let from = tempfile::tempdir().unwrap();
    let (store, journal) = data(from.path());
    for (was_there, phase) in
        [(false, Phase::Store), (true, Phase::Store), (true, Phase::Journal), (true, Phase::Check)]
    {
        let to = tempfile::tempdir().unwrap();
        let folder = to.path().join("backup");
        if was_there {
            fs::create_dir(&folder).unwrap();
        }
        let mut stop = |progress: Progress| {
            if progress.phase == phase { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let made = make(&facts(&store, &journal), &Mandate::default(), &folder, FAST, &mut stop);
        assert!(matches!(made, Err(BackupError::Stopped)), "{phase:?}: {made:?}");
        assert_eq!(folder.exists(), was_there);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), usize::from(was_there));
        assert!(!was_there || fs::read_dir(&folder).unwrap().next().is_none(), "{phase:?}");
    }
}

/// If this failed, a backup would be mixed with what was there, or take its place.
#[test]
fn a_folder_with_anything_in_it_is_left_alone() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, journal) = data(from.path());
    fs::write(to.path().join("mine"), b"mine").unwrap();
    for taken in [to.path().to_owned(), to.path().join("mine")] {
        let made = make(&facts(&store, &journal), &Mandate::default(), &taken, FAST, &mut go_on);
        assert!(matches!(made, Err(BackupError::NotEmpty(_))), "{made:?}");
        assert_eq!(fs::read(to.path().join("mine")).unwrap(), b"mine");
    }
}
