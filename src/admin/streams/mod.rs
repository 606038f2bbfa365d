//! Live streams: decisions, and changes of entities, from a position of the journal on, as Server-Sent Events or over a
//! WebSocket.
//!
//! Every subscriber reads the journal at its own pace and holds no more than one batch, so nobody is waited for and nothing
//! is queued. What is read is read and decoded once for all who ask for it at about the same time. Blocking reads never run
//! on the threads that answer requests. A stream that ends says why in its last message, as far as the reader takes it.
//!
//! `hub` is what all streams share: how many there are, when they look, the ends they come to; `shelf` what was read of
//! the journal, `stretch` a piece of it; `subject` what a stream is about; `feed` one stream; `sse` and `socket` how it
//! leaves, `message` what is said on a socket.

mod end;
mod feed;
mod hub;
mod message;
mod shelf;
mod socket;
mod sse;
mod start;
mod stretch;
mod subject;

pub(super) use socket::connect;
pub(super) use sse::{respond, wants_stream};
pub(super) use start::Start;
pub(super) use subject::{DecisionFilter, Subject};

pub use hub::{Streams, StreamsSetup};
