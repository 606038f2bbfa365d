//! What waits of one effect: requests in the order they came, and those that are left alone until they are tried again. Does
//! nothing itself and reads no clock.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::time::Instant;

use crate::model::dealings::Call;
use crate::model::ids::EntityKey;

/// The requests of one effect that are not over.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Call>,
    /// By when they are tried again. The number tells those of one instant apart.
    resting: BTreeMap<(Instant, u64), Call>,
    rests: u64,
    /// All that wait, rest or are under way.
    known: HashSet<(EntityKey, u32)>,
}

impl Queue {
    /// A request is open. Nothing happens if it is known. What an earlier process began is first in the row.
    pub fn put(&mut self, call: Call) {
        if !self.known.insert((call.entity.clone(), call.run)) {
            return;
        }
        if call.attempts > 0 {
            self.waiting.push_front(call);
        } else {
            self.waiting.push_back(call);
        }
    }

    /// The next that an earlier process began, if there is one.
    pub fn next_begun(&mut self) -> Option<Call> {
        self.waiting.pop_front_if(|call| call.attempts > 0)
    }

    /// The next to be called: those whose rest is over come first, since they have waited longer.
    pub fn next(&mut self, now: Instant) -> Option<Call> {
        let rested = self.resting.first_entry().filter(|entry| entry.key().0 <= now);
        rested.map(std::collections::btree_map::OccupiedEntry::remove).or_else(|| self.waiting.pop_front())
    }

    /// It failed and is tried again, not before this time.
    pub fn rest(&mut self, call: Call, again: Instant) {
        self.rests += 1;
        self.resting.insert((again, self.rests), call);
    }

    /// It is over.
    pub fn forget(&mut self, entity: EntityKey, run: u32) {
        self.known.remove(&(entity, run));
    }

    /// When a rest is over.
    pub fn next_at(&self) -> Option<Instant> {
        self.resting.first_key_value().map(|((again, _), _)| *again)
    }

    /// Whether something rests.
    pub fn is_failing(&self) -> bool {
        !self.resting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::packed::Packed;
    use crate::model::value::Value;

    fn call(key: &str, run: u32) -> Call {
        let request = Packed::new(&Value::Null);
        Call {
            entity: EntityKey::new("order", key),
            effect: "charge".into(),
            run,
            request,
            attempts: 0,
            correlation: "c".into(),
            trace: None,
        }
    }

    fn taken(queue: &mut Queue, now: Instant) -> Vec<String> {
        let calls = std::iter::from_fn(|| queue.next(now));
        calls.map(|call| format!("{}{}", call.entity.key(), call.run)).collect()
    }

    /// If this failed, a request could be under way twice, or a failed one hold up the others, or never come again.
    #[test]
    fn each_request_is_handed_out_once_until_it_is_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (key, run) in [("a", 1), ("b", 1), ("a", 1), ("a", 2)] {
            queue.put(call(key, run));
        }
        assert_eq!(taken(&mut queue, now), ["a1", "b1", "a2"]);
        queue.put(call("a", 1));
        assert_eq!(taken(&mut queue, now), [""; 0], "it is under way");

        let second = Duration::from_secs(1);
        queue.rest(call("b", 1), now + second);
        queue.rest(call("a", 1), now + second);
        queue.put(call("b", 1));
        queue.put(call("c", 1));
        assert_eq!((queue.next_at(), queue.is_failing()), (Some(now + second), true));
        assert_eq!(taken(&mut queue, now), ["c1"], "the others rest");
        queue.put(call("d", 1));
        assert_eq!(taken(&mut queue, now + second), ["b1", "a1", "d1"]);

        queue.put(call("e", 1));
        queue.put(Call { attempts: 1, ..call("f", 1) });
        assert_eq!(queue.next_begun().map(|call| call.entity.key().to_owned()), Some("f".to_owned()));
        assert!(queue.next_begun().is_none(), "nobody has begun the other");
        assert_eq!(taken(&mut queue, now), ["e1"]);

        assert_eq!((queue.next_at(), queue.is_failing()), (None, false));
        queue.forget(EntityKey::new("order", "a"), 1);
        queue.put(call("a", 1));
        queue.put(call("a", 2));
        assert_eq!(taken(&mut queue, now), ["a1"], "the other run of it is under way still");
    }
}
