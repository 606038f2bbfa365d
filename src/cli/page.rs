//! Lists that the server gives out page by page.

use std::io::Write;

use jiter::Jiter;

use super::client::{ANSWER_TIMEOUT, Client, not_understood};
use super::failure::{Exit, Failure};
use super::render;
use super::screen::Screen;
use super::table::Table;
use crate::model::json;
use crate::model::value::{Map, Value};

/// The most items asked for at once.
const PAGE_ITEMS_MAX: u64 = 1_000;
const ITEM_DEPTH_MAX: usize = 1_000;

/// A list to be printed.
pub struct Pages<'a> {
    /// Where it is, below `/v1/`.
    pub path: &'a [&'a str],
    pub filters: &'a [(&'static str, String)],
    /// Only what comes after this.
    pub after: Option<String>,
    /// Print one JSON document a line.
    pub json: bool,
}

impl Pages<'_> {
    /// Prints so many items, or all of them; says so if there are more.
    ///
    /// # Errors
    /// There is no such list (1), the request is wrong (2), the server cannot be asked (3).
    pub fn print(
        mut self,
        client: &Client<'_>,
        most: Option<u64>,
        table: &mut Table,
        cells: impl Fn(&Map) -> Vec<String>,
        screen: &mut Screen<'_>,
    ) -> Result<Exit, Failure> {
        let mut left = most.unwrap_or(u64::MAX);
        loop {
            let mut query = vec![("limit", left.min(PAGE_ITEMS_MAX).to_string())];
            query.extend(self.filters.iter().cloned());
            query.extend(self.after.iter().map(|after| ("after", after.clone())));
            let answer = client.get(self.path, &query, ANSWER_TIMEOUT)?;
            let page = Page::parse(&answer.body, "items")?;
            page.print(self.json, table, &cells, screen)?;
            left = left.saturating_sub(page.items.len() as u64);
            let Some(next) = page.next else { return Ok(Exit::Ok) };
            if self.after.as_ref() == Some(&next) {
                return Err(not_understood("a page leads to itself"));
            }
            if left == 0 {
                screen.flush()?;
                writeln!(screen.err, "there are more: --after '{}', or --all", render::safe(&next))?;
                return Ok(Exit::Ok);
            }
            self.after = Some(next);
        }
    }
}

/// A page of documents, each exactly as the server wrote it.
pub struct Page<'a> {
    items: Vec<&'a [u8]>,
    next: Option<String>,
}

impl<'a> Page<'a> {
    /// Reads `{"<list>":[...],"next":...}`, whatever else stands there.
    pub fn parse(body: &'a [u8], list: &str) -> Result<Self, Failure> {
        Self::read(body, list).map_err(|error| not_understood(&error.description(&Jiter::new(body))))
    }

    fn read(body: &'a [u8], list: &str) -> Result<Self, jiter::JiterError> {
        let mut page = Page { items: Vec::new(), next: None };
        let mut json = Jiter::new(body);
        let mut member = json.next_object()?.map(str::to_owned);
        while let Some(name) = member {
            if name == list {
                let mut item = json.next_array()?;
                while let Some(peek) = item {
                    let start = json.current_index();
                    json.known_skip(peek)?;
                    page.items.push(json.slice_to_current(start));
                    item = json.array_step()?;
                }
            } else if name == "next" && json.peek()? != jiter::Peek::Null {
                page.next = Some(json.next_str()?.to_owned());
            } else {
                json.next_skip()?;
            }
            member = json.next_key()?.map(str::to_owned);
        }
        json.finish()?;
        Ok(page)
    }

    /// The documents.
    pub fn items(&self) -> &[&'a [u8]] {
        &self.items
    }

    /// Where the next page is, if there is one.
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Prints the items: as lines of JSON, or as rows of the table.
    pub fn print(
        &self,
        json: bool,
        table: &mut Table,
        cells: impl Fn(&Map) -> Vec<String>,
        screen: &mut Screen<'_>,
    ) -> Result<(), Failure> {
        if json {
            for item in &self.items {
                screen.out.write_all(item)?;
                writeln!(screen.out)?;
            }
            return Ok(());
        }
        let mut rows = Vec::with_capacity(self.items.len());
        for item in &self.items {
            match json::parse(item, ITEM_DEPTH_MAX).map_err(|refusal| not_understood(&refusal.message))? {
                Value::Map(item) => rows.push(cells(&item)),
                _ => return Err(not_understood("an item is no document")),
            }
        }
        Ok(table.rows(&mut *screen.out, screen.paint, &rows)?)
    }
}
