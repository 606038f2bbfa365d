//! Steps, retries, bounds and the end, in simulated time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Request;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Entities, call, configured};
use crate::egress::effects::http::{Calling, MakeCalls};
use crate::egress::effects::judge::Answer;
use crate::egress::effects::request::IDEMPOTENCY_KEY;
use crate::egress::effects::response::Body;
use crate::egress::effects::{Effects, EffectsSetup};
use crate::metrics::Metrics;
use crate::model::dealings::Call;

const URL: &str = "http://bureau/score";
const LEAST: &str = "retry = { attempts = 3, backoff = \"1s..10s\" }";
const ONCE: &str = "guarantee = \"at_most_once\"";

/// Answers by a script, and with 200 when it is at its end.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    /// Idempotency key, body, and seconds since the start, of each call.
    calls: Mutex<Vec<(String, String, u64)>>,
    began: Instant,
    under_way: AtomicUsize,
    under_way_most: AtomicUsize,
    /// Each answer takes one.
    permits: Semaphore,
}

impl Script {
    fn keys(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(key, ..)| key.clone()).collect()
    }
}

struct Scripted(Arc<Script>);

impl MakeCalls for Scripted {
    fn call(&self, request: Request) -> Calling<'_> {
        let script = &self.0;
        let key = request.headers()[IDEMPOTENCY_KEY].to_str().unwrap().to_owned();
        let body = String::from_utf8(request.body().unwrap().as_bytes().unwrap().to_vec()).unwrap();
        script.calls.lock().unwrap().push((key, body, script.began.elapsed().as_secs()));
        let under_way = script.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        script.under_way_most.fetch_max(under_way, Ordering::SeqCst);
        Box::pin(async move {
            script.permits.acquire().await.unwrap().forget();
            script.under_way.fetch_sub(1, Ordering::SeqCst);
            script.answers.lock().unwrap().pop_front().unwrap_or_else(|| status(200))
        })
    }
}

fn status(status: u16) -> Answer {
    Answer::Status { status, body: Body::Whole(None), pause: None }
}

fn lost() -> Answer {
    Answer::Lost { why: "reset".into() }
}

struct Test {
    effects: Effects,
    entities: Arc<Entities>,
    script: Arc<Script>,
    metrics: Metrics,
}

impl Test {
    /// With so many answers that may be given.
    fn new(effect: &str, answers: impl IntoIterator<Item = Answer>, permits: usize) -> Self {
        let (entities, metrics) = (Arc::new(Entities::default()), Metrics::new());
        let (ruleset, limits) = configured(effect);
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into_iter().collect()),
            calls: Mutex::default(),
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
            under_way_most: AtomicUsize::new(0),
            permits: Semaphore::new(permits),
        });
        let setup = EffectsSetup {
            ruleset: &ruleset,
            note: entities.note_step(),
            metrics: &metrics,
            tracer: crate::telemetry::Tracer::default(),
            limits: &limits,
            runtime: Handle::current(),
        };
        let effects = Effects::with(&setup, |_| Ok(Box::new(Scripted(script.clone())))).unwrap();
        Test { effects, entities, script, metrics }
    }

    fn begin(&self, calls: Vec<Call>) {
        for call in &calls {
            self.entities.ask(call);
        }
        self.effects.begin(calls);
    }

    /// Lets everything happen that can happen now.
    async fn settle(&self) {
        // In simulated time a sleep ends when nothing else can be done.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn counted(&self, state: &str) -> u64 {
        self.metrics.effects.with_label_values(&["application.pull", state]).get()
    }
}

/// If this failed, a crash in mid-call could not be told from a call that was never made: at most once would be a guess.
#[tokio::test(start_paused = true)]
async fn nothing_leaves_before_the_start_is_recorded() {
    let test = Test::new(ONCE, [], 1);
    test.entities.hold();
    test.begin(vec![call("a", 0, URL)]);
    test.settle().await;
    assert_eq!(test.script.keys(), [""; 0]);
    test.entities.release();
    test.entities.outcomes(1).await;
    assert_eq!(test.script.keys(), ["application/a/pull/1"]);
    assert_eq!(test.entities.steps(), ["a started 1", "a succeeded"]);
    assert_eq!(test.counted("succeeded"), 1);
}

