//! An entity as it is kept: its state together with where its records are and what it has to tell others, in memory after
//! its actor stopped and in the store.

use super::entity::Entity;
use crate::model::codec::{self, CodecError};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::model::outbox::{Outbox, Outgoing};
use crate::model::record::Record;
use crate::model::state::{Gaps, LsnBook, State};
use crate::model::time::Timestamp;
use crate::rules;
use crate::store::{EntityWrite, Store, StoreError, StoredIdentity, StoredRow, Wake};

/// Format of a kept entity: its state, then its book, then its outbox.
pub const KEPT_FORMAT: u8 = 3;

/// An entity, its book and its outbox. The default is one nothing was heard of yet.
#[derive(Default)]
pub struct Kept {
    pub entity: Entity,
    pub book: LsnBook,
    pub outbox: Outbox,
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
        let (state, book, letters): (_, _, Vec<Outgoing>) = codec::decode(KEPT_FORMAT, bytes)?;
        Ok(Kept { entity: Entity::loaded(state, bytes.len()), book, outbox: letters.into() })
    }

    /// The kept form, with every identity.
    pub fn encode(&self) -> Vec<u8> {
        whole(encode_state(self.entity.state()), &self.book, Some(&self.outbox), self.entity.version())
    }

    /// Applies a journaled record; one the state has already only tells its position. `server` is the name in decisions'
    /// source.
    ///
    /// # Errors
    /// The version the state has, if records in between are missing.
    pub fn replay(&mut self, record: &Record, lsn: Lsn, server: &str) -> Result<(), Version> {
        if self.entity.replay(record)? {
            self.outbox.put(rules::messages(server, self.entity.state(), record));
        }
        if record.version == self.entity.version() {
            self.book.note(record.version, lsn, self.entity.state().standing().as_deref());
        }
        Ok(())
    }

    /// The entity's row and the identities that get rows of their own.
    pub fn write(&self, key: EntityKey) -> EntityWrite {
        self.entity.copy().write(key, &self.book, Some(&self.outbox))
    }

    /// When it is to be looked at though nothing comes for it.
    pub fn wake(&self) -> Option<Wake> {
        if self.outbox.is_empty() { wake(self.entity.state()) } else { Some(Wake::AT_START) }
    }
}

/// When an entity without letters is to be looked at though nothing comes for it: at the start of a process if something of
/// it is under way, else when its next deadline is due.
pub(super) fn wake(state: &State) -> Option<Wake> {
    let dealings = state.dealings.as_deref()?;
    if dealings.is_under_way() { Some(Wake::AT_START) } else { dealings.next_due().map(wake_at) }
}

/// The first millisecond at which `due` has come.
pub(super) fn wake_at(due: Timestamp) -> Wake {
    let millis = due.millis();
    Wake(if due.nanos() > i128::from(millis) * 1_000_000 { millis.saturating_add(1) } else { millis })
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
    /// As [`State::ended`].
    pub ended: Version,
    pub gaps: Option<Gaps>,
    /// When it is to be looked at, the outbox left out.
    pub wake: Option<Wake>,
    /// [`encode_state`], without the identities.
    pub state: Vec<u8>,
    pub identities: Vec<(IdentityHash, StoredIdentity)>,
}

impl Copied {
    /// What the store is to write.
    pub(super) fn write(self, entity: EntityKey, book: &LsnBook, outbox: Option<&Outbox>) -> EntityWrite {
        let Copied { version, ended, gaps, wake, state, identities } = self;
        // What later records put into it is not in the copy.
        let is_empty = outbox.is_none_or(|outbox| outbox.is_empty_through(version));
        let wake = if is_empty { wake } else { Some(Wake::AT_START) };
        let row = StoredRow { version, lsn: book.last, gaps, wake, state: whole(state, book, outbox, version) };
        EntityWrite { entity, row, ended, identities }
    }
}

/// The first part of the kept form.
pub(super) fn encode_state(state: &State) -> Vec<u8> {
    codec::encode(KEPT_FORMAT, state)
}

fn whole(mut bytes: Vec<u8>, book: &LsnBook, outbox: Option<&Outbox>, version: Version) -> Vec<u8> {
    codec::encode_into(&mut bytes, book);
    match outbox {
        Some(outbox) => outbox.encode_into(&mut bytes, version),
        None => codec::encode_into(&mut bytes, &Vec::<&Outgoing>::new()),
    }
    bytes
}
