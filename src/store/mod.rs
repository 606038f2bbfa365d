//! The store: where checkpoints put entity states, in the one file `state.redb`.
//!
//! It holds *opaque* states, the identities that no longer fit into them, gauges a type, and marks: which journal it
//! belongs to, up to which LSN it is complete, which rules its states were made by. It knows nothing of rules, never
//! reads the journal, never decides anything, and repairs nothing: a row that fails its checksum is an error, never a
//! guess. Any thread reads; one thread writes, through [`CheckpointWriter`].
//!
//! `tables` is the file format's map, `row` the bytes of a row, `file` opening and the marks, `reader` all look-ups,
//! `checkpoint` all writing of entities, `copy` a whole copy of the file. A new kind of row an entity owns (outbox, watchers, deadlines) is a table in
//! `tables`, a layout in `row` and a list in [`EntityWrite`], so that it is written in its entity's transaction.

mod audit;
mod checkpoint;
mod copy;
mod error;
mod file;
mod gauges;
mod reader;
mod row;
mod tables;
#[cfg(test)]
mod tests;

pub use audit::Audit;
pub use checkpoint::{CheckpointWriter, EntityWrite, STATE_BYTES_MAX, TRANSACTION_BYTES_MAX, WriteStats};
pub use copy::StoreCopy;
pub use error::StoreError;
pub use file::{Beginning, Layout, Store, StoreOptions, TypeMark};
pub use gauges::TypeGauges;
pub use row::{StoredIdentity, StoredRow, Wake};
