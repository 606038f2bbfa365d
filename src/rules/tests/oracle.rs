//! What fields must hold, computed anew from the whole set of accepted events: slow, and too plain to be wrong.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::generate::{By, Condition, FieldSpec, Order, RulesSpec, Source};
use crate::model::event::Event;
use crate::model::json;
use crate::model::number::Decimal;
use crate::model::packed::Packed;
use crate::model::value::{Map, Value};

/// One merge as the oracle sees it.
struct Item {
    order: Value,
    source: String,
    id: String,
    value: Value,
}

/// What the field holds once these events counted; `None` where nothing was merged or what was is taken away.
pub fn field(rules: &RulesSpec, spec: &FieldSpec, events: &[&Event]) -> Option<Value> {
    let mut entries: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for event in events.iter().filter(|event| spec.takes(&event.kind)) {
        if let Some((entry, item)) = item(rules, spec, event) {
            entries.entry(entry).or_default().push(item);
        }
    }
    if spec.by.is_none() {
        return merged(spec, entries.remove("")?);
    }
    if entries.is_empty() {
        return None;
    }
    let values = entries.into_iter().filter_map(|(name, items)| Some((name.into(), merged(spec, items)?)));
    Some(Value::Map(values.collect::<Map>()))
}

fn item(rules: &RulesSpec, spec: &FieldSpec, event: &Event) -> Option<(String, Item)> {
    let data = |name: &str| match event.data.as_ref()? {
        Value::Map(members) => members.get(name).cloned(),
        _ => None,
    };
    match spec.condition {
        None => {}
        Some(Condition::IsA) if data("b")?.equals(&Value::string("a")) => {}
        Some(Condition::HasNumber) if data("n").is_some_and(|n| !matches!(n, Value::Null)) => {}
        Some(_) => return None,
    }
    let entry = match spec.by {
        None => String::new(),
        Some(By::Member) => match data("b")? {
            Value::Null => return None,
            value => value.as_str().map_or_else(|| json::to_string(&value), str::to_owned),
        },
        Some(By::Type) => event.kind.to_string(),
    };
    let order = match spec.order {
        None => Value::Timestamp(event.time),
        Some(Order::Member) => data("o").filter(|order| !matches!(order, Value::Null))?,
        Some(Order::Source) => Value::string(&*event.source),
    };
    let value = match spec.value {
        _ if spec.take == "count" => Value::Null,
        Source::Data => event.data.clone()?,
        Source::Member => data("v")?,
        Source::Number => data("n")?,
        Source::Time => Value::Timestamp(event.time),
        Source::OrNone => data("v").unwrap_or(Value::string("none")),
        Source::Pair => Value::List(vec![data("v")?, Value::string(&*event.kind)]),
    };
    if matches!(value, Value::Null) && !matches!(spec.take, "latest" | "count") {
        return None;
    }
    let id = if rules.overrides_id { format!("{}!", event.id) } else { event.id.to_string() };
    Some((entry, Item { order, source: event.source.to_string(), id, value }))
}

fn merged(spec: &FieldSpec, mut items: Vec<Item>) -> Option<Value> {
    items.sort_by(|a, b| {
        compare(&a.order, &b.order).then_with(|| a.source.cmp(&b.source)).then_with(|| a.id.cmp(&b.id))
    });
    let in_order: Vec<Value> = items.into_iter().map(|item| item.value).collect();
    // Of equal values the one with the smallest stored form comes first.
    let mut by_value = in_order.clone();
    by_value.sort_by(|a, b| compare(a, b).then_with(|| Packed::new(a).cmp(&Packed::new(b))));
    by_value.dedup_by(|later, kept| compare(later, kept).is_eq());
    let value = match spec.take {
        "first" => in_order.first()?.clone(),
        "latest" => in_order.last()?.clone(),
        "min" => by_value.first()?.clone(),
        "max" => by_value.last()?.clone(),
        "sum" => {
            let numbers = in_order.iter().map(|value| Decimal::parse(&json::to_string(value)).unwrap().unwrap());
            Value::decimal(numbers.fold(Decimal::zero(), |sum, number| sum.plus(&number).unwrap()))
        }
        "count" => Value::Int(in_order.len().try_into().unwrap()),
        "set" => Value::List(by_value),
        _ => {
            let surplus = spec.keep.map_or(0, |keep| in_order.len().saturating_sub(keep));
            Value::List(in_order[surplus..].to_vec())
        }
    };
    (!matches!(value, Value::Null)).then_some(value)
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
            let members = a.iter().zip(b.iter());
            let different = members.map(|(a, b)| a.0.cmp(b.0).then_with(|| compare(a.1, b.1)));
            different.into_iter().find(|order| order.is_ne()).unwrap_or(a.len().cmp(&b.len()))
        }
        _ => a.compare(b).unwrap_or_else(|| kind(a).cmp(&kind(b))),
    }
}
