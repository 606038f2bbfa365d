//! What fields must hold, computed from the whole set of an entity's events, however they came: values are gathered, put
//! in order at the end, and folded. Deliberately knows nothing of `rules::merge`, whose outcome it is compared with.
//!
//! Of what is gathered no more is kept than what a fold of it can still need.

use std::cmp::Ordering;

use crate::model::ids::Lsn;
use crate::model::number::Decimal;
use crate::model::packed::Packed;
use crate::model::record::{EventInput, Merge, MergeValue, Take};
use crate::model::value::{Map, Value};

/// So many values of a field are gathered before those are let go that cannot be seen any more.
const GATHERED_MAX: usize = 8;

/// The values of one field.
#[derive(Debug, Default)]
pub(super) struct Field {
    take: Option<Take>,
    /// By entry of `by`, sorted; the one without a name where there is none. A tree would make room for many at once.
    entries: Vec<(Option<Box<str>>, Gathered)>,
}

/// The values of a field, or of one entry of it.
#[derive(Debug, Default)]
struct Gathered {
    count: i64,
    sum: Option<Decimal>,
    items: Vec<Item>,
    /// With so many items it is looked which are still needed.
    tidy_at: usize,
}

#[derive(Clone, Debug)]
struct Item {
    order: Value,
    source: Box<str>,
    id: Box<str>,
    /// When it came: only where an identity counted twice.
    lsn: Lsn,
    value: Packed,
}

impl Field {
    /// Gathers what an event gives the field.
    pub fn gather(&mut self, lsn: Lsn, input: &EventInput, merge: &Merge) {
        self.take = Some(merge.take);
        let value = match &merge.value {
            MergeValue::Data => input.event.data.as_ref().map_or(Value::Null, Packed::unpack),
            MergeValue::Time => Value::Timestamp(input.time()),
            MergeValue::Inline(value) => value.unpack(),
        };
        let gathered = self.entry(merge.by.as_deref());
        match merge.take {
            Take::Count => gathered.count += 1,
            Take::Sum => gathered.add(&value),
            take => {
                let order = merge.order.clone().unwrap_or(Value::Timestamp(input.time()));
                let (source, id) = (Box::from(&*input.event.source), Box::from(input.id()));
                if gathered.items.is_empty() {
                    gathered.items.reserve_exact(1);
                }
                gathered.items.push(Item { order, source, id, lsn, value: Packed::new(&value) });
                gathered.tidy(take);
            }
        }
    }

    fn entry(&mut self, name: Option<&str>) -> &mut Gathered {
        let known = self.entries.binary_search_by(|(known, _)| known.as_deref().cmp(&name));
        let at = known.unwrap_or_else(|at| {
            if self.entries.is_empty() {
                self.entries.reserve_exact(1);
            }
            self.entries.insert(at, (name.map(Box::from), Gathered::default()));
            at
        });
        &mut self.entries[at].1
    }

    /// What the field must hold; none where nothing was merged, or what was is taken away.
    pub fn value(&self) -> Option<Value> {
        let take = self.take?;
        if let Some((None, only)) = self.entries.first() {
            return only.value(take);
        }
        let entries = self.entries.iter().filter_map(|(name, entry)| Some((name.clone()?, entry.value(take)?)));
        Some(Value::Map(entries.collect::<Map>()))
    }

    /// Whether it must hold this.
    pub fn is(&self, found: Option<&Value>) -> bool {
        match (self.value(), found) {
            (None, None) => true,
            // A sum has many ways to be written.
            (Some(expected), Some(found)) if self.take == Some(Take::Sum) => expected == *found,
            (Some(expected), Some(found)) => Packed::new(&expected) == Packed::new(found),
            _ => false,
        }
    }
}

impl Gathered {
    fn add(&mut self, value: &Value) {
        let (Some(number), sum) = (value.to_decimal(), self.sum.take()) else { return };
        // What cannot be added is not counted: then the sums differ, and that is told.
        self.sum = Some(sum.map_or(number.clone(), |sum| sum.plus(&number).unwrap_or(sum)));
    }

    fn tidy(&mut self, take: Take) {
        if self.items.len() < self.tidy_at.max(GATHERED_MAX) {
            return;
        }
        self.items = needed(take, std::mem::take(&mut self.items));
        self.tidy_at = 2 * self.items.len();
    }

    fn value(&self, take: Take) -> Option<Value> {
        let value = match take {
            Take::Count => Value::Int(self.count),
            Take::Sum => Value::decimal(self.sum.clone()?),
            take => {
                let mut values = needed(take, self.items.clone()).into_iter().map(|item| item.value.unpack());
                match take {
                    Take::Set | Take::List { .. } => Value::List(values.collect()),
                    _ => values.next()?,
                }
            }
        };
        (!matches!(value, Value::Null)).then_some(value)
    }
}

/// Of these items those that can be seen, in the order in which they are seen.
fn needed(take: Take, mut items: Vec<Item>) -> Vec<Item> {
    match take {
        Take::First | Take::Latest | Take::List { .. } => items.sort_by(|a, b| {
            // Of an identity that counted twice, the first one counts, unless all are listed.
            stamp(a, b).then_with(|| b.lsn.cmp(&a.lsn))
        }),
        // Of equal values the one with the smallest stored form counts.
        _ => {
            let mut values: Vec<(Value, Item)> = items.into_iter().map(|item| (item.value.unpack(), item)).collect();
            values.sort_by(|(a, one), (b, other)| compare(a, b).then_with(|| one.value.cmp(&other.value)));
            values.dedup_by(|later, kept| compare(&later.0, &kept.0).is_eq());
            items = values.into_iter().map(|(_, item)| item).collect();
        }
    }
    let last = items.len().saturating_sub(1);
    match take {
        Take::Latest | Take::Max => drop(items.drain(..last)),
        Take::First => {
            let same = items.iter().take_while(|item| stamp(item, &items[0]).is_eq()).count();
            items.truncate(same);
            items.drain(..same.saturating_sub(1));
        }
        Take::Min => items.truncate(1),
        Take::List { keep: Some(keep) } => drop(items.drain(..items.len().saturating_sub(keep as usize))),
        _ => {}
    }
    items
}

fn stamp(a: &Item, b: &Item) -> Ordering {
    compare(&a.order, &b.order).then_with(|| a.source.cmp(&b.source)).then_with(|| a.id.cmp(&b.id))
}

/// A total order of values: by kind, then by value.
fn compare(a: &Value, b: &Value) -> Ordering {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => 2,
        Value::String(_) => 3,
        Value::Timestamp(_) => 4,
        Value::Duration(_) => 5,
        Value::List(_) => 6,
        Value::Map(_) => 7,
    };
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            let different = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
            different.unwrap_or(a.len().cmp(&b.len()))
        }
        (Value::Map(a), Value::Map(b)) => {
            let mut members = a.iter().zip(b.iter()).map(|(a, b)| a.0.cmp(b.0).then_with(|| compare(a.1, b.1)));
            members.find(|order| order.is_ne()).unwrap_or(a.len().cmp(&b.len()))
        }
        _ => a.compare(b).unwrap_or_else(|| kind(a).cmp(&kind(b))),
    }
}
