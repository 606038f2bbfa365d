//! `GET /v1/sinks`, and `POST /v1/sinks/{name}/skip`: what a sink is stuck on becomes a dead letter, and its key goes on.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::mandate::{Asked, body};
use super::path::part;
use super::problem::{Problem, suggest};
use crate::egress::{SinkControl, SkipError, Stuck, Wanted};
use crate::model::ids::Lsn;

/// So many stuck decisions are shown of each sink.
const STUCK_SHOWN_MAX: usize = 100;

/// The node's sinks.
#[derive(Clone)]
pub struct Sinks {
    /// Their documents: a list.
    pub listed: Arc<dyn Fn() -> Value + Send + Sync>,
    /// What may be asked of each, by name.
    pub controls: HashMap<String, SinkControl>,
}

/// All sinks, with what they are stuck on.
pub(super) async fn list(api: web::Data<Api>) -> HttpResponse {
    let mut listed = (api.sinks.listed)();
    for sink in listed.as_array_mut().into_iter().flatten() {
        let control = sink["name"].as_str().and_then(|name| api.sinks.controls.get(name));
        let Some(control) = control else { continue };
        let stuck = control.stuck().await;
        sink["stuck_keys"] = stuck.len().into();
        sink["stuck"] = stuck.iter().take(STUCK_SHOWN_MAX).map(shown).collect();
    }
    HttpResponse::Ok().json(json!({ "items": listed, "next": null }))
}

fn shown(stuck: &Stuck) -> Value {
    json!({
        "decision": stuck.id,
        "lsn": stuck.lsn.0,
        "type": stuck.entity.kind(),
        "key": stuck.entity.key(),
        "attempts": stuck.attempts,
        "error": stuck.why,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    decision: Option<String>,
    lsn: Option<u64>,
    #[serde(flatten)]
    asked: Asked,
}

/// Skips a decision that a key waits for.
pub(super) async fn skip(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let name = part(&request, 2)?;
    let control = api.sinks.controls.get(&name).ok_or_else(|| {
        let known = api.sinks.controls.keys().map(String::as_str);
        Problem::not_found(format!("no sink is called {name:.80?}{}", suggest(&name, known)))
    })?;
    let Skip { decision, lsn, asked } = body(&asked)?;
    let wanted = match (decision, lsn) {
        (Some(id), None) => Wanted::Id(id),
        (None, Some(lsn)) => Wanted::Lsn(Lsn(lsn)),
        _ => return Err(Problem::invalid("say which: `decision`, its id, or `lsn`")),
    };
    let skipped = control.skip(wanted, asked.mandate()?).await;
    let decision = skipped.map_err(|error| {
        let why = error.to_string();
        match error {
            SkipError::Unknown => Problem::not_found(why),
            SkipError::Busy => Problem::unavailable("busy", why),
            SkipError::InOrder | SkipError::Delivered | SkipError::Again => {
                Problem::new(StatusCode::CONFLICT, "conflict", why)
            }
        }
    })?;
    Ok(HttpResponse::Ok().json(json!({ "sink": name, "skipped": decision })))
}
