//! `turnstile status`: how the server is.

use std::io::{self, Write};

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::{Paint, Screen};
use super::table::{Align, Table};
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Print the document as the server gave it
    #[arg(long)]
    json: bool,
}

/// Shows the state of the server.
///
/// # Errors
/// The token is wrong (2), the server cannot be asked (3).
pub fn status(args: &StatusArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = Client::new(server)?.get(&["status"], &[], ANSWER_TIMEOUT)?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
    } else {
        let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
        node(&mut *screen.out, screen.paint, &document)?;
    }
    Ok(Exit::Ok)
}

/// Members in the first line, so not again below.
const TOLD_FIRST: [&str; 4] = ["name", "version", "state", "uptime_seconds"];
/// The order of the others, as of the columns of a table; what is not known here follows.
const ORDER: [&str; 16] = [
    "name",
    "type",
    "open",
    "bytes",
    "kind",
    "listen",
    "lsn",
    "watermark",
    "admission",
    "journal",
    "store",
    "shards",
    "types",
    "sources",
    "sinks",
    "entities",
];

/// The status document, for a person. Every member is shown, known or not.
fn node(out: &mut dyn Write, paint: Paint, document: &Map) -> io::Result<()> {
    let text = |name| document.get(name).map(render::line).unwrap_or_default();
    let state = text("state");
    let painted = if state == "ready" { paint.green(&state) } else { paint.yellow(&state) };
    write!(out, "{} {}  {painted}", paint.bold(&text("name")), text("version"))?;
    match document.get("uptime_seconds").and_then(whole) {
        Some(seconds) => writeln!(out, ", up {}", render::span(seconds))?,
        None => writeln!(out)?,
    }
    let members = ordered(document.iter().filter(|(name, _)| !TOLD_FIRST.contains(name)));
    let (lists, facts): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, value)| matches!(value, Value::List(_)));
    let width = facts.iter().map(|(name, _)| label(name).chars().count()).max().unwrap_or_default();
    for (name, value) in facts {
        let fact = if let Value::Map(parts) = value { parts_of(parts) } else { amount(name, value) };
        writeln!(out, "  {:width$}  {fact}", label(name))?;
    }
    for (name, value) in lists {
        if let Value::List(items) = value
            && !items.is_empty()
        {
            writeln!(out)?;
            listed(out, paint, name, items)?;
        }
    }
    Ok(())
}

fn ordered<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>) -> Vec<(&'v str, &'v Value)> {
    let mut members: Vec<_> = members.collect();
    members.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    members
}

/// What a member consists of, in one line: "open, in flight records 0".
fn parts_of(parts: &Map) -> String {
    let part = |(name, value): (&str, &Value)| match value {
        Value::Null => None,
        Value::Bool(true) => Some(label(name)),
        Value::Bool(false) => Some(format!("not {}", label(name))),
        _ if name == "bytes" => Some(amount(name, value)),
        _ => Some(format!("{} {}", label(name), amount(name, value))),
    };
    ordered(parts.iter()).into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// `journal_bytes` is told as "journal", its unit stands with the amount.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_bytes").or_else(|| name.strip_suffix("_seconds")).unwrap_or(name);
    render::safe(&name.replace('_', " "))
}

fn amount(name: &str, value: &Value) -> String {
    match whole(value) {
        Some(bytes) if name == "bytes" || name.ends_with("_bytes") => render::size(bytes),
        Some(seconds) if name.ends_with("_seconds") => render::span(seconds),
        _ => render::count(value),
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(int) => Some(*int),
        Value::Double(double) => Some(*double as i64),
        _ => None,
    }
}

/// A list of documents with the same members, as a table; of anything else, one a line.
fn listed(out: &mut dyn Write, paint: Paint, title: &str, items: &[Value]) -> io::Result<()> {
    let documents: Vec<&Map> =
        items.iter().filter_map(|item| if let Value::Map(map) = item { Some(map) } else { None }).collect();
    if documents.len() < items.len() {
        writeln!(out, "{}", paint.bold(&label(title)))?;
        return items.iter().try_for_each(|item| writeln!(out, "  {}", render::line(item)));
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in ordered(documents.iter().flat_map(|document| document.iter())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let columns = names.iter().map(|name| {
        let numeric = documents.iter().filter_map(|document| document.get(name)).all(|value| whole(value).is_some());
        // The name of each stands below what they are.
        let heading = if matches!(*name, "name" | "type") { label(title) } else { label(name) };
        (heading, if numeric { Align::Right } else { Align::Left })
    });
    let rows: Vec<_> = documents
        .iter()
        .map(|document| {
            names.iter().map(|name| document.get(name).map(|value| amount(name, value)).unwrap_or_default()).collect()
        })
        .collect();
    Table::new(columns).rows(out, paint, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    const STATUS: &str = r#"{"admission":{"closed_because":null,"in_flight_records":3,"open":true},
        "journal":{"bytes":12900000,"first_lsn":1,"last_lsn":1042},"lsn":1042,"name":"turnstile","shards":2,
        "sinks":[{"delivered":1234,"kind":"file","lag":0,"lsn":1042,"name":"decisions"}],
        "sources":[{"kind":"http","listen":"127.0.0.1:7480","name":"http"},{"kind":"tcp","listen":"127.0.0.1:7400",
        "name":"tcp","connections":3}],"state":"ready","store":{"bytes":512},"types":[{"entities":1000,"live":10,
        "type":"order"},{"entities":5,"live":0,"type":"day"}],"uptime_seconds":7325,"version":"0.1.0",
        "watermark":1000,"new":true,"odd":[1,"a"]}"#;

    const RENDERED: &str = "\
turnstile 0.1.0  ready, up 2 h 2 min
  lsn        1,042
  watermark  1,000
  admission  open, in flight records 3
  journal    12.3 MiB, first lsn 1, last lsn 1,042
  store      512 B
  shards     2
  new        true

types  entities  live
order     1,000    10
day           5     0

sources  kind  listen          connections
http     http  127.0.0.1:7480
tcp      tcp   127.0.0.1:7400            3

sinks      kind    lsn  delivered  lag
decisions  file  1,042      1,234    0

odd
  1
  a
";

    #[test]
    fn a_status_is_rendered_or_given_as_it_is() {
        for (json, expected) in [(false, RENDERED.to_owned()), (true, format!("{STATUS}\n"))] {
            let server = HttpServer::answering(vec![(200, STATUS.to_owned())]);
            let outcome = told(|screen| status(&StatusArgs { json }, &server.args(None), screen));
            assert_eq!(outcome, (Exit::Ok, expected, String::new()));
        }
    }

    #[test]
    fn nothing_that_is_missing_or_odd_is_an_error() {
        for body in ["{}", r#"{"admission":5,"journal":[],"sources":{},"uptime_seconds":"x","sinks":[{}]}"#] {
            let server = HttpServer::answering(vec![(200, body.to_owned())]);
            let (exit, _, err) = told(|screen| status(&StatusArgs { json: false }, &server.args(None), screen));
            assert_eq!((exit, &*err), (Exit::Ok, ""), "{body}");
        }
    }
}
