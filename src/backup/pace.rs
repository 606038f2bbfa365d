//! So many bytes a second and no more: who copies waits in between, so that commits get to the disk first.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

/// Nobody waits longer without looking whether it is still wanted.
const NAP_MAX: Duration = Duration::from_millis(100);

/// A rate that is kept.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When what was copied so far is paid for.
    free_at: Instant,
}

impl Pace {
    pub fn new(bytes_per_second: u64) -> Self {
        Pace { bytes_per_second: bytes_per_second.max(1), free_at: Instant::now() }
    }

    /// Notes what was copied; when the next slice may follow. What was not used before is not saved up.
    fn spend(&mut self, bytes: u64, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.free_at = self.free_at.max(now) + cost;
        self.free_at
    }

    /// Waits as long as `bytes` cost, while `wanted` says so.
    pub fn wait(&mut self, bytes: u64, mut wanted: impl FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        let until = self.spend(bytes, Instant::now());
        loop {
            wanted()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return ControlFlow::Continue(());
            }
            thread::sleep(left.min(NAP_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a backup would take the disk from the journal, or a pause of it be made up for in a burst.
    #[test]
    fn the_rate_holds_and_nothing_is_saved_up() {
        let mut pace = Pace::new(1000);
        let begun = pace.free_at;
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(pace.spend(500, at(0)), at(500));
        assert_eq!(pace.spend(500, at(100)), at(1000), "faster than it may");
        assert_eq!(pace.spend(100, at(5000)), at(5100), "slower than it may");
        assert_eq!(pace.spend(100, at(5000)), at(5200));
    }

    #[test]
    fn who_is_not_wanted_does_not_wait() {
        assert!(Pace::new(1).wait(1 << 40, || ControlFlow::Break(())).is_break());
    }
}
