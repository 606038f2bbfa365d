//! The HTTP interface: events in, questions answered, the node's health and metrics.
//!
//! Nothing here changes an entity or decides anything: events go through admission like those of every source, answers
//! show what is committed, and every number a request can set has a named limit. Errors are RFC 9457 problem documents
//! with the same stable codes as refusals.
//!
//! `api` is what the interface stands on and its routes; `server` what carries it; `guard` what every request passes
//! first; `problem` the errors; `query` and `path` reading a request; `waiting` waiting for what is asked for. Then a file a resource.

#![allow(clippy::needless_pass_by_value)] // handlers are given what they extract

mod api;
mod dead_letters;
mod decisions;
mod entities;
mod entity;
mod events;
mod forget;
mod guard;
mod inboxes;
mod mandate;
mod path;
mod problem;
mod query;
mod recovering;
mod server;
mod sources;
mod status;
#[cfg(test)]
mod tests;
mod verify;
mod waiting;

pub use api::{Api, NodeState, RenderDecisions, Routes, configure};
pub use events::answer;
pub use forget::Forgetting;
pub use inboxes::Path;
pub use path::entity_link;
pub use recovering::configure_recovering;
pub use server::{HttpServer, Stop, serve};
pub use sources::Sources;
pub use verify::{NotVerified, Verify};
