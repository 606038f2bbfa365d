//! What an entity has to tell others, itself among them, until it is known to have arrived. Beside the state, not in it: that
//! something arrived is no record. What is sent again for that reason says nothing new to its receiver.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bincode::{Decode, Encode};

use super::codec;
use super::event::PackedEvent;
use super::ids::{EntityKey, Version};
use super::record::{Content, Received};

/// So many of an entity's messages are under way at a time.
pub const UNDER_WAY_MAX: usize = 256;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Letter {
    Message(Box<Received>),
    /// A decision that comes back to its entity.
    Event {
        event: Box<PackedEvent>,
        /// As in [`super::record::EventInput::hops`].
        hops: u8,
    },
}

/// A letter, and whom it is for.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Outgoing {
    pub to: EntityKey,
    /// The sender's version that says so; it is not sent before that is committed.
    pub version: Version,
    pub letter: Letter,
}

/// What a receiver says when what it was sent is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who was told.
    pub of: EntityKey,
    pub version: Version,
    /// About which link, where several letters of one version go to one receiver.
    pub link: Link,
}

/// What tells the letters to one receiver apart: of each, only the newest matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Watching, and ceasing to, through a reference.
    Watch(Box<str>),
    /// What is shown through a reference.
    Notice(Box<str>),
    /// An event by its id; each one matters.
    Event(Box<str>),
}

impl Outgoing {
    /// What tells it apart.
    pub fn link(&self) -> Link {
        match &self.letter {
            Letter::Message(received) => match &received.content {
                Content::Watch { reference } | Content::Unwatch { reference } => Link::Watch(reference.clone()),
                Content::Notice { reference, .. } | Content::Gone { reference } => Link::Notice(reference.clone()),
            },
            Letter::Event { event, .. } => Link::Event(event.id.clone()),
        }
    }

    /// The receipt for it.
    pub fn receipt(&self) -> Receipt {
        Receipt { of: self.to.clone(), version: self.version, link: self.link() }
    }
}

/// Letters that are not known to have arrived. The default has none, and takes one word, since most entities have none.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Option<Box<Letters>>);

#[derive(Clone, Debug, Default)]
struct Letters {
    /// Those that are not sent yet, in the order in which they were put.
    waiting: BTreeMap<u64, Outgoing>,
    /// Where each is.
    places: HashMap<(EntityKey, Link), u64>,
    under_way: HashMap<(EntityKey, Link), (u64, Outgoing)>,
    /// How many were put.
    put: u64,
}

impl Outbox {
    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|letters| letters.waiting.is_empty() && letters.under_way.is_empty())
    }

    /// Adds letters of one record; each takes the place of an earlier one of its link that is not sent yet.
    pub fn put(&mut self, letters: Vec<Outgoing>) {
        if letters.is_empty() {
            return;
        }
        let all = self.0.get_or_insert_default();
        for letter in letters {
            let place = all.put;
            all.put += 1;
            if let Some(old) = all.places.insert((letter.to.clone(), letter.link()), place) {
                all.waiting.remove(&old);
            }
            all.waiting.insert(place, letter);
        }
    }

    /// Takes those that may be sent now, since their records are committed and not too many are under way.
    pub fn send(&mut self, committed: Version) -> Vec<Outgoing> {
        let mut sent = Vec::new();
        let Some(all) = &mut self.0 else { return sent };
        while all.under_way.len() < UNDER_WAY_MAX
            && let Some(first) = all.waiting.first_entry().filter(|first| first.get().version <= committed)
        {
            let (place, letter) = first.remove_entry();
            let key = (letter.to.clone(), letter.link());
            all.places.remove(&key);
            sent.push(letter.clone());
            all.under_way.insert(key, (place, letter));
        }
        sent
    }

    /// Notes that a letter, and every earlier one of its link, has arrived.
    pub fn arrived(&mut self, receipt: Receipt) {
        let Receipt { of, version, link } = receipt;
        let Some(all) = &mut self.0 else { return };
        if let Entry::Occupied(sent) = all.under_way.entry((of, link))
            && sent.get().1.version <= version
        {
            sent.remove();
        }
    }

    /// Those that are outstanding of what records up to `through` put, in that order.
    fn through(&self, through: Version) -> Vec<&Outgoing> {
        let Some(all) = &self.0 else { return Vec::new() };
        let under_way = all.under_way.values().map(|(place, letter)| (*place, letter));
        let outstanding = under_way.chain(all.waiting.iter().map(|(place, letter)| (*place, letter)));
        let mut letters: Vec<(u64, &Outgoing)> = outstanding.filter(|(_, letter)| letter.version <= through).collect();
        letters.sort_unstable_by_key(|(place, _)| *place);
        letters.into_iter().map(|(_, letter)| letter).collect()
    }

    /// The stored form: what records up to `through` put, in that order.
    pub fn encode_into(&self, bytes: &mut Vec<u8>, through: Version) {
        codec::encode_into(bytes, &self.through(through));
    }

    /// Whether nothing is outstanding of what records up to `through` put.
    pub fn is_empty_through(&self, through: Version) -> bool {
        self.through(through).is_empty()
    }
}

