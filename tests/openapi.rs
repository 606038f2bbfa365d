//! The OpenAPI document beside the real server: it has every route and no other, the methods that are allowed, and what is
//! answered is what it says.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::orders::{RULES, created, event, feed, paid, reserved, shipped};
use common::{EventStream, Server, Setup, wait_for};
use serde_json::{Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// What stands for the parameters of paths.
const PARAMETERS: [(&str, &str); 4] = [("{type}", "order"), ("{key}", "o-1"), ("{id}", "o-1-paid"), ("{name}", "tcp")];
/// Resources of which there is something to answer with, and how it is asked for.
const ANSWERED: [(&str, &str); 10] = [
    ("/v1/forgotten", ""),
    ("/v1/entities", ""),
    ("/v1/entities/{type}", "?limit=2"),
    ("/v1/entities/{type}/{key}", ""),
    ("/v1/entities/{type}/{key}/events/{id}", "?source=%2Ftest"),
    ("/v1/decisions", ""),
    ("/v1/dead-letters", ""),
    ("/v1/sources", ""),
    ("/v1/status", ""),
    ("/v1/openapi.json", ""),
];

/// The document, and what it says.
struct Document(Value);

impl Document {
    fn of(server: &Server) -> Document {
        Document(server.get("/v1/openapi.json").expect(200).json())
    }

    fn paths(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0["paths"].as_object().expect("paths").iter().map(|(path, item)| (path.as_str(), item))
    }

    /// What is wrong with a value, by a schema of the document.
    fn mistakes(&self, schema: &Value, value: &Value) -> Vec<String> {
        let schema = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::draft202012::new(&schema).expect("a schema");
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect()
    }

    #[track_caller]
    fn check(&self, schema: &str, value: &Value) {
        let mistakes = self.mistakes(&json!({ "$ref": format!("#/components/schemas/{schema}") }), value);
        assert!(mistakes.is_empty(), "{schema}: {mistakes:#?}\n{value}");
    }
}

/// Literals of the sources of the interface that are patterns of paths.
fn routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin"), &mut found);
    assert!(found.len() > 10, "the routes were not found: {found:?}");
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the sources").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            found.extend(code.split('"').filter(|literal| is_route(literal)).map(str::to_owned));
        }
    }
}

fn is_route(literal: &str) -> bool {
    let known = ["/v1/", "/healthz", "/readyz", "/metrics"].iter().any(|start| literal.starts_with(start));
    // Texts that are filled in, and sentences, are none.
    known && !literal.contains("{}") && !literal.contains("{kind}") && !literal.contains([' ', '\n'])
}

fn filled(path: &str) -> String {
    PARAMETERS.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// Orders in every shape that answers show.
fn fed() -> Server {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o-1", "successful"), created("o-1"), reserved("o-1"), shipped("o-1"), paid("o-2", "failed")]);
    let mut later = event("again", "PaymentProcessed", "o-1", &json!({"status": "failed"}));
    later["time"] = "2026-11-20T11:00:00Z".into();
    feed(&server, &[later, created("o-3")]);
    wait_for("the sink has delivered", || (server.decisions_file().len() >= 3).then_some(()));
    server
}

/// If this failed, programs made from the document would not know of a resource, or ask for one that is not there.
#[test]
fn the_document_has_every_route_and_its_methods() {
    let server = fed();
    let document = Document::of(&server);
    assert_eq!(document.0["openapi"], "3.1.0");
    let described: BTreeSet<String> = document.paths().map(|(path, _)| path.to_owned()).collect();
    let served = routes();
    assert_eq!(described, served, "what is described, and the routes of src/admin");
    for (path, item) in document.paths() {
        // No resource knows it, and what it knows instead stands in the answer.
        let answer = server.request("TRACE", &filled(path), &[], b"");
        assert_eq!(answer.status, 405, "{path} is served: {}", answer.text());
        let allowed = answer.header("allow").unwrap_or_default().to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(", ").filter(|method| *method != "head").collect();
        let methods: BTreeSet<&str> = METHODS.into_iter().filter(|method| item.get(*method).is_some()).collect();
        assert_eq!(methods, allowed, "methods of {path}");
    }
    let printed = server.cli(&["schema"]);
    assert_eq!(printed.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).expect("JSON"), document.0, "what `schema` prints");
}

/// If this failed, programs made from the document would not understand what they are answered.
#[test]
fn what_is_answered_is_what_is_described() {
    let server = fed();
    let document = Document::of(&server);
    for (path, item) in document.paths().filter(|(_, item)| item.get("get").is_some()) {
        let query = ANSWERED.iter().find(|(known, _)| *known == path).map(|(_, query)| *query);
        let answer = server.get(&(filled(path) + query.unwrap_or_default()));
        if query.is_some() {
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let described = &item["get"]["responses"];
        let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
        let response = described.get(answer.status.to_string()).map_or_else(
            || document.0.pointer("/components/responses/Problem").expect("problems are described"),
            |response| response,
        );
        let schema = response["content"].get(&kind).map(|content| &content["schema"]);
        let schema =
            schema.unwrap_or_else(|| panic!("{path} answers {} with {kind:?}: {}", answer.status, answer.text()));
        let value = if kind.ends_with("json") { answer.json() } else { answer.text().into() };
        let mistakes = document.mistakes(schema, &value);
        assert!(mistakes.is_empty(), "{path}: {mistakes:#?}\n{value:#}");
    }
    // Entities and decisions of every kind there is, receipts, and what streams tell.
    for entity in server.entities("order", 10) {
        document.check("Entity", &entity);
    }
    let states: BTreeSet<String> = server.decisions_file().iter().map(|it| it["decisionstate"].to_string()).collect();
    assert!(states.len() > 1, "decisions were made and withdrawn: {states:?}");
    server.decisions_file().iter().for_each(|decision| document.check("Decision", decision));
    document.check("Receipt", &feed(&server, &[created("o-4"), created("o-4")]));
    document.check("Problem", &server.get("/v1/entities/nonsense").json());
    let mut stream = EventStream::open(&server, "/v1/entities/order?after=0", None);
    for change in stream.take(5) {
        document.check("Change", &change.data);
        document.check("Position", &json!(change.id));
    }
}

/// If this failed, the comparison above would agree with anything.
#[test]
fn made_up_mistakes_are_found() {
    let server = Setup::new(RULES).start();
    let document = Document::of(&server);
    let schema = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    for (name, value) in [
        ("Receipt", json!({"accepted": 1, "duplicates": 0, "lsn": 1})),
        ("Receipt", json!({"accepted": 1, "duplicates": 0, "lsn": 1, "entities": [], "more": 1})),
        ("Position", json!("soon")),
        ("Types", json!({"types": [{"type": "a", "entities": "1", "live": 0}]})),
        ("Problem", json!({"code": "x"})),
    ] {
        assert!(!document.mistakes(&schema(name), &value).is_empty(), "{name}: {value}");
    }
    assert!(is_route("/v1/entities/{type}") && !is_route("/v1/entities/{kind}/{}") && !is_route("/v1/x is wrong"));
}
