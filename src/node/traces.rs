//! Starting what exports traces, if there are to be any.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::start::NodeError;
use crate::config::Config;
use crate::connect::otlp_exporter;
use crate::metrics::Metrics;
use crate::telemetry::{Exporting, QUEUED_MAX, Tracer, export};

/// What makes spans, and what brings them out.
#[derive(Default)]
pub(super) struct Traces {
    pub tracer: Tracer,
    exporting: Option<Exporting>,
}

impl Traces {
    /// As `[telemetry]` says.
    pub fn start(config: &Config, metrics: &Metrics, runtime: &Handle) -> Result<Self, NodeError> {
        let Some(declared) = &config.telemetry else { return Ok(Traces::default()) };
        let exporter = otlp_exporter(&config.server.name, declared);
        let exporter = exporter.map_err(|source| NodeError::Start { what: "the export of traces", source })?;
        let (queue, spans) = mpsc::channel(QUEUED_MAX);
        let dropped = &metrics.node.spans_dropped;
        let tracer = Tracer::new(declared.sample, queue, dropped.clone());
        Ok(Traces { tracer, exporting: Some(export(exporter, spans, dropped.clone(), runtime)) })
    }

    /// Brings out what is there, for so long at most.
    pub async fn finish(self, patience: Duration) {
        if let Some(exporting) = self.exporting {
            exporting.finish(patience).await;
        }
    }
}
