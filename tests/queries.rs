//! Answers out over HTTP: entities, pages, decisions, and what watches the node.

mod common;

use common::orders::{RULES, created, event, feed, paid, reserved, shipped};
use common::{Server, Setup, percent, wait_for};
use serde_json::{Value, json};

/// The document is what every other tool is built on.
#[test]
fn the_entity_document() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("order-123", "successful"), created("order-123"), shipped("order-123")]);
    let lsn = feed(&server, &[reserved("order-123"), created("order-123")])["lsn"].as_u64().expect("an lsn");
    let document = server.get(&format!("/v1/entities/order/order-123?min_lsn={lsn}")).expect(200).json();
    let members =
        ["type", "key", "version", "lsn", "updated", "events", "fields", "derived", "completeness", "missing"];
    let more = ["waiting_for", "decisions", "deadlines", "effects", "errors"];
    for member in members.iter().chain(&more) {
        assert!(!document[member].is_null(), "the document has `{member}`: {document}");
    }
    assert_eq!((&document["type"], &document["key"]), (&json!("order"), &json!("order-123")));
    assert_eq!((&document["version"], &document["events"]), (&json!(4), &json!(4)), "{document}");
    assert_eq!(document["lsn"].as_u64(), Some(lsn), "the last record's position: {document}");
    assert_eq!(document["fields"]["payment"], json!({"orderId": "order-123", "status": "successful"}));
    assert_eq!(document["fields"]["created"], "2026-11-20T10:00:00Z");
    assert_eq!(document["derived"], json!({"decidable": true, "failed": false, "status": "processing"}));
    assert_eq!((&document["completeness"], &document["missing"]), (&json!(0.8), &json!(["loyalty"])));
    let confirmed = &document["decisions"]["OrderConfirmed"];
    assert_eq!(confirmed["data"], json!({"warehouse": "west", "days": 2}), "{document}");
    assert_eq!((&confirmed["state"], &confirmed["revision"]), (&json!("made"), &json!(1)), "{document}");
    assert_eq!(confirmed["lsn"].as_u64(), Some(lsn), "made by the last record: {document}");
    let rejected = &document["decisions"]["OrderRejected"];
    assert_eq!((&rejected["state"], &rejected["needs"]), (&json!("pending"), &json!([])), "{document}");
    for empty in ["deadlines", "effects", "errors"] {
        assert_eq!(document[empty], json!({}), "{document}");
    }

    feed(&server, &[paid("early", "successful")]);
    let early = server.entity("order", "early");
    let needs = early["decisions"]["OrderConfirmed"]["needs"].to_string();
    assert!(needs.contains("stock"), "a pending decision tells what it needs: {early}");
    assert_eq!(early["completeness"], 0.2, "{early}");
}

/// Corrected data revises, contrary data withdraws; the order of the two does not matter for what stands in the end.
#[test]
fn decisions_are_revised_and_withdrawn() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o", "successful"), reserved("o"), shipped("o")]);
    let revised = &server.entity("order", "o")["decisions"]["OrderConfirmed"];
    assert_eq!((&revised["state"], &revised["revision"]), (&json!("revised"), &json!(2)), "{revised}");
    let mut failed = event("o-failed", "PaymentProcessed", "o", &json!({"status": "failed"}));
    failed["time"] = "2026-11-20T11:00:00Z".into();
    feed(&server, &[failed]);
    let decisions = &server.entity("order", "o")["decisions"];
    assert_eq!(decisions["OrderConfirmed"]["state"], "withdrawn", "{decisions}");
    assert_eq!(decisions["OrderConfirmed"]["revision"], 3, "{decisions}");
    assert_eq!(decisions["OrderRejected"]["state"], "made", "{decisions}");
    let file = wait_for("the file has all four", || Some(server.decisions_file()).filter(|file| file.len() >= 4));
    let told: Vec<_> = file.iter().map(|line| (&line["id"], &line["decisionstate"])).collect();
    let expected = [
        (json!("order/o/OrderConfirmed/1"), json!("made")),
        (json!("order/o/OrderConfirmed/2"), json!("revised")),
        (json!("order/o/OrderConfirmed/3"), json!("withdrawn")),
        (json!("order/o/OrderRejected/1"), json!("made")),
    ];
    assert_eq!(told, expected.iter().map(|(id, state)| (id, state)).collect::<Vec<_>>(), "withdrawals come first");
    assert_eq!(file[0]["causationid"], "o-reserved", "the event that caused it: {}", file[0]);
    assert_eq!(file[0]["correlationid"], "o-paid", "the first event of the entity: {}", file[0]);
    assert_eq!(file[0]["specversion"], "1.0", "{}", file[0]);
}

