//! `GET /v1/entities/{type}/{key}` and below.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::path::part;
use super::problem::{Problem, suggest};
use super::query::{query, timeout};
use super::waiting::{Wait, deadline, wait_committed, wait_for};
use crate::actors::Snapshot;
use crate::ingress::SOURCE_DEFAULT;
use crate::model::ids::{EntityKey, IdentityHash, Lsn};
use crate::model::life::End;
use crate::rules::{Document, EntityRules};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    wait: Option<String>,
    timeout: Option<String>,
    min_lsn: Option<u64>,
}

pub(super) async fn show(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (rules, entity) = asked_for(&api, &request)?;
    let query: Query = query(&request)?;
    let wait = query.wait.as_deref().map(|text| Wait::parse(text, std::iter::once(&*rules))).transpose()?;
    let deadline = deadline(timeout(query.timeout.as_deref())?);
    if let Some(min_lsn) = query.min_lsn {
        wait_committed(&api, Lsn(min_lsn), deadline).await?;
    }
    if let Some(wait) = &wait {
        wait_for(&api, std::slice::from_ref(&entity), wait, deadline).await;
    }
    let snapshot = there(&api, &entity).await?;
    let is_met = wait.is_none_or(|wait| wait.is_met(&snapshot));
    let status = if is_met { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(HttpResponse::build(status).content_type("application/json").body(document(&rules, &entity, &snapshot)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    source: Option<String>,
}

pub(super) async fn event_status(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (_, entity) = asked_for(&api, &request)?;
    let id = part(&request, 5)?;
    let source = query::<EventQuery>(&request)?.source.unwrap_or_else(|| SOURCE_DEFAULT.to_owned());
    let identity = IdentityHash::of(&source, &id);
    let state = there(&api, &entity).await?.state;
    let counted = if state.identities.get(identity).is_some() {
        true
    } else if state.identities.has_spilled() {
        let (store, entity) = (api.store.clone(), entity.clone());
        let stored = web::block(move || store.identity(&entity, identity)).await;
        stored
            .map_err(|_| Problem::internal("the node is about to end"))?
            .map_err(|error| unreadable(&api, error))?
            .is_some()
    } else {
        false
    };
    if !counted {
        return Err(Problem::not_found(format!("{entity} has counted no event {id:.80?} of source {source:.80?}")));
    }
    Ok(HttpResponse::Ok().json(json!({ "state": "applied", "source": source, "id": id })))
}

/// The entity that the path names.
pub(super) fn asked_for(api: &Api, request: &HttpRequest) -> Result<(Arc<EntityRules>, EntityKey), Problem> {
    let rules = entity_type(api, request)?;
    let key = part(request, 3)?;
    let entity = EntityKey::new(rules.name.clone(), key);
    Ok((rules, entity))
}

/// The entity type that the path names.
pub(super) fn entity_type(api: &Api, request: &HttpRequest) -> Result<Arc<EntityRules>, Problem> {
    let name = part(request, 2)?;
    api.ruleset.get(&name).cloned().ok_or_else(|| {
        let known = api.ruleset.types().iter().map(|rules| &*rules.name);
        Problem::not_found(format!("no entity type is called {name:.80?}{}", suggest(&name, known)))
    })
}

/// The entity, which must be there.
async fn there(api: &Api, entity: &EntityKey) -> Result<Snapshot, Problem> {
    let snapshot = api.shards.read_ended(entity).await.ok_or_else(|| unknown(entity))?;
    match snapshot.state.end() {
        Some(end) => Err(gone(entity, end)),
        None => Ok(snapshot),
    }
}

/// For one whose life has ended.
pub(super) fn gone(entity: &EntityKey, End { at, how }: End) -> Problem {
    let what =
        format!("{} {:.200?} was {} at {at}; its next event begins it anew", entity.kind(), entity.key(), how.as_str());
    Problem::new(StatusCode::GONE, how.as_str(), what).with(json!({ "at": at.to_string() }))
}

pub(super) fn unknown(entity: &EntityKey) -> Problem {
    Problem::not_found(format!("nothing was heard of {} {:.200?}", entity.kind(), entity.key()))
}

/// For a store or journal that cannot be read. That is final for the process, whoever meets it.
pub(super) fn unreadable(api: &Api, error: impl std::error::Error) -> Problem {
    (api.fatal)(&error);
    Problem::internal(error.to_string())
}

/// The entity's document as JSON.
pub(super) fn document(rules: &EntityRules, entity: &EntityKey, snapshot: &Snapshot) -> Vec<u8> {
    Document::new(rules, entity.key(), &snapshot.state, &snapshot.lsns).to_json()
}

/// The documents of `entities`, separated by commas, and whether any has what is waited for.
pub(super) async fn documents(api: &Api, entities: &[EntityKey], wait: &Wait) -> (Vec<u8>, bool) {
    let mut written = Vec::new();
    let mut is_met = false;
    for entity in entities {
        let Some(rules) = api.ruleset.get(entity.kind()) else { continue };
        let Some(snapshot) = api.shards.read(entity).await else { continue };
        is_met |= wait.is_met(&snapshot);
        push_item(&mut written, &document(rules, entity, &snapshot));
    }
    (written, is_met)
}

/// Adds an item to the content of a JSON array.
pub(super) fn push_item(items: &mut Vec<u8>, item: &[u8]) {
    if !items.is_empty() {
        items.push(b',');
    }
    items.extend_from_slice(item);
}
