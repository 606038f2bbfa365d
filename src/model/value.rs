//! A value: what events carry, fields hold and expressions compute. JSON plus exact decimals, timestamps and durations.

use std::cmp::Ordering;

use bincode::{Decode, Encode};

use super::number::{Decimal, compare_decimal_double, compare_int_double};
use super::time::{Span, Timestamp};

/// A value. Maps are sorted by key and hold each key once.
#[derive(Clone, Debug, Encode, Decode)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Decimal(Box<Decimal>),
    String(Box<str>),
    Timestamp(Timestamp),
    Duration(Span),
    List(Vec<Value>),
    Map(Map),
}

/// Members sorted by key, each key once.
#[derive(Clone, Debug, Default, Encode, Decode)]
pub struct Map(Vec<(Box<str>, Value)>);

impl Value {
    /// A string value.
    pub fn string(text: impl Into<Box<str>>) -> Self {
        Value::String(text.into())
    }

    /// A decimal value.
    pub fn decimal(decimal: Decimal) -> Self {
        Value::Decimal(Box::new(decimal))
    }

    /// The name of its type, as error messages use it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Double(_) => "double",
            Value::Decimal(_) => "decimal",
            Value::String(_) => "string",
            Value::Timestamp(_) => "timestamp",
            Value::Duration(_) => "duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    /// The name of its type in a sentence: "an int", "null".
    pub fn described(&self) -> String {
        described(self.type_name())
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number written out, however large; `None` for all else, also for doubles: `1.0` is no name.
    pub fn whole_text(&self) -> Option<Box<str>> {
        match self {
            Value::Int(int) => Some(int.to_string().into()),
            Value::Decimal(decimal) if decimal.is_whole() => Some(decimal.to_string().into()),
            _ => None,
        }
    }

    /// The number as an exact decimal; `None` for what is no finite number.
    pub fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Int(int) => Some(Decimal::from(*int)),
            Value::Double(double) => Decimal::from_double(*double),
            Value::Decimal(decimal) => Some((**decimal).clone()),
            _ => None,
        }
    }

    /// Compares two values of one kind (all numbers are of one kind); `None` where there is no order between them.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => return a.partial_cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::Int(a), Value::Double(b)) => compare_int_double(*a, *b),
            (Value::Double(a), Value::Int(b)) => compare_int_double(*b, *a).reverse(),
            (Value::Decimal(a), Value::Double(b)) => compare_decimal_double(a, *b),
            (Value::Double(a), Value::Decimal(b)) => compare_decimal_double(b, *a).reverse(),
            (Value::Int(a), Value::Decimal(b)) => Decimal::from(*a).cmp(b),
            (Value::Decimal(a), Value::Int(b)) => (**a).cmp(&Decimal::from(*b)),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            _ => return None,
        })
    }

    /// Equality by exact value: `1` equals `1.0`; values of different kinds are unequal.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.0.len() == b.0.len() && a.0.iter().zip(&b.0).all(|((k, v), (l, w))| k == l && v.equals(w))
            }
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }
}

/// The name of a type in a sentence.
pub fn described(type_name: &str) -> String {
    match type_name {
        "null" => "null".to_owned(),
        "int" => "an int".to_owned(),
        other => format!("a {other}"),
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Map {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok().map(|at| &self.0[at].1)
    }

    /// Sets `key`, replacing what was there.
    pub fn insert(&mut self, key: impl Into<Box<str>>, value: Value) {
        let key = key.into();
        match self.0.binary_search_by(|(name, _)| name.cmp(&key)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(self.0.remove(at).1)
    }

    /// The members in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of members with the same key, the last one counts, as in JSON.
impl FromIterator<(Box<str>, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Value)>>(members: I) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.reverse();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|a, b| a.0 == b.0);
        }
        Map(members)
    }
}

impl IntoIterator for Map {
    type Item = (Box<str>, Value);
    type IntoIter = std::vec::IntoIter<(Box<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_counts() {
        let map: Map = [("b", 1), ("a", 2), ("b", 3)].map(|(k, v)| (Box::from(k), Value::Int(v))).into_iter().collect();
        assert_eq!(
            map.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect::<Vec<_>>(),
            [("a".to_owned(), Value::Int(2)), ("b".to_owned(), Value::Int(3))]
        );
    }
}
