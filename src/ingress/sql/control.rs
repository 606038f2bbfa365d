//! What others may know of a running source, and ask of it.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::position::Position;
use crate::config::Growth;
use crate::model::json;
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// How long a rewind may wait for the page that is under way.
const REWIND_TIMEOUT: Duration = Duration::from_secs(10);

/// How a source is.
#[derive(Clone, Debug)]
pub struct Shown {
    /// All rows up to here, late ones apart, are durable.
    pub cursor: Position,
    /// Why it cannot read.
    pub trouble: Option<String>,
    /// When it last had read all that was there.
    pub caught_up: Option<Timestamp>,
}

/// A request to go on from elsewhere, answered once that is durable.
#[derive(Debug)]
pub struct Rewind {
    pub to: Position,
    pub done: oneshot::Sender<()>,
}

/// Why a source does not go back.
#[derive(Debug, thiserror::Error)]
pub enum RewindError {
    #[error("`to` is {0}; it must be a value of the cursor's column")]
    Value(String),
    #[error("the source has only come to {0}; setting it forward would leave rows out")]
    Forward(String),
    #[error("the source is still busy with a page that cannot be settled; ask again later")]
    Busy,
}

/// The source as others see it.
#[derive(Clone, Debug)]
pub struct SqlControl {
    pub(super) name: String,
    pub(super) growth: Growth,
    pub(super) shown: watch::Receiver<Shown>,
    pub(super) rewinds: mpsc::Sender<Rewind>,
}

impl SqlControl {
    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The source as the status document shows it.
    pub fn status(&self) -> serde_json::Value {
        let shown = self.shown.borrow().clone();
        let cursor = match shown.cursor {
            Position::Number(number) => json!(number),
            time @ Position::Time { .. } => json!(time.to_string()),
        };
        json!({
            "name": self.name,
            "kind": "sql",
            "cursor": cursor,
            "up": shown.trouble.is_none(),
            "trouble": shown.trouble,
            "caught_up": shown.caught_up.map(|time| time.to_string()),
        })
    }

    /// Sets the cursor back: rows after `to` are read again. Returns once that is durable.
    pub async fn rewind(&self, to: &Value) -> Result<Position, RewindError> {
        let text = to.as_str().and_then(Timestamp::parse).map(Value::Timestamp);
        let to = text.as_ref().unwrap_or(to);
        let to = Position::of(to, self.growth)
            .map_err(|is| RewindError::Value(format!("{} is {is}", json::to_string(to))))?;
        let cursor = self.shown.borrow().cursor;
        if to.is_after(&cursor) {
            return Err(RewindError::Forward(cursor.to_string()));
        }
        let (done, is_done) = oneshot::channel();
        let asked = async {
            self.rewinds.send(Rewind { to, done }).await.ok()?;
            is_done.await.ok()
        };
        match tokio::time::timeout(REWIND_TIMEOUT, asked).await {
            Ok(Some(())) => Ok(to),
            _ => Err(RewindError::Busy),
        }
    }
}
