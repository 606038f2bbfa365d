//! Takes open requests through their steps: noted as started, called, noted as ended. At most so many calls of an effect are
//! under way as its rules say; what waits for a retry holds up no other.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use opentelemetry::KeyValue;
use prometheus::{IntCounter, IntGauge};
use reqwest::Request;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::NoteStep;
use super::http::{Http, MakeCalls};
use super::judge::{Answer, Judged, judge, unanswered};
use super::queue::Queue;
use super::request::request;
use super::response::BodyLimits;
use crate::config::{Guarantee, Limits};
use crate::egress::client::carry;
use crate::egress::pauses::{PAUSE_MAX, backoff};
use crate::metrics::Metrics;
use crate::model::dealings::Call;
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::ids::EntityKey;
use crate::model::outgoing::effect_id;
use crate::model::record::Input;
use crate::model::settle::Noted;
use crate::rules::{EffectRules, EntityRules, Ruleset};
use crate::telemetry::{About, Leg, Tracer, tell};
use crate::trust::Tls;

/// What the runner needs.
pub struct EffectsSetup<'a> {
    pub ruleset: &'a Ruleset,
    pub note: NoteStep,
    pub metrics: &'a Metrics,
    pub tracer: Tracer,
    pub limits: &'a Limits,
    pub runtime: Handle,
}

/// All effects of all entity types.
pub struct Effects {
    /// By entity type and name.
    lanes: HashMap<Arc<str>, HashMap<Box<str>, Arc<Lane>>>,
    /// Until when what is under way is waited for, once nothing more is started.
    stop: watch::Sender<Option<Instant>>,
    drivers: Mutex<Vec<JoinHandle<()>>>,
}

impl Effects {
    /// A runner with nothing to do yet.
    ///
    /// # Errors
    /// When the HTTP library cannot be set up.
    pub fn new(setup: &EffectsSetup<'_>) -> io::Result<Self> {
        let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let limits = BodyLimits {
            bytes_max: limit(setup.limits.effect_response_bytes_max),
            json_depth_max: limit(setup.limits.json_depth_max),
        };
        // Reading the system's certificates takes a while; without effects nobody needs them.
        let has_effects = setup.ruleset.types().iter().any(|rules| !rules.effects.is_empty());
        let tls = if has_effects { Some(Tls::default().client_config()?) } else { None };
        Self::with(setup, |rules| match &tls {
            Some(tls) => Ok(Box::new(Http::new(rules, tls.clone(), limits)?)),
            None => Err(io::Error::other("there are no effects")),
        })
    }

    /// A runner that calls through what `calls` makes for each effect.
    pub(super) fn with(
        setup: &EffectsSetup<'_>,
        calls: impl Fn(&EffectRules) -> io::Result<Box<dyn MakeCalls>>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(None);
        let mut lanes: HashMap<Arc<str>, HashMap<Box<str>, Arc<Lane>>> = HashMap::new();
        let mut drivers = Vec::new();
        for rules in setup.ruleset.types() {
            for (at, effect) in rules.effects.iter().enumerate() {
                let lane = Arc::new(Lane::new(rules, at, calls(effect)?, setup));
                lanes.entry(rules.name.clone()).or_default().insert(effect.name.clone(), lane.clone());
                drivers.push(setup.runtime.spawn(drive(lane, stopped.clone())));
            }
        }
        Ok(Effects { lanes, stop, drivers: Mutex::new(drivers) })
    }

    /// Takes over requests that are open, in the order they were made; those it has are ignored. Never blocks.
    pub fn begin(&self, calls: Vec<Call>) {
        if self.stop.borrow().is_some() {
            return;
        }
        for call in calls {
            let lane = self.lanes.get(call.entity.kind()).and_then(|effects| effects.get(&call.effect));
            let Some(lane) = lane else {
                let id = effect_id(&call.entity, &call.effect, call.run);
                tell!(warn, about(&call), %id, "an effect that the rules have no more is left as it is");
                continue;
            };
            lane.queue.lock().unwrap_or_else(PoisonError::into_inner).put(call);
            lane.changed.notify_one();
        }
    }

