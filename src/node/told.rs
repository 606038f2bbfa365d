//! What the node tells people of itself.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::nats_sources::NatsSources;
use super::sinks::Sinks;
use super::start::Shared;

/// Describes something as it is now.
pub(super) type Describe = Arc<dyn Fn() -> Value + Send + Sync>;

/// Functions that tell how things are now.
#[derive(Clone)]
pub(super) struct Told {
    /// The node's own members of the status document.
    pub status: Describe,
    /// The sources that cannot receive.
    pub not_connected: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Told {
    pub fn new(shared: &Shared, shards: usize, sinks: &Sinks, listed: Describe, asking: &NatsSources) -> Self {
        let started = Instant::now();
        let (committed, watermark, kept) =
            (shared.committed.clone(), shared.watermark.subscribe(), shared.kept.subscribe());
        let not_connected = asking.not_connected();
        let sinks = sinks.status();
        let status = move || {
            let committed = *committed.borrow();
            let kept = kept.borrow().clone();
            json!({
                "uptime_seconds": started.elapsed().as_secs(),
                "lsn": committed.0,
                "watermark": watermark.borrow().0,
                "journal": { "since": kept.since.map(|at| at.to_string()), "held_by": kept.held_by },
                "shards": shards,
                "sources": listed(),
                "sinks": sinks(),
            })
        };
        Told { status: Arc::new(status), not_connected }
    }
}
