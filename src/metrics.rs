//! All metrics, described in one place. Base units; never a key as a label. Children that are hot are resolved once.

mod of_retention;
mod of_verify;

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub use of_retention::OfRetention;
pub use of_verify::OfVerify;

use crate::model::record::DecisionState;
use crate::model::state::Gaps;

/// Seconds from a tenth of a millisecond to ten seconds: waiting for the disk, for answers.
const LATENCY_SECONDS: &[f64] =
    &[0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds from a tenth of a second to a month: how late the world tells.
const DELAY_SECONDS: &[f64] = &[0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0];
const COUNTS: &[f64] = &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0];
const RATIOS: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// The process's metrics.
pub struct Metrics {
    registry: Registry,
    pub events_accepted: IntCounterVec,
    pub events_refused: IntCounterVec,
    events_applied: IntCounterVec,
    pub event_delay: HistogramVec,
    decisions: IntCounterVec,
    decision_delay: HistogramVec,
    pub rule_errors: IntCounterVec,
    pub ack_duration: Histogram,
    pub commit_duration: Histogram,
    pub commit_records: Histogram,
    pub in_flight_records: IntGauge,
    pub journal_lsn: IntGauge,
    pub watermark_lsn: IntGauge,
    pub checkpoint_duration: Histogram,
    actors_live: IntGaugeVec,
    entities: IntGaugeVec,
    incomplete: IntGaugeVec,
    waiting: IntGaugeVec,
    paused: IntGaugeVec,
    held: IntGaugeVec,
    pub deadlines_fired: IntCounterVec,
    pub retention: OfRetention,
    completeness: HistogramVec,
    pub dead_letters: IntGaugeVec,
    pub sink_lag: IntGaugeVec,
    pub sink_deliveries: IntCounterVec,
    pub sources: OfSources,
    pub effects_in_flight: IntGaugeVec,
    pub effects: IntCounterVec,
    pub http_requests: IntCounterVec,
    pub streams: IntGaugeVec,
    pub streams_cut: IntCounterVec,
    pub store_bytes: IntGaugeVec,
    pub admission_open: Gauge,
    pub verify: OfVerify,
    pub node: OfNode,
}

/// What is told of the node as a whole, and of the room it has left.
pub struct OfNode {
    pub ready: IntGauge,
    pub connections_max: IntGauge,
    pub disk_free_bytes: IntGauge,
    pub disk_free_min_bytes: IntGauge,
    pub spans_dropped: IntCounter,
}

impl OfNode {
    fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        OfNode {
            ready: gauge("turnstile_ready", "1 while the node serves, 0 while it recovers or drains."),
            connections_max: gauge("turnstile_connections_max", "Most connections that each listener takes."),
            disk_free_bytes: gauge("turnstile_disk_free_bytes", "Free bytes on the disk of the data folder."),
            disk_free_min_bytes: gauge("turnstile_disk_free_min_bytes", "With fewer free bytes nothing is admitted."),
            spans_dropped: register(
                registry,
                IntCounter::new("turnstile_spans_dropped_total", "Spans of traces that could not be exported."),
            ),
        }
    }
}

/// What is counted of sources besides their events.
pub struct OfSources {
    pub connections: IntGaugeVec,
    pub without_time: IntCounterVec,
    pub up: IntGaugeVec,
    pub caught_up: IntGaugeVec,
    pub lag: IntGaugeVec,
    pub dropped: IntCounterVec,
    pub last_event: GaugeVec,
    pub without_sequence: IntCounterVec,
}

impl OfSources {
    fn new(registry: &Registry) -> Self {
        let gauges = |name, help| register(registry, IntGaugeVec::new(Opts::new(name, help), &["source"]));
        let counters = |name, help| register(registry, IntCounterVec::new(Opts::new(name, help), &["source"]));
        OfSources {
            connections: gauges("turnstile_connections", "Open connections."),
            without_time: counters(
                "turnstile_events_without_time_total",
                "Events that took their receipt time because the sender gave none; their order is not proof.",
            ),
            up: gauges("turnstile_source_up", "1 while a source can read where it asks for events, 0 while it cannot."),
            caught_up: gauges(
                "turnstile_source_caught_up_timestamp_seconds",
                "When a source that polls last had read all that was there, since 1970; 0 if never since the start.",
            ),
            lag: gauges(
                "turnstile_source_lag_messages",
                "Messages of a stream that its consumer has not delivered yet.",
            ),
            dropped: counters(
                "turnstile_source_dropped_total",
                "Messages that came faster than they could be taken, and that nobody keeps.",
            ),
            last_event: last_event(registry),
            without_sequence: counters(
                "turnstile_events_without_sequence_total",
                "Events of a source that declares a sequence from which no number could be told.",
            ),
        }
    }
}

