//! Checkpoints: how they are split, what they refuse, what they count.

use super::*;
use crate::store::{StoreError, TRANSACTION_BYTES_MAX, TypeGauges};

/// An entity that takes so many eighths of a transaction, or a little more.
fn big(key: &str, version: u64, eighths: usize) -> EntityWrite {
    write_of("order", key, row(version, 1, &vec![7; eighths * TRANSACTION_BYTES_MAX / 8]))
}

/// Transactions stay within their limit, except for an entity that is larger by itself.
#[test]
fn writes_are_split_by_size() {
    let (_dir, store) = scratch();
    let mut many = write_of("order", "c", row(1, 0, b""));
    many.identities = (0..1000).map(identity).collect();
    // In key order: a+b | c+d (the thousand rows of c stay with it) | e, too large for any | f
    let writes = vec![big("f", 1, 3), big("e", 1, 9), big("d", 1, 7), big("b", 1, 3), many.clone(), big("a", 1, 4)];
    let bytes: usize = writes.iter().map(EntityWrite::stored_bytes).sum();
    let stats = CheckpointWriter::new(store.clone()).write(writes.clone(), Lsn(1)).unwrap();
    assert_eq!((stats.transactions, stats.entities, stats.identities), (4, 6, 1000));
    assert_eq!(stats.bytes, bytes as u64);
    for write in writes {
        assert_eq!(store.get(&write.entity).unwrap(), Some(write.row));
    }
    assert_eq!(store.identity(&many.entity, identity(999).0).unwrap(), Some(identity(999).1));
    assert!(big("a", 1, 4).stored_bytes() + big("b", 1, 3).stored_bytes() <= TRANSACTION_BYTES_MAX);
}

/// Where a write ends half-way, each entity is stored with all of its rows or as it was before.
#[test]
fn an_entity_is_stored_whole_or_not_at_all() {
    let (_dir, store) = scratch();
    store_all(&store, vec![write_of("order", "c", row(5, 0, b"newer"))]);
    let mut writes = vec![big("a", 1, 5), big("b", 1, 5), write_of("order", "c", row(4, 0, b"older"))];
    for write in &mut writes {
        write.identities.push(identity(1));
    }
    let error = CheckpointWriter::new(store.clone()).write(writes, Lsn(2000)).unwrap_err();
    let StoreError::VersionRegression { entity, stored, offered } = error else { panic!("{error}") };
    assert_eq!((entity.key(), stored, offered), ("c", Version(5), Version(4)));

    let found = |key: &str| {
        let entity = EntityKey::new("order", key);
        let identity = store.identity(&entity, identity(1).0).unwrap();
        (store.get(&entity).unwrap().map(|row| row.version), identity.is_some())
    };
    assert_eq!(found("a"), (Some(Version(1)), true), "the first transaction was committed");
    assert_eq!(found("b"), (None, false), "b shared the transaction of c");
    assert_eq!(found("c"), (Some(Version(5)), false));
    assert_eq!(store.gauges().unwrap()["order"], TypeGauges { entities: 2, missing: vec![1], waiting: vec![] });
    assert_eq!(store.highest_lsn().unwrap(), Lsn(2000), "noted with the first transaction");
}

/// Replay after a crash writes what is already there.
#[test]
fn the_same_version_may_come_again() {
    let (_dir, store) = scratch();
    for _ in 0..2 {
        let mut write = write_of("order", "a", row(1, 0b11, b"s"));
        write.identities.push(identity(1));
        store_all(&store, vec![write]);
    }
    assert_eq!(store.gauges().unwrap()["order"], TypeGauges { entities: 1, missing: vec![1, 1], waiting: vec![] });
}

