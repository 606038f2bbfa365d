//! `turnstile test`: the tests that stand beside the rules, run without a server.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::check;
use super::failure::{Exit, Failure};
use super::render::{column, safe};
use super::screen::{Paint, Screen};
use crate::config::Files;
use crate::rehearsal::{self, Case, entity_name, outcome_text, value_text};

/// Run the tests that stand beside the rules
///
/// A `[[test]]` block gives events (`events`, or `events_file`) and says what is expected of entities afterwards
/// (`expect`): conditions, what became of decisions, what it waits for. No server is needed, and none is asked. `advance`
/// lets simulated time pass, and with it deadlines; nothing is called: `effects` says what becomes of calls.
///
/// The exit code is 1 if something is not as expected.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Only the tests whose names contain this
    #[arg(value_name = "TEXT")]
    name: Option<String>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// What came of one test.
struct Ran {
    case: Case,
    failures: Vec<rehearsal::Failure>,
}

/// Runs the tests.
///
/// # Errors
/// The configuration is wrong, the tests included (2).
pub fn test(args: &TestArgs, config: &Path, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let ready = check::ready(config)?;
    let decoder = ready.cloud_events();
    let wanted = |case: &Case| args.name.as_ref().is_none_or(|text| case.name.contains(text.as_str()));
    let ran: Vec<Ran> = ready
        .cases()?
        .into_iter()
        .filter(wanted)
        .map(|case| Ran { failures: case.run(&ready.prepared.ruleset, &decoder), case })
        .collect();
    if args.json {
        print_json(&mut *screen.out, &ready.files, &ran)?;
    } else {
        let paint = screen.paint;
        print(&mut *screen.out, paint, &ready.files, &ran)?;
    }
    Ok(if ran.iter().all(|ran| ran.failures.is_empty()) { Exit::Ok } else { Exit::No })
}

fn print_json(out: &mut dyn Write, files: &Files, ran: &[Ran]) -> io::Result<()> {
    let tests: Vec<_> = ran
        .iter()
        .map(|ran| {
            let failures: Vec<_> = ran.failures.iter().map(|failure| failure.to_json(files)).collect();
            json!({"name": ran.case.name, "at": files.place(ran.case.at), "ok": failures.is_empty(), "failures": failures})
        })
        .collect();
    let failed = ran.iter().filter(|ran| !ran.failures.is_empty()).count();
    writeln!(out, "{}", json!({"tests": tests, "passed": ran.len() - failed, "failed": failed}))
}

fn print(out: &mut dyn Write, paint: Paint, files: &Files, ran: &[Ran]) -> io::Result<()> {
    for Ran { case, failures } in ran {
        if failures.is_empty() {
            writeln!(out, "{}      {}", paint.green("ok"), safe(&case.name))?;
            continue;
        }
        writeln!(out, "{}  {}  ({})", paint.red("failed"), paint.bold(&safe(&case.name)), files.place(case.at))?;
        failures.iter().try_for_each(|failure| print_failure(out, paint, files, failure))?;
    }
    let failed = ran.iter().filter(|ran| !ran.failures.is_empty()).count();
    match ran.len() {
        0 => writeln!(out, "no tests: add [[test]] blocks beside the rules"),
        all => writeln!(out, "{} of {all} tests passed", all - failed),
    }
}

fn print_failure(out: &mut dyn Write, paint: Paint, files: &Files, failure: &rehearsal::Failure) -> io::Result<()> {
    match failure {
        rehearsal::Failure::Refused { expected, actual } => {
            let expected = listed(expected.iter().map(|code| code.as_str()));
            let refused = listed(actual.iter().map(|refused| refused.refusal.code.as_str()));
            writeln!(out, "  refused: expected {expected}, is {refused}")?;
            actual.iter().try_for_each(|refused| {
                let refusal = &refused.refusal;
                writeln!(out, "    {}: {}: {}", refused.input, refusal.code.as_str(), safe(&refusal.message))
            })
        }
        rehearsal::Failure::NoEntity { entity, there } => {
            let there = if there.is_empty() { "none".to_owned() } else { safe(&there.join(", ")) };
            writeln!(out, "  {}: there is no such entity; there are: {there}", safe(&entity_name(entity)))
        }
        rehearsal::Failure::That { entity, text, explained } => {
            writeln!(out, "  {}: {}", safe(&entity_name(entity)), paint.bold(&safe(text)))?;
            writeln!(out, "    is {}  ({})", safe(&outcome_text(&explained.outcome)), files.place(text.at))?;
            let width = column(explained.parts.iter().map(|(path, _)| path.as_str()));
            explained
                .parts
                .iter()
                .try_for_each(|(path, value)| writeln!(out, "    {path:width$}  {}", safe(&value_text(value))))
        }
        rehearsal::Failure::Waiting { entity, expected, actual } => {
            let [expected, actual] = [expected, actual].map(|names| listed(names.iter().map(String::as_str)));
            writeln!(out, "  {}: waiting_for: expected {expected}, is {actual}", safe(&entity_name(entity)))
        }
        rehearsal::Failure::NoRest => writeln!(out, "  there was no end to what follows by itself"),
        rehearsal::Failure::Decision { entity, name, differences } => {
            writeln!(out, "  {}: decision {}", safe(&entity_name(entity)), paint.bold(&safe(name)))?;
            let width = differences.iter().map(|difference| difference.part.chars().count()).max().unwrap_or_default();
            differences.iter().try_for_each(|difference| {
                let text = |text: &Option<String>| text.as_deref().map_or("nothing".to_owned(), safe);
                let (expected, actual) = (text(&difference.expected), text(&difference.actual));
                writeln!(out, "    {:width$}  expected {expected}, is {actual}", difference.part)
            })
        }
    }
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}
