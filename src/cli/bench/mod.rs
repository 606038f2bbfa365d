//! `turnstile bench`: how fast a running server acknowledges, and how long an acknowledgement takes.
//!
//! `workload` says which events come in which order, `shape` what they look like, `load` is what one connection sends,
//! made before the clock starts; `drive` sends over all connections on one thread and times the answers, since the
//! generator shares the machine with the server. `counters` are the server's own. The comparison in `benches/compare`
//! drives other servers through the same parts, so that all of them get the same events from the same client.

mod acks;
mod command;
mod counters;
mod drive;
mod load;
mod shape;
mod wire;
mod workload;

pub use acks::Acks;
pub(super) use command::{BenchArgs, bench};
pub use counters::Counters;
pub use drive::{DriveError, Measured, Pace, Replies, Settled, drive};
pub use load::{Load, token_line};
pub use shape::{Rendered, Shape};
pub use wire::Wire;
pub use workload::{Planned, Planner, Spread, Workload};
