//! The subcommand: asking for pages until there is enough, and the lines around the records.

use std::io::Write;

use super::told::{Whose, record};
use crate::cli::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use crate::cli::failure::{Exit, Failure};
use crate::cli::page::Page;
use crate::cli::render;
use crate::cli::screen::Screen;
use crate::model::json;
use crate::model::value::{Map, Value};

/// The most records asked for at once.
const PAGE_RECORDS_MAX: u64 = 1_000;
const DEPTH_MAX: usize = 1_000;

/// Tell what happened to one entity: each event, what it changed and why, and what followed
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The entity type
    #[arg(value_name = "TYPE", required_unless_present = "correlation", requires = "key")]
    entity: Option<String>,
    /// The key
    key: Option<String>,
    /// Instead: everything that this correlation id, or this event's id, has to do with, across entities
    #[arg(long, value_name = "ID", conflicts_with = "entity")]
    correlation: Option<String>,
    /// The newest so many records; with --correlation the first ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    /// All records
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Tells what happened.
///
/// # Errors
/// There is no such entity (1), the request is wrong (2), the server cannot be asked (3).
pub fn explain(args: &ExplainArgs, server: &ServerArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let client = Client::new(server)?;
    match (&args.correlation, &args.entity, &args.key) {
        (Some(id), _, _) => correlation(args, &client, id, screen),
        (None, Some(entity), Some(key)) if args.all => {
            whole(args, &client, &["entities", entity, key, "history"], screen)
        }
        (None, Some(entity), Some(key)) => newest(args, &client, &["entities", entity, key, "history"], screen),
        _ => Err(Failure::message(Exit::Usage, "which entity? TYPE and KEY, or --correlation ID".to_owned())),
    }
}

/// The newest records, the last one at the end.
fn newest(args: &ExplainArgs, client: &Client<'_>, path: &[&str], screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (mut left, mut before, mut found) = (args.limit, None, Vec::new());
    loop {
        let mut query = vec![("order", "desc".to_owned()), ("limit", left.min(PAGE_RECORDS_MAX).to_string())];
        query.extend(before.take().map(|before| ("before", before)));
        let answer = client.get(path, &query, ANSWER_TIMEOUT)?;
        let page = Page::parse(&answer.body, "items")?;
        if found.is_empty() && !args.json {
            heading(screen, &head(&answer.body)?)?;
        }
        left = left.saturating_sub(page.items().len() as u64);
        found.extend(page.items().iter().map(|item| item.to_vec()));
        match page.next() {
            Some(next) if left > 0 && !page.items().is_empty() => before = Some(next.to_owned()),
            more => {
                if more.is_some() && !args.json {
                    let shown = render::grouped(found.len() as i64);
                    writeln!(
                        screen.out,
                        "\n{}",
                        screen.paint.dim(&format!("the newest {shown} records; --all tells all"))
                    )?;
                }
                break;
            }
        }
    }
    let mut teller = Teller::new(args, Whose::Known);
    found.iter().rev().try_for_each(|item| teller.tell(item, screen))?;
    Ok(Exit::Ok)
}

/// All records, page by page.
fn whole(args: &ExplainArgs, client: &Client<'_>, path: &[&str], screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let (mut teller, mut after) = (Teller::new(args, Whose::Known), None::<String>);
    loop {
        let mut query = vec![("limit", PAGE_RECORDS_MAX.to_string())];
        query.extend(after.iter().map(|after| ("after", after.clone())));
        let answer = client.get(path, &query, ANSWER_TIMEOUT)?;
        let page = Page::parse(&answer.body, "items")?;
        if after.is_none() && !args.json {
            heading(screen, &head(&answer.body)?)?;
        }
        page.items().iter().try_for_each(|item| teller.tell(item, screen))?;
        match page.next() {
            Some(next) if after.as_deref() != Some(next) => after = Some(next.to_owned()),
            Some(_) => return Err(not_understood("a page leads to itself")),
            None => return Ok(Exit::Ok),
        }
    }
}

/// What one correlation id has to do with, from the first record on.
fn correlation(args: &ExplainArgs, client: &Client<'_>, id: &str, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut teller = Teller::new(args, Whose::Told);
    let (mut after, mut found): (Option<String>, u64) = (None, 0);
    loop {
        let mut query = vec![("limit", left.min(PAGE_RECORDS_MAX).to_string())];
        query.extend(after.iter().map(|after| ("after", after.clone())));
        let answer = client.get(&["correlations", id], &query, ANSWER_TIMEOUT)?;
        let page = Page::parse(&answer.body, "items")?;
        page.items().iter().try_for_each(|item| teller.tell(item, screen))?;
        found += page.items().len() as u64;
        left = left.saturating_sub(page.items().len() as u64);
        match page.next() {
            Some(next) if left == 0 => {
                screen.flush()?;
                writeln!(screen.err, "there may be more after LSN {}: --all looks on", render::safe(next))?;
                break;
            }
            Some(next) if after.as_deref() != Some(next) => after = Some(next.to_owned()),
            Some(_) => return Err(not_understood("a page leads to itself")),
            None => break,
        }
    }
    if found == 0 {
        screen.flush()?;
        writeln!(screen.err, "no record in the journal has to do with {}", render::safe(id))?;
    }
    Ok(if found == 0 { Exit::No } else { Exit::Ok })
}

