//! `turnstile verify --against`: what a list from outside says is compared with what is here.

mod common;

use common::Server;
use common::orders::{RULES, feed, lines, order};
use common::verified::{Verify, details, found, kinds, verify, verify_stopped};
use serde_json::json;

/// If this failed, a list of what should be here would pass for what is here.
#[test]
fn an_outside_list_is_compared() {
    let mut server = common::Setup::new(RULES).start();
    feed(&server, &["a", "b", "c", "d/e"].iter().flat_map(|name| order(name)).collect::<Vec<_>>());
    std::fs::write(
        server.path("list.csv"),
        "key,payment.status,shipping.estimatedDays,status,id,source\n\
         a,successful,2,processing,a-paid,/test\n\
         b,failed,2.0,,b-lost,/test\n\
         x,successful,2,,,\n\
         d/e,,3,processing,,\n",
    )
    .expect("a file");
    let rows = [
        json!({ "type": "order", "key": "a", "stock.reservedItems": ["SKU-1"], "shipping.estimatedDays": 2 }),
        json!({ "type": "order", "key": "b", "stock": { "orderId": "b" }, "decisions.OrderConfirmed.state": "revised" }),
        json!({ "type": "note", "key": "n" }),
    ];
    std::fs::write(server.path("list.ndjson"), lines(&rows)).expect("a file");
    let of_csv = ["--against", "list.csv", "--entity", "order", "--complete-list"];
    let of_lines = ["--against", "list.ndjson"];
    let check = |run: Verify, server: &Server| {
        let (code, report) = run(server, &of_csv);
        assert_eq!(code, Some(1));
        let expected = [("against_missing", 1), ("against_value", 2), ("against_event", 1), ("against_extra", 1)];
        let mut told = kinds(&report);
        told.sort();
        let mut expected = found(&expected);
        expected.sort();
        assert_eq!(told, expected, "{report}");
        let mut values = details(&report, "against_value");
        values.sort();
        assert_eq!(
            values,
            [
                "order/b: payment.status: is \"successful\", the list has \"failed\"",
                "order/d/e: shipping.estimatedDays: is 2, the list has \"3\"",
            ]
        );
        assert_eq!(details(&report, "against_missing"), ["order/x: nothing was heard of it"]);
        assert_eq!(details(&report, "against_event"), ["order/b: event \"b-lost\" of \"/test\""]);
        assert_eq!(details(&report, "against_extra"), ["order/c: not in the list"]);
        let (code, report) = run(server, &of_lines);
        assert_eq!(
            (code, kinds(&report)),
            (Some(1), found(&[("against_missing", 1), ("against_value", 1)])),
            "{report}"
        );
        assert!(details(&report, "against_value")[0].starts_with("order/b: stock: is {"), "{report}");
    };
    check(verify, &server);
    assert_eq!(server.metric("turnstile_verify_findings{kind=\"against_missing\"}"), Some(1.0));
    let output = server.cli(&["verify", "--against", "list.csv"]);
    assert_eq!(output.status.code(), Some(2), "rows without a type");
    std::fs::write(server.path("ids.csv"), "source,id\n/test,a-paid\n/test,lost\n,a-paid\n").expect("a file");
    let (code, report) = verify(&server, &["--against", "ids.csv"]);
    let mut told = details(&report, "against_event");
    told.sort();
    let never = |id: &str, source: &str| format!("all entities: event {id:?} of {source:?} never came");
    assert_eq!((code, told), (Some(1), vec![never("a-paid", "default"), never("lost", "/test")]));
    server.kill();
    check(verify_stopped, &server);
}

const AWKWARD: &str = r#"
[entity.thing]
key = "event.subject"
[entity.thing.fields]
v = { on = "Seen", take = "latest", value = "event.data.v" }
at = { on = "Seen", take = "max", value = "event.time" }
version = { on = "Seen", take = "latest", value = "event.data.v" }
marks = { on = "Seen", take = "list", value = "[{'at': event.time, 'for': duration('90s')}]" }
[entity.thing.derived]
wait = "duration('1h30m')"
times = "{'first': thing.at, 'all': [thing.at]}"
[entity.thing.decision.Told]
when = "has(thing.at)"
data = { at = "thing.at", v = "thing.?v" }
"#;

/// If this failed, times, durations and long numbers would differ from the very list that was made of them.
#[test]
fn what_was_exported_agrees_with_what_it_is_of() {
    let mut server = common::Setup::new(AWKWARD).start();
    let values = ["1e300", "0.1", "-0.0", "12345678901234567890123", "1.50", "9007199254740993", "null", "true"];
    let others = [r#"{"x":[1,2.50,{"y":"2026-11-20T10:00:00Z"}]}"#, r#""2026-11-20T10:00:00Z""#, r#"["a",null]"#];
    let seen = |(n, value): (usize, &&str)| {
        format!(
            r#"{{"id":"{n}","type":"Seen","subject":"{n}","time":"2026-11-20T10:00:00.25Z","data":{{"v":{value}}}}}"#
        )
    };
    let lines: Vec<String> = values.iter().chain(&others).enumerate().map(seen).collect();
    server.post("/v1/events", common::orders::NDJSON, lines.join("\n")).expect(202);
    let said = |arguments: &[&str]| String::from_utf8(server.cli(arguments).stdout).expect("UTF-8");
    let files = [
        ("all.ndjson", said(&["export", "entities", "thing"])),
        ("all.csv", said(&["export", "entities", "thing", "--format", "csv"])),
        ("one.ndjson", said(&["get", "thing", "3", "--json"]).lines().map(str::trim).collect::<String>()),
        (
            "times.ndjson",
            r#"{"key":"1","at":"2026-11-20T11:00:00.250+01:00","wait":"90m","times.all.0":null}"#.to_owned(),
        ),
        (
            "other.ndjson",
            r#"{"key":"3","v":12345678901234567890124,"at":"2026-11-20T10:00:00Z","wait":"2h"}"#.to_owned(),
        ),
    ];
    for (name, text) in &files {
        assert_eq!(text.contains("2026-11-20T10:00:00.25"), name.len() < 11, "{name}: {text}");
        std::fs::write(server.path(name), text).expect("a file");
    }
    let check = |run: Verify, server: &Server| {
        for (name, expected) in
            [("all.ndjson", 0), ("all.csv", 0), ("one.ndjson", 0), ("times.ndjson", 1), ("other.ndjson", 3)]
        {
            let (_, report) = run(server, &["--against", name, "--entity", "thing"]);
            let found = details(&report, "against_value");
            assert_eq!(
                (found.len(), kinds(&report).len()),
                (expected, usize::from(expected > 0)),
                "{name}: {found:#?}"
            );
        }
    };
    check(verify, &server);
    server.kill();
    check(verify_stopped, &server);
}
