//! Which events come, in which order: keys, kinds, duplicates. The same workload gives the same events again.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::shape::Shape;

/// A duplicate repeats one of the last so many events.
const REPEATABLE_EVENTS: usize = 65_536;
/// The key that `hot` sends to; the others are counted from 1.
const HOT_KEY: u64 = 0;

/// One event before it is written down. Equal ones are duplicates of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Planned {
    /// Counts the distinct events of the workload.
    pub number: u64,
    pub key: u64,
    /// Which of the shape's kinds it is.
    pub kind: usize,
}

/// How events spread over keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// Each key gets one event of each kind, in random order; so many keys are open at a time.
    LifeCycle { open: u64 },
    /// Each event goes to one of so many keys: the k-th with a weight of 1 / k^skew, with 0 all alike.
    Random { keys: u64, skew: f64 },
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Workload {
    pub shape: Shape,
    pub spread: Spread,
    /// Share of the events that goes to one key besides.
    pub hot: f64,
    /// Share of the events that came before.
    pub duplicates: f64,
    pub seed: u64,
}

/// The events of a workload, one after the other, without end.
pub struct Planner {
    workload: Workload,
    rng: StdRng,
    number: u64,
    next_key: u64,
    /// The keys that are open, with a bit for each kind that is still to come.
    open: Vec<(u64, u32)>,
    /// Running sums of the weights of keys, where they differ.
    weights: Vec<f64>,
    recent: Vec<Planned>,
}

impl Planner {
    /// Begins a workload.
    pub fn new(workload: &Workload) -> Self {
        let mut planner = Planner {
            rng: StdRng::seed_from_u64(workload.seed),
            workload: workload.clone(),
            number: 0,
            next_key: HOT_KEY,
            open: Vec::new(),
            weights: Vec::new(),
            recent: Vec::with_capacity(REPEATABLE_EVENTS),
        };
        match workload.spread {
            Spread::LifeCycle { open } => planner.open = (0..open).map(|_| planner.opened()).collect(),
            Spread::Random { keys, skew } if skew > 0.0 => {
                let mut sum = 0.0;
                let weights = (1..=keys).map(|key| {
                    sum += (key as f64).powf(-skew);
                    sum
                });
                planner.weights = weights.collect();
            }
            Spread::Random { .. } => {}
        }
        planner
    }

    fn opened(&mut self) -> (u64, u32) {
        self.next_key += 1;
        (self.next_key, (1 << self.workload.shape.kinds()) - 1)
    }

    fn fresh(&mut self) -> Planned {
        self.number += 1;
        let number = self.number;
        let kinds = self.workload.shape.kinds();
        if self.workload.hot > 0.0 && self.rng.random_bool(self.workload.hot) {
            return Planned { number, key: HOT_KEY, kind: self.rng.random_range(0..kinds) };
        }
        match self.workload.spread {
            Spread::LifeCycle { .. } => {
                let at = self.rng.random_range(0..self.open.len());
                let (key, left) = self.open[at];
                let kind = nth_bit(left, self.rng.random_range(0..left.count_ones()));
                let left = left & !(1 << kind);
                self.open[at] = if left == 0 { self.opened() } else { (key, left) };
                Planned { number, key, kind: kind as usize }
            }
            Spread::Random { keys, .. } => {
                let key = match self.weights.last() {
                    Some(&sum) => {
                        let drawn = self.rng.random_range(0.0..sum);
                        1 + self.weights.partition_point(|&weight| weight <= drawn) as u64
                    }
                    None => self.rng.random_range(1..=keys),
                };
                Planned { number, key, kind: self.rng.random_range(0..kinds) }
            }
        }
    }
}

impl Iterator for Planner {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let repeated = self.workload.duplicates > 0.0 && self.rng.random_bool(self.workload.duplicates);
        if repeated && !self.recent.is_empty() {
            return Some(self.recent[self.rng.random_range(0..self.recent.len())]);
        }
        let planned = self.fresh();
        if self.recent.len() < REPEATABLE_EVENTS {
            self.recent.push(planned);
        } else {
            let at = self.number as usize % REPEATABLE_EVENTS;
            self.recent[at] = planned;
        }
        Some(planned)
    }
}

/// Position of the n-th bit that is set, counted from 0.
fn nth_bit(mut bits: u32, n: u32) -> u32 {
    for _ in 0..n {
        bits &= bits - 1;
    }
    bits.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn workload(spread: Spread) -> Workload {
        Workload { shape: Shape::Order, spread, hot: 0.0, duplicates: 0.0, seed: 7 }
    }

    /// Were an order to get a kind twice, or more orders to be open, the workload would not be the one that is quoted.
    #[test]
    fn life_cycles_give_each_key_one_event_of_each_kind() {
        let mut seen: HashMap<u64, HashSet<usize>> = HashMap::new();
        for planned in Planner::new(&workload(Spread::LifeCycle { open: 100 })).take(10_000) {
            assert!(seen.entry(planned.key).or_default().insert(planned.kind), "{planned:?}");
            let open = seen.values().filter(|kinds| kinds.len() < Shape::Order.kinds()).count();
            assert!(open <= 100, "{open} are open");
        }
        assert!(seen.len() > 1_950, "{} keys came", seen.len());
    }

    #[test]
    fn shares_are_as_asked_for() {
        let near = |found: usize, share: f64| (found as f64 / 100_000.0 - share).abs() < 0.01;
        let spread = Spread::Random { keys: 1_000_000, skew: 0.0 };
        let asked = Workload { hot: 0.5, duplicates: 0.1, ..workload(spread) };
        let events: Vec<_> = Planner::new(&asked).take(100_000).collect();
        let distinct: HashSet<_> = events.iter().collect();
        assert!(near(distinct.len(), 0.9), "{} are distinct", distinct.len());
        let hot = events.iter().filter(|planned| planned.key == HOT_KEY).count();
        assert!(near(hot, 0.5), "{hot} are hot");
        assert_eq!(events, Planner::new(&asked).take(100_000).collect::<Vec<_>>(), "it comes out the same again");
    }

    #[test]
    fn skew_prefers_the_first_keys() {
        // Of 1 + 1/2 + 1/3 the first key has 6/11.
        let counted = |skew| {
            let asked = workload(Spread::Random { keys: 3, skew });
            let mut counts = [0; 3];
            Planner::new(&asked).take(11_000).for_each(|planned| counts[planned.key as usize - 1] += 1);
            counts
        };
        for (skew, expected) in [(0.0, [3_667, 3_667, 3_667]), (1.0, [6_000, 3_000, 2_000])] {
            let counts = counted(skew);
            let off = counts.iter().zip(expected).map(|(found, expected): (&i32, i32)| (found - expected).abs()).max();
            assert!(off < Some(300), "{skew}: {counts:?}");
        }
    }
}
