//! `turnstile ls [TYPE]`: the entities of a type, page by page, or the types.

use super::client::{ANSWER_TIMEOUT, Client, ServerArgs};
use super::failure::{Exit, Failure};
use super::page::{Page, Pages};
use super::screen::Screen;
use super::table::{Align, Table};
use super::{get, render};
use crate::model::value::{Map, Value};

#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// The entity type; without it the types are listed
    #[arg(value_name = "TYPE")]
    entity: Option<String>,
    #[command(flatten)]
    only: Only,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, requires = "entity", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only keys after this one
    #[arg(long, value_name = "KEY", requires = "entity")]
    after: Option<String>,
    /// All of them
    #[arg(long, requires = "entity", conflicts_with = "limit")]
    all: bool,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Which entities are listed.
#[derive(Debug, Default, clap::Args)]
struct Only {
    /// Only keys that begin so
    #[arg(long, requires = "entity")]
    prefix: Option<String>,
    /// Only entities for which this CEL expression is true, such as "order.status == 'pending'"
    #[arg(long = "where", value_name = "CEL", requires = "entity")]
    condition: Option<String>,
    /// Only entities of which something is missing
    #[arg(long, requires = "entity")]
    incomplete: bool,
    /// Only entities that wait for another one
    #[arg(long, requires = "entity")]
    waiting: bool,
    /// Only entities that are paused themselves, or hold events
    #[arg(long, requires = "entity")]
    paused: bool,
}

/// Lists entities or types.
///
/// # Errors
/// There is no such type (1), the request is wrong (2), the server cannot be asked (3).
pub fn ls(args: &LsArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let client = Client::new(server)?;
    match &args.entity {
        None => types(args, &client, screen),
        Some(entity) => entities(args, entity, &client, screen),
    }
}

fn types(args: &LsArgs, client: &Client<'_>, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let answer = client.get(&["entities"], &[], ANSWER_TIMEOUT)?;
    let page = Page::parse(&answer.body, "types")?;
    let columns = [("type", Align::Left), ("entities", Align::Right), ("live", Align::Right)];
    let cells = |item: &Map| columns.map(|(name, _)| item.get(name).map(render::count).unwrap_or_default()).to_vec();
    page.print(args.json, &mut Table::new(columns), cells, screen)?;
    Ok(Exit::Ok)
}

fn entities(args: &LsArgs, entity: &str, client: &Client<'_>, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut table = Table::new([
        ("key", Align::Left),
        ("version", Align::Right),
        ("events", Align::Right),
        ("complete", Align::Right),
        ("updated", Align::Left),
        ("decisions", Align::Left),
    ]);
    let mut filters = Vec::new();
    filters.extend(args.only.prefix.iter().map(|prefix| ("prefix", prefix.clone())));
    filters.extend(args.only.condition.iter().map(|condition| ("where", condition.clone())));
    filters.extend(args.only.incomplete.then(|| ("incomplete", "true".to_owned())));
    filters.extend(args.only.waiting.then(|| ("waiting", "true".to_owned())));
    filters.extend(args.only.paused.then(|| ("paused", "true".to_owned())));
    let pages = Pages { path: &["entities", entity], filters: &filters, after: args.after.clone(), json: args.json };
    pages.print(client, (!args.all).then_some(args.limit), &mut table, entity_cells, screen)
}

