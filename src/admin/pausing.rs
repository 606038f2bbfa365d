//! `POST …/pause` and `…/resume` of an entity or of a whole type, and `GET /v1/paused`: what is paused, by whom, and how many
//! events are held.

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::entities::READS_AT_ONCE;
use super::entity::{asked_for, entity_type};
use super::mandate::{Asked, body};
use super::problem::{Problem, known};
use super::query::{page_items, query};
use crate::actors::Standing;
use crate::model::ids::EntityKey;
use crate::model::mandate::Mandate;
use crate::model::pause::ByHand;
use crate::model::record::Input;
use crate::model::settle::Noted;
use crate::model::state::State;

/// An entity is paused: what comes for it is held.
pub(super) async fn pause(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    change(&api, &request, Input::Paused(mandate)).await
}

/// What an entity holds is applied, in the order it came.
pub(super) async fn resume(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    change(&api, &request, Input::Resumed(mandate)).await
}

async fn change(api: &Api, request: &HttpRequest, input: Input) -> Result<HttpResponse, Problem> {
    let (_, entity) = asked_for(api, request)?;
    let noted = api.shards.step(entity.clone(), input).await.map_err(|_| ending())?;
    let snapshot = api.shards.read(&entity).await;
    // Without a pause and without events there is no such entity.
    let mut document = shown(&snapshot.map(|snapshot| snapshot.state).unwrap_or_default());
    document["type"] = entity.kind().into();
    document["key"] = entity.key().into();
    document["changed"] = matches!(noted, Noted::Recorded(_)).into();
    Ok(HttpResponse::Ok().json(document))
}

/// All entities of a type are paused.
pub(super) async fn pause_type(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    change_type(&api, &request, mandate, true).await
}

/// What the entities of a type hold is applied, but for those that are paused themselves.
pub(super) async fn resume_type(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    change_type(&api, &request, mandate, false).await
}

async fn change_type(
    api: &Api,
    request: &HttpRequest,
    mandate: Mandate,
    pauses: bool,
) -> Result<HttpResponse, Problem> {
    let kind = entity_type(api, request)?.name.clone();
    let was_paused = api.pauses.is_paused(&kind);
    if pauses || was_paused {
        let what = if pauses { "paused" } else { "resumed" };
        tracing::info!(by = %mandate.by, why = %mandate.why, "the type `{kind}` is {what}");
        let input = if pauses { Input::Paused(mandate) } else { Input::Resumed(mandate) };
        api.pauses.change(&api.shards, &kind, input).await.ok_or_else(ending)?;
    }
    let mut document = type_shown(api, &kind).await;
    document["changed"] = (was_paused != api.pauses.is_paused(&kind)).into();
    Ok(HttpResponse::Ok().json(document))
}

fn ending() -> Problem {
    Problem::unavailable("draining", "the node is about to end")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    r#type: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// Types that are paused, and a page of the entities that are paused themselves or hold events.
pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    if let Some(kind) = &query.r#type {
        known("type: no entity type", kind, api.ruleset.types().iter().map(|rules| &*rules.name))?;
    }
    let after = query.after.as_deref().map(|after| {
        let split = after.split_once('/').map(|(kind, key)| EntityKey::new(kind, key));
        split.ok_or_else(|| Problem::invalid("after: it is written TYPE/KEY, as `next` is"))
    });
    let is_known = api.pauses.is_known();
    let mut listed = api.shards.paused(query.r#type.as_deref(), after.transpose()?.as_ref(), limit + 1).await;
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| has_more).map(|(entity, _)| format!("{}/{}", entity.kind(), entity.key()));
    let read = |(entity, standing): (EntityKey, Standing)| {
        let api = api.clone();
        async move {
            let snapshot = api.shards.read(&entity).await;
            // What has been resumed meanwhile is as it was when it was listed.
            let mut item = snapshot.map_or_else(|| json!({ "held": standing.held }), |it| shown(&it.state));
            item["type"] = entity.kind().into();
            item["key"] = entity.key().into();
            item
        }
    };
    let items: Vec<Value> = stream::iter(listed.into_iter().map(read)).buffered(READS_AT_ONCE).collect().await;
    let mut types = Vec::new();
    for rules in api.ruleset.types() {
        if api.pauses.is_paused(&rules.name) && query.r#type.as_deref().is_none_or(|kind| kind == &*rules.name) {
            types.push(type_shown(&api, &rules.name).await);
        }
    }
    Ok(HttpResponse::Ok().json(json!({ "types": types, "items": items, "next": next, "complete": is_known })))
}

/// How it stands with an entity.
fn shown(state: &State) -> Value {
    let pause = state.pause();
    json!({
        "paused": pause.and_then(|pause| pause.by_hand.as_ref()).map(by_hand_shown),
        "held": pause.map_or(0, |pause| pause.held.len()),
    })
}

async fn type_shown(api: &Api, kind: &str) -> Value {
    let said = api.pauses.said(&api.shards, kind).await.filter(|said| said.is_paused);
    let held = api.metrics.entity_type(kind, &[], &[], &[]).held.get();
    json!({ "type": kind, "paused": said.map(|said| by_hand_shown(&said.by_hand)), "held": held })
}

fn by_hand_shown(by_hand: &ByHand) -> Value {
    let ByHand { mandate, since } = by_hand;
    json!({ "since": since.to_string(), "by": mandate.by, "why": mandate.why })
}
