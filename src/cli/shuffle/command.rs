//! The arguments of `shuffle`, and the way from events to a verdict.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::input;
use super::report::Report;
use crate::cli::check::{self, Ready};
use crate::cli::failure::{Exit, Failure};
use crate::cli::screen::Screen;
use crate::ingress::Decoder;
use crate::rehearsal::shuffle::{Group, Options, Recording, Unit, read_journal, search};

const BAR: &str = "{bar:30} {percent:>3}%  {human_pos} events, {per_sec}  {eta} left";

/// Find out whether what comes of events depends on their order
///
/// Recorded events are run through the rules, entity by entity: in the order given, then in random orders, with
/// repeats, and with states stored and read back in between. Fields, derived values and what decisions finally say must
/// come out the same. If they do not, the smallest two orders that show it are printed, with the rule that is to blame
/// and what to write instead. No server is needed, and none is asked.
///
/// The exit code is 1 if something depends on the order.
#[derive(Debug, clap::Args)]
pub struct ShuffleArgs {
    /// A file with one event a line, or - for standard input
    #[arg(required_unless_present = "from_data")]
    file: Option<PathBuf>,
    /// The data folder of a stopped server, whose journal is read and not changed
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "source"])]
    from_data: Option<PathBuf>,
    /// So many random orders of each entity's events
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Where chance begins: the same seed gives the same orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The probability with which an event is repeated
    #[arg(long, value_name = "P", default_value_t = 0.3, value_parser = parse_probability)]
    duplicates: f64,
    /// Only this entity type
    #[arg(long, value_name = "TYPE")]
    entity: Option<String>,
    /// Only the entity with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Lines are what this source receives, and go through its `event` mapping
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

fn parse_probability(text: &str) -> Result<f64, String> {
    let expected = || "expected a number from 0 to 1".to_owned();
    text.parse().ok().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(expected)
}

/// Shuffles recorded events.
///
/// # Errors
/// The configuration is wrong, the file or a name is not there (2); the file cannot be read (3).
pub fn shuffle(args: &ShuffleArgs, config: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut ready = check::ready(config)?;
    let ruleset = ready.prepared.ruleset.clone();
    if let Some(kind) = args.entity.as_ref().filter(|kind| ruleset.get(kind).is_none()) {
        let names: Vec<_> = ruleset.types().iter().map(|rules| rules.name.to_string()).collect();
        return Err(unknown("entity type", kind, &names));
    }
    let mut recording = Recording::of(args.entity.clone(), args.key.clone());
    let unit = match (&args.from_data, &args.file) {
        (Some(folder), _) => {
            read_journal(folder, &ruleset, &mut recording).map_err(|error| Failure::new(Exit::Io, error))?;
            Unit::Lsn
        }
        (None, file) => {
            let decoder = decoder(args, &mut ready)?;
            input::read(file.as_deref().unwrap_or(Path::new("-")), &decoder, &ruleset, &mut recording)?;
            Unit::Line
        }
    };
    let options = Options { rounds: args.rounds, seed: args.seed, duplicates: args.duplicates, unit };
    let report = Report::of(&recording, options);
    let groups = recording.into_groups();
    let bar = bar(&groups, options);
    let found = search(&ready.config, &ruleset, &groups, options, |applied| bar.inc(applied));
    bar.finish_and_clear();
    let found = found.map_err(|error| {
        Failure::new(Exit::Io, anyhow::Error::new(error).context("a state is not read as it was stored"))
    })?;
    if args.json {
        writeln!(screen.out, "{}", report.to_json(&ready.files, &groups, &found))?;
    } else {
        let paint = screen.paint;
        report.print(&mut *screen.out, paint, &ready.files, &groups, &found)?;
    }
    Ok(if found.groups > 0 && found.diverging == 0 { Exit::Ok } else { Exit::No })
}

fn decoder(args: &ShuffleArgs, ready: &mut Ready) -> Result<Decoder, Failure> {
    let Some(name) = &args.source else { return Ok(ready.cloud_events()) };
    let decoders = &mut ready.prepared.decoders;
    decoders.remove(name).ok_or_else(|| {
        let mut names: Vec<_> = decoders.keys().cloned().collect();
        names.sort();
        unknown("source", name, &names)
    })
}

fn unknown(what: &str, name: &str, names: &[String]) -> Failure {
    Failure::message(Exit::Usage, format!("there is no {what} `{name}`; there are: {}", names.join(", ")))
}

fn bar(groups: &[Group], options: Options) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let events: usize = groups.iter().map(|group| group.events.len()).sum();
    let bar = ProgressBar::new((events as f64 * options.rounds as f64 * (1.0 + options.duplicates)) as u64);
    // A template that cannot be read would leave the default bar, which a test shows not to happen.
    bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_can_be_read() {
        ProgressStyle::with_template(BAR).unwrap();
    }

    #[test]
    fn probabilities_are_read() {
        for (text, expected) in [("0", Some(0.0)), ("0.3", Some(0.3)), ("1", Some(1.0)), ("1.1", None), ("x", None)] {
            assert_eq!(parse_probability(text).ok(), expected, "{text}");
        }
    }
}
