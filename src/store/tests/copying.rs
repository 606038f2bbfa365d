//! A copy of a store that is being written to.

use std::ops::ControlFlow;

use super::*;
use crate::model::ids::Incarnation;
use crate::store::{Beginning, TypeMark, Wake};

fn filled() -> (tempfile::TempDir, Store) {
    let (dir, store) = scratch();
    let write = |n: u64| {
        let mut write = write_of("order", &n.to_string(), row(n, n % 3, &vec![n as u8; 5_000]));
        write.row.wake = n.is_multiple_of(7).then_some(Wake(n.cast_signed()));
        write.identities = (n * 10..n * 10 + 5).map(identity).collect();
        write
    };
    store_all(&store, (1..500).map(write).collect());
    CheckpointWriter::new(store.clone()).finish(Lsn(900)).unwrap();
    let mark = TypeMark { fingerprint: [7; 32], layouts: Vec::new() };
    store.set_fingerprints(&[("order".to_owned(), mark)].into()).unwrap();
    store.begin(Beginning { incarnation: Incarnation(3), after: Lsn(9) }).unwrap();
    (dir, store)
}

/// What a table that is forgotten would hold is gone after a restore; what comes while it is copied must not be in it in part.
#[test]
fn a_copy_is_the_store_as_it_was() {
    let (_dir, store) = filled();
    let to = tempfile::tempdir().unwrap();
    let rows = store.rows(None, 1000).unwrap();
    let mut slices = 0;
    let mut pace = |_: u64| {
        slices += 1;
        store_all(&store, vec![write_of("order", "later", row(slices, 0, b"later"))]);
        ControlFlow::Continue(())
    };
    let copied = store.copy(to.path(), &mut pace).unwrap().unwrap();
    assert!(slices > 6, "it was copied in slices");
    let copy = open(to.path());
    let beginning = Beginning { incarnation: Incarnation(3), after: Lsn(9) };
    assert_eq!((copied.watermark, copied.highest_lsn, copied.beginning), (Lsn(900), Lsn(1000), beginning));
    assert_eq!(
        (copy.watermark().unwrap(), copy.highest_lsn().unwrap(), copy.beginning().unwrap()),
        (Lsn(900), Lsn(1000), beginning)
    );
    assert_eq!((copy.uuid(), copy.fingerprints().unwrap()), (store.uuid(), store.fingerprints().unwrap()));
    assert_eq!(copy.rows(None, 1000).unwrap(), rows);
    assert_eq!(copy.gauges().unwrap()["order"].entities, 499);
    assert_eq!(copy.agenda(None, Wake::NEVER, 1000).unwrap(), store.agenda(None, Wake::NEVER, 1000).unwrap());
    let entity = EntityKey::new("order", "7");
    let (id, stored) = identity(72);
    assert_eq!(copy.identity(&entity, id).unwrap(), Some(stored));
    let names = |store: &Store| {
        store.read(|reading| {
            Ok(reading.list_tables()?.map(|table| redb::TableHandle::name(&table).to_owned()).collect())
        })
    };
    let (copied, all): (Vec<String>, Vec<String>) = (names(&copy).unwrap(), names(&store).unwrap());
    assert_eq!(copied, all, "every table is copied");
}

#[test]
fn a_copy_that_is_broken_off_is_no_store() {
    let (_dir, store) = filled();
    let to = tempfile::tempdir().unwrap();
    assert_eq!(store.copy(to.path(), &mut |_| ControlFlow::Break(())).unwrap(), None);
    let mut left = std::fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.all(|name| name != "state.redb"));
}
