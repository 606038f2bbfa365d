//! The arguments of `verify`, and the way to a report.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::list::List;
use super::report::Report;
use super::target::Target;
use crate::cli::client::ServerArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::screen::Screen;
use crate::cli::send::parse_duration;
use crate::rehearsal::verify::EXAMPLES_MAX;

const BAR: &str = "{bar:30} {percent:>3}%  {human_pos} of {human_len} records, {per_sec}  {eta} left";

/// Find out whether everything is as the journal says, and what is missing
///
/// Every entity is computed again from the journaled events, on a path of its own, and compared with how it is: fields,
/// completeness, decisions, the store's rows. Then the holes: who waits too long, what is incomplete, not delivered, without
/// outcome, silent, or missing from a sequence. Each finding says what to do. Nothing is changed.
///
/// A running server does it at the pace of [limits] verify_records_per_second, while it works; --data-dir reads the folder
/// of a stopped one.
///
/// The exit code is 1 if anything is found, 3 if it cannot be read.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The data folder of a stopped server, with its configuration; it is read and not changed
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Who has waited longer for another entity, an effect's outcome or a delivery is told
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    waiting_longer: String,
    /// What has been incomplete longer is told
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    incomplete_longer: String,
    /// Sources of a running server that have had no event for longer are told
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    silent_longer: String,
    /// Numbers of a sequence are missing if a later one has been there for longer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    gap_older: String,
    /// Compare with a list: CSV, or one JSON object a line, with `key`, perhaps `type`, `id` and `source`, and what fields
    /// should hold by their paths (payment.status); or with `id` alone
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// What rows of the list are about that do not name a `type`
    #[arg(long, value_name = "TYPE", requires = "against")]
    entity: Option<String>,
    /// The list has every key: what it does not have is told, too
    #[arg(long, requires = "against")]
    complete_list: bool,
    /// So many examples of each kind
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=EXAMPLES_MAX as u64))]
    examples: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn parse_time(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

/// Verifies.
///
/// # Errors
/// The configuration or the list is wrong (2); the server or the folder cannot be read (3).
pub fn verify(args: &VerifyArgs, config: &Path, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    // Before anything long is begun.
    let open = |file| List::open(file, args.entity.clone());
    let ids = args.against.as_deref().map_or_else(|| Ok(Vec::new()), |file| open(file)?.ids())?;
    let list = args.against.as_deref().map(open).transpose()?;
    let target = match &args.data_dir {
        Some(folder) => Target::stopped(folder, config)?,
        None => Target::running(server)?,
    };
    let asked = json!({
        "waiting_longer": args.waiting_longer, "incomplete_longer": args.incomplete_longer,
        "silent_longer": args.silent_longer, "gap_older": args.gap_older, "examples": args.examples, "ids": ids,
    });
    let bar = bar();
    let told = target.verify(&asked, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let mut report = Report::new(told?, usize::try_from(args.examples).unwrap_or(usize::MAX))?;
    if let Some(list) = list {
        list.compare(&target, args.complete_list, &mut report)?;
    }
    if args.json {
        writeln!(screen.out, "{}", report.to_json())?;
    } else {
        let paint = screen.paint;
        report.print(&mut *screen.out, paint)?;
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::No })
}

fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // A template that cannot be read would leave the default bar, which a test shows not to happen.
    ProgressBar::new(0).with_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_can_be_read() {
        ProgressStyle::with_template(BAR).unwrap();
    }
}
