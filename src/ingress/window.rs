//! A connection's window: the lines that are read and not yet settled. Tells acknowledgements of the settled prefix.

use std::collections::VecDeque;
use std::time::Instant;

use super::credits::Need;
use crate::model::ids::Lsn;
use crate::model::json;
use crate::model::refusal::Refusal;
use crate::model::settle::EventOutcome;

/// The window. Lines are counted from 1.
#[derive(Default)]
pub struct Window {
    /// Lines 1 to here are settled.
    settled: u64,
    open: VecDeque<Line>,
    duplicates: u64,
    lsn: Lsn,
    refusals: Vec<(u64, Refusal)>,
    /// What the refusals take that are not told yet, of settled and of other lines.
    refusal_bytes: usize,
    /// What was acknowledged last.
    acknowledged: u64,
}

struct Line {
    need: Need,
    read_at: Instant,
    outcome: Option<EventOutcome>,
}

/// What a settled line gives back.
pub struct Returned {
    pub need: Need,
    pub read_at: Instant,
}

impl Window {
    /// Opens the next line and returns its number.
    pub fn open(&mut self, need: Need, read_at: Instant) -> u64 {
        self.open.push_back(Line { need, read_at, outcome: None });
        self.settled + self.open.len() as u64
    }

    fn line(&mut self, line: u64) -> Option<&mut Line> {
        let at = line.checked_sub(self.settled + 1)?;
        self.open.get_mut(usize::try_from(at).ok()?)
    }

    /// Settles a line.
    pub fn settle(&mut self, line: u64, outcome: EventOutcome) -> Option<Returned> {
        let bytes = match &outcome {
            EventOutcome::Refused(refusal) => refusal_bytes(refusal),
            _ => 0,
        };
        let open = self.line(line)?;
        open.outcome = Some(outcome);
        let returned = Returned { need: open.need, read_at: open.read_at };
        self.refusal_bytes += bytes;
        while self.open.front().is_some_and(|line| line.outcome.is_some()) {
            let Some(outcome) = self.open.pop_front().and_then(|line| line.outcome) else { break };
            self.settled += 1;
            match outcome {
                EventOutcome::Accepted(lsn) => self.lsn = self.lsn.max(lsn),
                EventOutcome::Duplicate(lsn) => {
                    self.duplicates += 1;
                    self.lsn = self.lsn.max(lsn);
                }
                // Told in the order of lines, whenever each was known.
                EventOutcome::Refused(refusal) => self.refusals.push((self.settled, refusal)),
            }
        }
        Some(returned)
    }

    /// Appends what is to be told now: refusals, then the acknowledgement if it has grown.
    pub fn tell(&mut self, out: &mut Vec<u8>) {
        for (line, refusal) in self.refusals.drain(..) {
            refusal_line(out, line, &refusal);
            self.refusal_bytes -= refusal_bytes(&refusal);
        }
        if self.settled > self.acknowledged {
            self.acknowledged = self.settled;
            let Window { settled, duplicates, lsn, .. } = self;
            out.extend(format!("{{\"ack\":{settled},\"duplicates\":{duplicates},\"lsn\":{lsn}}}\n").bytes());
        }
    }

    /// Lines read and not settled.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether every line read is settled.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        self.settled > self.acknowledged
    }

    /// What the refusals take that were not told yet, in bytes.
    pub fn refusal_bytes(&self) -> usize {
        self.refusal_bytes
    }
}

/// What a refusal takes until it is told.
fn refusal_bytes(refusal: &Refusal) -> usize {
    size_of::<(u64, Refusal)>() + refusal.message.len()
}

/// Appends `{"refused":…}`; line 0 is the connection itself.
pub fn refusal_line(out: &mut Vec<u8>, line: u64, refusal: &Refusal) {
    out.extend(format!("{{\"refused\":{line},\"code\":\"{}\",\"message\":", refusal.code).bytes());
    json::write_string(out, &refusal.message);
    out.extend(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::refusal::Code;

    fn told(window: &mut Window) -> String {
        let mut out = Vec::new();
        window.tell(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_settled_prefix_is_acknowledged_and_refusals_come_first() {
        let mut window = Window::default();
        for line in 1..=4 {
            assert_eq!(window.open(Need::default(), Instant::now()), line);
        }
        window.settle(2, EventOutcome::Accepted(Lsn(9)));
        assert_eq!(told(&mut window), "");
        window.settle(1, EventOutcome::Duplicate(Lsn(3)));
        assert_eq!(told(&mut window), "{\"ack\":2,\"duplicates\":1,\"lsn\":9}\n");
        window.settle(3, EventOutcome::Refused(Refusal::new(Code::Conflict, "say \"no\"")));
        assert!(window.refusal_bytes() > "say \"no\"".len());
        assert_eq!(
            told(&mut window),
            "{\"refused\":3,\"code\":\"conflict\",\"message\":\"say \\\"no\\\"\"}\n{\"ack\":3,\"duplicates\":1,\"lsn\":9}\n"
        );
        assert_eq!((told(&mut window).as_str(), window.refusal_bytes()), ("", 0));
        window.settle(4, EventOutcome::Accepted(Lsn(8)));
        assert_eq!(told(&mut window), "{\"ack\":4,\"duplicates\":1,\"lsn\":9}\n");
        assert!(window.is_empty() && window.settle(4, EventOutcome::Accepted(Lsn(8))).is_none());
    }
}
