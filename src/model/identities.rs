//! Which event identities counted for an entity. The youngest are in its state; older ones move to rows of the store.

use std::collections::{HashMap, VecDeque};

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::ids::{IdentityHash, PayloadHash};

/// So many identities stay in the state's own row; older ones move to rows of their own at a checkpoint.
pub const IDENTITIES_IN_STATE_MAX: usize = 64;

/// An identity that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    pub id: IdentityHash,
    pub payload: PayloadHash,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The identities that counted.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// Oldest first.
    recent: VecDeque<Seen>,
    /// How many moved to rows of their own.
    spilled: u64,
    /// The same by identity, once there are too many to look through. Not stored.
    #[allow(clippy::box_collection)] // nearly every entity has none, and the box keeps those small
    index: Option<Box<HashMap<IdentityHash, Seen>>>,
}

/// So many identities grow one by one.
const FEW: usize = 8;

impl Identities {
    /// The identity, if it is among those in the state.
    pub fn get(&self, id: IdentityHash) -> Option<Seen> {
        match &self.index {
            Some(index) => index.get(&id).copied(),
            None => self.recent.iter().rev().find(|seen| seen.id == id).copied(),
        }
    }

    /// Counts an identity.
    pub fn push(&mut self, seen: Seen) {
        if self.recent.len() == self.recent.capacity() {
            // Most entities have a handful, and there are many entities.
            let room = if self.recent.len() < FEW { 1 } else { self.recent.len() / 2 };
            self.recent.reserve_exact(room);
        }
        self.recent.push_back(seen);
        match &mut self.index {
            Some(index) => {
                index.insert(seen.id, seen);
            }
            None => self.reindex(),
        }
    }

    /// Forgets those seen before `at_ms`. They are the oldest: an entity's time never goes back.
    pub fn forget_before(&mut self, at_ms: i64) {
        while let Some(seen) = self.recent.pop_front_if(|seen| seen.at_ms < at_ms) {
            if let Some(index) = &mut self.index {
                index.remove(&seen.id);
            }
        }
    }

    /// The oldest ones that have no place in the state's row; the row is stored without them.
    pub fn overflow(&self) -> impl ExactSizeIterator<Item = Seen> {
        self.recent.range(..self.recent.len().saturating_sub(IDENTITIES_IN_STATE_MAX)).copied()
    }

    /// What is left when all of [`Identities::overflow`] have rows.
    #[must_use]
    pub fn without_overflow(&self) -> Identities {
        let overflow = self.overflow().len();
        let recent = self.recent.range(overflow..).copied().collect();
        Identities { recent, spilled: self.spilled + overflow as u64, index: None }
    }

    /// Drops the oldest ones up to `last`, which are rows of the store now.
    pub fn spill_through(&mut self, last: IdentityHash) {
        let Some(at) = self.recent.iter().position(|seen| seen.id == last) else { return };
        let count = at + 1;
        self.recent.drain(..count);
        self.recent.shrink_to(2 * IDENTITIES_IN_STATE_MAX);
        self.spilled += count as u64;
        self.reindex();
    }

    /// The oldest in the state.
    pub fn oldest(&self) -> Option<Seen> {
        self.recent.front().copied()
    }

    /// Whether the store may know more.
    pub fn has_spilled(&self) -> bool {
        self.spilled > 0
    }

    fn reindex(&mut self) {
        self.index = (self.recent.len() > 2 * IDENTITIES_IN_STATE_MAX)
            .then(|| Box::new(self.recent.iter().map(|seen| (seen.id, *seen)).collect()));
    }
}

impl PartialEq for Identities {
    fn eq(&self, other: &Self) -> bool {
        self.recent == other.recent && self.spilled == other.spilled
    }
}

impl Encode for Identities {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.recent.encode(encoder)?;
        self.spilled.encode(encoder)
    }
}

impl<C> Decode<C> for Identities {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut identities =
            Identities { recent: VecDeque::decode(decoder)?, spilled: u64::decode(decoder)?, index: None };
        identities.reindex();
        Ok(identities)
    }
}

bincode::impl_borrow_decode!(Identities);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(n: u64) -> Seen {
        Seen { id: IdentityHash::of("s", &n.to_string()), payload: PayloadHash(n), at_ms: n as i64 }
    }

    #[test]
    fn all_are_found_whether_few_or_many_and_what_spilled_is_left_out() {
        let mut identities = Identities::default();
        for n in 0..1000 {
            identities.push(seen(n));
            assert_eq!(identities.get(seen(n / 2).id), Some(seen(n / 2)));
        }
        assert_eq!(identities.overflow().len(), 1000 - IDENTITIES_IN_STATE_MAX);
        let last = identities.overflow().last().unwrap().id;
        identities.spill_through(last);
        identities.spill_through(last);
        assert_eq!(identities.get(seen(0).id), None);
        assert_eq!(identities.get(seen(999).id), Some(seen(999)));
        assert!(identities.overflow().len() == 0 && identities.has_spilled());
        identities.forget_before(990);
        assert_eq!(identities.oldest(), Some(seen(990)));
    }
}
