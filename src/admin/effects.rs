//! `GET /v1/effects`, and `POST /v1/entities/{type}/{key}/effects/{effect}/resolve` and `…/retry`: calls that have not
//! succeeded, and what a person says of them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::entities::{READS_AT_ONCE, SCANNED_MAX, keys};
use super::entity::asked_for;
use super::mandate::{Asked, body};
use super::path::part;
use super::problem::{Problem, known};
use super::query::{page_items, query};
use crate::model::dealings::{Effect, EffectOutcome, EffectStage};
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::outgoing::effect_id;
use crate::model::packed::Packed;
use crate::model::record::Input;
use crate::model::settle::Noted;
use crate::rules::EntityRules;

/// So many entities are looked at in one go.
const LOOKED_AT_ONCE: usize = 500;
/// What a call may have been answered with.
const STATUSES: RangeInclusive<u16> = 100..=599;
const STATES: [&str; 4] = ["requested", "succeeded", "failed", "unknown"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    r#type: Option<String>,
    effect: Option<String>,
    state: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Query {
    fn is_wanted(&self, effect: &Effect) -> bool {
        self.effect.as_deref().is_none_or(|name| name == &*effect.name)
            && match self.state.as_deref() {
                Some(state) => state == effect.stage.as_str(),
                None => effect.stage != EffectStage::Succeeded,
            }
    }
}

/// Effects that are open, failed, or of which nobody knows, or those in a state: in the order of types and keys.
pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    if let Some(state) = query.state.as_deref().filter(|state| !STATES.contains(state)) {
        return Err(Problem::invalid(format!("state is {state:.80?}; it may be {}", STATES.join(", "))));
    }
    let types = api.ruleset.types();
    if let Some(kind) = &query.r#type {
        known("type: no entity type", kind, types.iter().map(|rules| &*rules.name))?;
    }
    if let Some(effect) = &query.effect {
        let asked = types.iter().filter(|rules| query.r#type.as_deref().is_none_or(|kind| kind == &*rules.name));
        known("effect: no effect", effect, asked.flat_map(|rules| &rules.effects).map(|effect| &*effect.name))?;
    }
    let (mut kind, mut key) = match query.after.as_deref().map(|after| after.split_once('/')) {
        None => (None, None),
        Some(Some((kind, key))) => (Some(kind.to_owned()), Some(key.to_owned())),
        Some(None) => return Err(Problem::invalid("after: it is written TYPE/KEY, as `next` is")),
    };
    let mut found = Found { items: Vec::new(), limit, scanned: 0 };
    let is_wanted = |rules: &&Arc<EntityRules>| {
        !rules.effects.is_empty() && query.r#type.as_deref().is_none_or(|kind| kind == &*rules.name)
    };
    for rules in types.iter().filter(is_wanted) {
        if kind.as_deref().is_some_and(|kind| kind != &*rules.name) {
            continue;
        }
        kind = None;
        if let Some(next) = found.collect(&api, rules, key.take(), &query).await? {
            return Ok(answer(&found, Some(next)));
        }
    }
    Ok(answer(&found, None))
}

fn answer(found: &Found, next: Option<String>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "items": found.items, "next": next }))
}

struct Found {
    items: Vec<Value>,
    limit: usize,
    scanned: usize,
}

impl Found {
    /// Adds those of a type; where to go on, if there may be more than fit.
    async fn collect(
        &mut self,
        api: &web::Data<Api>,
        rules: &Arc<EntityRules>,
        mut after: Option<String>,
        query: &Query,
    ) -> Result<Option<String>, Problem> {
        loop {
            let keys = keys(api, &rules.name, after.as_deref(), "", LOOKED_AT_ONCE).await?;
            let is_end = keys.len() < LOOKED_AT_ONCE;
            let read = |key: Arc<str>| async {
                let entity = EntityKey::new(&rules.name, key);
                (api.shards.read(&entity).await, entity)
            };
            let mut reading = stream::iter(keys.into_iter().map(read)).buffered(READS_AT_ONCE);
            while let Some((snapshot, entity)) = reading.next().await {
                let dealings = snapshot.as_ref().and_then(|snapshot| snapshot.state.dealings.as_deref());
                let effects = dealings.iter().flat_map(|dealings| &dealings.effects);
                let wanted: Vec<Value> =
                    effects.filter(|it| query.is_wanted(it)).map(|it| document(&entity, it)).collect();
                // Those of one entity stay together; a page may have a few more for it.
                if self.scanned >= SCANNED_MAX || (self.items.len() >= self.limit && !wanted.is_empty()) {
                    return Ok(Some(format!("{}/{}", rules.name, after.unwrap_or_default())));
                }
                self.scanned += 1;
                self.items.extend(wanted);
                after = Some(entity.key().to_owned());
            }
            if is_end {
                return Ok(None);
            }
        }
    }
}

