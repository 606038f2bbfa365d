//! The window of a sink that sends several keys' decisions at a time: what is held, what may be sent now, and how far all
//! is finished. One send in flight a key, so that a key's decisions arrive in order; a key that waits to be tried again
//! holds up no other. Does nothing itself and reads no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::routing::Delivery;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::system::{OpenRecord, SinkWindow};

/// While so many deliveries are held, or so many bytes of them, nothing more is read from the journal.
pub(super) const HELD_MAX: usize = 4096;
pub(super) const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The window.
#[derive(Debug)]
pub(super) struct Window {
    in_flight_max: usize,
    /// Everything up to here is finished but what is open.
    read: Lsn,
    /// What was noted before the start is read again up to here.
    resumed: Lsn,
    /// Records with unfinished deliveries.
    open: BTreeMap<Lsn, Open>,
    lanes: HashMap<EntityKey, Lane>,
    /// Keys that have something to send, in the order they came to it.
    ready: VecDeque<EntityKey>,
    /// Keys that wait to be tried again. The number tells those of one instant apart.
    resting: BTreeMap<(Instant, u64), EntityKey>,
    rests: u64,
    in_flight: usize,
    held: usize,
    held_bytes: usize,
    /// Keys whose first delivery was not taken before.
    failing: usize,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
    closed: bool,
}

#[derive(Debug)]
struct Open {
    finished: u32,
    unfinished: u32,
}

/// What is held of one key; the first is in flight, ready or resting.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Arc<Delivery>>,
    /// How often the first was not taken.
    tries: u32,
    /// How many of these count against it.
    failures: u32,
    /// Why it was not, the last time.
    why: Box<str>,
}

/// Something to be sent now.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub delivery: Arc<Delivery>,
    /// How often it was sent before.
    pub tries: u32,
    /// How often it failed before.
    pub failures: u32,
}

/// What came of looking for something to take out of the window.
pub(super) enum Seized {
    Taken(Sending),
    /// It is just being sent.
    InFlight(Arc<Delivery>),
    /// No key waits for it.
    Nothing,
}

impl Lane {
    fn sending(&self, delivery: Arc<Delivery>) -> Sending {
        Sending { delivery, tries: self.tries, failures: self.failures }
    }
}

