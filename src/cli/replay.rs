//! `turnstile replay`: what other rules would make of the events there are. Nothing is changed.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use super::check::{self, Ready};
use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::{Paint, Screen};
use crate::config::print_rules;
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::value::{Map, Value};
use crate::node::{self, Prediction, Progress};

/// What is held in memory at a time where this process works it out itself.
const BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The deepest line of an answer.
const DEPTH_MAX: usize = 1_000;
const BAR: &str = "{bar:30} {percent:>3}%  {eta} left";
const BAR_PARTS: u64 = 1_000;
/// What is counted of a type, in this order.
const COUNTED: [&str; 8] =
    ["fields", "derived", "decisions", "effects", "deadlines", "references", "settling", "errors"];

/// Show what would change if the rules were others
///
/// The events of the journal are run through the new rules beside those in force, and what would come out differently is
/// counted: entities, fields, decisions that would be made, revised or withdrawn, effects that would be asked for. The
/// server goes on meanwhile, and nothing is touched. What would follow at other entities once they are told of it is not
/// part of it.
///
/// With --diff the exit code is 1 if anything would change.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The new rules: a configuration, or a file that one includes
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Show examples, old and new; the exit code is 1 if anything would change
    #[arg(long)]
    diff: bool,
    /// Only this entity
    #[arg(long, value_name = "TYPE/KEY", value_parser = parse_entity)]
    entity: Option<EntityKey>,
    /// The data folder of a stopped server, which is read and not changed; the rules in force are those of -c
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn parse_entity(text: &str) -> Result<EntityKey, String> {
    let parts = text.split_once('/').filter(|(kind, key)| !kind.is_empty() && !key.is_empty());
    parts.map(|(kind, key)| EntityKey::new(kind, key)).ok_or_else(|| "expected TYPE/KEY".to_owned())
}

/// Shows what would change.
///
/// # Errors
/// The rules are wrong (2), the server cannot be asked, or the folder not be read (3).
pub fn replay(args: &ReplayArgs, config: &Path, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let new = check::rules(&args.rules)?;
    let bar = if io::stderr().is_terminal() { ProgressBar::new(BAR_PARTS) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template(BAR).map_err(|error| Failure::new(Exit::Io, error))?);
    let report = match &args.data_dir {
        Some(folder) => of_folder(args, folder, config, &new, &bar),
        None => of_server(args, &new, server, &bar),
    };
    bar.finish_and_clear();
    let report = report?;
    let Value::Map(members) = &report else { return Err(not_understood("no report")) };
    if args.json {
        writeln!(screen.out, "{}", json::to_string(&report))?;
    } else {
        show(&mut *screen.out, screen.paint, members, args.diff)?;
    }
    let is_change = members.get("changes") == Some(&Value::Bool(true));
    Ok(if args.diff && is_change { Exit::No } else { Exit::Ok })
}

fn of_folder(
    args: &ReplayArgs,
    folder: &Path,
    config: &Path,
    new: &Ready,
    bar: &ProgressBar,
) -> Result<Value, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::message(Exit::Io, node::causes(error));
    let old = check::ready(config)?.prepared.ruleset;
    let new = Arc::clone(&new.prepared.ruleset);
    let mut prediction = Prediction::new(old, new, args.entity.clone(), BYTES_MAX);
    let none = || Failure::message(Exit::Io, format!("there is no journal in {}", folder.display()));
    let reader = prediction.open_stopped(folder).map_err(|error| failed(&error))?.ok_or_else(none)?;
    let mut go_on = |progress: &Progress| {
        bar.set_position((progress.done() * BAR_PARTS as f64) as u64);
        ControlFlow::Continue(())
    };
    let report = prediction.run(&reader, reader.last_lsn(), &mut go_on).map_err(|error| failed(&error))?;
    report.map(|report| report.document()).ok_or_else(none)
}