fn document(entity: &EntityKey, effect: &Effect) -> Value {
    let outcome = effect.outcome.as_ref();
    json!({
        "type": entity.kind(),
        "key": entity.key(),
        "effect": effect.name,
        "state": effect.stage.as_str(),
        "id": effect_id(entity, &effect.name, effect.run),
        "attempts": effect.attempts,
        "at": effect.at.to_string(),
        "status": outcome.and_then(|outcome| outcome.status),
        "error": outcome.and_then(|outcome| outcome.error.as_deref()),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolution {
    state: String,
    status: Option<u16>,
    response: Option<Value>,
    #[serde(flatten)]
    asked: Asked,
}

/// An effect came to what a person says.
pub(super) async fn resolve(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let Resolution { state, status, response, asked } = body(&asked)?;
    let stage = match state.as_str() {
        "succeeded" => EffectStage::Succeeded,
        "failed" => EffectStage::Failed,
        other => return Err(Problem::invalid(format!("state is {other:.80?}; it may be succeeded or failed"))),
    };
    if let Some(status) = status.filter(|status| !STATUSES.contains(status)) {
        let [first, last] = [STATUSES.start(), STATUSES.end()];
        return Err(Problem::invalid(format!("status is {status}; those of HTTP are from {first} to {last}")));
    }
    let mandate = asked.mandate()?;
    let depth_max = usize::try_from(api.limits.json_depth_max).unwrap_or(usize::MAX);
    let response = response.map(|response| json::parse(response.to_string().as_bytes(), depth_max)).transpose()?;
    let (entity, effect) = effect_asked_for(&api, &request).await?;
    let said = || format!("said by hand ({}): {}", mandate.by, mandate.why).into_boxed_str();
    let error = (stage == EffectStage::Failed).then(said);
    let outcome = EffectOutcome { stage, status, response: response.as_ref().map(Packed::new), error };
    let (name, run) = (effect.name.clone(), effect.run);
    let input = Input::Resolved { effect: name, run, outcome: Box::new(outcome), mandate };
    note(&api, &entity, &effect, input).await
}

/// An effect that failed, or of which nobody knows, is asked for once more: the same request under the same id.
pub(super) async fn retry(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    let (entity, effect) = effect_asked_for(&api, &request).await?;
    let input = Input::AskedAgain { effect: effect.name.clone(), run: effect.run, mandate };
    note(&api, &entity, &effect, input).await
}

async fn effect_asked_for(api: &Api, request: &HttpRequest) -> Result<(EntityKey, Effect), Problem> {
    let (_, entity) = asked_for(api, request)?;
    let name = part(request, 5)?;
    let effect = effect_of(api, &entity, &name).await;
    let unknown = || Problem::not_found(format!("{entity} has asked for no effect {name:.80?}"));
    Ok((entity.clone(), effect.ok_or_else(unknown)?))
}

async fn effect_of(api: &Api, entity: &EntityKey, name: &str) -> Option<Effect> {
    api.shards.read(entity).await?.state.dealings?.effect(name).cloned()
}

async fn note(api: &Api, entity: &EntityKey, effect: &Effect, input: Input) -> Result<HttpResponse, Problem> {
    let noted = api.shards.step(entity.clone(), input).await;
    let noted = noted.map_err(|_| Problem::unavailable("draining", "the node is about to end"))?;
    let now = effect_of(api, entity, &effect.name).await.unwrap_or_else(|| effect.clone());
    if noted == Noted::Nothing {
        let why = format!("the effect is {}, so there is nothing to do", now.stage.as_str());
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", why));
    }
    Ok(HttpResponse::Ok().json(document(entity, &now)))
}
