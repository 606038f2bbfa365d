//! Functions that know Turnstile's values: conversions, dates and times in zones, exact sums, canonical hashes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::str::FromStr;

use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use super::Fault;
use super::compile::decimal_of_text;
use super::operators::count;
use crate::model::json;
use crate::model::number::Decimal;
use crate::model::time::{Span, Timestamp};
use crate::model::value::Value;

/// Names within this edit distance are offered as "did you mean".
const TYPO_DISTANCE_MAX: usize = 2;

macro_rules! functions {
    ($($variant:ident $name:literal $style:ident $least:literal..=$most:literal $kind:expr, $usage:literal;)*) => {
        /// A function of Turnstile's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $($variant),* }

        impl Function {
            /// The function called `name`.
            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Function::$variant),)* _ => None }
            }

            /// Whether a call in this style with so many arguments (the target counted) is right; else how it is written.
            pub(super) fn check(self, is_method: bool, arguments: usize) -> Result<(), &'static str> {
                match self {
                    $(Function::$variant => {
                        let style = match Style::$style { Style::Global => !is_method, Style::Method => is_method, Style::Both => true };
                        if style && ($least..=$most).contains(&arguments) { Ok(()) } else { Err($usage) }
                    })*
                }
            }

            /// The type of its value, if it is always the same.
            pub(super) fn kind(self) -> Option<&'static str> {
                match self { $(Function::$variant => $kind),* }
            }
        }

        /// All names, for suggestions.
        pub(super) fn names() -> impl Iterator<Item = &'static str> {
            [$($name),*].into_iter()
        }
    };
}

enum Style {
    Global,
    Method,
    Both,
}

functions! {
    Size "size" Both 1..=1 Some("int"), "size(x) or x.size()";
    Int "int" Global 1..=1 Some("int"), "int(x)";
    Double "double" Global 1..=1 Some("double"), "double(x)";
    Text "string" Global 1..=1 Some("string"), "string(x)";
    Bool "bool" Global 1..=1 Some("bool"), "bool(x)";
    Dyn "dyn" Global 1..=1 None, "dyn(x)";
    Type "type" Global 1..=1 Some("string"), "type(x)";
    Decimal "decimal" Global 1..=1 Some("decimal"), "decimal(x)";
    Timestamp "timestamp" Global 1..=2 Some("timestamp"), "timestamp('2026-11-20T10:00:00Z') or timestamp(local, 'Europe/Berlin')";
    Duration "duration" Global 1..=1 Some("duration"), "duration('30m')";
    Date "date" Global 1..=2 Some("string"), "date(time) or date(time, 'Europe/Berlin')";
    Format "format" Global 2..=3 Some("string"), "format(time, '%H:%M') or format(time, '%H:%M', 'Europe/Berlin')";
    Hash "hash" Global 1..=1 Some("string"), "hash(x)";
    Sum "sum" Both 1..=1 None, "sum(list)";
    Min "min" Both 1..=8 None, "min(list) or min(a, b)";
    Max "max" Both 1..=8 None, "max(list) or max(a, b)";
    Least "math.@min" Global 1..=8 None, "math.least(a, b)";
    Greatest "math.@max" Global 1..=8 None, "math.greatest(a, b)";
    Contains "contains" Method 2..=2 Some("bool"), "text.contains('part')";
    StartsWith "startsWith" Method 2..=2 Some("bool"), "text.startsWith('part')";
    EndsWith "endsWith" Method 2..=2 Some("bool"), "text.endsWith('part')";
}

/// The known name that is nearest to a misspelt one.
pub(super) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    (near.0 <= TYPO_DISTANCE_MAX && near.0 < name.chars().count()).then_some(near.1)
}

