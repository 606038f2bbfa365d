//! Every refusal code over TCP and over HTTP, and the JSON conformance files. What is refused leaves no trace, and the
//! connection goes on.

mod common;

use std::path::PathBuf;

use common::dataset::fixtures;
use common::{Http, Server, Setup};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
payment = { on = "Paid", take = "latest", value = "event.data.status" }
total = { on = "Paid", take = "sum", if = "has(event.data.amount)", value = "decimal(event.data.amount)" }
[entity.visit]
key = "event.subject"
require_time = true
[entity.visit.fields]
last = { on = "Visited", take = "max", value = "event.time" }
"#;
const LIMITS: &str =
    "[limits]\nevent_bytes_max = \"64KiB\"\nhttp_body_bytes_max = \"256KiB\"\nkey_bytes_max = \"100B\"";

/// Name of the case, the line, the code, the status over HTTP.
type Case = (&'static str, String, &'static str, u16);

fn cases() -> Vec<Case> {
    let event =
        |id: &str, data: &str| format!(r#"{{"id":"{id}","type":"Paid","time":"2026-11-20T10:00:00Z","data":{data}}}"#);
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let long = "x".repeat(101);
    vec![
        ("no JSON", "{\"id\":".into(), "invalid_json", 400),
        ("two documents", format!("{0} {0}", event("1", r#"{"orderId":"a"}"#)), "invalid_json", 400),
        ("too large", event("2", &format!(r#"{{"orderId":"a","text":"{}"}}"#, "x".repeat(65_536))), "too_large", 413),
        ("too deep", event("3", &format!(r#"{{"orderId":"a","nest":{}}}"#, deep(100))), "too_deep", 400),
        ("no id", r#"{"type":"Paid","data":{"orderId":"a"}}"#.into(), "missing_id", 400),
        ("an empty id", event("", r#"{"orderId":"a"}"#), "missing_id", 400),
        ("no type", r#"{"id":"4","data":{"orderId":"a"}}"#.into(), "missing_type", 400),
        (
            "no time at all",
            r#"{"id":"5","type":"Paid","time":"today","data":{"orderId":"a"}}"#.into(),
            "invalid_time",
            400,
        ),
        (
            "February 30",
            r#"{"id":"6","type":"Paid","time":"2026-02-30T10:00:00Z","data":{"orderId":"a"}}"#.into(),
            "invalid_time",
            400,
        ),
        ("time is required", r#"{"id":"7","type":"Visited","subject":"eva"}"#.into(), "missing_time", 400),
        ("no key", event("8", r#"{"status":"ok"}"#), "missing_key", 400),
        ("no data, so no key", r#"{"id":"9","type":"Paid"}"#.into(), "missing_key", 400),
        ("a key of another kind", event("10", r#"{"orderId":{"no":1}}"#), "invalid_key", 400),
        ("a key that is too long", event("11", &format!(r#"{{"orderId":"{long}"}}"#)), "invalid_key", 400),
        ("a value that cannot be", event("12", r#"{"orderId":"a","amount":"twelve"}"#), "invalid_value", 400),
        ("a type nobody takes", r#"{"id":"13","type":"Shipped","data":{"orderId":"a"}}"#.into(), "unmatched", 400),
        ("the same identity, another payload", event("taken", r#"{"orderId":"a","status":"other"}"#), "conflict", 409),
    ]
}

fn taken() -> String {
    r#"{"id":"taken","type":"Paid","time":"2026-11-20T10:00:00Z","data":{"orderId":"a","status":"ok","amount":1}}"#
        .into()
}

/// Only what was accepted may be there.
fn check_untouched(server: &Server, source: &str) {
    let order = server.entity("order", "a");
    assert_eq!(order["fields"], json!({"payment": "ok", "total": 1}), "a refused event leaves nothing");
    assert_eq!((&order["events"], &order["version"]), (&json!(1), &json!(1)));
    assert_eq!(server.entities("order", 10).len(), 1, "a refused event makes no entity");
    assert_eq!(server.entities("visit", 10).len(), 0, "a refused event makes no entity");
    let mut codes: Vec<&str> = cases().iter().map(|case| case.2).collect();
    codes.sort_unstable();
    for code in codes.chunk_by(|a, b| a == b) {
        let sample = format!(r#"turnstile_events_refused_total{{code="{}",source="{source}"}}"#, code[0]);
        assert_eq!(server.metric(&sample), Some(code.len() as f64), "{sample}");
    }
}

/// A sender acts by the code; a connection that ends or stalls on a bad line stops good events too.
#[test]
fn each_code_over_tcp() {
    let server = Setup::new(RULES).tables(LIMITS).start();
    let mut client = server.client();
    client.send(taken());
    client.settle(1);
    for (n, (name, line, code, _)) in (2..).zip(cases()) {
        client.send(&line);
        let outcome = client.settle(n);
        assert_eq!(outcome.code(n), Some(code), "{name}: {:?}", outcome.refused);
    }
    let lines = cases().len() as u64 + 1;
    client.send(taken());
    let end = client.finish();
    assert_eq!((end.acked, end.duplicates, end.refused.len()), (lines + 1, 1, 0), "the connection works to the end");
    check_untouched(&server, "tcp");
}

/// All at once: refusals must be numbered by their lines, not by when they were noticed.
#[test]
fn each_code_over_tcp_in_one_go() {
    let server = Setup::new(RULES).tables(LIMITS).start();
    let lines: Vec<String> = std::iter::once(taken()).chain(cases().into_iter().map(|case| case.1)).collect();
    let outcome = common::deliver(server.tcp(), &lines);
    assert_eq!(outcome.acked, lines.len() as u64);
    for (n, (name, _, code, _)) in (2..).zip(cases()) {
        assert_eq!(outcome.code(n), Some(code), "{name}: {:?}", outcome.refused);
    }
    check_untouched(&server, "tcp");
}

/// The same over HTTP, one request for each event on one connection.
#[test]
fn each_code_over_http() {
    let server = Setup::new(RULES).tables(LIMITS).start();
    let mut http = Http::connect(server.http());
    let mut post = |body: &str| {
        let headers = [("content-type", "application/cloudevents+json")];
        http.request("POST", "/v1/events", &headers, body.as_bytes())
    };
    assert_eq!(post(&taken()).expect(202).json()["accepted"], 1);
    for (name, line, code, status) in cases() {
        let response = post(&line);
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert_eq!(response.problem(status), code, "{name}: {}", response.text());
    }
    let again = post(&taken()).expect(202).json();
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(1)), "the connection works to the end");
    check_untouched(&server, "http");
}

/// NDJSON answers for each line, and what was taken stays.
#[test]
fn each_code_over_http_as_ndjson() {
    let server = Setup::new(RULES).tables(LIMITS).start();
    let text: String =
        std::iter::once(taken()).chain(cases().into_iter().map(|case| case.1)).map(|line| line + "\n").collect();
    let response = server.post("/v1/events", "application/x-ndjson", text);
    assert_eq!(response.status, 400, "{}", response.text());
    let answer = response.json();
    assert_eq!(answer["accepted"], 1, "{answer}");
    let refused = answer["refused"].as_array().expect("a list of refusals");
    let codes: Vec<(u64, &str)> = refused
        .iter()
        .map(|refusal| (refusal["line"].as_u64().expect("a line"), refusal["code"].as_str().expect("a code")))
        .collect();
    let expected: Vec<(u64, &str)> = (2..).zip(cases()).map(|(line, case)| (line, case.2)).collect();
    assert_eq!(codes, expected);
    assert!(refused.iter().all(|refusal| refusal["message"].is_string()), "each says what to mend: {answer}");
    check_untouched(&server, "http");
}

/// Over the limits a client must be told when to come back, before anything is taken.
#[test]
fn http_answers_busy_when_the_disk_is_nearly_full() {
    // Nearly full is what has less than the limit: twice of what is free, wherever this runs.
    let disk = rustix::fs::statvfs(std::env::temp_dir()).expect("the disk of temporary folders");
    let more = 2 * disk.f_bavail * disk.f_frsize + (1 << 30);
    let server = Setup::new(RULES).tables(&format!("[limits]\ndisk_free_min = \"{more}B\"")).start();
    let response = server.post("/v1/events", "application/cloudevents+json", taken());
    assert_eq!(response.problem(429), "busy");
    let seconds = response.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some(), "Retry-After is a number of seconds: {:?}", response.header("retry-after"));
    assert_eq!(server.get("/v1/entities/order/a").status, 404, "nothing was taken");
}

/// Without the token nothing of the node can be read or written.
#[test]
fn http_wants_the_token() {
    let server = Setup::new(RULES).http_token("s3cret").start();
    assert_eq!(server.post("/v1/events", "application/json", taken()).expect(202).json()["accepted"], 1);
    for path in ["/v1/events", "/v1/entities", "/v1/entities/order/a", "/v1/decisions", "/v1/status"] {
        for wrong in [None, Some("Bearer s3cre"), Some("Bearer"), Some("s3cret"), Some("Bearer s3cret2")] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(wrong.map(|value| ("authorization", value)));
            let method = if path == "/v1/events" { "POST" } else { "GET" };
            let body = if path == "/v1/events" { taken() } else { String::new() };
            let response = Http::connect(server.http()).request(method, path, &headers, body.as_bytes());
            assert_eq!(response.problem(401), "unauthorized", "{path} with {wrong:?}");
        }
    }
}

/// A JSON file of the suite.
struct Sample {
    name: String,
    bytes: Vec<u8>,
}

fn samples() -> Option<Vec<Sample>> {
    let folder: PathBuf = fixtures()?.join("jsontestsuite/test_parsing");
    let mut samples: Vec<Sample> = std::fs::read_dir(folder)
        .expect("the suite")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            Sample { name, bytes: std::fs::read(path).expect("the file") }
        })
        .collect();
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(samples.len(), 318, "the suite is complete");
    Some(samples)
}

impl Sample {
    /// An event with this file as its data.
    fn event(&self) -> Vec<u8> {
        let head = format!(r#"{{"id":"{}","type":"Document","subject":"doc","data":"#, self.name);
        [head.as_bytes(), &self.bytes, b"}"].concat()
    }

    /// Judges an answer: the code, or none for accepted.
    fn check(&self, code: Option<&str>) {
        let ok = match &self.name[..2] {
            "y_" => code.is_none(),
            "n_" => matches!(code, Some("invalid_json" | "too_deep" | "too_large")),
            _ => matches!(code, None | Some("invalid_json" | "too_deep" | "too_large")),
        };
        assert!(ok, "{}: {}", self.name, code.unwrap_or("accepted"));
    }
}

const DOCUMENTS: &str = r#"
[entity.document]
key = "event.subject"
[entity.document.fields]
content = { on = "Document", take = "latest" }
count = { on = "Document", take = "count" }
"#;

fn good(n: usize) -> String {
    json!({"id": format!("good-{n}"), "type": "Document", "subject": "doc", "data": n}).to_string()
}

/// A parser that takes too much lets wrong data in; one that takes too little keeps good data out; and no input may
/// stall or end the connection.
#[test]
fn the_json_suite_as_data_over_tcp() {
    let Some(samples) = samples() else { return };
    let server = Setup::new(DOCUMENTS).start();
    let mut client = server.client();
    let mut line = 0;
    for (n, sample) in samples.iter().filter(|sample| !sample.bytes.contains(&b'\n')).enumerate() {
        client.send(sample.event());
        client.send(good(n));
        line += 2;
        let outcome = client.settle(line);
        sample.check(outcome.code(line - 1));
        assert_eq!(outcome.code(line), None, "after {} the connection works: {:?}", sample.name, outcome.refused);
    }
    assert!(line > 600, "most files have no newline");
}

#[test]
fn the_json_suite_as_data_over_http() {
    let Some(samples) = samples() else { return };
    let server = Setup::new(DOCUMENTS).start();
    let mut http = Http::connect(server.http());
    let headers = [("content-type", "application/cloudevents+json")];
    for (n, sample) in samples.iter().enumerate() {
        let response = http.request("POST", "/v1/events", &headers, &sample.event());
        let problem = (response.status != 202).then(|| response.problem(400));
        sample.check(problem.as_deref());
        let after = http.request("POST", "/v1/events", &headers, good(n).as_bytes());
        assert_eq!(after.status, 202, "after {} the connection works: {}", sample.name, after.text());
    }
}

/// The files as they are: none is an event, so each is refused, those that are no JSON as such.
#[test]
fn the_json_suite_alone_over_http() {
    let Some(samples) = samples() else { return };
    let server = Setup::new(DOCUMENTS).start();
    let mut http = Http::connect(server.http());
    for content_type in ["application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson"] {
        let headers = [("content-type", content_type)];
        for sample in &samples {
            let response = http.request("POST", "/v1/events", &headers, &sample.bytes);
            // An empty batch, or NDJSON with nothing but blank lines, asks for nothing.
            let nothing = response.status == 202 && response.json()["accepted"] == 0;
            assert!(response.status == 400 || nothing, "{}: {} {}", sample.name, response.status, response.text());
            if sample.name.starts_with("n_") && content_type == "application/cloudevents+json" {
                let code = response.problem(400);
                assert!(matches!(code.as_str(), "invalid_json" | "too_deep"), "{}: {code}", sample.name);
            }
        }
    }
    let after = http.request("POST", "/v1/events", &[("content-type", "application/json")], good(1).as_bytes());
    assert_eq!(after.expect(202).json()["accepted"], 1, "the connection works to the end");
    assert_eq!(server.entity("document", "doc")["events"], 1, "nothing else was taken");
}

/// Each file as a raw line: a newline in it makes more lines, each of which gets its answer.
#[test]
fn the_json_suite_alone_over_tcp() {
    let Some(samples) = samples() else { return };
    let server = Setup::new(DOCUMENTS).start();
    for sample in &samples {
        let mut client = server.client();
        client.send(&sample.bytes);
        client.send(good(1));
        let outcome = client.finish();
        assert_eq!(outcome.refused.len() as u64 + 1, outcome.acked, "{}: {:?}", sample.name, outcome.refused);
        assert_eq!(outcome.code(outcome.acked), None, "after {} the connection works", sample.name);
        for refusal in &outcome.refused {
            let code = &refusal["code"];
            let known = ["invalid_json", "too_deep", "missing_id", "missing_type"].iter().any(|known| code == known);
            assert!(known, "{}: {code}", sample.name);
        }
    }
    assert_eq!(server.entity("document", "doc")["events"], Value::from(1));
}
