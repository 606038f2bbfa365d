//! The OpenAPI document beside the real server: it has every route and no other, the methods that are allowed, and what is
//! answered is what it says.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::hook::{Answer, Hook};
use common::orders::{NDJSON, RULES, created, event, feed, happened, paid, reserved, shipped};
use common::{EventStream, Response, Server, Setup, percent, wait_for};
use serde_json::{Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// What stands for the parameters of paths.
const PARAMETERS: [(&str, &str); 5] =
    [("{type}", "order"), ("{key}", "o-1"), ("{id}", "o-1-paid"), ("{name}", "tcp"), ("{effect}", "pull")];
/// Resources of which there is something to answer with, and how it is asked for.
const ANSWERED: [(&str, &str); 20] = [
    ("/v1/forgotten", ""),
    ("/v1/entities", ""),
    ("/v1/entities/{type}", "?limit=2"),
    ("/v1/entities/{type}/{key}", ""),
    ("/v1/entities/{type}/{key}/events/{id}", "?source=%2Ftest"),
    ("/v1/entities/{type}/{key}/history", ""),
    ("/v1/entities/{type}/{key}/history", "?order=desc&limit=2"),
    ("/v1/correlations/{id}", ""),
    ("/v1/decisions", ""),
    ("/v1/export/entities", "?type=order"),
    ("/v1/export/entities", "?type=order&format=csv"),
    ("/v1/export/decisions", ""),
    ("/v1/export/decisions", "?format=csv"),
    ("/v1/paused", ""),
    ("/v1/effects", ""),
    ("/v1/dead-letters", ""),
    ("/v1/sources", ""),
    ("/v1/sinks", ""),
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

    /// What a `$ref` leads to.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["$ref"].as_str().map_or(value, |path| self.0.pointer(&path[1..]).expect("it leads somewhere"))
    }

    /// Asks and compares the answer with what the document says of an operation; what is sent must be as it says, too.
    #[track_caller]
    fn ask(&self, server: &Server, operation: (&str, &str), path: &str, body: &str) -> Response {
        let (method, template) = operation;
        let described = &self.0["paths"][template][method.to_lowercase()];
        assert!(described.is_object(), "{method} {template} is not described");
        if let Ok(sent) = serde_json::from_str::<Value>(body) {
            let mistakes = self.mistakes(&described["requestBody"]["content"]["application/json"]["schema"], &sent);
            assert!(mistakes.is_empty(), "what {method} {path} is sent: {mistakes:#?}");
        }
        let answer = server.request(method, path, &[], body.as_bytes());
        let problem = &self.0["components"]["responses"]["Problem"];
        let response = described["responses"].get(answer.status.to_string()).unwrap_or(problem);
        let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
        let content = self.resolved(response)["content"].get(&kind);
        let content =
            content.unwrap_or_else(|| panic!("{path} answers {} with {kind:?}: {}", answer.status, answer.text()));
        let value = if kind.ends_with("json") && kind != NDJSON { answer.json() } else { answer.text().into() };
        let mut found = self.mistakes(&content["schema"], &value);
        if kind == NDJSON {
            let text = answer.text();
            assert!(!text.is_empty(), "{path} answers with no lines");
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
            found.extend(lines.flat_map(|line| self.mistakes(&content["x-line"], &line)));
        }
        assert!(found.is_empty(), "{method} {path}: {found:#?}\n{value:#}");
        answer
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

/// Whether a path is one of a template.
fn fits(template: &str, path: &str) -> bool {
    let (parts, mut named) = (template.split('/'), path.split('/'));
    parts.into_iter().all(|part| named.next().is_some_and(|name| part == name || part.starts_with('{')))
        && named.next().is_none()
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

/// The same with what goes wrong: a sink that is stuck, dead letters, and a call that failed.
fn troubled() -> (Server, Hook) {
    let hook = Hook::start(|_, _| Answer::Status(500));
    let sink = |name: &str, attempts: u32| {
        format!(
            "[sink.{name}]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             allow_private = true\nretry = {{ attempts = {attempts}, backoff = \"10s..20s\" }}\n",
            hook.url()
        )
    };
    let call = format!(
        "[entity.call]\nkey = \"event.data.id\"\n[entity.call.fields]\nid = {{ on = \"Asked\", take = \"latest\", value = \
         \"event.data.id\" }}\n[entity.call.effect.pull]\nguarantee = \"at_most_once\"\n[entity.call.effect.pull.request]\n\
         url = \"{}\"\njson = {{ id = \"key\" }}\n",
        hook.url()
    );
    let tables = [sink("stuck", 1000), sink("refused", 1), call].concat();
    let server = Setup::new(RULES).server("backups = \"backups\"").tables(&tables).start();
    let asked = [happened("1", "Asked", &json!({"id": "c-1"})), happened("2", "Asked", &json!({"id": "c-2"}))];
    feed(&server, &asked);
    for order in ["o-1", "o-2", "o-3"] {
        feed(&server, &[paid(order, "successful"), reserved(order)]);
    }
    wait_for("all of it has gone wrong", || {
        let count = |path: &str| server.get(path).json()["items"].as_array().map_or(0, Vec::len);
        let is_stuck = |sink: &&Value| sink["name"] == "stuck" && sink["stuck_keys"] == 3;
        let sinks = server.get("/v1/sinks").json();
        let over = count("/v1/effects?state=requested") == 0 && count("/v1/effects") == 2;
        (over && count("/v1/dead-letters") == 3 && sinks["items"].as_array()?.iter().find(is_stuck).is_some())
            .then_some(())
    });
    (server, hook)
}

/// If this failed, programs made from the document would not know of a resource, or ask for one that is not there.
#[test]
fn the_document_has_every_route_and_its_methods() {
    let server = fed();
    let document = Document::of(&server);
    assert_eq!(document.0["openapi"], "3.1.0");
    let described: BTreeSet<String> = document.paths().map(|(path, _)| path.to_owned()).collect();
    let known = routes();
    assert_eq!(described, known, "what is described, and the routes of src/admin");
    for (path, item) in document.paths() {
        // No resource knows it, and what it knows instead stands in the answer.
        let answer = server.request("TRACE", &filled(path), &[], b"");
        assert_eq!(answer.status, 405, "{path} is served: {}", answer.text());
        let allowed = answer.header("allow").unwrap_or_default().to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(", ").filter(|method| *method != "head").collect();
        // A key may be called `pause`: what is known at that path stands in two places.
        let items =
            document.paths().filter(|(other, _)| fits(other, &filled(path))).map(|(_, item)| item).chain([item]);
        let methods: BTreeSet<&str> =
            items.flat_map(|item| METHODS.into_iter().filter(|method| item.get(*method).is_some())).collect();
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
    for (path, _) in document.paths().filter(|(_, item)| item.get("get").is_some()) {
        let asked: Vec<&str> = ANSWERED.iter().filter(|(known, _)| *known == path).map(|(_, query)| *query).collect();
        for query in &asked {
            let answer = document.ask(&server, ("GET", path), &(filled(path) + query), "");
            assert_eq!(answer.status, 200, "{path}{query}: {}", answer.text());
        }
        if asked.is_empty() {
            document.ask(&server, ("GET", path), &filled(path), "");
        }
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

/// If this failed, programs made from the document would ask for repairs in a way that is not understood, or would not
/// understand what became of them.
#[test]
fn what_is_asked_for_by_hand_is_as_described() {
    let (server, _hook) = troubled();
    let document = Document::of(&server);
    let by_hand = r#"{"by":"ann","why":"sums look odd"}"#;
    let post = |template: &str, path: &str, body: &str| document.ask(&server, ("POST", template), path, body).status;
    let read = |template: &str, path: &str| document.ask(&server, ("GET", template), path, "").expect(200).json();

    let (of_type, of_key) = ("/v1/entities/{type}/", "/v1/entities/{type}/{key}/");
    assert_eq!(post(&format!("{of_type}pause"), "/v1/entities/order/pause", by_hand), 200);
    assert_eq!(post(&format!("{of_key}pause"), "/v1/entities/order/o-1/pause", by_hand), 200);
    feed(&server, &[created("o-1"), created("o-2")]);
    let paused = read("/v1/paused", "/v1/paused");
    assert_eq!(
        (paused["types"].as_array().map(Vec::len), paused["items"].as_array().map(Vec::len)),
        (Some(1), Some(2))
    );
    assert_eq!(read("/v1/entities", "/v1/entities")["types"].as_array().map(Vec::len), Some(3));
    assert_eq!(read("/v1/entities/{type}/{key}", "/v1/entities/order/o-1")["paused"]["held"], 1);
    let held = read("/v1/entities/{type}/{key}/events/{id}", "/v1/entities/order/o-1/events/o-1-created?source=/test");
    assert_eq!(held["state"], "held");
    assert_eq!(post(&format!("{of_key}resume"), "/v1/entities/order/o-1/resume", ""), 200);
    assert_eq!(post(&format!("{of_type}resume"), "/v1/entities/order/resume", by_hand), 200);
    assert_eq!(post(&format!("{of_type}resume"), "/v1/entities/nonsense/resume", by_hand), 404);

    let effects = "/v1/entities/{type}/{key}/effects/{effect}/";
    let said = r#"{"state":"succeeded","status":200,"response":{"score":7},"by":"ann","why":"they told me"}"#;
    assert_eq!(post(&format!("{effects}resolve"), "/v1/entities/call/c-1/effects/pull/resolve", said), 200);
    assert_eq!(post(&format!("{effects}resolve"), "/v1/entities/call/c-1/effects/pull/resolve", said), 409);
    assert_eq!(post(&format!("{effects}retry"), "/v1/entities/call/c-2/effects/pull/retry", by_hand), 200);
    assert_eq!(read("/v1/entities/{type}/{key}", "/v1/entities/call/c-1")["effects"]["pull"]["state"], "succeeded");

    let skip = "/v1/sinks/{name}/skip";
    let which = r#"{"decision":"order/o-1/OrderConfirmed/1","by":"ann"}"#;
    assert_eq!(post(skip, "/v1/sinks/stuck/skip", which), 200);
    assert_eq!(post(skip, "/v1/sinks/decisions/skip", which), 409);
    letters(&document, &server);
    for order in ["o-1", "o-2"] {
        let history = format!("/v1/entities/order/{order}/history");
        assert!(read("/v1/entities/{type}/{key}/history", &history)["items"].as_array().is_some_and(|it| it.len() > 3));
    }
    read("/v1/entities/{type}/{key}/history", "/v1/entities/call/c-1/history");
    read("/v1/status", "/v1/status");
}

/// If this failed, a slip in a member's name would be passed over, and more be done than was asked for.
#[test]
fn what_is_not_described_is_refused() {
    let server = Setup::new(RULES).start();
    let document = Document::of(&server);
    let slip = r#"{"bye":"ann","all":true,"state":"failed","lsn":1,"folder":"monday","rows":[]}"#;
    let mut refused = 0;
    for (path, item) in document.paths().filter(|(path, _)| *path != "/v1/replay" && *path != "/v1/events") {
        for method in ["post", "delete"].into_iter().filter(|method| item.get(*method).is_some()) {
            let schema = &item[method]["requestBody"]["content"]["application/json"]["schema"];
            assert!(!document.mistakes(schema, &json!({"bye": "ann"})).is_empty(), "{method} {path} describes `bye`");
            let path = filled(path).replace("/tcp/skip", "/decisions/skip");
            let answer = server.request(&method.to_uppercase(), &path, &[], slip.as_bytes());
            assert!([400, 404].contains(&answer.status), "{method} {path}: {}", answer.text());
            refused += u32::from(answer.status == 400);
        }
    }
    assert!(refused > 10, "only {refused} were refused for it");
}

/// Dead letters are tried again and dropped.
fn letters(document: &Document, server: &Server) {
    let several = |body: &str| {
        document.ask(server, ("POST", "/v1/dead-letters/retry"), "/v1/dead-letters/retry", body).expect(200).json()
    };
    assert_eq!(several(r#"{"reason":"nonsense","by":"ann"}"#)["asked"], 0);
    assert_eq!(several(r#"{"sink":"refused","limit":2}"#)["refused"], 2);
    let page = document.ask(server, ("GET", "/v1/dead-letters"), "/v1/dead-letters", "").expect(200).json();
    let of_refused = page["items"].as_array().expect("items").iter().find(|letter| letter["sink"] == "refused");
    let one = format!("/v1/dead-letters/{}", percent(of_refused.expect("a letter")["id"].as_str().expect("an id")));
    let template = "/v1/dead-letters/{id}";
    let shown = document.ask(server, ("GET", template), &one, "").expect(200).json();
    assert!(shown["body"].is_string(), "{shown}");
    let retry = ("POST", "/v1/dead-letters/{id}/retry");
    let retried = document.ask(server, retry, &format!("{one}/retry"), "").expect(200).json();
    assert_eq!(retried["outcome"], "refused", "{retried}");
    let dropped = document.ask(server, ("DELETE", template), &one, r#"{"why":"nobody wants it"}"#).expect(200).json();
    assert_eq!(dropped["closed"], "dropped", "{dropped}");
    assert_eq!(document.ask(server, retry, &format!("{one}/retry"), "").status, 409);
    let closed = document.ask(server, ("GET", "/v1/dead-letters"), "/v1/dead-letters?closed=true", "").json();
    assert_eq!(closed["items"].as_array().map(Vec::len), Some(1), "{closed}");
}

/// If this failed, programs made from the document would take a damaged node for a sound one, or lose a backup.
#[test]
fn what_is_worked_out_line_by_line_is_as_described() {
    let (server, _hook) = troubled();
    let document = Document::of(&server);
    let last = |path: &str, body: &str| -> Value {
        let template = path.split('?').next().unwrap_or_default();
        let answer = document.ask(&server, ("POST", template), path, body).expect(200).text();
        serde_json::from_str(answer.lines().last().expect("a line")).expect("JSON")
    };
    let options = r#"{"waiting_longer":"0s","incomplete_longer":"0s","examples":2,"ids":[[null,"none"]]}"#;
    let report = last("/v1/verify", options);
    assert!(report["report"]["findings"].as_array().is_some_and(|found| found.len() > 1), "{report}");
    let rows = r#"{"rows":[{"type":"order","key":"none"},
        {"type":"order","key":"o-1","id":"none","source":"/test","values":{"payment.status":"lost"},"text":true}]}"#;
    let against = last("/v1/verify/against", rows);
    assert_eq!(against["findings"].as_array().map(Vec::len), Some(3), "{against}");
    let other = RULES.replace("== 'successful'", "== 'nonsense'").replace("'processing'", "'under way'");
    for path in ["/v1/replay", "/v1/replay?type=order&key=o-1"] {
        let told = last(path, &format!("[server]\ndata_dir = \"data\"\n{other}"));
        assert_eq!(told["report"]["changes"], true, "{path}: {told}");
    }
    assert_eq!(last("/v1/backup", r#"{"folder":"monday","rate":"1GiB","by":"ann"}"#)["backup"], "monday");
    let again = document.ask(&server, ("POST", "/v1/backup"), "/v1/backup", r#"{"folder":"monday"}"#);
    assert_eq!(again.status, 409, "{}", again.text());
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
        ("VerifyLine", json!({"report": {"clean": true}})),
        ("BackupLine", json!({"phase": "store", "bytes": 1, "of": 2, "backup": "monday"})),
        ("PausedEntity", json!({"type": "a", "key": "b", "held": 0, "paused": {"by": "ann"}})),
        ("RetrySeveral", json!({"all": false, "by": "ann"})),
        ("Change", json!({"lsn": 1, "version": 1, "type": "a", "key": "b", "time": "", "input": {}, "changes": []})),
    ] {
        assert!(!document.mistakes(&schema(name), &value).is_empty(), "{name}: {value}");
    }
    assert!(is_route("/v1/entities/{type}") && !is_route("/v1/entities/{kind}/{}") && !is_route("/v1/x is wrong"));
}
