//! Live streams of decisions and changes, as Server-Sent Events: without gap or repeat, also for those who come back;
//! slow readers go, others stay.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::orders::{NDJSON, RULES, created, event, feed, lines, paid, reserved, shipped};
use common::{EventStream, Http, Server, Setup, percent, wait_for};
use serde_json::{Value, json};

/// How often a stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SUBSCRIBERS: usize = 1000;
/// Subscribers that take nothing.
const SLOW: usize = 40;
/// Decisions that they do not take, each of so many bytes: more than the system keeps for a connection.
const UNREAD: usize = 120;
const UNREAD_BYTES: usize = 50_000;

/// Every decision there is, by its id, read page by page.
fn all_decisions(server: &Server) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page = server.get(&format!("/v1/decisions?limit=1000&after={}", percent(&after))).expect(200).json();
        let items = page["items"].as_array().expect("items");
        page["next"].as_str().expect("a position").clone_into(&mut after);
        if items.is_empty() {
            return all;
        }
        all.extend(items.iter().map(id));
    }
}

fn id(decision: &Value) -> String {
    decision["id"].as_str().unwrap_or_else(|| panic!("a decision has an id: {decision}")).to_owned()
}

/// Posts orders, each of which makes a decision, until it is told to stop or the server is gone.
fn keep_feeding(address: SocketAddr, prefix: &str, stop: &AtomicBool) {
    let mut http = Http::connect(address);
    for n in 0.. {
        let order = format!("{prefix}-{n}");
        let body = lines(&[paid(&order, "successful"), reserved(&order)]);
        let answer = http.try_request("POST", "/v1/events", &[("content-type", NDJSON)], body.as_bytes());
        if stop.load(Ordering::Relaxed) || answer.is_err() {
            return;
        }
    }
}

/// If this failed, who follows decisions would miss some or act on some twice after every hiccup of network or server.
#[test]
fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let mut server = Setup::new(RULES).start();
    let (mut seen, mut last) = (Vec::new(), None::<String>);
    for round in 0..4 {
        let (address, stop) = (server.http(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| keep_feeding(address, &format!("r{round}"), &stop));
            // Under load it goes and comes back, in the middle of whatever was on its way.
            for count in [1, 40, 3, 25] {
                let mut stream = EventStream::open(&server, "/v1/decisions", last.as_deref());
                for event in stream.take(count) {
                    assert_eq!(event.name, "decision");
                    seen.push(id(&event.data));
                }
                last = Some(stream.last_id);
            }
            if round % 2 == 0 {
                server.kill();
            }
            stop.store(true, Ordering::Relaxed);
        });
        if round % 2 == 0 {
            server.start();
        }
    }
    let all = all_decisions(&server);
    let mut stream = EventStream::open(&server, "/v1/decisions", last.as_deref());
    seen.extend(stream.take(all.len() - seen.len()).iter().map(|event| id(&event.data)));
    assert_eq!(seen, all);
}

/// If this failed, the state of an entity that a reader keeps up to date would drift from the real one.
#[test]
fn changes_of_one_entity_and_of_a_type() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o-1", "successful")]);
    let mut one = EventStream::open(&server, "/v1/entities/order/o-1", None);
    let mut all = EventStream::open(&server, "/v1/entities/order", None);
    let first = one.take(1).remove(0);
    assert_eq!((&*first.name, &first.data["version"]), ("entity", &json!(1)), "{first:?}");
    feed(&server, &[created("o-2"), reserved("o-1"), reserved("o-1"), shipped("o-1")]);
    let changes = one.take(2);
    let versions: Vec<_> = changes.iter().map(|change| (&*change.name, change.data["version"].clone())).collect();
    assert_eq!(versions, [("change", json!(2)), ("change", json!(3))], "a duplicate changes nothing");
    assert!(changes[0].data.to_string().contains("OrderConfirmed"), "it tells what was decided: {:?}", changes[0]);
    let mut told: Vec<_> = all.take(3).iter().map(|it| format!("{} {}", it.data["key"], it.data["version"])).collect();
    told.sort();
    assert_eq!(told, ["\"o-1\" 2", "\"o-1\" 3", "\"o-2\" 1"]);
    let mut again = EventStream::open(&server, "/v1/entities/order/o-1", Some(&changes[0].id));
    assert_eq!(again.take(1), changes[1..], "who comes back is told what is new, and nothing else");
}