/// Keys are anything; a URL that cannot name one would hide it.
#[test]
fn any_key_can_be_asked_for() {
    let server = Setup::new(RULES).start();
    for key in ["a/b", "a b", "ä€\u{1F600}", "50%", "q?x=1#y", "..", ".", "a+b", "nul\0l", "'\"\\"] {
        let receipt = feed(&server, &[created(key)]);
        let link = receipt["entities"][0].as_str().unwrap_or_else(|| panic!("{key:?}: no link in {receipt}"));
        for path in [link.to_owned(), format!("/v1/entities/order/{}", percent(key))] {
            let document = server.get(&path).expect(200).json();
            assert_eq!(document["key"], key, "{path}");
        }
    }
    assert_eq!(server.entities("order", 3).len(), 10, "and all are in the pages");
}

/// What is not there is said so, as a problem.
#[test]
fn what_is_not_found() {
    let server = Setup::new(RULES).start();
    feed(&server, &[created("o-1")]);
    for path in [
        "/v1/entities/order/none",
        "/v1/entities/nonsense",
        "/v1/entities/nonsense/o-1",
        "/v1/entities/order/none/history",
        "/v1/entities/order/o-1/events/none",
        "/v1/entities/order/o-1/nonsense",
        "/v1/nonsense",
        "/nonsense",
    ] {
        server.get(path).problem(404);
    }
    server.request("DELETE", "/v1/entities/order/none", &[], b"").problem(404);
    server.request("PUT", "/v1/entities/order/o-1", &[], b"").problem(405);
    assert_eq!(server.entity("order", "o-1")["events"], 1);
}

/// A sender that got no answer can ask whether its event arrived.
#[test]
fn the_status_of_an_event() {
    let mut server = Setup::new(RULES).start();
    feed(&server, &[created("a/b")]);
    for _ in 0..2 {
        let path = "/v1/entities/order/a%2Fb/events/a%2Fb-created";
        let answer = server.get(&format!("{path}?source=%2Ftest")).expect(200);
        assert!(answer.text().contains("applied"), "{}", answer.text());
        server.get(&format!("{path}?source=%2Fother")).problem(404);
        server.get("/v1/entities/order/a%2Fb/events/other?source=%2Ftest").problem(404);
        server.restart();
    }
}

/// Decisions can be read from where one left off, without a gap and without repetition.
#[test]
fn decisions_since() {
    let server = Setup::new(RULES).start();
    let orders: Vec<String> = (0..25).map(|n| format!("o-{n}")).collect();
    for order in &orders {
        feed(&server, &[paid(order, "successful"), reserved(order)]);
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    let mut pages = 0;
    loop {
        let page = server.get(&format!("/v1/decisions?limit=10{after}")).expect(200).json();
        let items = page["items"].as_array().expect("items").clone();
        assert!(items.len() <= 10, "{page}");
        seen.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        pages += 1;
        assert!(pages < 20, "the pages come to an end");
        if let Some(next) = page["next"].as_str() {
            after = format!("&after={}", percent(next));
        }
        if items.is_empty() || page["next"].is_null() {
            break;
        }
    }
    let expected: Vec<String> = orders.iter().map(|order| format!("order/{order}/OrderConfirmed/1")).collect();
    assert_eq!(seen, expected, "each once, in the order in which they were made");
    let item = &server.get("/v1/decisions?limit=1").expect(200).json()["items"][0];
    assert_eq!(item["type"], "OrderConfirmed", "an item is the CloudEvent: {item}");
    assert_eq!(item["data"], json!({"warehouse": "west", "days": 5}), "{item}");
}

fn keys(server: &Server, query: &str) -> Vec<String> {
    let page = server.get(&format!("/v1/entities/order?{query}")).expect(200).json();
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["key"].as_str().expect("a key").to_owned()).collect()
}

