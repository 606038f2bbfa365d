//! `turnstile run`: starts the server and stays until it is told to stop.

use std::path::Path;

use super::failure::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong (2), or journal, store or a socket failed (3).
pub fn run(_args: &RunArgs, config: &Path) -> Result<Exit, Failure> {
    Err(Failure::message(Exit::Usage, format!("this build has no server that could use {}", config.display())))
}
