//! `DELETE /v1/entities/{type}/{key}`: has an entity forgotten; `GET /v1/forgotten`: what was asked for, and how far it is.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify, watch};

use super::api::Api;
use super::entities::{READS_AT_ONCE, keys};
use super::entity::{asked_for, gone, unknown};
use super::mandate::Asked;
use super::problem::Problem;
use super::query::{page_items, query};
use crate::journal::Fate;
use crate::model::codec::CodecError;
use crate::model::ids::EntityKey;
use crate::model::life::Ending;
use crate::model::record::{Input, Record};
use crate::model::system::{FORGET_KIND, Forget, ForgetStage, SystemState};
use crate::model::time::Timestamp;

/// What forgets entities.
#[derive(Clone)]
pub struct Forgetting {
    /// Tells it that something new is asked for.
    pub asked: Arc<Notify>,
    /// What it does, in words; empty: nothing.
    pub doing: watch::Receiver<String>,
    /// What becomes of records that the journal still has as they were; none: there are no such.
    pub pending: watch::Receiver<Option<ReadAs>>,
    /// Locked while it is noted what is asked for, or how far that is.
    pub noting: Arc<Mutex<()>>,
}

/// Says what becomes of the record in these bytes.
pub type ReadAs = Arc<dyn Fn(&[u8]) -> Result<Fate, CodecError> + Send + Sync>;

impl Forgetting {
    /// The record in these bytes, with nothing in it that is to be forgotten; none: all of it is.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Option<Record>, CodecError> {
        let read_as = self.pending.borrow().clone();
        match read_as.map_or(Ok(Fate::Keep), |read_as| read_as(bytes))? {
            Fate::Keep => Record::decode(bytes).map(Some),
            Fate::Replace(bytes) => Record::decode(&bytes).map(Some),
            Fate::Blank => Ok(None),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(flatten)]
    asked: Asked,
}

pub(super) async fn forget(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let (_, entity) = asked_for(&api, &request)?;
    let asked = if body.trim_ascii().is_empty() { Asked::default() } else { parse(&body)? };
    let mandate = asked.mandate()?;
    let key = EntityKey::new(FORGET_KIND, Forget::key(&entity));
    let _alone = api.forgetting.noting.lock().await;
    // Also where rules have made other entities of its events: they stand in its records.
    let snapshot = api.shards.read_whole(&entity).await.ok_or_else(|| unknown(&entity))?;
    let lives_again = |forget: &Forget| forget.stage != ForgetStage::Asked && snapshot.state.end().is_none();
    if let Some(open) = read(&api, &key).await.filter(is_open).filter(|open| !lives_again(open)) {
        return Ok(HttpResponse::Accepted().json(document(&api, &open)));
    }
    if let Some(end) = snapshot.state.end().filter(|end| end.how == Ending::Forgotten) {
        return Err(gone(&entity, end));
    }
    let forget = Forget { entity, mandate, asked: Timestamp::now(), stage: ForgetStage::Asked };
    let noted = api.shards.note(key, Input::Forget(Box::new(forget.clone()))).await;
    noted.map_err(|_| Problem::internal("the node is about to end"))?;
    api.forgetting.asked.notify_one();
    Ok(HttpResponse::build(StatusCode::ACCEPTED).json(document(&api, &forget)))
}

fn parse(body: &[u8]) -> Result<Asked, Problem> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        Problem::invalid(format!("the body must be like {{\"by\": \"…\", \"why\": \"…\"}}: {error}"))
    })?;
    Ok(body.asked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    prefix: String,
}

/// What was asked for, in the order of types and keys.
pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let mut ids = keys(&api, &Arc::from(FORGET_KIND), query.after.as_deref(), &query.prefix, limit + 1).await?;
    let has_more = ids.len() > limit;
    ids.truncate(limit);
    let next = ids.last().filter(|_| has_more).cloned();
    let read = ids.into_iter().map(|id| {
        let api = api.clone();
        async move { read(&api, &EntityKey::new(FORGET_KIND, id)).await }
    });
    let read = stream::iter(read).buffered(READS_AT_ONCE);
    let items: Vec<Value> = read.filter_map(async |forget| Some(document(&api, &forget?))).collect().await;
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next.as_deref() })))
}

async fn read(api: &Api, key: &EntityKey) -> Option<Forget> {
    match *api.shards.read(key).await?.state.system? {
        SystemState::Forget(forget) => Some(forget),
        _ => None,
    }
}

fn is_open(forget: &Forget) -> bool {
    !matches!(forget.stage, ForgetStage::Done { .. })
}

fn document(api: &Api, forget: &Forget) -> Value {
    let mut document = json!({
        "id": Forget::key(&forget.entity),
        "type": forget.entity.kind(),
        "key": forget.entity.key(),
        "by": forget.mandate.by,
        "why": forget.mandate.why,
        "asked": forget.asked.to_string(),
    });
    match forget.stage {
        ForgetStage::Asked => document["state"] = "asked".into(),
        ForgetStage::Ended { .. } => document["state"] = "ended".into(),
        ForgetStage::Done { at, records } => {
            document["state"] = "done".into();
            document["done"] = at.to_string().into();
            document["records"] = records.into();
        }
    }
    let doing = api.forgetting.doing.borrow().clone();
    if is_open(forget) && !doing.is_empty() {
        document["doing"] = doing.into();
    }
    document
}
