//! The map of `state.redb`: its tables, their keys, and the marks in `meta`.
//!
//! Keys are raw bytes everywhere: redb panics on a text key that is not text, and bad bytes must end as an error.
//! Changing anything here changes the file format: count up [`FILE_FORMAT`].

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::error::StoreError;
use super::row::{self, IDENTITY_ROW_BYTES, Wake};
use crate::model::ids::{EntityKey, IdentityHash, Lsn};

/// The format of the file as a whole, in `meta` under `format`. Each row has a format of its own besides.
pub(super) const FILE_FORMAT: u64 = 3;

/// Kind, NUL, key -> state row. Kinds hold no NUL, keys may.
pub(super) const ENTITIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entities");
/// Hash of the entity, hash of the identity -> identity row. Fixed widths, since one hot key can have a million.
pub(super) const IDENTITIES: TableDefinition<&IdentityRowKey, &[u8; IDENTITY_ROW_BYTES]> =
    TableDefinition::new("identities");
/// When an entity is to be looked at, and its row key -> nothing. One row an entity that has anything ahead of it.
pub(super) const AGENDA: TableDefinition<&[u8], ()> = TableDefinition::new("agenda");
/// Kind -> `TypeGauges`.
pub(super) const GAUGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("gauges");
/// Kind -> `TypeMark`.
pub(super) const TYPES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("types");
/// Name of a mark -> its value.
pub(super) const META: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");

/// 16 bytes of the BLAKE3 hash of the entity's row key, then the identity: the identities of one entity lie together.
pub(super) type IdentityRowKey = [u8; 32];

/// The marks in `meta`.
pub(super) const FORMAT: &str = "format";
pub(super) const UUID: &str = "uuid";
pub(super) const WATERMARK: &str = "watermark";
pub(super) const HIGHEST_LSN: &str = "highest_lsn";

const WAKE_BYTES: usize = 8;

/// The byte between kind and key; also what no kind may hold.
const SEPARATOR: u8 = 0;

/// The key of an entity's state row. None if `kind` holds a NUL: no stored entity has such a kind, and its row key
/// would be that of another entity.
pub(super) fn entity_key(kind: &str, key: &str) -> Option<Vec<u8>> {
    if kind.as_bytes().contains(&SEPARATOR) {
        return None;
    }
    let mut bytes = Vec::with_capacity(kind.len() + 1 + key.len());
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(SEPARATOR);
    bytes.extend_from_slice(key.as_bytes());
    Some(bytes)
}

/// The entity that [`entity_key`] made `bytes` of.
pub(super) fn parse_entity_key(bytes: &[u8]) -> Result<EntityKey, StoreError> {
    let damaged = || StoreError::corrupt("entities", bytes, "its key is not kind, NUL, text");
    let at = memchr::memchr(SEPARATOR, bytes).ok_or_else(damaged)?;
    let kind = std::str::from_utf8(&bytes[..at]).map_err(|_| damaged())?;
    let key = std::str::from_utf8(&bytes[at + 1..]).map_err(|_| damaged())?;
    Ok(EntityKey::new(kind, key))
}

/// All rows of one of the small tables, whose keys are kinds.
pub(super) fn all_records<T: bincode::Decode<()>>(
    transaction: &ReadTransaction,
    table: TableDefinition<&'static [u8], &'static [u8]>,
    name: &'static str,
) -> Result<BTreeMap<String, T>, StoreError> {
    let mut records = BTreeMap::new();
    for entry in transaction.open_table(table)?.iter()? {
        let (key, value) = entry?;
        let record = row::decode_record(name, key.value(), value.value())?;
        let kind = std::str::from_utf8(key.value())
            .map_err(|_| StoreError::corrupt(name, key.value(), "its key is not text"))?;
        records.insert(kind.to_owned(), record);
    }
    Ok(records)
}

/// The key of an entity's row in the agenda: in the order of time.
pub(super) fn agenda_key(wake: Wake, entity_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(WAKE_BYTES + entity_key.len());
    key.extend_from_slice(&(wake.0 ^ i64::MIN).to_be_bytes());
    key.extend_from_slice(entity_key);
    key
}

