//! A place in what a query gives: a value of its growing column. A number, or a time; databases without times keep them
//! as text, whose form is remembered, since they compare it as text.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::config::Growth;
use crate::model::time::{Span, Timestamp};
use crate::model::value::Value;

/// A value of the growing column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Number(i64),
    Time {
        at: Timestamp,
        /// How it is written, where it is text.
        form: Option<TextForm>,
    },
}

/// How a time is written, such as `2026-11-20 10:00:00.000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextForm {
    separator: char,
    /// Digits after the point.
    digits: usize,
    ends_in_z: bool,
}

/// As SQLite's `datetime()` writes times.
const TEXT_FORM_DEFAULT: TextForm = TextForm { separator: ' ', digits: 0, ends_in_z: false };
/// Characters of `2026-11-20 10:00:00`.
const TEXT_CHARS: usize = 19;
/// No database tells times apart that are closer.
const TICK: Duration = Duration::from_micros(1);

impl Position {
    /// The place before the first row.
    pub fn start(growth: Growth) -> Self {
        match growth {
            Growth::Number { start, .. } => Position::Number(start),
            Growth::Time { start, .. } => Position::Time { at: start, form: None },
        }
    }

    /// The place that a value of the growing column is.
    ///
    /// # Errors
    /// What it is instead, in a sentence.
    pub fn of(value: &Value, growth: Growth) -> Result<Self, String> {
        let found = match value {
            Value::Int(number) => Some(Position::Number(*number)),
            Value::Decimal(decimal) => decimal.to_int().map(Position::Number),
            Value::Timestamp(at) => Some(Position::Time { at: *at, form: None }),
            Value::String(text) => parse(text),
            _ => None,
        };
        match (found, growth) {
            (Some(Position::Number(number)), Growth::Number { .. }) => Ok(Position::Number(number)),
            (Some(time @ Position::Time { .. }), Growth::Time { .. }) => Ok(time),
            (_, Growth::Number { .. }) => Err(format!("{} and no whole number of 64 bits", value.described())),
            (_, Growth::Time { .. }) => Err(format!("{} and no time", value.described())),
        }
    }

    /// The place as it is journaled and shown.
    pub fn value(&self) -> Value {
        match self {
            Position::Number(number) => Value::Int(*number),
            Position::Time { at, form: None } => Value::Timestamp(*at),
            Position::Time { .. } => Value::string(self.text()),
        }
    }

    /// Whether it comes after `other`, which is of the same kind.
    pub fn is_after(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::Number(a), Position::Number(b)) => a > b,
            (Position::Time { at: a, .. }, Position::Time { at: b, .. }) => a > b,
            _ => false,
        }
    }

    /// The place so many numbers, or so much time, before this one.
    pub fn back(self, numbers: u64, time: Duration) -> Self {
        match self {
            Position::Number(number) => Position::Number(number.saturating_sub_unsigned(numbers)),
            Position::Time { at, form } => {
                let span = i128::try_from(time.as_nanos()).ok().and_then(|nanos| Span::from_nanos(-nanos));
                Position::Time { at: span.and_then(|span| at.plus(span)).unwrap_or_default(), form }
            }
        }
    }

    /// The nearest place before this one.
    pub fn just_before(self) -> Self {
        self.back(1, TICK)
    }

    /// The time as text, as the column writes it; never after it.
    pub fn text(&self) -> String {
        match self {
            Position::Number(number) => number.to_string(),
            Position::Time { at, form } => {
                let form = form.unwrap_or(TEXT_FORM_DEFAULT);
                let nanos = at.to_chrono().format("%Y-%m-%d %H:%M:%S.%9f").to_string();
                let cut = if form.digits == 0 { TEXT_CHARS } else { TEXT_CHARS + 1 + form.digits.min(9) };
                let mut text = nanos[..cut.min(nanos.len())].replacen(' ', &form.separator.to_string(), 1);
                text.extend(form.ends_in_z.then_some('Z'));
                text
            }
        }
    }
}

/// A time in UTC, as databases without times keep it.
fn parse(text: &str) -> Option<Position> {
    let ends_in_z = text.ends_with('Z');
    let plain = text.strip_suffix('Z').unwrap_or(text);
    let separator = plain.chars().nth(10).filter(|c| [' ', 'T'].contains(c))?;
    let digits = plain.split_once('.').map_or(0, |(_, digits)| digits.len());
    let format = if separator == 'T' { "%Y-%m-%dT%H:%M:%S%.f" } else { "%Y-%m-%d %H:%M:%S%.f" };
    let at: DateTime<Utc> = NaiveDateTime::parse_from_str(plain, format).ok()?.and_utc();
    Some(Position::Time { at: Timestamp::from_chrono(at), form: Some(TextForm { separator, digits, ends_in_z }) })
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Time { at, form: None } => at.fmt(f),
            _ => f.write_str(&self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(text: &str) -> Growth {
        Growth::Time { start: Timestamp::parse(text).unwrap(), overlap: Duration::ZERO }
    }

    /// If this failed, an SQLite column of times would be compared with text of another form, and rows would be missed.
    #[test]
    fn times_in_text_keep_their_form() {
        let growth = growth("2020-01-01T00:00:00Z");
        for (text, back) in [
            ("2026-11-20 10:00:00", "2026-11-20 09:59:59"),
            ("2026-11-20T10:00:00Z", "2026-11-20T09:59:59Z"),
            ("2026-11-20 10:00:00.000", "2026-11-20 09:59:59.999"),
            ("2026-11-20T10:00:00.500000", "2026-11-20T10:00:00.499999"),
        ] {
            let position = Position::of(&Value::string(text), growth).unwrap();
            assert_eq!((position.to_string().as_str(), position.just_before().to_string().as_str()), (text, back));
            assert_eq!(Position::of(&position.value(), growth).unwrap(), position, "what is journaled is found again");
            assert!(position.is_after(&position.just_before()) && !position.is_after(&position));
        }
        assert_eq!(Position::start(growth).text(), "2020-01-01 00:00:00", "the form before the first row is known");
    }

    /// If this failed, a column that cannot be gone on from would be taken for one that can.
    #[test]
    fn other_columns_are_told() {
        let number = Growth::Number { start: 0, overlap: 5 };
        let decimal = |text: &str| Value::decimal(crate::model::number::Decimal::parse(text).unwrap().unwrap());
        assert_eq!(Position::of(&decimal("70"), number), Ok(Position::Number(70)));
        for (value, growth, part) in [
            (decimal("7.5"), number, "a decimal and no whole number"),
            (Value::Null, number, "null"),
            (Value::string("2026-11-20 10:00:00"), number, "a string"),
            (Value::Int(5), growth("2020-01-01T00:00:00Z"), "an int and no time"),
            (Value::string("01JD2"), growth("2020-01-01T00:00:00Z"), "a string and no time"),
        ] {
            let why = Position::of(&value, growth).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(Position::Number(i64::MIN).just_before(), Position::Number(i64::MIN));
    }
}
