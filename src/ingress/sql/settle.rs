//! Brings a page's events to their entities and, once all of them are durable, notes how far the source has come. What is
//! refused becomes a dead letter first: there is nobody who could be told.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;

use super::position::Position;
use super::rows::Row;
use super::seen::RowHash;
use crate::ingress::admission::{Admission, Patience, SourceMetrics};
use crate::ingress::decode::Decoder;
use crate::ingress::http::{Request, post};
use crate::model::event::Event;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::packed::Packed;
use crate::model::record::Input;
use crate::model::refusal::Refusal;
use crate::model::settle::EventOutcome;
use crate::model::system::{DEAD_LETTER_KIND, DeadLetter, Origin, SOURCE_KIND, SourceCursor, SystemState};
use crate::model::time::Timestamp;

/// So many dead letters are recorded at a time.
const BURIED_AT_ONCE: usize = 256;
/// Bytes of a row's hash that tell dead letters of one place apart.
const HASH_BYTES: usize = 6;

/// Where the system's own entities are written and read.
pub struct Ledger {
    /// Journals an input; answers once that is durable, and not at all if the node is about to end.
    pub note: Box<dyn Fn(EntityKey, Input) -> oneshot::Receiver<Lsn> + Send + Sync>,
    pub read: Box<dyn Fn(EntityKey) -> BoxFuture<'static, Option<SystemState>> + Send + Sync>,
}

/// The node is about to end; nothing more becomes durable.
#[derive(Debug)]
pub struct Ending;

/// What a source's events go through.
pub struct Settling {
    pub name: String,
    pub admission: Arc<Admission>,
    pub decoder: Decoder,
    pub metrics: SourceMetrics,
    pub ledger: Ledger,
}

impl Settling {
    /// Settles rows, then the cursor, if it has moved. Returns what to remember the rows by.
    ///
    /// # Errors
    /// The node is about to end; then it is not known what became of the rows.
    pub async fn settle(&self, rows: Vec<Row>, moved: Option<Position>) -> Result<Vec<RowHash>, Ending> {
        let hashes = rows.iter().map(|row| row.hash).collect();
        if !rows.is_empty() {
            self.bring(rows).await?;
        }
        if let Some(cursor) = moved {
            self.note_cursor(cursor).await?;
        }
        Ok(hashes)
    }

    /// Notes how far the source has come.
    pub async fn note_cursor(&self, cursor: Position) -> Result<(), Ending> {
        let input = Input::Cursor(SourceCursor { position: Packed::new(&cursor.value()) });
        (self.ledger.note)(self.entity(), input).await.map(drop).map_err(|_| Ending)
    }

    /// The entity that holds the source's cursor.
    pub fn entity(&self) -> EntityKey {
        EntityKey::new(SOURCE_KIND, &self.name)
    }

    async fn bring(&self, rows: Vec<Row>) -> Result<(), Ending> {
        let now = Timestamp::now();
        let bytes = rows.iter().map(|row| row.text.len()).sum();
        let mut origins = Vec::with_capacity(rows.len());
        let mut events = Vec::with_capacity(rows.len());
        for (line, row) in (0..).zip(rows) {
            let (event, origin) = self.event(row, now);
            events.push((line, event));
            origins.push(origin);
        }
        let request = Request { events, is_batch: true };
        let posted = post(&self.admission, &self.metrics, request, bytes, Patience::Endless).await;
        let refused = posted.outcomes.into_iter().filter_map(|(line, outcome)| match outcome {
            EventOutcome::Refused(refusal) => Some((usize::try_from(line).unwrap_or(usize::MAX), refusal)),
            _ => None,
        });
        let letters: Vec<_> =
            refused.filter_map(|(line, refusal)| Some(self.letter(origins.get(line)?, refusal))).collect();
        self.bury(letters).await
    }

    fn event(&self, row: Row, now: Timestamp) -> (Result<Event, Refusal>, Brought) {
        let is_too_large = row.text.len() > self.decoder.event_bytes_max();
        let event = match row.unfit {
            Some(refusal) => Err(refusal),
            None if is_too_large => Err(self.decoder.too_large()),
            None => self.decoder.event(row.columns, now),
        };
        let id = event.as_ref().map(|event| event.id.clone()).unwrap_or_default();
        (event, Brought { position: row.position, hash: row.hash, id, text: row.text })
    }

    fn letter(&self, row: &Brought, refusal: Refusal) -> DeadLetter {
        let hash = row.hash.iter().take(HASH_BYTES).fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
        let position = match row.position {
            // So that they are listed in order.
            Position::Number(number) if number >= 0 => format!("{number:020}.{hash}"),
            position => format!("{position}.{hash}"),
        };
        DeadLetter {
            origin: Origin::Source { name: self.name.as_str().into(), position: position.into() },
            reason: refusal.code.as_str().into(),
            detail: refusal.message.into(),
            attempts: 1,
            entity: None,
            id: row.id.clone(),
            body: row.text.clone().into_bytes(),
        }
    }

    async fn bury(&self, letters: Vec<DeadLetter>) -> Result<(), Ending> {
        let Some(first) = letters.first() else { return Ok(()) };
        let (reason, detail, event_id) = (first.reason.clone(), first.detail.clone(), first.id.clone());
        let key = first.origin.key();
        let mut buried =
            stream::iter(letters.into_iter().map(|letter| self.bury_once(letter))).buffer_unordered(BURIED_AT_ONCE);
        let mut count = 0;
        while let Some(is_new) = buried.next().await {
            count += u64::from(is_new?);
        }
        if count > 0 {
            tracing::error!(
                source = %self.name, dead_letter = %key, %event_id, %reason,
                "rows were refused and are dead letters now: {count}, the first of them because {detail}"
            );
        }
        Ok(())
    }

    /// Whether it was not there before.
    async fn bury_once(&self, letter: DeadLetter) -> Result<bool, Ending> {
        let entity = EntityKey::new(DEAD_LETTER_KIND, letter.origin.key());
        if (self.ledger.read)(entity.clone()).await.is_some() {
            return Ok(false);
        }
        (self.ledger.note)(entity, Input::DeadLetter(Box::new(letter))).await.map_err(|_| Ending)?;
        Ok(true)
    }
}

/// What is kept of a row while its event is under way.
struct Brought {
    position: Position,
    hash: RowHash,
    id: Box<str>,
    text: String,
}
