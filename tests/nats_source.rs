//! The source `nats` against a real server: what a message means, what becomes of one that is no event, and what people are
//! told. Skipped, and said so, where there is no server to be had.

mod common;

use std::path::Path;
use std::process::Command;

use async_nats::HeaderMap;
use common::bus::{Bus, STREAM, check_orders, letters, orders, setup, shown, source};
use common::nats::Nats;
use common::tools::tools;
use common::totals::{RULES, priced};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

fn in_log(server: &Server, what: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(what)).count()
}

/// If this failed, messages of some senders would be refused or mean something else, or a repeat would count twice.
#[test]
fn a_message_is_an_event_in_each_form() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    let mapping = "event = { type = \"meta.tokens[1]\", subject = \"meta.subject\", source = \"meta.headers.Sender\", \
                   data = \"{'orderId': body.order, 'total': body.total, 'at': meta.tokens[2]}\" }";
    let more = r#"at = { on = "Priced", take = "latest", value = "event.subject" }
sources = { on = "Priced", take = "set", value = "event.source" }
ids = { on = "Priced", take = "set", value = "event.id" }
[entity.order.decision.Total]"#;
    let rules = RULES.replace("[entity.order.decision.Total]", more);
    let mut server = Setup::new(&rules).tables(&source(&nats, &format!("{STREAM}{mapping}"))).start();
    let headers = |pairs: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    };
    let data = |order: &str| json!({"orderId": order, "total": 5}).to_string().into_bytes();
    let plain = |order: &str| json!({"order": order, "total": 5}).to_string().into_bytes();
    let binary = headers(&[
        ("ce-id", "7"),
        ("CE-Type", "Priced"),
        ("ce-source", "/caf%C3%A9"),
        ("ce-subject", "own"),
        ("Content-Type", "application/json; charset=utf-8"),
    ]);
    let structured =
        json!({"id": "8", "type": "Priced", "subject": "own", "data": {"orderId": "structured", "total": 5}});
    let messages = [
        ("orders.Priced.north".to_owned(), binary, data("binary")),
        (
            "orders.Priced.north".to_owned(),
            headers(&[("content-type", "application/cloudevents+json")]),
            structured.to_string().into_bytes(),
        ),
        ("orders.Priced.north".to_owned(), headers(&[("Sender", "/erp"), ("Nats-Msg-Id", "m-9")]), plain("mapped")),
        ("orders.Priced.south".to_owned(), HeaderMap::new(), plain("bare")),
    ];
    bus.publish(&messages);
    bus.drained();
    for (order, subject, from, id) in [
        ("binary", "own", "/café", "7"),
        ("structured", "own", "default", "8"),
        ("mapped", "orders.Priced.north", "/erp", "m-9"),
        ("bare", "orders.Priced.south", "default", "ORDERS:4"),
    ] {
        let fields = server.entity("order", order)["fields"].clone();
        assert_eq!(fields, json!({"total": 5, "at": subject, "sources": [from], "ids": [id]}), "{order}");
    }
    let info = bus.consumer();
    assert_eq!((info.config.filter_subject.as_str(), info.delivered.consumer_sequence), ("", 4), "each came once");
    // The consumer is forgotten, and a new one delivers everything again.
    assert_eq!(server.terminate().code(), Some(0));
    bus.runtime.block_on(async {
        let stream = bus.jetstream.get_stream("ORDERS").await.expect("the stream");
        stream.delete_consumer("turnstile").await.expect("it is deleted");
    });
    server.start();
    wait_for("everything came again", || {
        (server.metric("turnstile_events_applied_total{entity=\"order\",outcome=\"duplicate\"}") == Some(4.0))
            .then_some(())
    });
    assert!(letters(&server, 0).is_empty());
    assert_eq!(server.entity("order", "bare")["events"], json!(1));
}