fn of_server(args: &ReplayArgs, new: &Ready, server: &ServerArgs, bar: &ProgressBar) -> Result<Value, Failure> {
    let asked = args.entity.iter().flat_map(|it| [("type", it.kind().to_owned()), ("key", it.key().to_owned())]);
    let asked: Vec<_> = asked.collect();
    let mut report = None;
    let mut wrong = None;
    Client::new(server)?.post_for_lines(
        &["replay"],
        &asked,
        ("application/toml", print_rules(&new.config)),
        |line| {
            let Ok(Value::Map(line)) = json::parse(line, DEPTH_MAX) else { return Ok(()) };
            if let Some(Value::Map(progress)) = line.get("progress") {
                let done = progress.get("done").and_then(Value::to_decimal).map(|done| done.to_string());
                let done: f64 = done.and_then(|done| done.parse().ok()).unwrap_or_default();
                bar.set_position((done * BAR_PARTS as f64) as u64);
            }
            if let Some(why) = line.get("failed").and_then(Value::as_str) {
                wrong = Some(why.to_owned());
            }
            report = line.get("report").cloned();
            Ok(())
        },
    )?;
    match (report, wrong) {
        (Some(report), _) => Ok(report),
        (None, Some(why)) => Err(Failure::message(Exit::Io, why)),
        (None, None) => Err(not_understood("it ended before the report")),
    }
}

/// The report, for a person.
fn show(out: &mut dyn Write, paint: Paint, report: &Map, with_examples: bool) -> io::Result<()> {
    if report.get("changes") != Some(&Value::Bool(true)) {
        writeln!(out, "nothing would change")?;
    }
    for (kind, tally) in members(report, "types") {
        let Value::Map(tally) = tally else { continue };
        let count = |name| tally.get(name).map(render::line).unwrap_or_default();
        writeln!(
            out,
            "{}: {} of {} entities change, {} are new, {} are gone",
            paint.bold(kind),
            count("changed"),
            count("entities"),
            count("new"),
            count("gone")
        )?;
        for what in COUNTED {
            let counts: Vec<_> = members(tally, what).map(|(name, n)| format!("{name} {}", render::line(n))).collect();
            if !counts.is_empty() {
                writeln!(out, "  {what:10}  {}", counts.join(", "))?;
            }
        }
        if let Some(Value::List(examples)) = tally.get("examples").filter(|_| with_examples) {
            for example in examples {
                if let Value::Map(example) = example {
                    show_example(out, example)?;
                }
            }
        }
    }
    for (list, told) in [("removed_types", "has no rules any more; its entities sleep"), ("failures", "")] {
        if let Some(Value::List(items)) = report.get(list) {
            items.iter().try_for_each(|item| writeln!(out, "{} {told}", paint.yellow(&render::line(item))))?;
        }
    }
    let refused: Map = members(report, "refused").map(|(name, value)| (name.into(), value.clone())).collect();
    if let (Some(Value::Int(events @ 1..)), Some(first)) = (refused.get("events"), refused.get("first")) {
        writeln!(out, "{events} events do not fit the new rules and would not count: {}", render::line(first))?;
    }
    Ok(())
}

/// Old and new, line by line.
fn show_example(out: &mut dyn Write, example: &Map) -> io::Result<()> {
    let text = |map: &Map, name: &str| map.get(name).map_or_else(|| "–".to_owned(), render::line);
    writeln!(out, "  {}/{} ({})", text(example, "type"), text(example, "key"), text(example, "entity"))?;
    for what in ["fields", "derived"] {
        for (name, difference) in members(example, what) {
            let Value::Map(it) = difference else { continue };
            writeln!(out, "    {name}: {} → {}", text(it, "old"), text(it, "new"))?;
        }
    }
    if let Some(Value::List(decisions)) = example.get("decisions") {
        for decision in decisions {
            let Value::Map(it) = decision else { continue };
            let (name, revision, state) = (text(it, "name"), text(it, "revision"), text(it, "state"));
            writeln!(out, "    {name} {revision} {state}: {} → {}", text(it, "old"), text(it, "new"))?;
        }
    }
    if let Some(Value::List(effects)) = example.get("effects") {
        for effect in effects {
            let Value::Map(it) = effect else { continue };
            writeln!(out, "    {} is asked for: {}", text(it, "name"), text(it, "request"))?;
        }
    }
    Ok(())
}

/// The members of a member that is a map.
fn members<'m>(map: &'m Map, name: &str) -> impl Iterator<Item = (&'m str, &'m Value)> {
    let found = match map.get(name) {
        Some(Value::Map(members)) => Some(members),
        _ => None,
    };
    found.into_iter().flat_map(Map::iter)
}