    /// Starts nothing more and waits for the calls under way, so long; the rest is given up and left to the next start.
    pub async fn drain(&self, patience: Duration) {
        self.stop.send_replace(Some(Instant::now() + patience));
        let drivers = std::mem::take(&mut *self.drivers.lock().unwrap_or_else(PoisonError::into_inner));
        for driver in drivers {
            // One that panicked has nothing under way any more.
            let _ = driver.await;
        }
    }
}

/// One effect.
struct Lane {
    rules: Arc<EntityRules>,
    /// Its place among the type's effects.
    at: usize,
    calls: Box<dyn MakeCalls>,
    note: NoteStep,
    queue: Mutex<Queue>,
    /// The queue has something new.
    changed: Notify,
    /// `type.name`.
    label: String,
    metrics: LaneMetrics,
    tracer: Tracer,
}

struct LaneMetrics {
    in_flight: IntGauge,
    succeeded: IntCounter,
    failed: IntCounter,
    unknown: IntCounter,
    retried: IntCounter,
}

/// What lines about a call say.
fn about(call: &Call) -> About<'_> {
    About::entity(&call.entity).correlated(&call.correlation)
}

/// How far an attempt has brought a request.
enum Came {
    /// It is over, or somebody else's affair.
    Over(EntityKey, u32),
    /// It failed, and is tried again at this time.
    Again(Call, Instant, Box<str>),
}

/// Keeps a lane's calls going until it is stopped.
async fn drive(lane: Arc<Lane>, mut stop: watch::Receiver<Option<Instant>>) {
    let mut running = JoinSet::new();
    let mut told_failing = false;
    loop {
        let rested = lane.start(&mut running);
        tokio::select! {
            () = lane.changed.notified() => {}
            Some(came) = running.join_next() => if let Ok(came) = came { lane.came(came, &mut told_failing) },
            () = tokio::time::sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {}
            _ = stop.changed() => break,
        }
    }
    let until = *stop.borrow();
    let ending = async { while running.join_next().await.is_some() {} };
    // What is still under way then goes with the set.
    let _ = tokio::time::timeout_at(until.unwrap_or_else(Instant::now), ending).await;
}

impl Lane {
    fn new(rules: &Arc<EntityRules>, at: usize, calls: Box<dyn MakeCalls>, setup: &EffectsSetup<'_>) -> Self {
        let label = format!("{}.{}", rules.name, rules.effects[at].name);
        let counter = |state: &str| setup.metrics.effects.with_label_values(&[label.as_str(), state]);
        let metrics = LaneMetrics {
            in_flight: setup.metrics.effects_in_flight.with_label_values(&[&label]),
            succeeded: counter(EffectStage::Succeeded.as_str()),
            failed: counter(EffectStage::Failed.as_str()),
            unknown: counter(EffectStage::Unknown.as_str()),
            retried: counter("retried"),
        };
        let (queue, changed) = (Mutex::default(), Notify::new());
        let (note, tracer) = (setup.note.clone(), setup.tracer.clone());
        Lane { rules: rules.clone(), at, calls, note, queue, changed, label, metrics, tracer }
    }

