//! Values as a person reads them: numbers grouped, sizes and spans with units, documents as indented trees.
//!
//! Text from events is never written raw: what a terminal would obey is escaped.

use std::io::{self, Write};

use crate::model::json;
use crate::model::value::{Map, Value};

/// A value that does not fit into so many columns is shown as a tree.
const LINE_COLUMNS: usize = 100;
const INDENT: usize = 2;

/// Text that no terminal obeys: control characters are escaped.
pub fn safe(text: &str) -> String {
    let hides = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hides(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A value in one line: strings without quotes where that is not misleading, anything else as JSON.
pub fn line(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.trim() == &**text => safe(text),
        other => safe(&json::to_string(other)),
    }
}

/// The texts of a list, as one line.
pub fn list(items: &[Value]) -> String {
    items.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// A value as a count: whole numbers are grouped by thousands.
pub fn count(value: &Value) -> String {
    match value {
        Value::Int(int) => grouped(*int),
        other => line(other),
    }
}

/// A whole number, grouped by thousands.
pub fn grouped(int: i64) -> String {
    let digits = int.unsigned_abs().to_string();
    let mut text = String::from(if int < 0 { "-" } else { "" });
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest unit of which there is at least one.
pub fn size(bytes: i64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

/// A span in its two largest units.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How wide a column of these texts is: as the widest, but no wider than a line; what is longer sticks out.
pub fn column<'t>(texts: impl Iterator<Item = &'t str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or_default().min(LINE_COLUMNS)
}

/// Members, one below the other, their values in one column; what is too wide follows as a tree.
pub fn members(out: &mut dyn Write, indent: usize, members: &Map) -> io::Result<()> {
    let entries: Vec<_> = members.iter().map(|(name, value)| (safe(name), value)).collect();
    let width = column(entries.iter().map(|(name, _)| name.as_str()));
    for (name, value) in entries {
        entry(out, indent, &name, width, value)?;
    }
    Ok(())
}

fn entry(out: &mut dyn Write, indent: usize, name: &str, width: usize, value: &Value) -> io::Result<()> {
    let text = line(value);
    let fits = indent + width + INDENT + text.chars().count() <= LINE_COLUMNS;
    match value {
        Value::Map(inner) if !fits && !inner.is_empty() => {
            writeln!(out, "{:indent$}{name}", "")?;
            members(out, indent + INDENT, inner)
        }
        Value::List(items) if !fits && !items.is_empty() => {
            writeln!(out, "{:indent$}{name}", "")?;
            items.iter().try_for_each(|item| entry(out, indent + INDENT, "-", 1, item))
        }
        _ => writeln!(out, "{:indent$}{name:width$}  {text}", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (amount, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(amount), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(0, "0 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn terminals_are_given_nothing_to_obey() {
        for (text, shown) in
            [("a\u{1b}[31mb", r"a\u{1b}[31mb"), ("a\nb", r"a\nb"), ("\u{202e}x", r"\u{202e}x"), ("é", "é")]
        {
            assert_eq!(safe(text), shown);
        }
        for (json_text, shown) in
            [(r#""""#, r#""""#), (r#"" a""#, r#"" a""#), (r#""a b""#, "a b"), ("[1,\"a\"]", r#"[1,"a"]"#)]
        {
            assert_eq!(line(&json::parse(json_text.as_bytes(), 9).unwrap()), shown);
        }
    }

    #[test]
    fn wide_values_become_trees_and_numbers_stay_exact() {
        let long = "x".repeat(80);
        let text =
            format!(r#"{{"amount":1000000000000000000000000000000.1,"lines":[{{"a":"{long}","b":{{"c":1}}}},2]}}"#);
        let Value::Map(document) = json::parse(text.as_bytes(), 9).unwrap() else { panic!("no map") };
        let mut out = Vec::new();
        members(&mut out, 2, &document).unwrap();
        let expected = format!(
            "  amount  1000000000000000000000000000000.1\n  lines\n    -\n      a  {long}\n      b  {{\"c\":1}}\n    -  2\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// If this failed, an entity with a long name inside could not be shown.
    #[test]
    fn names_of_any_length_are_shown() {
        let long = "x".repeat(70_000);
        let document = json::parse(format!(r#"{{"a":1,"{long}":2}}"#).as_bytes(), 9).unwrap();
        let Value::Map(document) = document else { panic!("no map") };
        let mut out = Vec::new();
        members(&mut out, 0, &document).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("a{}  1\n{long}  2\n", " ".repeat(LINE_COLUMNS - 1)));
    }
}