/// Lists that leave out or repeat an entity hide holes in the data, which is what they are for.
#[test]
fn lists_with_filters_and_pages() {
    let mut server = Setup::new(RULES).start();
    let mut all = Vec::new();
    for n in 0..30 {
        let order = format!("{}-{n:02}", if n % 3 == 0 { "a" } else { "b" });
        feed(&server, &[paid(&order, if n % 2 == 0 { "successful" } else { "failed" })]);
        if n < 5 {
            let loyalty = event(&format!("{order}-l"), "LoyaltyPointsUpdated", &order, &json!({"points": n}));
            feed(&server, &[created(&order), reserved(&order), shipped(&order), loyalty]);
        }
        all.push(order);
    }
    all.sort();
    for stored in [false, true] {
        if stored {
            // After an orderly stop the entities are in the store and nowhere else.
            assert_eq!(server.terminate().code(), Some(0));
            server.start();
        }
        let types = server.get("/v1/entities").expect(200).text();
        assert!(
            types.contains("order") && types.contains("30") && types.contains("note"),
            "types with counts: {types}"
        );
        for page in [1, 7, 30, 1000] {
            let mut paged: Vec<_> =
                server.entities("order", page).iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect();
            paged.sort();
            assert_eq!(paged, all, "in pages of {page}");
        }
        let sorted = |query: &str| {
            let mut keys = keys(&server, query);
            keys.sort();
            keys
        };
        let starts_with_a: Vec<_> = all.iter().filter(|key| key.starts_with("a-")).cloned().collect();
        assert_eq!(sorted("prefix=a-&limit=100"), starts_with_a);
        let failed = format!("limit=100&where={}", percent("order.status == 'payment_failed'"));
        assert_eq!(sorted(&failed).len(), 15);
        let both =
            format!("prefix=a-&limit=100&where={}", percent("order.?payment.status == 'failed' && has(order.stock)"));
        assert_eq!(sorted(&both), ["a-03"]);
        assert_eq!(sorted("limit=100&incomplete=true").len(), 25, "five are complete");
    }
    for wrong in ["where=order.nonsense%20%3D%3D%201", "where=%28", "limit=0", "limit=many"] {
        let response = server.get(&format!("/v1/entities/order?{wrong}"));
        assert_eq!(response.status, 400, "{wrong}: {}", response.text());
    }
}