/// What [`agenda_key`] made `bytes` of.
pub(super) fn parse_agenda_key(bytes: &[u8]) -> Result<(Wake, EntityKey), StoreError> {
    let damaged = || StoreError::corrupt("agenda", bytes, "its key is too short");
    let (time, entity) = bytes.split_first_chunk::<WAKE_BYTES>().ok_or_else(damaged)?;
    Ok((Wake(i64::from_be_bytes(*time) ^ i64::MIN), parse_entity_key(entity)?))
}

/// The part of an [`IdentityRowKey`] that says whose identity it is.
pub(super) fn identity_owner(entity_key: &[u8]) -> [u8; 16] {
    let mut owner = [0; 16];
    owner.copy_from_slice(&blake3::hash(entity_key).as_bytes()[..16]);
    owner
}

/// The key of the row of identity `id` of the entity `owner`.
pub(super) fn identity_key(owner: [u8; 16], id: IdentityHash) -> IdentityRowKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&owner);
    key[16..].copy_from_slice(&id.0);
    key
}

/// Makes all tables, so that no reader ever meets one that is missing.
pub(super) fn create_all(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ENTITIES)?;
    transaction.open_table(IDENTITIES)?;
    transaction.open_table(AGENDA)?;
    transaction.open_table(GAUGES)?;
    transaction.open_table(TYPES)?;
    transaction.open_table(META)?;
    Ok(())
}

/// The mark `name` as a reader sees it.
pub(super) fn read_mark<T: bincode::Decode<()>>(
    transaction: &ReadTransaction,
    name: &'static str,
) -> Result<T, StoreError> {
    mark_in(&transaction.open_table(META)?, name)
}

/// An LSN among the marks, as the writer sees it.
pub(super) fn lsn_mark(meta: &Table<&[u8], &[u8]>, name: &'static str) -> Result<Lsn, StoreError> {
    mark_in(meta, name)
}

fn mark_in<T: bincode::Decode<()>>(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: &'static str,
) -> Result<T, StoreError> {
    let key = name.as_bytes();
    let row = meta.get(key)?.ok_or_else(|| StoreError::corrupt("meta", key, "the row is missing"))?;
    row::decode_record("meta", key, row.value())
}

/// Sets the mark `name`.
pub(super) fn put_mark<T: bincode::Encode>(
    meta: &mut Table<&[u8], &[u8]>,
    name: &'static str,
    value: &T,
) -> Result<(), StoreError> {
    let key = name.as_bytes();
    meta.insert(key, row::encode_record("meta", key, value).as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row keys are stored: were they to change, no old row would be found.
    #[test]
    fn keys_are_frozen() {
        let key = entity_key("order", "a\0b").expect("a kind without NUL");
        assert_eq!(key, b"order\0a\0b");
        assert_eq!(parse_entity_key(&key).expect("what was just made"), EntityKey::new("order", "a\0b"));
        let identity = identity_key(identity_owner(&key), IdentityHash([7; 16]));
        assert_eq!(identity[..16], blake3::hash(b"order\0a\0b").as_bytes()[..16]);
        assert_eq!(identity[16..], [7; 16]);
    }

    /// Rows of the agenda are read in the order of time, also of times before 1970.
    #[test]
    fn the_agenda_is_in_the_order_of_time() {
        let times = [i64::MIN, -5, 0, 7, i64::MAX];
        let keys: Vec<_> = times.iter().map(|time| agenda_key(Wake(*time), b"order\0a")).collect();
        assert!(keys.is_sorted());
        assert_eq!(keys[3], [&[128, 0, 0, 0, 0, 0, 0, 7][..], b"order\0a"].concat());
        for (time, key) in times.iter().zip(keys) {
            assert_eq!(parse_agenda_key(&key).unwrap(), (Wake(*time), EntityKey::new("order", "a")));
        }
    }

    /// `("a", "b\0c")` and `("a\0b", "c")` would share a row.
    #[test]
    fn a_kind_with_nul_has_no_row() {
        assert_eq!(entity_key("a\0b", "c"), None);
    }
}
