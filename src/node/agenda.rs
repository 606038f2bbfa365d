//! Loading the store's agenda into the shards' wheels: what has come due while nothing ran, what was under way, and then the
//! near future, a little ahead of the time.

use std::sync::Arc;
use std::time::Duration;

use super::fatal::Fatal;
use crate::actors::{Horizon, Pauses, Shards};
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
/// After so many looks at which nothing was left that is looked at because of the start, all of it was.
const LOOKS: u32 = 2;
/// How often it is looked whether a full wheel has room again.
const ROOM_EVERY: Duration = Duration::from_millis(100);

/// What loads wheels.
pub(super) struct Agenda {
    pub store: Store,
    pub shards: Shards,
    pub horizon: Horizon,
    pub pauses: Arc<Pauses>,
    pub fatal: Fatal,
}

impl Agenda {
    /// Loads for as long as the process runs.
    pub async fn load(self) {
        let (mut after, mut looks) = (None::<(Wake, EntityKey)>, 0);
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
                let mut filled = self.shards.schedule(rows).await;
                while filled.entries > ENTRIES_MAX {
                    tokio::time::sleep(ROOM_EVERY).await;
                    filled = self.shards.schedule(Vec::new()).await;
                }
            }
            if looks < LOOKS {
                let filled = self.shards.schedule(Vec::new()).await;
                looks = if filled.has_started { 0 } else { looks + 1 };
                if looks == LOOKS {
                    self.pauses.are_known();
                }
            }
            tokio::time::sleep(if looks < LOOKS { ROOM_EVERY } else { LOADED_EVERY }).await;
        }
    }
}
