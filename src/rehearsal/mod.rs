//! Rules tried without a server: the tests that stand beside them, and shuffles of recorded events.
//!
//! Everything here runs on [`crate::rules::Machine`], in memory and in simulated time: no clock is read, and what is random
//! comes from a seed, so that the same call gives the same answer.

mod case;
mod outcome;
pub mod shuffle;
pub mod verify;

pub use case::{Case, compile_cases};
pub use outcome::{Difference, Failure, RefusedInput, entity_name, outcome_text, value_text};
