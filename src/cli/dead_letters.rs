//! `turnstile dead-letters ls|show` (and `retry|drop`, which are in `letters_by_hand`): what sinks gave up on, and what sources were given that was refused.

use std::io::Write;

use clap::Subcommand;

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::letters_by_hand::{self, DropArgs, RetryArgs};
use super::page::Pages;
use super::render;
use super::screen::Screen;
use super::table::{Align, Table};
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters
    Ls(LsArgs),
    /// Show one with its bytes
    Show(ShowArgs),
    /// Try one again, or several: with the same identity, so that it counts once
    Retry(RetryArgs),
    /// Drop one that nobody wants any more
    Drop(DropArgs),
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Only those of this sink
    #[arg(long)]
    sink: Option<String>,
    /// Only those of this source
    #[arg(long, conflicts_with = "sink")]
    source: Option<String>,
    /// Only those with this reason
    #[arg(long)]
    reason: Option<String>,
    /// Those that were dealt with by hand, instead of those that are open
    #[arg(long)]
    closed: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only those after this one
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// As `ls` shows it
    id: String,
    /// Print the document as the server gave it
    #[arg(long)]
    json: bool,
}

/// Lists dead letters, or shows one.
///
/// # Errors
/// There is no such dead letter (1), the request is wrong (2), the server cannot be asked (3).
pub fn dead_letters(args: &DeadLettersArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => list(args, server, screen),
        Command::Show(args) => show(args, server, screen),
        Command::Retry(args) => letters_by_hand::retry(args, server, screen),
        Command::Drop(args) => letters_by_hand::drop_one(args, server, screen),
    }
}

fn list(args: &LsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let columns = ["id", "time", "reason", "attempts", "about", "detail"];
    let align = |name| (name, if name == "attempts" { Align::Right } else { Align::Left });
    let mut table = Table::new(columns.map(align));
    let cell = |item: &Map, name| match name {
        "about" => item.get("decision").or_else(|| item.get("event")).map(text).unwrap_or_default(),
        name => item.get(name).map(text).unwrap_or_default(),
    };
    let cells = |item: &Map| columns.map(|name| cell(item, name)).to_vec();
    let filters = [("sink", &args.sink), ("source", &args.source), ("reason", &args.reason)];
    let filters: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let filters = [filters, args.closed.then(|| ("closed", "true".to_owned())).into_iter().collect()].concat();
    let pages = Pages { path: &["dead-letters"], filters: &filters, after: args.after.clone(), json: args.json };
    pages.print(&Client::new(server)?, (!args.all).then_some(args.limit), &mut table, cells, screen)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| render::count(value), render::safe)
}

fn show(args: &ShowArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = Client::new(server)?.get(&["dead-letters", &args.id], &[], ANSWER_TIMEOUT)?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
        return Ok(Exit::Ok);
    }
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    let width = document.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in document.iter().filter(|(name, _)| !name.starts_with("body")) {
        writeln!(screen.out, "{name:width$}  {}", text(value))?;
    }
    let body = ["body", "body_base64"].iter().find_map(|name| document.get(name));
    writeln!(screen.out, "\n{}", body.map(text).unwrap_or_default())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    const LETTER: &str = r#"{"id":"sink.hook.07.0000","sink":"hook","lsn":7,"time":"2026-11-20T10:00:00Z",
        "reason":"exhausted","detail":"HTTP 500","attempts":30,"type":"order","key":"o","decision":"order/o/Made/1",
        "bytes":2"#;

    const OF_SOURCE: &str = r#"{"id":"source.bus.ORDERS:7","source":"bus","position":"ORDERS:7","event":"e-7",
        "time":"2026-11-20T10:00:00Z","reason":"invalid_json","detail":"no","attempts":1,"bytes":1"#;

    fn none() -> LsArgs {
        let (sink, source, reason, after) = (None, None, None, None);
        LsArgs { sink, source, reason, closed: false, limit: 5, after, all: false, json: false }
    }

    /// If this failed, nobody could see what was given up, or a terminal would obey what stands in it.
    #[test]
    fn dead_letters_are_listed_and_shown() {
        let server = HttpServer::answering(vec![(200, format!(r#"{{"items":[{LETTER}}}],"next":null}}"#))]);
        let args = LsArgs { sink: Some("hook".to_owned()), ..none() };
        let (exit, out, err) = told(|screen| list(&args, &server.args(None), screen));
        assert_eq!((exit, &*err), (Exit::Ok, ""));
        assert_eq!(
            out,
            "id                 time                  reason     attempts  about           detail\n\
             sink.hook.07.0000  2026-11-20T10:00:00Z  exhausted        30  order/o/Made/1  HTTP 500\n"
        );
        assert!(server.requests()[0].starts_with("GET /v1/dead-letters?limit=5&sink=hook "));

        let server = HttpServer::answering(vec![(200, format!(r#"{LETTER},"body":"{{\u001b}}"}}"#))]);
        let args = ShowArgs { id: "sink.hook.07.0000".to_owned(), json: false };
        let (exit, out, _) = told(|screen| show(&args, &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        assert!(out.contains("detail    HTTP 500\n") && !out.contains('\u{1b}'), "{out}");
        assert!(server.requests()[0].starts_with("GET /v1/dead-letters/sink.hook.07.0000 "));

        let server = HttpServer::answering(vec![(200, format!(r#"{{"items":[{OF_SOURCE}}}],"next":null}}"#))]);
        let args = LsArgs { source: Some("bus".to_owned()), ..none() };
        let (exit, out, _) = told(|screen| list(&args, &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        assert!(out.contains("source.bus.ORDERS:7  2026-11-20T10:00:00Z  invalid_json         1  e-7"), "{out}");
        assert!(server.requests()[0].starts_with("GET /v1/dead-letters?limit=5&source=bus "));
    }
}
