//! Rows that were changed behind the store's back: every look-up and every write that meets one must say so.

use redb::{ReadableTable, TableDefinition};

use super::*;
use crate::model::book::LsnChunk;
use crate::store::tables::{ENTITIES, GAUGES, HISTORY, IDENTITIES, META, TYPES};
use crate::store::{StoreError, TypeMark};

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Replaces the only value of `table` under `key` by `change` of it, past all checks.
fn change(store: &Store, table: Bytes, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut before = Vec::new();
    let changing = store.update(|transaction| {
        let mut table = transaction.open_table(table)?;
        before = table.get(key)?.expect("the row to damage").value().to_vec();
        let mut damaged = before.clone();
        change(&mut damaged);
        table.insert(key, damaged.as_slice())?;
        Ok(())
    });
    changing.unwrap();
    before
}

/// Flips each byte of the row in turn and checks that `read` names the table of the damage.
fn each_flip_is_found(
    store: &Store,
    table: Bytes,
    name: &str,
    key: &[u8],
    read: impl Fn(&Store) -> Result<(), StoreError>,
) {
    let sound = change(store, table, key, |_| {});
    for at in 0..sound.len() {
        change(store, table, key, |row| row[at] ^= 0x40);
        match read(store) {
            Err(StoreError::Corrupt { table, .. }) => assert_eq!(table, name),
            other => panic!("{name}, byte {at}: {other:?}"),
        }
        change(store, table, key, |row| row.clone_from(&sound));
    }
    read(store).expect("sound again");
}

#[test]
fn a_flipped_byte_is_found_in_every_table() {
    let (_dir, store) = scratch();
    store_all(&store, vec![write_of("$sinks", "file", row(1, 1, b"progress"))]);
    let mark = TypeMark::settled([1; 32], vec!["pay".into()]);
    store.set_fingerprints(&[("order".to_owned(), mark)].into()).unwrap();
    let entity = EntityKey::new("$sinks", "file");
    let next = || vec![write_of("$sinks", "file", row(2, 0, b""))];

    let key = b"$sinks\0file";
    each_flip_is_found(&store, ENTITIES, "entities", key, |store| store.get(&entity).map(drop));
    each_flip_is_found(&store, ENTITIES, "entities", key, |store| store.keys("$sinks", None, "", 9).map(drop));
    each_flip_is_found(&store, GAUGES, "gauges", b"$sinks", |store| store.gauges().map(drop));
    each_flip_is_found(&store, TYPES, "types", b"order", |store| store.fingerprints().map(drop));
    each_flip_is_found(&store, META, "meta", b"watermark", |store| store.watermark().map(drop));
    each_flip_is_found(&store, META, "meta", b"highest_lsn", |store| store.highest_lsn().map(drop));

    change(&store, ENTITIES, key, |row| row[3] ^= 1);
    let error = CheckpointWriter::new(store.clone()).write(next(), Lsn(9)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "entities", .. }), "a damaged row is not replaced: {error}");
}

#[test]
fn a_flipped_byte_of_an_identity_is_found() {
    let (_dir, store) = scratch();
    let mut write = write_of("order", "a", row(1, 0, b""));
    write.identities.push(identity(1));
    let entity = write.entity.clone();
    store_all(&store, vec![write]);
    let flip = |at: usize| {
        let flipping = store.update(|transaction| {
            let mut table = transaction.open_table(IDENTITIES)?;
            let (key, mut bytes) = {
                let (key, value) = table.first()?.expect("the one identity");
                (*key.value(), *value.value())
            };
            bytes[at] ^= 1;
            table.insert(&key, &bytes)?;
            Ok(())
        });
        flipping.unwrap();
    };
    for at in 0..crate::store::row::IDENTITY_ROW_BYTES {
        flip(at);
        let found = store.identity(&entity, identity(1).0);
        assert!(matches!(found, Err(StoreError::Corrupt { table: "identities", .. })), "byte {at}: {found:?}");
        flip(at);
    }
    assert_eq!(store.identity(&entity, identity(1).0).unwrap(), Some(identity(1).1));
}

/// If this failed, the history of an entity would lead to records of others, or end early.
#[test]
fn a_flipped_byte_of_a_chunk_of_positions_is_found() {
    let (_dir, store) = scratch();
    let mut write = write_of("order", "a", row(1, 0, b""));
    write.history.push(LsnChunk::new(Lsn(7), &[1, 2]).unwrap());
    let entity = write.entity.clone();
    store_all(&store, vec![write]);
    let flip = |at: usize| {
        let flipping = store.update(|transaction| {
            let mut table = transaction.open_table(HISTORY)?;
            let (key, mut bytes) = {
                let (key, value) = table.first()?.expect("the one chunk");
                (*key.value(), value.value().to_vec())
            };
            bytes[at] ^= 1;
            table.insert(&key, bytes.as_slice())?;
            Ok(())
        });
        flipping.unwrap();
    };
    for at in 0..7 {
        flip(at);
        for found in [store.history_from(&entity, Lsn(1), 9), store.history_before(&entity, Lsn(9), 9)] {
            assert!(matches!(found, Err(StoreError::Corrupt { table: "history", .. })), "byte {at}: {found:?}");
        }
        flip(at);
    }
    assert_eq!(store.history_from(&entity, Lsn(1), 9).unwrap()[0].deltas(), [1, 2]);
}

/// A sound row in another entity's place would give that entity a foreign state.
#[test]
fn a_row_under_a_wrong_key_is_found() {
    let (_dir, store) = scratch();
    store_all(&store, vec![write_of("order", "a", row(1, 0, b"A")), write_of("order", "b", row(1, 0, b"B"))]);
    let of_a = change(&store, ENTITIES, b"order\0a", |_| {});
    change(&store, ENTITIES, b"order\0b", |row| *row = of_a);
    let found = store.get(&EntityKey::new("order", "b"));
    assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{found:?}");
}

/// Gauges that count fewer rows than there are show that a transaction was lost in part.
#[test]
fn gauges_that_lost_rows_are_found() {
    let (_dir, store) = scratch();
    store_all(&store, vec![write_of("order", "a", row(1, 1, b""))]);
    let losing = store.update(|transaction| {
        transaction.open_table(GAUGES)?.remove(b"order".as_slice())?;
        Ok(())
    });
    losing.unwrap();
    let writes = vec![write_of("order", "a", row(2, 0, b""))];
    let error = CheckpointWriter::new(store.clone()).write(writes, Lsn(9)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "gauges", .. }), "{error}");
}
