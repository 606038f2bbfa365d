//! Dead letters tried again and dropped by hand.

use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::node::{Answer, Node, paid};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Input;
use crate::model::system::{DEAD_LETTER_KIND, DeadLetter, Form, Origin};

/// A dead letter of the source `bus`, whose rows are events.
async fn bury(node: &Node, position: &str, body: &str) -> String {
    let origin = Origin::Source { name: "bus".into(), position: position.into() };
    put(node, DeadLetter { form: Form::Row { times: Vec::new() }, body: body.as_bytes().to_vec(), ..letter(origin) })
        .await
}

fn letter(origin: Origin) -> DeadLetter {
    DeadLetter {
        origin,
        reason: "unmatched".into(),
        detail: "nobody takes it".into(),
        attempts: 1,
        entity: None,
        id: "e".into(),
        body: Vec::new(),
        form: Form::Partial,
        mandate: None,
    }
}

async fn put(node: &Node, letter: DeadLetter) -> String {
    let id = letter.origin.key();
    let entity = EntityKey::new(DEAD_LETTER_KIND, &id);
    node.api.shards.note(entity, Input::DeadLetter(Box::new(letter))).await.unwrap();
    id
}

async fn ask(node: &Node, path: &str, body: &str) -> Answer {
    node.answer(TestRequest::post().uri(path).set_payload(body.to_owned())).await
}

fn open(node: &Node, reason: &str) -> i64 {
    node.api.metrics.dead_letters.with_label_values(&[reason]).get()
}

async fn listed(node: &Node, query: &str) -> Vec<Value> {
    node.get(&format!("/v1/dead-letters{query}")).await.expect(200)["items"].as_array().unwrap().clone()
}