/// Gauges follow rows that are replaced, also within one call, and types do not mix.
#[test]
fn gauges_follow_the_rows() {
    let (_dir, store) = scratch();
    store_all(
        &store,
        vec![
            write_of("order", "a", row(1, 0b101, b"")),
            write_of("order", "a", row(2, 0b001, b"")),
            write_of("order", "b", row(1, 1 << 63, b"")),
            write_of("$sinks", "file", row(1, 0, b"")),
        ],
    );
    let mut missing = vec![0; 64];
    (missing[0], missing[63]) = (1, 1);
    assert_eq!(store.gauges().unwrap()["order"], TypeGauges { entities: 2, missing: missing.clone(), waiting: vec![] });
    store_all(&store, vec![write_of("order", "a", row(3, 0, b"")), write_of("order", "b", row(2, 1, b""))]);
    missing[63] = 0;
    assert_eq!(store.gauges().unwrap()["order"], TypeGauges { entities: 2, missing, waiting: vec![] });
    assert_eq!(store.gauges().unwrap()["$sinks"], TypeGauges { entities: 1, missing: vec![], waiting: vec![] });
}

/// Marks only ever rise, and the highest LSN is never below the watermark.
#[test]
fn marks_rise() {
    let (_dir, store) = scratch();
    let mut writer = CheckpointWriter::new(store.clone());
    let mut write = |highest| writer.write(vec![write_of("order", "a", row(1, 0, b""))], Lsn(highest)).unwrap();
    write(30);
    write(20);
    assert_eq!(store.highest_lsn().unwrap(), Lsn(30));
    assert_eq!(store.watermark().unwrap(), Lsn::ZERO, "not before the checkpoint ends");
    writer.finish(Lsn(40)).unwrap();
    writer.finish(Lsn(40)).unwrap();
    assert_eq!((store.watermark().unwrap(), store.highest_lsn().unwrap()), (Lsn(40), Lsn(40)));
    let error = writer.finish(Lsn(39)).unwrap_err();
    assert!(matches!(error, StoreError::WatermarkRegression { stored: Lsn(40), offered: Lsn(39) }), "{error}");
    assert_eq!(store.watermark().unwrap(), Lsn(40));
}

/// If this failed, an event that counted in an earlier life would be a duplicate in the next, or rows of the dead would
/// fill the disk.
#[test]
fn identities_go_with_the_life_they_counted_in() {
    let (_dir, store) = scratch();
    let of = |key, version, ended, ids: std::ops::Range<u64>| EntityWrite {
        ended: Version(ended),
        identities: ids.map(identity).collect(),
        ..write_of("order", key, row(version, 0, b""))
    };
    let known = |key| {
        let entity = EntityKey::new("order", key);
        (0..9).filter(|n| store.identity(&entity, identity(*n).0).unwrap().is_some()).collect::<Vec<_>>()
    };
    store_all(&store, vec![of("a", 4, 0, 0..3), of("b", 4, 0, 0..3)]);
    store_all(&store, vec![of("a", 9, 5, 3..5)]);
    assert_eq!(
        (known("a"), known("b")),
        (vec![3, 4], vec![0, 1, 2]),
        "those of the present life only, and only its own"
    );
    store_all(&store, vec![of("a", 9, 5, 3..5), of("a", 12, 5, 6..8)]);
    assert_eq!(known("a"), [3, 4, 6, 7], "they are of the same life");
}

/// What could not be read back, or could not have been journaled, is refused before anything is written.
#[test]
fn impossible_writes_are_refused() {
    let (_dir, store) = scratch();
    let bad = [
        write_of("or\0der", "a", row(1, 0, b"")),
        write_of("order", "a", StoredRow { lsn: Lsn(11), ..row(1, 0, b"") }),
        write_of("order", "a", row(1, 0, &vec![0; crate::store::STATE_BYTES_MAX + 1])),
    ];
    for write in bad {
        let writes = vec![write_of("order", "0", row(1, 0, b"")), write];
        let error = CheckpointWriter::new(store.clone()).write(writes, Lsn(10)).unwrap_err();
        assert!(matches!(error, StoreError::InvalidWrite { .. }), "{error}");
    }
    assert!(store.gauges().unwrap().is_empty());
}
