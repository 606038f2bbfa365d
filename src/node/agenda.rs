//! Loading the store's agenda into the shards' wheels: what has come due while nothing ran, what was under way, and then the
//! near future, a little ahead of the time.

use std::time::Duration;

use super::fatal::Fatal;
use crate::actors::{Horizon, Shards};
use crate::model::ids::EntityKey;
use crate::model::time::Timestamp;
use crate::store::{Store, Wake};

/// So far ahead is loaded.
const AHEAD: Duration = Duration::from_secs(30);
/// How often.
const LOADED_EVERY: Duration = Duration::from_secs(5);
/// So many rows are read at a time.
const ROWS_AT_ONCE: usize = 5_000;
/// While a wheel has more entries than this, nothing is loaded.
const ENTRIES_MAX: usize = 100_000;
/// How often it is looked whether a full wheel has room again.
const ROOM_EVERY: Duration = Duration::from_millis(100);

/// What loads wheels.
pub(super) struct Agenda {
    pub store: Store,
    pub shards: Shards,
    pub horizon: Horizon,
    pub fatal: Fatal,
}

impl Agenda {
    /// Loads for as long as the process runs.
    pub async fn load(self) {
        let mut after: Option<(Wake, EntityKey)> = None;
        loop {
            let through = Wake(Timestamp::now().after(AHEAD).millis());
            self.horizon.advance(through);
            loop {
                let (store, from) = (self.store.clone(), after.clone());
                let read = tokio::task::spawn_blocking(move || store.agenda(from.as_ref(), through, ROWS_AT_ONCE));
                let rows = match read.await {
                    Ok(Ok(rows)) => rows,
                    Ok(Err(error)) => return (self.fatal)(&error),
                    Err(_) => return,
                };
                let Some(last) = rows.last().cloned() else { break };
                after = Some(last);
                let mut fullest = self.shards.schedule(rows).await;
                while fullest > ENTRIES_MAX {
                    tokio::time::sleep(ROOM_EVERY).await;
                    fullest = self.shards.schedule(Vec::new()).await;
                }
            }
            tokio::time::sleep(LOADED_EVERY).await;
        }
    }
}