/// If this failed, what was refused could not be brought in once the rules were mended, or would count twice.
#[actix_web::test]
async fn an_event_that_is_tried_again_counts_once() {
    let node = Node::start();
    let id = bury(&node, "1", &paid("p1", "o", 5)).await;
    assert_eq!(open(&node, "unmatched"), 1);
    let done = ask(&node, &format!("/v1/dead-letters/{id}/retry"), r#"{"by":"ann","why":"mended"}"#).await.expect(200);
    assert_eq!((&done["outcome"], &done["closed"]), (&json!("retried"), &json!("retried")));
    assert_eq!((&done["by"], &done["why"]), (&json!("ann"), &json!("mended")));
    assert_eq!(open(&node, "unmatched"), 0);
    ask(&node, &format!("/v1/dead-letters/{id}/retry"), "").await.problem(409, "conflict");
    // The same event under another letter is a duplicate, which closes that one, too.
    let other = bury(&node, "2", &paid("p1", "o", 5)).await;
    ask(&node, &format!("/v1/dead-letters/{other}/retry"), "").await.expect(200);
    let entity = node.get("/v1/entities/order/o").await.expect(200);
    assert_eq!((&entity["events"], &entity["fields"]["paid"]), (&json!(1), &json!(5)));
    assert_eq!(listed(&node, "").await, Vec::<Value>::new());
    let closed = listed(&node, "?closed=true").await;
    assert_eq!((closed.len(), &closed[0]["id"], closed[0].get("bytes")), (2, &json!(id), None));
    // What was dealt with does not come back.
    bury(&node, "1", &paid("p1", "o", 5)).await;
    assert_eq!((listed(&node, "").await.len(), open(&node, "unmatched")), (0, 0));
}

/// If this failed, a letter that is refused again would be lost, or look as it did before.
#[actix_web::test]
async fn what_is_refused_again_stays_with_its_new_reason() {
    let node = Node::start();
    let id = bury(&node, "1", r#"{"id":"p1","type":"Paid","data":{"order":"o","amount":"much"}}"#).await;
    let path = format!("/v1/dead-letters/{id}/retry");
    let refused = ask(&node, &path, r#"{"by":"ann"}"#).await.expect(200);
    assert_eq!((&refused["outcome"], &refused["reason"]), (&json!("refused"), &json!("invalid_value")));
    assert_eq!((&refused["attempts"], &refused["by"]), (&json!(2), &json!("ann")));
    assert!(refused["detail"].as_str().unwrap().contains("field `paid`"), "{refused}");
    assert_eq!((open(&node, "unmatched"), open(&node, "invalid_value")), (0, 1));
    let partial = put(&node, letter(Origin::Source { name: "bus".into(), position: "9".into() })).await;
    let cannot = ask(&node, &format!("/v1/dead-letters/{partial}/retry"), "").await.expect(200);
    assert!(cannot["detail"].as_str().unwrap().contains("does not hold all that came"), "{cannot}");
    node.get("/v1/dead-letters?sink=gone").await.problem(400, "invalid_value");
    let lost = put(&node, letter(Origin::Sink { name: "gone".into(), lsn: Lsn(1), place: 0 })).await;
    // A sink that is no longer configured, and of which there are letters.
    assert_eq!(listed(&node, "?sink=gone").await.len(), 1);
    let why = ask(&node, &format!("/v1/dead-letters/{lost}/retry"), "").await.problem(409, "conflict");
    assert!(why.contains("no sink is called `gone`"), "{why}");
    ask(&node, "/v1/dead-letters/none/retry", "").await.problem(404, "not_found");

    let delete = |id: &str, body: &'static str| {
        node.answer(TestRequest::delete().uri(&format!("/v1/dead-letters/{id}")).set_payload(body))
    };
    let dropped = delete(&id, r#"{"by":"bob","why":"a test"}"#).await.expect(200);
    assert_eq!(
        (&dropped["closed"], &dropped["by"], &dropped["why"]),
        (&json!("dropped"), &json!("bob"), &json!("a test"))
    );
    assert_eq!(open(&node, "invalid_value"), 1, "the partial one");
    delete(&id, "").await.problem(409, "conflict");
    delete("none", "").await.problem(404, "not_found");
}

/// If this failed, a retry of many would stop at the first that is refused, take too many, or others than were meant.
#[actix_web::test]
async fn several_are_tried_again_in_their_order() {
    let node = Node::start();
    for n in 0..5 {
        let amount = if n == 2 { "\"much\"".to_owned() } else { n.to_string() };
        let body = format!(r#"{{"id":"p{n}","type":"Paid","data":{{"order":"o","amount":{amount}}}}}"#);
        bury(&node, &format!("{n}"), &body).await;
    }
    put(&node, letter(Origin::Source { name: "other".into(), position: "1".into() })).await;
    ask(&node, "/v1/dead-letters/retry", "{}").await.problem(400, "invalid_value");
    let path = "/v1/dead-letters/retry";
    let first = ask(&node, path, r#"{"source":"bus","limit":2,"by":"ann"}"#).await.expect(200);
    assert_eq!((&first["asked"], &first["retried"], &first["next"]), (&json!(2), &json!(2), &json!("source.bus.1")));
    let rest = ask(&node, path, r#"{"source":"bus","after":"source.bus.1"}"#).await.expect(200);
    assert_eq!((&rest["asked"], &rest["retried"], &rest["refused"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(
        (&rest["items"][0]["id"], &rest["items"][0]["reason"]),
        (&json!("source.bus.2"), &json!("invalid_value"))
    );
    assert_eq!(rest["next"], Value::Null);
    let entity = node.get("/v1/entities/order/o").await.expect(200);
    assert_eq!((&entity["events"], &entity["fields"]["paid"]), (&json!(4), &json!(8)));
    let left: Vec<_> = listed(&node, "").await.iter().map(|item| item["id"].clone()).collect();
    assert_eq!(left, [json!("source.bus.2"), json!("source.other.1")]);
    assert_eq!(listed(&node, "?reason=invalid_value").await.len(), 1);
    let none = ask(&node, path, r#"{"reason":"exhausted"}"#).await.expect(200);
    assert_eq!(none["asked"], 0);
    let all = ask(&node, path, r#"{"all":true}"#).await.expect(200);
    assert_eq!((&all["asked"], &all["refused"]), (&json!(2), &json!(2)));
}
