//! `GET /v1/decisions`: decisions in the order of the journal, as CloudEvents; in pages, or as a stream.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::entity::{push_item, unreadable};
use super::position::Position;
use super::problem::Problem;
use super::query::{PAGE_BYTES_MAX, page_items, query};
use super::streams::{self, DecisionFilter, Start, Subject};
use crate::journal::JournalError;
use crate::model::codec::CodecError;
use crate::model::ids::Lsn;
use crate::model::record::Record;

/// Most records with decisions that a page looks at; a filter that few pass gives a short page and where to go on.
const SCANNED_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
    r#type: Option<String>,
    key: Option<String>,
    decision: Option<String>,
}

pub(super) async fn since(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Query { after, limit, r#type, key, decision } = query(&request)?;
    let filter = DecisionFilter::new(&api.ruleset, r#type, key, decision)?;
    if streams::wants_stream(&request) {
        if limit.is_some() {
            return Err(Problem::invalid("limit is for pages; a stream goes on until it is closed"));
        }
        let start = Start::of(&request, after.as_deref())?;
        return streams::respond(&api, &request, Subject::Decisions(filter), start).await;
    }
    let limit = page_items(limit)?;
    let after = after.as_deref().map(|after| Position::parse("after", after)).transpose()?;
    let page = web::block(move || read(&api, after, limit, &filter)).await;
    let (items, next) = page.map_err(|_| Problem::internal("the node is about to end"))??;
    let tail = format!(r#"],"next":{}}}"#, json!(next.to_string()));
    Ok(HttpResponse::Ok().content_type("application/json").body([br#"{"items":["#, &*items, tail.as_bytes()].concat()))
}

/// A record in the journal that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal's record {lsn} cannot be read; stop, keep a copy of the folder, and restore it from a backup")]
pub(super) struct Unreadable {
    pub lsn: Lsn,
    pub source: CodecError,
}

/// The answer to who asks for what is no longer kept.
pub(super) fn trimmed(error: &JournalError) -> Problem {
    Problem::new(StatusCode::GONE, "trimmed", error.to_string())
}

/// Up to `limit` decisions after a position (none: from the first one kept), separated by commas, and where to go on.
fn read(
    api: &Api,
    after: Option<Position>,
    limit: usize,
    filter: &DecisionFilter,
) -> Result<(Vec<u8>, Position), Problem> {
    let (journal, render) = (&api.journal, &api.render_decisions);
    let after = match after {
        Some(after) => after.within(journal.last_lsn())?,
        None => Position::before(journal.first_lsn()),
    };
    let from = after.from();
    let failed = |error| failed(api, error);
    let mut blocks = journal.read_decisions_from(from).map_err(failed)?;
    let (mut items, mut count, mut scanned) = (Vec::new(), 0, 0);
    for block in blocks.by_ref() {
        let block = block.map_err(failed)?;
        for (lsn, bytes) in block.decisions().filter(|(lsn, _)| *lsn >= from) {
            if scanned == SCANNED_MAX {
                return Ok((items, Position::before(lsn)));
            }
            scanned += 1;
            let record = Record::decode(bytes).map_err(|source| unreadable(api, Unreadable { lsn, source }))?;
            if !filter.takes_entity(&record.entity) || record.decisions.is_empty() {
                continue;
            }
            let skipped = if lsn == after.lsn { after.read.unwrap_or_default() } else { 0 };
            for (at, json) in render(lsn, &record).iter().enumerate().skip(skipped) {
                if !filter.takes_decision(&record.decisions[at].name) {
                    continue;
                }
                if count == limit || (count > 0 && items.len() + json.len() > PAGE_BYTES_MAX) {
                    let next = if at == 0 { Position::before(lsn) } else { Position { lsn, read: Some(at) } };
                    return Ok((items, next));
                }
                count += 1;
                push_item(&mut items, json);
            }
        }
    }
    let end = blocks.position().map_or(after, Position::before);
    Ok((items, end))
}

fn failed(api: &Api, error: JournalError) -> Problem {
    match error {
        JournalError::Trimmed { .. } => trimmed(&error),
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
    let from = after.from();
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
