//! What is asked of a verification.

use std::time::Duration;

use serde::Deserialize;

use crate::ingress::SOURCE_DEFAULT;
use crate::model::time::Span;

/// From when on waiting, effects and deliveries are holes, unless the request says so.
const WAITING_LONGER: Duration = Duration::from_hours(1);
const INCOMPLETE_LONGER: Duration = Duration::from_hours(1);
/// Sources may rest over a night.
const SILENT_LONGER: Duration = Duration::from_hours(24);
/// Numbers of a sequence overtake each other by less.
const GAP_OLDER: Duration = Duration::from_secs(10);
const EXAMPLES: usize = 10;
/// Most examples of a kind.
pub const EXAMPLES_MAX: usize = 1_000;
/// Most events that are looked for by their ids alone.
pub const IDS_MAX: usize = 200_000;

/// What becomes of effects where it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    Called,
    /// A shadow leaves them as they were asked for.
    LeftOut,
}

/// From when on what is called a hole, and how much of it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Waiting for another entity, an effect without outcome, a decision that was not delivered.
    pub waiting_longer: Duration,
    pub incomplete_longer: Duration,
    pub silent_longer: Duration,
    /// A number that is missing, though a later one came so long ago.
    pub gap_older: Duration,
    /// Of each kind so many are shown.
    pub examples: usize,
    /// Events that should have come, wherever they went: source and id.
    pub ids: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            waiting_longer: WAITING_LONGER,
            incomplete_longer: INCOMPLETE_LONGER,
            silent_longer: SILENT_LONGER,
            gap_older: GAP_OLDER,
            examples: EXAMPLES,
            ids: Vec::new(),
        }
    }
}

/// Options as a request has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    waiting_longer: Option<String>,
    incomplete_longer: Option<String>,
    silent_longer: Option<String>,
    gap_older: Option<String>,
    examples: Option<usize>,
    #[serde(default)]
    ids: Vec<(Option<String>, String)>,
}

impl Options {
    /// Reads the body of a request; an empty one leaves everything as it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
        let asked: Asked = serde_json::from_slice(body).map_err(|error| format!("the body is wrong: {error}"))?;
        let mut options = Options::default();
        for (name, text, option) in [
            ("waiting_longer", asked.waiting_longer, &mut options.waiting_longer),
            ("incomplete_longer", asked.incomplete_longer, &mut options.incomplete_longer),
            ("silent_longer", asked.silent_longer, &mut options.silent_longer),
            ("gap_older", asked.gap_older, &mut options.gap_older),
        ] {
            if let Some(text) = text {
                *option =
                    duration(&text).ok_or_else(|| format!("{name} is {text:.60?}; write it like 90s or 1h30m"))?;
            }
        }
        if let Some(examples) = asked.examples {
            options.examples = Some(examples)
                .filter(|examples| *examples <= EXAMPLES_MAX)
                .ok_or_else(|| format!("examples is {examples}; it may be up to {EXAMPLES_MAX}"))?;
        }
        if asked.ids.len() > IDS_MAX {
            return Err(format!("{} ids; at most {IDS_MAX} at a time", asked.ids.len()));
        }
        let source = |source: Option<String>| source.unwrap_or_else(|| SOURCE_DEFAULT.to_owned());
        options.ids = asked.ids.into_iter().map(|(of, id)| (source(of), id)).collect();
        Ok(options)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let nanos = u64::try_from(Span::parse(text)?.as_nanos()).ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a slip would be passed over, and holes with it.
    #[test]
    fn options_are_read_and_bounded() {
        assert_eq!(Options::parse(b" "), Ok(Options::default()));
        let body = br#"{"waiting_longer":"90s","gap_older":"0s","examples":3,"ids":[[null,"a"],["/s","b"]]}"#;
        let options = Options::parse(body).unwrap();
        let ids = [("default", "a"), ("/s", "b")].map(|(source, id)| (source.to_owned(), id.to_owned()));
        assert_eq!(options.ids, ids);
        assert_eq!((options.waiting_longer, options.gap_older), (Duration::from_secs(90), Duration::ZERO));
        assert_eq!((options.incomplete_longer, options.examples), (INCOMPLETE_LONGER, 3));
        for wrong in [r#"{"waiting_longer":"-1s"}"#, r#"{"waiting":"1s"}"#, r#"{"examples":1001}"#, "[]", "x"] {
            assert!(Options::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
