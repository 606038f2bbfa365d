//! `GET /v1/entities` and `GET /v1/entities/{type}`: which types there are, and pages of entities in the order of keys.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::entity::{StreamQuery, document, entity_type, push_item, unreadable};
use super::problem::{Problem, suggest};
use super::query::{PAGE_BYTES_MAX, page_items, query};
use super::streams::{self, Start, Subject};
use crate::actors::Snapshot;
use crate::model::ids::EntityKey;
use crate::rules::{EntityRules, Expr, matches};

/// Most entities that a request looks at; a filter that few pass gives a short page and where to go on.
pub(super) const SCANNED_MAX: usize = 10_000;
/// So many keys are looked up at a time.
pub(super) const KEYS_AT_ONCE: usize = 500;
/// So many entities are asked at a time.
pub(super) const READS_AT_ONCE: usize = 32;

/// Each type with how many entities it has, and how many of them are in memory.
pub(super) fn types(api: web::Data<Api>) -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().json(json!({ "types": type_counts(&api) })))
}

/// The counts of every type, as documents.
pub(super) fn type_counts(api: &Api) -> Vec<Value> {
    let count = |rules: &Arc<EntityRules>| {
        let metrics = api.metrics.entity_type(&rules.name, &[], &[], &[]);
        let mut shown = json!({ "type": *rules.name, "entities": metrics.entities.get(), "live": metrics.live.get() });
        let (is_paused, paused, held) = (api.pauses.is_paused(&rules.name), metrics.paused.get(), metrics.held.get());
        if is_paused || paused > 0 || held > 0 {
            shown["paused"] = is_paused.into();
            shown["entities_paused"] = paused.into();
            shown["events_held"] = held.into();
        }
        shown
    };
    api.ruleset.types().iter().map(count).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    prefix: String,
    waiting: Option<String>,
    incomplete: Option<String>,
    paused: Option<String>,
    r#where: Option<String>,
}

pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let rules = entity_type(&api, &request)?;
    if streams::wants_stream(&request) {
        let start = Start::of(&request, query::<StreamQuery>(&request)?.after.as_deref())?;
        return streams::respond(&api, &request, Subject::Type(rules), start).await;
    }
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let filter = Filter::new(&rules, &query)?;
    let mut items = Vec::new();
    let next = collect(&api, &rules, query.after, &query.prefix, limit, &filter, &mut items).await?;
    let mut body = br#"{"items":["#.to_vec();
    body.append(&mut items);
    body.extend_from_slice(br#"],"next":"#);
    body.extend_from_slice(json!(next).to_string().as_bytes());
    body.push(b'}');
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// Which entities are shown.
#[derive(Default)]
pub(super) struct Filter {
    /// Any of these members of `complete` is missing; no restriction if there is none.
    missing: Option<u64>,
    /// Any of these references waits.
    waiting: Option<u64>,
    /// It is paused itself, or holds events.
    is_paused: bool,
    expr: Option<Expr>,
}

impl Filter {
    fn new(rules: &EntityRules, query: &Query) -> Result<Self, Problem> {
        let missing = query.incomplete.as_deref().map(|field| match field {
            "" | "true" => Ok(u64::MAX),
            name => bit_of("incomplete: the fields of `complete`", rules, rules.missing_names(u64::MAX), name),
        });
        let waiting = query.waiting.as_deref().map(|reference| match reference {
            "" | "true" => Ok(u64::MAX),
            name => bit_of("waiting: the references", rules, rules.references.iter().map(|it| &*it.name), name),
        });
        let expr = query.r#where.as_deref().map(|text| compile(rules, text));
        let is_paused = match query.paused.as_deref() {
            None => false,
            Some("" | "true") => true,
            Some(other) => return Err(Problem::invalid(format!("paused is {other:.80?}; it may be true"))),
        };
        Ok(Filter { missing: missing.transpose()?, waiting: waiting.transpose()?, is_paused, expr: expr.transpose()? })
    }

    fn is_any(&self) -> bool {
        self.missing.is_none() && self.waiting.is_none() && !self.is_paused && self.expr.is_none()
    }

    /// Those of which a condition is true; all if there is none.
    pub(super) fn of_condition(rules: &EntityRules, text: Option<&str>) -> Result<Self, Problem> {
        let expr = text.map(|text| compile(rules, text)).transpose()?;
        Ok(Filter { expr, ..Filter::default() })
    }

    pub(super) fn passes(&self, rules: &EntityRules, entity: &EntityKey, snapshot: &Snapshot) -> bool {
        let gaps = snapshot.state.gaps().unwrap_or_default();
        self.missing.is_none_or(|mask| gaps.missing & mask != 0)
            && self.waiting.is_none_or(|mask| gaps.waiting & mask != 0)
            && (!self.is_paused || snapshot.state.pause().is_some())
            && self.expr.as_ref().is_none_or(|expr| matches(rules, entity.key(), &snapshot.state, expr))
    }
}

fn bit_of<'a>(
    what: &str,
    rules: &EntityRules,
    known: impl Iterator<Item = &'a str>,
    name: &str,
) -> Result<u64, Problem> {
    let known: Vec<&str> = known.collect();
    let bit = known.iter().position(|known| *known == name);
    bit.map(|bit| 1 << bit).ok_or_else(|| {
        let why = format!("{what} of `{}` know no {name:.80?}", rules.name);
        Problem::invalid(why + &suggest(name, known))
    })
}

