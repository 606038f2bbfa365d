//! `turnstile run`: starts the server and stays until it is told to stop.

use std::path::Path;

use super::check;
use super::failure::{Exit, Failure};
use crate::config::LogFormat;
use crate::node::{self, NodeError, RecoveryError};
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong (2), or journal, store or a socket failed (3).
pub fn run(_args: &RunArgs, config: &Path) -> Result<Exit, Failure> {
    let (config, prepared) = check::prepared(config)?;
    let log = &config.tuning.log;
    let format = if log.format == LogFormat::Json { telemetry::Format::Json } else { telemetry::Format::Text };
    telemetry::start(log.level.name(), format);
    match node::run(&config, prepared) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            let exit = match &error {
                NodeError::Recovery(RecoveryError::RulesChanged { .. }) => Exit::Usage,
                _ => Exit::Io,
            };
            Err(Failure::message(exit, node::causes(&error)))
        }
    }
}
