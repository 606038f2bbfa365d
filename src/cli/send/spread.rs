//! Which connection a line goes to.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiter::Jiter;

/// Spreads lines over connections: events that name the same `source` and `subject` (or, without a subject, the same
/// `key`) go to one connection and so keep their order; others go round.
pub struct Spread {
    lanes: usize,
    turn: usize,
}

impl Spread {
    /// A spread over so many connections, at least 1.
    pub fn new(lanes: usize) -> Self {
        Spread { lanes: lanes.max(1), turn: 0 }
    }

    /// The connection for this line.
    pub fn lane(&mut self, line: &[u8]) -> usize {
        if self.lanes == 1 {
            return 0;
        }
        if let Some(hash) = affinity(line) {
            return (hash % self.lanes as u64) as usize;
        }
        self.turn = (self.turn + 1) % self.lanes;
        self.turn
    }
}

/// A hash of what an event is about, `None` if it does not say or is no JSON: that is the server's to refuse.
fn affinity(line: &[u8]) -> Option<u64> {
    let mut json = Jiter::new(line);
    let (mut source, mut subject, mut key) = (None, None, None);
    let mut member = json.next_object().ok()?.map(Member::of);
    while let Some(name) = member {
        let peek = json.peek().ok()?;
        let start = json.current_index();
        json.known_skip(peek).ok()?;
        // The text as it is written will do: nobody writes one name in two ways.
        let text = Some(json.slice_to_current(start)).filter(|text| text != b"null");
        match name {
            Member::Source => source = text,
            Member::Subject => subject = text,
            Member::Key => key = text,
            Member::Other => {}
        }
        if source.is_some() && subject.is_some() {
            break;
        }
        member = json.next_key().ok()?.map(Member::of);
    }
    let about = subject.or(key)?;
    let mut hasher = DefaultHasher::new();
    (source, about).hash(&mut hasher);
    Some(hasher.finish())
}

enum Member {
    Source,
    Subject,
    Key,
    Other,
}

impl Member {
    fn of(name: &str) -> Self {
        match name {
            "source" => Member::Source,
            "subject" => Member::Subject,
            "key" => Member::Key,
            _ => Member::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_about_one_thing_share_a_connection() {
        let mut spread = Spread::new(8);
        for (one, other) in [
            (r#"{"source":"a","subject":"x","n":1}"#, r#"{"data":{"subject":"y"},"subject":"x","source":"a"}"#),
            (r#"{"key":7}"#, r#"{"id":"2", "key": 7, "subject":null}"#),
        ] {
            assert_eq!(affinity(one.as_bytes()), affinity(other.as_bytes()));
            assert_eq!(spread.lane(one.as_bytes()), spread.lane(other.as_bytes()));
        }
        assert_ne!(affinity(br#"{"source":"a","key":"x"}"#), affinity(br#"{"source":"b","key":"x"}"#));
    }

    #[test]
    fn what_names_nothing_goes_round() {
        let mut spread = Spread::new(3);
        for line in [r#"{"id":"1"}"#, "nonsense", "[1]", r#"{"source":"a"}"#, r#"{"subject":"#] {
            assert_eq!(affinity(line.as_bytes()), None, "{line}");
        }
        let lanes: Vec<_> = (0..6).map(|_| spread.lane(b"{}")).collect();
        assert_eq!(lanes, [1, 2, 0, 1, 2, 0]);
        assert_eq!(Spread::new(1).lane(br#"{"key":"x"}"#), 0);
    }
}
