//! A paused entity: who paused it, and the events that came meanwhile. Part of its dealings; changed by `rules::evolve` alone.
//!
//! Events are held while the entity or its type is paused, and behind others that are held, so that their order is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use bincode::{Decode, Encode};

use super::dealings::Dealings;
use super::mandate::Mandate;
use super::record::EventInput;
use super::time::Timestamp;

/// A pause, or what is left of one.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Pause {
    /// None where only the type is paused, and once the entity is resumed.
    pub by_hand: Option<ByHand>,
    /// Events that counted and are not applied yet, in the order they came.
    pub held: VecDeque<EventInput>,
}

/// Who paused something, and when.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ByHand {
    pub mandate: Mandate,
    pub since: Timestamp,
}

impl Pause {
    /// The event that is released next; none while the entity itself is paused.
    pub fn first(&self) -> Option<&EventInput> {
        self.held.front().filter(|_| self.by_hand.is_none())
    }
}

/// Shared with copies of the state: there may be much in it, and inputs from inside are decided on copies.
pub type Paused = Option<Arc<Pause>>;

impl Dealings {
    /// Whether the entity itself is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.by_hand.is_some())
    }

    fn pause_mut(&mut self) -> &mut Pause {
        Arc::make_mut(self.paused.get_or_insert_default())
    }

    /// Notes that the entity is paused.
    pub fn pause(&mut self, mandate: Mandate, since: Timestamp) {
        self.pause_mut().by_hand = Some(ByHand { mandate, since });
    }

    /// Notes that it is paused no more.
    pub fn resume(&mut self) {
        self.pause_mut().by_hand = None;
        self.paused.take_if(|pause| pause.held.is_empty());
    }

    /// Adds an event behind those that are held.
    pub fn hold(&mut self, event: EventInput) {
        self.pause_mut().held.push_back(event);
    }

    /// Takes away the event that was held first.
    pub fn release(&mut self) {
        self.pause_mut().held.pop_front();
        self.paused.take_if(|pause| pause.held.is_empty() && pause.by_hand.is_none());
    }
}

#[cfg(test)]
impl Pause {
    /// One with every part filled.
    pub fn example() -> Pause {
        use super::event::{PackedEvent, TimeGiven};
        use super::ids::PayloadHash;
        let since = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        let event = PackedEvent {
            source: "s".into(),
            id: "i".into(),
            kind: "k".into(),
            time: since,
            time_given: TimeGiven::BySender,
            subject: None,
            data: None,
            extensions: None,
        };
        let held = EventInput { event, payload: PayloadHash(3), id: None, time: None, hops: 0, sequence: None };
        let mandate = Mandate { by: "b".into(), why: "w".into() };
        Pause { by_hand: Some(ByHand { mandate, since }), held: [held].into() }
    }
}
