//! A server that stays: acknowledgements, refusals, the token, several connections.

use std::collections::BTreeMap;

use super::*;
use crate::cli::send::connection::SendError;
use crate::cli::send::lane::RefusedLine;

#[tokio::test]
async fn acknowledgements_coalesce_and_refusals_name_the_files_line() {
    let server = async |listener: &TcpListener| {
        let mut peer = Peer::accept(listener).await;
        peer.expect(&["a", "b", "c", "d", "e"]).await;
        peer.expect_end().await;
        peer.say(r#"{"hello":"newer"}"#).await;
        peer.say(r#"{"ack":2,"duplicates":1,"lsn":7}"#).await;
        peer.say(r#"{"refused":4,"code":"conflict","message":"another payload"}"#).await;
        peer.say(r#"{"ack":5,"duplicates":2,"lsn":9}"#).await;
    };
    let (outcome, tally) = send_to(server, &b"a\nb\n\n  \nc\r\nd\ne"[..], 1, options()).await;
    outcome.unwrap();
    let refusals = vec![RefusedLine { line: 6, code: "conflict".into(), message: "another payload".into() }];
    assert_eq!(tally, Tally { accepted: 2, duplicates: 2, refused: 1, resent: 0, refusals, lsn: Some(9) });
}

#[tokio::test]
async fn nothing_to_send_needs_no_server() {
    let (outcome, tally) = send_to(async |_| {}, &b"\n\n"[..], 3, options()).await;
    outcome.unwrap();
    assert_eq!(tally, Tally::default());
}

#[tokio::test]
async fn the_token_comes_first_and_is_no_line() {
    let server = async |listener: &TcpListener| {
        let mut peer = Peer::accept(listener).await;
        peer.expect(&[r#"{"token":"a\"b"}"#, "a"]).await;
        peer.say(r#"{"ack":1,"duplicates":0,"lsn":1}"#).await;
    };
    let with_token = Options { token: Some("a\"b".to_owned()), ..options() };
    let (outcome, tally) = send_to(server, &b"a\n"[..], 1, with_token).await;
    outcome.unwrap();
    assert_eq!(tally.accepted, 1);
}

#[tokio::test]
async fn a_wrong_token_is_not_tried_again() {
    let server = async |listener: &TcpListener| {
        let mut peer = Peer::accept(listener).await;
        peer.say(r#"{"refused":0,"code":"unauthorized","message":"wrong token"}"#).await;
        peer.expect(&["a"]).await;
    };
    let (outcome, _) = send_to(server, &b"a\n"[..], 1, options()).await;
    assert!(matches!(outcome, Err(TransmitError::Send(SendError::Rejected { code, .. })) if code == "unauthorized"));
}

#[tokio::test]
async fn another_protocol_is_recognised() {
    for (says, part) in [
        ("HTTP/1.1 400 Bad Request\r", "does not speak"),
        (r#"{"ack":2}"#, "on which 1 were sent"),
        (r#"{"refused":5,"code":"conflict"}"#, "answers line 5"),
        (&"x".repeat(2 << 20), "does not"),
    ] {
        let server = async |listener: &TcpListener| {
            let mut peer = Peer::accept(listener).await;
            peer.expect(&["a"]).await;
            peer.say(says).await;
        };
        let (outcome, _) = send_to(server, &b"a\n"[..], 1, options()).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, TransmitError::Send(SendError::Protocol { .. })), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn connections_share_the_lines_and_keep_the_order_of_each_thing() {
    let mut input: Vec<_> =
        (0..1_000).map(|n| format!("{{\"source\":\"s\",\"subject\":\"{}\",\"n\":{n}}}\n", n % 17)).collect();
    input.push("{\"id\":\"x\"}\n".repeat(40));
    let server = async |listener: &TcpListener| {
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut peer = Peer::accept(listener).await;
            connections.push(tokio::spawn(async move {
                let mut lines = Vec::new();
                while let Some(line) = peer.line().await {
                    lines.push(line);
                    peer.say(&format!(r#"{{"ack":{},"duplicates":0,"lsn":1}}"#, lines.len())).await;
                }
                lines
            }));
        }
        let mut last: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for (connection, task) in connections.into_iter().enumerate() {
            for line in task.await.unwrap() {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                let (Some(subject), Some(n)) = (event["subject"].as_str(), event["n"].as_u64()) else { continue };
                let before = last.insert(subject.to_owned(), (connection, n));
                assert!(before.is_none_or(|(c, m)| c == connection && m < n), "{subject}: {before:?}, then {n}");
            }
        }
        assert_eq!(last.len(), 17);
    };
    let (outcome, tally) = send_to(server, std::io::Cursor::new(input.concat()), 4, options()).await;
    outcome.unwrap();
    assert_eq!(tally.accepted, 1_040);
}

#[tokio::test]
async fn lines_of_a_stream_are_sent_as_they_come() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let server = async |listener: &TcpListener| {
        use std::io::Write;
        let mut peer: Option<Peer> = None;
        for n in 1..=3 {
            // The next line is written only after the one before was acknowledged.
            writeln!(writer, "{n}").unwrap();
            if peer.is_none() {
                peer = Some(Peer::accept(listener).await);
            }
            let peer = peer.as_mut().unwrap();
            peer.expect(&[&n.to_string()]).await;
            peer.say(&format!(r#"{{"ack":{n},"duplicates":0,"lsn":{n}}}"#)).await;
        }
        drop(writer);
    };
    let (outcome, tally) = send_to(server, reader, 1, options()).await;
    outcome.unwrap();
    assert_eq!((tally.accepted, tally.lsn), (3, Some(3)));
}
