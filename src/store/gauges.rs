//! Counts a type that are kept in the transactions that change them, so that no start has to scan the entities.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use redb::{ReadableTable, Table, WriteTransaction};

use super::error::StoreError;
use super::row;
use super::tables::GAUGES;

/// How many stored entities a type has, and how many of them miss which field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TypeGauges {
    /// Rows, tombstones included: the store cannot tell.
    pub entities: u64,
    /// Per bit of the missing mask, how many rows have it set; ends with the highest bit that was ever set.
    pub missing: Vec<u64>,
}

impl TypeGauges {
    /// Counts a row with mask `new` that takes the place of one with mask `old` (None: of none). False if the gauges
    /// never counted the old row.
    #[must_use]
    fn replace(&mut self, old: Option<u64>, new: u64) -> bool {
        let appeared = new & !old.unwrap_or(0);
        let gone = old.unwrap_or(0) & !new;
        if old.is_none() {
            self.entities += 1;
        }
        for bit in bits(appeared) {
            if self.missing.len() <= bit {
                self.missing.resize(bit + 1, 0);
            }
            self.missing[bit] += 1;
        }
        bits(gone).all(|bit| match self.missing.get_mut(bit) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
    }
}

/// Positions of the bits set in `mask`, lowest first.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        (bit < u64::BITS).then(|| {
            mask &= mask - 1;
            bit as usize
        })
    })
}

/// The gauges that a transaction changes, read on first use and written once.
pub(super) struct GaugesInTransaction<'txn> {
    table: Table<'txn, &'static [u8], &'static [u8]>,
    changed: BTreeMap<Arc<str>, TypeGauges>,
}

impl<'txn> GaugesInTransaction<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(GaugesInTransaction { table: transaction.open_table(GAUGES)?, changed: BTreeMap::new() })
    }

    /// Counts one row of `kind`; see [`TypeGauges::replace`].
    pub(super) fn replace(&mut self, kind: &str, old: Option<u64>, new: u64) -> Result<(), StoreError> {
        if !self.changed.contains_key(kind) {
            let key = kind.as_bytes();
            let stored = match self.table.get(key)? {
                Some(found) => row::decode_record("gauges", key, found.value())?,
                None => TypeGauges::default(),
            };
            self.changed.insert(kind.into(), stored);
        }
        let counted = self.changed.get_mut(kind).is_some_and(|gauges| gauges.replace(old, new));
        if counted { Ok(()) } else { Err(StoreError::corrupt("gauges", kind.as_bytes(), "it counts too few rows")) }
    }

    /// Writes what changed into the transaction.
    pub(super) fn write(mut self) -> Result<(), StoreError> {
        for (kind, gauges) in &self.changed {
            let key = kind.as_bytes();
            self.table.insert(key, row::encode_record("gauges", key, gauges).as_slice())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wrong gauges would show holes in the data that are none, or hide some.
    #[test]
    fn rows_that_come_and_change_are_counted() {
        let mut gauges = TypeGauges::default();
        let steps: [(Option<u64>, u64, u64, &[u64]); 5] = [
            (None, 0b101, 1, &[1, 0, 1]),
            (None, 0b001, 2, &[2, 0, 1]),
            (Some(0b101), 0b010, 2, &[1, 1, 0]),
            (Some(0b001), 0, 2, &[0, 1, 0]),
            (None, 0, 3, &[0, 1, 0]),
        ];
        for (old, new, entities, missing) in steps {
            assert!(gauges.replace(old, new));
            assert_eq!((gauges.entities, gauges.missing.as_slice()), (entities, missing), "{old:?} -> {new}");
        }
        assert!(!gauges.replace(Some(1), 0), "a row that was never counted cannot leave");
        assert_eq!(bits(1 << 63 | 1).collect::<Vec<_>>(), [0, 63]);
    }
}
