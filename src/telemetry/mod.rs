//! What the process tells of itself besides metrics: logs, and traces.
//!
//! `logs` starts them and names the fields that every line about an entity has; `tracer` decides which events are traced and
//! knows the ids of their spans, `spans` are the steps of an event, `export` brings them out in the background.
//!
//! Nothing here ever waits for whoever reads it: a span that finds no room is counted and forgotten.

mod export;
mod logs;
mod spans;
mod tracer;

pub use export::{Exporting, QUEUED_MAX, export};
pub(crate) use logs::tell;
pub use logs::{About, Format, start};
pub use spans::{Committing, Deciding, Leg, Reception};
pub use tracer::Tracer;