/// If this failed, the second of two runners, or one that is told late, would call again.
#[tokio::test(start_paused = true)]
async fn a_step_that_says_nothing_new_starts_nothing() {
    let test = Test::new(ONCE, [], 9);
    // Nobody has asked for it.
    test.effects.begin(vec![call("a", 0, URL)]);
    test.settle().await;
    // It is begun twice before it is over, and once after.
    test.entities.hold();
    test.begin(vec![call("b", 0, URL), call("b", 0, URL)]);
    test.effects.begin(vec![call("b", 0, URL)]);
    test.settle().await;
    test.entities.release();
    test.entities.outcomes(1).await;
    test.effects.begin(vec![call("b", 0, URL)]);
    test.effects.begin(vec![call("b", 1, URL)]);
    // The process is about to end: nobody answers.
    test.entities.hold();
    test.begin(vec![call("c", 0, URL)]);
    test.settle().await;
    test.entities.known.lock().unwrap().held = None;
    test.settle().await;
    assert_eq!(test.script.keys(), ["application/b/pull/1"]);
    assert_eq!(test.entities.steps(), ["b started 1", "b succeeded"]);
    assert_eq!((test.counted("succeeded"), test.counted("unknown")), (1, 0));
}

/// If this failed, an endpoint would get other requests than the first one, more of them than its owner allowed, or all of
/// them at once.
#[tokio::test(start_paused = true)]
async fn a_failed_call_is_made_again_later_and_the_same() {
    let again = Answer::Status { status: 503, body: Body::Whole(None), pause: Some(Duration::from_secs(90)) };
    let test = Test::new(LEAST, [lost(), again, status(500)], 9);
    test.begin(vec![call("a", 0, URL)]);
    let outcomes = test.entities.outcomes(1).await;
    assert_eq!(test.entities.steps(), ["a started 1", "a started 2", "a started 3", "a failed"]);
    assert_eq!(outcomes["a"].status, Some(500), "the last one's");
    let calls = test.script.calls.lock().unwrap().clone();
    for (key, body, _) in &calls {
        assert_eq!((key.as_str(), body.as_str()), ("application/a/pull/1", r#"{"a":"ü","b":1.5}"#));
    }
    // A half to the whole of a second; then what was asked for, which is longer than two seconds.
    assert!(calls[1].2 <= 1 && (90..=92).contains(&calls[2].2), "{calls:?}");
    assert_eq!((test.counted("retried"), test.counted("failed")), (2, 1));
}

/// If this failed, a call that must not be repeated would be, or a wrong request be repeated in vain.
#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    for (effect, answer, expected) in [
        (ONCE, lost(), "a unknown"),
        (ONCE, status(503), "a failed"),
        (ONCE, Answer::NotSent { why: "refused".into() }, "a failed"),
        (LEAST, status(404), "a failed"),
        (LEAST, status(201), "a succeeded"),
    ] {
        let test = Test::new(effect, [answer.clone()], 9);
        test.begin(vec![call("a", 0, URL)]);
        test.entities.outcomes(1).await;
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(test.entities.steps(), ["a started 1", expected], "{effect} {answer:?}");
        assert_eq!(test.script.keys().len(), 1, "{effect} {answer:?}");
    }
}

/// If this failed, a restart would call again what may have been done, or forget what must be done.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_began_goes_on_as_promised() {
    let once = Test::new(ONCE, [], 9);
    once.begin(vec![call("a", 1, URL), call("b", 0, URL)]);
    let outcomes = once.entities.outcomes(2).await;
    assert_eq!(outcomes["a"].error.as_deref(), Some("the process ended during the call"));
    assert_eq!(once.script.keys(), ["application/b/pull/1"]);
    assert_eq!((once.counted("unknown"), once.counted("succeeded")), (1, 1));

    // What the third attempt came to is not known, so there is a fourth.
    let least = Test::new(LEAST, [status(500), status(200)], 9);
    least.begin(vec![call("a", 3, URL)]);
    least.entities.outcomes(1).await;
    assert_eq!(least.entities.steps(), ["a started 4", "a failed"]);
    least.begin(vec![call("b", 1, URL)]);
    least.entities.outcomes(2).await;
    assert_eq!(least.entities.steps()[2..], ["b started 2", "b succeeded"]);
    assert_eq!(least.script.keys(), ["application/a/pull/1", "application/b/pull/1"]);
}

