//! `turnstile get TYPE KEY`: one entity, as a person or as a program reads it.

use std::io::{self, Write};
use std::time::Duration;

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::{Paint, Screen};
use super::send::parse_duration;
use crate::model::time::Span;
use crate::model::value::{Map, Value};

const ACCEPTED: u16 = 202;

#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// The entity type
    #[arg(value_name = "TYPE")]
    entity: String,
    /// The key
    key: String,
    /// Wait until an event was applied or one of these decisions is made: "applied", "any", or names with commas
    #[arg(long, value_name = "WHAT")]
    wait: Option<String>,
    /// How long to wait; then the entity is shown as it is, with exit code 1
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, requires = "wait")]
    timeout: Duration,
    /// Print the document as the server gave it
    #[arg(long)]
    json: bool,
}

/// Shows one entity.
///
/// # Errors
/// There is no such entity (1), the request is wrong (2), the server cannot be asked (3).
pub fn get(args: &GetArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (mut query, mut timeout) = (Vec::new(), ANSWER_TIMEOUT);
    if let Some(wait) = &args.wait {
        let span = Span::from_nanos(args.timeout.as_nanos().cast_signed()).unwrap_or_default();
        query = vec![("wait", wait.clone()), ("timeout", span.to_string())];
        timeout = timeout.saturating_add(args.timeout);
    }
    let answer = Client::new(server)?.get(&["entities", &args.entity, &args.key], &query, timeout)?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
    } else {
        let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
        entity(&mut *screen.out, screen.paint, &document)?;
    }
    if args.wait.is_some() && answer.status == ACCEPTED {
        screen.flush()?;
        writeln!(screen.err, "not within {}", render::span(args.timeout.as_secs().cast_signed()))?;
        return Ok(Exit::No);
    }
    Ok(Exit::Ok)
}

/// Members told in the first lines, so not again below.
const TOLD_FIRST: [&str; 9] =
    ["type", "key", "version", "events", "lsn", "updated", "completeness", "missing", "waiting_for"];
/// The order of the sections; others follow.
const SECTIONS: [&str; 6] = ["fields", "derived", "decisions", "deadlines", "effects", "errors"];

/// The document of an entity, for a person. Members it does not know are shown too.
fn entity(out: &mut dyn Write, paint: Paint, document: &Map) -> io::Result<()> {
    let text = |name| document.get(name).map(render::line).unwrap_or_default();
    writeln!(out, "{} {}", text("type"), paint.bold(&text("key")))?;
    summary(out, paint, document)?;
    let others =
        document.iter().map(|(name, _)| name).filter(|name| !SECTIONS.contains(name) && !TOLD_FIRST.contains(name));
    for name in SECTIONS.into_iter().chain(others) {
        match document.get(name) {
            None => {}
            Some(Value::Map(members)) if members.is_empty() => {}
            Some(Value::List(items)) if items.is_empty() => {}
            Some(Value::Map(entries)) if name == "decisions" => {
                section(out, paint, name)?;
                decisions(out, paint, entries)?;
            }
            Some(Value::Map(members)) => {
                section(out, paint, name)?;
                render::members(out, 2, members)?;
            }
            Some(other) => {
                section(out, paint, name)?;
                writeln!(out, "  {}", render::line(other))?;
            }
        }
    }
    Ok(())
}

fn section(out: &mut dyn Write, paint: Paint, name: &str) -> io::Result<()> {
    let name = render::safe(name);
    writeln!(out, "\n{}", if name == "errors" { paint.red(&name) } else { paint.bold(&name) })
}

fn summary(out: &mut dyn Write, paint: Paint, document: &Map) -> io::Result<()> {
    let facts: Vec<_> = ["version", "events", "lsn", "updated"]
        .into_iter()
        .filter_map(|name| Some((name, document.get(name)?)))
        .map(|(name, value)| match (name, value) {
            ("events", Value::Int(1)) => "1 event".to_owned(),
            ("events", _) => format!("{} events", render::count(value)),
            _ => format!("{name} {}", render::line(value)),
        })
        .collect();
    if !facts.is_empty() {
        writeln!(out, "  {}", paint.dim(&facts.join(", ")))?;
    }
    if let Some(share) = document.get("completeness").and_then(percent) {
        let missing = match document.get("missing") {
            Some(Value::List(names)) if !names.is_empty() => {
                paint.yellow(&format!(", missing {}", render::list(names)))
            }
            _ => String::new(),
        };
        writeln!(out, "  complete {share}{missing}")?;
    }
    match document.get("waiting_for") {
        Some(Value::List(entities)) if !entities.is_empty() => {
            let waiting: Vec<String> = entities.iter().map(waited_for).collect();
            writeln!(out, "  {}", paint.yellow(&format!("waiting for {}", waiting.join(", "))))
        }
        _ => Ok(()),
    }
}

/// An entity that is waited for, and since when.
fn waited_for(entry: &Value) -> String {
    let Value::Map(entry) = entry else { return render::line(entry) };
    let part = |name| entry.get(name).map(render::line).unwrap_or_default();
    format!("{} {} since {}", part("type"), part("key"), part("since"))
}

/// A share of 1 in percent, rounded down: 100% means complete.
pub fn percent(share: &Value) -> Option<String> {
    let share = match share {
        Value::Int(int) => *int as f64,
        Value::Double(double) => *double,
        _ => return None,
    };
    Some(format!("{}%", (share * 100.0 + 1e-9).floor()))
}

