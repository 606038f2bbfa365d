//! Making, reopening and refusing files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::pages::Pages;
use crate::store::tables::{self, META};
use crate::store::{StoreError, TypeMark};

/// What a restart reads is what was there before it.
#[test]
fn reopening_finds_everything() {
    let (dir, store) = scratch();
    let uuid = store.uuid();
    assert_eq!((store.watermark().unwrap(), store.highest_lsn().unwrap()), (Lsn::ZERO, Lsn::ZERO));
    let marks = BTreeMap::from([
        ("order".to_owned(), TypeMark::settled([1; 32], vec!["pay".into(), "stock".into()])),
        ("shipment".to_owned(), TypeMark { fingerprint: TypeMark::UNSETTLED, layouts: Vec::new() }),
    ]);
    store.set_fingerprints(&marks).unwrap();
    let mut write = write_of("order", "a", row(7, 1, b"state"));
    write.identities.push(identity(1));
    let mut writer = CheckpointWriter::new(store.clone());
    writer.write(vec![write.clone()], Lsn(90)).unwrap();
    writer.finish(Lsn(80)).unwrap();
    assert!(store.file_bytes() > 0);
    drop((store, writer));

    let store = open(dir.path());
    assert_eq!(store.uuid(), uuid);
    assert_eq!((store.watermark().unwrap(), store.highest_lsn().unwrap()), (Lsn(80), Lsn(90)));
    assert_eq!(store.fingerprints().unwrap(), marks);
    assert_eq!(store.get(&write.entity).unwrap(), Some(write.row));
    assert_eq!(store.identity(&write.entity, identity(1).0).unwrap(), Some(identity(1).1));

    let fewer = BTreeMap::from([("order".to_owned(), TypeMark::settled([3; 32], Vec::new()))]);
    store.set_fingerprints(&fewer).unwrap();
    assert_eq!(store.fingerprints().unwrap(), fewer, "marks that are not given again go");
}

/// Two stores must not get the same uuid: a journal would take either for its own.
#[test]
fn each_new_store_has_its_own_uuid() {
    assert_ne!(scratch().1.uuid(), scratch().1.uuid());
}

/// A crash while the store was being made leaves a file that must neither be opened nor be in the way.
#[test]
fn an_unfinished_file_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.redb.tmp"), b"half a store").unwrap();
    drop(open(dir.path()));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.redb"]);
}

/// After a crash a start must not read the whole file, and must see the last commit.
#[test]
fn a_crash_needs_no_repair() {
    let (dir, store) = scratch();
    let writes = (0..100).map(|key| write_of("order", &format!("k{key}"), row(1, 0, &[key; 300])));
    store_all(&store, writes.collect());

    // What the disk holds while the store is open is what a crash leaves.
    let crashed = tempfile::tempdir().unwrap();
    let copy = crashed.path().join("state.redb");
    std::fs::copy(dir.path().join("state.redb"), &copy).unwrap();
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&repaired);
    let mut builder = redb::Database::builder();
    builder.set_repair_callback(move |_| seen.store(true, Ordering::Relaxed));
    drop(builder.create_with_backend(Pages::open(RealDisk.open(&copy).unwrap()).unwrap()).unwrap());
    assert!(!repaired.load(Ordering::Relaxed), "quick repair reads no pages");

    std::fs::copy(dir.path().join("state.redb"), &copy).unwrap();
    let store = open(crashed.path());
    assert_eq!(store.get(&EntityKey::new("order", "k99")).unwrap(), Some(row(1, 0, &[99; 300])));
    assert_eq!((store.watermark().unwrap(), store.highest_lsn().unwrap()), (Lsn::ZERO, Lsn(1000)));
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let (dir, _store) = scratch();
    assert!(matches!(Store::open(dir.path(), OPTIONS), Err(StoreError::Locked { .. })));

    let dir = tempfile::tempdir().unwrap();
    let creating = std::fs::File::open(dir.path()).unwrap();
    creating.lock().unwrap();
    assert!(matches!(Store::open(dir.path(), OPTIONS), Err(StoreError::Locked { .. })), "while it is being made");
}

#[test]
fn a_file_of_another_format_is_refused() {
    for other in [tables::FILE_FORMAT + 1, tables::FILE_FORMAT - 1] {
        let (dir, store) = scratch();
        store.update(|tx| tables::put_mark(&mut tx.open_table(META)?, tables::FORMAT, &other)).unwrap();
        drop(store);
        let error = Store::open(dir.path(), OPTIONS).err().expect("another format is refused");
        match error {
            StoreError::NewerFormat { what: "file", found, expected: tables::FILE_FORMAT } if found == other => {}
            StoreError::OlderFormat { found, expected: tables::FILE_FORMAT } if found == other => {}
            error => panic!("{error}"),
        }
    }
}

/// What is no store, or only part of one, must not look like an empty one, nor like a failing disk.
#[test]
fn other_files_are_corrupt() {
    let foreign = tempfile::tempdir().unwrap();
    let path = foreign.path().join("state.redb");
    drop(
        redb::Database::builder().create_with_backend(Pages::create(RealDisk.create(&path).unwrap()).unwrap()).unwrap(),
    );
    let without_tables = std::fs::read(&path).unwrap();
    redb::Database::create(foreign.path().join("bare")).unwrap();
    let bare = std::fs::read(foreign.path().join("bare")).unwrap();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("text", b"not a store".repeat(1000)),
        ("without tables", without_tables),
        ("bare redb", bare),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(foreign.path(), OPTIONS).err().expect(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error:?}");
    }
}

#[test]
fn a_missing_directory_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("none"), OPTIONS).err().expect("nothing to open");
    assert!(matches!(error, StoreError::Io { action: "create", .. }), "{error:?}");
}