impl Function {
    /// The function's value.
    pub(super) fn apply(self, arguments: &[Cow<'_, Value>]) -> Result<Value, Fault> {
        let first = &*arguments[0];
        let second = arguments.get(1).map(|argument| &**argument);
        match self {
            Function::Size => size(first),
            Function::Int => int(first),
            Function::Double => double(first),
            Function::Text => text(first).map(Value::string),
            Function::Bool => match first {
                Value::Bool(truth) => Ok(Value::Bool(*truth)),
                Value::String(text) if matches!(&**text, "true" | "false") => Ok(Value::Bool(&**text == "true")),
                other => Err(no_conversion(other, "a bool")),
            },
            Function::Dyn => Ok(first.clone()),
            Function::Type => Ok(Value::string(first.type_name())),
            Function::Decimal => match first {
                Value::String(text) => decimal_of_text(text).map(Value::decimal),
                other => other.to_decimal().map(Value::decimal),
            }
            .ok_or_else(|| no_conversion(first, "a decimal")),
            Function::Timestamp => timestamp(first, second),
            Function::Duration => match first {
                Value::Duration(span) => Ok(Value::Duration(*span)),
                Value::String(text) => Span::parse(text)
                    .map(Value::Duration)
                    .ok_or_else(|| Fault::Wrong(format!("{text:?} is no duration; write it like \"1h30m\""))),
                other => Err(no_conversion(other, "a duration")),
            },
            Function::Date => formatted(first, "%Y-%m-%d", second),
            Function::Format => match second {
                Some(Value::String(format)) => formatted(first, format, arguments.get(2).map(|zone| &**zone)),
                _ => Err(Fault::wrong("format() takes its format as a string")),
            },
            Function::Hash => Ok(Value::string(hash(first))),
            Function::Sum => sum(&elements(arguments)?),
            Function::Min | Function::Least => extreme(&elements(arguments)?, std::cmp::Ordering::Less),
            Function::Max | Function::Greatest => extreme(&elements(arguments)?, std::cmp::Ordering::Greater),
            Function::Contains | Function::StartsWith | Function::EndsWith => match (first, second) {
                (Value::String(text), Some(Value::String(part))) => Ok(Value::Bool(match self {
                    Function::Contains => text.contains(&**part),
                    Function::StartsWith => text.starts_with(&**part),
                    _ => text.ends_with(&**part),
                })),
                _ => Err(Fault::wrong("contains, startsWith and endsWith work on strings")),
            },
        }
    }
}

/// Hex SHA-256 of the canonical JSON of a value.
pub(crate) fn hash(value: &Value) -> String {
    let mut bytes = Vec::new();
    json::write_canonical(&mut bytes, value);
    Sha256::digest(&bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn no_conversion(value: &Value, to: &str) -> Fault {
    Fault::Wrong(format!("{} is not {to}", abridged(value)))
}

/// A value as error messages show it.
fn abridged(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let text = json::to_string(value);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn size(value: &Value) -> Result<Value, Fault> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.len(),
        other => {
            return Err(Fault::Wrong(format!("size() works on strings, lists and maps, not on {}", other.type_name())));
        }
    };
    Ok(Value::Int(count(size)))
}

fn int(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Int(int) => Some(*int),
        Value::Double(double) => Decimal::from_double(*double).and_then(|decimal| decimal.truncated()),
        Value::Decimal(decimal) => decimal.truncated(),
        Value::String(text) => text.parse().ok(),
        Value::Timestamp(time) => i64::try_from(time.nanos().div_euclid(1_000_000_000)).ok(),
        Value::Duration(span) => Some(span.whole_seconds()),
        Value::Bool(truth) => Some(i64::from(*truth)),
        _ => None,
    }
    .map(Value::Int)
    .ok_or_else(|| no_conversion(value, "a 64-bit integer"))
}

fn double(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Double(double) => Some(*double),
        Value::Decimal(decimal) => Some(decimal.to_double()),
        Value::String(text) => text.parse().ok(),
        Value::Duration(span) => Some(span.as_seconds()),
        _ => None,
    }
    .filter(|double| double.is_finite())
    .map(Value::Double)
    .ok_or_else(|| no_conversion(value, "a double"))
}

fn text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(no_conversion(value, "something with a text form")),
        Value::Timestamp(time) => Ok(time.to_string()),
        Value::Duration(span) => Ok(span.to_string()),
        other => Ok(json::to_string(other)),
    }
}

fn zone(value: Option<&Value>) -> Result<Tz, Fault> {
    match value {
        None => Ok(Tz::UTC),
        Some(Value::String(name)) => Tz::from_str(name)
            .map_err(|_| Fault::Wrong(format!("{name:?} is no time zone; write it like \"Europe/Berlin\""))),
        Some(other) => Err(no_conversion(other, "the name of a time zone")),
    }
}