fn compile(rules: &EntityRules, text: &str) -> Result<Expr, Problem> {
    let expr = rules.compile_filter(text).map_err(|error| {
        let column = text.get(..error.start).map_or(error.start, |before| before.chars().count()) + 1;
        let help = error.help.map(|help| format!("; {help}")).unwrap_or_default();
        Problem::invalid(format!("where: {} (at character {column}){help}", error.message))
    })?;
    if !expr.may_be_bool() {
        return Err(Problem::invalid("where: a condition must be true or false; compare it: `… == …`"));
    }
    Ok(expr)
}

/// Writes the entities that pass into `items`; the key to go on after, if there may be more.
async fn collect(
    api: &web::Data<Api>,
    rules: &Arc<EntityRules>,
    mut after: Option<String>,
    prefix: &str,
    limit: usize,
    filter: &Filter,
    items: &mut Vec<u8>,
) -> Result<Option<String>, Problem> {
    let (mut found, mut scanned) = (0, 0);
    loop {
        let wanted = if filter.is_any() { limit - found + 1 } else { KEYS_AT_ONCE };
        let keys = keys(api, &rules.name, after.as_deref(), prefix, wanted).await?;
        let is_end = keys.len() < wanted;
        let read = |key: Arc<str>| async {
            let entity = EntityKey::new(&rules.name, key);
            let snapshot = api.shards.read(&entity).await;
            (entity, snapshot)
        };
        let mut reading = stream::iter(keys.into_iter().map(read)).buffered(READS_AT_ONCE);
        while let Some((entity, snapshot)) = reading.next().await {
            if found == limit || scanned == SCANNED_MAX {
                return Ok(after);
            }
            scanned += 1;
            if let Some(snapshot) = snapshot
                && filter.passes(rules, &entity, &snapshot)
            {
                let document = document(rules, &entity, &snapshot);
                if found > 0 && items.len() + document.len() > PAGE_BYTES_MAX {
                    return Ok(after);
                }
                found += 1;
                push_item(items, &document);
            }
            after = Some(entity.key().to_owned());
        }
        if is_end {
            return Ok(None);
        }
    }
}

/// The next keys in byte order, whether stored or not.
pub(super) async fn keys(
    api: &web::Data<Api>,
    kind: &Arc<str>,
    after: Option<&str>,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Arc<str>>, Problem> {
    // In this order: what is stored in between is found there.
    let mut keys = api.shards.unsaved(kind, after, prefix, limit).await;
    let (store, kind) = (api.store.clone(), kind.clone());
    let (after, prefix) = (after.map(str::to_owned), prefix.to_owned());
    let stored = web::block(move || store.keys(&kind, after.as_deref(), &prefix, limit)).await;
    keys.extend(
        stored.map_err(|_| Problem::internal("the node is about to end"))?.map_err(|error| unreadable(api, error))?,
    );
    keys.sort_unstable();
    keys.dedup();
    keys.truncate(limit);
    Ok(keys)
}
