//! What one connection has to send and what it has not yet been told the end of. Plain state: no socket, no clock.
//!
//! A line leaves only when an acknowledgement covers it. The lines under way are a prefix of the queue, in the order in
//! which they were sent, so that after a break everything is sent again in the same order.

use std::collections::VecDeque;

use super::answer::Answer;
use super::input::Line;

/// The only refusal worth sending again.
const BUSY: &str = "busy";

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub lines: usize,
    pub bytes: usize,
}

/// The queue of one connection.
pub struct Lane {
    window: Window,
    queue: VecDeque<Entry>,
    /// So many of the queue's first entries are under way on this connection, and so many bytes.
    under_way: usize,
    under_way_bytes: usize,
    /// What this connection's acknowledgements have said.
    acked: u64,
    duplicates: u64,
}

struct Entry {
    line: Line,
    sent_before: bool,
    verdict: Verdict,
}

enum Verdict {
    /// Nothing, or nothing that is settled.
    None,
    Busy,
    Refused {
        code: String,
        message: String,
    },
}

/// A line that was refused for good.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RefusedLine {
    pub line: u64,
    pub code: String,
    pub message: String,
}

/// What an acknowledgement settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub accepted: u64,
    pub duplicates: u64,
    pub refused: Vec<RefusedLine>,
    /// Lines that will be sent again.
    pub busy: u64,
    /// The size of the lines that are settled for good.
    pub bytes: u64,
    pub lsn: Option<u64>,
}

/// An answer that does not fit to what was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server answers line {line} of a connection on which {sent} were sent")]
pub struct OutOfStep {
    line: u64,
    sent: u64,
}

impl Lane {
    /// An empty queue. At least one line may be under way, however long.
    pub fn new(window: Window) -> Self {
        Lane { window, queue: VecDeque::new(), under_way: 0, under_way_bytes: 0, acked: 0, duplicates: 0 }
    }

    /// Adds lines to be sent.
    pub fn push(&mut self, lines: Vec<Line>) {
        let entry = |line| Entry { line, sent_before: false, verdict: Verdict::None };
        self.queue.extend(lines.into_iter().map(entry));
    }

    /// A new connection: nothing is under way on it.
    pub fn begin(&mut self) {
        for entry in self.queue.iter_mut().take(self.under_way) {
            entry.verdict = Verdict::None;
        }
        (self.under_way, self.under_way_bytes, self.acked, self.duplicates) = (0, 0, 0, 0);
    }

    /// Nothing to send, nothing under way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Lines on the way that are not acknowledged.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Everything that is not acknowledged.
    pub fn unsettled(&self) -> usize {
        self.queue.len()
    }

    /// Lines that are still to be sent on this connection.
    pub fn unsent(&self) -> usize {
        self.queue.len() - self.under_way
    }

    /// Appends to `out` what may be sent now, as long as it is shorter than `out_bytes_max`. Tells how many of these
    /// lines had been sent before.
    pub fn fill(&mut self, out: &mut Vec<u8>, out_bytes_max: usize) -> u64 {
        let mut again = 0;
        while let Some(entry) = self.queue.get_mut(self.under_way) {
            let length = entry.line.text.len();
            let full = self.under_way >= self.window.lines || self.under_way_bytes + length > self.window.bytes;
            if out.len() >= out_bytes_max || (self.under_way > 0 && full) {
                break;
            }
            out.extend_from_slice(&entry.line.text);
            again += u64::from(std::mem::replace(&mut entry.sent_before, true));
            self.under_way += 1;
            self.under_way_bytes += length;
        }
        again
    }

    /// Notes that a line of this connection is refused; an acknowledgement will settle it.
    ///
    /// # Errors
    /// When no such line is under way.
    pub fn refused(&mut self, line: u64, code: String, message: String) -> Result<(), OutOfStep> {
        let place = line.checked_sub(self.acked + 1).map_or(usize::MAX, |place| place as usize);
        if place >= self.under_way {
            return Err(self.out_of_step(line));
        }
        self.queue[place].verdict = if code == BUSY { Verdict::Busy } else { Verdict::Refused { code, message } };
        Ok(())
    }

    /// Takes an acknowledgement of lines 1 to `lines` of this connection.
    ///
    /// # Errors
    /// When more is acknowledged than was sent, or less than before.
    pub fn acknowledged(&mut self, lines: u64, duplicates: u64, lsn: Option<u64>) -> Result<Settled, OutOfStep> {
        let count = lines.checked_sub(self.acked).map_or(usize::MAX, |count| count as usize);
        if count > self.under_way {
            return Err(self.out_of_step(lines));
        }
        let mut settled = Settled { lsn, ..Settled::default() };
        let mut again = Vec::new();
        for entry in self.queue.drain(..count) {
            let bytes = entry.line.text.len();
            self.under_way_bytes -= bytes;
            match entry.verdict {
                Verdict::Busy => {
                    again.push(Entry { verdict: Verdict::None, ..entry });
                    continue;
                }
                Verdict::Refused { code, message } => {
                    settled.refused.push(RefusedLine { line: entry.line.number, code, message });
                }
                Verdict::None => settled.accepted += 1,
            }
            settled.bytes += bytes as u64;
        }
        self.under_way -= count;
        self.acked = lines;
        settled.busy = again.len() as u64;
        // They go before what was never sent.
        for entry in again.into_iter().rev() {
            self.queue.insert(self.under_way, entry);
        }
        settled.duplicates = duplicates.saturating_sub(self.duplicates).min(settled.accepted);
        settled.accepted -= settled.duplicates;
        self.duplicates = self.duplicates.max(duplicates);
        Ok(settled)
    }

