//! `turnstile run`: starts the server and stays until it is told to stop.

use std::path::Path;

use super::check;
use super::failure::{Exit, Failure};
use crate::config::{Config, LogFormat};
use crate::node::{self, NodeError, RecoveryError, Role, RulesMode, StartOptions};
use crate::telemetry;

#[derive(Debug, Default, clap::Args)]
pub struct RunArgs {
    /// If rules were changed, keep the values that entities have, and go on from them with the new rules; without it all
    /// states are made anew of the journal's events
    #[arg(long)]
    pub rules_forward_only: bool,
    /// Run beside production on the same input: in a data folder of its own, calling no effects, delivering to nobody but
    /// files and standard output
    #[arg(long)]
    pub shadow: bool,
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong (2), or journal, store or a socket failed (3).
pub fn run(args: &RunArgs, config: &Path) -> Result<Exit, Failure> {
    let (mut config, prepared) = check::prepared(config)?;
    let log = &config.tuning.log;
    let format = if log.format == LogFormat::Json { telemetry::Format::Json } else { telemetry::Format::Text };
    telemetry::start(log.level.name(), format);
    let changed = if args.rules_forward_only { RulesMode::ForwardOnly } else { RulesMode::Rebuild };
    let mut role = Role::Production;
    if args.shadow {
        role = Role::Shadow;
        config = shadow(config);
    }
    match node::run(&config, prepared, StartOptions { changed, role }) {
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

/// What a shadow of the configuration runs on; says loudly that it is one.
fn shadow(config: Config) -> Config {
    let (shadow, left_out) = config.shadow();
    let folder = shadow.server.data_dir.display();
    tracing::warn!(%folder, "this is a shadow: no effect is called, decisions go to files and standard output only");
    if !left_out.is_empty() {
        tracing::warn!(sinks = %left_out.join(", "), "these sinks are left out");
    }
    shadow
}
