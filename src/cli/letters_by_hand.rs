//! `turnstile dead-letters retry|drop`: tries dead letters again, or says that nobody wants them.

use std::collections::BTreeMap;
use std::io::Write;

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::mandate::ByHand;
use super::render;
use super::screen::Screen;
use crate::model::json;
use crate::model::value::{Map, Value};

/// So many different reasons are told.
const REASONS_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// As `ls` shows it
    #[arg(required_unless_present_any = ["sink", "source", "reason", "all"])]
    id: Option<String>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// Several of them.
#[derive(Debug, Default, clap::Args)]
struct Which {
    /// All of this sink
    #[arg(long, conflicts_with_all = ["id", "source"])]
    sink: Option<String>,
    /// All of this source
    #[arg(long, conflicts_with = "id")]
    source: Option<String>,
    /// All with this reason
    #[arg(long, conflicts_with = "id")]
    reason: Option<String>,
    /// All there are
    #[arg(long, conflicts_with_all = ["id", "sink", "source", "reason"])]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub struct DropArgs {
    /// As `ls` shows it
    id: String,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// Tries one again, or several page by page.
///
/// # Errors
/// There is no such dead letter, or it was refused again (1), the request is wrong (2), the server cannot be asked (3).
pub fn retry(args: &RetryArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let client = Client::new(server)?;
    match &args.id {
        Some(id) => retry_one(id, args, &client, screen),
        None => retry_several(args, &client, screen),
    }
}

fn retry_one(id: &str, args: &RetryArgs, client: &Client<'_>, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = client.post(&["dead-letters", id, "retry"], &json::to_string(&Value::Map(args.by_hand.members())))?;
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    let text = |name: &str| document.get(name).and_then(Value::as_str).map(render::safe).unwrap_or_default();
    let outcome = text("outcome");
    if args.json {
        print_raw(&answer.body, screen)?;
    } else if outcome == "refused" {
        writeln!(screen.out, "refused again: {} ({})", text("reason"), text("detail"))?;
    } else {
        writeln!(screen.out, "{outcome}")?;
    }
    Ok(if outcome == "refused" { Exit::No } else { Exit::Ok })
}

fn retry_several(args: &RetryArgs, client: &Client<'_>, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut told = Told::default();
    let mut after: Option<String> = None;
    let ended = loop {
        let page = match next_page(args, after.as_deref(), client) {
            Ok(page) => page,
            Err(failure) => break Err(failure),
        };
        if args.json {
            print_raw(&page.0, screen)?;
        }
        told.add(&page.1);
        match page.1.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break Ok(()),
        }
    };
    // What was done is told also if the rest failed.
    if !args.json && (ended.is_ok() || told.count("asked") > 0) {
        told.print(screen)?;
    }
    ended.map(|()| if told.count("refused") + told.count("not_tried") > 0 { Exit::No } else { Exit::Ok })
}

/// An answer as it came, and as a document.
fn next_page(args: &RetryArgs, after: Option<&str>, client: &Client<'_>) -> Result<(Vec<u8>, Map), Failure> {
    let answer = client.post(&["dead-letters", "retry"], &json::to_string(&Value::Map(args.body(after))))?;
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    Ok((answer.body, document))
}

/// What became of several, page by page.
#[derive(Default)]
struct Told {
    counts: BTreeMap<String, i64>,
    /// Why some are as open as before: how many for the same reason, and the first of them.
    reasons: BTreeMap<String, (u64, String)>,
}

impl Told {
    fn add(&mut self, page: &Map) {
        for (name, count) in page.iter() {
            if let Value::Int(count) = count {
                *self.counts.entry(name.to_owned()).or_default() += count;
            }
        }
        let Some(Value::List(items)) = page.get("items") else { return };
        for item in items {
            let Value::Map(item) = item else { continue };
            let text = |name: &str| item.get(name).and_then(Value::as_str).map(render::safe).unwrap_or_default();
            let reason = match text("outcome").as_str() {
                "refused" => format!("refused again ({}: {})", text("reason"), text("detail")),
                "not_tried" => format!("not tried ({})", text("detail")),
                _ => continue,
            };
            self.reasons.entry(reason).or_insert_with(|| (0, text("id"))).0 += 1;
        }
    }

    fn count(&self, name: &str) -> i64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    fn print(&self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let [asked, retried, refused, not_tried, pending] =
            ["asked", "retried", "refused", "not_tried", "pending"].map(|name| self.count(name));
        let pending = if pending > 0 { format!(", {pending} still under way") } else { String::new() };
        writeln!(screen.out, "{retried} of {asked} retried, {refused} refused again, {not_tried} not tried{pending}")?;
        for (reason, (count, first)) in self.reasons.iter().take(REASONS_MAX) {
            let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            writeln!(screen.out, "  {reason}: {first}{more}")?;
        }
        if self.reasons.len() > REASONS_MAX {
            writeln!(screen.out, "  and {} other reasons; --json tells all", self.reasons.len() - REASONS_MAX)?;
        }
        Ok(())
    }
}

impl RetryArgs {
    fn body(&self, after: Option<&str>) -> Map {
        let Which { sink, source, reason, all } = &self.which;
        let mut members = self.by_hand.members();
        let texts =
            [("sink", sink.as_deref()), ("source", source.as_deref()), ("reason", reason.as_deref()), ("after", after)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            members.insert(name, Value::string(text));
        }
        if *all {
            members.insert("all", Value::Bool(true));
        }
        members
    }
}

