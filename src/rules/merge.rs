//! The merge operators. Each is a join: whatever the order and the repetition of the same merges, the outcome is the same.

use crate::model::number::Decimal;
use crate::model::packed::Packed;
use crate::model::record::{EventInput, Merge, MergeValue, Take};
use crate::model::sort_key::{SortKey, sort_key, stamp, time_stamp};
use crate::model::state::FieldState;
use crate::model::value::Value;

/// Summands need at most so many digits before and after the point; so a sum of any number of them always fits.
pub const SUM_DIGITS_MAX: i64 = 400;

/// A merge with its value and stamp worked out.
pub struct Resolved<'a> {
    pub take: Take,
    pub by: Option<&'a str>,
    pub stamp: SortKey,
    pub value: Packed,
}

/// Works out value and stamp from the merge and the event it came with.
pub fn resolve<'a>(merge: &'a Merge, input: &EventInput) -> Resolved<'a> {
    let value = match &merge.value {
        MergeValue::Data => input.event.data.clone().unwrap_or_else(|| Packed::new(&Value::Null)),
        MergeValue::Time => Packed::new(&Value::Timestamp(input.time())),
        MergeValue::Inline(value) => value.clone(),
    };
    let (source, id) = (&input.event.source, input.id());
    let stamp = match &merge.order {
        _ if !merge.take.is_ordered() => SortKey::default(),
        Some(order) => stamp(order, source, id),
        None => time_stamp(input.time(), source, id),
    };
    Resolved { take: merge.take, by: merge.by.as_deref(), stamp, value }
}

impl Take {
    /// Whether the order of the values matters, so that a merge needs a stamp.
    pub fn is_ordered(self) -> bool {
        matches!(self, Take::First | Take::Latest | Take::List { .. })
    }
}

/// Whether the merge would change the field.
pub fn changes(field: Option<&FieldState>, merge: &Resolved<'_>) -> bool {
    let Some(field) = field else { return true };
    match (field, merge.by) {
        (FieldState::By(entries), Some(by)) => match entries.binary_search_by(|(name, _)| (**name).cmp(by)) {
            Ok(at) => changes_entry(&entries[at].1, merge),
            Err(_) => true,
        },
        (field, _) => changes_entry(field, merge),
    }
}

fn changes_entry(field: &FieldState, merge: &Resolved<'_>) -> bool {
    match (field, merge.take) {
        (FieldState::Register { stamp, .. }, Take::First) => merge.stamp < *stamp,
        (FieldState::Register { stamp, .. }, _) => merge.stamp > *stamp,
        (FieldState::Extreme { key, value }, take) => {
            replaces(key, value, &sort_key(&merge.value.unpack()), &merge.value, take)
        }
        (FieldState::Set(items), _) => {
            let key = sort_key(&merge.value.unpack());
            match items.binary_search_by(|(known, _)| known.cmp(&key)) {
                Ok(at) => merge.value < items[at].1,
                Err(_) => true,
            }
        }
        (FieldState::List(items), Take::List { keep }) => {
            let full = keep.is_some_and(|keep| items.len() >= keep as usize);
            !full || items.first().is_none_or(|(oldest, _)| merge.stamp > *oldest)
        }
        _ => true,
    }
}

/// Of values that are equal but written differently (1, 1.0), the smaller bytes stay, so that the order of arrival does
/// not show.
fn replaces(key: &SortKey, value: &Packed, new_key: &SortKey, new: &Packed, take: Take) -> bool {
    match new_key.cmp(key) {
        std::cmp::Ordering::Equal => new < value,
        order => (order == std::cmp::Ordering::Less) == (take == Take::Min),
    }
}

/// Merges into the field.
pub fn apply(field: &mut Option<FieldState>, merge: Resolved<'_>) {
    let Some(by) = merge.by else {
        match field {
            Some(entry) => apply_entry(entry, merge),
            None => *field = Some(start(merge)),
        }
        return;
    };
    let FieldState::By(entries) = field.get_or_insert_with(|| FieldState::By(Vec::new())) else {
        unreachable!("a field with `by` has entries: the rules' fingerprint is checked at start")
    };
    match entries.binary_search_by(|(name, _)| (**name).cmp(by)) {
        Ok(at) => apply_entry(&mut entries[at].1, merge),
        Err(at) => entries.insert(at, (by.into(), start(merge))),
    }
}

/// The field after its first merge.
fn start(merge: Resolved<'_>) -> FieldState {
    match merge.take {
        Take::First | Take::Latest => FieldState::Register { stamp: merge.stamp, value: merge.value },
        Take::Min | Take::Max => FieldState::Extreme { key: sort_key(&merge.value.unpack()), value: merge.value },
        Take::Sum => FieldState::Sum(summand(&merge.value)),
        Take::Count => FieldState::Count(1),
        Take::Set => FieldState::Set(vec![(sort_key(&merge.value.unpack()), merge.value)]),
        Take::List { .. } => FieldState::List(vec![(merge.stamp, merge.value)]),
    }
}

fn apply_entry(field: &mut FieldState, merge: Resolved<'_>) {
    if !changes_entry(field, &merge) {
        return;
    }
    match field {
        FieldState::Register { stamp, value } => {
            *stamp = merge.stamp;
            *value = merge.value;
        }
        FieldState::Extreme { key, value } => {
            *key = sort_key(&merge.value.unpack());
            *value = merge.value;
        }
        FieldState::Sum(sum) => {
            *sum = sum.plus(&summand(&merge.value)).expect("admission keeps summands within SUM_DIGITS_MAX");
        }
        FieldState::Count(count) => *count += 1,
        FieldState::Set(items) => {
            let key = sort_key(&merge.value.unpack());
            match items.binary_search_by(|(known, _)| known.cmp(&key)) {
                Ok(at) => items[at].1 = merge.value,
                Err(at) => items.insert(at, (key, merge.value)),
            }
        }
        FieldState::List(items) => {
            let at = items.partition_point(|(stamp, _)| *stamp < merge.stamp);
            items.insert(at, (merge.stamp, merge.value));
            if let Take::List { keep: Some(keep) } = merge.take {
                let surplus = items.len().saturating_sub(keep as usize);
                items.drain(..surplus);
            }
        }
        FieldState::By(_) => unreachable!("entries of a `by` field are no `by` fields"),
    }
}

fn summand(value: &Packed) -> Decimal {
    value.unpack().to_decimal().expect("admission lets only finite numbers into a sum")
}
