//! Counts a type that are kept in the transactions that change them, so that no start has to scan the entities.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use redb::{ReadableTable, Table, WriteTransaction};

use super::error::StoreError;
use super::row;
use super::tables::GAUGES;
use crate::model::state::Gaps;

/// How many stored entities a type has, and how many of them miss which field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TypeGauges {
    /// Those that are there themselves; not what others only wait for.
    pub entities: u64,
    /// Per bit of the missing mask, how many rows have it set; ends with the highest bit that was ever set.
    pub missing: Vec<u64>,
    /// The same for the mask of references that wait.
    pub waiting: Vec<u64>,
}

impl TypeGauges {
    /// Counts a row that takes the place of another. False if the gauges never counted the old row.
    #[must_use]
    pub(super) fn replace(&mut self, old: Option<Gaps>, new: Option<Gaps>) -> bool {
        let mut is_right = true;
        match (old, new) {
            (None, Some(_)) => self.entities += 1,
            (Some(_), None) => {
                is_right = self.entities > 0;
                self.entities = self.entities.saturating_sub(1);
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        is_right &= recount(&mut self.missing, old.missing, new.missing);
        is_right & recount(&mut self.waiting, old.waiting, new.waiting)
    }
}

impl TypeGauges {
    /// The same without bits that nobody has any more.
    pub(super) fn trimmed(mut self) -> Self {
        for counts in [&mut self.missing, &mut self.waiting] {
            let last = counts.iter().rposition(|count| *count > 0);
            counts.truncate(last.map_or(0, |last| last + 1));
        }
        self
    }
}

/// Counts a mask that takes the place of another. False if the old one was never counted.
fn recount(counts: &mut Vec<u64>, old: u64, new: u64) -> bool {
    for bit in bits(new & !old) {
        if counts.len() <= bit {
            counts.resize(bit + 1, 0);
        }
        counts[bit] += 1;
    }
    bits(old & !new).all(|bit| match counts.get_mut(bit) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    })
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
    pub(super) fn replace(&mut self, kind: &str, old: Option<Gaps>, new: Option<Gaps>) -> Result<(), StoreError> {
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

    /// What is replaced by what, and what is counted after that.
    type Step = (Option<Gaps>, Option<Gaps>, u64, &'static [u64]);

    /// Wrong gauges would show holes in the data that are none, or hide some.
    #[test]
    fn rows_that_come_and_change_are_counted() {
        let mut gauges = TypeGauges::default();
        let gaps = |missing| Some(Gaps { missing, waiting: 0 });
        let steps: [Step; 6] = [
            (None, gaps(0b101), 1, &[1, 0, 1]),
            (None, gaps(0b001), 2, &[2, 0, 1]),
            (gaps(0b101), gaps(0b010), 2, &[1, 1, 0]),
            (gaps(0b001), gaps(0), 2, &[0, 1, 0]),
            (None, None, 2, &[0, 1, 0]),
            (None, gaps(0), 3, &[0, 1, 0]),
        ];
        for (old, new, entities, missing) in steps {
            assert!(gauges.replace(old, new));
            assert_eq!((gauges.entities, gauges.missing.as_slice()), (entities, missing), "{old:?} -> {new:?}");
        }
        assert!(!gauges.replace(gaps(1), gaps(0)), "a row that was never counted cannot leave");
        let waiting = |waiting| Some(Gaps { missing: 0, waiting });
        assert!(gauges.replace(gaps(0), waiting(2)));
        assert_eq!(gauges.waiting, [0, 1]);
        assert_eq!(bits(1 << 63 | 1).collect::<Vec<_>>(), [0, 63]);
    }
}
