//! One stream: where it is in the journal, and what of it comes next.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::watch;

use super::end::End;
use super::hub::{Place, Streams};
use super::stretch::{Content, ReadError, Reading, Stretch};
use super::subject::Subject;
use crate::admin::position::Position;
use crate::admin::problem::Problem;
use crate::model::ids::Lsn;

/// A batch is handed out when it has so many bytes, or a single item has more. It is all that a stream holds of what its
/// reader has not taken.
const BATCH_BYTES: usize = 16 << 10;
/// Items of a batch; decoding them holds up nobody else for long.
const BATCH_ITEMS: usize = 64;

/// What is told.
pub(super) struct Item {
    pub event: &'static str,
    /// After it.
    pub position: Position,
    pub json: Bytes,
}

/// A stream's way through the journal.
pub(super) struct Feed {
    streams: Streams,
    subject: Subject,
    /// What was handed out, or passed over as not wanted.
    position: Position,
    /// What it is in. It is not held: a thousand readers that take nothing must not keep a thousand of them.
    stretch: Weak<Stretch>,
    end: watch::Receiver<Lsn>,
    _place: Place,
}

impl Feed {
    /// A feed from a position on.
    ///
    /// # Errors
    /// If there are as many streams as there may be.
    pub fn new(streams: &Streams, subject: Subject, position: Position) -> Result<Self, Problem> {
        let place = streams.place(&subject)?;
        let end = streams.end();
        Ok(Feed { streams: streams.clone(), subject, position, stretch: Weak::new(), end, _place: place })
    }

    /// Everything that is wanted up to here was handed out.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Waits for what comes next. It may be nothing: then only the position has moved. Can be given up and asked again.
    pub async fn next(&mut self) -> Result<Vec<Item>, End> {
        loop {
            if let Some(stretch) = self.stretch.upgrade() {
                // A reader that is far behind finds one stretch after the other; others have their turn in between.
                tokio::task::coop::consume_budget().await;
                return self.take(&stretch);
            }
            let from = self.position.from();
            if from > *self.end.borrow_and_update() {
                if self.end.changed().await.is_err() {
                    return Err(End::draining());
                }
                continue;
            }
            let reading = match self.subject {
                Subject::Decisions(_) => Reading::Decisions,
                Subject::Type(_) | Subject::Entity(..) => Reading::Records,
            };
            let stretch = self.streams.stretch(reading, from).await?;
            self.stretch = Arc::downgrade(&stretch);
            return self.take(&stretch);
        }
    }

    /// The next batch of a stretch.
    fn take(&mut self, stretch: &Stretch) -> Result<Vec<Item>, End> {
        let mut batch = Batch::default();
        let is_through = match (&stretch.content, &self.subject) {
            (Content::Decisions(told), Subject::Decisions(filter)) => {
                let begin = told.partition_point(|told| told.position <= self.position);
                let wanted = told[begin..]
                    .iter()
                    .filter(|told| filter.takes_entity(&told.entity) && filter.takes_decision(&told.name));
                batch.fill(
                    wanted.map(|told| Ok(Item { event: "decision", position: told.position, json: told.json.clone() })),
                )
            }
            (Content::Records(records), Subject::Type(rules)) => {
                let begin = records.place_after(self.position.lsn);
                let places = records.of_type(&rules.name, begin);
                batch.fill(places.map(|nth| Ok(change(records.lsn(nth), records.account(nth, rules)?))))
            }
            (Content::Records(records), Subject::Entity(rules, entity)) => {
                let begin = records.place_after(self.position.lsn);
                let places = records.of_entity(entity, begin);
                batch.fill(places.map(|nth| Ok(change(records.lsn(nth), records.account(nth, rules)?))))
            }
            _ => Ok(true),
        };
        let is_through = is_through.map_err(|error| self.streams.unreadable(&error))?;
        if is_through {
            self.stretch = Weak::new();
            self.position = self.position.max(Position::before(stretch.next));
        } else if let Some(last) = batch.items.last() {
            self.position = last.position;
        }
        Ok(batch.items)
    }
}

fn change(lsn: Lsn, json: Bytes) -> Item {
    Item { event: "change", position: Position::through(lsn), json }
}

#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    bytes: usize,
}

impl Batch {
    /// Takes items until it is full; tells whether there was room for all.
    fn fill(&mut self, items: impl Iterator<Item = Result<Item, ReadError>>) -> Result<bool, ReadError> {
        for item in items {
            let item = item?;
            self.bytes += item.json.len();
            self.items.push(item);
            if self.bytes >= BATCH_BYTES || self.items.len() == BATCH_ITEMS {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
