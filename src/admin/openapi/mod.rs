//! `GET /v1/openapi.json`: what the interface looks like, as an OpenAPI 3.1 document.
//!
//! The document is written by hand, since most answers are rendered from states and not from types that a macro could look
//! at, and put together from a file a resource. To add a resource: write `NAME.json` beside the others with its `paths` and
//! the `schemas` of its answers, add it to [`SECTIONS`], and run `cargo test --test openapi`: it compares the document with
//! the routes in the sources, with the methods that the real server allows, and with what it really answers.
//! Each operation has a `summary` and its own answers; what every operation has (problems, the token) is added here. What
//! several resources share stands in `base.json`. Where an answer is lines of JSON, `x-line` beside its schema leads to the
//! schema of one.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::inboxes::Path;

/// What is not a resource: the title, schemas and parameters that several share.
const BASE: &str = include_str!("base.json");
/// The resources.
const SECTIONS: [&str; 16] = [
    include_str!("events.json"),
    include_str!("entities.json"),
    include_str!("history.json"),
    include_str!("decisions.json"),
    include_str!("stream.json"),
    include_str!("export.json"),
    include_str!("pausing.json"),
    include_str!("effects.json"),
    include_str!("dead_letters.json"),
    include_str!("forget.json"),
    include_str!("sources.json"),
    include_str!("sinks.json"),
    include_str!("backup.json"),
    include_str!("replay.json"),
    include_str!("verify.json"),
    include_str!("node.json"),
];

/// The document, without the sources of one configuration.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = part(BASE);
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    for section in SECTIONS {
        let mut section = part(section);
        extend(&mut document["paths"], section["paths"].take());
        extend(&mut document["components"]["schemas"], section["schemas"].take());
    }
    complete(&mut document["paths"]);
    document
});

/// The document of every node of this version, as it is read by people.
pub fn openapi() -> String {
    format!("{:#}", *DOCUMENT)
}

/// The document of this node: with the sources that are paths of it.
pub(super) async fn show(api: web::Data<Api>) -> HttpResponse {
    if api.paths.is_empty() {
        return HttpResponse::Ok().json(&*DOCUMENT);
    }
    let mut document = DOCUMENT.clone();
    let paths = api.paths.iter().map(|path| (path.inbox.path.clone(), receiving(path)));
    let mut paths = Value::Object(paths.collect());
    complete(&mut paths);
    extend(&mut document["paths"], paths);
    HttpResponse::Ok().json(document)
}

fn receiving(path: &Arc<Path>) -> Value {
    let mut post = json!({
        "summary": format!("Events of the source `{}`, mapped as it is configured", path.inbox.name),
        "requestBody": { "required": true, "content": { "*/*": {} } },
        "responses": { "2XX": { "description": "All of it is durable; the answer is the one that is configured" } },
    });
    if !path.inbox.asks_token {
        post["security"] = json!([]);
    }
    json!({ "post": post })
}

/// Adds what every operation has.
fn complete(paths: &mut Value) {
    let operations = paths.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut);
    for (_, operation) in operations.flatten().filter(|(name, _)| *name != "parameters") {
        operation["responses"]["default"] = json!({ "$ref": "#/components/responses/Problem" });
    }
}

fn part(text: &str) -> Value {
    serde_json::from_str(text).expect("the parts of the document are constants, and a test reads them")
}

fn extend(members: &mut Value, more: Value) {
    if let (Value::Object(members), Value::Object(more)) = (members, more) {
        members.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, programs that are generated from the document would not be, or lack what two parts both name.
    #[test]
    fn the_parts_fit_together() {
        let document = &*DOCUMENT;
        let all: Vec<Value> = SECTIONS.into_iter().map(part).collect();
        let count = |name: &str| all.iter().filter_map(|it| it[name].as_object()).map(Map::len).sum::<usize>();
        assert_eq!(document["paths"].as_object().map(Map::len), Some(count("paths")), "a path stands in one part");
        let shared = part(BASE)["components"]["schemas"].as_object().map_or(0, Map::len);
        let schemas = document["components"]["schemas"].as_object().map(Map::len);
        assert_eq!(schemas, Some(count("schemas") + shared), "a schema stands in one part");
        let mut references = Vec::new();
        collect(document, &mut references);
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            }
        }
    }

    fn collect<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
        match value {
            Value::Object(members) => {
                into.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| collect(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
}
