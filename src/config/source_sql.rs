//! `[source.*]` of kind `sql`: a query that is asked again and again for the rows after a cursor.

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::{Located, Location};
use super::document::Value;
use super::reader::Section;
use super::secret::Secret;
use super::server::read_secret;
use super::sql_query::SqlQuery;
use super::tuning::DURATION_MAX;
use crate::model::time::Timestamp;

/// Time between two polls, once everything that was there is read.
pub const EVERY_DEFAULT: Duration = Duration::from_secs(5);
/// Rows in a page.
pub const PAGE_ROWS_DEFAULT: u64 = 5_000;
/// The most rows in a page.
pub const PAGE_ROWS_MAX: u64 = 100_000;
/// So far behind the cursor rows are looked for that were committed late, by number.
pub const OVERLAP_IDS_DEFAULT: u64 = 1_000;
/// The same by time.
pub const OVERLAP_TIME_DEFAULT: Duration = Duration::from_mins(1);
/// The most numbers that a page may begin behind the cursor: they are asked for beside the page's rows.
pub const OVERLAP_IDS_MAX: u64 = 100_000;
/// How long a query may take until it counts as stuck.
pub const QUERY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

const URL_HELP: &str =
    "write \"postgres://USER:PASSWORD@HOST/DATABASE\", \"mysql://…\" (also for MariaDB) or \"sqlite:FILE\"";
const QUERY_HELP: &str =
    "write it like \"SELECT * FROM clockings WHERE id > :cursor ORDER BY id LIMIT :limit\", by the growing column";
const START_HELP: &str = "write a whole number, or a time for a column of times: \"2026-01-01T00:00:00Z\"";

/// Rows of a table or view as events.
#[derive(Clone, Debug)]
pub struct SqlSource {
    pub database: Database,
    pub query: SqlQuery,
    /// The growing column of the result.
    pub cursor: String,
    pub growth: Growth,
    pub every: Duration,
    /// Rows in a page.
    pub limit: u64,
    /// How long a query may take.
    pub timeout: Duration,
}

/// Where the rows are.
#[derive(Clone, Debug)]
pub enum Database {
    Postgres(Secret),
    MySql(Secret),
    Sqlite(PathBuf),
}

/// How the cursor's column grows: the value before the first row, and how far behind the cursor rows may still appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    Number { start: i64, overlap: u64 },
    Time { start: Timestamp, overlap: Duration },
}

impl SqlSource {
    pub(super) fn read(section: &mut Section) -> Option<SqlSource> {
        let database = read_database(section);
        let query = section.required_string("query", QUERY_HELP);
        let query = query.and_then(|query| read_query(section, &query));
        let cursor = section.required_string("cursor", "name the growing column of the result: cursor = \"id\"");
        let growth = read_growth(section);
        let every = section.duration("every", Duration::from_millis(10)..=DURATION_MAX).unwrap_or(EVERY_DEFAULT);
        let limit = section.integer("limit", 1..=PAGE_ROWS_MAX).unwrap_or(PAGE_ROWS_DEFAULT);
        let longest = Duration::from_hours(1);
        let timeout = section.duration("timeout", Duration::from_millis(10)..=longest).unwrap_or(QUERY_TIMEOUT_DEFAULT);
        let mapping = "map the row: event = { id = \"row.id\", type = \"'ClockedIn'\", data = \"row\" }";
        section.require("event", mapping);
        Some(SqlSource { database: database?, query: query?, cursor: cursor?.value, growth, every, limit, timeout })
    }
}

fn read_database(section: &mut Section) -> Option<Database> {
    let at = section.peek("url").or(section.peek("url_file"));
    if at.is_none() {
        section.require("url", URL_HELP);
    }
    let url = read_secret(section, "url", "url_file")?;
    let at = at.unwrap_or(Location::START);
    let (scheme, rest) = url.expose().split_once(':').unwrap_or_default();
    let message = match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => return Some(Database::Postgres(url)),
        "mysql" | "mariadb" if rest.starts_with("//") => return Some(Database::MySql(url)),
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if !path.is_empty() && !path.contains(['?', '#']) && path != ":memory:" {
                return Some(Database::Sqlite(section.cx.files.resolve(at.file, path)));
            }
            "this is not the path of an SQLite file"
        }
        "mssql" | "sqlserver" | "jdbc" => "SQL Server is not supported; PostgreSQL, MySQL, MariaDB and SQLite are",
        // It may hold a password, so that it is not repeated.
        _ => "this is not the address of a database",
    };
    section.cx.out.error(at, message).help(URL_HELP);
    None
}

fn read_query(section: &mut Section, written: &Located<String>) -> Option<SqlQuery> {
    match SqlQuery::read(written) {
        Ok(query) => Some(query),
        Err(why) => {
            section.cx.out.error(written.at, why).help(QUERY_HELP);
            None
        }
    }
}

fn read_growth(section: &mut Section) -> Growth {
    let start = section.entry("start").and_then(|entry| match &entry.node.value {
        Value::Broken => None,
        Value::Integer(number) if i64::try_from(*number).is_ok() => Some(Ok(*number as i64)),
        Value::String(text) if Timestamp::parse(text).is_some() => Timestamp::parse(text).map(Err),
        _ => {
            section.cx.out.error(entry.node.at, "`start` is neither a whole number nor a time").help(START_HELP);
            None
        }
    });
    match start.unwrap_or(Ok(0)) {
        Ok(start) => {
            let overlap = section.integer("overlap", 0..=OVERLAP_IDS_MAX).unwrap_or(OVERLAP_IDS_DEFAULT);
            Growth::Number { start, overlap }
        }
        Err(start) => {
            let overlap = section.duration("overlap", Duration::ZERO..=DURATION_MAX).unwrap_or(OVERLAP_TIME_DEFAULT);
            Growth::Time { start, overlap }
        }
    }
}
