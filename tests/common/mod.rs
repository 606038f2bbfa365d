//! What the black-box tests share: a server that is the real binary, and plain clients for TCP and HTTP. Nothing here
//! knows the inside of Turnstile; what it expects is what the interfaces promise.
#![allow(dead_code, unused_imports)] // each test binary uses a part of it

pub mod around;
pub mod bus;
pub mod collector;
pub mod database;
pub mod dataset;
pub mod event_stream;
pub mod hook;
pub mod http;
pub mod nats;
pub mod orders;
pub mod server;
pub mod steps;
pub mod tcp;
pub mod tls;
pub mod tools;
pub mod totals;
pub mod verified;

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub use dataset::instant;
pub use event_stream::{Event, EventStream};
pub use http::{Http, Response};
pub use server::{Server, Setup};
pub use tcp::{Client, Outcome, deliver};

/// How long anything may take before a test gives up. Generous, since nothing here is about speed.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something; panics with `what` when [`PATIENCE`] is over.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// A number that the environment may set: a seed, or how often something is done, of which `make soak` wants more.
pub fn from_env<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => otherwise,
    }
}

/// Text as a segment or parameter of a URL.
pub fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_~-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
