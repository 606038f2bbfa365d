//! Admission: every source's events go through here, decoded, to the entities that take them. Bounds what is under way.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::credits::{Credits, Need};
use super::gate::Gate;
use super::receiving::Receiving;
use crate::metrics::Metrics;
use crate::model::event::{Event, Sequence, TimeGiven};
use crate::model::ids::Lsn;
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::{Acknowledge, EventOutcome, Ticket};
use crate::model::time::Timestamp;
use crate::rules::{EventBindings, Expr, Ruleset, Taken, Takers};
use crate::telemetry::{Reception, Tracer};

/// An event on its way to one entity.
pub struct Delivery {
    pub taken: Box<Taken>,
    pub ticket: Ticket,
    pub trace: Option<Arc<Reception>>,
}

/// An event that may go to its takers.
pub struct Admitted {
    takers: Takers,
    trace: Option<Arc<Reception>>,
}

impl Deref for Admitted {
    type Target = [Box<Taken>];

    fn deref(&self) -> &Self::Target {
        &self.takers
    }
}

/// Brings deliveries to their entities' shards; never blocks.
pub type Deliver = Arc<dyn Fn(Vec<Delivery>) + Send + Sync>;

/// How long somebody waits to be admitted.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Then the sender is told to come back.
    Until(Duration),
    /// For sources that nobody waits for.
    Endless,
}

/// When events without a time came: each later than the one before, so that of several that come at once the last one sent
/// counts as the latest, also while the clock is set back.
#[derive(Debug, Default)]
pub struct Receipts(AtomicI64);

impl Receipts {
    fn next(&self, now: Timestamp) -> Timestamp {
        // Nanoseconds since 1970 fit until 2262.
        let Ok(now_nanos) = i64::try_from(now.nanos()) else { return now };
        let after = |last: i64| last.saturating_add(1).max(now_nanos);
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        Timestamp::from_nanos(i128::from(after(last.unwrap_or_default()))).unwrap_or(now)
    }
}

/// Admission.
pub struct Admission {
    pub ruleset: Arc<Ruleset>,
    pub credits: Credits,
    pub receiving: Receiving,
    pub gate: Gate,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    pub receipts: Receipts,
    pub deliver: Deliver,
    /// What numbers the events of a source, by its name, where it declares that.
    pub sequences: HashMap<String, Expr>,
}

/// A source's metrics, resolved.
pub struct SourceMetrics {
    name: String,
    pub accepted: prometheus::IntCounter,
    delay: prometheus::Histogram,
    without_time: prometheus::IntCounter,
    without_sequence: prometheus::IntCounter,
    last_event: prometheus::Gauge,
    pub connections: prometheus::IntGauge,
}

impl SourceMetrics {
    /// The metrics of the source called `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        SourceMetrics {
            name: name.to_owned(),
            accepted: metrics.events_accepted.with_label_values(&[name]),
            delay: metrics.event_delay.with_label_values(&[name]),
            without_time: metrics.sources.without_time.with_label_values(&[name]),
            without_sequence: metrics.sources.without_sequence.with_label_values(&[name]),
            last_event: metrics.sources.last_event.with_label_values(&[name]),
            connections: metrics.sources.connections.with_label_values(&[name]),
        }
    }

    /// Counts a refusal.
    pub fn refused(&self, metrics: &Metrics, code: Code) {
        metrics.events_refused.with_label_values(&[&self.name, code.as_str()]).inc();
    }
}

