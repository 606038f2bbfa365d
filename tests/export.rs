//! Exports: what is in them is what the API shows, however it is written and however much it is.

mod common;

use std::collections::BTreeMap;
use std::process::Output;

use common::orders::{RULES, created, event, feed, paid, reserved};
use common::{Server, Setup, percent};
use serde_json::{Value, json};

/// More than one part of an export, and than one page of keys.
const MANY: usize = 1_200;

/// Keys and values that a naive CSV would break on.
const AWKWARD: [&str; 6] = ["a,b", "say \"hi\"", "two\nlines", "=1+1", " ä ", "x/y"];

fn filled() -> Server {
    let server = Setup::new(RULES).start();
    for n in 0..MANY {
        let key = format!("o-{n:05}");
        feed(&server, &[paid(&key, if n % 2 == 0 { "successful" } else { "failed" }), reserved(&key)]);
    }
    for key in AWKWARD {
        let odd = event(
            &format!("odd {key}"),
            "LoyaltyPointsUpdated",
            key,
            &json!({"note": key, "points": 1.50, "list": [key]}),
        );
        feed(&server, &[odd, created(key)]);
    }
    server
}

fn export(server: &Server, query: &str) -> String {
    server.get(&format!("/v1/export/{query}")).expect(200).text()
}

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Headings, and each row by them.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headings: Vec<String> = reader.headers().expect("headings").iter().map(str::to_owned).collect();
    let rows = reader.records().map(|record| record.expect("as many cells as headings"));
    rows.map(|row| headings.iter().cloned().zip(row.iter().map(str::to_owned)).collect()).collect()
}

/// What a cell stands for, where the API shows `value`.
#[track_caller]
fn check_cell(cell: &str, value: &Value) {
    match value {
        Value::Null => assert_eq!(cell, ""),
        Value::String(text) => assert_eq!(cell, text),
        value => assert_eq!(serde_json::from_str::<Value>(cell).expect("JSON"), *value),
    }
}

/// If this failed, what people load elsewhere would be something else than what is there.
#[test]
fn entities_are_exported_as_the_api_shows_them() {
    let server = filled();
    let shown = server.entities("order", 1000);
    assert_eq!(shown.len(), MANY + AWKWARD.len());
    assert_eq!(documents(&export(&server, "entities?type=order")), shown);
    let rows = table(&export(&server, "entities?type=order&format=csv"));
    assert_eq!(rows.len(), shown.len());
    for (row, document) in rows.iter().zip(&shown) {
        for name in ["key", "version", "updated", "completeness"] {
            check_cell(&row[name], &document[name]);
        }
        for group in ["fields", "derived"] {
            for (name, value) in document[group].as_object().expect("a group") {
                check_cell(&row[name], value);
            }
        }
        assert_eq!(row["shipping"], "", "what is missing is empty");
        assert_eq!(row.len(), 4 + 6 + 3);
    }
    let condition = percent("order.failed");
    let failed = documents(&export(&server, &format!("entities?type=order&where={condition}")));
    assert_eq!(failed.len(), MANY / 2);
    let none = export(&server, "entities?type=note&format=csv");
    assert_eq!(none, "key,version,updated,completeness,by,text\n", "headings, and nothing else");
    assert_eq!(export(&server, "entities?type=note"), "");
    assert_eq!(server.get("/v1/export/entities?type=nothing").problem(404), "not_found");
    for wrong in ["entities", "entities?type=order&format=xml", "entities?type=order&where=nonsense%20here"] {
        assert_eq!(server.get(&format!("/v1/export/{wrong}")).status, 400, "{wrong}");
    }
}

/// If this failed, a decision would be missing from what auditors are given, or stand in it twice.
#[test]
fn decisions_are_exported_in_the_order_of_the_journal() {
    let server = filled();
    let (mut shown, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = server.get(&format!("/v1/decisions?limit=1000{after}")).expect(200).json();
        let items = page["items"].as_array().expect("items").clone();
        if items.is_empty() {
            break;
        }
        shown.extend(items);
        pages += 1;
        after = format!("&after={}", page["next"].as_str().expect("next"));
    }
    assert!(pages > 1 && shown.len() == MANY, "{} in {pages} pages", shown.len());
    let text = export(&server, "decisions");
    assert!(text.len() > 300_000, "more than one part");
    assert_eq!(documents(&text), shown);
    let rows = table(&export(&server, "decisions?format=csv"));
    assert_eq!(rows.len(), shown.len());
    for (row, decision) in rows.iter().zip(&shown) {
        for name in ["id", "type", "subject", "decisionstate", "time", "data", "revision", "element"] {
            check_cell(&row[name], &decision[name]);
        }
    }
    let middle = server.get("/v1/decisions?limit=500").expect(200).json()["next"].as_str().expect("next").to_owned();
    assert_eq!(documents(&export(&server, &format!("decisions?after={middle}"))), shown[500..]);
    assert_eq!(export(&server, "decisions?type=note"), "");
    assert_eq!(documents(&export(&server, "decisions?type=order")).len(), shown.len());
    assert_eq!(server.get("/v1/export/decisions?type=nothing").problem(404), "not_found");
    assert_eq!(server.get("/v1/export/decisions?after=x").status, 400);
}

#[test]
fn the_command_line_writes_files() {
    fn said(output: &Output) -> String {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
    let server = Setup::new(RULES).start();
    for key in AWKWARD {
        feed(&server, &[paid(key, "successful"), reserved(key)]);
    }
    let out = said(&server.cli(&["export", "entities", "order", "--format", "csv", "-o", "orders.csv"]));
    assert_eq!(out, "6 entities in orders.csv\n");
    let file = std::fs::read_to_string(server.path("orders.csv")).expect("the file");
    assert_eq!(file, export(&server, "entities?type=order&format=csv"));
    let out = said(&server.cli(&["export", "decisions", "-o", "decisions.ndjson", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), json!({"decisions": 6, "file": "decisions.ndjson"}));
    assert_eq!(said(&server.cli(&["export", "decisions", "order"])), export(&server, "decisions?type=order"));
    let wrong = server.cli(&["export", "entities", "ordr", "-o", "wrong.csv"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `order`?"), "it helps");
    assert!(!server.path("wrong.csv").exists() && !server.path("wrong.csv.tmp").exists());
}
