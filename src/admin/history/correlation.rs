//! Following one correlation id across entities: a scan of the journal, so much of it a request.
//!
//! Records hold their texts as they are, so most need not be decoded to see that an id is not in them.

use std::collections::HashSet;

use actix_web::{HttpRequest, HttpResponse, web};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::json;

use super::super::api::Api;
use super::super::path::part;
use super::super::problem::Problem;
use super::super::query::{PAGE_BYTES_MAX, page_items, query};
use super::records::Unreadable;
use super::{answer, position, unreadable};
use crate::journal::{Block, JournalError};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::{Input, Record};
use crate::rules::{Account, Before, given_correlation};

/// A request looks through so many records at most, by whole blocks.
const SCANNED_RECORDS_MAX: u64 = 500_000;
/// Calls whose steps are looked for at a time.
const CALLS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    limit: Option<usize>,
}

pub(in crate::admin) async fn of_correlation(
    api: web::Data<Api>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = part(&request, 2)?;
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let after = query.after.as_deref().map(|text| position("after", text)).transpose()?;
    let head = json!({ "correlation": id });
    let found = web::block(move || Scan::new(&api, &id).run(after, limit));
    let (items, next) = found.await.map_err(|_| Problem::internal("the node is about to end"))??;
    Ok(answer(&head, &items, next))
}

/// A search for one id.
struct Scan<'a> {
    api: &'a Api,
    id: &'a str,
    finder: Finder<'a>,
    /// Calls that records which were found have asked for: their steps belong to them.
    calls: HashSet<(EntityKey, Box<str>, u32)>,
    items: Vec<Vec<u8>>,
    /// How many bytes these are.
    bytes: usize,
}

impl<'a> Scan<'a> {
    fn new(api: &'a Api, id: &'a str) -> Self {
        Scan { api, id, finder: Finder::new(id), calls: HashSet::new(), items: Vec::new(), bytes: 0 }
    }

    /// What is found, and after which record to go on, unless that was the last one.
    fn run(mut self, after: Option<Lsn>, limit: usize) -> Result<(Vec<Vec<u8>>, Option<Lsn>), Problem> {
        let journal = &self.api.journal;
        let (kept, end) = (journal.first_lsn(), journal.last_lsn());
        let from = after.map_or(kept, |after| after.next().max(kept));
        let failed = |error: JournalError| match error {
            JournalError::Trimmed { .. } => Problem::internal("the journal was trimmed meanwhile; ask again"),
            error => unreadable(self.api, error),
        };
        let mut scanned = 0;
        for block in journal.read_from(from).map_err(failed)? {
            let block = block.map_err(failed)?;
            if let Some(last) = self.block(&block, from, limit)? {
                return Ok((self.items, Some(last)));
            }
            scanned += block.count();
            if scanned >= SCANNED_RECORDS_MAX && block.last_lsn() < end {
                return Ok((self.items, Some(block.last_lsn())));
            }
        }
        Ok((self.items, None))
    }

    /// Takes what belongs to the id from `from` on; returns the last record looked at, if there are enough then.
    fn block(&mut self, block: &Block, from: Lsn, limit: usize) -> Result<Option<Lsn>, Problem> {
        for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn >= from) {
            if self.finder.find(bytes).is_none() && self.calls.is_empty() {
                continue;
            }
            let read = self.api.forgetting.read(bytes);
            let read = read.map_err(|source| unreadable(self.api, Unreadable { lsn, source }))?;
            let Some(record) = read else { continue };
            let Some(rules) = self.api.ruleset.get(record.entity.kind()) else { continue };
            if !self.belongs(&record) {
                continue;
            }
            let item = Account::new(rules, lsn, &record, Before::Nothing).to_json();
            self.bytes += item.len();
            if self.bytes > PAGE_BYTES_MAX && !self.items.is_empty() {
                return Ok(Some(Lsn(lsn.0 - 1)));
            }
            self.items.push(item);
            if self.calls.len() < CALLS_MAX {
                let asked = record.effects.iter().map(|it| (record.entity.clone(), it.name.clone(), it.run));
                self.calls.extend(asked);
            }
            if self.items.len() == limit {
                return Ok(Some(lsn));
            }
        }
        Ok(None)
    }

    /// Whether a record is the id's event, or carries it, or is a step of a call that was asked for so.
    fn belongs(&self, record: &Record) -> bool {
        let is_id = |text: Option<&str>| text == Some(self.id);
        let by_input = match &record.input {
            Input::Event(input) | Input::Held(input) | Input::Released(input) => {
                is_id(Some(&input.event.id)) || is_id(given_correlation(&input.event).as_deref())
            }
            Input::Message(received) => is_id(received.correlation.as_deref()) || is_id(Some(&received.cause)),
            Input::Started { effect, run, .. }
            | Input::Ended { effect, run, .. }
            | Input::Resolved { effect, run, .. }
            | Input::AskedAgain { effect, run, .. } => {
                self.calls.contains(&(record.entity.clone(), effect.clone(), *run))
            }
            _ => false,
        };
        by_input || record.decisions.iter().any(|made| is_id(Some(&made.correlation)))
    }
}
