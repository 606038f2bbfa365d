//! Turnstile's answers, counted.

use super::drive::{DriveError, Replies};
use crate::cli::send::{Answer, parse};

/// What one connection was told.
#[derive(Debug, Default)]
pub struct Acks {
    pub duplicates: u64,
    pub refused: u64,
    /// The first refusal, as an example.
    pub refusal: Option<String>,
    acknowledged: u64,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

impl Replies for Acks {
    fn answered(&mut self, mut bytes: &[u8]) -> Result<u64, DriveError> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                self.partial.extend_from_slice(line);
                let line = std::mem::take(&mut self.partial);
                self.line(&line)?;
            }
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(self.acknowledged)
    }
}

impl Acks {
    fn line(&mut self, line: &[u8]) -> Result<(), DriveError> {
        match parse(line).map_err(|error| DriveError::Answer(error.to_string()))? {
            Answer::Ack { lines, duplicates, .. } => (self.acknowledged, self.duplicates) = (lines, duplicates),
            Answer::Refused { line: 0, code, message } => {
                return Err(DriveError::Answer(format!("the server refused the connection: {code} {message}")));
            }
            Answer::Refused { code, message, .. } => {
                self.refused += 1;
                self.refusal.get_or_insert_with(|| format!("{code}: {message}"));
            }
            Answer::Bye(why) => return Err(DriveError::Answer(format!("the server said goodbye: {why}"))),
            Answer::Unknown => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the answers are cut up on their way, they mean the same.
    #[test]
    fn answers_are_counted_wherever_they_are_cut() {
        let said = b"{\"ack\":2,\"duplicates\":0,\"lsn\":1}\n{\"refused\":3,\"code\":\"conflict\",\"message\":\"m\"}\n{\"ack\":5,\"duplicates\":1,\"lsn\":9}\n";
        for cut in 0..said.len() {
            let mut acks = Acks::default();
            acks.answered(&said[..cut]).unwrap();
            assert_eq!(acks.answered(&said[cut..]).unwrap(), 5);
            assert_eq!((acks.duplicates, acks.refused), (1, 1));
            assert_eq!(acks.refusal.as_deref(), Some("conflict: m"));
        }
        for end in ["{\"bye\":\"draining\"}\n", "{\"refused\":0,\"code\":\"unauthorized\"}\n", "HTTP/1.1 400\n"] {
            assert!(Acks::default().answered(end.as_bytes()).is_err(), "{end}");
        }
    }
}
