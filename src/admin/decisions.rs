//! `GET /v1/decisions`: decisions in the order of the journal, as CloudEvents.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::entity::{push_item, unreadable};
use super::problem::Problem;
use super::query::{page_items, query};
use crate::journal::JournalError;
use crate::model::codec::CodecError;
use crate::model::ids::Lsn;
use crate::model::record::Record;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn since(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let wants_stream = request
        .headers()
        .get_all(ACCEPT)
        .any(|accept| accept.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
    if wants_stream {
        let why = "streams of decisions are not yet supported; ask again with `after` set to the last answer's `next`";
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", why));
    }
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let after = query.after.as_deref().map(Position::parse).transpose()?;
    let page = web::block(move || read(&api, after, limit)).await;
    let (items, next) = page.map_err(|_| Problem::internal("the node is about to end"))??;
    let tail = format!(r#"],"next":{}}}"#, json!(next.to_string()));
    Ok(HttpResponse::Ok().content_type("application/json").body([br#"{"items":["#, &*items, tail.as_bytes()].concat()))
}

/// How far a reader is: through with everything up to a record, or with the first few decisions of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    lsn: Lsn,
    /// How many of this record's decisions were read; all of them if it is none.
    read: Option<usize>,
}

impl Position {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let (lsn, read) = match text.split_once('.') {
            Some((lsn, read)) => (lsn, read.parse().ok().map(Some)),
            None => (text, Some(None)),
        };
        // Far beyond every position there can be, and the next one can still be counted.
        let lsn = lsn.parse().ok().filter(|lsn| *lsn < u64::MAX / 2).map(Lsn);
        lsn.zip(read).map(|(lsn, read)| Position { lsn, read }).ok_or_else(|| {
            Problem::invalid(format!("after is {text:.60?}; it is an LSN or the `next` of an earlier answer"))
        })
    }

    /// Through with everything before `lsn`.
    pub(super) fn before(lsn: Lsn) -> Self {
        Position { lsn: Lsn(lsn.0.saturating_sub(1)), read: None }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read {
            Some(read) => write!(f, "{}.{read}", self.lsn),
            None => self.lsn.fmt(f),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the journal's record {lsn} cannot be read; stop, keep a copy of the folder, and restore it from a backup")]
struct Unreadable {
    lsn: Lsn,
    source: CodecError,
}

/// Up to `limit` decisions after a position (none: from the first one kept), separated by commas, and where to go on.
fn read(api: &Api, after: Option<Position>, limit: usize) -> Result<(Vec<u8>, Position), Problem> {
    let (journal, render) = (&api.journal, &api.render_decisions);
    let after = after.unwrap_or_else(|| Position::before(journal.first_lsn()));
    let from = if after.read.is_some() { after.lsn } else { after.lsn.next() };
    let failed = |error| failed(api, error);
    let mut blocks = journal.read_decisions_from(from).map_err(failed)?;
    let (mut items, mut count) = (Vec::new(), 0);
    for block in blocks.by_ref() {
        let block = block.map_err(failed)?;
        for (lsn, bytes) in block.decisions().filter(|(lsn, _)| *lsn >= from) {
            let record = Record::decode(bytes).map_err(|source| unreadable(api, Unreadable { lsn, source }))?;
            if record.decisions.is_empty() {
                continue;
            }
            let skipped = if lsn == after.lsn { after.read.unwrap_or_default() } else { 0 };
            for (at, decision) in render(lsn, &record).iter().enumerate().skip(skipped) {
                if count == limit {
                    let next = if at == 0 { Position::before(lsn) } else { Position { lsn, read: Some(at) } };
                    return Ok((items, next));
                }
                count += 1;
                push_item(&mut items, decision);
            }
        }
    }
    let end = blocks.position().map_or(after, Position::before);
    Ok((items, end))
}

fn failed(api: &Api, error: JournalError) -> Problem {
    match error {
        JournalError::Trimmed { .. } => Problem::new(StatusCode::GONE, "trimmed", error.to_string()),
        error => unreadable(api, error),
    }
}

/// So many bytes of decisions make a part of an export.
const PART_BYTES: usize = 256 * 1024;

/// Shows `put` the decisions after a position, up to the record at `through`, until what it says it has makes a part: those of
/// whole blocks, and only of entity type `kind` if there is one. Where to go on; none at the end.
pub(super) fn read_part(
    api: &Api,
    after: Position,
    through: Lsn,
    kind: Option<&str>,
    put: &mut dyn FnMut(&[u8]) -> Result<usize, Problem>,
) -> Result<Option<Position>, Problem> {
    let from = if after.read.is_some() { after.lsn } else { after.lsn.next() };
    let mut blocks = api.journal.read_decisions_from(from).map_err(|error| failed(api, error))?;
    let mut bytes = 0;
    while blocks.position().is_some_and(|next| next <= through) {
        let Some(block) = blocks.next() else { break };
        let block = block.map_err(|error| failed(api, error))?;
        for (lsn, record) in block.decisions().filter(|(lsn, _)| (from..=through).contains(lsn)) {
            let record = Record::decode(record).map_err(|source| unreadable(api, Unreadable { lsn, source }))?;
            if kind.is_some_and(|kind| *kind != *record.entity.kind()) {
                continue;
            }
            let seen = if lsn == after.lsn { after.read.unwrap_or_default() } else { 0 };
            for decision in (api.render_decisions)(lsn, &record).iter().skip(seen) {
                bytes = put(decision)?;
            }
        }
        if bytes >= PART_BYTES {
            return Ok(Some(Position::before(block.last_lsn().next())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a reader would miss decisions or see them twice.
    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["0", "7", "7.1", "123456789.0"] {
            assert_eq!(Position::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "x", "-1", "7.", ".7", "7.x", "1.2.3", "18446744073709551615", "99999999999999999999"] {
            assert!(Position::parse(text).is_err(), "{text}");
        }
    }
}
