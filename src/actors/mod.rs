//! Actors: one a key, one supervisor a shard, and the checkpoints that carry their states to the store.
//!
//! Nothing sends to an entity actor but its supervisor; nothing puts a message into a mailbox but `mailbox`; no actor waits.

mod copying;
mod entity;
mod mailbox;
mod outbox;
mod passivation;
mod shards;
mod slots;
mod supervisor;

pub use copying::{Copies, Slice};
pub use entity::{Entity, Snapshot, Surroundings, Work};
pub use outbox::Pending;
pub use shards::Shards;
pub use supervisor::{Committed, HandedOver, ShardSetup, Supervisor, Tag};

use crate::model::ids::EntityKey;
use crate::store::{Store, StoreError};

/// An entity as the store has it.
///
/// # Errors
/// What the store says; a row whose content does not decode is corrupt, too.
pub fn load_stored(store: &Store, key: &EntityKey) -> Result<Option<Entity>, StoreError> {
    let Some(row) = store.get(key)? else { return Ok(None) };
    match Entity::decode(key.clone(), &row.state) {
        Ok(entity) => Ok(Some(entity)),
        Err(error) => Err(StoreError::Corrupt { what: error.to_string(), table: "entities", key: key.to_string() }),
    }
}
