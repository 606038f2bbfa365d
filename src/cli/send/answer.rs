//! What the server says on a TCP connection, one JSON object a line.

use serde::Deserialize;

/// One line of the server's. Lines are counted from 1 on each connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Lines 1 to `lines` are settled, and so many of them were duplicates.
    Ack { lines: u64, duplicates: u64, lsn: Option<u64> },
    /// This line is refused, or with 0 the connection.
    Refused { line: u64, code: String, message: String },
    /// The server is about to close.
    Bye(String),
    /// Something newer than this client.
    Unknown,
}

/// A line that no Turnstile server sends.
#[derive(Debug, thiserror::Error)]
#[error("the other side does not speak Turnstile's TCP protocol; it said '{0}'")]
pub struct Foreign(String);

/// How much of a foreign line is shown.
const SHOWN_CHARS: usize = 80;

#[derive(Deserialize)]
struct Members {
    ack: Option<u64>,
    duplicates: Option<u64>,
    lsn: Option<u64>,
    refused: Option<u64>,
    code: Option<String>,
    message: Option<String>,
    bye: Option<String>,
}

/// Reads a line of the server's.
///
/// # Errors
/// When it is no JSON object, or a member has another type than it should.
pub fn parse(line: &[u8]) -> Result<Answer, Foreign> {
    let foreign = || Foreign(String::from_utf8_lossy(line).chars().take(SHOWN_CHARS).collect());
    if line.first() != Some(&b'{') {
        return Err(foreign());
    }
    let members: Members = serde_json::from_slice(line).map_err(|_| foreign())?;
    let Members { ack, duplicates, lsn, refused, code, message, bye } = members;
    Ok(match (ack, refused, bye) {
        (Some(lines), _, _) => Answer::Ack { lines, duplicates: duplicates.unwrap_or_default(), lsn },
        (_, Some(line), _) => {
            Answer::Refused { line, code: code.unwrap_or_default(), message: message.unwrap_or_default() }
        }
        (_, _, Some(why)) => Answer::Bye(why),
        _ => Answer::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_newer_ones_passed_over() {
        let refused =
            |line, code: &str, message: &str| Answer::Refused { line, code: code.into(), message: message.into() };
        for (line, answer) in [
            (r#"{"ack":3,"duplicates":1,"lsn":9}"#, Answer::Ack { lines: 3, duplicates: 1, lsn: Some(9) }),
            (r#"{"lsn":null,"ack":3,"new":[1]}"#, Answer::Ack { lines: 3, duplicates: 0, lsn: None }),
            (r#"{"refused":2,"code":"conflict","message":"m"}"#, refused(2, "conflict", "m")),
            (r#"{"refused":0,"code":"unauthorized"}"#, refused(0, "unauthorized", "")),
            (r#"{"bye":"draining"}"#, Answer::Bye("draining".into())),
            (r#"{"hello":1}"#, Answer::Unknown),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), answer, "{line}");
        }
    }

    #[test]
    fn other_protocols_are_recognised() {
        for line in ["HTTP/1.1 400 Bad Request", "", "[1]", "5", "{\"ack\":\"x\"}", "{\"ack\":-1}"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
