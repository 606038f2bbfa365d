//! Looking at a store as a whole: nothing is told of a sound one, and everything of one that is not.

use redb::ReadableTable;

use super::*;
use crate::store::row::{self, Wake};
use crate::store::tables::{AGENDA, ENTITIES, GAUGES, IDENTITIES, agenda_key};
use crate::store::{StoreError, TypeGauges};

/// A store with entities that wake, lack something, and have identities of their own.
fn full() -> (tempfile::TempDir, Store) {
    let (dir, store) = scratch();
    let mut writes: Vec<EntityWrite> =
        ["a", "b", "c"].iter().map(|key| write_of("order", key, row(1, 0b101, b"state"))).collect();
    writes[0].row.wake = Some(Wake(5));
    writes[1].identities.push(identity(1));
    writes[2].row.gaps = None;
    writes.push(write_of("$sink", "file", row(1, 0, b"progress")));
    store_all(&store, writes);
    // A bit that nobody has any more stays in the gauges, as 0.
    store_all(&store, vec![write_of("order", "b", row(2, 1, b"state"))]);
    (dir, store)
}

/// What is found after `damage`: rows that cannot be read, wrong counts, wrong times.
fn check(damage: impl FnOnce(&redb::WriteTransaction) -> Result<(), StoreError>, expected: [u64; 3]) {
    let (_dir, store) = full();
    store.update(damage).expect("it is damaged");
    let audit = store.audit().expect("it can be read");
    let found = [&audit.unreadable, &audit.gauges, &audit.agenda].map(|it| it.count);
    assert_eq!(found, expected, "{audit:?}");
    assert_eq!(
        expected.iter().sum::<u64>() as usize,
        audit.unreadable.first.len() + audit.gauges.first.len() + audit.agenda.first.len()
    );
}

/// If this failed, verifying would miss what is wrong in the store, or call a sound one damaged.
#[test]
fn a_store_is_looked_at_as_a_whole() {
    check(|_| Ok(()), [0, 0, 0]);
    let key = || b"order\0a".as_slice();
    check(
        |transaction| {
            let mut entities = transaction.open_table(ENTITIES)?;
            let mut row = entities.get(key())?.expect("it is there").value().to_vec();
            row[9] ^= 1;
            entities.insert(key(), row.as_slice())?;
            Ok(())
        },
        // It is not counted, either.
        [1, 1, 0],
    );
    check(
        |transaction| {
            let gauges = row::encode_record("gauges", b"order", &TypeGauges::default());
            transaction.open_table(GAUGES)?.insert(b"order".as_slice(), gauges.as_slice())?;
            Ok(())
        },
        [0, 1, 0],
    );
    check(
        |transaction| {
            transaction.open_table(ENTITIES)?.remove(b"$sink\0file".as_slice()).map(drop).map_err(StoreError::from)
        },
        [0, 1, 0],
    );
    check(
        |transaction| {
            transaction
                .open_table(AGENDA)?
                .remove(agenda_key(Wake(5), key()).as_slice())
                .map(drop)
                .map_err(StoreError::from)
        },
        [0, 0, 1],
    );
    check(
        |transaction| {
            transaction
                .open_table(AGENDA)?
                .insert(agenda_key(Wake(6), key()).as_slice(), ())
                .map(drop)
                .map_err(StoreError::from)
        },
        [0, 0, 1],
    );
    check(
        |transaction| {
            let mut identities = transaction.open_table(IDENTITIES)?;
            let (key, mut row) = {
                let first = identities.first()?.expect("one is there");
                (*first.0.value(), *first.1.value())
            };
            row[3] ^= 1;
            identities.insert(&key, &row)?;
            Ok(())
        },
        [1, 0, 0],
    );
}

/// If this failed, what is looked at would depend on where a page of rows ends.
#[test]
fn rows_come_page_by_page() {
    let (_dir, store) = full();
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let rows = store.readable_rows(after.as_ref(), 2).expect("they can be read");
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        all.extend(rows.into_iter().map(|(entity, row)| (entity.to_string(), row.version.0)));
    }
    let expected = [("$sink \"file\"", 1), ("order \"a\"", 1), ("order \"b\"", 2), ("order \"c\"", 1)];
    assert_eq!(all, expected.map(|(entity, version)| (entity.to_owned(), version)));
}

/// If this failed, reading the store of a stopped server would change it, or keep out nobody meanwhile.
#[test]
fn a_stopped_store_is_read_as_it_lies_there() {
    let (dir, store) = full();
    assert!(matches!(Store::of_stopped(dir.path(), OPTIONS), Err(StoreError::Locked { .. })), "it is open");
    drop(store);
    let path = dir.path().join("state.redb");
    let before = std::fs::read(&path).expect("it is there");
    let stopped = Store::of_stopped(dir.path(), OPTIONS).expect("it can be read").expect("it is there");
    assert_eq!(stopped.audit().expect("it can be read").entities, 4);
    assert!(matches!(Store::open(dir.path(), OPTIONS), Err(StoreError::Locked { .. })), "it is being read");
    drop(stopped);
    assert!(before == std::fs::read(&path).expect("it is there"));
    let empty = tempfile::tempdir().expect("a scratch directory");
    assert!(Store::of_stopped(empty.path(), OPTIONS).expect("a look").is_none());
}
