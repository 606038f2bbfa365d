//! The TCP source as a client sees it: acknowledgements, refusals, half-closed connections, floods, and the end of the
//! server.

mod common;

use std::io::{BufRead, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Client, Outcome, Server, Setup, deliver, wait_for};

const RULES: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
payments = { on = "Paid", take = "count" }
total = { on = "Paid", take = "sum", value = "event.data.amount" }
"#;

fn paid(id: usize, order: &str) -> String {
    format!(r#"{{"id":"{id}","type":"Paid","time":"2026-11-20T10:00:00Z","data":{{"orderId":"{order}","amount":1}}}}"#)
}

fn payments(server: &Server, order: &str) -> u64 {
    server.entity("order", order)["fields"]["payments"].as_u64().expect("a count")
}

/// An ack that comes twice, goes back or leaves lines out would make a client lose or repeat events.
#[test]
fn acks_grow_until_they_cover_every_line() {
    let server = Setup::new(RULES).start();
    let mut client = server.client();
    let mut last = Outcome::default();
    for n in 1..=20 {
        client.send(paid(n, "a"));
        while last.acked < n as u64 {
            last.take(&client.reply().expect("an ack"));
        }
        assert_eq!(last.acked, n as u64, "an ack covers no line that was not sent");
    }
    client.send(paid(7, "a"));
    client.send(paid(21, "a"));
    let end = client.finish();
    assert_eq!((end.acked, end.duplicates), (22, 1), "line 21 repeats line 7");
    assert!(last.refused.is_empty() && end.refused.is_empty());
    assert_eq!(payments(&server, "a"), 21, "the repeated line counts once");
}

/// A client drops what is acknowledged; a refusal that comes after the ack would be about a line it no longer has.
#[test]
fn a_refusal_comes_before_the_ack_that_covers_it() {
    let server = Setup::new(RULES).start();
    let lines: Vec<String> = (1..=300)
        .map(|n| match n % 3 {
            0 => format!(r#"{{"id":"{n}","type":"Nonsense"}}"#),
            1 => "{".to_owned(),
            _ => paid(n, "a"),
        })
        .collect();
    // `Outcome::take` looks at the order.
    let outcome = deliver(server.tcp(), &lines);
    assert_eq!(outcome.acked, 300);
    assert_eq!(outcome.refused.len(), 200, "each wrong line is refused once");
    for n in 1..=300 {
        let expected = [Some("unmatched"), Some("invalid_json"), None][n as usize % 3];
        assert_eq!(outcome.code(n), expected, "line {n}");
    }
    assert_eq!(payments(&server, "a"), 100);
}

/// Line numbers that count blank lines, or a `\r` taken as part of the JSON, would break the simplest clients.
#[test]
fn blank_lines_do_not_count_and_lines_may_end_in_crlf_or_not_at_all() {
    let server = Setup::new(RULES).start();
    let mut client = server.client();
    let text = format!(
        "\n\r\n{}\r\n\n\n{}\n  \t \r\nnot json\r\n{}",
        paid(1, "a"),
        paid(2, "a"),
        paid(3, "a") // without an end of line
    );
    client.send_bytes(text.as_bytes());
    let outcome = client.finish();
    assert_eq!(outcome.acked, 4, "four lines are not blank");
    assert_eq!(outcome.code(3), Some("invalid_json"), "the third of them is not JSON: {:?}", outcome.refused);
    assert_eq!(outcome.refused.len(), 1, "{:?}", outcome.refused);
    assert_eq!(payments(&server, "a"), 3, "the last line counts without its newline");
}

/// A line may arrive in any pieces; what is not complete is not judged.
#[test]
fn a_line_may_come_byte_by_byte() {
    let server = Setup::new(RULES).start();
    let mut client = server.client();
    for byte in format!("{}\n", paid(1, "ä\u{1F600}")).bytes() {
        client.send_bytes(&[byte]);
    }
    assert!(client.settle(1).refused.is_empty());
    assert_eq!(payments(&server, "ä\u{1F600}"), 1);
}

/// `nc -N 127.0.0.1 7400 < events.ndjson` is the first thing that people try.
#[test]
fn after_a_half_close_every_line_still_gets_its_answer() {
    let server = Setup::new(RULES).start();
    let mut client = server.client();
    let text: String = (0..5_000).map(|n| paid(n, &format!("order-{}", n % 50)) + "\n").collect();
    client.send_bytes(text.as_bytes());
    let outcome = client.finish();
    assert_eq!((outcome.acked, outcome.refused.len()), (5_000, 0), "all lines are answered before the server closes");
    assert_eq!(payments(&server, "order-49"), 100);
    let empty = server.client().finish();
    assert_eq!(empty.acked, 0, "a connection without a line is closed without an answer");
}

/// A client with 100,000 lines in flight must neither be refused nor wait for ever.
#[test]
fn a_hundred_thousand_lines_in_flight_while_the_client_reads() {
    let server = Setup::new(RULES).start();
    let lines: Vec<String> = (0..100_000).map(|n| paid(n, &format!("order-{}", n % 1_000))).collect();
    let outcome = deliver(server.tcp(), &lines);
    assert_eq!((outcome.acked, outcome.duplicates, outcome.refused.len()), (100_000, 0, 0));
    assert_eq!(payments(&server, "order-999"), 100);
}

/// If acks did not coalesce or the server stopped reading while it cannot write, this client and the server would wait
/// for each other.
#[test]
fn a_hundred_thousand_lines_from_a_client_that_reads_only_then() {
    let server = Setup::new(RULES).start();
    let mut client = server.client();
    let text: String = (0..100_000).map(|n| paid(n, &format!("order-{}", n % 1_000)) + "\n").collect();
    client.send_bytes(text.as_bytes());
    let outcome = client.finish();
    assert_eq!((outcome.acked, outcome.duplicates, outcome.refused.len()), (100_000, 0, 0));
    assert_eq!(payments(&server, "order-0"), 100);
}

/// One client that never reads its refusals may be made to wait; nobody else may.
#[test]
fn a_client_that_never_reads_holds_up_no_one_else() {
    let server = Setup::new(RULES).start();
    let mut deaf = server.client();
    let wrong = "{\"id\":\"1\"}\n".repeat(400_000);
    deaf.stuff(wrong.as_bytes(), Duration::from_millis(500));
    let lines: Vec<String> = (0..1_000).map(|n| paid(n, "a")).collect();
    assert_eq!(deliver(server.tcp(), &lines).acked, 1_000);
    assert_eq!(payments(&server, "a"), 1_000);
}

/// A client that goes in the middle of a line, or with answers under way, concerns only itself.
#[test]
fn a_client_that_vanishes_disturbs_no_one() {
    let server = Setup::new(RULES).start();
    for n in 0..20 {
        let mut client = server.client();
        client.send(paid(n, "a"));
        client.send_bytes(b"{\"id\":\"cut");
        drop(client);
    }
    let lines: Vec<String> = (0..20).map(|n| paid(n, "a")).collect();
    assert_eq!(deliver(server.tcp(), &lines).acked, 20);
    assert_eq!(payments(&server, "a"), 20, "each of them counts once, whether it came before or only now");
    wait_for("the connections are gone", || {
        (server.metric(r#"turnstile_connections{source="tcp"}"#) == Some(0.0)).then_some(())
    });
}

/// Writes payments of `order` until the server no longer takes them, and reads what it answers up to the end.
fn press(server: &Server, order: &str, acked: &AtomicU64) -> Result<Outcome, std::io::Error> {
    let (mut stream, replies) = server.client().split();
    let handle = stream.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut ids = 0..;
            while ids.next().is_some_and(|id| stream.write_all((paid(id, order) + "\n").as_bytes()).is_ok()) {}
        });
        let mut outcome = Outcome::default();
        let ended = replies.lines().try_for_each(|line| {
            outcome.take(&serde_json::from_str(&line?).expect("JSON"));
            acked.fetch_max(outcome.acked, Ordering::SeqCst);
            Ok(())
        });
        // The server has said all it had to say: there is no use in writing on.
        let _ = handle.shutdown(Shutdown::Both);
        ended.map(|()| outcome)
    })
}