/// The metrics of one entity type, resolved.
pub struct TypeMetrics {
    pub merged: IntCounter,
    pub stale: IntCounter,
    pub duplicate: IntCounter,
    pub conflict: IntCounter,
    pub failed: IntCounter,
    pub live: IntGauge,
    pub entities: IntGauge,
    /// Events that were held when they came.
    pub waits: IntCounter,
    /// Entities that are paused themselves.
    pub paused: IntGauge,
    /// Events that are held.
    pub held: IntGauge,
    /// Entities that were given up because nothing came any more.
    pub expired: IntCounter,
    /// One a field of `complete`.
    incomplete: Vec<IntGauge>,
    /// One a reference.
    waiting: Vec<IntGauge>,
    pub completeness: Histogram,
    decisions: HashMap<Box<str>, DecisionMetrics>,
}

/// The metrics of one decision, resolved.
pub struct DecisionMetrics {
    made: IntCounter,
    revised: IntCounter,
    withdrawn: IntCounter,
    pub delay: Histogram,
}

impl DecisionMetrics {
    /// The counter of revisions in a state.
    pub fn counter(&self, state: DecisionState) -> &IntCounter {
        match state {
            DecisionState::Made => &self.made,
            DecisionState::Revised => &self.revised,
            DecisionState::Withdrawn => &self.withdrawn,
        }
    }
}

impl TypeMetrics {
    /// A decision's metrics.
    pub fn decision(&self, name: &str) -> Option<&DecisionMetrics> {
        self.decisions.get(name)
    }

    /// Moves the gauges from what an entity lacked before to what it lacks now; none stands for one that is not there.
    pub fn gaps_changed(&self, before: Option<Gaps>, after: Option<Gaps>) {
        if before == after {
            return;
        }
        if before.is_none() {
            self.entities.inc();
        } else if after.is_none() {
            self.entities.dec();
        }
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        move_gauges(&self.incomplete, before.missing, after.missing);
        move_gauges(&self.waiting, before.waiting, after.waiting);
    }

    /// Sets the gauges to what is counted: entities, and of these how many miss which field and wait by which reference.
    pub fn set_counts(&self, entities: u64, missing: &[u64], waiting: &[u64]) {
        let set = |gauge: &IntGauge, count: u64| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.entities, entities);
        self.incomplete.iter().zip(missing).for_each(|(gauge, count)| set(gauge, *count));
        self.waiting.iter().zip(waiting).for_each(|(gauge, count)| set(gauge, *count));
    }
}