fn timestamp(value: &Value, zone_name: Option<&Value>) -> Result<Value, Fault> {
    let out_of_range = || no_conversion(value, "a time between the years 1 and 9999");
    match value {
        Value::Timestamp(time) => Ok(Value::Timestamp(*time)),
        Value::Int(seconds) => {
            Timestamp::from_nanos(i128::from(*seconds) * 1_000_000_000).map(Value::Timestamp).ok_or_else(out_of_range)
        }
        Value::String(text) => {
            if let Some(time) = Timestamp::parse(text) {
                return Ok(Value::Timestamp(time));
            }
            let hint = if zone_name.is_none() {
                "; a local time needs its zone: timestamp(local, 'Europe/Berlin')"
            } else {
                ""
            };
            let local =
                local_time(text).ok_or_else(|| Fault::Wrong(format!("{text:?} is no time (RFC 3339){hint}")))?;
            if zone_name.is_none() {
                return Err(Fault::Wrong(format!("{text:?} has no offset{hint}")));
            }
            instant(local, zone(zone_name)?).map(Value::Timestamp).ok_or_else(out_of_range)
        }
        other => Err(no_conversion(other, "a time")),
    }
}

fn local_time(text: &str) -> Option<NaiveDateTime> {
    let with_seconds = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    with_seconds
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN)))
}

/// A local time that a clock change makes ambiguous is the first of the two; one that it skips is taken as if the clock
/// had not changed yet.
fn instant(local: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    // Places have changed sides of the date line: a whole day was left out.
    let before = TimeDelta::hours(27);
    let time = match zone.from_local_datetime(&local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time,
        LocalResult::None => zone.from_local_datetime(&local.checked_sub_signed(before)?).earliest()? + before,
    };
    Timestamp::from_nanos(Timestamp::from_chrono(time.to_utc()).nanos())
}

fn formatted(value: &Value, format: &str, zone_name: Option<&Value>) -> Result<Value, Fault> {
    let time = match timestamp(value, None)? {
        Value::Timestamp(time) => time.to_chrono().with_timezone(&zone(zone_name)?),
        other => return Err(no_conversion(&other, "a time")),
    };
    let mut text = String::new();
    // Formatting fails for a directive that does not exist.
    write!(text, "{}", time.format(format)).map_err(|_| Fault::Wrong(format!("{format:?} is no strftime format")))?;
    Ok(Value::string(text))
}

/// What `sum`, `min`, `max` run over: several arguments, or one list's items, or one map's values.
fn elements<'v>(arguments: &'v [Cow<'_, Value>]) -> Result<Vec<&'v Value>, Fault> {
    if arguments.len() > 1 {
        return Ok(arguments.iter().map(|argument| &**argument).collect());
    }
    match &*arguments[0] {
        Value::List(items) => Ok(items.iter().collect()),
        Value::Map(members) => Ok(members.iter().map(|(_, value)| value).collect()),
        other => Err(Fault::Wrong(format!("a list or map is needed, this is {}", other.described()))),
    }
}

fn sum(items: &[&Value]) -> Result<Value, Fault> {
    if !items.is_empty() && items.iter().all(|item| matches!(item, Value::Duration(_))) {
        let nanos = items.iter().map(|item| if let Value::Duration(span) = item { span.as_nanos() } else { 0 }).sum();
        return Span::from_nanos(nanos).map(Value::Duration).ok_or_else(|| Fault::wrong("a duration out of range"));
    }
    let total = items.iter().try_fold(Decimal::zero(), |total, item| {
        let number = item.to_decimal().ok_or_else(|| Fault::Wrong(format!("sum() cannot add {}", abridged(item))))?;
        total.plus(&number).map_err(|error| Fault::Wrong(error.to_string()))
    })?;
    match total.to_int() {
        Some(int) if items.iter().all(|item| matches!(item, Value::Int(_))) => Ok(Value::Int(int)),
        _ => Ok(Value::decimal(total)),
    }
}

fn extreme(items: &[&Value], wanted: std::cmp::Ordering) -> Result<Value, Fault> {
    let mut best: Option<&Value> = None;
    for item in items {
        best = match best {
            None => Some(item),
            Some(so_far) => match item.compare(so_far) {
                Some(order) => Some(if order == wanted { item } else { so_far }),
                None => {
                    return Err(Fault::Wrong(format!("{} and {} have no order", item.type_name(), so_far.type_name())));
                }
            },
        };
    }
    best.cloned().ok_or_else(|| Fault::Missing("the smallest or largest of nothing".into()))
}
