//! What an entity has to tell others, itself among them, until it is known to have arrived. Beside the state, not in it: that
//! something arrived is no record. What is sent again for that reason says nothing new to its receiver.

use bincode::{Decode, Encode};

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
                Content::Notice { reference, .. } => Link::Notice(reference.clone()),
            },
            Letter::Event { event, .. } => Link::Event(event.id.clone()),
        }
    }

    /// The receipt for it.
    pub fn receipt(&self) -> Receipt {
        Receipt { of: self.to.clone(), version: self.version, link: self.link() }
    }
}

/// Letters that are not known to have arrived. The default has none.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Outbox {
    /// In the order of their versions, those that are under way first.
    letters: Vec<Outgoing>,
}

impl Outbox {
    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Adds letters of one record; each takes the place of an earlier one of its link, unless that is under way.
    pub fn put(&mut self, letters: impl IntoIterator<Item = Outgoing>, under_way: usize) {
        for letter in letters {
            let waiting = self.letters.get(under_way..).unwrap_or_default();
            let same = waiting.iter().position(|known| known.to == letter.to && known.link() == letter.link());
            if let Some(at) = same {
                self.letters.remove(under_way + at);
            }
            self.letters.push(letter);
        }
    }

    /// Those that may be sent now, since their records are committed, beyond the first `under_way`, which were sent.
    pub fn sendable(&self, under_way: usize, committed: Version) -> impl Iterator<Item = &Outgoing> {
        let room = UNDER_WAY_MAX.saturating_sub(under_way);
        self.letters.iter().skip(under_way).take(room).take_while(move |letter| letter.version <= committed)
    }

    /// Notes that a letter, and every earlier one of its link, has arrived. Returns how many of the first `under_way` that
    /// were.
    pub fn arrived(&mut self, receipt: &Receipt, under_way: usize) -> usize {
        let mut removed = 0;
        let mut at = 0;
        self.letters.retain(|letter| {
            let is_it = letter.version <= receipt.version && letter.to == receipt.of && letter.link() == receipt.link;
            removed += usize::from(is_it && at < under_way);
            at += 1;
            !is_it
        });
        removed
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

    fn versions<'a>(letters: impl Iterator<Item = &'a Outgoing>) -> Vec<(String, u64)> {
        letters.map(|letter| (letter.to.key().to_owned(), letter.version.0)).collect()
    }

    /// If this failed, news would be told before it is durable, be lost, or pile up.
    #[test]
    fn only_the_newest_of_a_link_is_told_and_not_before_its_commit() {
        let mut outbox = Outbox::default();
        outbox.put([notice("a", 1), notice("b", 1)], 0);
        assert_eq!(versions(outbox.sendable(0, Version(0))), []);
        assert_eq!(versions(outbox.sendable(0, Version(1))), [("a".into(), 1), ("b".into(), 1)]);
        // Both are under way now: what comes for them waits behind.
        outbox.put([notice("a", 2)], 2);
        outbox.put([notice("a", 3)], 2);
        assert_eq!(versions(outbox.sendable(2, Version(2))), []);
        assert_eq!(versions(outbox.sendable(2, Version(3))), [("a".into(), 3)]);
        assert_eq!(outbox.arrived(&notice("a", 1).receipt(), 2), 1);
        assert_eq!(outbox.arrived(&notice("a", 1).receipt(), 1), 0, "a second receipt says nothing");
        assert_eq!(outbox.arrived(&notice("b", 1).receipt(), 1), 1);
        assert_eq!(versions(outbox.sendable(0, Version(9))), [("a".into(), 3)]);
        assert_eq!(outbox.arrived(&notice("a", 3).receipt(), 1), 1);
        assert!(outbox.is_empty());
    }

    /// If this failed, one entity with many watchers could fill memory with what is under way.
    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut outbox = Outbox::default();
        outbox.put((0..600).map(|n| notice(&format!("{n}"), 1)), 0);
        assert_eq!(outbox.sendable(0, Version(1)).count(), UNDER_WAY_MAX);
        assert_eq!(outbox.sendable(UNDER_WAY_MAX, Version(1)).count(), 0);
    }

    /// The store's content: a change here makes old folders unreadable.
    #[test]
    fn stored_form_is_frozen() {
        let mut outbox = Outbox::default();
        outbox.put([notice("a", 1)], 0);
        let bytes = codec::encode(2, &outbox);
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, "0201016301610100017001310101650000020172020202");
        assert_eq!(codec::decode::<Outbox>(2, &bytes).unwrap(), outbox);
    }
}
