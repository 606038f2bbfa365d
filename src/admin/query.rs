//! Reading a request's query: unknown parameters are errors, numbers are bounded.

use std::time::Duration;

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
    match web::Query::<T>::from_query(request.query_string()) {
        Ok(query) => Ok(query.into_inner()),
        Err(actix_web::error::QueryPayloadError::Deserialize(error)) => {
            Err(Problem::invalid(format!("the query is wrong: {error}")))
        }
        Err(error) => Err(Problem::invalid(format!("the query is wrong: {error}"))),
    }
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
