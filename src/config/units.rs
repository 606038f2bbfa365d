//! Sizes ("64MiB") and times ("1h30m") as people write them.

use std::fmt::Write;
use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
const TIME_UNITS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(super) const SIZE_HELP: &str = "a size is a whole number with a unit (B, KiB, MiB, GiB, TiB): \"64MiB\"";
pub(super) const DURATION_HELP: &str = "a duration is whole numbers with units (ms, s, m, h, d): \"250ms\", \"1h30m\"";

/// The size in bytes, or none if the text is not one.
pub fn parse_size(text: &str) -> Option<u64> {
    let ((digits, unit), rest) = split(text)?;
    if !rest.is_empty() {
        return None;
    }
    let factor = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    digits.checked_mul(factor)
}

/// The duration, or none if the text is not one. Units go from large to small and come once each.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let ((digits, unit), remaining) = split(rest)?;
        let factor = TIME_UNITS_MS.iter().find(|(name, _)| *name == unit)?.1;
        if factor >= smaller_than {
            return None;
        }
        smaller_than = factor;
        total_ms = total_ms.checked_add(digits.checked_mul(factor)?)?;
        rest = remaining;
    }
    (smaller_than != u64::MAX).then(|| Duration::from_millis(total_ms))
}

/// Splits "90KiB…" into (90, "KiB") and what follows.
fn split(text: &str) -> Option<((u64, &str), &str)> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let digits = text[..digits_end].parse().ok()?;
    let after = text[digits_end..].trim_start();
    let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    Some(((digits, &after[..unit_end]), after[unit_end..].trim_start()))
}

/// The shortest exact text for a size.
pub(super) fn format_size(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().filter(|(name, _)| name.len() != 2);
    let (name, factor) =
        binary.copied().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(("B", 1));
    format!("{}{name}", bytes / factor)
}

/// The duration with its units, to the millisecond.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis() as u64;
    let mut text = String::new();
    for (name, factor) in TIME_UNITS_MS {
        if rest_ms >= factor {
            let _ = write!(text, "{}{name}", rest_ms / factor);
            rest_ms %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, limits would be other than written.
    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("1B", 1), ("64MiB", 64 << 20), ("2 GiB", 2 << 30), ("5kb", 5000), ("0B", 0)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "MiB", "-1B", "1.5GiB", "1GiB 5B", "1QB", "99999999999TiB", "1m"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for (bytes, text) in [(0, "0B"), (1000, "1000B"), (1 << 20, "1MiB"), (1536, "1536B"), (3 << 10, "3KiB")] {
            assert_eq!(format_size(bytes), text);
        }
    }

    /// If this failed, waits and windows would be other than written.
    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("250ms", 250), ("5m", 300_000), ("1h30m", 5_400_000), ("1d 2h", 93_600_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "m", "5 m 3", "1.5h", "30m1h", "1s1s", "5M", "-3s", "99999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["0s", "250ms", "1h30m", "7d", "1m1ms"] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), Some(text));
        }
    }
}
