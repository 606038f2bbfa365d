//! `GET /v1/sources`, and `POST /v1/sources/{name}/rewind`: sets the cursor of a source back that asks for its events.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::api::Api;
use super::path::part;
use super::problem::Problem;
use crate::ingress::{RewindError, SqlControl};
use crate::model::json;
use crate::model::value::Value;

/// What a request to rewind may look like.
const BODY_DEPTH_MAX: usize = 2;
const BODY_HELP: &str = "the body must be like {\"to\": 1200}, with a value of the cursor's column";

/// The node's sources.
#[derive(Clone)]
pub struct Sources {
    /// Their documents: a list.
    pub listed: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Those that ask for their events, by name.
    pub polled: HashMap<String, SqlControl>,
}

pub(super) fn list(api: web::Data<Api>) -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().json(json!({ "items": (api.sources.listed)(), "next": null })))
}

pub(super) async fn rewind(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let name = part(&request, 2)?;
    let control = api.sources.polled.get(&name).ok_or_else(|| {
        Problem::not_found(format!("no source with a cursor is called {name:.200?}; those of kind `sql` have one"))
    })?;
    let Value::Map(body) = json::parse(&body, BODY_DEPTH_MAX)? else { return Err(Problem::invalid(BODY_HELP)) };
    let to = body.get("to").filter(|_| body.iter().count() == 1).ok_or_else(|| Problem::invalid(BODY_HELP))?;
    control.rewind(to).await.map_err(|error| match error {
        RewindError::Busy => Problem::unavailable("busy", error.to_string()),
        RewindError::Forward(_) => Problem::new(StatusCode::CONFLICT, "conflict", error.to_string()),
        RewindError::Value(why) => Problem::invalid(format!("to: {why}; it must be a value of the cursor's column")),
    })?;
    Ok(HttpResponse::Ok().json(control.status()))
}
