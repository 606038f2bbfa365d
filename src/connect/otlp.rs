//! The collector that traces are sent to: OTLP over HTTP, as protobuf.

use std::io;
use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, redirect};

use crate::config::Telemetry;
use crate::trust::Tls;

/// The longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What sends spans of the server called `name`; nothing is connected yet.
///
/// # Errors
/// When a certificate cannot be read, or the address is none.
pub fn otlp_exporter(name: &str, declared: &Telemetry) -> io::Result<SpanExporter> {
    let tls = Tls { ca: declared.tls_ca.as_deref(), identity: None };
    let client = Client::builder()
        .tls_backend_preconfigured(tls.client_config()?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .default_headers(headers(declared)?)
        .timeout(TIMEOUT)
        .build()
        .map_err(io::Error::other)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(&declared.otlp)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(io::Error::other)?;
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(&Resource::builder().with_service_name(name.to_owned()).with_attribute(version).build());
    Ok(exporter)
}

fn headers(declared: &Telemetry) -> io::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &declared.headers {
        let mut value = HeaderValue::from_str(value.expose()).map_err(io::Error::other)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?, value);
    }
    Ok(headers)
}
