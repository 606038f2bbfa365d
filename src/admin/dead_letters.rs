//! `GET /v1/dead-letters` and below: what could not be taken or delivered, and nobody could be told no about.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::entities::{READS_AT_ONCE, keys};
use super::path::part;
use super::problem::Problem;
use super::query::{page_items, query};
use crate::actors::Snapshot;
use crate::model::ids::EntityKey;
use crate::model::system::{DEAD_LETTER_KIND, Origin, SystemState};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
    sink: Option<String>,
    source: Option<String>,
}

/// Dead letters in the order of their ids: by sink and as they stand in the journal, then by source and place. Without their bodies.
pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let prefix = match (query.sink, query.source) {
        (None, None) => String::new(),
        (Some(sink), None) => format!("sink.{sink}."),
        (None, Some(source)) => format!("source.{source}."),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("a dead letter is of a sink or of a source: ask for one of them"));
        }
    };
    let mut ids = keys(&api, &Arc::from(DEAD_LETTER_KIND), query.after.as_deref(), &prefix, limit + 1).await?;
    let has_more = ids.len() > limit;
    ids.truncate(limit);
    let next = ids.last().filter(|_| has_more).cloned();
    let read = |id: Arc<str>| {
        let api = api.clone();
        async move { (read(&api, &id).await, id) }
    };
    let read = stream::iter(ids.into_iter().map(read)).buffered(READS_AT_ONCE);
    let items: Vec<Value> =
        read.filter_map(async |(snapshot, id)| document(&id, &snapshot?, WithBody::No)).collect().await;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next.as_deref() })))
}

/// One dead letter with its body: as text, or in base64 if it is none.
pub(super) async fn show(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = part(&request, 2)?;
    let snapshot = read(&api, &id).await;
    let shown = snapshot.and_then(|snapshot| document(&id, &snapshot, WithBody::Yes));
    let unknown = || Problem::not_found(format!("no dead letter is called {id:.200?}"));
    Ok(HttpResponse::Ok().json(shown.ok_or_else(unknown)?))
}

async fn read(api: &Api, id: &str) -> Option<Snapshot> {
    api.shards.read(&EntityKey::new(DEAD_LETTER_KIND, id)).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WithBody {
    Yes,
    No,
}

fn document(id: &str, snapshot: &Snapshot, with_body: WithBody) -> Option<Value> {
    let Some(SystemState::DeadLetter(letter)) = snapshot.state.system.as_deref() else { return None };
    let mut document = json!({
        "id": id,
        "time": snapshot.state.now.to_string(),
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "bytes": letter.body.len(),
    });
    match &letter.origin {
        Origin::Sink { name, lsn, .. } => {
            document["sink"] = name.as_ref().into();
            document["lsn"] = lsn.0.into();
            document["decision"] = letter.id.as_ref().into();
        }
        Origin::Source { name, position } => {
            document["source"] = name.as_ref().into();
            document["position"] = position.as_ref().into();
            document["event"] = letter.id.as_ref().into();
        }
    }
    if let Some(entity) = &letter.entity {
        document["type"] = entity.kind().into();
        document["key"] = entity.key().into();
    }
    if with_body == WithBody::Yes {
        match std::str::from_utf8(&letter.body) {
            Ok(text) => document["body"] = text.into(),
            Err(_) => document["body_base64"] = STANDARD.encode(&letter.body).into(),
        }
    }
    Some(document)
}
