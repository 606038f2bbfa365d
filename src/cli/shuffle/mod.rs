//! `turnstile shuffle EVENTS`: does what comes of these events depend on their order.

mod command;
mod input;
mod report;

pub use command::{ShuffleArgs, shuffle};
