//! The events of one entity, and what it comes to when they arrive in some order. Entities that are tied to each other are
//! one group: nothing outside a group has a say in what becomes of it.

use std::sync::Arc;

use crate::model::codec::CodecError;
use crate::model::dealings::{Call, EffectOutcome, EffectStage};
use crate::model::event::{Event, TimeGiven};
use crate::model::ids::EntityKey;
use crate::model::time::{Span, Timestamp};
use crate::rules::{Around, Came, Decided, Machine, Ruleset, Taken};

const NANOS_PER_MS: i128 = 1_000_000;
/// Between two arrivals, unless more is needed.
pub(super) const PAUSE_MS_MIN: u64 = 1;

/// What numbers the events of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    #[default]
    Line,
    Lsn,
}

impl Unit {
    /// "line 7".
    pub fn of(self, number: u64) -> String {
        let word = if self == Unit::Line { "line" } else { "lsn" };
        format!("{word} {number}")
    }
}

/// An event as the entity takes it.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its number in the input.
    pub number: u64,
    pub taken: Box<Taken>,
    /// The event itself if nobody gave it a time: then its arrival is its time, and it is admitted anew at each.
    timeless: Option<Box<Event>>,
}

impl Given {
    /// What `taken`'s type makes of `event`.
    pub fn new(number: u64, event: &Event, taken: Box<Taken>) -> Self {
        let timeless = (event.time_given == TimeGiven::AtReceipt).then(|| Box::new(event.clone()));
        Given { number, taken, timeless }
    }

    /// Whether it has no time but that of its arrival.
    pub fn is_timeless(&self) -> bool {
        self.timeless.is_some()
    }
}

/// One event arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its place among the group's events.
    pub event: usize,
    /// How long after what arrived before it.
    pub pause_ms: u64,
    /// Whether states are stored and read back before it.
    pub reload: bool,
    /// Whether all that follows from it elsewhere, or by itself, waits until the next one has arrived.
    pub hold: bool,
}

/// What the times of events without one are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    OfArrival,
    /// The same in every order, as if the sender had given them.
    Fixed,
}

/// The events of one entity, or of all that are tied to each other.
#[derive(Debug)]
pub struct Group {
    /// The one that was heard of first.
    pub entity: EntityKey,
    /// How many there are.
    pub entities: usize,
    /// Each once for each entity that takes it.
    pub events: Vec<Given>,
    /// Events that the rules refused, since their identity had come with another payload, and which they conflict with.
    pub conflicts: Vec<(Given, usize)>,
    /// The order of the input, repeats included.
    pub given: Vec<Arrival>,
    begin: Timestamp,
}

impl Group {
    /// A group of the events in `order`. Where some have no time, arrivals are spread over the time that the others span.
    pub fn new(entities: &[EntityKey], events: Vec<Given>, conflicts: Vec<(Given, usize)>, order: &[usize]) -> Self {
        let timed = events.iter().filter(|given| !given.is_timeless()).map(|given| given.taken.input.time());
        let (first, last) = (timed.clone().min().unwrap_or_default(), timed.max().unwrap_or_default());
        let span_ms = last.since(first).as_nanos() / NANOS_PER_MS;
        let is_spread = events.iter().any(Given::is_timeless);
        let spread_ms = u64::try_from(span_ms).unwrap_or(0) / order.len().max(1) as u64;
        let pause_ms = if is_spread { spread_ms.max(PAUSE_MS_MIN) } else { PAUSE_MS_MIN };
        let given = order.iter().map(|event| Arrival { event: *event, pause_ms, reload: false, hold: false }).collect();
        let entity = entities[0].clone();
        let begin = if is_spread { first } else { last };
        Group { entity, entities: entities.len(), events, conflicts, given, begin }
    }

    /// The usual pause between arrivals.
    pub(super) fn pause_ms(&self) -> u64 {
        self.given.first().map_or(PAUSE_MS_MIN, |arrival| arrival.pause_ms)
    }

    /// The same group with another event in the place of one.
    #[must_use]
    pub fn instead(&self, event: usize, other: &Given) -> Group {
        let mut events = self.events.clone();
        events[event] = other.clone();
        Group {
            entity: self.entity.clone(),
            entities: self.entities,
            events,
            conflicts: Vec::new(),
            given: self.given.clone(),
            begin: self.begin,
        }
    }

    /// How long after the last arrival `last` is.
    pub(super) fn rest_ms(&self, last: Timestamp) -> u64 {
        let arrived_ms: u64 = self.given.iter().map(|arrival| arrival.pause_ms).sum();
        let all_ms = last.since(self.begin).as_nanos() / NANOS_PER_MS;
        u64::try_from(all_ms).unwrap_or_default().saturating_sub(arrived_ms)
    }

    /// What the entities come to when their events arrive in this order, and all that is due later has happened.
    ///
    /// # Errors
    /// When a state is not read as it was stored.
    pub fn run(&self, ruleset: &Arc<Ruleset>, order: &[Arrival], times: Times) -> Result<Machine, CodecError> {
        self.observe(ruleset, order, times, |_| {})
    }

    /// The same, telling of everything that is decided.
    pub(super) fn observe(
        &self,
        ruleset: &Arc<Ruleset>,
        order: &[Arrival],
        times: Times,
        hear: impl FnMut(&Decided),
    ) -> Result<Machine, CodecError> {
        let mut machine = Machine::new(ruleset.clone());
        let mut around = AroundShuffle(hear);
        let mut now = self.begin;
        let mut is_held = false;
        for arrival in order {
            let pause = Span::from_nanos(i128::from(arrival.pause_ms) * NANOS_PER_MS).unwrap_or_default();
            now = now.plus(pause).unwrap_or(now);
            if !is_held {
                machine.advance(now, &mut around);
            }
            if arrival.reload {
                machine.reload()?;
            }
            let given = &self.events[arrival.event];
            let taken = match &given.timeless {
                Some(event) if times == Times::OfArrival => admit_at(ruleset, event, given.taken.entity.kind(), now),
                _ => Some(given.taken.clone()),
            };
            if let Some(Came::Counted(decided)) = taken.map(|taken| machine.apply(taken, now)) {
                around.hear(&decided);
            }
            is_held = arrival.hold;
            if !is_held {
                machine.advance(now, &mut around);
            }
        }
        machine.finish(&mut around);
        Ok(machine)
    }
}

/// Every call succeeds and says nothing: what it would say is not known.
struct AroundShuffle<F>(F);

impl<F: FnMut(&Decided)> Around for AroundShuffle<F> {
    fn answer(&mut self, _: &Call) -> Option<EffectOutcome> {
        Some(EffectOutcome { stage: EffectStage::Succeeded, status: None, response: None, error: None })
    }

    fn hear(&mut self, decided: &Decided) {
        (self.0)(decided);
    }
}

/// What the type makes of an event that arrives now; nothing if it refuses it at that time.
fn admit_at(ruleset: &Ruleset, event: &Event, kind: &str, now: Timestamp) -> Option<Box<Taken>> {
    let event = Event { time: now, ..event.clone() };
    ruleset.admit(&event).ok()?.into_iter().find(|taken| taken.entity.kind() == kind)
}
