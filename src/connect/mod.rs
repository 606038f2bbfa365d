//! How connections to others are made: what they trust and show, and who we say we are.
//!
//! Nothing here knows what is sent or received. Sources and sinks of a kind connect in one way.

mod nats;
mod otlp;

pub use nats::nats_options;
pub use otlp::otlp_exporter;