/// What watches the node must be able to tell alive, ready and what it does.
#[test]
fn health_status_and_metrics() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o", "successful"), reserved("o"), paid("o", "successful")]);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    let status = server.get("/v1/status").expect(200).json();
    assert!(status.to_string().contains(env!("CARGO_PKG_VERSION")), "the status tells the version: {status}");
    for (sample, value) in [
        (r#"turnstile_events_accepted_total{source="http"}"#, 3.0),
        (r#"turnstile_events_applied_total{entity="order",outcome="merged"}"#, 2.0),
        (r#"turnstile_events_applied_total{entity="order",outcome="duplicate"}"#, 1.0),
        (r#"turnstile_decisions_total{decision="OrderConfirmed",entity="order",state="made"}"#, 1.0),
        (r#"turnstile_actors_live{entity="order"}"#, 1.0),
        (r#"turnstile_entities_incomplete{entity="order",field="loyalty"}"#, 1.0),
        (&format!(r#"turnstile_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(server.metric(sample), Some(value), "{sample}");
    }
    wait_for("the sink has delivered", || {
        (server.metric(r#"turnstile_sink_lag_records{sink="decisions"}"#) == Some(0.0)).then_some(())
    });
    let metrics = server.get("/metrics").expect(200);
    assert!(metrics.header("content-type").unwrap_or_default().starts_with("text/plain"), "an exposition is text");
    for name in [
        "turnstile_event_delay_seconds",
        "turnstile_decision_delay_seconds",
        "turnstile_ack_duration_seconds",
        "turnstile_commit_duration_seconds",
        "turnstile_commit_records",
        "turnstile_in_flight_records",
        "turnstile_journal_lsn",
        "turnstile_watermark_lsn",
        "turnstile_checkpoint_duration_seconds",
        "turnstile_completeness_ratio",
        "turnstile_sink_deliveries_total",
        "turnstile_connections",
        "turnstile_http_requests_total",
        "turnstile_store_bytes",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.text().contains(&format!("# TYPE {name} ")), "there is no {name}");
    }
    assert!(!metrics.text().contains("\"o\""), "a key is never a label");
    promtool(&metrics.text());
}

fn promtool(exposition: &str) {
    use std::io::Write;
    let command = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = command else {
        println!("skipped: promtool is not on the PATH");
        return;
    };
    child.stdin.take().expect("a pipe").write_all(exposition.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "promtool: {}", String::from_utf8_lossy(&said));
}

/// If this failed, one request would take as much memory as there is data.
#[test]
fn pages_are_bounded_in_bytes_and_leave_out_nothing() {
    const ORDERS: usize = 12;
    let rules = RULES.replace("days =", "note = \"order.payment.note\", days =");
    let server = Setup::new(&rules).start();
    let note = "x".repeat(1_000_000);
    for n in 0..ORDERS {
        let order = format!("o-{n:02}");
        let mut paid =
            event(&format!("{order}-p"), "PaymentProcessed", &order, &json!({"status": "successful", "note": note}));
        paid["correlationid"] = "big".into();
        feed(&server, &[paid, reserved(&order)]);
    }
    for (path, member) in [("/v1/entities/order", "key"), ("/v1/decisions", "subject"), ("/v1/correlations/big", "key")]
    {
        let (mut seen, mut pages, mut after) = (Vec::new(), 0, String::new());
        loop {
            let page = server.get(&format!("{path}?limit=1000{after}")).expect(200).text();
            assert!(page.len() < 5 << 20, "{path}: {} bytes", page.len());
            let page: Value = serde_json::from_str(&page).unwrap();
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item[member].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str().filter(|_| !items.is_empty()) else { break };
            after = format!("&after={}", percent(next));
            pages += 1;
        }
        seen.dedup();
        assert_eq!(seen, (0..ORDERS).map(|n| format!("o-{n:02}")).collect::<Vec<_>>(), "{path}");
        assert!(pages >= 3, "{path}: {pages}");
    }
}

/// If this failed, whoever goes on with the position of another journal would miss decisions without being told, or one who
/// read to the end would be turned away, also after a crash.
#[test]
fn a_position_of_another_journal_is_refused() {
    let mut server = Setup::new(RULES).start();
    let refused = |server: &Server, after: &str| {
        for path in ["/v1/decisions?after=", "/v1/export/decisions?after="] {
            let answer = server.get(&format!("{path}{after}"));
            assert_eq!(answer.problem(400), "invalid_value", "{path}{after}");
            assert!(answer.text().contains("a position of another journal: this one ends at LSN"), "{}", answer.text());
        }
    };
    server.get("/v1/decisions?after=0").expect(200);
    refused(&server, "99");
    feed(&server, &[paid("o", "successful"), reserved("o")]);
    let read = |server: &Server, after: &str| {
        let page = server.get(&format!("/v1/decisions?after={after}")).expect(200).json();
        let next = page["next"].as_str().expect("where to go on").to_owned();
        (page["items"].as_array().expect("items").len(), next)
    };
    let (count, end) = read(&server, "0");
    assert_eq!(count, 1);
    assert_eq!(read(&server, &end), (0, end.clone()));
    server.get(&format!("/v1/export/decisions?after={end}")).expect(200);
    refused(&server, "99999999");
    server.kill();
    server.start();
    assert_eq!(read(&server, &end).0, 0, "what was given out is committed");
    refused(&server, "99999999");
}

/// If this failed, a slip in a filter would look as if there were nothing, or a body that is none be told in words of the
/// inside.
#[test]
fn slips_are_told() {
    let server = Setup::new(RULES).start();
    for (path, hint) in [
        ("/v1/paused?type=ordre", "did you mean `order`?"),
        ("/v1/effects?type=ordre", "did you mean `order`?"),
        ("/v1/effects?effect=zz", "no effect is called"),
        ("/v1/effects?type=order&effect=zz", "no effect is called"),
        ("/v1/dead-letters?sink=decision", "did you mean `decisions`?"),
        ("/v1/dead-letters?source=tpc", "did you mean `tcp`?"),
        ("/v1/dead-letters?closed=maybe", "closed is \\\"maybe\\\""),
        ("/v1/decisions?limit=-1", "limit is \\\"-1\\\""),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.problem(400), "invalid_value", "{path}");
        assert!(answer.text().contains(hint), "{path}: {}", answer.text());
    }
    for path in ["/v1/paused?type=order", "/v1/effects?type=order", "/v1/dead-letters?sink=decisions"] {
        assert_eq!(server.get(path).expect(200).json()["items"], json!([]), "{path}");
    }
    for (path, body, hint) in [
        ("/v1/dead-letters/retry", r#"{"source":"zz"}"#, "no source is called"),
        ("/v1/dead-letters/retry", r#"["a", "b"]"#, "the body must be a JSON object"),
        ("/v1/entities/order/pause", "7", "the body must be a JSON object"),
    ] {
        let answer = server.post(path, "application/json", body);
        assert_eq!(answer.problem(400), "invalid_value", "{path} {body}");
        assert!(answer.text().contains(hint), "{path}: {}", answer.text());
    }
    for (arguments, hint) in [
        (&["watch", "--after", "abc"][..], "the position to go on after is \"abc\""),
        (&["watch", "--after", "99"], "99 is a position of another journal"),
        (&["explain", "--correlation", ""], "give one"),
    ] {
        let output = server.cli(arguments);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && why.contains(hint), "{arguments:?}: {why}");
    }
}
