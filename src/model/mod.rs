//! The words of Turnstile as types: plain data without I/O, clocks or threads.
//!
//! Nothing in this folder reads a file, a socket or the time; nothing depends on a layer above.

pub mod codec;
pub mod ids;
