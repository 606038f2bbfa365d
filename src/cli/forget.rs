//! `turnstile forget`: has an entity forgotten, in the journal, too; or lists what was asked for.

use std::io::Write;

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::mandate::ByHand;
use super::page::Pages;
use super::render;
use super::screen::Screen;
use super::table::{Align, Table};
use crate::model::json;
use crate::model::value::{Map, Value};

/// Have an entity forgotten for good, or list what was asked for
#[derive(Debug, clap::Args)]
pub struct ForgetArgs {
    /// The entity's type
    #[arg(value_name = "TYPE", requires = "key")]
    kind: Option<String>,
    key: Option<String>,
    /// Really: nothing brings it back
    #[arg(long, requires = "key")]
    yes: bool,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print the server's documents as they are, one a line
    #[arg(long)]
    json: bool,
}

/// Has an entity forgotten, or lists what was asked for.
///
/// # Errors
/// There is no such entity (1), `--yes` is missing (2), the server cannot be asked (3).
pub fn forget(args: &ForgetArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (Some(kind), Some(key)) = (&args.kind, &args.key) else { return list(args, server, screen) };
    if !args.yes {
        let why = format!(
            "{kind} {key} would be forgotten for good: its state, and its events in the journal; say so with --yes"
        );
        return Err(Failure::message(Exit::Usage, why));
    }
    let body = json::to_string(&Value::Map(args.by_hand.members()));
    let answer = Client::new(server)?.delete(&["entities", kind, key], &body)?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
        return Ok(Exit::Ok);
    }
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    let state = document.get("state").and_then(Value::as_str).map(render::safe).unwrap_or_default();
    writeln!(
        screen.out,
        "{} {}: {state}; `turnstile forget` tells how far it is",
        render::safe(kind),
        render::safe(key)
    )?;
    Ok(Exit::Ok)
}

fn list(args: &ForgetArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut table =
        Table::new(["type", "key", "state", "records", "asked", "by", "doing"].map(|name| (name, Align::Left)));
    let cells = |item: &Map| {
        let text =
            |name| item.get(name).map(|value| value.as_str().map_or_else(|| json::to_string(value), render::safe));
        ["type", "key", "state", "records", "asked", "by", "doing"].map(|name| text(name).unwrap_or_default()).into()
    };
    let pages = Pages { path: &["forgotten"], filters: &[], after: None, json: args.json };
    pages.print(&Client::new(server)?, None, &mut table, cells, screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn args(entity: Option<(&str, &str)>, yes: bool) -> ForgetArgs {
        let (kind, key) = entity.map(|(kind, key)| (kind.to_owned(), key.to_owned())).unzip();
        ForgetArgs { kind, key, yes, by_hand: ByHand::of_test(), json: false }
    }

    /// If this failed, a slip of the hand would delete what nothing brings back, or nobody would know who asked for it.
    #[test]
    fn it_is_asked_for_by_somebody_who_means_it() {
        let server = HttpServer::answering(Vec::new());
        let (exit, _, err) = told(|screen| forget(&args(Some(("order", "a/b")), false), &server.args(None), screen));
        assert!(exit == Exit::Usage && err.contains("--yes"), "{err}");

        let answer = r#"{"type":"order","key":"a/b","state":"asked"}"#;
        let server = HttpServer::answering(vec![(202, answer.to_owned())]);
        let (exit, out, _) = told(|screen| forget(&args(Some(("order", "a/b")), true), &server.args(None), screen));
        assert_eq!((exit, &*out), (Exit::Ok, "order a/b: asked; `turnstile forget` tells how far it is\n"));
        let request = server.requests().remove(0);
        assert!(request.starts_with("DELETE /v1/entities/order/a%2Fb "), "{request}");
        assert!(request.ends_with(r#"{"by":"ann","why":"a test"}"#), "{request}");
    }

    /// If this failed, nobody could see whether it is done.
    #[test]
    fn what_was_asked_for_is_listed_with_how_far_it_is() {
        let items = r#"{"items":[{"id":"order/a","type":"order","key":"a","by":"ann","why":"","asked":"2026-11-20T10:00:00Z",
            "state":"done","done":"2026-11-20T10:00:01Z","records":7}],"next":null}"#;
        let server = HttpServer::answering(vec![(200, items.to_owned())]);
        let (exit, out, _) = told(|screen| forget(&args(None, false), &server.args(None), screen));
        assert_eq!(exit, Exit::Ok);
        assert!(out.contains("order  a    done   7        2026-11-20T10:00:00Z  ann"), "{out}");
        assert!(server.requests()[0].starts_with("GET /v1/forgotten?limit=1000 "));
    }
}
