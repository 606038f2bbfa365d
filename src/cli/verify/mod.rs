//! `turnstile verify`: whether everything is as the journal says, and what is missing; of a running server through its
//! interface, of a stopped one from its data folder.

mod command;
mod list;
mod report;
mod target;

pub use command::{VerifyArgs, verify};
