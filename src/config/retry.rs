//! `retry = { attempts, backoff }`: how often what goes to the outside is tried, with which pauses in between.

use std::time::Duration;

use super::reader::Section;
use super::units::{DURATION_HELP, format_duration, parse_duration};

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// The first pause, and the longest.
type Backoff = (Duration, Duration);

/// Reads `retry`: the number of attempts and the pauses, each if it is given.
pub(super) fn read_retry(section: &mut Section, attempts_max: u32) -> (Option<u32>, Option<Backoff>) {
    let mut retry = section.section("retry");
    let attempts = retry.integer("attempts", 1..=u64::from(attempts_max)).map(|attempts| attempts as u32);
    let written = retry.string("backoff");
    let backoff = written.as_ref().and_then(|written| parse_backoff(written));
    if let (Some(written), None) = (&written, backoff) {
        let help = format!("write the first and the longest pause: \"1s..10m\"; {DURATION_HELP}");
        retry.cx.out.error(written.at, "`backoff` is not a range of pauses").help(help);
    }
    retry.finish();
    (attempts, backoff)
}

/// `1s..10m`, or `1s` for pauses that do not grow.
fn parse_backoff(text: &str) -> Option<Backoff> {
    let (first, longest) = text.split_once("..").unwrap_or((text, text));
    let (first, longest) = (parse_duration(first.trim())?, parse_duration(longest.trim())?);
    (PAUSE_MIN <= first && first <= longest && longest <= PAUSE_MAX).then_some((first, longest))
}

/// The table as it is written.
pub(super) fn format_retry(attempts: u32, (first, longest): Backoff) -> String {
    let (first, longest) = (format_duration(first), format_duration(longest));
    let backoff = if first == longest { first } else { format!("{first}..{longest}") };
    format!("{{ attempts = {attempts}, backoff = \"{backoff}\" }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, an endpoint that is down would be called more often than its owner allowed.
    #[test]
    fn pauses_are_read_and_written() {
        let ms = Duration::from_millis;
        let cases = [
            ("1s..10m", Some((ms(1000), ms(600_000)))),
            (" 1ms .. 1d ", Some((ms(1), ms(86_400_000)))),
            ("2s", Some((ms(2000), ms(2000)))),
            ("2s..2s", Some((ms(2000), ms(2000)))),
            ("2s..1s", None),
            ("0s..1s", None),
            ("1s..25h", None),
            ("1s..", None),
            ("1s..2s..3s", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_backoff(text), expected, "{text}");
        }
        assert_eq!(format_retry(3, (ms(1), ms(2000))), "{ attempts = 3, backoff = \"1ms..2s\" }");
        assert_eq!(format_retry(1, (ms(2000), ms(2000))), "{ attempts = 1, backoff = \"2s\" }");
    }
}
