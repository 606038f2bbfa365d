//! `turnstile run`: starts the server and stays until it is told to stop.

use std::path::Path;

use super::check;
use super::failure::{Exit, Failure};
use crate::config::LogFormat;
use crate::node::{self, NodeError, RecoveryError, RulesMode};
use crate::telemetry;

#[derive(Debug, Default, clap::Args)]
pub struct RunArgs {
    /// If rules were changed, keep the values that entities have, and go on from them with the new rules; without it all
    /// states are made anew of the journal's events
    #[arg(long)]
    pub rules_forward_only: bool,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong (2), or journal, store or a socket failed (3).
pub fn run(args: &RunArgs, config: &Path) -> Result<Exit, Failure> {
    let (config, prepared) = check::prepared(config)?;
    let log = &config.tuning.log;
    let format = if log.format == LogFormat::Json { telemetry::Format::Json } else { telemetry::Format::Text };
    telemetry::start(log.level.name(), format);
    let changed = if args.rules_forward_only { RulesMode::ForwardOnly } else { RulesMode::Rebuild };
    match node::run(&config, prepared, changed) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            let exit = match &error {
                NodeError::Recovery(RecoveryError::Trimmed { .. } | RecoveryError::Unfinished { .. }) => Exit::Usage,
                _ => Exit::Io,
            };
            Err(Failure::message(exit, node::causes(&error)))
        }
    }
}
