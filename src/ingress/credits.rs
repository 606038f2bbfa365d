//! The credits of admission: what bounds how much is under way. An event takes all it needs at once and returns it when it
//! is settled; inputs from inside take none.

use tokio::sync::Semaphore;

/// Bytes are counted in units of so many.
const BYTES_UNIT: u64 = 1024;

/// Credits for records and for bytes.
pub struct Credits {
    records: Semaphore,
    byte_units: Semaphore,
    records_max: u32,
    byte_units_max: u32,
}

/// What an event takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub records: u32,
    pub byte_units: u32,
}

impl std::ops::AddAssign for Need {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.byte_units += other.byte_units;
    }
}

impl Credits {
    /// Credits for `records` and `bytes` under way.
    pub fn new(records: u64, bytes: u64) -> Self {
        let clamp = |n: u64| u32::try_from(n.clamp(1, Semaphore::MAX_PERMITS as u64)).unwrap_or(u32::MAX);
        let (records_max, byte_units_max) = (clamp(records), clamp(bytes / BYTES_UNIT));
        Credits {
            records: Semaphore::new(records_max as usize),
            byte_units: Semaphore::new(byte_units_max as usize),
            records_max,
            byte_units_max,
        }
    }

    /// What `records` with `bytes` in all need; never more than there is, so that everything can be admitted alone.
    pub fn need(&self, records: u64, bytes: u64) -> Need {
        let units = bytes.div_ceil(BYTES_UNIT).min(u64::from(self.byte_units_max));
        Need { records: records.min(u64::from(self.records_max)) as u32, byte_units: units as u32 }
    }

    /// Takes credits if they are there.
    pub fn try_take(&self, need: Need) -> bool {
        let Ok(units) = self.byte_units.try_acquire_many(need.byte_units) else { return false };
        let Ok(records) = self.records.try_acquire_many(need.records) else { return false };
        units.forget();
        records.forget();
        true
    }

    /// Waits for credits. Waiting can be given up at any time without losing any.
    pub async fn take(&self, need: Need) {
        let units = self.byte_units.acquire_many(need.byte_units).await;
        let records = self.records.acquire_many(need.records).await;
        // The semaphores are never closed, so both are there.
        if let (Ok(units), Ok(records)) = (units, records) {
            units.forget();
            records.forget();
        }
    }

    /// Gives credits back.
    pub fn give_back(&self, taken: Need) {
        self.records.add_permits(taken.records as usize);
        self.byte_units.add_permits(taken.byte_units as usize);
    }

    /// Records under way.
    pub fn in_flight(&self) -> u64 {
        u64::from(self.records_max) - self.records.available_permits() as u64
    }
}
