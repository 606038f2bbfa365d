//! `turnstile sources ls|rewind`: where events come from, and how far those have come that are asked for them.

use std::io::Write;

use clap::Subcommand;

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::page::Page;
use super::render;
use super::screen::Screen;
use super::table::{Align, Table};
use crate::model::json;
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct SourcesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sources, with what they listen on or how far they have come
    Ls(LsArgs),
    /// Set the cursor of a source of kind sql back: what comes after it is read again, and counts as duplicates
    Rewind(RewindArgs),
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RewindArgs {
    /// As `ls` shows it
    name: String,
    /// A value of the cursor's column: a number, or a time such as 2026-11-20T10:00:00Z
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    to: String,
    /// Print the source's document as the server gave it
    #[arg(long)]
    json: bool,
}

/// Lists sources, or sets one back.
///
/// # Errors
/// There is no such source, or it has not come so far (1), the request is wrong (2), the server cannot be asked (3).
pub fn sources(args: &SourcesArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => list(args, server, screen),
        Command::Rewind(args) => rewind(args, server, screen),
    }
}

fn list(args: &LsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut table = Table::new(["name", "kind", "state", "at", "trouble"].map(|name| (name, Align::Left)));
    let cells = |item: &Map| {
        let text = |name| item.get(name).filter(|value| !matches!(value, Value::Null)).map(text);
        let first = |names: &[&'static str]| names.iter().find_map(|name| text(*name)).unwrap_or_default();
        // Those that ask databases say whether they are up, those over NATS whether they are connected.
        let state = match (item.get("up"), item.get("connected")) {
            (Some(Value::Bool(false)), _) | (_, Some(Value::Bool(false))) => "down",
            (Some(_), _) if text("caught_up").is_none() => "catching up",
            _ => "up",
        };
        let at = first(&["cursor", "listen", "stream"]);
        let [name, kind, trouble] = [&["name"][..], &["kind"], &["trouble", "problem"]].map(first);
        vec![name, kind, state.to_owned(), at, trouble]
    };
    let answer = Client::new(server)?.get(&["sources"], &[], ANSWER_TIMEOUT)?;
    Page::parse(&answer.body, "items")?.print(args.json, &mut table, cells, screen)?;
    Ok(Exit::Ok)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| json::to_string(value), render::safe)
}

fn rewind(args: &RewindArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let to = args.to.parse().map_or_else(|_| Value::string(&*args.to), Value::Int);
    let body: Map = [(Box::from("to"), to)].into_iter().collect();
    let answer = Client::new(server)?.post(&["sources", &args.name, "rewind"], &json::to_string(&Value::Map(body)))?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
        return Ok(Exit::Ok);
    }
    let Value::Map(source) = answer.document()? else { return Err(not_understood("no document")) };
    let name = source.get("name").map(text).unwrap_or_default();
    writeln!(screen.out, "{name} goes on after {}", source.get("cursor").map(text).unwrap_or_default())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    /// If this failed, nobody could see why a source stands still.
    #[test]
    fn sources_are_listed_with_how_they_are() {
        let items = r#"{"items":[{"name":"tcp","kind":"tcp","listen":"127.0.0.1:7400"},
            {"name":"clock","kind":"sql","cursor":42,"up":false,"trouble":"no \u001b way","caught_up":null},
            {"name":"erp","kind":"sql","cursor":7,"up":true,"trouble":null,"caught_up":null},
            {"name":"bus","kind":"nats","stream":"ORDERS","connected":false,"lag":0,"problem":"stream not found"},
            {"name":"live","kind":"nats","connected":true}],"next":null}"#;
        let server = HttpServer::answering(vec![(200, items.to_owned())]);
        let (exit, out, _) = told(|screen| list(&LsArgs { json: false }, &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        let rows: Vec<Vec<&str>> =
            out.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
        assert_eq!(rows[1][..4], ["tcp", "tcp", "up", "127.0.0.1:7400"]);
        assert!(rows[2][..4] == ["clock", "sql", "down", "42"] && !out.contains('\u{1b}'), "{out}");
        assert_eq!(rows[3][..4], ["erp", "sql", "catching up", "7"]);
        assert_eq!(rows[4], ["bus", "nats", "down", "ORDERS", "stream not found"]);
        assert_eq!(rows[5], ["live", "nats", "up"]);
        assert!(server.requests()[0].starts_with("GET /v1/sources "));
    }

    /// If this failed, an operator would set the wrong source back, or to another place.
    #[test]
    fn a_number_and_a_time_are_sent_as_such() {
        for (to, sent) in [
            ("42", r#"{"to":42}"#),
            ("-1", r#"{"to":-1}"#),
            ("2026-01-01T00:00:00Z", r#"{"to":"2026-01-01T00:00:00Z"}"#),
        ] {
            let answer = r#"{"name":"clock","kind":"sql","cursor":42}"#;
            let server = HttpServer::answering(vec![(200, answer.to_owned())]);
            let args = RewindArgs { name: "clock".to_owned(), to: to.to_owned(), json: false };
            let (exit, out, _) = told(|screen| rewind(&args, &server.args(None), screen));
            assert_eq!((exit, &*out), (Exit::Ok, "clock goes on after 42\n"));
            let request = server.requests().remove(0);
            assert!(request.starts_with("POST /v1/sources/clock/rewind "), "{request}");
            assert!(request.ends_with(sent), "{request}");
        }
    }
}
