//! How a change of a value reads: old → new, of documents only the members that differ.

use crate::cli::render;
use crate::model::value::{Map, Value};

/// A value longer than this is cut; `--json` tells all of it.
const VALUE_CHARS_MAX: usize = 160;
/// Of documents with more differing members than this the rest is only counted.
const MEMBERS_MAX: usize = 8;

/// From `old` to `new`; none of `old`: that is not known.
pub(super) fn change(old: Option<&Value>, new: &Value) -> String {
    match (old, new) {
        (Some(Value::Map(old)), Value::Map(new)) if !old.is_empty() && !new.is_empty() => members(old, new),
        (Some(old), new) if old == new => format!("{}, as before", value(new)),
        (Some(old), new) => format!("{} → {}", value(old), value(new)),
        (None, new) => format!("→ {}", value(new)),
    }
}

/// The members that differ.
fn members(old: &Map, new: &Map) -> String {
    let changed = new.iter().filter(|(name, value)| old.get(name) != Some(*value));
    let changed = changed.map(|(name, value)| (name, old.get(name).unwrap_or(&Value::Null), value));
    let gone = old.iter().filter(|(name, _)| new.get(name).is_none()).map(|(name, value)| (name, value, &Value::Null));
    let all: Vec<_> = changed.chain(gone).collect();
    if all.is_empty() {
        return "the same content, of a newer event".to_owned();
    }
    let told = all.iter().take(MEMBERS_MAX);
    let mut told: Vec<String> =
        told.map(|(name, old, new)| format!("{}: {} → {}", render::safe(name), value(old), value(new))).collect();
    if all.len() > MEMBERS_MAX {
        told.push(format!("and {} more", all.len() - MEMBERS_MAX));
    }
    told.join(", ")
}

/// A value in one line, not too long.
pub(super) fn value(value: &Value) -> String {
    if matches!(value, Value::Null) {
        return "nothing".to_owned();
    }
    let line = render::line(value);
    match line.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}… ({} characters)", &line[..at], render::grouped(line.chars().count() as i64)),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json;

    fn parse(text: &str) -> Value {
        json::parse(text.as_bytes(), 9).unwrap()
    }

    /// If this failed, someone would have to compare two long documents by eye, or see a difference that is none.
    #[test]
    fn only_what_differs_is_told() {
        for (old, new, told) in [
            (Some("null"), "5", "nothing → 5"),
            (Some("5"), "null", "5 → nothing"),
            (Some("5"), "5", "5, as before"),
            (None, r#""x y""#, "→ x y"),
            (Some(r#"{"a":1,"b":2,"c":3}"#), r#"{"a":1,"b":4,"d":5}"#, "b: 2 → 4, d: nothing → 5, c: 3 → nothing"),
            (Some(r#"{"a":1}"#), r#"{"a":1}"#, "the same content, of a newer event"),
            (Some("{}"), r#"{"a":1}"#, r#"{} → {"a":1}"#),
        ] {
            assert_eq!(change(old.map(parse).as_ref(), &parse(new)), told);
        }
        let long = Value::string("é".repeat(500));
        assert_eq!(value(&long), format!("{}… (500 characters)", "é".repeat(VALUE_CHARS_MAX)));
        let many: Map = (0..20).map(|n| (format!("m{n:02}").into(), Value::Int(n))).collect();
        let other: Map = (0..20).map(|n| (format!("m{n:02}").into(), Value::Int(-1 - n))).collect();
        assert!(members(&many, &other).ends_with("m07: 7 → -8, and 12 more"));
    }
}
