//! The outlet of sinks that take lines in the order of the journal: whatever has gathered is delivered at once.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::dispatcher::Outlet;
use super::routing::Delivery;
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::record::Input;
use crate::model::system::SinkProgress;
use crate::telemetry::{Leg, Tracer};

/// So many bytes of decisions are delivered at once.
const DELIVERY_BYTES_MAX: usize = 1024 * 1024;
/// Pauses after failed deliveries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Where lines go. What `deliver` returns has reached the sink for good.
pub trait LineSink: Send {
    /// Delivers lines of JSON. Returns the sink's length afterwards, for those that have one.
    ///
    /// # Errors
    /// Nothing of it counts as delivered then; it will be delivered again.
    fn deliver(&mut self, lines: &[u8]) -> std::io::Result<u64>;
}

/// The outlet.
pub struct Lines {
    name: String,
    sink: Box<dyn LineSink>,
    progress: SinkProgress,
    /// Everything up to here is delivered or gathered.
    passed: Lsn,
    gathered: Vec<u8>,
    count: u64,
    /// The ways of what is gathered, where they belong to a trace.
    legs: Vec<Leg>,
    finished: u64,
    /// The pause after the last failure, and when it is over.
    resting: Option<(Duration, Instant)>,
    tracer: Tracer,
    ok: IntCounter,
    failed: IntCounter,
}

impl Lines {
    /// An outlet that goes on from `progress`.
    pub fn new(name: &str, sink: Box<dyn LineSink>, progress: SinkProgress, tracer: Tracer, metrics: &Metrics) -> Self {
        let deliveries = |result: &str| metrics.sink_deliveries.with_label_values(&[name, result]);
        Lines {
            name: name.to_owned(),
            sink,
            passed: progress.delivered,
            progress,
            gathered: Vec::new(),
            count: 0,
            legs: Vec::new(),
            tracer,
            finished: 0,
            resting: None,
            ok: deliveries("ok"),
            failed: deliveries("failed"),
        }
    }

    fn deliver(&mut self, now: Instant) {
        match self.sink.deliver(&self.gathered) {
            Ok(offset) => {
                if self.resting.take().is_some() {
                    tracing::info!(sink = %self.name, "decisions are delivered again");
                }
                self.legs.drain(..).for_each(Leg::arrived);
                self.ok.inc_by(self.count);
                self.progress.offset = offset;
                self.finished += self.count;
                self.count = 0;
                self.gathered.clear();
            }
            Err(error) => {
                self.failed.inc_by(self.count);
                if self.resting.is_none() {
                    tracing::error!(sink = %self.name, %error, "decisions could not be delivered; it is tried again and again");
                }
                let pause = self.resting.map_or(RETRY_FIRST, |(pause, _)| (pause * 2).min(RETRY_MAX));
                self.resting = Some((pause, now + pause));
            }
        }
    }
}

impl Outlet for Lines {
    fn has_room(&self) -> bool {
        self.gathered.len() < DELIVERY_BYTES_MAX
    }

    fn put(&mut self, delivery: Delivery) {
        delivery.event.write(&mut self.gathered);
        self.gathered.push(b'\n');
        self.legs.extend(delivery.leg(&self.tracer, &self.name).filter(Leg::is_recorded));
        self.count += 1;
    }

    fn passed(&mut self, lsn: Lsn) {
        self.passed = self.passed.max(lsn);
    }

    fn work(&mut self, now: Instant) -> Option<Instant> {
        if self.count > 0 && self.resting.is_none_or(|(_, until)| until <= now) {
            self.deliver(now);
        }
        if self.count == 0 {
            self.progress.delivered = self.passed;
        }
        self.resting.map(|(_, until)| until)
    }

    fn is_idle(&self) -> bool {
        self.count == 0
    }

    fn delivered(&self) -> Lsn {
        self.progress.delivered
    }

    fn finished(&self) -> u64 {
        self.finished
    }

    fn progress(&self) -> Input {
        Input::Progress(self.progress.clone())
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }
}
