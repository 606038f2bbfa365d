//! Lines from a file or a stream, in batches for each connection. Runs on a thread of its own, since reading blocks.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::spread::Spread;

/// How much is read at once, and so about the size of a batch.
const READ_BYTES: usize = 256 << 10;
/// A longer line is no event: the server takes none by far as long.
const LINE_BYTES_MAX: usize = 256 << 20;
/// Batches that may wait for a connection.
pub const BATCHES_WAITING_MAX: usize = 2;

/// A line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1 in the input, blank lines included.
    pub number: u64,
    /// Its text with a newline at the end.
    pub text: Bytes,
}

/// Why the input cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot read the input after line {line}")]
    Read { line: u64, source: io::Error },
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes: the input must have one JSON document a line")]
    LineTooLong { line: u64 },
}

/// Reads to the end and hands each line to its connection; stops early when the connections have gone.
///
/// # Errors
/// When the input cannot be read. What was read before was handed over.
pub fn read_lines(mut source: impl Read, lanes: Vec<Sender<Vec<Line>>>) -> Result<(), InputError> {
    let mut batches = Batches::new(lanes);
    let mut chunk = vec![0; READ_BYTES];
    let mut unfinished = Vec::new();
    loop {
        let length = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                batches.hand_over();
                return Err(InputError::Read { line: batches.number, source: error });
            }
        };
        let mut rest = &chunk[..length];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if unfinished.is_empty() {
                batches.line(&rest[..end]);
            } else {
                unfinished.extend_from_slice(&rest[..end]);
                batches.line(&unfinished);
                unfinished.clear();
            }
            rest = &rest[end + 1..];
        }
        unfinished.extend_from_slice(rest);
        // A stream's lines are sent as they come, not when a batch is full.
        if batches.hand_over() == Lanes::Gone {
            return Ok(());
        }
        if unfinished.len() > LINE_BYTES_MAX {
            return Err(InputError::LineTooLong { line: batches.number + 1 });
        }
    }
    if !unfinished.is_empty() {
        batches.line(&unfinished);
        batches.hand_over();
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lanes {
    Open,
    Gone,
}

/// The lines of one chunk, apart for each connection: none keeps the memory of another's alive.
struct Batches {
    lanes: Vec<(Sender<Vec<Line>>, Batch)>,
    spread: Spread,
    number: u64,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The number of each line and where it ends.
    ends: Vec<(u64, usize)>,
}

impl Batches {
    fn new(lanes: Vec<Sender<Vec<Line>>>) -> Self {
        let spread = Spread::new(lanes.len());
        Batches { lanes: lanes.into_iter().map(|lane| (lane, Batch::default())).collect(), spread, number: 0 }
    }

    fn line(&mut self, text: &[u8]) {
        self.number += 1;
        let text = text.trim_ascii_end();
        if text.is_empty() {
            return;
        }
        let batch = &mut self.lanes[self.spread.lane(text)].1;
        batch.bytes.extend_from_slice(text);
        batch.bytes.push(b'\n');
        batch.ends.push((self.number, batch.bytes.len()));
    }

    fn hand_over(&mut self) -> Lanes {
        for (lane, batch) in &mut self.lanes {
            let Batch { bytes, ends } = std::mem::take(batch);
            if ends.is_empty() {
                continue;
            }
            let (bytes, mut start) = (Bytes::from(bytes), 0);
            let lines = ends
                .into_iter()
                .map(|(number, end)| Line { number, text: bytes.slice(std::mem::replace(&mut start, end)..end) })
                .collect();
            if lane.blocking_send(lines).is_err() {
                return Lanes::Gone;
            }
        }
        Lanes::Open
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn check(input: impl Read, expected: &[(u64, &str)]) {
        let (sender, mut receiver) = mpsc::channel(100);
        read_lines(input, vec![sender]).unwrap();
        let lines: Vec<_> = std::iter::from_fn(|| receiver.blocking_recv()).flatten().collect();
        let lines: Vec<_> = lines.iter().map(|line| (line.number, std::str::from_utf8(&line.text).unwrap())).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_keep_their_numbers_and_lose_what_is_blank() {
        check(&b""[..], &[]);
        check(&b"\n \n\r\n"[..], &[]);
        check(&b"a\r\n\n \t\nb"[..], &[(1, "a\n"), (4, "b\n")]);
        // However the stream is cut, the lines are the same.
        check((&b"ab"[..]).chain(&b"c\nd"[..]).chain(&b"e\n"[..]), &[(1, "abc\n"), (2, "de\n")]);
        let long = "x".repeat(READ_BYTES * 2 + 1);
        check(format!("{long}\ny\n").as_bytes(), &[(1, &format!("{long}\n")), (2, "y\n")]);
    }

    #[test]
    fn a_failing_input_still_hands_over_what_was_read() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let (sender, mut receiver) = mpsc::channel(100);
        let error = read_lines((&b"a\nb"[..]).chain(Failing), vec![sender]).unwrap_err();
        assert!(matches!(error, InputError::Read { line: 1, .. }), "{error}");
        assert_eq!(receiver.blocking_recv().unwrap()[0].number, 1);
        assert!(receiver.blocking_recv().is_none());
    }

    #[test]
    fn reading_stops_when_nobody_takes_the_lines() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        read_lines(io::repeat(b'\n').take(10).chain((&b"a\n"[..]).chain(io::repeat(b'\n'))), vec![sender]).unwrap();
    }
}