    fn effect(&self) -> &EffectRules {
        &self.rules.effects[self.at]
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what may be started now. Returns when there is more to start, unless something ends or comes before.
    fn start(self: &Arc<Self>, running: &mut JoinSet<Came>) -> Option<Instant> {
        let mut queue = self.queue();
        let concurrency = self.effect().concurrency as usize;
        if self.effect().guarantee == Guarantee::AtMostOnce {
            // Nobody is called for these; that they are unknown is told without waiting for calls of others to end.
            while let Some(call) = queue.next_begun() {
                let lane = self.clone();
                running.spawn(async move { lane.attempt(call).await });
            }
        }
        while running.len() < concurrency {
            let Some(call) = queue.next(Instant::now()) else { return queue.next_at() };
            let lane = self.clone();
            running.spawn(async move { lane.attempt(call).await });
        }
        None
    }

    /// What is told of the call, if it belongs to a trace; the request says so, too.
    fn leg(&self, call: &Call, request: &mut Request) -> Option<Leg> {
        let attributes = vec![
            KeyValue::new("turnstile.effect", self.label.clone()),
            KeyValue::new("turnstile.key", call.entity.key().to_owned()),
            KeyValue::new("turnstile.attempt", i64::from(call.attempts)),
            KeyValue::new("http.request.method", request.method().to_string()),
        ];
        let leg = self.tracer.leg(call.trace.as_deref()?, format!("call {}", self.label), attributes);
        carry(leg.carried(), request.headers_mut());
        Some(leg)
    }

    /// One attempt, with its steps.
    async fn attempt(&self, mut call: Call) -> Came {
        let effect = self.effect();
        if call.attempts > 0 && effect.guarantee == Guarantee::AtMostOnce {
            let outcome = unanswered(EffectStage::Unknown, "the process ended during the call");
            return self.end(call, outcome).await;
        }
        let request = match request(&call, effect) {
            Ok(request) => request,
            Err(why) => return self.end(call, unanswered(EffectStage::Failed, why)).await,
        };
        let attempt = call.attempts.saturating_add(1);
        let started = Input::Started { effect: call.effect.clone(), run: call.run, attempt };
        if !matches!((self.note)(call.entity.clone(), started).await, Ok(Noted::Recorded(_))) {
            // It is over already, or the process is about to end.
            return Came::Over(call.entity, call.run);
        }
        call.attempts = attempt;
        let mut request = request;
        let leg = self.leg(&call, &mut request);
        self.metrics.in_flight.inc();
        let answer = AssertUnwindSafe(self.calls.call(request)).catch_unwind().await;
        self.metrics.in_flight.dec();
        let answer = answer.unwrap_or_else(|_| Answer::Lost { why: "the call panicked".into() });
        if let Some(leg) = leg {
            answer.ends(leg);
        }
        let Judged { outcome, again } = judge(answer, effect.guarantee);
        match again.filter(|_| attempt < effect.retry.attempts) {
            Some(pause) => self.put_off(call, pause, &outcome),
            None => self.end(call, outcome).await,
        }
    }

    fn put_off(&self, call: Call, pause: Duration, outcome: &EffectOutcome) -> Came {
        self.metrics.retried.inc();
        let retry = &self.effect().retry;
        let id = effect_id(&call.entity, &call.effect, call.run);
        let wait = backoff(retry.backoff_min, retry.backoff_max, call.attempts, &id).max(pause.min(PAUSE_MAX));
        let why =
            outcome.error.clone().unwrap_or_else(|| format!("HTTP {}", outcome.status.unwrap_or_default()).into());
        Came::Again(call, Instant::now() + wait, why)
    }

    /// Notes what became of a request for good.
    async fn end(&self, call: Call, outcome: EffectOutcome) -> Came {
        let Call { entity, effect, run, attempts, .. } = call.clone();
        let ended = Input::Ended { effect: effect.clone(), run, outcome: Box::new(outcome.clone()) };
        // Without an answer the process is about to end; the next one finds the request as it is recorded.
        if let Ok(Noted::Recorded(lsn)) = (self.note)(entity.clone(), ended).await {
            let counter = match outcome.stage {
                EffectStage::Succeeded => &self.metrics.succeeded,
                EffectStage::Unknown => &self.metrics.unknown,
                EffectStage::Failed | EffectStage::Requested | EffectStage::Started => &self.metrics.failed,
            };
            counter.inc();
            if outcome.stage != EffectStage::Succeeded {
                let id = effect_id(&entity, &effect, run);
                let (state, status) = (outcome.stage.as_str(), outcome.status);
                let why = outcome.error.as_deref().unwrap_or("the answer says no");
                let about = About { lsn: Some(lsn), ..about(&call) };
                tell!(warn, about, effect = %self.label, %id, state, status, attempts, "an effect has not succeeded: {why}");
            }
        }
        Came::Over(entity, run)
    }

    /// Takes in what came of an attempt. One line tells of an outage, however many requests and attempts it touches.
    fn came(&self, came: Came, told_failing: &mut bool) {
        let mut queue = self.queue();
        match came {
            Came::Over(entity, run) => queue.forget(entity, run),
            Came::Again(call, when, why) => {
                if !std::mem::replace(told_failing, true) {
                    let id = effect_id(&call.entity, &call.effect, call.run);
                    tell!(warn, about(&call), effect = %self.label, %id, "a call failed and is made again: {why}");
                }
                queue.rest(call, when);
            }
        }
        *told_failing &= queue.is_failing();
    }
}
