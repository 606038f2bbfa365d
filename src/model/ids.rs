//! Names and positions: what identifies an entity, a record, a decision. All newtypes, so that no two can be mixed up.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// Partitions that keys hash to. Fixed for ever: stored data and other nodes rely on it.
pub const PARTITIONS: u16 = 1024;

/// Position of a record in the journal. The first record has LSN 1; 0 means "before all records".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every record.
    pub const ZERO: Lsn = Lsn(0);
    /// The first record's position.
    pub const FIRST: Lsn = Lsn(1);

    /// The position `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Lsn {
        Lsn(self.0 + count)
    }

    /// The position right after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        self.plus(1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many records an entity has; the version a record makes is its entity's version after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Version(pub u64);

impl Version {
    /// The version the entity's next record makes.
    #[must_use]
    pub fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

/// Entity type and key: which thing an input is about. One allocation, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct EntityKey {
    /// The type's name, then the key.
    text: Arc<str>,
    kind_bytes: u32,
}

impl EntityKey {
    /// The entity `key` of type `kind`.
    pub fn new(kind: impl AsRef<str>, key: impl AsRef<str>) -> Self {
        let (kind, key) = (kind.as_ref(), key.as_ref());
        let mut text = String::with_capacity(kind.len() + key.len());
        text.push_str(kind);
        text.push_str(key);
        EntityKey { text: text.into(), kind_bytes: kind.len() as u32 }
    }

    /// Name of the entity type, as declared in the rules.
    pub fn kind(&self) -> &str {
        &self.text[..self.kind_bytes as usize]
    }

    /// The key, any UTF-8 text (also with NUL), at most `limits.key_bytes_max` bytes.
    pub fn key(&self) -> &str {
        &self.text[self.kind_bytes as usize..]
    }

    /// The fixed partition this entity belongs to: the first 10 bits of the BLAKE3 hash of type, NUL, key.
    pub fn partition(&self) -> Partition {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kind().as_bytes()).update(&[0]).update(self.key().as_bytes());
        let hash = hasher.finalize();
        let bytes = hash.as_bytes();
        Partition(u16::from_be_bytes([bytes[0], bytes[1]]) % PARTITIONS)
    }
}

impl Hash for EntityKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for EntityKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kind(), self.key()).cmp(&(other.kind(), other.key()))
    }
}

impl PartialOrd for EntityKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Stored as two strings.
impl Encode for EntityKey {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.kind().encode(encoder)?;
        self.key().encode(encoder)
    }
}

impl<Context> Decode<Context> for EntityKey {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut text = String::decode(decoder)?;
        let kind_bytes = text.len() as u32;
        text.push_str(&String::decode(decoder)?);
        Ok(EntityKey { text: text.into(), kind_bytes })
    }
}

bincode::impl_borrow_decode!(EntityKey);

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind(), self.key())
    }
}

/// One of the [`PARTITIONS`] hash ranges of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// The shard that owns this partition when there are `shards` of them.
    pub fn shard(self, shards: usize) -> usize {
        usize::from(self.0) % shards
    }
}

/// An event's identity within an entity: 128 bits of the BLAKE3 hash of source, NUL, id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct IdentityHash(pub [u8; 16]);

impl IdentityHash {
    /// The identity of event `id` of `source`. The source's length goes in too, so that no two pairs run together.
    pub fn of(source: &str, id: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(source.len() as u64).to_le_bytes()).update(source.as_bytes()).update(id.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        IdentityHash(short)
    }
}

/// 64 bits of the BLAKE3 hash of an event's payload; tells a duplicate from a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PayloadHash(pub u64);

/// Revision of a decision, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Revision(pub u32);

/// Which incarnation of a data folder this is: 0 for one that was begun anew, a higher one after each restore from a backup. What
/// was published after the backup is not known then; so that no id is given again with other content, each incarnation
/// numbers its new revisions from a place of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// Revision numbers from the first of an incarnation to the first of the next one.
    pub const REVISIONS: u32 = 1_000_000;
    /// The last there can be: revisions are integers of CloudEvents, which have 32 bits and a sign.
    pub const MAX: Incarnation = Incarnation(2_000);

    /// No new revision is below this.
    pub fn first_revision(self) -> Revision {
        Revision(self.0 * Self::REVISIONS + 1)
    }

    /// Whether some incarnation but the first one begins with this revision.
    pub fn begins_with(revision: Revision) -> bool {
        revision.0 > Self::REVISIONS && revision.0 % Self::REVISIONS == 1
    }

    /// The first incarnation after `last` that leaves room for half of [`Self::REVISIONS`] beyond `highest`, so that no decision
    /// of the backup can have come so far by itself.
    pub fn after(last: Incarnation, highest: Revision) -> Incarnation {
        let beyond = u64::from(highest.0) + u64::from(Self::REVISIONS / 2);
        let free = u32::try_from(beyond.div_ceil(u64::from(Self::REVISIONS))).unwrap_or(u32::MAX);
        Incarnation(free.max(last.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions and identities are part of the stored format: a change would lose old data.
    #[test]
    fn hashes_are_frozen() {
        assert_eq!(EntityKey::new("order", "order-123").partition(), Partition(323));
        assert_eq!(IdentityHash::of("s", "1").0[..4], [213, 165, 67, 14]);
    }

    /// If this failed, a restored node would give ids again that were published with other content.
    #[test]
    fn an_incarnation_begins_beyond_what_the_one_before_can_have_come_to() {
        for (last, highest, expected) in
            [(0, 0, 1), (0, 57, 1), (0, 499_999, 1), (0, 500_001, 2), (1, 1_000_007, 2), (4, 9, 5), (0, 3_600_000, 5)]
        {
            let next = Incarnation::after(Incarnation(last), Revision(highest));
            assert_eq!(next, Incarnation(expected), "after {last} with revision {highest}");
            assert!(next.first_revision().0 >= highest + Incarnation::REVISIONS / 2);
        }
        assert_eq!(Incarnation(0).first_revision(), Revision(1));
        assert!(i32::try_from(Incarnation::MAX.first_revision().0).is_ok(), "an integer of CloudEvents");
    }

    #[test]
    fn source_and_id_do_not_run_together() {
        assert_ne!(IdentityHash::of("a", "bc"), IdentityHash::of("ab", "c"));
    }
}
