//! The source `nats`: messages out of a stream, by its durable consumer, or as they are published.
//!
//! `pull` asks the consumer that `consumer` found or made for as many messages as there is room for, `live` listens to
//! subjects; both read messages as `message` says and admit them in batches (`batch`). What is in hand until it is
//! acknowledged is kept in `hand`, of which `teller` tells NATS. A message of a stream is acknowledged when everything that
//! came of it is durable, never before; what is refused becomes a dead letter first.

mod batch;
mod consumer;
mod hand;
mod link;
mod live;
mod message;
mod pull;
mod source;
mod teller;

pub use link::Link;
pub(super) use message::Received;
pub use source::{Answer, Bury, NatsSetup, NatsSource};
