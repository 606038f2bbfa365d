//! What an entity does with inputs from inside: letters of other entities, deadlines, rests, steps of effects.

use super::aftermath::Aftermath;
use super::entity::{Entity, Surroundings, Work};
use super::outbox::{Asker, Handled, Pending};
use crate::journal::RECORD_BYTES_MAX;
use crate::metrics::TypeMetrics;
use crate::model::event::PackedEvent;
use crate::model::ids::EntityKey;
use crate::model::life::Ending;
use crate::model::outbox::{Letter, Outgoing};
use crate::model::record::Input;
use crate::model::time::Timestamp;
use crate::rules::{self, EntityRules};
use crate::telemetry::{About, tell};
use crate::vital;

impl Entity {
    /// Handles an input from inside.
    pub(super) fn inside(
        &mut self,
        work: Work,
        around: &Surroundings,
        metrics: &TypeMetrics,
        now: Timestamp,
    ) -> Handled {
        let Some(rules) = around.ruleset.get(work.entity().kind()).cloned() else {
            return self.unrecorded(Pending::Nothing);
        };
        let place = Inside { rules: &rules, around, metrics, now };
        match work {
            Work::Inside { entity, input, done } => self.input(entity, input, Pending::step(done), &place),
            Work::Letter(letter) => self.letter(*letter, &place),
            Work::Wake(entity) => self.woken(entity, &place),
            // These go other ways.
            Work::Event { .. } | Work::System { .. } | Work::Receipt { .. } | Work::Release { .. } => {
                self.unrecorded(Pending::Nothing)
            }
        }
    }

    fn letter(&mut self, letter: Outgoing, place: &Inside<'_>) -> Handled {
        let receipt = Box::new(letter.receipt());
        let Outgoing { to, letter, version } = letter;
        match letter {
            // A decision of a life that has ended since does not begin another one.
            Letter::Event { .. } if version <= self.state().ended() => {
                self.unrecorded(Pending::Arrived { sender: to, receipt })
            }
            Letter::Message(received) => {
                let sender = received.from.clone();
                self.input(to, Input::Message(received), Pending::Arrived { sender, receipt }, place)
            }
            Letter::Event { event, hops } => {
                let pending = Pending::Arrived { sender: to.clone(), receipt };
                self.own_decision(&to, &event, hops, pending, place)
            }
        }
    }

    /// One of the entity's own decisions has come back as an event.
    fn own_decision(
        &mut self,
        key: &EntityKey,
        event: &PackedEvent,
        hops: u8,
        pending: Pending,
        place: &Inside<'_>,
    ) -> Handled {
        let Inside { around, metrics, now, .. } = place;
        match around.ruleset.take_back(key, &event.unpack(), hops) {
            Ok(Some(taken)) => {
                let deciding = around.tracer.decide_again(event, key);
                self.event(taken, Asker::Entity(pending, event.id.clone()), around, metrics, *now).traced(deciding)
            }
            Ok(None) => self.unrecorded(pending),
            Err(refusal) => {
                around.metrics.rule_errors.with_label_values(&[key.kind(), &*event.kind]).inc();
                let about = About { event_id: Some(&event.id), ..About::entity(key) };
                let about = about.correlated(&self.state().correlation);
                tell!(warn, about, "a decision does not fit its own rules as an event: {}", refusal.message);
                self.unrecorded(pending)
            }
        }
    }

    /// Looks at what is due; the next deadline waits for the next time.
    fn woken(&mut self, key: EntityKey, place: &Inside<'_>) -> Handled {
        let deadlines = self.state().dealings.iter().flat_map(|dealings| &dealings.deadlines);
        let is_due = |times: crate::model::dealings::DeadlineTimes| !times.has_passed && times.due <= place.now;
        let due = deadlines.filter(|deadline| is_due(deadline.times)).min_by_key(|deadline| deadline.times.due);
        if let Some(deadline) = due {
            let (name, at) = (deadline.name.clone(), deadline.times.at);
            return self.input(key, Input::Due { name, at }, Pending::Nothing, place);
        }
        match Aftermath::of(&key, self.state(), place.rules) {
            Some(aftermath) => self.unrecorded(Pending::Act(aftermath)),
            None => self.unrecorded(Pending::Nothing),
        }
    }

    fn input(&mut self, key: EntityKey, input: Input, pending: Pending, place: &Inside<'_>) -> Handled {
        let Inside { rules, around, metrics, now } = place;
        let given = input.clone();
        let decided = vital::guarded(|| rules::decide_inside(rules, key.clone(), self.state(), input, *now));
        let decided = match decided {
            Ok(Some(decided)) => decided,
            Ok(None) => return self.unrecorded(pending.said_nothing()),
            Err(why) => {
                tell!(error, About::entity(&key).correlated(&self.state().correlation), "a rule panicked: {why}");
                around.metrics.rule_errors.with_label_values(&[key.kind(), "panic"]).inc();
                rules::without_conclusions(key.clone(), self.state(), given.clone(), *now)
            }
        };
        let mut bytes = decided.record.encode();
        let mut decided = decided;
        if bytes.len() > RECORD_BYTES_MAX {
            tell!(
                error,
                About::record(&decided.record).correlated(&self.state().correlation),
                "what follows from an input from inside takes {} bytes, at most {RECORD_BYTES_MAX} are possible; it is left out",
                bytes.len()
            );
            around.metrics.rule_errors.with_label_values(&[key.kind(), "too_large"]).inc();
            decided = rules::without_conclusions(key, self.state(), given, *now);
            bytes = decided.record.encode();
        }
        if decided.record.input.ending() == Some(Ending::Expired) {
            metrics.expired.inc();
        } else if let Input::Due { name, .. } = &decided.record.input {
            around.metrics.deadlines_fired.with_label_values(&[&*rules.name, name]).inc();
        }
        self.take(&decided, bytes, pending, rules, around, metrics)
    }
}

/// What an input from inside is handled with.
struct Inside<'a> {
    rules: &'a EntityRules,
    around: &'a Surroundings,
    metrics: &'a TypeMetrics,
    now: Timestamp,
}
