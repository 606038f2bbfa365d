//! Sources that are paths of HTTP: what they receive, and the answer that their senders expect.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::api::{Api, NodeState};
use super::events::{Summary, receive};
use super::problem::Problem;
use crate::ingress::{self, BUSY_PATIENCE, Envelope, Inbox, Patience, SourceMetrics};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::trust::BadSignature;

/// A source and what it counts.
pub struct Path {
    pub inbox: Inbox,
    pub metrics: SourceMetrics,
}

/// Takes a body and answers once all of its events are durable: with what the sender expects, or with why not.
pub(super) async fn post(
    api: web::Data<Api>,
    path: Arc<Path>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let state = *api.state.borrow();
    if state == NodeState::Draining {
        return Err(Problem::unavailable(state.as_str(), "the node is about to end; send it again later"));
    }
    let summary = match take(&api, &path, &request, payload).await {
        Ok(summary) => summary,
        Err(refusal) => {
            path.metrics.refused(&api.metrics, refusal.code);
            return Err(refused(refusal));
        }
    };
    // One refusal says all; several are listed, unless all of them only say that it should be tried again.
    let all_busy = summary.refused.iter().all(|(_, refusal)| refusal.code == Code::Busy);
    if summary.refused.len() > 1 && !all_busy {
        return Err(summary.problem());
    }
    if let Some((_, refusal)) = summary.refused.first() {
        return Err(refused(refusal.clone()));
    }
    match &path.inbox.respond {
        None => Ok(summary.accepted()),
        Some(respond) => {
            let mut response = HttpResponse::build(StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK));
            if let Some(content_type) = &respond.content_type {
                response.content_type(content_type.as_str());
            }
            Ok(response.body(respond.body.clone()))
        }
    }
}

/// Such senders know nothing of 429, but that a server may be unavailable for a while.
fn refused(refusal: Refusal) -> Problem {
    match refusal.code {
        Code::Busy => Problem::unavailable(Code::Busy.as_str(), refusal.message),
        _ => refusal.into(),
    }
}

async fn take(api: &Api, path: &Path, request: &HttpRequest, payload: web::Payload) -> Result<Summary, Refusal> {
    let inbox = &path.inbox;
    let headers = request.headers().iter();
    let headers =
        headers.filter_map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?)));
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let envelope = Envelope {
        path: request.path(),
        query: query.map(web::Query::into_inner).unwrap_or_default(),
        headers: headers.collect(),
    };
    let now = u64::try_from(Timestamp::now().millis() / 1000).unwrap_or_default();
    let unsigned = |error: BadSignature| Refusal::new(Code::Unauthorized, error.to_string());
    inbox.verify_head(&envelope, now).map_err(unsigned)?;
    let (body, _room) = receive(api, request, payload, ("event_bytes_max", inbox.body_bytes_max() as u64)).await?;
    inbox.verify(&envelope, &body, now).map_err(unsigned)?;
    let (events, bytes) = inbox.read(&envelope, &body, Timestamp::now())?;
    let patience = Patience::Until(BUSY_PATIENCE);
    let posted = ingress::post(&api.admission, &path.metrics, events, bytes.max(body.len()), patience).await;
    Ok(Summary::new(posted))
}