/// If this failed, what cannot be taken would be lost, come for ever, stand in the list twice, or hold up the others.
#[test]
fn what_is_refused_is_a_dead_letter_once() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    bus.make_consumer();
    let mut server = setup(&nats, STREAM).tables("[limits]\nevent_bytes_max = \"2KiB\"").start();
    let mut headers = HeaderMap::new();
    headers.insert("Trace", "t-1");
    let nobodys = json!({"id": "other-1", "type": "Unknown"}).to_string();
    let other_price =
        json!({"id": "o-0-1", "source": "/test", "type": "Priced", "data": {"orderId": "o-0", "total": 9}});
    let bad: Vec<(&str, HeaderMap, Vec<u8>)> = vec![
        ("invalid_json", HeaderMap::new(), b"{\"id\":".to_vec()),
        ("invalid_json", headers, vec![0xff, 0, b'\n']),
        ("unmatched", HeaderMap::new(), nobodys.into_bytes()),
        ("too_large", HeaderMap::new(), format!("{:3000}", 1).into_bytes()),
        ("conflict", HeaderMap::new(), other_price.to_string().into_bytes()),
        ("missing_type", HeaderMap::new(), b"{}".to_vec()),
    ];
    bus.publish_events(&[priced("o-0", 1)]);
    bus.drained();
    for round in 0..3 {
        if round == 1 {
            // Taken again by another, whoever was told before.
            bus.runtime.block_on(async {
                let stream = bus.jetstream.get_stream("ORDERS").await.expect("the stream");
                stream.delete_consumer("turnstile").await.expect("it is deleted");
            });
            bus.make_consumer();
        } else {
            server.restart();
        }
        if round == 0 {
            let messages = bad.iter().map(|(_, headers, body)| ("orders.x".to_owned(), headers.clone(), body.clone()));
            bus.publish(&messages.collect::<Vec<_>>());
        }
        bus.publish_events(&[priced("o-0", round + 2)]);
        bus.drained();
    }
    let items = letters(&server, bad.len());
    for (at, (reason, headers, body)) in bad.iter().enumerate() {
        let position = format!("ORDERS:{}", at + 2);
        let id = format!("source.bus.{position}");
        let item = items.iter().find(|item| item["id"] == id.as_str()).unwrap_or_else(|| panic!("{id} in {items:?}"));
        assert_eq!(
            (&item["reason"], &item["position"], &item["source"]),
            (&json!(reason), &json!(position), &json!("bus"))
        );
        let id = if *reason == "conflict" { "o-0-1" } else { &position };
        let id = if *reason == "unmatched" { "other-1" } else { id };
        assert_eq!(item["event"], json!(id), "{item}");
        assert!(item["detail"].as_str().is_some_and(|detail| detail.ends_with("(subject orders.x)")), "{item}");
        let letter = server
            .get(&format!("/v1/dead-letters/{}", common::percent(item["id"].as_str().expect("an id"))))
            .expect(200)
            .json();
        if headers.is_empty() {
            assert_eq!(letter["body"], json!(String::from_utf8_lossy(body)), "{letter}");
        } else {
            // NATS/1.0, the header, an empty line, and the three bytes.
            assert_eq!(letter["body_base64"], json!("TkFUUy8xLjANClRyYWNlOiB0LTENCg0K/wAK"), "{letter}");
        }
    }
    check_orders(&server, &["o-0".to_owned()], 4);
    assert_eq!(server.metric("turnstile_dead_letters{reason=\"invalid_json\"}"), Some(2.0));
    let listed = String::from_utf8(server.cli(&["dead-letters", "ls", "--source", "bus"]).stdout).expect("text");
    assert!(listed.contains("source.bus.ORDERS:5  ") && listed.contains("  ORDERS:5  "), "{listed}");
    let shown = String::from_utf8(server.cli(&["dead-letters", "show", "source.bus.ORDERS:2"]).stdout).expect("text");
    assert!(shown.contains("reason    invalid_json\n") && shown.ends_with("\n\n{\"id\":\n"), "{shown}");
}

/// If this failed, Turnstile would need NATS and its stream in order to start, or nobody could see what is missing.
#[test]
fn it_starts_before_nats_and_before_the_stream() {
    let Some(mut nats) = Nats::prepare("") else { return };
    let server = setup(&nats, STREAM).start();
    let ready = || server.get("/readyz").expect(200).json();
    assert_eq!(ready(), json!({"status": "ready", "not_connected": ["bus"]}));
    assert_eq!(shown(&server)["connected"], json!(false));
    assert_eq!(server.metric("turnstile_source_up{source=\"bus\"}"), Some(0.0));
    common::orders::feed(&server, &[priced("o-0", 1)]);
    nats.run();
    let bus = Bus::new(&nats);
    wait_for("it misses the stream", || {
        shown(&server)["problem"].as_str().is_some_and(|problem| problem.contains("stream not found")).then_some(())
    });
    assert_eq!(ready()["not_connected"], json!(["bus"]));
    bus.make_stream();
    bus.publish_events(&[priced("o-0", 2)]);
    wait_for("it receives", || (server.entity("order", "o-0")["events"] == 2).then_some(()));
    assert_eq!(ready(), json!({"status": "ready", "not_connected": []}));
    let expected = json!({"name": "bus", "kind": "nats", "connected": true, "stream": "ORDERS", "consumer": "turnstile",
        "lag": 0});
    assert_eq!(shown(&server), expected);
    assert_eq!(server.metric("turnstile_source_up{source=\"bus\"}"), Some(1.0));
    assert_eq!(in_log(&server, "is not connected to NATS"), 1, "{}", server.stderr());
    assert_eq!(in_log(&server, "stream not found"), 1, "{}", server.stderr());
    nats.kill();
    wait_for("it is told", || (ready()["not_connected"] == json!(["bus"])).then_some(()));
}

