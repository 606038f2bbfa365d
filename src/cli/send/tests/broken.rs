//! A server that goes away, says goodbye, is busy, or says nothing.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng};

use super::*;
use crate::cli::destination::Way;
use crate::cli::send::connection::SendError;

#[tokio::test]
async fn what_a_broken_connection_left_unanswered_is_sent_again() {
    let server = async |listener: &TcpListener| {
        let mut first = Peer::accept(listener).await;
        first.expect(&["a", "b", "c", "d"]).await;
        first.say(r#"{"refused":2,"code":"unmatched","message":"m"}"#).await;
        first.say(r#"{"refused":3,"code":"conflict","message":"not settled"}"#).await;
        first.say(r#"{"ack":2,"duplicates":0,"lsn":4}"#).await;
        drop(first);
        let mut second = Peer::accept(listener).await;
        second.expect(&["c", "d"]).await;
        second.say(r#"{"ack":2,"duplicates":1,"lsn":5}"#).await;
    };
    let (outcome, tally) = send_to(server, &b"a\nb\nc\nd\n"[..], 1, options()).await;
    outcome.unwrap();
    assert_eq!((tally.accepted, tally.duplicates, tally.refused, tally.resent), (2, 1, 1, 2));
    assert_eq!((tally.refusals[0].line, tally.lsn), (2, Some(5)));
}

#[tokio::test]
async fn a_goodbye_is_followed_by_a_new_connection() {
    let server = async |listener: &TcpListener| {
        let mut first = Peer::accept(listener).await;
        first.expect(&["a", "b"]).await;
        first.say(r#"{"bye":"draining"}"#).await;
        // What is settled after the goodbye still counts.
        first.say(r#"{"ack":1,"duplicates":0,"lsn":1}"#).await;
        drop(first);
        let mut second = Peer::accept(listener).await;
        second.expect(&["b"]).await;
        second.say(r#"{"ack":1,"duplicates":0,"lsn":2}"#).await;
    };
    let (outcome, tally) = send_to(server, &b"a\nb\n"[..], 1, options()).await;
    outcome.unwrap();
    assert_eq!((tally.accepted, tally.duplicates, tally.resent), (2, 0, 1));
}

#[tokio::test]
async fn busy_lines_and_busy_servers_are_tried_again() {
    let server = async |listener: &TcpListener| {
        let mut first = Peer::accept(listener).await;
        first.say(r#"{"refused":0,"code":"busy","message":"too many connections"}"#).await;
        drop(first);
        let mut second = Peer::accept(listener).await;
        second.expect(&["a", "b", "c"]).await;
        second.say(r#"{"refused":2,"code":"busy","message":"later"}"#).await;
        second.say(r#"{"ack":3,"duplicates":0,"lsn":1}"#).await;
        let mut third = Peer::accept(listener).await;
        third.expect(&["b"]).await;
        third.say(r#"{"ack":1,"duplicates":0,"lsn":2}"#).await;
    };
    let (outcome, tally) = send_to(server, &b"a\nb\nc\n"[..], 1, options()).await;
    outcome.unwrap();
    assert_eq!((tally.accepted, tally.refused), (3, 0));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = async |listener: &TcpListener| {
        let mut first = Peer::accept(listener).await;
        first.expect(&["a", "b"]).await;
        first.say(r#"{"ack":1,"duplicates":0,"lsn":1}"#).await;
        // Silence; the connection is made anew, and answered with silence again.
        let mut second = Peer::accept(listener).await;
        second.expect(&["b"]).await;
        while second.line().await.is_some() {}
    };
    let (timeout, retry_for) = (Duration::from_millis(30), Duration::from_millis(80));
    let (outcome, tally) = send_to(server, &b"a\nb\n"[..], 1, Options { timeout, retry_for, ..options() }).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, TransmitError::Send(SendError::NoProgress { unsettled: 1, .. })), "{error}");
    assert_eq!(tally.accepted, 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let report = Arc::new(Report::new(Progress::Quiet));
    let options = Options { way: Way::of_test(&address), retry_for: Duration::from_millis(20), ..options() };
    let error = transmit(&b"a\n"[..], 2, options, &report).await.unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

/// A server that counts identities, acknowledges now and then, and breaks off at random moments.
async fn whimsical(listener: &TcpListener, seed: u64, lines: usize) {
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let mut known = HashSet::new();
    let mut in_order = Vec::new();
    // The last connection holds until the end.
    for connection in 0.. {
        let mut peer = Peer::accept(listener).await;
        let breaks_after = if connection < 30 { rng.random_range(0..lines / 10) } else { usize::MAX };
        let (mut count, mut duplicates, mut acked) = (0, 0, 0);
        while count < breaks_after {
            let Some(line) = peer.line().await else { break };
            count += 1;
            if known.insert(line.clone()) {
                in_order.push(line);
            } else {
                duplicates += 1;
            }
            // The last line before a break is never acknowledged, so that there is always a next connection.
            if count < breaks_after && rng.random_bool(0.05) {
                acked = count;
                peer.say(&format!(r#"{{"ack":{count},"duplicates":{duplicates},"lsn":{count}}}"#)).await;
            }
        }
        if count < breaks_after {
            if acked < count {
                peer.say(&format!(r#"{{"ack":{count},"duplicates":{duplicates},"lsn":{count}}}"#)).await;
            }
            break;
        }
    }
    let expected: Vec<_> = (0..lines).map(|n| format!("{{\"id\":{n}}}")).collect();
    assert_eq!(in_order, expected, "every line arrives, first in the order of the file");
}

#[tokio::test]
async fn however_often_it_breaks_every_line_is_counted_once() {
    for seed in 0..5 {
        let lines = 3_000;
        let input = (0..lines).map(|n| format!("{{\"id\":{n}}}\n")).collect::<Vec<_>>().concat();
        let server = async |listener: &TcpListener| whimsical(listener, seed, lines).await;
        let window = Window { lines: 500, bytes: 1 << 20 };
        let (outcome, tally) = send_to(server, std::io::Cursor::new(input), 1, Options { window, ..options() }).await;
        outcome.unwrap();
        assert_eq!(tally.accepted + tally.duplicates, lines as u64, "seed {seed}: {tally:?}");
        assert!(tally.resent >= tally.duplicates && tally.refused == 0, "seed {seed}: {tally:?}");
    }
}
