//! Reads the `request` of an effect. Messages never repeat texts of the URL or of headers: they may hold secrets.

use super::diagnostics::Located;
use super::document::{Entry, Node, Value};
use super::entities::{Json, REQUEST_JSON_DEPTH_MAX, Request, Template, TemplatePart};
use super::names::suggest;
use super::reader::{Context, Section};
use super::template::hide_text;
use crate::model::json;

/// The table with headers.
pub(super) const HEADERS: &str = "headers";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Methods of requests without a body.
const BODILESS: [&str; 2] = ["GET", "HEAD"];
const URL_HELP: &str = "write \"https://HOST/path\"; parts of the path can be expressions: {order.id}";
/// Headers that a call has of its own.
const OWN_HEADERS: [&str; 5] = ["idempotency-key", "content-length", "host", "transfer-encoding", "connection"];

impl Request {
    /// Reads a request; none if it is not there or wrong.
    pub(super) fn read(mut section: Section) -> Option<Request> {
        let has_json = section.peek("json").is_some();
        let method = read_method(&mut section, has_json);
        section.require("url", URL_HELP);
        let url = section.entry("url").and_then(|entry| Template::read(section.cx, entry.node, "url"));
        if let Some(url) = &url {
            check_url(section.cx, url);
        }
        let headers = read_headers(section.section(HEADERS));
        let json = section.entry("json").and_then(|entry| read_json(section.cx, entry.node, "json", 0));
        section.finish();
        Some(Request { method, url: url?, headers, json })
    }
}

fn read_method(section: &mut Section, has_json: bool) -> String {
    let default = if has_json { "POST" } else { "GET" };
    let Some(written) = section.string("method") else { return default.into() };
    let method = written.to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        let help = suggest(&method, METHODS);
        section.cx.out.error(written.at, format!("`{}` is not a method of HTTP", written.value)).help = help;
    } else if has_json && BODILESS.contains(&method.as_str()) {
        let help = format!("leave `json` out, or method = \"{}\"", METHODS[2]);
        section.cx.out.error(written.at, format!("a {method} request has no body")).help(help);
    }
    method
}

/// What can be said about the URL before its expressions have values.
fn check_url(cx: &mut Context, url: &Template) {
    let texts = url.parts.iter().filter_map(|part| match part {
        TemplatePart::Text(text) => Some(text.as_str()),
        TemplatePart::Expr(_) => None,
    });
    let has_blanks = texts.clone().any(|text| text.contains(|c: char| c.is_whitespace() || c.is_control()));
    let first = match url.parts.first() {
        None => "",
        Some(TemplatePart::Text(text)) => text,
        // All of it comes from the entity.
        Some(TemplatePart::Expr(_)) => "https://{}",
    };
    let after_scheme = first.strip_prefix("https://").or_else(|| first.strip_prefix("http://"));
    let host = after_scheme.and_then(|rest| rest.split(['/', '?', '#']).next());
    let is_open = url.parts.len() > 1 && host == after_scheme;
    let (message, help) = match host {
        None => ("`url` must begin with https:// or http://", URL_HELP),
        Some("") if !is_open => ("`url` names no host", URL_HELP),
        Some(host) if host.contains('@') => {
            ("`url` cannot hold a user or password", "put them into the header `authorization`")
        }
        Some(_) if has_blanks => ("`url` has a space or control character", "write a space as %20"),
        Some(_) => return,
    };
    cx.out.error(url.at, message).help(help);
}

fn read_headers(section: Section) -> Vec<(Located<String>, Template)> {
    let mut headers: Vec<(Located<String>, Template)> = Vec::new();
    let (cx, _, entries) = section.into_parts();
    for Entry { name, node } in entries {
        hide_text(node.at, &cx.files, &mut cx.out);
        let name = name.map(|name| name.to_ascii_lowercase());
        check_header_name(cx, &name);
        if let Some((first, _)) = headers.iter().find(|(first, _)| first.value == name.value) {
            cx.out
                .error(name.at, format!("the header `{}` is given twice", name.value))
                .help("capital and small letters make no difference; remove one of the two")
                .also(first.at);
        }
        if let Some(value) = Template::read(cx, node, &name) {
            check_header_value(cx, &name, &value);
            headers.push((name, value));
        }
    }
    headers
}

fn check_header_name(cx: &mut Context, name: &Located<String>) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        let message = format!("`{}` cannot be the name of a header", name.value);
        cx.out.error(name.at, message).help("names of headers are made of letters, digits and `-`");
    } else if OWN_HEADERS.contains(&name.as_str()) {
        let message = format!("the header `{}` cannot be given", name.value);
        cx.out.error(name.at, message).help("every call has one of its own; remove it");
    }
}

fn check_header_value(cx: &mut Context, name: &str, value: &Template) {
    let is_right = |c: char| c == '\t' || c == ' ' || c.is_ascii_graphic();
    let wrong = |part: &TemplatePart| matches!(part, TemplatePart::Text(text) if !text.chars().all(is_right));
    if value.parts.iter().any(wrong) {
        let message = format!("the header `{name}` has a character that headers cannot have");
        cx.out.error(value.at, message).help("headers are one line of ASCII characters");
    }
}

/// A document of which `key` is the name, so many lists and tables deep.
fn read_json(cx: &mut Context, node: Node, key: &str, depth: usize) -> Option<Json> {
    let Node { value, at } = node;
    if matches!(value, Value::List(_) | Value::Table(_)) && depth == REQUEST_JSON_DEPTH_MAX {
        let message = format!("`json` is nested more than {REQUEST_JSON_DEPTH_MAX} deep");
        cx.out.error(at, message).help("an expression can make what is deeper: \"{'name': {'name': …}}\"");
        return None;
    }
    match value {
        Value::Integer(integer) => read_number(cx, &integer.to_string(), at),
        Value::Float(text) => read_number(cx, &text, at),
        Value::Boolean(truth) => Some(Json::Literal(truth.to_string())),
        Value::List(items) => {
            let items = items.into_iter().filter_map(|item| read_json(cx, item, key, depth + 1));
            Some(Json::List(items.collect()))
        }
        Value::Table(entries) => {
            let entries = entries.into_iter().filter_map(|Entry { name, node }| {
                let value = read_json(cx, node, &name, depth + 1)?;
                Some((name, value))
            });
            Some(Json::Table(entries.collect()))
        }
        value => cx.expr(Node { value, at }, key).map(Json::Expr),
    }
}

fn read_number(cx: &mut Context, text: &str, at: super::diagnostics::Location) -> Option<Json> {
    let Some(number) = json::number(text.trim_start_matches('+')) else {
        cx.out.error(at, format!("JSON has no number {text}")).help("write it in digits");
        return None;
    };
    let mut written = Vec::new();
    json::write(&mut written, &number);
    Some(Json::Literal(String::from_utf8_lossy(&written).into_owned()))
}
