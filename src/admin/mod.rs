//! The HTTP interface: events in, questions answered, the node's health and metrics.
//!
//! Nothing here changes an entity or decides anything: events go through admission like those of every source, answers
//! show what is committed, and every number a request can set has a named limit. Errors are RFC 9457 problem documents
//! with the same stable codes as refusals.
//!
//! `api` is what the interface stands on and its routes; `server` what carries it; `guard` what every request passes
//! first; `problem` the errors; `query` and `path` reading a request; `waiting` waiting for what is asked for;
//! `streams` what goes on until it is closed, `unread` what becomes of those who do not read; `openapi` describes it all. Then
//! a file a resource.

#![allow(clippy::needless_pass_by_value)] // handlers are given what they extract

mod api;
mod backup;
mod dead_letters;
mod decisions;
mod effects;
mod entities;
mod entity;
mod events;
mod export;
mod forget;
mod guard;
mod history;
mod inboxes;
mod mandate;
mod openapi;
mod origin;
mod path;
mod pausing;
mod position;
mod problem;
mod query;
mod recovering;
mod replay;
mod retry;
mod server;
mod sinks;
mod sources;
mod status;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod unread;
mod verify;
mod waiting;

pub use api::{Api, NodeState, RenderDecisions, Routes, configure};
pub use events::answer;
pub use forget::{Forgetting, ReadAs};
pub use inboxes::Path;
pub use openapi::openapi;
pub use path::entity_link;
pub use recovering::{Told, configure_recovering};
pub use replay::{Refused as ReplayRefused, Replay};
pub use retry::InHand;
pub use server::{HttpServer, Stop, serve};
pub use sinks::Sinks;
pub use sources::Sources;
pub use streams::{Streams, StreamsSetup};
pub use verify::{NotVerified, Verify};
