//! Which decisions go to a sink: `to` of the decision, `types` and `if` of the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cloud_event::CloudEvent;
use crate::config::glob_matches;
use crate::metrics::Metrics;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::outgoing::decision_event;
use crate::model::record::{DecisionRevision, Record};
use crate::model::system::{DeadLetter, Form, Origin};
use crate::rules::{EventBindings, Expr, Fault, Ruleset};

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
}

impl Delivery {
    /// The decision in a sink's dead letter; none if it cannot be read from it.
    pub fn of_letter(letter: &DeadLetter) -> Option<Delivery> {
        let Origin::Sink { lsn, place, .. } = letter.origin else { return None };
        let event = CloudEvent::read(&letter.body).filter(|_| letter.form == Form::Decision)?;
        let decision = event.attributes().find(|(name, _)| *name == "type")?.1.into();
        Some(Delivery { lsn, place, entity: letter.entity.clone()?, decision, event, is_again: true })
    }

    /// The decision's id.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// About how many bytes it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.id().len() * 2 + self.event.data().map_or(0, <[u8]>::len)
    }

    /// The event in structured mode.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.event.write(&mut json);
        json
    }
}

/// What goes to one sink.
pub struct Routing {
    pub sink: String,
    /// The server's name, part of every decision's source.
    pub server: String,
    pub ruleset: Arc<Ruleset>,
    /// Globs of decisions; none: all.
    pub types: Vec<String>,
    pub condition: Option<Expr>,
    pub metrics: Arc<Metrics>,
    /// That the condition failed is logged once.
    pub told: AtomicBool,
}

impl Routing {
    /// The decisions of a record that go to the sink, but the first `finished`.
    pub fn deliveries(&self, lsn: Lsn, record: &Record, finished: u32) -> impl Iterator<Item = Delivery> {
        let decisions = record.decisions.iter().zip(0..).skip(finished as usize);
        decisions.filter(|(decision, _)| self.takes(record, decision)).map(move |(decision, place)| Delivery {
            lsn,
            place,
            entity: record.entity.clone(),
            decision: decision.name.clone(),
            event: CloudEvent::of(&self.server, record, decision),
            is_again: false,
        })
    }

    fn takes(&self, record: &Record, decision: &DecisionRevision) -> bool {
        let rules = self.ruleset.get(record.entity.kind());
        rules.is_none_or(|rules| rules.goes_to(&decision.name, &self.sink))
            && (self.types.is_empty() || self.types.iter().any(|glob| glob_matches(glob, &decision.name)))
            && self.condition.as_ref().is_none_or(|condition| self.passes(condition, record, decision))
    }

    /// What is missing makes a condition not true. Where it cannot be computed the decision goes out: a receiver can tell
    /// one too many, but not one that never came.
    fn passes(&self, condition: &Expr, record: &Record, decision: &DecisionRevision) -> bool {
        let event = decision_event(&self.server, record, decision);
        match condition.test(&EventBindings { event: &event, time: None }) {
            Ok(passes) => passes,
            Err(Fault::Missing(_)) => false,
            Err(Fault::Wrong(why)) => {
                let rule = format!("sink.{}.if", self.sink);
                self.metrics.rule_errors.with_label_values(&[record.entity.kind(), &rule]).inc();
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(sink = %self.sink, id = %event.id, "`if` cannot be computed, so such decisions are sent: {why}");
                }
                true
            }
        }
    }
}
