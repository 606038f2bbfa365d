//! Calls to the outside that rules ask for, and what becomes of them.
//!
//! `queue` holds what waits, `runner` takes from it and notes each step, `request` makes the call out of what is recorded,
//! `http` makes it, `response` is what is kept of the answer, `judge` says what it means.
//!
//! An attempt begins when the record that says so is durable, and no byte leaves before. Nothing is called here that is not
//! on record as requested, and nothing is tried again but by `runner`.

mod http;
mod judge;
mod queue;
mod request;
mod response;
mod runner;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use runner::{Effects, EffectsSetup};

use crate::model::ids::EntityKey;
use crate::model::packed::Packed;
use crate::model::record::Input;
use crate::model::settle::Noted;

/// A request that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub entity: EntityKey,
    /// The effect's name.
    pub effect: Box<str>,
    pub run: u32,
    /// A map of method, URL, headers that depend on the entity, and body, as it is recorded.
    pub request: Packed,
    /// Attempts begun before, by this process or an earlier one.
    pub attempts: u32,
}

/// Has an entity take note of a step; tells what became of that once it is durable, or nothing if the process ends.
pub type NoteStep = Arc<dyn Fn(EntityKey, Input) -> oneshot::Receiver<Noted> + Send + Sync>;