/// If this failed, what NATS holds would be fetched while it cannot be kept here, or would be given up.
#[test]
fn nothing_is_pulled_behind_a_closed_gate() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    bus.publish_events(&[priced("o-0", 1)]);
    let closed = "[limits]\ndisk_free_min = \"1000TiB\"\n";
    let mut server = setup(&nats, STREAM).tables(closed).start();
    wait_for("it sees what there is", || {
        (server.metric("turnstile_source_lag_messages{source=\"bus\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(shown(&server)["connected"], json!(true));
    let info = bus.consumer();
    assert_eq!((info.delivered.consumer_sequence, info.num_waiting, info.num_pending), (0, 0, 1));
    assert_eq!(server.terminate().code(), Some(0));
    server.rewrite(&setup(&nats, STREAM).text());
    server.start();
    bus.drained();
    check_orders(&server, &["o-0".to_owned()], 1);
}

/// If this failed, messages would be refused for being too many at a time, or those that are no events would fill the
/// memory.
#[test]
fn what_is_too_much_waits() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    let orders = orders(200);
    let events: Vec<Value> = (1..=5).flat_map(|n| orders.iter().map(move |order| priced(order, n))).collect();
    let bad = |n: usize| ("orders.x".to_owned(), HeaderMap::new(), format!("{n}, {}", " ".repeat(1000)).into_bytes());
    bus.publish_events(&events);
    bus.publish(&(0..500).map(bad).collect::<Vec<_>>());
    bus.publish_events(&events);
    let limits = "[limits]\nin_flight_records_max = 64\n";
    let server = setup(&nats, STREAM).tables(limits).start();
    bus.drained();
    assert_eq!(bus.consumer().delivered.consumer_sequence, 2500, "each came once");
    check_orders(&server, &orders, 5);
    let codes = server.get("/metrics").expect(200).text();
    let codes: Vec<&str> = codes.lines().filter(|line| line.starts_with("turnstile_events_refused_total")).collect();
    assert_eq!(codes, ["turnstile_events_refused_total{code=\"invalid_json\",source=\"bus\"} 500"]);
    assert_eq!(server.metric("turnstile_dead_letters{reason=\"invalid_json\"}"), Some(500.0));
}

/// If this failed, one who asks over NATS would be told something else than over HTTP, or nobody would be warned that
/// messages may be lost.
#[test]
fn a_request_is_answered_as_over_http() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    let server = setup(&nats, "subjects = [\"orders.>\", \"other\"]\nqueue = \"workers\"\n").start();
    assert_eq!(in_log(&server, "events come at most once"), 1, "{}", server.stderr());
    wait_for("it listens", || (shown(&server)["connected"] == true).then_some(()));
    let client = bus.jetstream.client();
    let ask = |subject: &'static str, event: &Value| {
        let payload = event.to_string();
        wait_for("somebody answers", || {
            let answer = bus.runtime.block_on(client.request(subject, payload.clone().into())).ok()?;
            Some(serde_json::from_slice::<Value>(&answer.payload).expect("JSON"))
        })
    };
    let post = |event: &Value| server.post("/v1/events", "application/json", event.to_string()).json();
    for event in [priced("o-0", 1), json!({"id": "x", "type": "Nobodys"}), json!({"type": "Priced"})] {
        let over_nats = ask("orders.a", &event);
        let mut over_http = post(&event);
        if over_nats["accepted"] == 1 {
            (over_http["accepted"], over_http["duplicates"]) = (json!(1), json!(0));
        }
        assert_eq!(over_nats, over_http);
    }
    assert_eq!(ask("other", &priced("o-0", 1))["duplicates"], json!(1));
    // Without anybody to answer, what is refused is a dead letter, once.
    bus.runtime.block_on(async {
        for payload in ["no", "no", "neither"] {
            client.publish("orders.b", payload.into()).await.expect("it is published");
        }
        client.publish("orders.b", priced("o-0", 2).to_string().into()).await.expect("it is published");
        client.flush().await.expect("it has left");
    });
    wait_for("the last has come", || (server.entity("order", "o-0")["events"] == 2).then_some(()));
    let items = letters(&server, 2);
    assert!(items.iter().all(|item| item["reason"] == "invalid_json"), "{items:?}");
    // A burst that there is room for is taken whole.
    let orders = orders(1000);
    bus.runtime.block_on(async {
        for order in &orders {
            client
                .publish("other", priced(&format!("b-{order}"), 1).to_string().into())
                .await
                .expect("it is published");
        }
        client.flush().await.expect("it has left");
    });
    wait_for("all have come", || {
        (server.metric("turnstile_events_applied_total{entity=\"order\",outcome=\"merged\"}") == Some(1002.0))
            .then_some(())
    });
    assert_eq!(server.metric("turnstile_source_dropped_total{source=\"bus\"}"), Some(0.0));
}