/// Each decision that stands under `decisions`, with the name and, if it has several, the element.
pub fn each_decision(entries: &Map) -> Vec<(String, &Map)> {
    let mut found = Vec::new();
    for (name, entry) in entries.iter() {
        match entry {
            Value::Map(entry) if entry.get("state").is_some_and(|state| state.as_str().is_some()) => {
                found.push((render::safe(name), entry));
            }
            Value::Map(elements) => found.extend(elements.iter().filter_map(|(element, entry)| match entry {
                Value::Map(entry) => Some((format!("{}[{}]", render::safe(name), render::safe(element)), entry)),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

/// What is told of a decision after its state; then its other members, then its data.
const DECISION_FIRST: [&str; 2] = ["revision", "lsn"];
const DECISION_TOLD: [&str; 4] = ["state", "revision", "lsn", "data"];

fn decisions(out: &mut dyn Write, paint: Paint, entries: &Map) -> io::Result<()> {
    let entries = each_decision(entries);
    let width = render::column(entries.iter().map(|(name, _)| name.as_str()));
    for (name, entry) in entries {
        let state = entry.get("state").map(render::line).unwrap_or_default();
        let painted = match &*state {
            "made" | "revised" => paint.green(&state),
            "withdrawn" => paint.red(&state),
            _ => state,
        };
        write!(out, "  {name:width$}  {painted}")?;
        let others = entry.iter().filter(|(member, _)| !DECISION_TOLD.contains(member));
        for (member, value) in DECISION_FIRST.iter().filter_map(|name| Some((*name, entry.get(name)?))).chain(others) {
            match (member, value) {
                ("needs", Value::List(items)) if items.is_empty() => {}
                (_, Value::List(items)) => write!(out, ", {} {}", render::safe(member), render::list(items))?,
                _ => write!(out, ", {} {}", render::safe(member), render::line(value))?,
            }
        }
        writeln!(out)?;
        match entry.get("data") {
            None | Some(Value::Null) => {}
            Some(Value::Map(data)) => render::members(out, 4, data)?,
            Some(data) => writeln!(out, "    {}", render::line(data))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    const ORDER: &str = r#"{"type":"order","key":"order/1 ä","version":6,"lsn":1042,"updated":"2026-11-20T10:00:00Z",
        "events":5,"fields":{"payment":{"status":"successful"},"total":12.50},"derived":{"status":"processing"},
        "completeness":0.8,"missing":["loyalty"],"waiting_for":[{"key":"7","reference":"parcel","since":"2026-11-20T09:00:00Z","type":"shipment"}],
        "decisions":{"Confirmed":{"state":"made","revision":1,"data":{"warehouse":"west","days":5},"lsn":1040},
        "Line":{"a":{"state":"made","revision":2,"data":3,"lsn":1041},"state":{"state":"withdrawn","revision":2}},
        "Rejected":{"state":"pending","needs":["order.stock","order.payment.status"]}},
        "deadlines":{},"effects":{},"errors":{"derived.total":"division by zero"},"later":[1]}"#;

    const RENDERED: &str = "\
order order/1 ä
  version 6, 5 events, lsn 1042, updated 2026-11-20T10:00:00Z
  complete 80%, missing loyalty
  waiting for shipment 7 since 2026-11-20T09:00:00Z

fields
  payment  {\"status\":\"successful\"}
  total    12.5

derived
  status  processing

decisions
  Confirmed    made, revision 1, lsn 1040
    days       5
    warehouse  west
  Line[a]      made, revision 2, lsn 1041
    3
  Line[state]  withdrawn, revision 2
  Rejected     pending, needs order.stock, order.payment.status

errors
  derived.total  division by zero

later
  [1]
";

    fn args(wait: Option<&str>, json: bool) -> GetArgs {
        let (entity, key) = ("order".to_owned(), "order/1 ä".to_owned());
        GetArgs { entity, key, wait: wait.map(str::to_owned), timeout: Duration::from_millis(1_500), json }
    }

    #[test]
    fn an_entity_is_rendered_or_given_as_it_is() {
        for (json, expected) in [(false, RENDERED.to_owned()), (true, format!("{ORDER}\n"))] {
            let server = HttpServer::answering(vec![(200, ORDER.to_owned())]);
            let outcome = told(|screen| get(&args(None, json), &server.args(Some("s3cret")), screen));
            assert_eq!(outcome, (Exit::Ok, expected, String::new()));
            let requests = server.requests();
            assert!(requests[0].starts_with("GET /v1/entities/order/order%2F1%20%C3%A4 HTTP/1.1"), "{requests:?}");
            assert!(requests[0].contains("authorization: Bearer s3cret"), "{requests:?}");
        }
    }

    #[test]
    fn waiting_in_vain_is_a_no_with_the_document() {
        for (status, exit) in [(200, Exit::Ok), (202, Exit::No)] {
            let server = HttpServer::answering(vec![(status, "{}".to_owned())]);
            let (told_exit, out, err) = told(|screen| get(&args(Some("A,B"), true), &server.args(None), screen));
            assert_eq!((told_exit, &*out, err.is_empty()), (exit, "{}\n", exit == Exit::Ok));
            let requests = server.requests();
            assert!(requests[0].contains("?wait=A%2CB&timeout=1.5s "), "{requests:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_a_no() {
        let problem = r#"{"code":"not_found","detail":"no order of that key"}"#;
        let server = HttpServer::answering(vec![(404, problem.to_owned())]);
        let outcome = told(|screen| get(&args(None, false), &server.args(None), screen));
        assert_eq!(outcome, (Exit::No, String::new(), "error: not_found: no order of that key\n".to_owned()));
    }

    #[test]
    fn completeness_is_never_rounded_up() {
        for (share, text) in [(0.999, "99%"), (1.0, "100%"), (0.0, "0%"), (0.29, "29%")] {
            assert_eq!(percent(&Value::Double(share)).unwrap(), text);
        }
    }
}
