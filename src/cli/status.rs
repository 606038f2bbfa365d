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
const ORDER: [&str; 13] = [
    "lsn",
    "watermark",
    "in_flight",
    "shards",
    "journal_bytes",
    "store_bytes",
    "entities",
    "sources",
    "sinks",
    "name",
    "kind",
    "listen",
    "connections",
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
    let facts: Vec<_> = members.iter().filter(|(_, value)| !matches!(value, Value::Map(_) | Value::List(_))).collect();
    let width = facts.iter().map(|(name, _)| label(name).chars().count()).max().unwrap_or_default();
    for (name, value) in facts {
        writeln!(out, "  {:width$}  {}", label(name), amount(name, value))?;
    }
    for (name, value) in &members {
        match value {
            // Shown beside the entities of its type.
            Value::Map(_) if *name == "live" && document.get("entities").is_some() => {}
            Value::Map(counts) if !counts.is_empty() => {
                writeln!(out)?;
                let live = document.get("live").filter(|_| *name == "entities");
                counted(out, paint, name, counts, live)?;
            }
            Value::List(items) if !items.is_empty() => {
                writeln!(out)?;
                listed(out, paint, name, items)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn ordered<'v>(members: impl Iterator<Item = (&'v str, &'v Value)>) -> Vec<(&'v str, &'v Value)> {
    let mut members: Vec<_> = members.collect();
    members.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    members
}

/// `journal_bytes` is told as "journal", its unit stands with the amount.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_bytes").or_else(|| name.strip_suffix("_seconds")).unwrap_or(name);
    render::safe(&name.replace('_', " "))
}

fn amount(name: &str, value: &Value) -> String {
    match whole(value) {
        Some(bytes) if name.ends_with("_bytes") => render::size(bytes),
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

/// A map of names to counts, with a second count of each name where there is one.
fn counted(out: &mut dyn Write, paint: Paint, title: &str, counts: &Map, live: Option<&Value>) -> io::Result<()> {
    let mut columns = vec![(label(title), Align::Left), ("count".to_owned(), Align::Right)];
    columns.extend(live.map(|_| ("live".to_owned(), Align::Right)));
    let rows: Vec<_> = counts
        .iter()
        .map(|(name, count)| {
            let mut row = vec![render::safe(name), render::count(count)];
            if let Some(Value::Map(live)) = live {
                row.push(live.get(name).map(render::count).unwrap_or_default());
            }
            row
        })
        .collect();
    Table::new(columns).rows(out, paint, &rows)
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
        let heading = if *name == "name" { label(title) } else { label(name) };
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

    const STATUS: &str = r#"{"name":"turnstile","version":"0.1.0","uptime_seconds":7325,"state":"ready","lsn":1042,
        "watermark":1000,"shards":2,"in_flight":3,"live":{"order":10},"entities":{"day":5,"order":1000},
        "journal_bytes":12900000,"store_bytes":512,"sources":[{"name":"tcp","kind":"tcp","listen":"127.0.0.1:7400",
        "connections":3},{"name":"http","kind":"http","listen":"127.0.0.1:7480"}],
        "sinks":[{"name":"decisions","kind":"file","delivered":1234,"lag":0}],"new":true,"odd":[1,"a"]}"#;

    const RENDERED: &str = "\
turnstile 0.1.0  ready, up 2 h 2 min
  lsn        1,042
  watermark  1,000
  in flight  3
  shards     2
  journal    12.3 MiB
  store      512 B
  new        true

entities  count  live
day           5
order     1,000    10

sources  kind  listen          connections
tcp      tcp   127.0.0.1:7400            3
http     http  127.0.0.1:7480

sinks      kind  delivered  lag
decisions  file      1,234    0

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
        for body in ["{}", r#"{"live":5,"entities":[],"sources":{},"uptime_seconds":"x","sinks":[{}]}"#] {
            let server = HttpServer::answering(vec![(200, body.to_owned())]);
            let (exit, _, err) = told(|screen| status(&StatusArgs { json: false }, &server.args(None), screen));
            assert_eq!((exit, &*err), (Exit::Ok, ""), "{body}");
        }
    }
}
