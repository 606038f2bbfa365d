//! `turnstile watch`: decisions, or changes of entities, as they happen. A broken connection is made again, and nothing
//! is missed or shown twice.

use std::io::Write;
use std::time::Duration;

use super::client::{Client, ServerArgs, document, not_understood};
use super::event_stream::{Parser, ServerEvent};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::Screen;
use crate::model::value::{Map, Value};

/// The server says something at least every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Pauses before a connection is made again: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest event that is read.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// Show decisions, or changes of entities, as they happen
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// The entity type whose changes are shown; without one, decisions of all types are
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Only those of this entity, which is shown first
    key: Option<String>,
    /// Show decisions of the type or entity instead of changes
    #[arg(long)]
    decisions: bool,
    /// Only decisions of this name
    #[arg(long, value_name = "NAME")]
    decision: Option<String>,
    /// Begin after this position, as an earlier `watch` told it, or after an LSN; `0` is the beginning
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Shows what happens, until Ctrl-C or as many as were asked for.
///
/// # Errors
/// What comes next is no longer kept (1), the request is wrong (2), the server could not be asked at the beginning (3).
pub fn watch(args: &WatchArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let client = Client::new(server)?;
    let mut watching = Watching { args, screen, last: args.after.clone(), shown: 0 };
    let done = client.block_on(async {
        tokio::select! {
            done = watching.follow(&client) => done,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| Failure::new(Exit::Io, error)),
        }
    });
    done?;
    watching.screen.flush()?;
    if let Some(last) = &watching.last {
        writeln!(watching.screen.err, "{}", watching.screen.paint.dim(&format!("go on with --after {last}")))?;
    }
    Ok(Exit::Ok)
}

struct Watching<'a, 's> {
    args: &'a WatchArgs,
    screen: &'a mut Screen<'s>,
    /// Everything up to here was shown.
    last: Option<String>,
    shown: u64,
}

/// What to do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    /// The server has ended the stream.
    Again,
    Done,
}

impl Watching<'_, '_> {
    /// Follows until enough was shown; connects again whenever the connection is lost.
    async fn follow(&mut self, client: &Client<'_>) -> Result<(), Failure> {
        let (path, query) = asked(self.args);
        let (mut was_connected, mut pause) = (false, PAUSE_FIRST);
        loop {
            let lost = match client.stream(&path, &query, self.last.as_deref()).await {
                Ok(response) => {
                    (was_connected, pause) = (true, PAUSE_FIRST);
                    match self.read(response).await? {
                        Some(lost) => lost,
                        None => return Ok(()),
                    }
                }
                Err(Failure::Told { exit: Exit::Io, cause }) if was_connected => format!("{cause:#}"),
                Err(failure) => return Err(failure),
            };
            self.screen.flush()?;
            writeln!(self.screen.err, "{}", self.screen.paint.dim(&format!("{lost}; connecting again")))?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Shows what comes on a connection; why it was lost, or nothing if enough was shown.
    async fn read(&mut self, mut response: reqwest::Response) -> Result<Option<String>, Failure> {
        let mut parser = Parser::default();
        loop {
            let chunk = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None) | Err(_)) => return Ok(Some("the connection was closed".to_owned())),
                Err(_) => return Ok(Some(format!("nothing was heard for {SILENCE_MAX:?}"))),
            };
            let mut told = Vec::new();
            parser.push(&chunk, &mut |event, id| told.push((event, id)));
            if parser.pending_bytes() > EVENT_BYTES_MAX {
                return Err(not_understood("an event does not end"));
            }
            for (event, id) in told {
                let next = match event {
                    Some(event) => self.show(&event)?,
                    None => Next::GoOn,
                };
                self.last = id.or(self.last.take());
                match next {
                    Next::GoOn => {}
                    Next::Again => return Ok(Some("the server ended the stream".to_owned())),
                    Next::Done => return Ok(None),
                }
            }
            self.screen.flush()?;
        }
    }

    fn show(&mut self, event: &ServerEvent) -> Result<Next, Failure> {
        let data = document(event.data.as_bytes())?;
        if event.event == "end" {
            return ended(&data);
        }
        if self.args.json {
            writeln!(self.screen.out, "{}", event.data)?;
        } else {
            let line = match event.event.as_str() {
                "decision" => decision(&data),
                "change" => change(&data),
                _ => entity(&data),
            };
            writeln!(self.screen.out, "{line}")?;
        }
        self.shown += 1;
        Ok(if self.args.count == Some(self.shown) { Next::Done } else { Next::GoOn })
    }
}

