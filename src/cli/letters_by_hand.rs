//! `turnstile dead-letters retry|drop`: tries dead letters again, or says that nobody wants them.

use std::io::Write;

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::mandate::ByHand;
use super::render;
use super::screen::Screen;
use crate::model::json;
use crate::model::value::{Map, Value};

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
    let names = ["asked", "retried", "refused", "not_tried", "pending"];
    let mut sums = [0; 5];
    let mut after: Option<String> = None;
    loop {
        let answer =
            client.post(&["dead-letters", "retry"], &json::to_string(&Value::Map(args.body(after.as_deref()))))?;
        let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
        for (sum, name) in sums.iter_mut().zip(names) {
            if let Some(Value::Int(count)) = document.get(name) {
                *sum += count;
            }
        }
        if args.json {
            print_raw(&answer.body, screen)?;
        }
        match document.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let [asked, retried, refused, not_tried, pending] = sums;
    if !args.json {
        let pending = if pending > 0 { format!(", {pending} still under way") } else { String::new() };
        writeln!(screen.out, "{retried} of {asked} retried, {refused} refused again, {not_tried} not tried{pending}")?;
    }
    Ok(if refused + not_tried > 0 { Exit::No } else { Exit::Ok })
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