/// If this failed, a secret would stand where everybody looks, or what is wrong with one source would look like a crash.
#[test]
fn secrets_stay_secret() {
    let Some(nats) = Nats::start("authorization { user: me, password: pass-word-7 }") else { return };
    let keys = |password: &str| format!("subjects = \"orders.>\"\nuser = \"me\"\npassword = \"{password}\"\n");
    let mut server = setup(&nats, &keys("wrong-word-7")).start();
    wait_for("it is refused", || (in_log(&server, "is not connected to NATS") == 1).then_some(()));
    assert_eq!(server.terminate().code(), Some(0));
    server.rewrite(&setup(&nats, &keys("pass-word-7")).text());
    server.start();
    wait_for("it is let in", || (shown(&server)["connected"] == true).then_some(()));
    let mut told = server.stderr() + &server.stdout().join("\n") + &server.get("/v1/status").text();
    told.push_str(&String::from_utf8_lossy(&server.cli(&["check", "--print"]).stdout));
    assert!(told.contains("password = \"***\""), "{told}");
    server.kill();
    server.rewrite(&setup(&nats, "subjects = \"x\"\ncredentials_file = \"secret\"\n").text());
    std::fs::write(server.path("secret"), "hidden-word-7").expect("the secret is written");
    let output = server.run_to_end();
    let ended = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{ended}");
    assert!(ended.contains("source `bus` cannot start") && !ended.contains("panicked"), "{ended}");
    told.push_str(&ended);
    assert!(!told.contains("-word-7"), "{told}");
}

/// If this failed, the first thing that people try would not work.
#[test]
fn the_example_runs_with_its_three_commands() {
    const COMMANDS: &str = "\n```sh\nnats-server --jetstream --store_dir data/nats\n\
        target/release/turnstile -c examples/orders/nats.toml\npython3 examples/orders/publish.py\n```\n";
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders");
    let page = std::fs::read_to_string(example.join("README.md")).expect("its page");
    assert!(page.contains(COMMANDS), "the commands that are run here stand there");
    let Some(nats) = Nats::start("") else { return };
    let config = std::fs::read_to_string(example.join("nats.toml")).expect("its configuration");
    let config = config
        .replace("\"rules.toml\"", &format!("{:?}", example.join("rules.toml")))
        .replace("\"../../data/orders-nats\"", "\"data\"")
        .replace("127.0.0.1:4222", &nats.address())
        .replace("127.0.0.1:7480", "127.0.0.1:0");
    // That of other tests listens for lines as well, by which they know that it runs.
    let listener = "[source.tcp]\nkind = \"tcp\"\nlisten = \"127.0.0.1:0\"\n";
    let mut server = Setup::new("").write();
    server.rewrite(&format!("{config}{listener}"));
    server.start();
    let publish = || {
        let mut command = Command::new(tools().expect("there is a server").join("python"));
        let output = command.arg(example.join("publish.py")).arg(nats.url()).output().expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let shown = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("what it prints");
    let mut shown: Vec<String> = shown.lines().map(str::to_owned).collect();
    shown.sort_unstable();
    assert_eq!(publish(), shown);
    letters(&server, 2);
    assert_eq!(publish(), shown, "the decisions are those of before");
    letters(&server, 4);
    // Five, and one more when an order's payment is overdue, which it is after a few seconds.
    let delivered = server.metric("turnstile_sink_deliveries_total{result=\"ok\",sink=\"bus\"}");
    assert!(delivered.is_some_and(|count| (5.0..=6.0).contains(&count)), "{delivered:?}");
}
