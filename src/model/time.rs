//! Instants and durations to the nanosecond, over the years 1 to 9999. No clock is read here but in [`Timestamp::now`].

use chrono::{DateTime, SecondsFormat, Utc};

use bincode::{Decode, Encode};

const NANOS: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z in seconds since 1970.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// An instant, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// A length of time, may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Span {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// The last instant there is.
    pub const MAX: Timestamp = Timestamp { seconds: SECONDS_MAX, nanos: 0 };

    /// The wall clock's time. Only thin shells call this; the rules are given their `now`.
    #[allow(clippy::missing_panics_doc)]
    pub fn now() -> Self {
        Self::from_chrono(Utc::now())
    }

    /// Reads an RFC 3339 time with an offset.
    pub fn parse(text: &str) -> Option<Self> {
        Self::checked(Self::from_chrono(DateTime::parse_from_rfc3339(text).ok()?.to_utc()))
    }

    fn checked(self) -> Option<Self> {
        (SECONDS_MIN..=SECONDS_MAX).contains(&self.seconds).then_some(self)
    }

    /// The same instant as chrono's type (a leap second counts as the next second's beginning).
    pub fn from_chrono(time: DateTime<Utc>) -> Self {
        let nanos = time.timestamp_subsec_nanos();
        Timestamp { seconds: time.timestamp() + i64::from(nanos / 1_000_000_000), nanos: nanos % 1_000_000_000 }
    }

    /// The same instant as chrono's type.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.seconds, self.nanos).unwrap_or_default()
    }

    /// Nanoseconds since 1970.
    pub fn nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanos / 1_000_000)
    }

    /// From nanoseconds since 1970; `None` outside the years 1 to 9999.
    pub fn from_nanos(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
        Timestamp { seconds, nanos: nanos.rem_euclid(NANOS) as u32 }.checked()
    }

    /// This instant moved by `span`.
    pub fn plus(self, span: Span) -> Option<Self> {
        Self::from_nanos(self.nanos() + span.as_nanos())
    }

    /// The time from `earlier` to this instant.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span::from_nanos_clamped(self.nanos() - earlier.nanos())
    }

    /// The smallest later instant that chrono and JSON tell apart from this one (a microsecond later).
    #[must_use]
    pub fn just_after(self) -> Self {
        Self::from_nanos(self.nanos() + 1_000).unwrap_or(self)
    }

    /// The instant so much later; the last there is if it lies beyond.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        let nanos = i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        Self::from_nanos(self.nanos().saturating_add(nanos)).unwrap_or(Self::MAX)
    }

    /// Order-preserving bytes.
    pub(crate) fn sort_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&((self.seconds as u64) ^ (1 << 63)).to_be_bytes());
        bytes[8..].copy_from_slice(&self.nanos.to_be_bytes());
        bytes
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl Span {
    /// From nanoseconds; `None` beyond what fits (about 292 billion years).
    pub fn from_nanos(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
        Some(Span { seconds, nanos: nanos.rem_euclid(NANOS) as u32 })
    }

    fn from_nanos_clamped(nanos: i128) -> Self {
        Self::from_nanos(nanos).unwrap_or_default()
    }

    /// In nanoseconds.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// In seconds, rounded to what a double holds.
    pub fn as_seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }

    /// The whole seconds, towards zero.
    pub fn whole_seconds(self) -> i64 {
        (self.as_nanos() / NANOS) as i64
    }

    /// Reads CEL's form: numbers with units h, m, s, ms, us, ns, such as "1h30m" or "-1.5s".
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        if rest == "0" {
            return Some(Span::default());
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_end);
            let nanos: i128 = match unit {
                "h" => 3600 * NANOS,
                "m" => 60 * NANOS,
                "s" => NANOS,
                "ms" => 1_000_000,
                "us" | "µs" => 1_000,
                "ns" => 1,
                _ => return None,
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.len() > 9 {
                return None;
            }
            total += if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? } * nanos;
            if !fraction.is_empty() {
                total += fraction.parse::<i128>().ok()? * nanos / 10_i128.pow(fraction.len() as u32);
            }
            rest = next;
        }
        Self::from_nanos(sign * total)
    }

    pub(crate) fn sort_bytes(self) -> [u8; 12] {
        Timestamp { seconds: self.seconds, nanos: self.nanos }.sort_bytes()
    }
}

/// As in documents: seconds with an `s`, such as "5400s" or "-0.5s".
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nanos = self.as_nanos();
        let magnitude = nanos.unsigned_abs();
        let sign = if nanos < 0 { "-" } else { "" };
        let (seconds, rest) = (magnitude / NANOS as u128, magnitude % NANOS as u128);
        if rest == 0 {
            write!(f, "{sign}{seconds}s")
        } else {
            write!(f, "{sign}{seconds}.{}s", format!("{rest:09}").trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_far_from_today_keep_their_order_and_text() {
        let mut times: Vec<_> = ["9999-12-31T23:59:59.999999999Z", "1948-05-14T00:00:00Z", "0001-01-01T00:00:00Z"]
            .map(|text| (Timestamp::parse(text).unwrap(), text))
            .into();
        times.sort_by_key(|(time, _)| time.sort_bytes());
        assert_eq!(times[0].1, "0001-01-01T00:00:00Z");
        for (time, text) in times {
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(Timestamp::parse("10000-01-01T00:00:00Z"), None);
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00+01:00"), None);
    }

    #[test]
    fn offsets_and_leap_seconds_are_instants() {
        let same = |a, b| assert_eq!(Timestamp::parse(a), Timestamp::parse(b));
        same("2026-11-20T11:00:00+01:00", "2026-11-20T10:00:00Z");
        same("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z");
    }

    #[test]
    fn spans_read_and_print() {
        for (text, printed) in
            [("1h30m", "5400s"), ("1.5s", "1.5s"), ("-250ms", "-0.25s"), ("0", "0s"), ("2s1ns", "2.000000001s")]
        {
            assert_eq!(Span::parse(text).unwrap().to_string(), printed);
        }
        for bad in ["", "5", "5 s", "1d", "s", "--1s", "1h30"] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
    }
}
