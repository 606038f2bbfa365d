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
use crate::model::record::Input;
use crate::model::settle::Noted;

/// Has an entity take note of a step; tells what became of that once it is durable, or nothing if the process ends.
pub type NoteStep = Arc<dyn Fn(EntityKey, Input) -> oneshot::Receiver<Noted> + Send + Sync>;
