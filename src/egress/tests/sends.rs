//! The outlet: what it makes of each outcome, with a transport that answers as the test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{delivery, places};
use crate::egress::dispatcher::Outlet;
use crate::egress::routing::Delivery;
use crate::egress::sends::{Outcome, Retry, Sends, SendsSetup, Sent, TOO_MUCH, Transport};
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::record::Input;
use crate::model::system::{DeadLetter, Origin, SinkWindow};
use crate::model::trace::TraceContext;
use crate::telemetry::Tracer;

/// Answers by a script, and remembers what it was sent.
#[derive(Default)]
struct Scripted {
    outcomes: Mutex<VecDeque<Outcome>>,
    sent: Mutex<Vec<Arc<Delivery>>>,
}

impl Transport for Scripted {
    fn send(&self, delivery: Arc<Delivery>, _: Option<TraceContext>) -> Sent {
        self.sent.lock().unwrap().push(delivery);
        let outcome = self.outcomes.lock().unwrap().pop_front().expect("the script goes on");
        Box::pin(async move { outcome })
    }
}

pub(super) type Buried = Arc<Mutex<Vec<(DeadLetter, oneshot::Sender<Lsn>)>>>;

pub(super) struct Test {
    pub sends: Sends,
    transport: Arc<Scripted>,
    metrics: Metrics,
    pub buried: Buried,
    pub now: Instant,
}

impl Test {
    pub fn new(outcomes: &[Outcome], deliveries: &[(u64, u32, &str)]) -> Self {
        let transport = Arc::new(Scripted::default());
        transport.outcomes.lock().unwrap().extend(outcomes.iter().cloned());
        let (metrics, buried) = (Metrics::new(), Buried::default());
        let graves = buried.clone();
        let setup = SendsSetup {
            name: "hook".to_owned(),
            transport: transport.clone(),
            progress: SinkWindow::default(),
            in_flight_max: 2,
            retry: Retry { attempts_max: Some(3), first: Duration::from_secs(1), longest: Duration::from_secs(8) },
            bury: Box::new(move |letter| {
                let (done, durable) = oneshot::channel();
                graves.lock().unwrap().push((letter, done));
                durable
            }),
            tracer: Tracer::default(),
            runtime: tokio::runtime::Handle::current(),
        };
        let mut sends = Sends::new(setup, &metrics);
        for (lsn, place, key) in deliveries {
            sends.put(delivery(*lsn, *place, key));
            sends.passed(Lsn(*lsn));
        }
        Test { sends, transport, metrics, buried, now: Instant::now() }
    }

    /// Works until nothing more happens at this time; returns when something will.
    pub async fn settle(&mut self) -> Option<Instant> {
        loop {
            let due = self.sends.work(self.now);
            if tokio::time::timeout(Duration::from_millis(20), self.sends.changed()).await.is_err() {
                return due;
            }
        }
    }

    pub fn sent(&self) -> Vec<(u64, u32)> {
        places(&*self.transport.sent.lock().unwrap())
    }

    fn counted(&self, result: &str) -> u64 {
        self.metrics.sink_deliveries.with_label_values(&["hook", result]).get()
    }
}

pub(super) fn failed(pause: Option<u64>) -> Outcome {
    Outcome::Failed { why: "HTTP 500".to_owned(), pause: pause.map(Duration::from_secs) }
}

/// If this failed, what fails for good would hold up its key for ever, or be gone without a trace.
#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_comes_a_dead_letter_and_the_key_goes_on_once_it_is_durable() {
    let outcomes = [failed(None), failed(None), failed(None), Outcome::Delivered];
    let mut test = Test::new(&outcomes, &[(7, 0, "a"), (8, 0, "a")]);
    while let Some(due) = test.settle().await {
        assert!(due > test.now && due <= test.now + Duration::from_secs(8));
        test.now = due;
    }
    assert_eq!(test.sent(), [(7, 0); 3]);
    let (letter, done) = test.buried.lock().unwrap().pop().expect("a dead letter");
    assert_eq!(letter.origin, Origin::Sink { name: "hook".into(), lsn: Lsn(7), place: 0 });
    assert_eq!((&*letter.reason, &*letter.detail, letter.attempts), ("exhausted", "HTTP 500", 3));
    assert!(letter.body.starts_with(br#"{"specversion":"1.0","id":"order/a/Made/70""#));
    assert_eq!(test.sends.delivered(), Lsn(6), "not finished before the dead letter is durable");
    done.send(Lsn(99)).unwrap();
    test.settle().await;
    assert_eq!(test.sent().last(), Some(&(8, 0)));
    assert_eq!(test.sends.progress(), Input::Window(SinkWindow::through(Lsn(8))));
    assert_eq!((test.counted("ok"), test.counted("failed"), test.counted("dead_letter")), (1, 3, 1));
    assert!(test.sends.is_idle());
}

/// If this failed, a receiver's wish to be left alone would be ignored, or would cost a delivery its attempts.
#[tokio::test(start_paused = true)]
async fn pauses_that_the_receiver_asks_for_are_kept() {
    let busy = |seconds| Outcome::Busy { pause: Some(Duration::from_secs(seconds)) };
    let outcomes = [busy(60), busy(60), busy(60), busy(60), failed(Some(30)), Outcome::Delivered];
    let mut test = Test::new(&outcomes, &[(1, 0, "a")]);
    let control = test.sends.control();
    let (mut waits, mut troubles) = (Vec::new(), Vec::new());
    while let Some(due) = test.settle().await {
        waits.push((due - test.now).as_secs());
        troubles.push(control.trouble());
        test.now = due;
    }
    let troubles: Vec<_> = troubles.iter().map(Option::as_deref).collect();
    assert_eq!(waits, [60, 60, 60, 60, 30]);
    assert_eq!(troubles, [Some(TOO_MUCH), Some(TOO_MUCH), Some(TOO_MUCH), Some(TOO_MUCH), Some("HTTP 500")]);
    assert_eq!(control.trouble(), None, "it is over");
    assert_eq!((test.counted("ok"), test.counted("busy"), test.counted("failed")), (1, 4, 1));
    assert!(test.buried.lock().unwrap().is_empty());
}

/// If this failed, what can never succeed would be tried all the same, or an endpoint that is gone would be called on.
#[tokio::test(start_paused = true)]
async fn never_is_not_tried_again_and_gone_is_the_end() {
    let never = Outcome::Never { reason: "too_large", why: "9 bytes".to_owned() };
    let gone = Outcome::Closed { why: "410".to_owned() };
    let mut test = Test::new(&[never, Outcome::Delivered, gone], &[(1, 0, "a"), (2, 0, "b"), (3, 0, "c"), (4, 0, "b")]);
    assert_eq!(test.settle().await, None);
    let (letter, done) = test.buried.lock().unwrap().pop().expect("a dead letter");
    assert_eq!((&*letter.reason, letter.attempts), ("too_large", 1));
    done.send(Lsn(9)).unwrap();
    test.settle().await;
    assert_eq!(test.sent(), [(1, 0), (2, 0), (3, 0)], "nothing more once it is gone");
    assert_eq!(test.sends.delivered(), Lsn(2), "and what was not taken stays");
    assert!(test.sends.is_idle() && !test.sends.has_room());
}
