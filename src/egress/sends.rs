//! The outlet of sinks that send over the network: a window over keys, retries, and dead letters for what failed for good.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use super::by_hand::{self, SinkControl};
use super::dispatcher::Outlet;
use super::pauses::{PAUSE_MAX, backoff};
use super::routing::Delivery;
use super::window::{Sending, Window};
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::system::{DeadLetter, Form, Origin, SinkWindow};
use crate::model::trace::TraceContext;
use crate::telemetry::{Leg, Tracer, tell};

/// The longest body that a dead letter keeps, in bytes; far above what any decision has.
const DEAD_LETTER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is said of a receiver that asks for a pause.
pub(super) const TOO_MUCH: &str = "the receiver has too much to do";

/// The reason of what was given up by hand.
const SKIPPED: &str = "skipped";

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// It may succeed later, not before the pause that the receiver asks for.
    Failed {
        why: String,
        pause: Option<Duration>,
    },
    /// The receiver has too much to do, which says nothing about this delivery.
    Busy {
        pause: Option<Duration>,
    },
    /// It can never succeed.
    Never {
        reason: &'static str,
        why: String,
    },
    /// The receiver wants nothing any more.
    Closed {
        why: String,
    },
}

impl Outcome {
    fn ends(&self, leg: Leg) {
        match self {
            Outcome::Delivered => leg.arrived(),
            Outcome::Busy { .. } => leg.failed("busy"),
            Outcome::Failed { why, .. } | Outcome::Never { why, .. } | Outcome::Closed { why } => leg.failed(why),
        }
    }
}

/// A send under way.
pub type Sent = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Sends one delivery, and says to which trace it belongs. It must come to an end by itself.
pub trait Transport: Send + Sync {
    fn send(&self, delivery: Arc<Delivery>, trace: Option<TraceContext>) -> Sent;
}

/// How often and when it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// After so many failures it is given up; none: never.
    pub attempts_max: Option<u32>,
    pub first: Duration,
    pub longest: Duration,
}

/// Records a dead letter; answers when it is durable.
pub type Bury = Box<dyn Fn(DeadLetter) -> oneshot::Receiver<Lsn> + Send>;

/// What the outlet needs.
pub struct SendsSetup {
    pub name: String,
    pub transport: Arc<dyn Transport>,
    pub progress: SinkWindow,
    pub in_flight_max: usize,
    pub retry: Retry,
    pub bury: Bury,
    pub tracer: Tracer,
    pub runtime: Handle,
}

/// The outlet.
pub struct Sends {
    setup: SendsSetup,
    pub(super) window: Window,
    finished: u64,
    /// Answers in a row that said "too much".
    busy: u32,
    told_failing: bool,
    done: mpsc::Receiver<(Sending, Step)>,
    report: Report,
    counters: Counters,
    pub(super) by_hand: by_hand::Asked,
}

/// Where tasks report what came of a delivery.
#[derive(Clone)]
struct Report {
    done: mpsc::Sender<(Sending, Step)>,
    notify: Arc<Notify>,
}

impl Report {
    fn tell(&self, sending: Sending, step: Step) {
        // There is room for all that can be under way; without a receiver the node has ended.
        let _ = self.done.try_send((sending, step));
        self.notify.notify_one();
    }
}

/// What came of something that was under way.
enum Step {
    Sent(Outcome),
    /// Its dead letter is durable.
    Buried,
}

struct Counters {
    ok: IntCounter,
    failed: IntCounter,
    busy: IntCounter,
    dead_letter: IntCounter,
}

impl Sends {
    /// An outlet that goes on from `setup.progress`.
    pub fn new(setup: SendsSetup, metrics: &Metrics) -> Self {
        let counter = |result: &str| metrics.sink_deliveries.with_label_values(&[setup.name.as_str(), result]);
        let counters = Counters {
            ok: counter("ok"),
            failed: counter("failed"),
            busy: counter("busy"),
            dead_letter: counter("dead_letter"),
        };
        let window = Window::new(&setup.progress, setup.in_flight_max);
        let (sender, done) = mpsc::channel(setup.in_flight_max.max(1));
        let report = Report { done: sender, notify: Arc::default() };
        let by_hand = by_hand::Asked::new(report.notify.clone());
        Sends { setup, window, finished: 0, busy: 0, told_failing: false, done, report, counters, by_hand }
    }

    /// What others may ask of it.
    pub fn control(&self) -> SinkControl {
        self.by_hand.control()
    }

    fn start(&self, sending: Sending) {
        let leg = sending.delivery.leg(&self.setup.tracer, &self.setup.name);
        let carried = leg.as_ref().map(|leg| leg.carried().clone());
        let sent = self.setup.transport.send(sending.delivery.clone(), carried);
        let report = self.report.clone();
        self.setup.runtime.spawn(async move {
            let panicked = |_| Outcome::Failed { why: "the sink panicked".to_owned(), pause: None };
            let outcome = AssertUnwindSafe(sent).catch_unwind().await.unwrap_or_else(panicked);
            if let Some(mut leg) = leg {
                leg.note("turnstile.attempt", i64::from(sending.tries) + 1);
                outcome.ends(leg);
            }
            report.tell(sending, Step::Sent(outcome));
        });
    }

