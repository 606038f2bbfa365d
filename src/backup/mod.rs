//! Backups: what of a running server's data folder is copied where, and brought back.
//!
//! The store is copied first, as one snapshot, then the journal up to what was committed when that was done: so the store is
//! never ahead of its journal. The manifest is written last and names every file with its length and its hash: a folder
//! without one is no backup, and one whose files are not as it says is not brought back. Nothing here knows of rules or of what
//! a record holds.
//!
//! `manifest` is what a backup says of itself, `making` writes one, `backups` makes them beside a running node, one at a time,
//! `bringing` copies one back, `pace` keeps all that from taking the whole disk.

mod backups;
mod bringing;
mod error;
mod making;
mod manifest;
mod pace;
#[cfg(test)]
mod tests;

pub use backups::{Backups, Ordered, RATE_DEFAULT, RATE_MIN, Refused, Stand};
pub use bringing::bring_back;
pub use error::BackupError;
pub use making::{Facts, Phase, Progress};
pub use manifest::Manifest;
