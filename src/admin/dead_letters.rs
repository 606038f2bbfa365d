//! `GET /v1/dead-letters` and below: what could not be taken or delivered, and nobody could be told no about.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Api;
use super::entities::{READS_AT_ONCE, SCANNED_MAX, keys};
use super::path::part;
use super::problem::{Problem, known};
use super::query::{PAGE_BYTES_MAX, page_items, query};
use crate::actors::Snapshot;
use crate::egress::{add_body, letter_document};
use crate::model::ids::EntityKey;
use crate::model::system::{Closed, DEAD_LETTER_KIND, DeadLetter, SystemState};

/// So many dead letters are looked at in one go.
const LOOKED_AT_ONCE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
    sink: Option<String>,
    source: Option<String>,
    reason: Option<String>,
    closed: Option<bool>,
}

/// Which dead letters are meant.
#[derive(Debug, Default)]
pub(super) struct Filter {
    of: Option<Of>,
    pub reason: Option<String>,
    /// Those that were dealt with, instead of those that are open.
    pub closed: bool,
}

/// Whose dead letters they are.
#[derive(Debug)]
enum Of {
    Sink(String),
    Source(String),
}

impl Filter {
    /// Those of a sink or of a source, if one is given.
    pub fn new(sink: Option<String>, source: Option<String>, reason: Option<String>) -> Result<Self, Problem> {
        if sink.is_some() && source.is_some() {
            return Err(Problem::invalid("a dead letter is of a sink or of a source: ask for one of them"));
        }
        Ok(Filter { of: sink.map(Of::Sink).or(source.map(Of::Source)), reason, closed: false })
    }

    /// Refuses to look for letters of a sink or source that there is not, and of which there is no letter either.
    ///
    /// # Errors
    /// When nothing can be found.
    pub async fn check(&self, api: &web::Data<Api>) -> Result<(), Problem> {
        let Some((name, what, listed)) = self.of.as_ref().map(|of| match of {
            Of::Sink(name) => (name, "sink: no sink", (api.sinks.listed)()),
            Of::Source(name) => (name, "source: no source", (api.sources.listed)()),
        }) else {
            return Ok(());
        };
        let names: Vec<&str> = listed.as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        let Err(unknown) = known(what, name, names) else { return Ok(()) };
        let letters = keys(api, &Arc::from(DEAD_LETTER_KIND), None, &self.prefix(), 1).await?;
        if letters.is_empty() { Err(unknown) } else { Ok(()) }
    }

    /// What their ids begin with.
    fn prefix(&self) -> String {
        match &self.of {
            None => String::new(),
            Some(Of::Sink(sink)) => format!("sink.{sink}."),
            Some(Of::Source(source)) => format!("source.{source}."),
        }
    }

    fn wanted<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a DeadLetter> {
        let letter = match snapshot.state.system.as_deref() {
            Some(SystemState::DeadLetter(letter)) if !self.closed => letter,
            Some(SystemState::ClosedLetter(closed)) if self.closed => &closed.letter,
            _ => return None,
        };
        self.reason.as_deref().is_none_or(|reason| reason == &*letter.reason).then_some(letter)
    }
}

/// Dead letters in the order of their ids: by sink and as they stand in the journal, then by source and place. Without their bodies.
pub(super) async fn page(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Query { after, limit, sink, source, reason, closed } = query(&request)?;
    let limit = page_items(limit)?;
    let mut filter = Filter::new(sink, source, reason)?;
    filter.check(&api).await?;
    filter.closed = closed == Some(true);
    let (found, next) = find(&api, after, limit, &filter).await?;
    let items: Vec<Value> = found.iter().filter_map(|(id, snapshot)| document(id, snapshot, WithBody::No)).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}

/// The first dead letters that pass, after `after`; and where to go on, if there may be more.
pub(super) async fn find(
    api: &web::Data<Api>,
    mut after: Option<String>,
    limit: usize,
    filter: &Filter,
) -> Result<(Vec<(Arc<str>, Snapshot)>, Option<String>), Problem> {
    let (mut found, mut scanned, mut bytes) = (Vec::new(), 0, 0);
    let prefix = filter.prefix();
    loop {
        let ids = keys(api, &Arc::from(DEAD_LETTER_KIND), after.as_deref(), &prefix, LOOKED_AT_ONCE).await?;
        let is_end = ids.len() < LOOKED_AT_ONCE;
        let read = |id: Arc<str>| async { (read(api, &id).await, id) };
        let mut reading = stream::iter(ids.into_iter().map(read)).buffered(READS_AT_ONCE);
        while let Some((snapshot, id)) = reading.next().await {
            let wanted = snapshot.as_ref().and_then(|snapshot| filter.wanted(snapshot));
            bytes += wanted.map_or(0, |letter| letter.body.len());
            let is_full = found.len() == limit || (bytes > PAGE_BYTES_MAX && !found.is_empty());
            let passes = wanted.is_some();
            if scanned == SCANNED_MAX || (is_full && passes) {
                return Ok((found, after));
            }
            scanned += 1;
            after = Some(id.to_string());
            found.extend(snapshot.filter(|_| passes).map(|snapshot| (id, snapshot)));
        }
        if is_end {
            return Ok((found, None));
        }
    }
}

/// One dead letter with its body: as text, or in base64 if it is none.
pub(super) async fn show(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = part(&request, 2)?;
    let snapshot = read(&api, &id).await;
    let shown = snapshot.and_then(|snapshot| document(&id, &snapshot, WithBody::Yes));
    Ok(HttpResponse::Ok().json(shown.ok_or_else(|| unknown(&id))?))
}

pub(super) fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("no dead letter is called {id:.200?}"))
}

pub(super) async fn read(api: &Api, id: &str) -> Option<Snapshot> {
    api.shards.read(&EntityKey::new(DEAD_LETTER_KIND, id)).await
}

/// The dead letter as it is shown now, without its body.
pub(super) async fn shown(api: &Api, id: &str) -> Value {
    let snapshot = read(api, id).await;
    snapshot.and_then(|snapshot| document(id, &snapshot, WithBody::No)).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WithBody {
    Yes,
    No,
}

fn document(id: &str, snapshot: &Snapshot, with_body: WithBody) -> Option<Value> {
    let (letter, closed) = match snapshot.state.system.as_deref()? {
        SystemState::DeadLetter(letter) => (letter, None),
        SystemState::ClosedLetter(closed) => (&closed.letter, Some(&**closed)),
        _ => return None,
    };
    let mut document = letter_document(id, &snapshot.state.now.to_string(), letter);
    if let Some(mandate) = &letter.mandate {
        document["by"] = mandate.by.as_ref().into();
        document["why"] = mandate.why.as_ref().into();
    }
    if let Some(Closed { how, by_hand, .. }) = closed {
        document["closed"] = how.as_str().into();
        document["by"] = by_hand.mandate.by.as_ref().into();
        document["why"] = by_hand.mandate.why.as_ref().into();
        // They are in the journal only.
        document.as_object_mut()?.remove("bytes");
    } else if with_body == WithBody::Yes {
        add_body(&mut document, letter);
    }
    Some(document)
}
