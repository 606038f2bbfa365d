//! SIGHUP: certificates are read again. What cannot be used is logged, and what was in use stays.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::start::NodeError;
use crate::trust::Certificates;

/// Reads the certificates of these listeners again at each SIGHUP, which otherwise would end the process.
pub(super) fn on_hangup(listeners: Vec<(String, Arc<Certificates>)>, runtime: &Runtime) -> Result<(), NodeError> {
    let _inside = runtime.enter();
    let mut hangup =
        signal(SignalKind::hangup()).map_err(|source| NodeError::Start { what: "the handling of signals", source })?;
    runtime.spawn(async move {
        while hangup.recv().await.is_some() {
            for (name, certificates) in &listeners {
                match certificates.reload() {
                    Ok(()) => tracing::info!(listener = %name, "SIGHUP: certificates are read again"),
                    Err(error) => {
                        tracing::error!(listener = %name, %error, "SIGHUP: certificates cannot be used; the old ones stay");
                    }
                }
            }
        }
    });
    Ok(())
}