impl Admission {
    /// Who takes the event, and what of it; nobody for one that is ignored.
    ///
    /// # Errors
    /// The refusal; then nobody takes it.
    pub fn admit(&self, mut event: Event, now: Timestamp, source: &SourceMetrics) -> Result<Admitted, Refusal> {
        if event.time_given == TimeGiven::AtReceipt {
            event.time = self.receipts.next(now);
        }
        let trace = self.tracer.receive(&event, &source.name);
        let mut takers = match self.ruleset.admit(&event) {
            Ok(takers) => takers,
            Err(refusal) => {
                if let Some(trace) = trace {
                    trace.refused(refusal.code.as_str());
                }
                return Err(refusal);
            }
        };
        match event.time_given {
            TimeGiven::BySender => source.delay.observe(now.since(event.time).as_seconds().max(0.0)),
            TimeGiven::AtReceipt => source.without_time.inc(),
        }
        source.last_event.set(now.millis() as f64 / 1e3);
        if let Some(sequence) = self.sequences.get(&source.name) {
            number(sequence, &event, source, &mut takers);
        }
        Ok(Admitted { takers, trace: trace.map(Arc::new) })
    }

    /// Sends an event that `sender` knows as `line` on its way to its takers. One that nobody takes is settled at once.
    pub fn send(&self, sender: &Arc<dyn Acknowledge>, line: u64, admitted: Admitted, out: &mut Vec<Delivery>) {
        let Admitted { takers, trace } = admitted;
        if takers.is_empty() {
            sender.settled(vec![(line, EventOutcome::Accepted(Lsn::ZERO))]);
            return;
        }
        let tickets = Ticket::issue(sender, line, takers.len());
        out.extend(takers.into_iter().zip(tickets).map(|(taken, ticket)| Delivery {
            taken,
            ticket,
            trace: trace.clone(),
        }));
    }

    /// Delivers what [`Admission::send`] put together.
    pub fn deliver(&self, deliveries: &mut Vec<Delivery>) {
        if !deliveries.is_empty() {
            (self.deliver)(std::mem::take(deliveries));
        }
    }

    /// Waits for credits and for the gate, however long it takes.
    pub async fn wait_for(&self, need: Need) {
        self.gate.opened().await;
        self.credits.take(need).await;
    }

    /// Waits for credits as long as `patience` says.
    pub async fn wait(&self, need: Need, patience: Patience) -> Result<(), Refusal> {
        match patience {
            Patience::Until(patience) => self.try_for(need, patience).await,
            Patience::Endless => {
                self.wait_for(need).await;
                Ok(())
            }
        }
    }

    /// Waits for credits, but not longer than `patience`; not at all while the gate is closed.
    async fn try_for(&self, need: Need, patience: Duration) -> Result<(), Refusal> {
        if let Some(why) = self.gate.why() {
            return Err(Refusal::new(Code::Busy, format!("no events are admitted at the moment: {why}")));
        }
        match tokio::time::timeout(patience, self.credits.take(need)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Refusal::new(Code::Busy, "too many events are under way; send it again a little later")),
        }
    }
}

/// Notes an event's number at the first of its takers, so that it is journaled once. One without a number is taken all the
/// same: numbers only tell whether others are missing.
fn number(sequence: &Expr, event: &Event, metrics: &SourceMetrics, takers: &mut Takers) {
    let bindings = EventBindings { event, time: None };
    let number = sequence.evaluate(&bindings).ok().and_then(|number| number.to_decimal()?.to_int());
    match (number, takers.first_mut()) {
        (Some(number), Some(taken)) => {
            taken.input.sequence = Some(Box::new(Sequence { source: metrics.name.as_str().into(), number }));
        }
        (None, _) => metrics.without_sequence.inc(),
        // Ignored by everybody.
        (Some(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, what was sent last would be older than what came before it.
    #[test]
    fn each_receipt_is_later_than_the_one_before() {
        let receipts = Receipts::default();
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let noon = at("2026-11-20T12:00:00Z");
        for (now, expected) in [
            (noon, noon),
            (noon, at("2026-11-20T12:00:00.000000001Z")),
            (at("2026-11-20T11:00:00Z"), at("2026-11-20T12:00:00.000000002Z")),
            (at("2026-11-20T13:00:00Z"), at("2026-11-20T13:00:00Z")),
        ] {
            assert_eq!(receipts.next(now), expected);
        }
    }
}
