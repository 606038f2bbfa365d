//! `turnstile verify` finds nothing where lives end, nor in what was forgotten or trimmed away, whatever goes on meanwhile.

mod common;

use common::orders::{feed, feed_patiently, happened};
use common::verified::{details, found, kinds, verify, verify_stopped};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const SESSIONS: &str = r#"
[entity.session]
key = "event.data.session"
expire = "1s"
[entity.session.fields]
pages = { on = "Viewed", take = "count" }
page = { on = "Viewed", take = "latest", value = "event.data.page" }
[entity.session.ref.shown]
entity = "page"
key = "session.page"
[entity.page]
key = "event.data.page"
fields = { title = { on = "Titled", take = "latest", value = "event.data.title" } }
"#;

/// If this failed, a sound server would be called damaged whenever an entity expires while it is verified, and each time
/// something is waited for.
#[test]
fn lives_that_end_meanwhile_are_followed() {
    let slow = "[limits]\nverify_records_per_second = 500";
    let mut server = Setup::new(SESSIONS).tables(slow).start();
    let viewed = |n: usize| {
        let data = json!({ "session": format!("s{n}"), "page": format!("p{}", n % 7) });
        happened(&n.to_string(), "Viewed", &data)
    };
    feed(&server, &(0..600).map(viewed).collect::<Vec<_>>());
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    let expired = "turnstile_entities_expired_total{entity=\"session\"}";
    assert!(server.metric(expired) > Some(0.0), "none expired while it was verified");
    server.kill();
    let (code, report) = verify_stopped(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    server.start();
    // All that is overdue expires now.
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
}

const CUSTOMERS: &str = r#"
[entity.customer]
key = "event.data.customer"
fields = { orders = { on = "Ordered", take = "count" } }
"#;
const ORDERS: &str = r#"
[entity.order]
key = "event.data.order"
fields = { name = { on = "Ordered", take = "latest", value = "event.data.name" } }
[entity.order.decision.Sum]
when = "has(order.name)"
data = { name = "order.name" }
"#;

fn forget(server: &Server, order: &str) {
    let body = br#"{"by":"ann","why":"she asked for it"}"#;
    server.request("DELETE", &format!("/v1/entities/order/{order}"), &[], body).expect(202);
    wait_for("it is forgotten", || {
        let all = server.get("/v1/forgotten").expect(200).json();
        all["items"].as_array().expect("a list").iter().all(|it| it["state"] == "done").then_some(())
    });
}

/// If this failed, a key that was forgotten and came back would be called damaged for good, once rules were changed.
#[test]
fn who_was_forgotten_and_came_back_is_no_damage_under_other_rules() {
    let mut server = Setup::new(&[CUSTOMERS, ORDERS].concat()).start();
    let ordered = |id: &str| happened(id, "Ordered", &json!({ "order": "a", "customer": "c", "name": id }));
    feed(&server, &[ordered("1")]);
    forget(&server, "a");
    feed(&server, &[ordered("2")]);
    server.verify_clean();
    assert!(server.terminate().success());
    let other = ORDERS.replace("data = { name", "data = { key = \"key\", name");
    server.rewrite(&Setup::new(&[CUSTOMERS, &other].concat()).text());
    server.start();
    server.verify_clean();
    assert!(server.terminate().success());
    let (code, report) = verify_stopped(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
}

const NUMBERED: &str = "sequence = \"event.data.seq\"";

/// Sends what is numbered, and takes its acknowledgements.
fn send(server: &Server, events: impl IntoIterator<Item = Value>) {
    let mut client = server.client();
    let sent = events.into_iter().map(|event| client.send(event.to_string())).count();
    assert_eq!(client.settle(sent as u64).refused, Vec::<Value>::new());
}

fn notes(report: &Value) -> String {
    report["notes"].to_string()
}

/// If this failed, whoever forgets somebody would be told to send the events again, and so to have them known again.
#[test]
fn numbers_of_the_forgotten_are_not_missed() {
    let mut server = Setup::new(ORDERS).tcp(NUMBERED).start();
    let ordered =
        |n: u64, order: &str| happened(&n.to_string(), "Ordered", &json!({ "order": order, "name": "x", "seq": n }));
    send(&server, [ordered(1, "a"), ordered(2, "b"), ordered(3, "a")]);
    forget(&server, "b");
    send(&server, [ordered(4, "a")]);
    let check = |(code, report): (Option<i32>, Value)| {
        assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
        assert!(notes(&report).contains("1 numbers of sequences are not there"), "{report}");
    };
    check(verify(&server, &["--gap-older", "0s"]));
    let text = server.cli(&["verify", "--gap-older", "0s"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("blank since somebody was forgotten"), "{text:?}");
    // Now more are missing than can have been of it.
    send(&server, [ordered(9, "a")]);
    let (code, report) = verify(&server, &["--gap-older", "0s"]);
    assert_eq!((code, kinds(&report)), (Some(1), found(&[("sequence_gap", 4)])), "{report}");
    assert!(details(&report, "sequence_gap")[0].starts_with("all sources: at least 4 of 5 never came"), "{report}");
    send(&server, (5..9).map(|n| ordered(n, "a")));
    server.kill();
    check(verify_stopped(&server, &["--gap-older", "0s"]));
}

/// If this failed, an event that is sent again would be taken for two, once its entity's life has ended.
#[test]
fn a_number_of_an_event_that_counts_again_is_not_there_twice() {
    let server = Setup::new(SESSIONS).tcp(NUMBERED).start();
    let viewed = |n: u64, session: &str| {
        happened(&n.to_string(), "Viewed", &json!({ "session": session, "page": "p", "seq": n }))
    };
    send(&server, [viewed(1, "a"), viewed(2, "b")]);
    let expired = "turnstile_entities_expired_total{entity=\"session\"}";
    wait_for("both expire", || (server.metric(expired) == Some(2.0)).then_some(()));
    send(&server, [viewed(1, "a")]);
    server.verify_clean();
    let other = happened("other", "Viewed", &json!({ "session": "c", "page": "p", "seq": 2 }));
    send(&server, [other]);
    let (code, report) = verify(&server, &[]);
    assert_eq!((code, kinds(&report)), (Some(1), found(&[("sequence_twice", 1)])), "{report}");
    assert!(details(&report, "sequence_twice")[0].ends_with("2 again, as event \"other\""), "{report}");
}

/// Small segments, which go at once.
const TRIMMING: &str = "[journal]\nretention = \"0s\"\nsegment_bytes = \"1MiB\"\ncommit_bytes_max = \"64KiB\"\n\
                        [checkpoint]\njournal_bytes = \"64KiB\"\n";

/// If this failed, numbers that came would be called missing wherever the journal is trimmed.
#[test]
fn numbers_that_were_trimmed_away_are_not_missed() {
    let server = Setup::new(ORDERS).tcp(NUMBERED).tables(TRIMMING).start();
    let ordered = |n: u64, order: &str| {
        let data = json!({ "order": order, "name": "x".repeat(2_000), "seq": n });
        happened(&n.to_string(), "Ordered", &data)
    };
    let mut n = 0;
    wait_for("the journal is trimmed", || {
        // The journal's order is not that of the numbers.
        send(&server, (n..n + 200).rev().map(|it| ordered(it, &format!("o{}", it % 10))));
        n += 200;
        let status = server.get("/v1/status").expect(200).json();
        (status["journal"]["first_lsn"].as_u64() > Some(1)).then_some(())
    });
    // An old one comes again, for another order.
    send(&server, [ordered(3, "again")]);
    let (code, report) = verify(&server, &["--gap-older", "0s"]);
    assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
    assert!(notes(&report).contains("the journal was trimmed, so that only later numbers"), "{report}");
}

/// If this failed, a server whose journal is trimmed all the time could not be verified, or would keep all of it for ever.
#[test]
fn nothing_is_trimmed_while_it_is_verified() {
    let tables = [TRIMMING, "[limits]\nverify_records_per_second = 700\n"].concat();
    let server = Setup::new(ORDERS).tables(&tables).start();
    let mut n = 0;
    let mut fill = || {
        let data = |n: u64| json!({ "order": format!("o{}", n % 50), "name": "x".repeat(2_000) });
        let events: Vec<Value> = (n..n + 200).map(|n| happened(&n.to_string(), "Ordered", &data(n))).collect();
        n += 200;
        feed_patiently(&server, &events);
    };
    let journal = || server.get("/v1/status").expect(200).json()["journal"].clone();
    let is_held = |by: &str| journal()["held_by"] == by;
    (0..5).for_each(|_| fill());
    let first = std::thread::scope(|scope| {
        let verifying = scope.spawn(|| verify(&server, &[]));
        let first = wait_for("it holds the journal", || {
            fill();
            is_held("a verification").then(|| journal()["first_lsn"].as_u64())
        });
        let (code, report) = verifying.join().expect("it verifies");
        assert_eq!((code, kinds(&report)), (Some(0), found(&[])), "{report}");
        first
    });
    let is_trimmed = || !is_held("a verification") && journal()["first_lsn"].as_u64() > first;
    wait_for("the journal is trimmed again", || {
        fill();
        is_trimmed().then_some(())
    });
    let mut asked = std::net::TcpStream::connect(server.http()).expect("HTTP accepts the connection");
    std::io::Write::write_all(&mut asked, b"POST /v1/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .expect("sent");
    wait_for("the next one holds it, too", || {
        fill();
        is_held("a verification").then_some(())
    });
    drop(asked);
    wait_for("nobody waits for it any more", || (!is_held("a verification")).then_some(()));
}