/// The path and the query that ask for it.
fn asked(args: &WatchArgs) -> (Vec<&str>, Vec<(&'static str, String)>) {
    let (kind, key, decision) = (&args.kind, &args.key, &args.decision);
    match kind {
        Some(kind) if !args.decisions && decision.is_none() => {
            let path = ["entities", kind.as_str()].into_iter().chain(key.as_deref());
            (path.collect(), Vec::new())
        }
        _ => {
            let filters = [("type", kind), ("key", key), ("decision", decision)];
            let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
            (vec!["decisions"], filters.collect())
        }
    }
}

/// A server that ends or had enough of us is asked again; what is no longer kept will not come back.
fn ended(data: &Value) -> Result<Next, Failure> {
    match text(data, "code").as_str() {
        "trimmed" => Err(Failure::message(Exit::No, format!("trimmed: {}", text(data, "detail")))),
        _ => Ok(Next::Again),
    }
}

fn decision(data: &Value) -> String {
    let source = text(data, "source");
    let kind = source.rsplit('/').next().unwrap_or_default();
    let element = member(data, "element").map(|element| format!("[{}]", render::line(element))).unwrap_or_default();
    let content = member(data, "data").map(render::line).unwrap_or_default();
    let words = [
        text(data, "time"),
        format!("{kind}/{}", text(data, "subject")),
        format!("{}{element} {} {}", text(data, "type"), text(data, "revision"), text(data, "decisionstate")),
        content,
    ];
    words.join("  ").trim_end().to_owned()
}

fn change(data: &Value) -> String {
    let input = member(data, "input").cloned().unwrap_or(Value::Null);
    let came = [text(&input, "kind"), text(&input, "type"), text(&input, "id")];
    let came: Vec<String> = came.into_iter().filter(|word| !word.is_empty() && word != "event").collect();
    let words = [
        text(data, "time"),
        format!("{}/{} {}", text(data, "type"), text(data, "key"), text(data, "version")),
        came.join(" "),
        names(data, "changes", "field"),
        names(data, "decisions", "decision"),
    ];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  ")
}

/// What the members of a list are called, behind the list's own name.
fn names(data: &Value, list: &str, name: &str) -> String {
    let Some(Value::List(items)) = member(data, list) else { return String::new() };
    let names: Vec<String> = items.iter().map(|item| text(item, name)).collect();
    if names.is_empty() { String::new() } else { format!("{list}: {}", names.join(", ")) }
}

fn entity(data: &Value) -> String {
    match data {
        Value::Null => "nothing was heard of it yet".to_owned(),
        data => {
            let shown = ["fields", "derived"].map(|part| member(data, part).map(render::line).unwrap_or_default());
            let is = format!("{}/{} {}", text(data, "type"), text(data, "key"), text(data, "version"));
            format!("{}  {is}  {}", text(data, "updated"), shown.join("  "))
        }
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Map(members) => Map::get(members, name),
        _ => None,
    }
}

fn text(value: &Value, name: &str) -> String {
    member(value, name).map(render::line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn args() -> WatchArgs {
        WatchArgs { kind: None, key: None, decisions: false, decision: None, after: None, count: Some(2), json: false }
    }

    const DECISION: &str = r#"{"id":"order/o/Made/1","source":"/t/order","type":"Made","subject":"o","time":"2026-11-20T10:00:00Z","data":{"a":1},"revision":1,"decisionstate":"made"}"#;

    /// If this failed, a lost connection would end the command, or lose what was decided meanwhile.
    #[test]
    fn a_lost_connection_is_made_again_where_it_was() {
        let first = format!("id: 6\n\nid: 7\nevent: decision\ndata: {DECISION}\n\nid: 8\n\nid: 9\nevent: dec");
        let second = format!("id: 9\nevent: decision\ndata: {}\n\n", DECISION.replace("\"o\"", "\"p\""));
        let server = HttpServer::answering(vec![(200, first), (503, "{}".to_owned()), (200, second)]);
        let asked = WatchArgs { kind: Some("order".to_owned()), decision: Some("Made".to_owned()), ..args() };
        let (exit, out, err) = told(|screen| watch(&asked, &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        assert!(out.starts_with("2026-11-20T10:00:00Z  order/o  Made 1 made  {\"a\":1}\n"), "{out}");
        assert_eq!(out.lines().count(), 2);
        assert!(err.contains("connecting again") && err.ends_with("go on with --after 9\n"), "{err}");
        let requests = server.requests();
        assert!(requests[0].starts_with("GET /v1/decisions?type=order&decision=Made "), "{}", requests[0]);
        assert!(!requests[0].contains("last-event-id"), "{}", requests[0]);
        assert!(requests[2].contains("last-event-id: 8\r\n"), "{}", requests[2]);
    }

    /// If this failed, a script would take a hole for an end, or wait for a server that is not there.
    #[test]
    fn what_cannot_be_followed_is_told() {
        let trimmed = "event: end\ndata: {\"code\":\"trimmed\",\"detail\":\"gone\"}\n\n";
        for (status, body, exit, part) in [
            (200, trimmed, Exit::No, "trimmed: gone"),
            (410, r#"{"code":"trimmed","detail":"gone"}"#, Exit::No, "trimmed: gone"),
            (400, r#"{"code":"invalid_value","detail":"no"}"#, Exit::Usage, "invalid_value: no"),
            (503, r#"{"code":"recovering","detail":"wait"}"#, Exit::Io, "recovering"),
        ] {
            let server = HttpServer::answering(vec![(status, body.to_owned())]);
            let (found, _, err) = told(|screen| watch(&args(), &server.args(None), screen));
            assert_eq!(found, exit, "{err}");
            assert!(err.contains(part), "{err}");
        }
    }

    /// If this failed, an operator could not see what came and what it changed.
    #[test]
    fn changes_fit_a_line() {
        let body = r#"id: 1
event: entity
data: {"type":"order","key":"o","version":1,"updated":"2026-11-20T10:00:00Z","fields":{"a":1},"derived":{}}

id: 2
event: change
data: {"lsn":2,"version":2,"type":"order","key":"o","time":"2026-11-20T10:00:01Z","input":{"kind":"event","type":"Paid","id":"e2"},"changes":[{"field":"paid","new":2}],"decisions":[{"decision":"Made"}]}

"#;
        let server = HttpServer::answering(vec![(200, body.to_owned())]);
        let asked = WatchArgs { kind: Some("order".to_owned()), key: Some("o".to_owned()), ..args() };
        let (_, out, _) = told(|screen| watch(&asked, &server.args(None), screen));
        assert_eq!(
            out,
            "2026-11-20T10:00:00Z  order/o 1  {\"a\":1}  {}\n\
             2026-11-20T10:00:01Z  order/o 2  Paid e2  changes: paid  decisions: Made\n"
        );
        assert!(server.requests()[0].starts_with("GET /v1/entities/order/o "));
    }
}
