//! Reading single rows and listing keys.

use super::*;
use crate::model::book::LsnChunk;

/// Keys that are hard to list: empty, with NUL, beginning with each other, not ASCII; in byte order.
const KEYS: [&str; 8] = ["", "\0", "a", "a\0b", "a/1", "ab", "z", "ä"];

fn with_keys() -> (tempfile::TempDir, Store) {
    let (dir, store) = scratch();
    let kinds = ["orde", "order", "order2", "$sinks"];
    let writes = kinds.iter().flat_map(|kind| KEYS.map(|key| write_of(kind, key, row(1, 0, kind.as_bytes()))));
    store_all(&store, writes.collect());
    (dir, store)
}

/// Each page must go on where the last one ended, and show no key of another type.
#[test]
fn keys_are_listed_in_pages() {
    let (_dir, store) = with_keys();
    for size in 1..=KEYS.len() + 1 {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let page = store.keys("order", listed.last().map(String::as_str), "", size).unwrap();
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            listed.extend(page.iter().map(ToString::to_string));
        }
        assert_eq!(listed, KEYS, "pages of {size}");
    }
}

#[test]
fn keys_are_filtered_by_prefix_and_start() {
    let (_dir, store) = with_keys();
    let check = |after: Option<&str>, prefix: &str, expected: &[&str]| {
        let keys = store.keys("order", after, prefix, 100).unwrap();
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), expected, "after {after:?}, prefix {prefix:?}");
    };
    check(None, "a", &["a", "a\0b", "a/1", "ab"]);
    check(Some("a"), "a", &["a\0b", "a/1", "ab"]);
    check(Some("a"), "", &["a\0b", "a/1", "ab", "z", "ä"]);
    check(Some("a\0"), "a", &["a\0b", "a/1", "ab"]);
    check(Some(""), "a", &["a", "a\0b", "a/1", "ab"]);
    check(Some("b"), "a", &[]);
    check(None, "a\0", &["a\0b"]);
    check(None, "ä", &["ä"]);
    check(Some(""), "", &KEYS[1..]);
    check(Some("ä"), "", &[]);
    check(None, "nothing", &[]);
    assert!(store.keys("none", None, "", 100).unwrap().is_empty());
    assert!(store.keys("order", None, "", 0).unwrap().is_empty());
}

/// `("order\0a", "b")` must not read the row of `("order", "a\0b")`.
#[test]
fn a_kind_with_nul_finds_nothing() {
    let (_dir, store) = with_keys();
    let entity = EntityKey::new("order\0a", "b");
    assert_eq!(store.get(&entity).unwrap(), None);
    assert_eq!(store.identity(&entity, identity(1).0).unwrap(), None);
    assert!(store.keys("order\0a", None, "", 100).unwrap().is_empty());
}

/// A hot key's identities are found one by one, are not another entity's, and are added to, not replaced.
#[test]
fn a_hundred_thousand_identities_of_one_entity() {
    const COUNT: u64 = 100_000;
    let (_dir, store) = scratch();
    let mut hot = write_of("order", "hot", row(1, 0, b""));
    hot.identities = (0..COUNT).map(identity).collect();
    store_all(&store, vec![hot.clone()]);
    hot.row.version = Version(2);
    hot.identities = vec![identity(COUNT)];
    store_all(&store, vec![hot.clone()]);
    for number in (0..=COUNT).step_by(997).chain([COUNT]) {
        let (id, stored) = identity(number);
        assert_eq!(store.identity(&hot.entity, id).unwrap(), Some(stored));
        assert_eq!(store.identity(&EntityKey::new("order", "cold"), id).unwrap(), None);
    }
    assert_eq!(store.identity(&hot.entity, identity(COUNT + 1).0).unwrap(), None);
}

/// An entity's positions are found from both ends and from the middle, are no other's, and may be written again.
#[test]
fn positions_are_found_from_both_ends() {
    let (_dir, store) = scratch();
    let chunk = |first: u64| LsnChunk::new(Lsn(first), &[1, 1, 1]).unwrap();
    let mut hot = write_of("order", "hot", row(1, 0, b""));
    hot.history = [10, 20, 300].map(chunk).into();
    let mut cold = write_of("order", "cold", row(1, 0, b""));
    cold.history = vec![chunk(14)];
    for _ in 0..2 {
        store_all(&store, vec![hot.clone(), cold.clone()]);
    }
    let firsts = |chunks: Vec<LsnChunk>| chunks.iter().map(|chunk| chunk.first.0).collect::<Vec<_>>();
    for (from, limit, expected) in
        [(0, 9, &[10_u64, 20, 300][..]), (10, 2, &[10, 20]), (19, 9, &[10, 20, 300]), (20, 1, &[20]), (999, 9, &[300])]
    {
        assert_eq!(firsts(store.history_from(&hot.entity, Lsn(from), limit).unwrap()), expected, "from {from}");
    }
    for (before, limit, expected) in [(u64::MAX, 2, &[300_u64, 20][..]), (300, 9, &[20, 10]), (10, 9, &[])] {
        assert_eq!(firsts(store.history_before(&hot.entity, Lsn(before), limit).unwrap()), expected, "before {before}");
    }
    assert!(store.history_from(&EntityKey::new("order", "ho"), Lsn(1), 9).unwrap().is_empty());
}
