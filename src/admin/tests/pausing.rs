//! Pausing and resuming by hand.

use actix_web::test::TestRequest;
use serde_json::{Value, json};

use super::node::{Node, Options, noted, paid};
use crate::admin::Routes;

async fn ask(node: &Node, path: &str, body: &str) -> Value {
    node.answer(TestRequest::post().uri(path).set_payload(body.to_owned())).await.expect(200)
}

/// If this failed, an operator could not hold a key, see that it is held and by whom, or let it go again.
#[actix_web::test]
async fn a_key_is_paused_and_resumed() {
    let node = Node::start();
    node.post("", paid("1", "a", 1)).await.expect(202);
    let answer = ask(&node, "/v1/entities/order/a/pause", r#"{"by":"ann","why":"odd sums"}"#).await;
    assert_eq!((&answer["changed"], &answer["held"]), (&json!(true), &json!(0)));
    assert_eq!((&answer["paused"]["by"], &answer["paused"]["why"]), (&json!("ann"), &json!("odd sums")));
    let again = ask(&node, "/v1/entities/order/a/pause", r#"{"by":"bob"}"#).await;
    assert_eq!((&again["changed"], &again["paused"]["by"]), (&json!(false), &json!("ann")));

    let waiting = node.post("?wait=applied&timeout=0s", paid("2", "a", 2)).await.expect(202);
    assert_eq!(waiting["entities"][0]["fields"], json!({ "paid": 1 }));
    assert_eq!(waiting["entities"][0]["paused"]["held"], 1);
    node.post("?wait=applied&timeout=0s", paid("3", "b", 2)).await.expect(200);
    assert_eq!(node.get("/v1/entities/order/a/events/2").await.expect(200)["state"], "held");
    assert_eq!(node.get("/v1/entities/order/a/events/1").await.expect(200)["state"], "applied");
    let page = node.get("/v1/entities/order?paused").await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["items"][0]["key"]), (1, &json!("a")));
    node.get("/v1/entities/order?paused=no").await.problem(400, "invalid_value");

    let answer = ask(&node, "/v1/entities/order/a/resume", "").await;
    assert_eq!((&answer["changed"], &answer["paused"]), (&json!(true), &Value::Null));
    let applied = node.get("/v1/entities/order/a?wait=applied").await.expect(200);
    assert_eq!((&applied["fields"], applied.get("paused")), (&json!({ "paid": 3 }), None));
    assert_eq!(ask(&node, "/v1/entities/order/a/resume", "").await["changed"], false);
}

/// If this failed, a whole type could not be held, or a key of the same name as the verb could not be read.
#[actix_web::test]
async fn a_type_is_paused_and_resumed() {
    let node = Node::start();
    node.post("", paid("1", "pause", 1)).await.expect(202);
    assert_eq!(ask(&node, "/v1/entities/order/pause", r#"{"by":"ann"}"#).await["changed"], true);
    assert_eq!(node.get("/v1/entities/order/pause").await.expect(200)["fields"]["paid"], 1);
    for n in 0..5 {
        node.post("", noted(&format!("n{n}"), &format!("k{n}"), "x")).await.expect(202);
    }
    ask(&node, "/v1/entities/order/k9/pause", "").await;
    let page = node.get("/v1/paused?limit=2").await.expect(200);
    assert_eq!((&page["types"][0]["type"], &page["types"][0]["paused"]["by"]), (&json!("order"), &json!("ann")));
    assert_eq!(page["items"][1], json!({ "type": "order", "key": "k1", "paused": null, "held": 1 }));
    assert_eq!(page["next"], "order/k1");
    let rest = node.get("/v1/paused?after=order/k1&type=order").await.expect(200);
    let keys: Vec<_> = rest["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!((keys, &rest["next"]), (vec!["k2", "k3", "k4", "k9"], &Value::Null));
    assert_eq!(node.get("/v1/paused?type=customer").await.expect(200)["types"], json!([]));
    assert_eq!(node.get("/v1/status").await.expect(200)["types"][0]["paused"], true);

    assert_eq!(ask(&node, "/v1/entities/order/resume", "").await["changed"], true);
    for n in 0..5 {
        let applied = node.get(&format!("/v1/entities/order/k{n}?wait=applied")).await.expect(200);
        assert_eq!(applied["fields"]["note"], "x");
    }
}

/// If this failed, a slip would pause something, or nobody would be told what was wrong.
#[actix_web::test]
async fn what_cannot_be_paused_is_said() {
    let node = Node::start();
    let post = |path: &str, body: String| node.answer(TestRequest::post().uri(path).set_payload(body));
    post("/v1/entities/ordre/pause", String::new()).await.problem(404, "not_found");
    post("/v1/entities/ordre/k/pause", String::new()).await.problem(404, "not_found");
    post("/v1/entities/order/k/pause", "[1]".into()).await.problem(400, "invalid_value");
    let long = format!(r#"{{"why":"{}"}}"#, "x".repeat(2000));
    post("/v1/entities/order/k/pause", long).await.problem(400, "invalid_value");
    node.get("/v1/paused?after=order").await.problem(400, "invalid_value");
    assert_eq!(node.get("/v1/paused").await.expect(200)["items"], json!([]));
    let public = Node::start_with(Options { routes: Routes::Public, ..Options::default() });
    public.answer(TestRequest::post().uri("/v1/entities/order/k/pause")).await.problem(404, "not_found");
}
