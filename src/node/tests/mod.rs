//! Shards, journal, store, commits and checkpoints wired as in a node, without sources: lost inputs, early answers and
//! states that a crash takes away would show here.

mod answers;
mod checkpoints;
pub(super) mod fixtures;
mod harness;
mod logged;
mod passivation;
mod power;
mod refusals;
mod sharding;
mod ties;

use fixtures::{Folder, added, event, order};
use harness::{Harness, Wiring, wait_until};
