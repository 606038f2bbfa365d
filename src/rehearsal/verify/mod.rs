//! Verifying: every entity computed again from the journal on a path of its own, and compared with how it is; and the holes
//! in what is there.
//!
//! Nothing here merges as `rules` do, or believes what a record says of merges: events are taken in again and folded by an
//! oracle, in an order that is not the journal's. Nothing is changed.

mod adopted;
mod against;
mod findings;
mod followed;
mod holes;
mod options;
mod oracle;
mod pass;
mod run;
mod sequence;
mod sinks;
#[cfg(test)]
mod tests;
mod world;

pub use against::{AgainstError, Batch, ROWS_MAX, Row, against, keys};
pub use findings::{Example, Findings, Kind};
pub use options::{EXAMPLES_MAX, Effects, IDS_MAX, Options};
pub use run::{HELD_MAX, Progress, Report, Setup, verify};
pub use world::{Heard, Stopped, VerifyError, World};
