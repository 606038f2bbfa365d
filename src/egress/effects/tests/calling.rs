//! Calls over real connections.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::runtime::Handle;

use super::server::{Reply, Server};
use super::{Entities, call, configured};
use crate::egress::effects::{Effects, EffectsSetup};
use crate::metrics::Metrics;
use crate::model::dealings::EffectStage;
use crate::model::json;

/// Long enough for whatever answers at once, also on a machine that does other things.
const PATIENT: &str = "timeout = \"60s\"\n";
/// For what never answers; all that does so far must have been done by then.
const HASTY: &str = "timeout = \"1s\"\n";
const ONCE: &str = "guarantee = \"at_most_once\"\n";
const LEAST: &str = "retry = { attempts = 3, backoff = \"1ms\" }\n";

fn json_reply(status: u16) -> Reply {
    Reply::Status(status, "", br#"{"score":712}"#.to_vec())
}

fn start(effect: &str) -> (Effects, Arc<Entities>) {
    let (entities, (ruleset, limits)) = (Arc::new(Entities::default()), configured(effect));
    let setup = EffectsSetup {
        ruleset: &ruleset,
        note: entities.note_step(),
        metrics: &Metrics::new(),
        tracer: crate::telemetry::Tracer::default(),
        limits: &limits,
        runtime: Handle::current(),
    };
    (Effects::new(&setup).unwrap(), entities)
}

/// Calls once; returns the stage, the status, the response and the error, in words, and how often the server was reached.
async fn outcome(effect: &str, url: &str) -> (EffectStage, String, String) {
    let (effects, entities) = start(effect);
    let call = call("a", 0, url);
    entities.ask(&call);
    effects.begin(vec![call]);
    let outcome = entities.outcomes(1).await.remove("a").unwrap();
    let response = outcome.response.map(|response| json::to_string(&response.unpack()));
    let answer = format!("{} {}", outcome.status.unwrap_or_default(), response.unwrap_or_default());
    (outcome.stage, answer, outcome.error.map(String::from).unwrap_or_default())
}

/// If this failed, a rule or a person would be told something else than what happened, or a call that must not be repeated
/// would be.
#[tokio::test]
async fn at_most_once_calls_once_whatever_comes_of_it() {
    use EffectStage::{Failed, Succeeded, Unknown};
    static CLOSE: Reply = Reply::Close;
    static SILENCE: Reply = Reply::Silence;
    for (time, reply, stage, answer, error) in [
        (PATIENT, json_reply(200), Succeeded, r#"200 {"score":712}"#, ""),
        (PATIENT, Reply::Status(200, "", b"ok".to_vec()), Succeeded, r#"200 "ok""#, ""),
        (PATIENT, json_reply(500), Failed, r#"500 {"score":712}"#, ""),
        (PATIENT, Reply::Status(307, "location: /score\r\n", vec![]), Failed, "307 ", "redirects are not followed"),
        (PATIENT, Reply::Status(429, "retry-after: 0\r\n", vec![]), Failed, "429 ", ""),
        (PATIENT, Reply::Close, Unknown, "0 ", "no answer"),
        (PATIENT, Reply::Half(&CLOSE), Unknown, "200 ", "not all of the answer came"),
        (HASTY, Reply::Silence, Unknown, "0 ", "no answer"),
        (HASTY, Reply::Half(&SILENCE), Unknown, "200 ", "not all of the answer came"),
        (PATIENT, Reply::Status(200, "", vec![b'1'; 1025]), Succeeded, "200 ", "effect_response_bytes_max = 1024"),
        (PATIENT, Reply::Status(200, "", vec![b' '; 1024]), Succeeded, &format!("200 \"{}\"", " ".repeat(1024)), ""),
    ] {
        let answers = reply.clone();
        let server = Server::start(move |_| answers.clone()).await;
        let (was, told, why) = outcome(&format!("{ONCE}{time}"), &server.url).await;
        assert_eq!((was, told.as_str()), (stage, answer), "{reply:?}: {why}");
        assert!(why.contains(error) && why.is_empty() == error.is_empty(), "{reply:?}: {why}");
        assert_eq!(server.seen().len(), 1, "{reply:?}");
    }
}

/// If this failed, a connection that broke before anything was read would be taken for one over which nothing was sent.
#[tokio::test]
async fn who_took_the_connection_may_have_read_the_request() {
    let server = Server::start(|_| Reply::Unread).await;
    let (stage, _, why) = outcome(&format!("{ONCE}{PATIENT}"), &server.url).await;
    assert_eq!(stage, EffectStage::Unknown, "{why}");
}

/// If this failed, a call that certainly never left would need a human.
#[tokio::test]
async fn who_takes_no_connection_was_sent_nothing() {
    // Bound, so that nobody else has the port, and not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let (stage, _, why) = outcome(&format!("{ONCE}{PATIENT}"), &url).await;
    assert_eq!(stage, EffectStage::Failed);
    assert!(why.starts_with("no connection: "), "{why}");
}

/// If this failed, receivers could not tell a repetition, or would not get what the rules say.
#[tokio::test]
async fn each_attempt_is_the_same_request() {
    let replies = [
        Reply::Unread,
        Reply::Close,
        json_reply(503),
        Reply::Status(307, "location: /elsewhere\r\n", vec![]),
        Reply::Status(429, "retry-after: 0\r\n", vec![]),
        Reply::Status(200, "", vec![]),
    ];
    let server = Server::start(move |n| replies[n.min(5)].clone()).await;
    let retry = "retry = { attempts = 9, backoff = \"1ms\" }\n";
    let (stage, answer, why) = outcome(&format!("{retry}{PATIENT}"), &server.url).await;
    assert_eq!((stage, answer.as_str()), (EffectStage::Succeeded, "200 "), "{why}");
    let mut seen = server.seen();
    assert_eq!(seen.len(), 5, "{seen:?}");
    for request in &mut seen {
        request.connection = 0;
    }
    assert!(seen.iter().all(|request| *request == seen[0]), "{seen:?}");
    assert_eq!((seen[0].first_line.as_str(), seen[0].body.as_str()), ("POST /score HTTP/1.1", r#"{"a":"ü","b":1.5}"#));
    for (name, value) in [
        ("idempotency-key", "application/a/pull/1"),
        ("content-type", "application/json"),
        ("authorization", "Bearer secret"),
        ("x-key", "a"),
        ("user-agent", concat!("turnstile/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(seen[0].headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(seen[0].headers.get("cookie"), None);
}

/// If this failed, retries would go on for ever, or end with another outcome than the last one's.
#[tokio::test]
async fn at_least_once_gives_up_after_so_many_attempts() {
    for (time, reply, answer, attempts) in [
        (PATIENT, json_reply(503), r#"503 {"score":712}"#, 3),
        (PATIENT, json_reply(422), r#"422 {"score":712}"#, 1),
        (HASTY, Reply::Silence, "0 ", 3),
    ] {
        let answers = reply.clone();
        let server = Server::start(move |_| answers.clone()).await;
        let (stage, told, why) = outcome(&format!("{LEAST}{time}"), &server.url).await;
        assert_eq!((stage, told.as_str()), (EffectStage::Failed, answer), "{reply:?}: {why}");
        assert_eq!(server.seen().len(), attempts, "{reply:?}");
    }
}

/// If this failed, a connection that the server closes while it is idle could make a call ambiguous that must not be repeated.
#[tokio::test]
async fn calls_made_at_most_once_share_no_connection() {
    for (effect, connections) in [(ONCE, vec![0, 1, 2]), (LEAST, vec![0, 0, 0])] {
        let server = Server::start(|_| json_reply(200)).await;
        let (effects, entities) = start(&format!("{effect}{PATIENT}concurrency = 1"));
        for key in ["a", "b", "c"] {
            let call = call(key, 0, &server.url);
            entities.ask(&call);
            effects.begin(vec![call]);
        }
        entities.outcomes(3).await;
        let seen = server.seen();
        assert_eq!(seen.iter().map(|request| request.connection).collect::<Vec<_>>(), connections, "{effect}");
        let keys: HashSet<_> = seen.iter().map(|request| &request.headers["idempotency-key"]).collect();
        assert_eq!(keys.len(), 3, "{effect}");
    }
}

/// If this failed, an orderly stop would cut a call off that was about to be answered.
#[tokio::test]
async fn an_orderly_stop_takes_in_the_answer() {
    let server = Server::start(|_| json_reply(200)).await;
    let (effects, entities) = start(&format!("{ONCE}{PATIENT}"));
    let call = call("a", 0, &server.url);
    entities.ask(&call);
    effects.begin(vec![call]);
    entities.until(|known| !known.steps.is_empty()).await;
    effects.drain(Duration::from_mins(1)).await;
    assert_eq!(entities.steps(), ["a started 1", "a succeeded"]);
}
