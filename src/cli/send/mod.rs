//! `turnstile send FILE|-`: a file or a stream of events, each of them settled before the command ends.
//!
//! A thread reads lines and spreads them over the connections; each connection keeps what is not yet acknowledged and
//! sends it again, in the same order, whenever it has to begin anew. Nothing here reads ahead without bound, and nothing
//! is given up on while the server makes progress.

mod answer;
mod command;
mod connection;
mod input;
mod lane;
mod report;
mod spread;
#[cfg(test)]
mod tests;
mod transmit;

pub use answer::{Answer, parse};
pub use command::{SendArgs, parse_duration, send};
