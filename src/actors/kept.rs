//! An entity as it is kept: its state together with where its records are, in memory after its actor stopped and in the
//! store.

use super::entity::Entity;
use crate::model::codec::{self, CodecError};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::model::record::Record;
use crate::model::state::{LsnBook, State};
use crate::store::{EntityWrite, Store, StoreError, StoredIdentity, StoredRow};

/// Format of a kept entity: its state, then its book.
pub const KEPT_FORMAT: u8 = 2;

/// An entity and its book. The default is one nothing was heard of yet.
#[derive(Default)]
pub struct Kept {
    pub entity: Entity,
    pub book: LsnBook,
}

impl Kept {
    /// An entity as the store has it.
    ///
    /// # Errors
    /// What the store says; a row whose content does not decode is corrupt, too.
    pub fn load(store: &Store, key: &EntityKey) -> Result<Option<Self>, StoreError> {
        let Some(row) = store.get(key)? else { return Ok(None) };
        match Kept::decode(&row.state) {
            Ok(kept) => Ok(Some(kept)),
            Err(CodecError::Format { found, expected }) if found > expected => {
                Err(StoreError::NewerFormat { what: "entity", found: found.into(), expected: expected.into() })
            }
            Err(error) => Err(StoreError::Corrupt { what: error.to_string(), table: "entities", key: key.to_string() }),
        }
    }

    /// Reads what [`Kept::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (state, book) = codec::decode(KEPT_FORMAT, bytes)?;
        Ok(Kept { entity: Entity::loaded(state, bytes.len()), book })
    }

    /// The kept form, with every identity.
    pub fn encode(&self) -> Vec<u8> {
        with_book(encode_state(self.entity.state()), &self.book)
    }

    /// Applies a journaled record; one the state has already only tells its position.
    ///
    /// # Errors
    /// The version the state has, if records in between are missing.
    pub fn replay(&mut self, record: &Record, lsn: Lsn) -> Result<(), Version> {
        self.entity.replay(record)?;
        if record.version == self.entity.version() {
            self.book.note(record.version, lsn, self.entity.state().standing().as_deref());
        }
        Ok(())
    }

    /// The entity's row and the identities that get rows of their own.
    pub fn write(&self, key: EntityKey) -> EntityWrite {
        self.entity.copy().write(key, &self.book)
    }
}

/// An entity as it is asked for.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
    pub lsns: LsnBook,
}

/// A copy of an entity for the store. Its book is added once its last record is committed.
pub struct Copied {
    pub version: Version,
    pub missing: u64,
    /// [`encode_state`], without the identities.
    pub state: Vec<u8>,
    pub identities: Vec<(IdentityHash, StoredIdentity)>,
}

impl Copied {
    /// What the store is to write.
    pub(super) fn write(self, entity: EntityKey, book: &LsnBook) -> EntityWrite {
        let Copied { version, missing, state, identities } = self;
        let row = StoredRow { version, lsn: book.last, missing, state: with_book(state, book) };
        EntityWrite { entity, row, identities }
    }
}

/// The first part of the kept form.
pub(super) fn encode_state(state: &State) -> Vec<u8> {
    codec::encode(KEPT_FORMAT, state)
}

fn with_book(mut bytes: Vec<u8>, book: &LsnBook) -> Vec<u8> {
    codec::encode_into(&mut bytes, book);
    bytes
}
