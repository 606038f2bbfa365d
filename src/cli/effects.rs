//! `turnstile effects ls|resolve|retry`: calls that have not succeeded, and what a person says of them.

use std::io::Write;

use clap::Subcommand;

use super::client::{Client, ServerArgs, not_understood};
use super::failure::{Exit, Failure};
use super::letters_by_hand::print_raw;
use super::mandate::ByHand;
use super::page::Pages;
use super::render;
use super::screen::Screen;
use super::table::{Align, Table};
use crate::model::json;
use crate::model::value::{Map, Value};

/// The deepest response that is sent.
const RESPONSE_DEPTH_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
pub struct EffectsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List effects that are open, failed, or of which nobody knows what became of them
    Ls(LsArgs),
    /// Say what became of one
    Resolve(ResolveArgs),
    /// Ask for one that failed, or of which nobody knows, once more: the same request under the same id
    Retry(RetryArgs),
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Only those of this entity type
    #[arg(long, value_name = "TYPE")]
    entity: Option<String>,
    /// Only those of this name
    #[arg(long, value_name = "NAME")]
    effect: Option<String>,
    /// Only those in this state: requested, succeeded, failed, unknown
    #[arg(long)]
    state: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only those after this one
    #[arg(long, value_name = "TYPE/KEY")]
    after: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Which effect is meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// The entity type
    #[arg(value_name = "TYPE")]
    entity: String,
    key: String,
    effect: String,
    #[command(flatten)]
    by_hand: ByHand,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ResolveArgs {
    #[command(flatten)]
    which: Which,
    /// What became of it: succeeded or failed
    state: String,
    /// The HTTP status that it was answered with
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(100..=599))]
    status: Option<u16>,
    /// The answer's body, as JSON
    #[arg(long, value_name = "JSON")]
    response: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RetryArgs {
    #[command(flatten)]
    which: Which,
}

/// Lists effects, or says something of one.
///
/// # Errors
/// There is no such effect, or nothing to do (1), the request is wrong (2), the server cannot be asked (3).
pub fn effects(args: &EffectsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => list(args, server, screen),
        Command::Resolve(args) => resolve(args, server, screen),
        Command::Retry(args) => say(&args.which, "retry", args.which.by_hand.members(), server, screen),
    }
}

fn list(args: &LsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let columns = ["type", "key", "effect", "state", "attempts", "at", "status", "error"];
    let align = |name| (name, if name == "attempts" { Align::Right } else { Align::Left });
    let mut table = Table::new(columns.map(align));
    let cells = |item: &Map| columns.map(|name| item.get(name).map(text).unwrap_or_default()).to_vec();
    let filters = [("type", &args.entity), ("effect", &args.effect), ("state", &args.state)];
    let filters: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let pages = Pages { path: &["effects"], filters: &filters, after: args.after.clone(), json: args.json };
    pages.print(&Client::new(server)?, (!args.all).then_some(args.limit), &mut table, cells, screen)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        value => value.as_str().map_or_else(|| json::to_string(value), render::safe),
    }
}

fn resolve(args: &ResolveArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut members = args.which.by_hand.members();
    members.insert("state", Value::string(&*args.state));
    if let Some(status) = args.status {
        members.insert("status", Value::Int(i64::from(status)));
    }
    if let Some(response) = &args.response {
        let response = json::parse(response.as_bytes(), RESPONSE_DEPTH_MAX);
        let wrong = |why: &str| Failure::message(Exit::Usage, format!("--response is no JSON: {why}"));
        members.insert("response", response.map_err(|refusal| wrong(&refusal.message))?);
    }
    say(&args.which, "resolve", members, server, screen)
}

fn say(which: &Which, verb: &str, members: Map, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let path = ["entities", &which.entity, &which.key, "effects", &which.effect, verb];
    let answer = Client::new(server)?.post(&path, &json::to_string(&Value::Map(members)))?;
    if which.json {
        print_raw(&answer.body, screen)?;
        return Ok(Exit::Ok);
    }
    let Value::Map(document) = answer.document()? else { return Err(not_understood("no document")) };
    let [id, state] = ["id", "state"].map(|name| document.get(name).map(text).unwrap_or_default());
    writeln!(screen.out, "{id} is {state}")?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn which() -> Which {
        let [entity, key, effect] = ["application", "a/1", "bureau"].map(str::to_owned);
        Which { entity, key, effect, by_hand: ByHand::of_test(), json: false }
    }

    const SHOWN: &str = r#"{"type":"application","key":"a/1","effect":"bureau","state":"unknown","attempts":1,
        "id":"application/a%2F1/bureau/1","at":"2026-11-20T10:00:00Z","status":null,"error":"no \u001b answer"}"#;

    /// If this failed, nobody would find what hangs.
    #[test]
    fn effects_are_listed() {
        let server = HttpServer::answering(vec![(200, format!(r#"{{"items":[{SHOWN}],"next":null}}"#))]);
        let args = LsArgs {
            entity: Some("application".to_owned()),
            effect: None,
            state: Some("unknown".to_owned()),
            limit: 5,
            after: None,
            all: false,
            json: false,
        };
        let (exit, out, _) = told(|screen| list(&args, &server.args(None), screen));
        assert!(exit == Exit::Ok && out.contains("application  a/1  bureau  unknown"), "{out}");
        assert!(!out.contains('\u{1b}'));
        assert!(server.requests()[0].starts_with("GET /v1/effects?limit=5&type=application&state=unknown "));
    }

    /// If this failed, another outcome would be recorded than the one that was given.
    #[test]
    fn what_is_said_of_an_effect_is_sent() {
        let server = HttpServer::answering(vec![(200, SHOWN.replace("unknown", "succeeded"))]);
        let args = ResolveArgs {
            which: which(),
            state: "succeeded".to_owned(),
            status: Some(200),
            response: Some(r#"{"score":7}"#.to_owned()),
        };
        let (exit, out, _) = told(|screen| resolve(&args, &server.args(None), screen));
        assert_eq!((exit, &*out), (Exit::Ok, "application/a%2F1/bureau/1 is succeeded\n"));
        let request = server.requests().remove(0);
        assert!(request.starts_with("POST /v1/entities/application/a%2F1/effects/bureau/resolve "), "{request}");
        let body = r#"{"by":"ann","response":{"score":7},"state":"succeeded","status":200,"why":"a test"}"#;
        assert!(request.ends_with(body), "{request}");
        let wrong = ResolveArgs { response: Some("{".to_owned()), ..args };
        let (exit, ..) = told(|screen| resolve(&wrong, &HttpServer::answering(Vec::new()).args(None), screen));
        assert_eq!(exit, Exit::Usage);
    }
}
