//! `POST /v1/events`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::api::{Api, NodeState};
use super::entity::documents;
use super::path::entity_link;
use super::problem::Problem;
use super::query::{query, timeout};
use super::waiting::{Wait, deadline, wait_for};
use crate::ingress::{self, BUSY_PATIENCE, Head, Patience, Posted, Request, Room};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::EventOutcome;
use crate::model::time::Timestamp;

/// Most events of a request that waits: their entities' documents are its answer.
const EVENTS_WAITED_FOR_MAX: usize = 1000;
/// The code of a request some of whose events were refused, each with a code of its own.
const REFUSED: &str = "refused";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    wait: Option<String>,
    timeout: Option<String>,
}

pub(super) async fn post_events(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let wait = Wait::parse_any(query.wait.as_deref(), &api.ruleset)?;
    let deadline = deadline(timeout(query.timeout.as_deref())?);
    let state = *api.state.borrow();
    if state == NodeState::Draining {
        return Err(Problem::unavailable(
            state.as_str(),
            "the node is about to end; send the events again elsewhere or later",
        ));
    }
    let posted = match take(&api, &request, payload, wait.is_some()).await {
        Ok(taken) => post(&api, taken).await?,
        Err(refusal) => {
            api.source.refused(&api.metrics, refusal.code);
            return Err(refusal.into());
        }
    };
    let Some(wait) = wait else { return Ok(posted.accepted()) };
    wait_for(&api, &posted.entities, &wait, deadline).await;
    let (documents, is_met) = documents(&api, &posted.entities, &wait).await;
    let status = if is_met || posted.entities.is_empty() && wait == Wait::Applied {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(accepted(status, posted.document(&documents)))
}

fn accepted(status: StatusCode, document: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(document)
}

/// The document that answers for one event, whichever way it came: it became `outcome` at `entities`.
pub fn answer(outcome: EventOutcome, mut entities: Vec<EntityKey>) -> Vec<u8> {
    entities.sort();
    entities.dedup();
    let mut summary = Summary::new(Posted { outcomes: vec![(1, outcome)], entities });
    match summary.refused.pop() {
        None => summary.document_with_links(),
        Some((_, refusal)) => Problem::from(refusal).document().to_string().into_bytes(),
    }
}

/// A request's events.
struct Taken {
    request: Request,
    bytes: usize,
    /// The room that its body was given, which its events still need.
    _room: Room,
}

/// Receives a request's body, once there is room for it.
pub(super) async fn receive(
    api: &Api,
    request: &HttpRequest,
    payload: web::Payload,
    (limit, bytes_max): (&str, u64),
) -> Result<(web::Bytes, Room), Refusal> {
    let too_large =
        || Refusal::new(Code::TooLarge, format!("the body has more than limits.{limit} = {bytes_max} bytes"));
    let said = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let receiving = &api.admission.receiving;
    let room = receiving.room(said.unwrap_or(bytes_max));
    let room = tokio::time::timeout(BUSY_PATIENCE, room).await.map_err(|_| {
        Refusal::new(Code::Busy, "too many bodies are being received (limits.receiving_bytes_max); send it again later")
    })?;
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let body = tokio::time::timeout(receiving.timeout, payload.to_bytes_limited(bytes_max)).await.map_err(|_| {
        Refusal::new(Code::Busy, "the body did not come within limits.receiving_timeout; send it again")
    })?;
    let body = body.map_err(|_| too_large())?;
    let body = body.map_err(|error| Refusal::new(Code::InvalidJson, format!("the body cannot be read: {error}")))?;
    Ok((body, room))
}

async fn take(api: &Api, request: &HttpRequest, payload: web::Payload, waits: bool) -> Result<Taken, Refusal> {
    let limit = ("http_body_bytes_max", api.limits.http_body_bytes_max);
    let (body, room) = receive(api, request, payload, limit).await?;
    let mut headers = Vec::with_capacity(request.headers().len());
    for (name, value) in request.headers() {
        match std::str::from_utf8(value.as_bytes()) {
            Ok(value) => headers.push((name.as_str(), value)),
            Err(_) if name.as_str().starts_with("ce-") => {
                return Err(Refusal::new(Code::InvalidValue, format!("header {name} is not UTF-8")));
            }
            Err(_) => {}
        }
    }
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let events_max = usize::try_from(api.limits.http_events_max).unwrap_or(usize::MAX);
    let read = ingress::read(&api.decoder, &Head { content_type, headers }, &body, events_max, Timestamp::now())?;
    if waits && read.events.len() > EVENTS_WAITED_FOR_MAX {
        let why = format!("a request with `wait` may hold up to {EVENTS_WAITED_FOR_MAX} events");
        return Err(Refusal::new(Code::InvalidValue, why));
    }
    Ok(Taken { request: read, bytes: body.len(), _room: room })
}

/// Brings the events to their entities.
///
/// # Errors
/// If any was refused; the others were taken.
async fn post(api: &Api, taken: Taken) -> Result<Summary, Problem> {
    let is_batch = taken.request.is_batch;
    let patience = Patience::Until(BUSY_PATIENCE);
    let posted = ingress::post(&api.admission, &api.source, taken.request, taken.bytes, patience).await;
    let mut summary = Summary::new(posted);
    match summary.refused.first() {
        None => Ok(summary),
        Some(_) if is_batch => Err(summary.problem()),
        Some(_) => Err(summary.refused.swap_remove(0).1.into()),
    }
}

/// What became of a request's events, counted.
pub(super) struct Summary {
    accepted: u64,
    duplicates: u64,
    /// The last position of any of them.
    lsn: Lsn,
    pub refused: Vec<(u64, Refusal)>,
    entities: Vec<EntityKey>,
}

impl Summary {
    pub fn new(posted: Posted) -> Self {
        let mut summary =
            Summary { accepted: 0, duplicates: 0, lsn: Lsn::ZERO, refused: Vec::new(), entities: posted.entities };
        for (line, outcome) in posted.outcomes {
            match outcome {
                EventOutcome::Accepted(lsn) => {
                    summary.accepted += 1;
                    summary.lsn = summary.lsn.max(lsn);
                }
                EventOutcome::Duplicate(lsn) => {
                    summary.duplicates += 1;
                    summary.lsn = summary.lsn.max(lsn);
                }
                EventOutcome::Refused(refusal) => summary.refused.push((line, refusal)),
            }
        }
        summary
    }

    fn links(&self) -> Vec<String> {
        self.entities.iter().map(entity_link).collect()
    }

    /// The answer to who does not wait.
    pub fn accepted(&self) -> HttpResponse {
        accepted(StatusCode::ACCEPTED, self.document_with_links())
    }

    fn document_with_links(&self) -> Vec<u8> {
        let entities = self.links().iter().map(|link| json!(link).to_string()).collect::<Vec<_>>().join(",");
        self.document(entities.as_bytes())
    }

    /// `entities` is the content of a JSON array.
    fn document(&self, entities: &[u8]) -> Vec<u8> {
        let Summary { accepted, duplicates, lsn, .. } = self;
        let head = format!(r#"{{"accepted":{accepted},"duplicates":{duplicates},"lsn":{lsn},"entities":["#);
        [head.as_bytes(), entities, b"]}"].concat()
    }

    /// The answer where some of several events were refused. If nothing but being busy stood in the way, all may be sent
    /// again as they are.
    pub fn problem(&self) -> Problem {
        let refused = self.refused.iter();
        let all_busy = refused.clone().all(|(_, refusal)| refusal.code == Code::Busy);
        let (status, code) = if all_busy {
            (StatusCode::TOO_MANY_REQUESTS, Code::Busy.as_str())
        } else {
            (StatusCode::BAD_REQUEST, REFUSED)
        };
        let count = self.refused.len();
        let of = count as u64 + self.accepted + self.duplicates;
        let refused: Vec<_> = refused
            .map(|(line, refusal)| json!({ "line": line, "code": refusal.code.as_str(), "message": refusal.message }))
            .collect();
        Problem::new(status, code, format!("{count} of {of} events were refused, the others are taken")).with(json!({
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "lsn": self.lsn.0,
            "entities": self.links(),
            "refused": refused,
        }))
    }
}