/// Without these, deploying a new version would lose or repeat events, or hang. A connection that is closed with lines
/// unread is reset, and the reset can overtake the last answers: a server has to see to it that they arrive.
#[test]
fn sigterm_settles_what_was_read_says_bye_and_exits_with_0() {
    const BUSY: usize = 6;
    let mut server = Setup::new(RULES).start();
    let mut idle = server.client();
    idle.send(paid(1_000_000, "idle"));
    idle.settle(1);
    let acked = AtomicU64::new(0);
    let orders: Vec<String> = (0..BUSY).map(|n| format!("busy-{n}")).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let press = |order| press(&server, order, &acked);
        let busy: Vec<_> = orders.iter().map(|order| scope.spawn(move || press(order))).collect();
        wait_for("the connections are busy", || (acked.load(Ordering::SeqCst) >= 1_000).then_some(()));
        server.signal_term();
        busy.into_iter().map(|thread| thread.join().expect("a connection")).collect()
    });
    let mut end = Outcome::default();
    while let Ok(Some(reply)) = idle.try_reply() {
        end.take(&reply);
    }
    assert_eq!(end.bye.as_deref(), Some("draining"), "the idle connection is told why it ends");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.stderr());
    server.start();
    assert_eq!(payments(&server, "idle"), 1);
    for (order, outcome) in orders.iter().zip(outcomes) {
        let outcome = outcome.unwrap_or_else(|error| panic!("{order}: the last answers do not arrive: {error}"));
        assert_eq!(outcome.bye.as_deref(), Some("draining"), "{order}: a busy connection is told why it ends");
        let kept = payments(&server, order);
        assert_eq!(kept, outcome.acked, "{order}: what was read is acknowledged, and nothing else is there");
    }
}