fn move_gauges(gauges: &[IntGauge], before: u64, after: u64) {
    for (bit, gauge) in gauges.iter().enumerate() {
        match (before >> bit & 1, after >> bit & 1) {
            (0, 1) => gauge.inc(),
            (1, 0) => gauge.dec(),
            _ => {}
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own with every metric, and those of the process.
    pub fn new() -> Self {
        let registry = registry_of_process();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            register(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let histograms = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            register(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
        };
        Metrics {
            events_accepted: counters(
                "turnstile_events_accepted_total",
                "Events accepted, duplicates among them.",
                &["source"],
            ),
            events_refused: counters("turnstile_events_refused_total", "Events refused, by code.", &["source", "code"]),
            events_applied: counters(
                "turnstile_events_applied_total",
                "What became of events at the entities they went to.",
                &["entity", "outcome"],
            ),
            event_delay: histograms(
                "turnstile_event_delay_seconds",
                "Receipt time less event time.",
                DELAY_SECONDS,
                &["source"],
            ),
            decisions: counters("turnstile_decisions_total", "Decision revisions.", &["entity", "decision", "state"]),
            decision_delay: histograms(
                "turnstile_decision_delay_seconds",
                "A decision's time less the time of the event that caused it.",
                DELAY_SECONDS,
                &["entity", "decision"],
            ),
            rule_errors: counters(
                "turnstile_rule_errors_total",
                "Evaluations of rules that went wrong in an entity's state.",
                &["entity", "rule"],
            ),
            ack_duration: histogram(
                "turnstile_ack_duration_seconds",
                "From an event's admission to its being settled.",
                LATENCY_SECONDS,
            ),
            commit_duration: histogram("turnstile_commit_duration_seconds", "Commits of the journal.", LATENCY_SECONDS),
            commit_records: histogram("turnstile_commit_records", "Records a commit of the journal.", COUNTS),
            in_flight_records: gauge("turnstile_in_flight_records", "Records admitted and not yet settled."),
            journal_lsn: gauge("turnstile_journal_lsn", "LSN of the last committed record."),
            watermark_lsn: gauge("turnstile_watermark_lsn", "LSN up to which all is in the store."),
            checkpoint_duration: histogram("turnstile_checkpoint_duration_seconds", "Checkpoints.", LATENCY_SECONDS),
            actors_live: gauges("turnstile_actors_live", "Entity actors in memory.", &["entity"]),
            entities: gauges("turnstile_entities", "Entities known.", &["entity"]),
            incomplete: gauges(
                "turnstile_entities_incomplete",
                "Entities that miss a field of `complete`.",
                &["entity", "field"],
            ),
            waiting: gauges(
                "turnstile_entities_waiting",
                "Entities whose reference points to one that is not there yet.",
                &["entity", "reference"],
            ),
            paused: gauges("turnstile_entities_paused", "Entities that are paused by themselves.", &["entity"]),
            held: gauges("turnstile_events_held", "Events that wait until what is paused is resumed.", &["entity"]),
            deadlines_fired: counters(
                "turnstile_deadlines_fired_total",
                "Deadlines that passed.",
                &["entity", "deadline"],
            ),
            retention: OfRetention::new(&registry),
            completeness: histograms(
                "turnstile_completeness_ratio",
                "Completeness of entities when they decide.",
                RATIOS,
                &["entity"],
            ),
            dead_letters: gauges("turnstile_dead_letters", "Dead letters, by reason.", &["reason"]),
            sink_lag: gauges("turnstile_sink_lag_records", "Committed records a sink has not passed yet.", &["sink"]),
            sink_deliveries: counters(
                "turnstile_sink_deliveries_total",
                "Deliveries of decisions.",
                &["sink", "result"],
            ),
            sources: OfSources::new(&registry),
            effects_in_flight: gauges("turnstile_effects_in_flight", "Calls under way.", &["effect"]),
            effects: effects(&registry),
            http_requests: counters("turnstile_http_requests_total", "HTTP requests.", &["route", "code"]),
            streams: gauges("turnstile_streams", "Live streams, by what they are about.", &["kind"]),
            streams_cut: counters("turnstile_streams_cut_total", "Live streams that the server ended.", &["reason"]),
            store_bytes: gauges("turnstile_store_bytes", "Bytes that files take on the disk.", &["file"]),
            admission_open: admission_open(&registry),
            verify: OfVerify::new(&registry),
            node: OfNode::new(&registry),
            registry,
        }
    }

    /// The metrics of an entity type with these `complete` fields, references and decisions.
    pub fn entity_type(
        &self,
        name: &str,
        complete: &[&str],
        references: &[&str],
        decisions: &[&str],
    ) -> Arc<TypeMetrics> {
        let applied = |outcome: &str| self.events_applied.with_label_values(&[name, outcome]);
        let decision = |decision: &&str| {
            let state = |state: DecisionState| self.decisions.with_label_values(&[name, decision, state.as_str()]);
            let metrics = DecisionMetrics {
                made: state(DecisionState::Made),
                revised: state(DecisionState::Revised),
                withdrawn: state(DecisionState::Withdrawn),
                delay: self.decision_delay.with_label_values(&[name, decision]),
            };
            ((*decision).into(), metrics)
        };
        Arc::new(TypeMetrics {
            merged: applied("merged"),
            stale: applied("stale"),
            duplicate: applied("duplicate"),
            conflict: applied("conflict"),
            failed: applied("failed"),
            waits: applied("held"),
            live: self.actors_live.with_label_values(&[name]),
            paused: self.paused.with_label_values(&[name]),
            held: self.held.with_label_values(&[name]),
            expired: self.retention.expired.with_label_values(&[name]),
            entities: self.entities.with_label_values(&[name]),
            incomplete: complete.iter().map(|field| self.incomplete.with_label_values(&[name, field])).collect(),
            waiting: references.iter().map(|it| self.waiting.with_label_values(&[name, it])).collect(),
            completeness: self.completeness.with_label_values(&[name]),
            decisions: decisions.iter().map(decision).collect(),
        })
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Encoding into memory fails only for metrics without a name or a help text; all have both.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

/// A registry with what is known of the process itself.
fn registry_of_process() -> Registry {
    let registry = Registry::new();
    let build = IntGaugeVec::new(Opts::new("turnstile_build_info", "Always 1; the version is a label."), &["version"]);
    register(&registry, build).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    // The registry is new and the process collector's names are its own.
    let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

fn last_event(registry: &Registry) -> GaugeVec {
    let name = "turnstile_source_last_event_timestamp_seconds";
    let help = "When a source last had an event that was accepted, since 1970; 0 if never since the start.";
    register(registry, GaugeVec::new(Opts::new(name, help), &["source"]))
}

fn admission_open(registry: &Registry) -> Gauge {
    let help = "1 while events are admitted, 0 while a limit holds them back.";
    register(registry, Gauge::new("turnstile_admission_open", help))
}

fn effects(registry: &Registry) -> IntCounterVec {
    let help = "What became of effects' requests; `retried` counts the calls that are made again.";
    register(registry, IntCounterVec::new(Opts::new("turnstile_effects_total", help), &["effect", "state"]))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("metric names and labels are constants that Prometheus allows");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_value_to_show_and_gauges_follow_masks() {
        let metrics = Metrics::new();
        let order = metrics.entity_type("order", &["a", "b"], &["r"], &["Confirmed"]);
        let gaps = |missing, waiting| Some(Gaps { missing, waiting });
        order.gaps_changed(None, gaps(0b11, 1));
        order.gaps_changed(gaps(0b11, 1), gaps(0b10, 1));
        assert_eq!((order.entities.get(), order.waiting[0].get()), (1, 1));
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains(r#"turnstile_entities_incomplete{entity="order",field="a"} 0"#), "{text}");
        assert!(text.contains(r#"turnstile_entities_incomplete{entity="order",field="b"} 1"#), "{text}");
        assert!(text.contains("turnstile_build_info"));
    }
}
