//! Room for what is being received: long lines and bodies, which are no events yet. Without it, many that are begun and
//! never ended would fill the memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes everybody may receive without asking for room; as many as are read from a socket at once.
pub const FREE_BYTES: usize = 64 * 1024;
/// Room is counted in units of so many bytes.
const UNIT: u64 = 1024;

/// Room that is shared by all sources.
pub struct Receiving {
    units: Arc<Semaphore>,
    units_max: u32,
    /// How long it may take until what was given room has come.
    pub timeout: Duration,
}

/// Room that is taken, until it is dropped.
pub struct Room {
    _units: Option<OwnedSemaphorePermit>,
}

impl Receiving {
    /// Room for `bytes` in all.
    pub fn new(bytes: u64, timeout: Duration) -> Self {
        let units_max = u32::try_from((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS as u64)).unwrap_or(u32::MAX);
        Receiving { units: Arc::new(Semaphore::new(units_max as usize)), units_max, timeout }
    }

    /// Waits for room for `bytes`, the most that may come. Nobody who waits has any room, so those who have it get done.
    pub async fn room(&self, bytes: u64) -> Room {
        if bytes <= FREE_BYTES as u64 {
            return Room { _units: None };
        }
        let units = bytes.div_ceil(UNIT).min(u64::from(self.units_max)) as u32;
        // The semaphore is never closed.
        Room { _units: self.units.clone().acquire_many_owned(units).await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// If this failed, memory would have no bound, or the room that was given back would be lost.
    #[test]
    fn room_is_shared_and_given_back() {
        let receiving = Receiving::new(300 << 10, Duration::ZERO);
        let is_free = |bytes| receiving.room(bytes).now_or_never().is_some();
        let held: Vec<_> = [100 << 10, 200 << 10].map(|bytes| receiving.room(bytes).now_or_never()).into();
        assert!(held.iter().all(Option::is_some), "there is room for both");
        assert!(is_free(FREE_BYTES as u64) && !is_free(FREE_BYTES as u64 + 1), "small ones ask for none");
        drop(held);
        assert!(is_free(1 << 30), "what is larger than all room gets all of it");
    }
}
