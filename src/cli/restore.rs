//! `turnstile restore BACKUP`: brings a backup back into an empty data folder, where no server runs.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::backup::bar;
use super::check;
use super::failure::{Exit, Failure};
use super::screen::Screen;
use crate::model::ids::Incarnation;
use crate::node::{self, RestoreError, Restored};

const BAR: &str = "{bar:30} {percent:>3}%  {bytes}  {bytes_per_sec}  {eta} left";

/// Restore a backup into an empty data folder
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup's folder
    #[arg(value_name = "BACKUP")]
    from: PathBuf,
    /// The data folder, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which incarnation of the data folder begins: higher than that of any other restore of this backup
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Incarnation::MAX.0)))]
    incarnation: Option<u32>,
    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,
}

/// Restores a backup.
///
/// # Errors
/// The data folder is not empty, or the incarnation too low (1), the configuration is wrong (2), the backup is none or damaged,
/// or something cannot be read or written (3).
pub fn restore(args: &RestoreArgs, config: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let data_dir = match &args.data_dir {
        Some(data_dir) => data_dir.clone(),
        None => check::prepared(config)?.0.server.data_dir,
    };
    let bar = bar(BAR);
    let restored = node::restore(&args.from, &data_dir, args.incarnation.map(Incarnation), &mut |progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.bytes);
    });
    bar.finish_and_clear();
    let restored = restored.map_err(|error| {
        let exit = match &error {
            RestoreError::NotEmpty(_) | RestoreError::TooLow { .. } | RestoreError::TooHigh { .. } => Exit::No,
            _ => Exit::Io,
        };
        Failure::message(exit, node::causes(&error))
    })?;
    let Restored { manifest, incarnation, effects_begun, last_lsn } = restored;
    if args.json {
        let document = json!({
            "data_dir": data_dir.display().to_string(),
            "incarnation": incarnation.0,
            "first_revision": incarnation.first_revision().0,
            "effects_begun": effects_begun,
            "last_lsn": last_lsn.0,
            "made": manifest.made,
        });
        writeln!(screen.out, "{document}")?;
        return Ok(Exit::Ok);
    }
    writeln!(screen.out, "restored {} as it was at {} (LSN {})", data_dir.display(), manifest.made, manifest.last_lsn)?;
    let (number, first) = (incarnation.0, incarnation.first_revision().0);
    writeln!(screen.out, "incarnation {number}: new revisions begin at {first}; run only one server of it")?;
    if effects_begun > 0 {
        writeln!(
            screen.out,
            "{effects_begun} effects had been asked for: those with at_most_once become unknown, the others are called again"
        )?;
    }
    Ok(Exit::Ok)
}
