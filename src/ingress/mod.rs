//! Where events come in: decoding, admission, and the sources.
//!
//! Nothing in this folder changes an entity; what is admitted is handed over by a function that the node provides.

mod admission;
mod credits;
mod decode;
mod gate;
mod http;
mod listener;
mod receiving;
mod sql;
mod tcp;
mod window;

pub use admission::{Admission, Deliver, Delivery, Patience, SourceMetrics};
pub use credits::{Credits, Need};
pub use decode::{Decoder, Mapping, SOURCE_DEFAULT};
pub use gate::Gate;
pub use http::{BUSY_PATIENCE, Head, Posted, Request, post, read};
pub use listener::{Phase, TcpSource};
pub use receiving::{Receiving, Room};
pub use sql::{Ledger, RewindError, SqlControl, SqlSetup, sql_source};
