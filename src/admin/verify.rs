//! `POST /v1/verify`: whether everything is as the journal says, and what is missing. The answer comes line by line: how far
//! it is, then the report. `POST /v1/verify/against`: how a part of an outside list agrees with what is here.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::api::Api;
use super::problem::Problem;
use crate::model::refusal::Code;

/// The longest request: it may name events that should have come.
pub(super) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Lines of JSON.
const NDJSON: &str = "application/x-ndjson";

/// Why nothing is verified.
#[derive(Debug)]
pub enum NotVerified {
    /// One is under way, or the journal is being rewritten.
    Busy,
    /// What is asked for is wrong.
    Invalid(String),
    /// It cannot be done.
    Failed(String),
}

/// Begins a verification by the options in a request's body; gives its lines.
pub type BeginVerify = Arc<dyn Fn(&[u8]) -> Result<mpsc::Receiver<Vec<u8>>, NotVerified> + Send + Sync>;
/// Compares rows of an outside list, on a thread that may wait.
pub type Against = Arc<dyn Fn(&[u8]) -> Result<Value, NotVerified> + Send + Sync>;

/// What the node verifies with.
#[derive(Clone)]
pub struct Verify {
    pub begin: BeginVerify,
    pub against: Against,
}

impl From<NotVerified> for Problem {
    fn from(error: NotVerified) -> Self {
        match error {
            NotVerified::Busy => {
                let detail = "a verification is under way, of which there is one at a time, or the journal is being rewritten; ask again";
                Problem::new(StatusCode::CONFLICT, Code::Conflict.as_str(), detail)
            }
            NotVerified::Invalid(why) => Problem::invalid(why),
            NotVerified::Failed(why) => Problem::internal(why),
        }
    }
}

pub(super) fn verify(api: web::Data<Api>, body: Bytes) -> Ready<Result<HttpResponse, Problem>> {
    let begun = (api.verify.begin)(&body).map_err(Problem::from);
    ready(begun.map(|lines| {
        let lines = stream::unfold(lines, async |mut lines| {
            let line = lines.recv().await?;
            Some((Ok::<_, actix_web::Error>(Bytes::from(line)), lines))
        });
        HttpResponse::Ok().content_type(NDJSON).streaming(Box::pin(lines))
    }))
}

pub(super) async fn against(api: web::Data<Api>, body: Bytes) -> Result<HttpResponse, Problem> {
    let against = api.verify.against.clone();
    let compared = web::block(move || against(&body)).await;
    let compared = compared.map_err(|_| Problem::internal("the node is about to end"))??;
    Ok(HttpResponse::Ok().json(compared))
}