/// What was acknowledged is there after kill -9, and the same lines are duplicates.
#[test]
fn acknowledged_lines_survive_kill_9() {
    let mut server = Setup::new(RULES).start();
    let lines: Vec<String> = (0..2_000).map(|n| paid(n, &format!("order-{}", n % 10))).collect();
    assert_eq!(deliver(server.tcp(), &lines).acked, 2_000);
    server.restart();
    assert_eq!(payments(&server, "order-3"), 200);
    let again = deliver(server.tcp(), &lines);
    assert_eq!((again.acked, again.duplicates), (2_000, 2_000), "identities survive too");
    assert_eq!(payments(&server, "order-3"), 200);
}

/// Two writers on one directory would destroy it.
#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = Setup::new(RULES).start();
    let output = server.run_to_end();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it must not start");
    let lower = message.to_lowercase();
    assert!(message.contains("data") && (lower.contains("another") || lower.contains("in use")), "{message}");
    assert_eq!(deliver(server.tcp(), &[paid(1, "a")]).acked, 1, "the first one goes on");
}

/// A connection that is not allowed in must not get anything done.
#[test]
fn with_a_token_the_first_line_must_show_it_and_is_not_counted() {
    let server = Setup::new(RULES).tcp("token = \"s3cret\"").start();
    let mut client = server.client();
    client.send(r#"{"token":"s3cret"}"#);
    client.send(paid(1, "a"));
    let outcome = client.finish();
    assert_eq!((outcome.acked, outcome.refused.len()), (1, 0), "the token's line is not counted");
    for first in [r#"{"token":"s3cre"}"#.to_owned(), r#"{"token":5}"#.to_owned(), paid(2, "a"), "{".to_owned()] {
        let mut client = server.client();
        client.send(&first);
        let mut replies = Vec::new();
        while let Ok(Some(reply)) = client.try_reply() {
            replies.push(reply);
        }
        assert_eq!(replies.len(), 1, "{first}: one answer, then the end: {replies:?}");
        assert_eq!((&replies[0]["refused"], &replies[0]["code"]), (&0.into(), &"unauthorized".into()), "{first}");
    }
    assert_eq!(payments(&server, "a"), 1);
}

/// More connections than allowed are told so at once instead of being left waiting.
#[test]
fn one_connection_too_many_is_told_busy() {
    let server = Setup::new(RULES).tables("[limits]\nconnections_max = 3").start();
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(paid(n, "a"));
        client.settle(1);
    }
    let mut extra = server.client();
    let reply = extra.reply().expect("an answer");
    assert_eq!((&reply["refused"], &reply["code"]), (&0.into(), &"busy".into()), "{reply}");
    assert!(matches!(extra.try_reply(), Ok(None) | Err(_)), "then the connection ends");
    for _ in 0..50 {
        // A client may speak first; what it sent must not cost it the answer.
        let mut eager = server.client();
        let _ = eager.try_send(&paid(9, "a").repeat(100));
        let reply = eager.try_reply().expect("an answer, not a reset");
        assert_eq!(reply.expect("an answer")["code"], "busy");
    }
    drop(clients);
    wait_for("a place is free again", || {
        let mut client = server.client();
        // A connection that is refused may be gone already.
        let _ = client.try_send(&paid(9, "a"));
        matches!(client.try_reply(), Ok(Some(reply)) if reply["ack"] == 1).then_some(())
    });
}