fn entity_cells(item: &Map) -> Vec<String> {
    let cell = |name: &str, as_text: fn(&Value) -> String| item.get(name).map(as_text).unwrap_or_default();
    let made = match item.get("decisions") {
        Some(Value::Map(entries)) => get::each_decision(entries)
            .into_iter()
            .filter(|(_, entry)| matches!(entry.get("state").and_then(Value::as_str), Some("made" | "revised")))
            .map(|(name, _)| name)
            .collect(),
        _ => Vec::new(),
    };
    vec![
        cell("key", render::line),
        cell("version", render::count),
        cell("events", render::count),
        item.get("completeness").and_then(get::percent).unwrap_or_default(),
        cell("updated", render::line),
        made.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    const TYPES: &str = r#"{"types":[{"type":"order","entities":1230,"live":7},{"type":"day","entities":4,"live":0}]}"#;
    const FIRST: &str = r#"{"items":[{"type":"order","key":"a 1","version":3,"events":2,"completeness":0.5,
        "updated":"2026-11-20T10:00:00Z","decisions":{"Made":{"state":"made"},"Not":{"state":"pending"}}}],"next":"a 1"}"#;
    const SECOND: &str = r#"{"next":null,"items":[{"key":"b","version":1200,"events":1100,"completeness":1,
        "decisions":{"L":{"x":{"state":"revised"},"y":{"state":"withdrawn"}}}},{"key":"c","n":1.0}],"more":1}"#;

    fn args(entity: Option<&str>) -> LsArgs {
        LsArgs {
            entity: entity.map(str::to_owned),
            only: Only::default(),
            limit: 100,
            after: None,
            all: false,
            json: false,
        }
    }

    fn pages(pages: &[&str]) -> HttpServer {
        HttpServer::answering(pages.iter().map(|page| (200, (*page).to_owned())).collect())
    }

    #[test]
    fn types_are_listed_with_counts() {
        let table = "type   entities  live\norder     1,230     7\nday           4     0\n";
        let lines = "{\"type\":\"order\",\"entities\":1230,\"live\":7}\n{\"type\":\"day\",\"entities\":4,\"live\":0}\n";
        for (json, expected) in [(false, table), (true, lines)] {
            let server = pages(&[TYPES]);
            let outcome = told(|screen| ls(&LsArgs { json, ..args(None) }, &server.args(None), screen));
            assert_eq!(outcome, (Exit::Ok, expected.to_owned(), String::new()));
        }
    }

    #[test]
    fn all_pages_follow_each_other_in_one_table() {
        let server = pages(&[FIRST, SECOND]);
        let asked = LsArgs {
            only: Only {
                prefix: Some("x y".to_owned()),
                condition: Some("order.a == 1".to_owned()),
                incomplete: true,
                waiting: true,
                paused: true,
            },
            all: true,
            ..args(Some("order"))
        };
        let expected = "\
key  version  events  complete  updated               decisions
a 1        3       2       50%  2026-11-20T10:00:00Z  Made
b      1,200   1,100      100%                        L[x]
c
";
        let outcome = told(|screen| ls(&asked, &server.args(None), screen));
        assert_eq!(outcome, (Exit::Ok, expected.to_owned(), String::new()));
        let requests = server.requests();
        let filter = "prefix=x%20y&where=order.a%20%3D%3D%201&incomplete=true&waiting=true&paused=true";
        assert!(requests[0].starts_with(&format!("GET /v1/entities/order?limit=1000&{filter} ")), "{requests:?}");
        assert!(
            requests[1].starts_with(&format!("GET /v1/entities/order?limit=1000&{filter}&after=a%201 ")),
            "{requests:?}"
        );
    }

    #[test]
    fn json_gives_each_document_as_it_is_and_a_limit_says_that_there_is_more() {
        let server = pages(&[&FIRST.replace("\n        ", "")]);
        let asked = LsArgs { json: true, limit: 1, ..args(Some("order")) };
        let (exit, out, err) = told(|screen| ls(&asked, &server.args(None), screen));
        assert_eq!((exit, err.contains("--after 'a 1'")), (Exit::Ok, true), "{err}");
        let item = FIRST.replace("\n        ", "");
        assert_eq!(out, format!("{}\n", &item[r#"{"items":["#.len()..item.len() - r#"],"next":"a 1"}"#.len()]));
    }

    #[test]
    fn what_is_no_page_is_said_to_be_none() {
        for body in ["", "[]", "{\"items\":[", "{\"items\":[1]}", "{\"items\":[],\"next\":5}", "<html>"] {
            let server = pages(&[body]);
            let (exit, out, err) = told(|screen| ls(&args(Some("order")), &server.args(None), screen));
            assert_eq!((exit, &*out, err.contains("not one of a Turnstile")), (Exit::Io, "", true), "{body}: {err}");
        }
        let server = pages(&[r#"{"items":[],"next":"a"}"#, r#"{"items":[],"next":"a"}"#]);
        let (exit, _, err) = told(|screen| ls(&args(Some("order")), &server.args(None), screen));
        assert_eq!((exit, err.contains("leads to itself")), (Exit::Io, true), "{err}");
    }
}