/// If this failed, nobody would hear of a call that may have been made until calls of others, which may take minutes, end.
#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_told_while_all_calls_hang() {
    let test = Test::new(&format!("{ONCE}\nconcurrency = 1"), [], 0);
    test.begin(vec![call("a", 0, URL), call("b", 0, URL)]);
    test.settle().await;
    test.begin(vec![call("c", 1, URL)]);
    test.settle().await;
    assert_eq!((test.script.keys().len(), test.counted("unknown")), (1, 1), "{:?}", test.entities.steps());
}

/// If this failed, an endpoint that takes two calls at a time would get all of them, or one that fails keep out the others.
#[tokio::test(start_paused = true)]
async fn so_many_calls_are_under_way_and_those_that_rest_are_not_among_them() {
    let retry = "retry = { attempts = 9, backoff = \"5m\" }\nconcurrency = 2";
    let test = Test::new(retry, [status(500), status(500)], 0);
    test.begin((0..20).map(|n| call(&n.to_string(), 0, URL)).collect());
    test.settle().await;
    let in_flight = || test.metrics.effects_in_flight.with_label_values(&["application.pull"]).get();
    assert_eq!((test.script.keys().len(), in_flight()), (2, 2));
    test.script.permits.add_permits(1000);
    let outcomes = test.entities.outcomes(18).await;
    assert!(!outcomes.contains_key("0") && !outcomes.contains_key("1"), "they rest");
    assert!(test.script.began.elapsed() < Duration::from_mins(1), "those behind them have not waited");
    test.entities.outcomes(20).await;
    assert_eq!((test.script.under_way_most.load(Ordering::SeqCst), in_flight()), (2, 0));
}

/// If this failed, an orderly stop would cut off calls that were about to end, start others, or wait for ever.
#[tokio::test(start_paused = true)]
async fn an_orderly_stop_waits_for_what_is_under_way_and_starts_nothing() {
    let test = Test::new("concurrency = 2\nretry = { attempts = 3, backoff = \"1s\" }", [status(500)], 0);
    test.begin(vec![call("a", 0, URL), call("b", 0, URL), call("c", 0, URL)]);
    test.settle().await;
    let (permits, patience) = (&test.script.permits, Duration::from_secs(5));
    let answering = async {
        test.settle().await;
        test.begin(vec![call("d", 0, URL)]);
        permits.add_permits(2);
    };
    tokio::join!(test.effects.drain(patience), answering);
    assert!(test.script.began.elapsed() < patience, "nothing is waited for any more");
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(test.entities.steps(), ["a started 1", "b started 1", "b succeeded"]);

    let test = Test::new(ONCE, [], 0);
    test.begin(vec![call("a", 0, URL)]);
    test.settle().await;
    test.effects.drain(patience).await;
    assert!((5..7).contains(&test.script.began.elapsed().as_secs()));
    permits.add_permits(9);
    test.settle().await;
    assert_eq!(test.entities.steps(), ["a started 1"], "the next start finds it so");
}

/// If this failed, what can never be called would be tried again and again, or be called somewhere else.
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_made_fails_at_once() {
    for (url, expected) in [
        ("ftp://bureau/", "the request's URL does not begin with https:// or http://"),
        ("/score", "the request's URL is none: relative URL without a base"),
        (
            "http://user:pass@bureau/",
            "the request's URL holds a user or password, which belong into the header `authorization`",
        ),
        ("http://", "the request's URL is none: empty host"),
    ] {
        let test = Test::new(LEAST, [], 9);
        test.begin(vec![call("a", 0, url)]);
        let outcomes = test.entities.outcomes(1).await;
        assert_eq!(outcomes["a"].error.as_deref(), Some(expected), "{url}");
        assert_eq!((test.entities.steps(), test.script.keys().len()), (vec!["a failed".to_owned()], 0), "{url}");
    }
}