/// What was stored; nothing of it is under way.
impl From<Vec<Outgoing>> for Outbox {
    fn from(letters: Vec<Outgoing>) -> Self {
        let mut outbox = Outbox::default();
        outbox.put(letters);
        outbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::codec;
    use crate::model::packed::Packed;
    use crate::model::value::Value;

    fn notice(to: &str, version: u64) -> Outgoing {
        let shown = Packed::new(&Value::Int(version as i64));
        let received = Received {
            from: EntityKey::new("p", "1"),
            version: Version(version),
            cause: "e".into(),
            correlation: None,
            hops: 0,
            content: Content::Notice { reference: "r".into(), shown },
        };
        Outgoing { to: EntityKey::new("c", to), version: Version(version), letter: Letter::Message(Box::new(received)) }
    }

    fn versions(letters: &[Outgoing]) -> Vec<(String, u64)> {
        letters.iter().map(|letter| (letter.to.key().to_owned(), letter.version.0)).collect()
    }

    /// If this failed, news would be told before it is durable, be lost, or pile up.
    #[test]
    fn only_the_newest_of_a_link_is_told_and_not_before_its_commit() {
        let mut outbox = Outbox::default();
        outbox.put(vec![notice("a", 1), notice("b", 1)]);
        assert_eq!(versions(&outbox.send(Version(0))), []);
        assert_eq!(versions(&outbox.send(Version(1))), [("a".into(), 1), ("b".into(), 1)]);
        outbox.put(vec![notice("a", 2)]);
        outbox.put(vec![notice("a", 3)]);
        assert_eq!(versions(&outbox.send(Version(2))), []);
        assert_eq!(versions(&outbox.send(Version(3))), [("a".into(), 3)]);
        for (receipt, is_empty) in
            [(notice("a", 1), false), (notice("b", 1), false), (notice("b", 1), false), (notice("a", 3), true)]
        {
            outbox.arrived(receipt.receipt());
            assert_eq!(outbox.is_empty(), is_empty, "{receipt:?}");
        }
    }

    /// If this failed, one entity with many watchers could fill memory with what is under way.
    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut outbox = Outbox::default();
        outbox.put((0..600).map(|n| notice(&format!("{n}"), 1)).collect());
        assert_eq!(outbox.send(Version(1)).len(), UNDER_WAY_MAX);
        assert_eq!(outbox.send(Version(1)).len(), 0);
        outbox.arrived(notice("7", 1).receipt());
        assert_eq!(versions(&outbox.send(Version(1))), [("256".into(), 1)]);
    }

    /// If this failed, a crash would lose what was under way, or tell what was never committed.
    #[test]
    fn what_is_stored_is_all_that_may_be_outstanding_of_a_version() {
        let mut outbox = Outbox::default();
        outbox.put(vec![notice("a", 1), notice("b", 1)]);
        outbox.send(Version(1));
        outbox.put(vec![notice("c", 2), notice("d", 3)]);
        let mut bytes = vec![2];
        outbox.encode_into(&mut bytes, Version(2));
        let mut read = Outbox::from(codec::decode::<Vec<Outgoing>>(2, &bytes).unwrap());
        assert_eq!(versions(&read.send(Version(9))), [("a".into(), 1), ("b".into(), 1), ("c".into(), 2)]);
        assert!(outbox.is_empty_through(Version(0)) && !outbox.is_empty_through(Version(1)));
    }

    /// The store's content: a change here makes old folders unreadable.
    #[test]
    fn stored_form_is_frozen() {
        let mut bytes = vec![2];
        Outbox::from(vec![notice("a", 1)]).encode_into(&mut bytes, Version(1));
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, "0201016301610100017001310101650000020172020202");
    }
}
