//! `turnstile pause|resume TYPE [KEY]`: holds the events of an entity or of a whole type, and lets them go again.

use std::io::Write;

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::mandate::ByHand;
use super::render;
use super::screen::Screen;
use crate::model::json;
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// The entity type
    #[arg(value_name = "TYPE")]
    entity: String,
    /// The key; without it the whole type
    key: Option<String>,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// Has events journaled and acknowledged, and not applied.
///
/// # Errors
/// There is no such type (1), the request is wrong (2), the server cannot be asked (3).
pub fn pause(args: &PauseArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    change(args, "pause", server, screen)
}

/// Has what is held applied, in the order it came.
///
/// # Errors
/// As those of [`pause`].
pub fn resume(args: &PauseArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    change(args, "resume", server, screen)
}

fn change(args: &PauseArgs, verb: &str, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut path = vec!["entities", &args.entity];
    path.extend(args.key.as_deref());
    path.push(verb);
    let body = json::to_string(&Value::Map(args.by_hand.members()));
    let answer = Client::new(server)?.post(&path, &body)?;
    if args.json {
        screen.out.write_all(answer.body.trim_ascii_end())?;
        writeln!(screen.out)?;
        return Ok(Exit::Ok);
    }
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    writeln!(screen.out, "{}", told(&document))?;
    Ok(Exit::Ok)
}

fn told(document: &Map) -> String {
    let text = |map: &Map, name| map.get(name).map(|it| it.as_str().map_or_else(|| json::to_string(it), render::safe));
    let what: Vec<String> = ["type", "key"].iter().filter_map(|name| text(document, name)).collect();
    let what = what.join(" ");
    let held = document.get("held").map(render::count).unwrap_or_default();
    let again = if matches!(document.get("changed"), Some(Value::Bool(false))) { "was " } else { "is " };
    match document.get("paused") {
        Some(Value::Map(paused)) => {
            let [since, by, why] = ["since", "by", "why"].map(|name| text(paused, name).unwrap_or_default());
            format!("{what} {again}paused since {since} (by {by}: {why}); events held: {held}")
        }
        _ if again == "was " => format!("{what} was not paused; events held: {held}"),
        _ => format!("{what} is resumed; events still held: {held}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    /// If this failed, an operator would pause something else, or nobody would know who it was.
    #[test]
    fn keys_and_types_are_paused_and_resumed_with_who_and_why() {
        let by_hand = r#"{"since":"2026-11-20T10:00:00Z","by":"ann","why":"a test"}"#;
        for (key, path, answer, expected) in [
            (
                Some("a/1"),
                "entities/order/a%2F1/pause",
                format!(r#"{{"type":"order","key":"a/1","paused":{by_hand},"held":2,"changed":true}}"#),
                "order a/1 is paused since 2026-11-20T10:00:00Z (by ann: a test); events held: 2\n",
            ),
            (
                None,
                "entities/order/pause",
                format!(r#"{{"type":"order","paused":{by_hand},"held":0,"changed":false}}"#),
                "order was paused since 2026-11-20T10:00:00Z (by ann: a test); events held: 0\n",
            ),
        ] {
            let server = HttpServer::answering(vec![(200, answer)]);
            let key = key.map(str::to_owned);
            let args = PauseArgs { entity: "order".to_owned(), key, by_hand: ByHand::of_test(), json: false };
            let (exit, out, err) = told(|screen| pause(&args, &server.args(None), screen));
            assert_eq!((exit, &*out, &*err), (Exit::Ok, expected, ""));
            let request = server.requests().remove(0);
            assert!(request.starts_with(&format!("POST /v1/{path} ")), "{request}");
            assert!(request.ends_with(r#"{"by":"ann","why":"a test"}"#), "{request}");
        }
        let answer = r#"{"type":"order","key":"k","paused":null,"held":3,"changed":true}"#.to_owned();
        let server = HttpServer::answering(vec![(200, answer)]);
        let args = PauseArgs {
            entity: "order".to_owned(),
            key: Some("k".to_owned()),
            by_hand: ByHand::default(),
            json: false,
        };
        let (_, out, _) = told(|screen| resume(&args, &server.args(None), screen));
        assert_eq!(out, "order k is resumed; events still held: 3\n");
        assert!(server.requests()[0].starts_with("POST /v1/entities/order/k/resume "));
    }
}
