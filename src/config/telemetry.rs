//! `[telemetry]`: where traces go, and of which events there are any.

use std::path::PathBuf;

use super::diagnostics::Located;
use super::document::{Entry, Node, Value};
use super::nats::read_path;
use super::reader::{Context, Section};
use super::secret::Secret;
use super::server::read_file;

const OTLP_HELP: &str = "write \"http://HOST:4318\", the collector's address for OTLP over HTTP";
const HEADERS_HELP: &str = "a line of the file is `name: value`, as in `authorization: Bearer …`";
/// Where a collector takes traces, below its address.
const TRACES: &str = "/v1/traces";

/// `[telemetry]`; without it there are no traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Where traces are sent to, its path included.
    pub otlp: String,
    /// The share of the events without a `traceparent` that are traced all the same.
    pub sample: f64,
    /// Where `headers` came from.
    pub headers_file: Option<PathBuf>,
    /// What each request carries for the collector to know us.
    pub headers: Vec<(String, Secret)>,
    /// Certificates to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
}

impl Telemetry {
    pub(super) fn read(cx: &mut Context, entry: Option<Entry>) -> Option<Telemetry> {
        let mut section = Section::open(cx, "telemetry", entry);
        let otlp = section.required_string("otlp", OTLP_HELP);
        if let Some(otlp) = &otlp {
            check_address(&mut section, otlp);
        }
        let sample = read_share(&mut section, "sample");
        let (headers_file, headers) = read_headers(&mut section);
        let tls_ca = read_path(&mut section, "tls_ca");
        section.finish();
        let otlp = otlp?.value;
        let base = otlp.trim_end_matches('/');
        let otlp = if base.ends_with(TRACES) { base.to_owned() } else { format!("{base}{TRACES}") };
        Some(Telemetry { otlp, sample, headers_file, headers, tls_ca })
    }
}

fn check_address(section: &mut Section, otlp: &Located<String>) {
    let rest = ["http://", "https://"].iter().find_map(|scheme| otlp.strip_prefix(scheme));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let visible = |c: char| c.is_ascii_graphic() && !"@?#".contains(c);
    if host.is_empty() || !otlp.chars().all(visible) {
        // It may hold a password, so that it is not repeated.
        section.cx.out.error(otlp.at, "this is not the address of a collector").help(OTLP_HELP);
    }
}

/// A number from 0 to 1; 0 if it is not given.
fn read_share(section: &mut Section, key: &'static str) -> f64 {
    let Some(Entry { node: Node { value, at }, .. }) = section.entry(key) else { return 0.0 };
    let share = match &value {
        Value::Float(text) => text.parse().unwrap_or(f64::NAN),
        Value::Integer(0) | Value::Broken => return 0.0,
        Value::Integer(1) => return 1.0,
        _ => f64::NAN,
    };
    if !(0.0..=1.0).contains(&share) {
        let help = "write 0.01 for one event in a hundred, 1.0 for all of them";
        section.cx.out.error(at, format!("`{key}` must be a number from 0 to 1")).help(help);
    }
    share
}

fn read_headers(section: &mut Section) -> (Option<PathBuf>, Vec<(String, Secret)>) {
    let Some(file) = section.path("headers_file") else { return (None, Vec::new()) };
    let path = section.cx.files.resolve(file.at.file, &file);
    let Some(text) = read_file(section, &file, "the headers") else { return (Some(path), Vec::new()) };
    let mut headers = Vec::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        let is_value = |value: &str| !value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if is_name(name) && is_value(value) => {
                headers.push((name.to_ascii_lowercase(), Secret::new(value)));
            }
            _ => {
                let message = format!("line {number} of {} is not a header", path.display());
                section.cx.out.error(file.at, message).help(HEADERS_HELP);
            }
        }
    }
    (Some(path), headers)
}
