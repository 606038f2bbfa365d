//! The words of Turnstile as types: plain data without I/O or threads.
//!
//! Nothing in this folder reads a file or a socket; nothing depends on a layer above.

pub mod codec;
pub mod dealings;
pub mod event;
pub mod identities;
pub mod ids;
pub mod json;
pub mod life;
pub mod mandate;
pub mod number;
pub mod outbox;
pub mod outgoing;
pub mod packed;
pub mod record;
pub mod record_head;
pub mod refusal;
pub mod settle;
pub mod sort_key;
pub mod state;
pub mod system;
pub mod time;
pub mod trace;
pub mod value;
pub mod xml;
