//! Where events come in: decoding, admission, and the sources.
//!
//! Nothing in this folder changes an entity; what is admitted is handed over by a function that the node provides.

mod admission;
mod again;
mod credits;
mod decode;
mod door;
mod gate;
mod http;
mod inbox;
mod listener;
mod nats;
mod receiving;
mod sql;
mod tcp;
mod window;

pub use admission::{Admission, Admitted, Deliver, Delivery, Patience, Receipts, SourceMetrics};
pub use again::Again;
pub use credits::{Credits, Need};
pub use decode::{Decoder, Given, Mapping, SOURCE_DEFAULT};
pub use door::{Crowded, Door, Entered, Place};
pub use gate::Gate;
pub use http::{BUSY_PATIENCE, Head, Posted, Request, post, read};
pub use inbox::{Envelope, Inbox};
pub use listener::{Phase, TcpSource};
pub use nats::{Answer, Bury, Link, NatsSetup, NatsSource};
pub use receiving::{Receiving, Room};
pub use sql::{Ledger, RewindError, SqlControl, SqlSetup, sql_source};
