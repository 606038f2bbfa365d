//! Reading a request's query: unknown parameters are errors, numbers are bounded.

use std::time::Duration;

use actix_web::error::QueryPayloadError;
use actix_web::{HttpRequest, web};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::model::time::Span;

/// Items of a page, unless the request says how many.
pub(super) const PAGE_ITEMS_DEFAULT: usize = 100;
/// Most items of a page.
pub(super) const PAGE_ITEMS_MAX: usize = 1000;
/// A page ends before what would take it beyond so many bytes, unless that is its first item.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
/// How long a request waits unless it says how long.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time that a request waits.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// The parameters of a request.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let text = request.query_string();
    read(text).map_err(|error| {
        // What is wrong with a value is said without its name, so that each is looked at by itself.
        let wrong = text.split('&').find_map(|pair| Some((pair, read::<T>(pair).err().filter(|it| !is_of_names(it))?)));
        match wrong.and_then(|(pair, why)| Some((read::<Vec<(String, String)>>(pair).ok()?.pop()?, why))) {
            Some(((name, value), why)) => Problem::invalid(format!("{name} is {value:.60?}: {why}")),
            None => Problem::invalid(format!("the query is wrong: {error}")),
        }
    })
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    match web::Query::<T>::from_query(text) {
        Ok(query) => Ok(query.into_inner()),
        Err(QueryPayloadError::Deserialize(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a parameter is unknown or missing, which is said with its name.
fn is_of_names(error: &str) -> bool {
    error.starts_with("unknown field") || error.starts_with("missing field")
}

/// How many items a page has.
pub(super) fn page_items(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE_ITEMS_DEFAULT),
        Some(limit @ 1..=PAGE_ITEMS_MAX) => Ok(limit),
        Some(limit) => Err(Problem::invalid(format!("limit is {limit}; it may be 1 to {PAGE_ITEMS_MAX}"))),
    }
}

/// How long to wait.
pub(super) fn timeout(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(TIMEOUT_DEFAULT) };
    let nanos = Span::parse(text).and_then(|span| u64::try_from(span.as_nanos()).ok()).map(Duration::from_nanos);
    match nanos {
        Some(timeout) if timeout <= TIMEOUT_MAX => Ok(timeout),
        Some(_) => Err(Problem::invalid(format!("timeout is {text:.60?}; it may be up to 5m"))),
        None => Err(Problem::invalid(format!("timeout is {text:.60?}; write it like 250ms, 30s or 1m30s"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only whether it can be read counts
    struct Asked {
        r#type: String,
        limit: Option<usize>,
        closed: Option<bool>,
    }

    /// If this failed, nobody could tell which of the parameters is wrong.
    #[test]
    fn what_is_wrong_is_named() {
        for (asked, expected) in [
            ("type=a&limit=3&closed=true", ""),
            ("type=a&closed=false&limit=-1", "limit is \"-1\": invalid digit"),
            ("closed=m%26&type=a", "closed is \"m&\": provided string was not"),
            ("limit=5", "the query is wrong: missing field `type`"),
            ("type=a&limt=5", "the query is wrong: unknown field `limt`"),
            ("type=a&limit=1&limit=2", "the query is wrong: duplicate field `limit`"),
        ] {
            let request = actix_web::test::TestRequest::with_uri(&format!("/?{asked}")).to_http_request();
            let told = query::<Asked>(&request).err().map(|problem| problem.to_string()).unwrap_or_default();
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{asked}: {told}");
        }
    }

    /// If this failed, requests would wait for ever or not at all.
    #[test]
    fn timeouts_are_read_and_bounded() {
        for (text, expected_ms) in [
            (None, Some(30_000)),
            (Some("250ms"), Some(250)),
            (Some("1m30s"), Some(90_000)),
            (Some("5m"), Some(300_000)),
            (Some("0s"), Some(0)),
            (Some("5m1s"), None),
            (Some("-1s"), None),
            (Some("30"), None),
            (Some(""), None),
            (Some("soon"), None),
        ] {
            assert_eq!(timeout(text).ok(), expected_ms.map(Duration::from_millis), "{text:?}");
        }
    }
}
