//! The HTTP client of what goes out: it does what it is told, once. It follows no redirects, tries nothing again, goes through
//! no proxy that the environment names, and keeps no cookies.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, redirect};
use rustls::ClientConfig;

use super::pauses::retry_after;
use crate::model::trace::TraceContext;

/// A client to be refined.
pub(super) fn client(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("turnstile/", env!("CARGO_PKG_VERSION")))
}

/// How long an answer asks to be left alone.
pub(super) fn pause_of(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?))
}

/// Has a request say to which trace it belongs.
pub(super) fn carry(trace: &TraceContext, headers: &mut HeaderMap) {
    for (name, value) in trace.headers() {
        // Contexts hold nothing that headers cannot.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// What went wrong at the bottom of it; the layers above only say that a request failed, and to which URL, which may hold
/// what is nobody's business.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
