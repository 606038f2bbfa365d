//! Where a stream begins.

use actix_web::HttpRequest;

use super::end::End;
use super::hub::Streams;
use crate::admin::position::Position;
use crate::admin::problem::Problem;
use crate::journal::JournalError;

/// The header in which clients that connect again say where they were.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Start {
    /// With what is committed from now on.
    Now,
    After(Position),
}

impl Start {
    /// Where the request wants to begin. The header counts more: clients add it to the address they first asked with.
    pub fn of(request: &HttpRequest, after: Option<&str>) -> Result<Self, Problem> {
        let header = request.headers().get(LAST_EVENT_ID).filter(|header| !header.is_empty());
        match header {
            Some(header) => {
                let text = String::from_utf8_lossy(header.as_bytes());
                Position::parse("the position to go on after", &text).map(Start::After)
            }
            None => Self::after(after),
        }
    }

    /// After a position, if one is given.
    pub fn after(after: Option<&str>) -> Result<Self, Problem> {
        after.map_or(Ok(Start::Now), |after| Position::parse("after", after).map(Start::After))
    }

    /// The position, if there the journal can be read.
    ///
    /// # Errors
    /// When what comes after it is no longer kept, or it is no position of this journal.
    pub(super) fn position(self, streams: &Streams) -> Result<Position, Problem> {
        let journal = streams.journal();
        let last = journal.last_lsn();
        let Start::After(position) = self else { return Ok(Position::through(last)) };
        let position = position.within(last)?;
        let first = journal.first_lsn();
        if position.from() < first {
            let trimmed = JournalError::Trimmed { from: position.from(), first };
            return Err(End::trimmed(trimmed.to_string()).into());
        }
        Ok(position)
    }
}