/// Drops one.
///
/// # Errors
/// There is no such dead letter (1), the request is wrong (2), the server cannot be asked (3).
pub fn drop_one(args: &DropArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let body = json::to_string(&Value::Map(args.by_hand.members()));
    let answer = Client::new(server)?.delete(&["dead-letters", &args.id], &body)?;
    if args.json {
        print_raw(&answer.body, screen)?;
    } else {
        writeln!(screen.out, "dropped")?;
    }
    Ok(Exit::Ok)
}

/// Prints an answer as the server gave it.
pub fn print_raw(body: &[u8], screen: &mut Screen<'_>) -> Result<(), Failure> {
    screen.out.write_all(body.trim_ascii_end())?;
    writeln!(screen.out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn args(id: Option<&str>, which: Which) -> RetryArgs {
        RetryArgs { id: id.map(str::to_owned), which, by_hand: ByHand::of_test(), json: false }
    }

    /// If this failed, an operator would not learn that something was refused again, or retry too much.
    #[test]
    fn one_and_several_are_retried() {
        let refused = r#"{"outcome":"refused","reason":"invalid_value","detail":"no \u001b number"}"#.to_owned();
        for (answer, exit, expected) in [
            (r#"{"outcome":"retried"}"#.to_owned(), Exit::Ok, "retried\n"),
            (refused, Exit::No, "refused again: invalid_value (no \u{fffd} number)\n"),
        ] {
            let server = HttpServer::answering(vec![(200, answer)]);
            let (is, out, _) = told(|screen| retry(&args(Some("s.1"), Which::default()), &server.args(None), screen));
            assert_eq!((is, out.replace("\\u{1b}", "\u{fffd}").as_str()), (exit, expected));
            let request = server.requests().remove(0);
            assert!(request.starts_with("POST /v1/dead-letters/s.1/retry "), "{request}");
        }
        let page = |next| {
            format!(r#"{{"asked":3,"retried":2,"refused":1,"not_tried":0,"pending":0,"items":[],"next":{next}}}"#)
        };
        let server = HttpServer::answering(vec![(200, page("\"x\"")), (200, page("null"))]);
        let which = Which { sink: Some("hook".to_owned()), ..Which::default() };
        let (exit, out, _) = told(|screen| retry(&args(None, which), &server.args(None), screen));
        assert_eq!((exit, &*out), (Exit::No, "4 of 6 retried, 2 refused again, 0 not tried\n"));
        let requests = server.requests();
        assert!(requests[0].ends_with(r#"{"by":"ann","sink":"hook","why":"a test"}"#), "{}", requests[0]);
        assert!(requests[1].ends_with(r#"{"after":"x","by":"ann","sink":"hook","why":"a test"}"#), "{}", requests[1]);
    }

    /// If this failed, an operator would have to read JSON to learn what to mend, or would not learn what was done before
    /// a server failed.
    #[test]
    fn reasons_are_told_and_what_was_done_before_a_failure() {
        let items = r#"{"id":"sink.a.1","outcome":"not_tried","detail":"no sink is called `a` now"},
            {"id":"sink.a.2","outcome":"not_tried","detail":"no sink is called `a` now"},{"id":"b","outcome":"retried"},
            {"id":"c","outcome":"refused","reason":"invalid_value","detail":"no \u001b"}"#;
        let counts = r#""asked":4,"retried":1,"refused":1,"not_tried":2,"pending":0"#;
        let page = |next: &str| (200, format!(r#"{{{counts},"items":[{items}],"next":{next}}}"#));
        let which = || Which { all: true, ..Which::default() };
        let server = HttpServer::answering(vec![page("null")]);
        let (exit, out, _) = told(|screen| retry(&args(None, which()), &server.args(None), screen));
        let expected = "1 of 4 retried, 1 refused again, 2 not tried\n  \
                        not tried (no sink is called `a` now): sink.a.1 and 1 more\n  \
                        refused again (invalid_value: no _): c\n";
        assert_eq!((exit, out.replace("\\u{1b}", "_").as_str()), (Exit::No, expected));

        let problem = r#"{"code":"draining","detail":"the node is about to end"}"#.to_owned();
        let server = HttpServer::answering(vec![page("\"x\""), (503, problem)]);
        let (exit, out, err) = told(|screen| retry(&args(None, which()), &server.args(None), screen));
        assert_eq!(exit, Exit::Io, "{err}");
        assert!(out.starts_with("1 of 4 retried") && err.contains("about to end"), "{out}{err}");
    }

    /// If this failed, dropping would not say who did it.
    #[test]
    fn dropping_tells_who_and_why() {
        let server = HttpServer::answering(vec![(200, "{}".to_owned())]);
        let args = DropArgs { id: "s.1".to_owned(), by_hand: ByHand::of_test(), json: false };
        let (exit, out, _) = told(|screen| drop_one(&args, &server.args(None), screen));
        assert_eq!((exit, &*out), (Exit::Ok, "dropped\n"));
        let request = server.requests().remove(0);
        assert!(request.starts_with("DELETE /v1/dead-letters/s.1 "), "{request}");
        assert!(request.ends_with(r#"{"by":"ann","why":"a test"}"#), "{request}");
    }
}