/// Writes record after record.
struct Teller<'a> {
    args: &'a ExplainArgs,
    whose: Whose,
    last: Option<Map>,
}

impl<'a> Teller<'a> {
    fn new(args: &'a ExplainArgs, whose: Whose) -> Self {
        Teller { args, whose, last: None }
    }

    fn tell(&mut self, item: &[u8], screen: &mut Screen<'_>) -> Result<(), Failure> {
        if self.args.json {
            screen.out.write_all(item)?;
            writeln!(screen.out)?;
            return Ok(());
        }
        let account = map(item)?;
        record(&mut *screen.out, screen.paint, &account, self.last.as_ref(), self.whose)?;
        self.last = Some(account);
        Ok(())
    }
}

fn map(document: &[u8]) -> Result<Map, Failure> {
    match json::parse(document, DEPTH_MAX).map_err(|refusal| not_understood(&refusal.message))? {
        Value::Map(map) => Ok(map),
        _ => Err(not_understood("no document")),
    }
}

/// The members of an answer that are about the entity.
fn head(body: &[u8]) -> Result<Map, Failure> {
    let mut head = map(body)?;
    head.remove("items");
    Ok(head)
}

/// Which entity, and what is known of its history as a whole.
fn heading(screen: &mut Screen<'_>, head: &Map) -> Result<(), Failure> {
    let paint = screen.paint;
    let text = |name| head.get(name).map(render::line).unwrap_or_default();
    let duplicates = match head.get("duplicates") {
        Some(Value::Int(1)) => "1 duplicate".to_owned(),
        Some(count) => format!("{} duplicates", render::count(count)),
        None => String::new(),
    };
    let version = head.get("version").map(render::count).unwrap_or_default();
    let known = format!("version {version}, {duplicates} came");
    writeln!(screen.out, "{} {}", text("type"), paint.bold(&text("key")))?;
    writeln!(screen.out, "  {}", paint.dim(&known))?;
    match head.get("trimmed_before") {
        None | Some(Value::Null) => {}
        Some(lsn) => {
            let gone = format!("its records before LSN {} are no longer in the journal", render::line(lsn));
            writeln!(screen.out, "  {}", paint.yellow(&gone))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{HttpServer, told};

    fn args(limit: u64) -> ExplainArgs {
        let (entity, key) = (Some("order".to_owned()), Some("o/1".to_owned()));
        ExplainArgs { entity, key, correlation: None, limit, all: false, json: true }
    }

    fn page(lsns: &[u64], next: &str) -> (u16, String) {
        let items: Vec<String> = lsns.iter().map(|lsn| format!(r#"{{"lsn":{lsn}}}"#)).collect();
        let head = r#""type":"order","key":"o/1","version":4,"duplicates":1,"trimmed_before":2"#;
        (200, format!(r#"{{{head},"items":[{}],"next":{next}}}"#, items.join(",")))
    }

    /// If this failed, someone would read the newest records in the wrong order, or not the newest.
    #[test]
    fn the_newest_records_are_told_with_the_last_at_the_end() {
        let server = HttpServer::answering(vec![page(&[9, 7], r#""7""#), page(&[4], "null")]);
        let (exit, out, err) = told(|screen| explain(&args(5), &server.args(None), screen));
        assert_eq!((exit, &*out, &*err), (Exit::Ok, "{\"lsn\":4}\n{\"lsn\":7}\n{\"lsn\":9}\n", ""));
        let requests = server.requests();
        assert!(requests[0].starts_with("GET /v1/entities/order/o%2F1/history?order=desc&limit=5 "), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /v1/entities/order/o%2F1/history?order=desc&limit=3&before=7 "));

        let server = HttpServer::answering(vec![page(&[9, 7], r#""7""#)]);
        let (_, out, _) = told(|screen| explain(&ExplainArgs { json: false, ..args(2) }, &server.args(None), screen));
        for line in
            ["order o/1\n", "version 4, 1 duplicate came\n", "before LSN 2 are no longer", "the newest 2 records"]
        {
            assert!(out.contains(line), "{line} is missing in\n{out}");
        }
    }

    #[test]
    fn all_records_and_correlations_are_asked_for_page_by_page() {
        let server = HttpServer::answering(vec![page(&[1, 2], r#""2""#), page(&[3], "null")]);
        let (_, out, _) = told(|screen| explain(&ExplainArgs { all: true, ..args(2) }, &server.args(None), screen));
        assert_eq!(out, "{\"lsn\":1}\n{\"lsn\":2}\n{\"lsn\":3}\n");
        assert!(server.requests()[1].contains("history?limit=1000&after=2 "));

        let server = HttpServer::answering(vec![page(&[], r#""8""#), page(&[], "null")]);
        let correlation = Some("c 1".to_owned());
        let args = ExplainArgs { correlation, entity: None, key: None, ..args(5) };
        let (exit, out, err) = told(|screen| explain(&args, &server.args(None), screen));
        assert_eq!((exit, &*out), (Exit::No, ""));
        assert!(err.contains("has to do with c 1"), "{err}");
        assert!(server.requests()[1].starts_with("GET /v1/correlations/c%201?limit=5&after=8 "));
    }
}
