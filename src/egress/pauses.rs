//! How long to leave alone what failed: pauses that grow, and what `Retry-After` asks for.

use std::time::{Duration, SystemTime};

/// The longest that a receiver can ask to be left alone.
pub(super) const PAUSE_MAX: Duration = Duration::from_hours(1);

/// How long to wait after so many failures: the first pause doubled each time, up to the longest; a half of it depends on
/// what is sent, so that what failed together does not come back together.
pub(super) fn backoff(first: Duration, longest: Duration, failures: u32, id: &str) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let hash = crc32c::crc32c_append(failures, id.as_bytes());
    doubled.min(longest).mul_f64(0.5 + 0.5 * f64::from(hash) / f64::from(u32::MAX))
}

/// What `Retry-After` says: seconds, or a date.
pub(super) fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, an endpoint that asks for a pause would be called all the same, or never again.
    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text), expected.map(Duration::from_secs), "{text}");
        }
        let later = retry_after("Fri, 31 Dec 9999 23:59:59 GMT").unwrap();
        assert!(later > Duration::from_hours(24));
    }
}
