//! Entities without an actor that the store does not have as they are now: in their stored form, until they are stored or
//! somebody speaks to them.

use super::kept::Kept;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::state::{Gaps, LsnBook};
use crate::store::{EntityWrite, StoredRow, Wake};
use crate::telemetry::{About, tell};

/// What a handed-over entity takes beside its bytes: its key, its place in the map, the allocator's share.
const HANDED_OVER_BYTES: u64 = 240;

/// An entity without an actor whose state is not in the store yet.
pub struct HandedOver {
    pub version: Version,
    /// The version the store has.
    pub stored: Version,
    /// As [`State::ended`](crate::model::state::State::ended).
    ended: Version,
    /// It is on the list of changed entities.
    pub listed: bool,
    /// [`Kept::encode`], without the room that encoding left: there may be very many.
    pub bytes: Box<[u8]>,
    /// When it is to be looked at though nothing comes for it.
    pub wake: Option<Wake>,
    /// What is counted of it; none for what only others wait for.
    pub gaps: Option<Gaps>,
    lsn: Lsn,
    form: Form,
}

/// What its bytes are.
enum Form {
    /// What a row of the store holds.
    Row,
    /// More: some of its identities or positions get rows of their own. Such a state may be large: its book is at hand.
    WithOverflow(Box<LsnBook>),
}

impl HandedOver {
    /// What is left of an entity when its actor has ended.
    pub fn new(kept: &Kept, stored: Version, listed: bool) -> Self {
        let state = kept.entity.state();
        let has_overflow = state.identities.overflow().len() > 0 || !kept.book.sealed().is_empty();
        HandedOver {
            version: state.version,
            ended: state.ended(),
            stored,
            listed,
            bytes: kept.encode().into(),
            lsn: kept.book.last,
            wake: kept.wake(),
            gaps: state.gaps(),
            form: if has_overflow { Form::WithOverflow(Box::new(kept.book.clone())) } else { Form::Row },
        }
    }

    /// The memory it takes, as far as it matters for bounds.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes.len() as u64 + HANDED_OVER_BYTES
    }

    /// The entity itself.
    pub fn kept(&self, key: &EntityKey) -> Kept {
        match Kept::decode(&self.bytes) {
            Ok(kept) => kept,
            // It was encoded in this process: memory is damaged.
            Err(error) => {
                tell!(error, About::entity(key), %error, "a state in memory cannot be read back; the process ends");
                std::process::abort();
            }
        }
    }

    /// Where its records are.
    pub fn book(&self, key: &EntityKey) -> LsnBook {
        match &self.form {
            Form::Row => self.kept(key).book,
            Form::WithOverflow(book) => (**book).clone(),
        }
    }

    /// What the store is to write of it.
    pub fn write(&self, key: EntityKey) -> EntityWrite {
        match &self.form {
            Form::Row => {
                let HandedOver { version, ended, lsn, gaps, wake, .. } = *self;
                let row = StoredRow { version, lsn, gaps, wake, state: self.bytes.to_vec() };
                EntityWrite { entity: key, row, ended, identities: Vec::new(), history: Vec::new() }
            }
            Form::WithOverflow(_) => self.kept(&key).write(key),
        }
    }
}
