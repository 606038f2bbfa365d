//! Why a stream ends although its reader did not close it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::problem::Problem;

/// The end of a stream, as its last message tells it.
#[derive(Debug)]
pub(super) struct End {
    /// Stable, for programs.
    pub code: &'static str,
    pub detail: String,
}

impl End {
    /// Every code there is.
    pub const CODES: [&str; 5] = ["draining", "slow", "trimmed", "idle", "internal"];

    /// The node is about to end.
    pub fn draining() -> Self {
        End {
            code: "draining",
            detail: "the node is about to end; connect again and go on after the last id".to_owned(),
        }
    }

    /// The reader took nothing for too long.
    pub fn slow(timeout: Duration) -> Self {
        let detail = format!("nothing was taken for limits.unread_timeout = {timeout:?}; go on after the last id");
        End { code: "slow", detail }
    }

    /// What comes next is no longer kept.
    pub fn trimmed(detail: String) -> Self {
        End { code: "trimmed", detail }
    }

    /// The other end of a socket gave no sign of life.
    pub fn idle(timeout: Duration) -> Self {
        End { code: "idle", detail: format!("no answer to pings for {timeout:?}") }
    }

    /// The journal cannot be read, which ends the process.
    pub fn failed(detail: String) -> Self {
        End { code: "internal", detail }
    }

    /// The members of the last message.
    pub fn document(&self) -> Value {
        json!({ "code": self.code, "detail": self.detail })
    }
}

/// Where nothing was sent yet, the end is the answer.
impl From<End> for Problem {
    fn from(end: End) -> Self {
        use actix_web::http::StatusCode;
        match end.code {
            "trimmed" => Problem::new(StatusCode::GONE, end.code, end.detail),
            "internal" => Problem::internal(end.detail),
            _ => Problem::unavailable(end.code, end.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, nobody would see the first streams that end for a reason, since what is counted begins with them.
    #[test]
    fn every_code_is_known_before_it_is_counted() {
        let (long, why) = (Duration::from_secs(1), String::new);
        let ends = [End::draining(), End::slow(long), End::trimmed(why()), End::idle(long), End::failed(why())];
        assert_eq!(ends.map(|end| end.code), End::CODES);
    }
}
