//! What people ask of a sink: skipping what it is stuck on, sending again what was given up.

use std::time::Duration;

use super::sends::{Test, failed};
use crate::egress::by_hand::{NotTaken, SkipError, Wanted};
use crate::egress::dispatcher::Outlet;
use crate::egress::routing::Delivery;
use crate::egress::sends::Outcome;
use crate::egress::{LineSink, Lines};
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::system::{SinkProgress, SinkWindow};
use crate::telemetry::Tracer;

fn mandate() -> Mandate {
    Mandate { by: "ann".into(), why: "it is broken".into() }
}

/// If this failed, an operator could not get a key going again, or what was skipped would be gone without a trace.
#[tokio::test(start_paused = true)]
async fn what_a_key_waits_for_is_skipped_and_the_key_goes_on() {
    for is_in_flight in [false, true] {
        let mut test = Test::new(&[failed(None), Outcome::Delivered], &[(7, 0, "a"), (8, 0, "a")]);
        let control = test.sends.control();
        if is_in_flight {
            test.sends.work(test.now);
        } else {
            assert!(test.settle().await.is_some(), "it is tried again later");
            let asked = tokio::spawn({
                let control = control.clone();
                async move { control.stuck().await }
            });
            test.settle().await;
            let stuck = asked.await.unwrap();
            assert_eq!((stuck.len(), &*stuck[0].id, stuck[0].attempts), (1, "order/a/Made/70", 1));
            assert_eq!((&*stuck[0].why, control.trouble().as_deref()), ("HTTP 500", Some("HTTP 500")));
        }
        let skip = |wanted| {
            let control = control.clone();
            tokio::spawn(async move { control.skip(wanted, mandate()).await })
        };
        let unknown = skip(Wanted::Lsn(Lsn(8)));
        let skipped = skip(if is_in_flight { Wanted::Lsn(Lsn(7)) } else { Wanted::Id("order/a/Made/70".to_owned()) });
        tokio::task::yield_now().await;
        test.settle().await;
        assert_eq!(unknown.await.unwrap(), Err(SkipError::Unknown), "it waits behind another");
        let (letter, done) = test.buried.lock().unwrap().pop().expect("a dead letter");
        assert_eq!((&*letter.reason, &*letter.detail), ("skipped", "HTTP 500"));
        assert_eq!(letter.mandate, Some(mandate()));
        assert!(!skipped.is_finished(), "not before it is durable");
        done.send(Lsn(99)).unwrap();
        test.settle().await;
        assert_eq!(skipped.await.unwrap(), Ok("order/a/Made/70".to_owned()));
        assert_eq!(test.sent(), [(7, 0), (8, 0)]);
        assert_eq!(test.sends.progress(), Input::Window(SinkWindow::through(Lsn(8))));
        assert_eq!(control.trouble(), None);
    }
}

/// If this failed, what was given up could not be sent again, would be sent for hours, or would count as progress.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_sent_again_once_behind_the_others() {
    let never = || Outcome::Never { reason: "too_large", why: "9 bytes".to_owned() };
    let outcomes = [never(), Outcome::Delivered, failed(None), Outcome::Delivered, Outcome::Delivered];
    let mut test = Test::new(&outcomes, &[(7, 0, "a"), (8, 0, "a")]);
    test.settle().await;
    let (letter, done) = test.buried.lock().unwrap().pop().expect("a dead letter");
    let delivery = Delivery::of_letter(&letter).expect("it is a decision");
    assert_eq!(delivery.json(), letter.body, "the same bytes");
    done.send(Lsn(99)).unwrap();
    test.settle().await;
    let control = test.sends.control();
    let (before, finished) = (test.sends.progress(), test.sends.finished());
    let first = control.resend(delivery.clone()).unwrap();
    let twice = control.resend(delivery.clone()).unwrap();
    test.settle().await;
    let why = "HTTP 500".to_owned();
    assert_eq!(
        first.await.unwrap(),
        Err(NotTaken::Refused { reason: "failed", why }),
        "it is not tried by itself again"
    );
    assert!(matches!(twice.await.unwrap(), Err(NotTaken::Unsent(_))));
    let again = control.resend(delivery).unwrap();
    test.settle().await;
    assert_eq!(again.await.unwrap(), Ok(()));
    assert_eq!(test.sent(), [(7, 0), (8, 0), (7, 0), (7, 0)]);
    assert_eq!((test.sends.progress(), test.sends.finished()), (before, finished));
    assert!(test.sends.is_idle());
}

/// If this failed, a sink would do nothing for as long as a receiver once asked, although somebody has seen to it.
#[tokio::test(start_paused = true)]
async fn skipping_ends_the_pause_that_a_receiver_asked_for() {
    let busy = Outcome::Busy { pause: Some(Duration::from_mins(30)) };
    let mut test = Test::new(&[busy, Outcome::Delivered], &[(7, 0, "a"), (8, 0, "b")]);
    let control = test.sends.control();
    test.sends.work(test.now);
    test.settle().await;
    let skipped = tokio::spawn(async move { control.skip(Wanted::Lsn(Lsn(7)), mandate()).await });
    tokio::task::yield_now().await;
    test.settle().await;
    let (_, done) = test.buried.lock().unwrap().pop().expect("a dead letter");
    done.send(Lsn(99)).unwrap();
    assert_eq!(test.settle().await, None, "nothing waits");
    assert!(skipped.await.unwrap().is_ok() && test.sends.is_idle());
}

struct Broken;

impl LineSink for Broken {
    fn deliver(&mut self, _: &[u8]) -> std::io::Result<u64> {
        Err(std::io::Error::other("no space"))
    }
}

/// If this failed, a file would lack a line that nobody could put there later, or its trouble would not be seen.
#[tokio::test]
async fn what_is_written_in_order_skips_nothing() {
    let mut lines = Lines::new("file", Box::new(Broken), SinkProgress::default(), Tracer::default(), &Metrics::new());
    let control = lines.control();
    lines.put(super::delivery(1, 0, "a"));
    lines.work(std::time::Instant::now() + Duration::from_secs(1));
    assert_eq!(control.trouble().as_deref(), Some("no space"));
    assert_eq!(control.skip(Wanted::Lsn(Lsn(1)), mandate()).await, Err(SkipError::InOrder));
    assert!(control.stuck().await.is_empty());
}
