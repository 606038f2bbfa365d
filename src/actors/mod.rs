//! Actors: one a key, one supervisor a shard, and the checkpoints that carry their states to the store.
//!
//! Nothing sends to an entity actor but its supervisor; nothing puts a message into a mailbox but `mailbox`; no actor waits.

mod actor;
mod aftermath;
mod copying;
mod entity;
mod handed;
mod inside;
mod kept;
mod mailbox;
mod outbox;
mod passivation;
mod shards;
mod slots;
mod supervisor;
mod telling;
mod traced;
mod wheel;

pub use copying::{Copies, Slice};
pub use entity::{Entity, Surroundings, Work};
pub use handed::HandedOver;
pub use kept::{Kept, Snapshot};
pub use outbox::Pending;
pub use shards::Shards;
pub use supervisor::{Committed, MakeCalls, Recorded, ShardSetup, Supervisor, Tag};
pub use wheel::Horizon;
