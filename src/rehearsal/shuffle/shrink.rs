//! From two orders with different outcomes to the smallest two that still differ in the same part: fewer events, no
//! repeats, pauses and reloads that are not needed, fewer swaps.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::compare::{Subject, differences};
use super::group::{Arrival, Group, PAUSE_MS_MIN, Times};
use crate::model::codec::CodecError;
use crate::rules::{Fickle, Ruleset};

/// So many events are applied at most in looking for a smaller pair.
const APPLIED_MAX: u64 = 20_000_000;
/// Of so few events every order is tried, the nearest first.
const EVERY_ORDER_EVENTS_MAX: usize = 6;

/// Two orders of the same events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub first: Vec<Arrival>,
    pub second: Vec<Arrival>,
}

/// Makes a pair smaller as long as it differs in the subject.
pub struct Shrinker<'a> {
    pub group: &'a Group,
    pub ruleset: &'a Arc<Ruleset>,
    pub fickle: &'a Fickle,
    pub subject: &'a Subject,
    applied: u64,
}

impl Pair {
    /// How many neighbours have to be swapped to come from the one order to the other.
    pub fn swaps(&self) -> usize {
        let places = places(&self.first);
        let mut before: Vec<usize> = Vec::new();
        let mut swaps = 0;
        for event in firsts(&self.second) {
            let at = before.partition_point(|place| *place < places[event]);
            swaps += before.len() - at;
            before.insert(at, places[event]);
        }
        swaps
    }

    /// The pair without these events; all others arrive when they did.
    fn without(&self, drop: &[usize]) -> Pair {
        let drop: HashSet<usize> = drop.iter().copied().collect();
        let kept = |order: &[Arrival]| {
            let mut pause_ms = 0_u64;
            let kept = order.iter().filter_map(|arrival| {
                pause_ms = pause_ms.saturating_add(arrival.pause_ms);
                let is_kept = !drop.contains(&arrival.event);
                is_kept.then(|| Arrival { pause_ms: std::mem::take(&mut pause_ms), ..*arrival })
            });
            kept.collect()
        };
        Pair { first: kept(&self.first), second: kept(&self.second) }
    }

    fn orders(&mut self) -> [&mut Vec<Arrival>; 2] {
        [&mut self.first, &mut self.second]
    }
}

/// The events of an order, each where it first comes.
fn firsts(order: &[Arrival]) -> Vec<usize> {
    let mut is_known = vec![false; order.iter().map(|arrival| arrival.event + 1).max().unwrap_or_default()];
    let events = order.iter().map(|arrival| arrival.event);
    events.filter(|event| !std::mem::replace(&mut is_known[*event], true)).collect()
}

/// By event, its place among the firsts.
fn places(order: &[Arrival]) -> Vec<usize> {
    let firsts = firsts(order);
    let mut places = vec![0; firsts.iter().map(|event| event + 1).max().unwrap_or_default()];
    firsts.iter().enumerate().for_each(|(place, event)| places[*event] = place);
    places
}

impl<'a> Shrinker<'a> {
    /// Nothing is tried yet.
    pub fn new(group: &'a Group, ruleset: &'a Arc<Ruleset>, fickle: &'a Fickle, subject: &'a Subject) -> Self {
        Shrinker { group, ruleset, fickle, subject, applied: 0 }
    }

    /// The smallest pair that was found.
    ///
    /// # Errors
    /// When a state is not read as it was stored.
    pub fn shrink(&mut self, mut pair: Pair) -> Result<Pair, CodecError> {
        loop {
            let before = pair.clone();
            self.drop_events(&mut pair)?;
            self.drop_repeats(&mut pair)?;
            self.calm(&mut pair)?;
            self.swap_back(&mut pair)?;
            self.nearest(&mut pair)?;
            if pair == before || self.applied > APPLIED_MAX {
                return Ok(pair);
            }
        }
    }

    /// Whether the pair differs in the subject, under these times.
    ///
    /// # Errors
    /// When a state is not read as it was stored.
    pub fn differs(&mut self, pair: &Pair, times: Times) -> Result<bool, CodecError> {
        self.applied += (pair.first.len() + pair.second.len()) as u64;
        let first = self.group.run(self.ruleset, &pair.first, times)?;
        let second = self.group.run(self.ruleset, &pair.second, times)?;
        Ok(differences(self.ruleset, self.fickle, &first, &second)
            .iter()
            .any(|difference| difference.subject == *self.subject))
    }

