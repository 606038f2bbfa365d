//! `POST /v1/dead-letters/{id}/retry`, `POST /v1/dead-letters/retry` and `DELETE /v1/dead-letters/{id}`: dead letters are
//! tried again or dropped. Each leaves a record of who and why on the dead letter's own entity.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::dead_letters::{Filter, find, read, shown, unknown};
use super::mandate::{Asked, body};
use super::path::part;
use super::problem::Problem;
use super::query::page_items;
use crate::egress::{Delivery, NotTaken, SkipError};
use crate::model::ids::EntityKey;
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::refusal::Code;
use crate::model::settle::EventOutcome;
use crate::model::system::{Closing, DEAD_LETTER_KIND, DeadLetter, Origin, SystemState};

/// How long a request waits for what sinks make of what is sent again; it goes on without the request.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// The dead letters that somebody is doing something with. No second one does meanwhile: what came of the first would be
/// overwritten, or contradicted.
#[derive(Clone, Default)]
pub struct InHand(Arc<Mutex<HashSet<Box<str>>>>);

/// One of them, until this is dropped.
struct Taken {
    all: InHand,
    id: Box<str>,
}

impl InHand {
    fn take(&self, id: &str) -> Option<Taken> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into());
        is_free.then(|| Taken { all: self.clone(), id: id.into() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What is said of one that is in hand already.
const IN_HAND: &str = "it is being tried or dropped at this moment; look at it again";

/// What came of a retry.
#[derive(Debug)]
enum Came {
    /// It is closed.
    Retried,
    /// It is as open as before, with this reason.
    Refused { reason: String, detail: String },
    /// Nothing was tried: try again later.
    Busy(String),
    /// Nothing was tried, and nothing can be as things are.
    Cannot(String),
    /// The sink has it, and has not said yet.
    Pending,
}

/// One of several.
enum Trying {
    Over(Came),
    UnderWay(actix_web::rt::task::JoinHandle<Came>),
}

impl Trying {
    async fn end(self) -> Came {
        match self {
            Trying::Over(came) => came,
            Trying::UnderWay(trying) => trying.await.unwrap_or(Came::Pending),
        }
    }
}

/// A dead letter that is tried again.
struct Trial {
    api: web::Data<Api>,
    id: String,
    letter: DeadLetter,
    mandate: Mandate,
    _taken: Taken,
}

/// Tries one again.
pub(super) async fn retry(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    let id = part(&request, 2)?;
    let taken = take(&api, &id)?;
    let trial =
        Trial { letter: open_letter(&api, &id).await?, api: api.clone(), id: id.clone(), mandate, _taken: taken };
    match trial.run().await {
        Came::Busy(why) => Err(Problem::unavailable(Code::Busy.as_str(), why)),
        Came::Cannot(why) => Err(Problem::new(StatusCode::CONFLICT, "conflict", why)),
        came => {
            let status = if matches!(came, Came::Pending) { StatusCode::ACCEPTED } else { StatusCode::OK };
            let mut document = shown(&api, &id).await;
            document["outcome"] = came.outcome().into();
            Ok(HttpResponse::build(status).json(document))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    sink: Option<String>,
    source: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    all: bool,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(flatten)]
    asked: Asked,
}

/// Tries several again: those of a sink, of a source, with a reason, or all; so many of them, in the order of their ids.
pub(super) async fn retry_several(api: web::Data<Api>, asked: web::Bytes) -> Result<HttpResponse, Problem> {
    let Several { sink, source, reason, all, after, limit, asked } = body(&asked)?;
    if !all && sink.is_none() && source.is_none() && reason.is_none() {
        return Err(Problem::invalid("say which: `sink`, `source`, `reason`, or `\"all\": true`"));
    }
    let mandate = asked.mandate()?;
    let filter = Filter::new(sink, source, reason)?;
    filter.check(&api).await?;
    let (found, next) = find(&api, after, page_items(limit)?, &filter).await?;
    let mut under_way = Vec::new();
    for (id, _) in found {
        let Some(taken) = api.in_hand.take(&id) else {
            under_way.push((id, Trying::Over(Came::Busy(IN_HAND.to_owned()))));
            continue;
        };
        // As it is now that nobody else does anything with it.
        let Some(snapshot) = read(&api, &id).await else { continue };
        let Some(letter) = snapshot.state.system.as_deref().and_then(SystemState::open_letter).cloned() else {
            continue;
        };
        let is_of_source = matches!(letter.origin, Origin::Source { .. });
        let trial = Trial { api: api.clone(), id: id.to_string(), letter, mandate: mandate.clone(), _taken: taken };
        let trying = actix_web::rt::spawn(trial.run());
        // In the order in which they came: a source's one after the other, and a sink is asked for each in turn.
        let came = if is_of_source {
            Trying::Over(trying.await.unwrap_or(Came::Pending))
        } else {
            actix_web::rt::task::yield_now().await;
            Trying::UnderWay(trying)
        };
        under_way.push((id, came));
    }
    let under_way = under_way.into_iter().map(|(id, trying)| async move { (id, trying.end().await) });
    let (mut items, mut counts) = (Vec::new(), [0_u64; 4]);
    for (id, came) in join_all(under_way).await {
        counts[came.place()] += 1;
        items.push(came.document(&id));
    }
    let [retried, refused, not_tried, pending] = counts;
    Ok(HttpResponse::Ok().json(json!({
        "asked": items.len(), "retried": retried, "refused": refused, "not_tried": not_tried, "pending": pending,
        "items": items, "next": next,
    })))
}

/// Nobody wants it any more.
pub(super) async fn drop_one(
    api: web::Data<Api>,
    request: HttpRequest,
    asked: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let mandate = body::<Asked>(&asked)?.mandate()?;
    let id = part(&request, 2)?;
    let _taken = take(&api, &id)?;
    open_letter(&api, &id).await?;
    note(&api, &id, Input::Closed(mandate, Closing::Dropped)).await.ok_or_else(ending)?;
    Ok(HttpResponse::Ok().json(shown(&api, &id).await))
}

fn ending() -> Problem {
    Problem::unavailable("draining", "the node is about to end")
}

fn take(api: &Api, id: &str) -> Result<Taken, Problem> {
    api.in_hand.take(id).ok_or_else(|| Problem::new(StatusCode::CONFLICT, "conflict", IN_HAND))
}

async fn open_letter(api: &Api, id: &str) -> Result<DeadLetter, Problem> {
    let state = read(api, id).await.ok_or_else(|| unknown(id))?.state;
    match state.system.as_deref() {
        Some(SystemState::DeadLetter(letter)) => Ok(letter.clone()),
        Some(SystemState::ClosedLetter(closed)) => {
            let why = format!("it was {} by hand at {}", closed.how.as_str(), closed.by_hand.since);
            Err(Problem::new(StatusCode::CONFLICT, "conflict", why))
        }
        _ => Err(unknown(id)),
    }
}

async fn note(api: &Api, id: &str, input: Input) -> Option<()> {
    api.shards.note(EntityKey::new(DEAD_LETTER_KIND, id), input).await.ok().map(drop)
}

impl Trial {
    /// Tries it, and notes what came of that whether or not somebody waits for it.
    async fn run(self) -> Came {
        let trying = match &self.letter.origin {
            Origin::Source { .. } => actix_web::rt::spawn(self.of_source()),
            Origin::Sink { .. } => match self.of_sink() {
                Ok(trying) => trying,
                Err(came) => return came,
            },
        };
        match tokio::time::timeout(ANSWERED_WITHIN, trying).await {
            Ok(Ok(came)) => came,
            Ok(Err(_)) | Err(_) => Came::Pending,
        }
    }

    async fn of_source(self) -> Came {
        match self.api.again.retry(&self.letter).await {
            EventOutcome::Accepted(_) | EventOutcome::Duplicate(_) => self.close().await,
            EventOutcome::Refused(refusal) if refusal.code == Code::Busy => Came::Busy(refusal.message),
            EventOutcome::Refused(refusal) => self.refused(refusal.code.as_str(), refusal.message).await,
        }
    }

    /// Asks the sink at once, so that what is asked for one after the other is sent so.
    fn of_sink(self) -> Result<actix_web::rt::task::JoinHandle<Came>, Came> {
        let Origin::Sink { name, .. } = &self.letter.origin else { return Err(Came::Pending) };
        let asked = match (self.api.sinks.controls.get(&**name), Delivery::of_letter(&self.letter)) {
            (Some(control), Some(delivery)) => control.resend(delivery).map_err(|error| match error {
                SkipError::InOrder => Came::Cannot(error.to_string()),
                other => Came::Busy(other.to_string()),
            })?,
            (None, _) => return Err(Came::Cannot(format!("no sink is called `{name}` now"))),
            (_, None) => return Err(Came::Cannot("the dead letter does not hold the whole decision".to_owned())),
        };
        Ok(actix_web::rt::spawn(async move {
            match asked.await {
                Ok(Ok(())) => self.close().await,
                Ok(Err(NotTaken::Refused { reason, why })) => self.refused(reason, why).await,
                Ok(Err(NotTaken::Unsent(why))) => Came::Busy(why.to_owned()),
                Err(_) => Came::Busy("the node is about to end".to_owned()),
            }
        }))
    }

    async fn close(self) -> Came {
        let closed = note(&self.api, &self.id, Input::Closed(self.mandate, Closing::Retried)).await;
        closed.map_or_else(|| Came::Busy("the node is about to end".to_owned()), |()| Came::Retried)
    }

    async fn refused(self, reason: &str, detail: String) -> Came {
        let tried = Input::Tried { mandate: self.mandate, reason: reason.into(), detail: detail.as_str().into() };
        note(&self.api, &self.id, tried).await;
        Came::Refused { reason: reason.to_owned(), detail }
    }
}

impl Came {
    fn outcome(&self) -> &'static str {
        ["retried", "refused", "not_tried", "pending"][self.place()]
    }

    fn place(&self) -> usize {
        match self {
            Came::Retried => 0,
            Came::Refused { .. } => 1,
            Came::Busy(_) | Came::Cannot(_) => 2,
            Came::Pending => 3,
        }
    }

    fn document(&self, id: &str) -> Value {
        let mut document = json!({ "id": id, "outcome": self.outcome() });
        match self {
            Came::Refused { reason, detail } => {
                document["reason"] = reason.as_str().into();
                document["detail"] = detail.as_str().into();
            }
            Came::Busy(why) | Came::Cannot(why) => document["detail"] = why.as_str().into(),
            Came::Retried | Came::Pending => {}
        }
        document
    }
}
