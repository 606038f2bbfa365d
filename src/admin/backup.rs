//! `POST /v1/backup`: a backup of the running node. The answer says how far it is, a line of JSON at a time, and how it ended.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::Api;
use super::mandate::Asked;
use super::problem::Problem;
use crate::backup::{BackupError, Manifest, Ordered, Progress, RATE_DEFAULT, Refused, Stand};
use crate::config::parse_size;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    folder: String,
    rate: Option<String>,
    #[serde(flatten)]
    asked: Asked,
}

pub(super) async fn make(api: web::Data<Api>, body: web::Bytes) -> Result<HttpResponse, Problem> {
    let body: Body = serde_json::from_slice(&body).map_err(|error| {
        Problem::invalid(format!(r#"the body must be like {{"folder": "monday", "rate": "64MiB"}}: {error}"#))
    })?;
    let bytes_per_second = match body.rate.as_deref() {
        None => RATE_DEFAULT,
        Some(text) => parse_size(text).ok_or_else(|| {
            Problem::invalid(format!("rate is {text:.60?}; it is bytes a second, written like 64MiB"))
        })?,
    };
    let ordered = Ordered { name: body.folder, bytes_per_second, mandate: body.asked.mandate()? };
    let name = ordered.name.clone();
    // It looks at folders, which may be far away.
    let begun = web::block(move || api.backups.begin(ordered)).await;
    let stand = begun.map_err(|_| Problem::internal("the node is about to end"))?.map_err(problem)?;
    let lines = stream::unfold(Some((stand, name)), next_line);
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines))
}

fn problem(refused: Refused) -> Problem {
    let detail = refused.to_string();
    match refused {
        Refused::Name(_) | Refused::Rate | Refused::InDataFolder(_) => Problem::invalid(detail),
        Refused::Busy => Problem::new(StatusCode::CONFLICT, "busy", detail),
        Refused::Nowhere | Refused::Folder(_) => Problem::new(StatusCode::CONFLICT, "conflict", detail),
        Refused::Space { .. } => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", detail),
        Refused::Thread(_) => Problem::internal(detail),
    }
}

/// How it stands, once that has changed; nothing after the end.
async fn next_line(
    watched: Option<(watch::Receiver<Stand>, String)>,
) -> Option<(Result<web::Bytes, std::convert::Infallible>, Option<(watch::Receiver<Stand>, String)>)> {
    let (mut stand, name) = watched?;
    // The thread tells how it ends before it does.
    let is_gone = stand.changed().await.is_err();
    let now = stand.borrow_and_update().clone();
    let (document, is_end) = match now {
        Stand::Made(manifest) => (made(&name, &manifest), true),
        Stand::Failed(error) => (failed(&error), true),
        Stand::Making(progress) if !is_gone => (making(progress), false),
        Stand::Begun | Stand::Making(_) => (failed(&Arc::new(BackupError::Stopped)), true),
    };
    let line = web::Bytes::from(format!("{document}\n"));
    Some((Ok(line), (!is_end).then_some((stand, name))))
}

fn making(progress: Progress) -> Value {
    json!({ "phase": progress.phase.as_str(), "bytes": progress.bytes, "of": progress.of })
}

fn made(name: &str, manifest: &Manifest) -> Value {
    json!({
        "backup": name,
        "bytes": manifest.bytes(),
        "files": manifest.files.len(),
        "incarnation": manifest.incarnation,
        "first_lsn": manifest.first_lsn,
        "last_lsn": manifest.last_lsn,
        "watermark": manifest.watermark,
        "made": manifest.made,
    })
}

fn failed(error: &BackupError) -> Value {
    let mut detail = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        detail = format!("{detail}: {cause}");
    }
    json!({ "error": { "code": "internal", "detail": detail } })
}