impl Window {
    /// The window of a sink that goes on from `progress`: what was open then has to be put in again.
    pub fn new(progress: &SinkWindow, in_flight_max: usize) -> Self {
        let open = progress.open.iter().map(|open| (open.lsn, Open { finished: open.finished, unfinished: 0 }));
        Window {
            in_flight_max,
            read: progress.read,
            resumed: progress.read,
            open: open.collect(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeMap::new(),
            rests: 0,
            in_flight: 0,
            held: 0,
            held_bytes: 0,
            failing: 0,
            paused_until: None,
            closed: false,
        }
    }

    pub fn has_room(&self) -> bool {
        self.held < HELD_MAX && self.held_bytes < HELD_BYTES_MAX && !self.closed
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Whether a key waits because its delivery was not taken.
    pub fn is_failing(&self) -> bool {
        self.failing > 0
    }

    /// Takes in a delivery; they come in the order of the journal, and those of one record together.
    pub fn put(&mut self, delivery: Delivery) {
        self.held += 1;
        self.held_bytes += delivery.bytes();
        if !delivery.is_again {
            let open = self.open.entry(delivery.lsn).or_insert(Open { finished: delivery.place, unfinished: 0 });
            open.unfinished += 1;
        }
        let lane = self.lanes.entry(delivery.entity.clone()).or_default();
        if lane.queue.is_empty() {
            self.ready.push_back(delivery.entity.clone());
        }
        lane.queue.push_back(Arc::new(delivery));
    }

    /// Everything up to `lsn` was put in.
    pub fn passed(&mut self, lsn: Lsn) {
        self.read = self.read.max(lsn);
        if self.resumed > Lsn::ZERO {
            // What was open and goes elsewhere now.
            self.open.retain(|open, decisions| *open > lsn || decisions.unfinished > 0);
        }
        if lsn >= self.resumed {
            self.resumed = Lsn::ZERO;
        }
    }

    /// The next thing to send; it is in flight until one of the methods below says what came of it.
    pub fn next(&mut self, now: Instant) -> Option<Sending> {
        if self.closed || self.in_flight >= self.in_flight_max || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        while let Some(first) = self.resting.first_entry()
            && first.key().0 <= now
        {
            self.ready.push_back(first.remove());
        }
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get(&key)?;
        self.in_flight += 1;
        Some(lane.sending(lane.queue.front()?.clone()))
    }

    /// When there is something to send though nothing else happens; none if that is so now, or never.
    pub fn next_at(&self) -> Option<Instant> {
        if self.closed || self.in_flight >= self.in_flight_max {
            return None;
        }
        let first = self.resting.first_key_value().map(|((at, _), _)| *at);
        match self.paused_until {
            Some(until) if !self.ready.is_empty() => Some(until),
            Some(until) => first.map(|first| first.max(until)),
            None => first,
        }
    }

    /// It is done with: delivered, or given up.
    pub fn finished(&mut self, delivery: &Delivery) {
        self.in_flight -= 1;
        self.held -= 1;
        self.held_bytes -= delivery.bytes();
        if let Some(open) = self.open.get_mut(&delivery.lsn).filter(|_| !delivery.is_again) {
            open.unfinished -= 1;
            open.finished = delivery.place + 1;
            if open.unfinished == 0 {
                self.open.remove(&delivery.lsn);
            }
        }
        let Some(lane) = self.lanes.get_mut(&delivery.entity) else { return };
        lane.queue.pop_front();
        self.failing -= usize::from(lane.tries > 0);
        (lane.tries, lane.failures) = (0, 0);
        if lane.queue.is_empty() {
            self.lanes.remove(&delivery.entity);
        } else {
            self.ready.push_back(delivery.entity.clone());
        }
    }

    /// It failed; its key waits until `again`.
    pub fn failed(&mut self, delivery: &Delivery, again: Instant, why: &str) {
        if let Some(lane) = self.lanes.get_mut(&delivery.entity) {
            lane.failures += 1;
        }
        self.rest(delivery, again, why);
    }

    /// Takes the first thing of a key, if it is the one that is wanted and is not in flight; then it is.
    pub fn seize(&mut self, wanted: impl Fn(&Delivery) -> bool) -> Seized {
        let is_first = |lane: &Lane| lane.queue.front().is_some_and(|first| !first.is_again && wanted(first));
        let Some((key, lane)) = self.lanes.iter().find(|(_, lane)| is_first(lane)) else { return Seized::Nothing };
        let Some(delivery) = lane.queue.front().cloned() else { return Seized::Nothing };
        let rests = self.resting.iter().find(|(_, resting)| *resting == key).map(|(at, _)| *at);
        let waits = self.ready.iter().position(|ready| ready == key);
        let sending = lane.sending(delivery);
        match (rests, waits) {
            (Some(at), _) => drop(self.resting.remove(&at)),
            (None, Some(at)) => drop(self.ready.remove(at)),
            (None, None) => return Seized::InFlight(sending.delivery),
        }
        self.in_flight += 1;
        Seized::Taken(sending)
    }

    /// What was not taken at its last attempt, with how often it was tried and why it was not: in the order of the journal.
    pub fn stuck(&self) -> Vec<(Arc<Delivery>, u32, Box<str>)> {
        let failing = self.lanes.values().filter(|lane| lane.tries > 0);
        let first = failing.filter_map(|lane| Some((lane.queue.front()?.clone(), lane.tries, lane.why.clone())));
        let mut stuck: Vec<_> = first.collect();
        stuck.sort_by_key(|(delivery, ..)| (delivery.lsn, delivery.place));
        stuck
    }

    /// It was not taken, through no fault of its own; nothing at all is sent until `again`.
    pub fn put_off(&mut self, delivery: &Delivery, again: Instant, why: &str) {
        self.paused_until = self.paused_until.max(Some(again));
        self.rest(delivery, again, why);
    }

    /// Somebody has seen to it: what is held is sent although the receiver asked for a pause.
    pub fn end_pause(&mut self) {
        self.paused_until = None;
    }

    /// It was not taken, and nothing ever will be.
    pub fn close(&mut self, delivery: &Delivery) {
        self.closed = true;
        self.in_flight -= 1;
        self.ready.push_front(delivery.entity.clone());
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn rest(&mut self, delivery: &Delivery, again: Instant, why: &str) {
        if let Some(lane) = self.lanes.get_mut(&delivery.entity) {
            self.failing += usize::from(lane.tries == 0);
            lane.tries += 1;
            lane.why = why.into();
        }
        self.in_flight -= 1;
        self.rests += 1;
        self.resting.insert((again, self.rests), delivery.entity.clone());
    }

    /// How far all is finished.
    pub fn progress(&self) -> SinkWindow {
        let open = self.open.iter().map(|(lsn, open)| OpenRecord { lsn: *lsn, finished: open.finished });
        SinkWindow { read: self.read, open: open.collect() }
    }

    /// Everything up to here is finished.
    pub fn delivered(&self) -> Lsn {
        self.open.first_key_value().map_or(self.read, |(lsn, _)| Lsn(lsn.0 - 1))
    }
}