    fn came_of(&mut self, sending: Sending, step: Step, now: Instant) {
        let delivery = sending.delivery.clone();
        let retry = self.setup.retry;
        let step = match step {
            Step::Sent(outcome) if delivery.is_again => {
                if outcome == Outcome::Delivered {
                    self.counters.ok.inc();
                } else {
                    self.counters.failed.inc();
                }
                self.window.finished(&delivery);
                return self.by_hand.was_sent_again(&delivery, outcome);
            }
            Step::Sent(outcome) if outcome != Outcome::Delivered => match self.by_hand.skips(&delivery, outcome) {
                Ok((why, mandate)) => return self.skip(sending, why, mandate),
                Err(outcome) => Step::Sent(outcome),
            },
            other => other,
        };
        match step {
            Step::Buried => {
                self.by_hand.was_skipped(&delivery);
                self.finish(&delivery);
            }
            Step::Sent(Outcome::Delivered) => {
                self.counters.ok.inc();
                self.busy = 0;
                self.by_hand.was_delivered(&delivery);
                self.finish(&delivery);
            }
            Step::Sent(Outcome::Busy { pause }) => {
                self.counters.busy.inc();
                self.busy = self.busy.saturating_add(1);
                let pause = pause.unwrap_or_else(|| backoff(retry.first, retry.longest, self.busy, delivery.id()));
                self.tell_failing(&delivery, TOO_MUCH);
                self.window.put_off(&delivery, now + pause.min(PAUSE_MAX), TOO_MUCH);
            }
            Step::Sent(Outcome::Failed { why, pause }) => {
                self.counters.failed.inc();
                let attempts = sending.failures + 1;
                if retry.attempts_max.is_some_and(|most| attempts >= most) {
                    return self.bury(sending, "exhausted", why, None);
                }
                self.tell_failing(&delivery, &why);
                let wait = backoff(retry.first, retry.longest, attempts, delivery.id());
                self.window.failed(&delivery, now + wait.max(pause.unwrap_or_default().min(PAUSE_MAX)), &why);
            }
            Step::Sent(Outcome::Never { reason, why }) => {
                self.counters.failed.inc();
                self.bury(sending, reason, why, None);
            }
            Step::Sent(Outcome::Closed { why }) => {
                self.by_hand.set_trouble(Some(why.clone()));
                self.counters.failed.inc();
                if !self.window.is_closed() {
                    tell!(
                        error,
                        delivery.about(),
                        sink = %self.setup.name, id = %delivery.id(),
                        "{why}: the sink is disabled until the next start; its decisions stay in the journal, which is \
                         not trimmed meanwhile. Mend it or remove it from the configuration, then restart"
                    );
                }
                self.window.close(&delivery);
            }
        }
    }

    fn finish(&mut self, delivery: &Delivery) {
        self.window.finished(delivery);
        self.finished += 1;
        if self.told_failing && !self.window.is_failing() {
            self.told_failing = false;
            self.by_hand.set_trouble(None);
            tracing::info!(sink = %self.setup.name, "nothing waits to be tried again any more");
        }
    }

    /// One line for an outage, however many keys and attempts it touches.
    fn tell_failing(&mut self, delivery: &Delivery, why: &str) {
        self.by_hand.set_trouble(Some(why.to_owned()));
        if !self.told_failing {
            self.told_failing = true;
            tell!(warn, delivery.about(), sink = %self.setup.name, id = %delivery.id(), "a decision could not be delivered and is tried again: {why}");
        }
    }

    /// Gives up on a delivery; its key goes on once the dead letter is durable.
    fn bury(&mut self, sending: Sending, reason: &'static str, why: String, mandate: Option<Mandate>) {
        let delivery = &sending.delivery;
        tell!(error, delivery.about(), sink = %self.setup.name, id = %delivery.id(), reason, "given up, now a dead letter: {why}");
        self.counters.dead_letter.inc();
        let mut body = delivery.json();
        let is_whole = body.len() <= DEAD_LETTER_BYTES_MAX;
        body.truncate(DEAD_LETTER_BYTES_MAX);
        let name = self.setup.name.as_str().into();
        let durable = (self.setup.bury)(DeadLetter {
            origin: Origin::Sink { name, lsn: delivery.lsn, place: delivery.place },
            reason: reason.into(),
            detail: why.into(),
            attempts: if mandate.is_some() { sending.tries } else { sending.tries + 1 },
            entity: Some(delivery.entity.clone()),
            id: delivery.id().into(),
            form: if is_whole { Form::Decision } else { Form::Partial },
            body,
            mandate,
        });
        let report = self.report.clone();
        self.setup.runtime.spawn(async move {
            // Without an answer the node is about to end, and it will be tried again after the next start.
            if durable.await.is_ok() {
                report.tell(sending, Step::Buried);
            }
        });
    }
}

impl Sends {
    /// Gives up on a delivery because somebody says so, who wants the sink to go on.
    pub(super) fn skip(&mut self, sending: Sending, why: String, mandate: Mandate) {
        self.window.end_pause();
        self.bury(sending, SKIPPED, why, Some(mandate));
    }
}

impl Outlet for Sends {
    fn has_room(&self) -> bool {
        self.window.has_room()
    }

    fn put(&mut self, delivery: Delivery) {
        self.window.put(delivery);
    }

    fn passed(&mut self, lsn: Lsn) {
        self.window.passed(lsn);
    }

    fn work(&mut self, now: Instant) -> Option<Instant> {
        while let Ok((sending, step)) = self.done.try_recv() {
            self.came_of(sending, step, now);
        }
        self.answer_asks();
        while let Some(sending) = self.window.next(now) {
            self.start(sending);
        }
        self.window.next_at()
    }

    fn is_idle(&self) -> bool {
        self.window.is_empty() || self.window.is_closed()
    }

    fn delivered(&self) -> Lsn {
        self.window.delivered()
    }

    fn finished(&self) -> u64 {
        self.finished
    }

    fn progress(&self) -> Input {
        Input::Window(self.window.progress())
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.report.notify.notified())
    }
}