    fn out_of_step(&self, line: u64) -> OutOfStep {
        OutOfStep { line, sent: self.acked + self.under_way as u64 }
    }
}

/// What an answer means to a connection.
#[derive(Debug)]
pub enum Event {
    Settled(Settled),
    /// Noted, or not for us.
    Nothing,
    /// The server is about to close.
    Bye(String),
    /// The server does not want this connection.
    Rejected {
        code: String,
        message: String,
    },
}

impl Lane {
    /// Takes an answer of the server's.
    ///
    /// # Errors
    /// When it does not fit to what was sent.
    pub fn answer(&mut self, answer: Answer) -> Result<Event, OutOfStep> {
        match answer {
            Answer::Ack { lines, duplicates, lsn } => self.acknowledged(lines, duplicates, lsn).map(Event::Settled),
            Answer::Refused { line: 0, code, .. } if code == BUSY => Ok(Event::Bye("the server is busy".to_owned())),
            Answer::Refused { line: 0, code, message } => Ok(Event::Rejected { code, message }),
            Answer::Refused { line, code, message } => self.refused(line, code, message).map(|()| Event::Nothing),
            Answer::Bye(why) => Ok(Event::Bye(format!("the server says goodbye: {why}"))),
            Answer::Unknown => Ok(Event::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const WINDOW: Window = Window { lines: 3, bytes: 1_000 };

    fn lane(numbers: std::ops::Range<u64>, window: Window) -> Lane {
        let mut lane = Lane::new(window);
        lane.push(numbers.map(|number| Line { number, text: Bytes::from(format!("{number}\n")) }).collect());
        lane
    }

    fn fill(lane: &mut Lane) -> String {
        let mut out = Vec::new();
        lane.fill(&mut out, usize::MAX);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn acknowledgements_settle_each_line_once() {
        let mut lane = lane(1..6, WINDOW);
        assert_eq!(fill(&mut lane), "1\n2\n3\n");
        assert_eq!(fill(&mut lane), "", "the window is full");
        lane.refused(2, "conflict".into(), "m".into()).unwrap();
        let settled = lane.acknowledged(2, 0, Some(7)).unwrap();
        let refused = vec![RefusedLine { line: 2, code: "conflict".into(), message: "m".into() }];
        assert_eq!(settled, Settled { accepted: 1, refused, bytes: 4, lsn: Some(7), ..Settled::default() });
        assert_eq!(fill(&mut lane), "4\n5\n");
        let settled = lane.acknowledged(4, 1, None).unwrap();
        assert_eq!(settled, Settled { accepted: 1, duplicates: 1, bytes: 4, ..Settled::default() });
        assert_eq!(lane.acknowledged(4, 1, None).unwrap(), Settled::default());
        assert_eq!(lane.acknowledged(5, 2, None).unwrap().duplicates, 1);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_new_connection_sends_everything_again_in_order() {
        let mut lane = lane(1..5, WINDOW);
        fill(&mut lane);
        lane.refused(3, "conflict".into(), String::new()).unwrap();
        lane.acknowledged(1, 0, None).unwrap();
        lane.begin();
        let mut out = Vec::new();
        assert_eq!(lane.fill(&mut out, usize::MAX), 2, "lines 2 and 3 go a second time");
        assert_eq!(out, b"2\n3\n4\n");
        assert_eq!(
            lane.acknowledged(3, 1, None).unwrap(),
            Settled { accepted: 2, duplicates: 1, bytes: 6, ..Settled::default() }
        );
    }

    #[test]
    fn busy_lines_go_again_before_the_others() {
        let mut lane = lane(1..6, WINDOW);
        fill(&mut lane);
        for line in [1, 2] {
            lane.refused(line, BUSY.into(), String::new()).unwrap();
        }
        assert_eq!(lane.acknowledged(2, 0, None).unwrap(), Settled { busy: 2, ..Settled::default() });
        assert_eq!(fill(&mut lane), "1\n2\n", "after line 3, which is under way");
        assert_eq!(lane.acknowledged(5, 0, None).unwrap().accepted, 3);
        assert_eq!(fill(&mut lane), "4\n5\n");
    }

    #[test]
    fn answers_to_what_was_not_sent_are_errors() {
        let mut lane = lane(1..6, WINDOW);
        fill(&mut lane);
        assert_eq!(lane.acknowledged(4, 0, None).unwrap_err(), OutOfStep { line: 4, sent: 3 });
        lane.acknowledged(2, 0, None).unwrap();
        assert!(lane.acknowledged(1, 0, None).is_err());
        for line in [1, 2, 4, u64::MAX] {
            assert!(lane.refused(line, "conflict".into(), String::new()).is_err(), "{line}");
        }
    }

    #[test]
    fn the_window_counts_bytes_but_lets_one_line_pass() {
        let mut lane = lane(10..14, Window { lines: 10, bytes: 6 });
        assert_eq!(fill(&mut lane), "10\n11\n");
        lane.acknowledged(2, 0, None).unwrap();
        lane.window.bytes = 1;
        assert_eq!(fill(&mut lane), "12\n");
        let mut out = vec![0; 10];
        lane.window.bytes = 100;
        lane.fill(&mut out, 10);
        assert_eq!(out.len(), 10, "the buffer is full");
    }
}
