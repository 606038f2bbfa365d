//! Random orders of a group's events.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::group::{Arrival, Group};

/// States are stored and read back so often in an order.
const RELOADS: usize = 2;
/// One order in so many keeps most of the order given.
const NEARLY_GIVEN_ONE_IN: u32 = 4;
/// So many events move in it, at most.
const MOVES_MAX: usize = 3;
/// One order in so many has a pause in which a `dedupe` window lapses.
const LONG_PAUSE_ONE_IN: u32 = 4;
/// In one order in so many some arrivals hold back what follows from them, and how many of them do.
const HOLDING_ONE_IN: u32 = 2;
const HELD_ONE_IN: u32 = 3;
/// By so much a long pause is longer than the window.
const LONG_PAUSE_MORE_MS: u64 = 1_000;

/// Makes orders of one group; the same seed makes the same ones, whatever other groups there are.
pub struct Orders<'a> {
    group: &'a Group,
    random: StdRng,
    duplicates: f64,
    /// A pause after which identities are forgotten, if they ever are, and whatever is due has come.
    long_pause_ms: Option<u64>,
    /// Whether anything follows later that can be held back.
    acts_later: bool,
    made: u64,
}

impl<'a> Orders<'a> {
    /// Orders in which each event is repeated with the probability `duplicates`; what is due comes within `rest_ms`.
    pub fn new(group: &'a Group, seed: u64, duplicates: f64, rest_ms: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(group.entity.kind().as_bytes()).update(&[0]);
        let seed = hasher.update(group.entity.key().as_bytes()).finalize();
        let windows = group.events.iter().filter_map(|given| given.taken.rules.dedupe);
        let window_ms = windows.max().map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let rest_ms = Some(rest_ms).filter(|rest_ms| *rest_ms > 0);
        Orders {
            group,
            random: StdRng::from_seed(*seed.as_bytes()),
            duplicates,
            long_pause_ms: window_ms.max(rest_ms).map(|window| window.saturating_add(LONG_PAUSE_MORE_MS)),
            acts_later: group.events.iter().any(|given| given.taken.rules.acts_later()),
            made: 0,
        }
    }

    /// The next order. The first is the one given, backwards.
    pub fn next(&mut self) -> Vec<Arrival> {
        let count = self.group.events.len();
        self.made += 1;
        let is_near = self.made > 1 && self.random.random_ratio(1, NEARLY_GIVEN_ONE_IN);
        // Events and repeats are sorted by random places.
        let mut places: Vec<(f64, usize)> = Vec::with_capacity(count + count / 2);
        for event in 0..count {
            let place = match self.made {
                1 => (count - event) as f64,
                _ if is_near => event as f64,
                _ => self.random.random::<f64>(),
            };
            places.push((place, event));
        }
        let scale = if is_near || self.made == 1 { count as f64 } else { 1.0 };
        if is_near && count > 0 {
            for _ in 0..self.random.random_range(1..=MOVES_MAX) {
                places[self.random.random_range(0..count)].0 = self.random.random::<f64>() * scale;
            }
        }
        for event in 0..count {
            if self.random.random::<f64>() < self.duplicates {
                places.push((self.random.random::<f64>() * scale, event));
            }
        }
        places.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let pause_ms = self.group.pause_ms();
        let mut order: Vec<_> =
            places.into_iter().map(|(_, event)| Arrival { event, pause_ms, reload: false, hold: false }).collect();
        self.disturb(&mut order);
        order
    }

    fn disturb(&mut self, order: &mut [Arrival]) {
        if order.is_empty() {
            return;
        }
        for _ in 0..RELOADS {
            order[self.random.random_range(0..order.len())].reload = true;
        }
        if let Some(long) = self.long_pause_ms
            && self.random.random_ratio(1, LONG_PAUSE_ONE_IN)
        {
            order[self.random.random_range(0..order.len())].pause_ms = long;
        }
        if self.acts_later && self.random.random_ratio(1, HOLDING_ONE_IN) {
            for arrival in order.iter_mut() {
                arrival.hold = self.random.random_ratio(1, HELD_ONE_IN);
            }
        }
    }
}
