//! The node: what is started in which order, how it is wired, and in which order it ends.
//!
//! Nothing here decides or stores anything; every part does its own work and knows the others only through what it is given.

mod agenda;
mod answering;
mod checkpoint;
mod checkpointer;
mod commits;
mod disk_space;
mod drain;
mod fatal;
mod forget;
mod guard;
mod http;
mod nats_sources;
mod open_files;
mod prepare;
mod rebuild;
pub mod recovery;
mod reload;
pub mod replay;
mod restore;
mod retention;
mod shards;
mod sinks;
mod sources;
mod start;
#[cfg(test)]
mod tests;
mod told;
mod traces;
mod verify;

pub use fatal::{EXIT_IO, causes};
pub use prepare::{Prepared, prepare};
pub use rebuild::{Mode as RulesMode, Prediction, Progress, Report};
pub use recovery::RecoveryError;
pub use restore::{RestoreError, Restored, restore};
pub use start::{NodeError, Role, StartOptions, run};