    /// Takes the candidate if it still differs.
    fn keep(&mut self, pair: &mut Pair, candidate: Pair) -> Result<bool, CodecError> {
        let differs = self.applied <= APPLIED_MAX && self.differs(&candidate, Times::OfArrival)?;
        if differs {
            *pair = candidate;
        }
        Ok(differs)
    }

    /// Leaves out events: halves of them first, then ever smaller parts, then one by one.
    fn drop_events(&mut self, pair: &mut Pair) -> Result<(), CodecError> {
        let mut size = firsts(&pair.first).len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            loop {
                let events = firsts(&pair.first);
                let Some(drop) = events.get(start..(start + size).min(events.len())).filter(|drop| !drop.is_empty())
                else {
                    break;
                };
                let candidate = pair.without(drop);
                if drop.len() == events.len() || !self.keep(pair, candidate)? {
                    start += size;
                }
            }
            if size == 1 {
                return Ok(());
            }
            size /= 2;
        }
    }

    /// Leaves out arrivals of events that arrive in the same order at another time too.
    fn drop_repeats(&mut self, pair: &mut Pair) -> Result<(), CodecError> {
        for side in 0..2 {
            let mut at = pair.orders()[side].len();
            while at > 0 {
                at -= 1;
                let order = &*pair.orders()[side];
                let event = order[at].event;
                if order.iter().filter(|arrival| arrival.event == event).count() > 1 {
                    let mut candidate = pair.clone();
                    candidate.orders()[side].remove(at);
                    self.keep(pair, candidate)?;
                }
            }
        }
        Ok(())
    }

    /// Takes out pauses, reloads, and what is held back.
    fn calm(&mut self, pair: &mut Pair) -> Result<(), CodecError> {
        let mut candidate = pair.clone();
        let calm = |arrival: &mut Arrival| {
            *arrival = Arrival { pause_ms: PAUSE_MS_MIN, reload: false, hold: false, ..*arrival }
        };
        candidate.orders().into_iter().flatten().for_each(calm);
        if candidate == *pair || self.keep(pair, candidate)? {
            return Ok(());
        }
        for side in 0..2 {
            for at in 0..pair.orders()[side].len() {
                let mut candidate = pair.clone();
                calm(&mut candidate.orders()[side][at]);
                if candidate != *pair {
                    self.keep(pair, candidate)?;
                }
            }
        }
        Ok(())
    }

    /// Brings the second order nearer to the first, by swapping neighbours.
    fn swap_back(&mut self, pair: &mut Pair) -> Result<(), CodecError> {
        let places = places(&pair.first);
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for at in 1..pair.second.len() {
                let [before, after] = [pair.second[at - 1].event, pair.second[at].event];
                if places[before] > places[after] {
                    let mut candidate = pair.clone();
                    candidate.second.swap(at - 1, at);
                    has_changed |= self.keep(pair, candidate)?;
                }
            }
        }
        Ok(())
    }

    /// Finds the second order that is the fewest swaps away from the first, where there are few to try.
    fn nearest(&mut self, pair: &mut Pair) -> Result<(), CodecError> {
        let events = firsts(&pair.first);
        if events.len() > EVERY_ORDER_EVENTS_MAX || pair.second.len() > events.len() {
            return Ok(());
        }
        let arrival = |event: &usize| pair.second.iter().find(|arrival| arrival.event == *event).copied();
        let mut open: VecDeque<Vec<Arrival>> = VecDeque::from([events.iter().filter_map(arrival).collect()]);
        let mut known: HashSet<Vec<usize>> = HashSet::from([events]);
        while let Some(second) = open.pop_front() {
            let candidate = Pair { first: pair.first.clone(), second };
            if candidate == *pair {
                break;
            }
            for at in 1..candidate.second.len() {
                let mut next = candidate.second.clone();
                next.swap(at - 1, at);
                if known.insert(firsts(&next)) {
                    open.push_back(next);
                }
            }
            if self.keep(pair, candidate)? {
                break;
            }
        }
        Ok(())
    }
}