/// If this failed, a thousand readers would be too many, or each would be told something else.
#[test]
fn a_thousand_subscribers_are_told_each_decision_once() {
    let limits = "[limits]\nconnections_max = 1200\nconnections_per_address_max = 1200\nunread_timeout = \"5m\"";
    let server = Setup::new(RULES).tables(limits).start();
    let mut streams: Vec<_> = (0..SUBSCRIBERS).map(|_| EventStream::open(&server, "/v1/decisions", None)).collect();
    assert_eq!(server.metric(r#"turnstile_streams{kind="decisions"}"#), Some(SUBSCRIBERS as f64));
    let orders: Vec<String> = (0..200).map(|n| format!("o-{n}")).collect();
    for some in orders.chunks(10) {
        feed(&server, &some.iter().flat_map(|order| [paid(order, "successful"), reserved(order)]).collect::<Vec<_>>());
    }
    let expected = all_decisions(&server);
    assert_eq!(expected.len(), orders.len());
    for stream in &mut streams {
        let seen: Vec<_> = stream.take(expected.len()).iter().map(|event| id(&event.data)).collect();
        assert!(seen == expected, "one was told {seen:?}");
    }
    drop(streams);
    let left = Instant::now();
    wait_for("who has left is counted no more", || {
        (server.metric(r#"turnstile_streams{kind="decisions"}"#) == Some(0.0)).then_some(())
    });
    assert!(left.elapsed() < HEARTBEAT, "their places are free although there is nothing to tell them");
    assert_eq!(server.metric(r#"turnstile_streams_cut_total{reason="slow"}"#), Some(0.0), "nobody was too slow");
}

/// If this failed, one reader that hangs would hold up the others, or take the server's memory.
#[test]
fn slow_readers_are_cut_off_and_others_are_served() {
    let limits = "[limits]\nunread_timeout = \"1s\"";
    let rules = RULES.replace("days =", "note = \"order.payment.note\", days =");
    let server = Setup::new(&rules).tables(limits).start();
    let mut slow: Vec<_> = (0..SLOW).map(|_| EventStream::open(&server, "/v1/decisions", None)).collect();
    let mut quick = EventStream::open(&server, "/v1/decisions", None);
    let note = "x".repeat(UNREAD_BYTES);
    let before = server.memory_peak();
    let mut seen = BTreeSet::new();
    for n in 0..UNREAD {
        let order = format!("o-{n}");
        let paid =
            event(&format!("{order}-p"), "PaymentProcessed", &order, &json!({"status": "successful", "note": note}));
        feed(&server, &[paid, reserved(&order)]);
        seen.extend(quick.take(1).iter().map(|event| id(&event.data)));
    }
    assert_eq!(seen.len(), UNREAD, "who reads is told everything");
    wait_for("those who do not read are cut off", || {
        (server.metric(r#"turnstile_streams{kind="decisions"}"#) == Some(1.0)).then_some(())
    });
    assert_eq!(server.metric(r#"turnstile_streams_cut_total{reason="slow"}"#), Some(SLOW as f64));
    let grown = server.memory_peak() - before;
    let unread = (SLOW * UNREAD * UNREAD_BYTES) as u64;
    assert!(grown < unread / 2, "{grown} bytes for {unread} that nobody read");
    // What was read is enough to go on from, without a gap.
    let mut last = slow.remove(0);
    let mut read = Vec::new();
    while let Ok(Some(event)) = last.next() {
        read.extend((event.name == "decision").then(|| id(&event.data)));
    }
    let mut again = EventStream::open(&server, "/v1/decisions", Some(&last.last_id));
    read.extend(again.take(UNREAD - read.len()).iter().map(|event| id(&event.data)));
    assert_eq!(read, all_decisions(&server));
}

/// If this failed, readers would keep a server from ending, or take its end for a broken network.
#[test]
fn draining_ends_streams_with_a_last_word() {
    let mut server = Setup::new(RULES).start();
    feed(&server, &[paid("o", "successful"), reserved("o")]);
    let mut streams = ["/v1/decisions?after=0", "/v1/entities/order?after=0", "/v1/entities/order/o?after=0"]
        .map(|path| EventStream::open(&server, path, None));
    for stream in &mut streams {
        stream.take(1);
    }
    server.signal_term();
    for stream in &mut streams {
        let mut last = None;
        while let Some(event) = stream.next().expect("it ends in order") {
            last = Some(event);
        }
        let last = last.expect("a last word");
        assert_eq!((&*last.name, &last.data["code"]), ("end", &json!("draining")), "{last:?}");
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// If this failed, a reader that was too slow would not learn why it was cut off.
#[test]
fn a_slow_reader_that_wakes_up_is_told_why() {
    let rules = RULES.replace("days =", "note = \"order.payment.note\", days =");
    let patience = Duration::from_secs(8);
    let server = Setup::new(&rules).tables(&format!("[limits]\nunread_timeout = \"{}s\"", patience.as_secs())).start();
    let mut slow = EventStream::open(&server, "/v1/decisions", None);
    let note = "x".repeat(500_000);
    for n in 0..20 {
        let order = format!("o-{n}");
        let paid =
            event(&format!("{order}-p"), "PaymentProcessed", &order, &json!({"status": "successful", "note": note}));
        feed(&server, &[paid, reserved(&order)]);
    }
    // Nothing is taken from here on at the latest.
    let start = Instant::now();
    wait_for("the patience with it is over", || (start.elapsed() > patience + patience / 8).then_some(()));
    let mut last = None;
    while let Some(event) = slow.next().expect("it ends in order") {
        last = Some(event);
    }
    let last = last.expect("a last word");
    assert_eq!((&*last.name, &last.data["code"]), ("end", &json!("slow")), "{last:?}");
}
