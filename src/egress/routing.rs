//! Which decisions go to a sink: `to` of the decision, `types` and `if` of the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::KeyValue;

use super::cloud_event::CloudEvent;
use super::letters::{DEAD_LETTER_EVENT, letter_event, letter_of};
use crate::config::glob_matches;
use crate::metrics::Metrics;
use crate::model::event::Event;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::outgoing::decision_event;
use crate::model::record::{DecisionRevision, Record};
use crate::model::system::{DeadLetter, Form, Origin};
use crate::model::trace::TraceContext;
use crate::rules::{EventBindings, Expr, Fault, Ruleset};
use crate::telemetry::{About, Leg, Tracer, tell};

/// A decision on its way to a sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its record.
    pub lsn: Lsn,
    /// Its place among the record's decisions.
    pub place: u32,
    pub entity: EntityKey,
    /// The decision's name.
    pub decision: Box<str>,
    pub event: CloudEvent,
    /// It was given up and is sent once more by hand: no part of what the sink has to come to.
    pub is_again: bool,
    /// The event that it came of, if one did, and what correlates it with others.
    pub event_id: Option<Box<str>>,
    pub correlation: Box<str>,
    /// Where its record belongs.
    pub trace: Option<Box<TraceContext>>,
}

impl Delivery {
    /// The decision in a sink's dead letter; none if it cannot be read from it.
    pub fn of_letter(letter: &DeadLetter) -> Option<Delivery> {
        let Origin::Sink { lsn, place, .. } = letter.origin else { return None };
        let event = CloudEvent::read(&letter.body).filter(|_| letter.form == Form::Decision)?;
        let decision = event.attributes().find(|(name, _)| *name == "type")?.1.into();
        let correlation = event.attributes().find(|(name, _)| *name == "correlationid").map(|(_, value)| value.into());
        Some(Delivery {
            lsn,
            place,
            entity: letter.entity.clone()?,
            decision,
            event,
            is_again: true,
            event_id: None,
            correlation: correlation.unwrap_or_default(),
            trace: None,
        })
    }

    /// The decision's id.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// What lines about it say.
    pub(super) fn about(&self) -> About<'_> {
        let about = About { lsn: Some(self.lsn), event_id: self.event_id.as_deref(), ..About::entity(&self.entity) };
        about.correlated(&self.correlation)
    }

    /// About how many bytes it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.id().len() * 2 + self.event.data().map_or(0, <[u8]>::len)
    }

    /// What is told of its way to a sink, if it belongs to a trace.
    pub(super) fn leg(&self, tracer: &Tracer, sink: &str) -> Option<Leg> {
        let attributes = || {
            vec![
                KeyValue::new("turnstile.sink", sink.to_owned()),
                KeyValue::new("turnstile.lsn", i64::try_from(self.lsn.0).unwrap_or(i64::MAX)),
                KeyValue::new("cloudevents.event_id", self.id().to_owned()),
                KeyValue::new("cloudevents.event_type", self.decision.to_string()),
            ]
        };
        self.trace.as_ref().map(|trace| tracer.leg(trace, format!("deliver {sink}"), attributes()))
    }

    /// The event in structured mode.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.event.write(&mut json);
        json
    }
}

/// What a sink is for.
pub enum Takes {
    /// Decisions with a name that one of these globs matches; none: all.
    Decisions(Vec<String>),
    /// Dead letters, except those of sinks that are for dead letters, which are these.
    DeadLetters(Vec<String>),
}

/// What goes to one sink.
pub struct Routing {
    pub sink: String,
    /// The server's name, part of every decision's source.
    pub server: String,
    pub ruleset: Arc<Ruleset>,
    pub takes: Takes,
    pub condition: Option<Expr>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// That the condition failed is logged once.
    pub told: AtomicBool,
}

impl Routing {
    /// What of a record goes to the sink, but the first `finished`.
    pub fn deliveries(&self, lsn: Lsn, record: &Record, finished: u32) -> impl Iterator<Item = Delivery> {
        let letter = if finished == 0 { self.letter(lsn, record) } else { None };
        self.decisions(lsn, record, finished).chain(letter)
    }

    fn letter(&self, lsn: Lsn, record: &Record) -> Option<Delivery> {
        let Takes::DeadLetters(sinks) = &self.takes else { return None };
        let letter = letter_of(record)?;
        if matches!(&letter.origin, Origin::Sink { name, .. } if sinks.iter().any(|sink| **sink == **name)) {
            return None;
        }
        let event = letter_event(&self.server, record, letter);
        self.condition.as_ref().is_none_or(|it| self.passes(it, lsn, record, &event, "")).then(|| Delivery {
            lsn,
            place: 0,
            entity: letter.entity.clone().unwrap_or_else(|| record.entity.clone()),
            decision: DEAD_LETTER_EVENT.into(),
            event: CloudEvent::of_event(&event),
            is_again: false,
            event_id: None,
            correlation: Box::default(),
            trace: None,
        })
    }

    fn decisions(&self, lsn: Lsn, record: &Record, finished: u32) -> impl Iterator<Item = Delivery> {
        let trace = self.tracer.released(record).map(Box::new);
        let decisions = record.decisions.iter().zip(0..).skip(finished as usize);
        decisions.filter(move |(decision, _)| self.takes(lsn, record, decision)).map(move |(decision, place)| {
            Delivery {
                lsn,
                place,
                entity: record.entity.clone(),
                decision: decision.name.clone(),
                event: CloudEvent::of(&self.server, record, decision),
                is_again: false,
                event_id: record.input.event().map(|input| input.event.id.clone()),
                correlation: decision.correlation.clone(),
                trace: trace.clone(),
            }
        })
    }

    fn takes(&self, lsn: Lsn, record: &Record, decision: &DecisionRevision) -> bool {
        let Takes::Decisions(types) = &self.takes else { return false };
        let rules = self.ruleset.get(record.entity.kind());
        let passes = |condition| {
            let event = decision_event(&self.server, record, decision);
            self.passes(condition, lsn, record, &event, &decision.correlation)
        };
        rules.is_none_or(|rules| rules.goes_to(&decision.name, &self.sink))
            && (types.is_empty() || types.iter().any(|glob| glob_matches(glob, &decision.name)))
            && self.condition.as_ref().is_none_or(passes)
    }

    /// What is missing makes a condition not true. Where it cannot be computed the event goes out: a receiver can tell
    /// one too many, but not one that never came.
    fn passes(&self, condition: &Expr, lsn: Lsn, record: &Record, event: &Event, correlation: &str) -> bool {
        match condition.test(&EventBindings { event, time: None }) {
            Ok(passes) => passes,
            Err(Fault::Missing(_)) => false,
            Err(Fault::Wrong(why)) => {
                let rule = format!("sink.{}.if", self.sink);
                self.metrics.rule_errors.with_label_values(&[record.entity.kind(), &rule]).inc();
                if !self.told.swap(true, Ordering::Relaxed) {
                    let about = About { lsn: Some(lsn), ..About::record(record) }.correlated(correlation);
                    tell!(warn, about, sink = %self.sink, id = %event.id, "`if` cannot be computed, so such decisions are sent: {why}");
                }
                true
            }
        }
    }
}
