//! `POST /v1/replay`: what would change if the rules were those of the body. Nothing is touched.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::mpsc::Receiver;

use super::api::Api;
use super::problem::Problem;
use super::query::query;
use crate::config::FILE_BYTES_MAX;
use crate::model::ids::EntityKey;

/// Lines of JSON: how far it has come, and at last the report or why there is none.
pub type Lines = Receiver<Vec<u8>>;
/// Begins to work out what rules, given as TOML, would change; of one entity or of all.
pub type Replay = Arc<dyn Fn(&str, Option<EntityKey>) -> Result<Lines, Refused> + Send + Sync>;

/// Why it is not begun.
#[derive(Debug)]
pub enum Refused {
    /// What is wrong with the rules.
    Wrong(String),
    /// Another one is under way.
    Busy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    #[serde(rename = "type")]
    kind: Option<String>,
    key: Option<String>,
}

pub(super) async fn post(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let query: Query = query(&request)?;
    let entity = match (query.kind, query.key) {
        (Some(kind), Some(key)) => Some(EntityKey::new(kind, key)),
        (None, None) => None,
        _ => return Err(Problem::invalid("an entity has a type and a key: give both, or none for all entities")),
    };
    let too_large = || {
        let why = format!("the rules are longer than {FILE_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why)
    };
    let body = payload.to_bytes_limited(FILE_BYTES_MAX).await.map_err(|_| too_large())?;
    let body = body.map_err(|error| Problem::invalid(format!("the rules could not be received: {error}")))?;
    let Ok(text) = String::from_utf8(body.to_vec()) else { return Err(Problem::invalid("the rules are no UTF-8")) };
    // Rules take a while to compile, and this thread has others to answer.
    let begun = web::block(move || (api.replay)(&text, entity)).await;
    let lines = begun.map_err(|error| Problem::internal(error.to_string()))?.map_err(|refused| match refused {
        Refused::Wrong(why) => Problem::invalid(format!("the rules are wrong\n{why}")),
        Refused::Busy => {
            let why = "another replay is under way; ask again when it is over";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", why)
        }
    })?;
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, actix_web::Error>(web::Bytes::from(line)), lines))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines))
}
