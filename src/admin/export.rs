//! `GET /v1/export/entities` and `GET /v1/export/decisions`: all of them, as lines of JSON or as CSV, however many there are.
//!
//! Only a part is in memory at a time, and the next is read when the last has been sent. Entities are read one by one, each as
//! it is committed at that moment; an export is no snapshot of all of them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;

use super::api::Api;
use super::decisions;
use super::entities::{Filter, KEYS_AT_ONCE, READS_AT_ONCE, keys};
use super::entity::type_called;
use super::position::Position;
use super::problem::Problem;
use super::query::query;
use super::table::{Table, decision_cells, decision_columns};
use crate::model::ids::{EntityKey, Lsn};
use crate::rules::{Document, EntityRules};

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Ndjson,
    Csv,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntitiesQuery {
    r#type: String,
    #[serde(default)]
    format: Format,
    r#where: Option<String>,
}

pub(super) async fn entities(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: EntitiesQuery = query(&request)?;
    let rules = type_called(&api, &query.r#type)?;
    let filter = Filter::of_condition(&rules, query.r#where.as_deref())?;
    let table = (query.format == Format::Csv).then(|| Table::of_entities(&rules));
    let export = Entities { api, rules, filter, table, after: None, keys: VecDeque::new(), is_last: false };
    Ok(answer(query.format, parts(export)))
}

/// An answer that is written while it is read. What goes wrong on the way cuts it off: it does not end as it should.
fn answer(format: Format, parts: impl Stream<Item = Result<Vec<u8>, Problem>> + 'static) -> HttpResponse {
    let parts = parts.map(|part| part.map(web::Bytes::from).map_err(|problem| io::Error::other(problem.to_string())));
    HttpResponse::Ok().content_type(format.content_type()).streaming(parts)
}

fn parts(export: Entities) -> impl Stream<Item = Result<Vec<u8>, Problem>> {
    stream::try_unfold(export, |mut export| async move {
        let part = export.part().await?;
        Ok(part.map(|part| (part, export)))
    })
}

/// An export of entities under way.
struct Entities {
    api: web::Data<Api>,
    rules: Arc<EntityRules>,
    filter: Filter,
    table: Option<Table>,
    /// The key of the last that was looked up.
    after: Option<String>,
    /// Looked up and not read yet.
    keys: VecDeque<Arc<str>>,
    is_last: bool,
}

impl Entities {
    /// The next few; none after the last.
    async fn part(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let mut out = self.table.as_mut().map(Table::heading).unwrap_or_default();
        while out.is_empty() {
            if self.keys.is_empty() && !self.is_last {
                let found = keys(&self.api, &self.rules.name, self.after.as_deref(), "", KEYS_AT_ONCE).await?;
                self.is_last = found.len() < KEYS_AT_ONCE;
                self.after = found.last().map(ToString::to_string).or(self.after.take());
                self.keys = found.into();
            }
            if self.keys.is_empty() {
                return Ok(None);
            }
            let next: Vec<Arc<str>> = self.keys.drain(..self.keys.len().min(READS_AT_ONCE)).collect();
            let read = |key: Arc<str>| async {
                let entity = EntityKey::new(&self.rules.name, key);
                let snapshot = self.api.shards.read(&entity).await;
                (entity, snapshot)
            };
            let mut reading = stream::iter(next.into_iter().map(read)).buffered(READS_AT_ONCE);
            while let Some((entity, snapshot)) = reading.next().await {
                let Some(snapshot) = snapshot else { continue };
                if !self.filter.passes(&self.rules, &entity, &snapshot) {
                    continue;
                }
                let document = Document::new(&self.rules, entity.key(), &snapshot.state, &snapshot.lsns);
                if let Some(table) = &self.table {
                    out.extend(table.entity(&document));
                } else {
                    out.extend(document.to_json());
                    out.push(b'\n');
                }
            }
        }
        Ok(Some(out))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionsQuery {
    r#type: Option<String>,
    after: Option<String>,
    #[serde(default)]
    format: Format,
}

pub(super) async fn decisions(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query: DecisionsQuery = query(&request)?;
    let kind = query.r#type.as_deref().map(|name| type_called(&api, name)).transpose()?.map(|rules| rules.name.clone());
    let after = query.after.as_deref().map(|after| Position::parse("after", after)).transpose()?;
    // What comes while it is read is not in it: it has an end.
    let through = api.journal.last_lsn();
    let after = match after {
        Some(after) => after.within(through)?,
        None => Position::before(api.journal.first_lsn()),
    };
    let export = Decisions { api, kind, through, next: Some(after), format: query.format, is_begun: false };
    // The first part is read before the answer begins, so that it can say what is wrong.
    let (first, rest) = export.part().await?;
    let rest = stream::try_unfold(rest, |export| async move {
        if export.next.is_none() { Ok(None) } else { export.part().await.map(Some) }
    });
    Ok(answer(
        query.format,
        stream::iter([Ok(first)]).chain(rest).filter(|part| {
            // An empty part would be the end of the answer.
            std::future::ready(part.as_ref().map_or(true, |part| !part.is_empty()))
        }),
    ))
}

/// An export of decisions under way.
struct Decisions {
    api: web::Data<Api>,
    /// Only those of this entity type.
    kind: Option<Arc<str>>,
    through: Lsn,
    /// Where to go on; none after the end.
    next: Option<Position>,
    format: Format,
    is_begun: bool,
}

impl Decisions {
    /// The next few, and what follows them.
    async fn part(mut self) -> Result<(Vec<u8>, Decisions), Problem> {
        let read = web::block(move || {
            let mut out = Vec::new();
            if self.format == Format::Csv && !std::mem::replace(&mut self.is_begun, true) {
                out = decision_columns();
            }
            let Some(after) = self.next.take() else { return Ok((out, self)) };
            let (api, format) = (self.api.clone(), self.format);
            self.next = decisions::read_part(&api, after, self.through, self.kind.as_deref(), &mut |decision| {
                match format {
                    Format::Ndjson => {
                        out.extend_from_slice(decision);
                        out.push(b'\n');
                    }
                    Format::Csv => out.extend(decision_cells(decision)?),
                }
                Ok(out.len())
            })?;
            Ok((out, self))
        });
        read.await.map_err(|_| Problem::internal("the node is about to end"))?
    }
}
