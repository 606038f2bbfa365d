//! `turnstile sinks ls|skip`: where decisions go, how far each sink has come, and what it is stuck on.

use std::io::Write;

use clap::Subcommand;

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::letters_by_hand::print_raw;
use super::mandate::ByHand;
use super::page::Page;
use super::render;
use super::screen::Screen;
use super::table::{Align, Table};
use crate::model::json;
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct SinksArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sinks, how far they have come, and what they are stuck on
    Ls(LsArgs),
    /// Make what a key waits for a dead letter, so that the key goes on
    Skip(SkipArgs),
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SkipArgs {
    /// The sink, as `ls` shows it
    name: String,
    /// The decision's id, as `ls` shows it, or the LSN of its record
    decision: String,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// Lists sinks, or has one skip something.
///
/// # Errors
/// There is no such sink, or it is not stuck on that (1), the request is wrong (2), the server cannot be asked (3).
pub fn sinks(args: &SinksArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => list(args, server, screen),
        Command::Skip(args) => skip(args, server, screen),
    }
}

fn list(args: &LsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let right = ["lsn", "delivered", "lag", "stuck keys"];
    let columns = ["name", "kind", "lsn", "delivered", "lag", "stuck keys", "first stuck", "trouble"];
    let align = |name| (name, if right.contains(&name) { Align::Right } else { Align::Left });
    let mut table = Table::new(columns.map(align));
    let cells = |item: &Map| {
        let first = match item.get("stuck") {
            Some(Value::List(stuck)) => stuck.first(),
            _ => None,
        };
        let of_first = |name| match first {
            Some(Value::Map(first)) => first.get(name).map(text),
            _ => None,
        };
        let cell = |name: &str| match name {
            "first stuck" => of_first("decision").unwrap_or_default(),
            "trouble" => of_first("error").or_else(|| item.get(name).map(text)).unwrap_or_default(),
            name => item.get(&name.replace(' ', "_")).map(text).unwrap_or_default(),
        };
        columns.map(cell).to_vec()
    };
    let answer = Client::new(server)?.get(&["sinks"], &[], ANSWER_TIMEOUT)?;
    Page::parse(&answer.body, "items")?.print(args.json, &mut table, cells, screen)?;
    Ok(Exit::Ok)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        value => value.as_str().map_or_else(|| render::count(value), render::safe),
    }
}

fn skip(args: &SkipArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut members = args.by_hand.members();
    match args.decision.parse() {
        Ok(lsn) => members.insert("lsn", Value::Int(lsn)),
        Err(_) => members.insert("decision", Value::string(&*args.decision)),
    }
    let body = json::to_string(&Value::Map(members));
    let answer = Client::new(server)?.post(&["sinks", &args.name, "skip"], &body)?;
    if args.json {
        print_raw(&answer.body, screen)?;
        return Ok(Exit::Ok);
    }
    let skipped = match answer.document()? {
        Value::Map(document) => document.get("skipped").map(text).unwrap_or_default(),
        _ => String::new(),
    };
    writeln!(screen.out, "{skipped} is a dead letter now, and its key goes on")?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    /// If this failed, nobody would see what a sink is stuck on, or another decision would be skipped.
    #[test]
    fn sinks_are_listed_and_skip_what_is_asked() {
        let items = r#"{"items":[{"name":"hook","kind":"webhook","lsn":7,"delivered":1200,"lag":3,"trouble":"HTTP 500",
            "stuck_keys":2,"stuck":[{"decision":"order/o/Made/1","error":"HTTP \u001b 500"}]},
            {"name":"file","kind":"file","lsn":9,"delivered":1,"lag":0,"trouble":null,"stuck_keys":0,"stuck":[]}],"next":null}"#;
        let server = HttpServer::answering(vec![(200, items.to_owned())]);
        let (exit, out, _) = told(|screen| list(&LsArgs { json: false }, &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        let rows: Vec<Vec<&str>> =
            out.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
        assert_eq!(rows[1][..7], ["hook", "webhook", "7", "1,200", "3", "2", "order/o/Made/1"]);
        assert_eq!(rows[2], ["file", "file", "9", "1", "0", "0"]);
        assert!(!out.contains('\u{1b}'));
        for (decision, sent) in [("order/o/Made/1", r#""decision":"order/o/Made/1""#), ("17", r#""lsn":17"#)] {
            let answer = r#"{"sink":"hook","skipped":"order/o/Made/1"}"#;
            let server = HttpServer::answering(vec![(200, answer.to_owned())]);
            let (name, decision) = ("hook".to_owned(), decision.to_owned());
            let args = SkipArgs { name, decision, by_hand: ByHand::of_test(), json: false };
            let (_, out, _) = told(|screen| skip(&args, &server.args(None), screen));
            assert_eq!(out, "order/o/Made/1 is a dead letter now, and its key goes on\n");
            let request = server.requests().remove(0);
            assert!(request.starts_with("POST /v1/sinks/hook/skip ") && request.contains(sent), "{request}");
        }
    }
}
