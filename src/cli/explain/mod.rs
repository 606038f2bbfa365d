//! `turnstile explain TYPE KEY`: what happened to one entity, record by record; with `--correlation ID`, what happened to all
//! that one correlation id has to do with. `command` asks, `told` is how a record reads, `change` how a changed value does.

mod change;
mod command;
mod told;

pub use command::{ExplainArgs, explain};
