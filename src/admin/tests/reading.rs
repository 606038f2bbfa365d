//! What can be asked: entities one by one and in pages, events, decisions.

use serde_json::{Value, json};

use super::node::{Node, Options, noted, paid};
use crate::admin::entity_link;
use crate::model::ids::{EntityKey, Lsn};

async fn keys_of(node: &Node, query: &str) -> (Vec<String>, Value) {
    let page = node.get(&format!("/v1/entities/order{query}")).await.expect(200);
    let key = |item: &Value| item["key"].as_str().unwrap().to_owned();
    (page["items"].as_array().unwrap().iter().map(key).collect(), page["next"].clone())
}

/// If this failed, some entities could not be asked for, or others were answered in their place.
#[actix_web::test]
async fn every_key_can_be_asked_for() {
    let node = Node::start();
    let keys =
        ["plain", "a/b", "a%2Fb", "%", "+", "a b", "ü", "\0", "a\0b", "..", "?x=1", "#", "\u{1F600}", "\\", "\"", "\n"];
    for key in keys {
        let link = node.post("", noted("1/é", key, "x")).await.expect(202)["entities"][0].as_str().unwrap().to_owned();
        assert_eq!(link, entity_link(&EntityKey::new("order", key)));
        assert_eq!(node.get(&link).await.expect(200)["key"], key);
        let event = node.get(&format!("{link}/events/1%2F%C3%A9")).await.expect(200);
        assert_eq!(event, json!({ "state": "applied", "source": "default", "id": "1/é" }));
        node.get(&format!("{link}/events/1%2F%C3%A9?source=other")).await.problem(404, "not_found");
        node.get(&format!("{link}/events/2")).await.problem(404, "not_found");
    }
    node.get("/v1/entities/order/none").await.problem(404, "not_found");
    node.get("/v1/entities/order/none/events/1").await.problem(404, "not_found");
    node.get("/v1/entities/order/%FF").await.problem(400, "invalid_value");
    assert!(node.get("/v1/entities/ordre/a").await.problem(404, "not_found").contains("did you mean `order`?"));
    assert!(node.get("/v1/entities/ordre").await.problem(404, "not_found").contains("did you mean `order`?"));
    let (all, _) = keys_of(&node, "").await;
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(all, sorted);
}

/// If this failed, whoever reads page after page would miss entities or see some twice.
#[actix_web::test]
async fn pages_hold_saved_and_unsaved_entities_in_order() {
    let node = Node::start();
    let lines = |keys: &[&str]| keys.iter().map(|key| noted("1", key, "x")).collect::<Vec<_>>().join("\n");
    node.post("", lines(&["d", "b", "ab", "f"])).await.expect(202);
    node.checkpoint().await;
    node.post("", lines(&["e", "c", "a", "aa", "g"])).await.expect(202);
    let all = ["a", "aa", "ab", "b", "c", "d", "e", "f", "g"];
    assert_eq!(keys_of(&node, "").await, (all.map(str::to_owned).to_vec(), Value::Null));
    for limit in 1..=all.len() {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (keys, next) = keys_of(&node, &format!("?limit={limit}{after}")).await;
            assert!(keys.len() == limit || next.is_null());
            seen.extend(keys);
            let Some(next) = next.as_str() else { break };
            assert_eq!(next, seen.last().unwrap());
            after = format!("&after={next}");
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    for (query, expected) in [
        ("?prefix=a", vec!["a", "aa", "ab"]),
        ("?prefix=a&after=a", vec!["aa", "ab"]),
        ("?prefix=a&after=b", vec![]),
        ("?prefix=x", vec![]),
        ("?after=f", vec!["g"]),
        ("?after=", all.to_vec()),
        ("?waiting", vec![]),
    ] {
        assert_eq!(keys_of(&node, query).await.0, expected, "{query}");
    }
    let types = node.get("/v1/entities").await.expect(200);
    let order = types["types"].as_array().unwrap().iter().find(|entry| entry["type"] == "order").unwrap();
    assert_eq!((&order["type"], &order["entities"], &order["live"]), (&json!("order"), &json!(9), &json!(9)));
}

/// If this failed, a filter would hide entities that pass it or show others.
#[actix_web::test]
async fn pages_are_filtered() {
    let node = Node::start();
    let events: Vec<String> = (0..30).map(|n| paid("p", &format!("o{n:02}"), n * 10)).collect();
    node.post("", events.join("\n")).await.expect(202);
    node.checkpoint().await;
    node.post("", [noted("n", "o05", "x"), noted("n", "o20", "y"), noted("n", "only", "z")].join("\n"))
        .await
        .expect(202);
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    for (filter, expected) in [
        ("order.rich && has(order.note)", vec!["o20"]),
        ("order.paid >= 280", vec!["o28", "o29"]),
        ("key.startsWith('o2') && order.paid < 220", vec!["o20", "o21"]),
        ("order.note == 'z'", vec!["only"]),
        ("order.note != 'z'", vec!["o05", "o20"]),
    ] {
        let (keys, next) = keys_of(&node, &format!("?where={}", encode(filter))).await;
        assert_eq!((keys, next), (expected.iter().map(|key| (*key).to_owned()).collect(), Value::Null), "{filter}");
    }
    let (first, next) = keys_of(&node, &format!("?limit=1&where={}", encode("has(order.note)"))).await;
    assert_eq!(first, ["o05"]);
    let (rest, _) =
        keys_of(&node, &format!("?after={}&where={}", next.as_str().unwrap(), encode("has(order.note)"))).await;
    assert_eq!(rest, ["o20", "only"]);
    for (query, count) in [("incomplete", 29), ("incomplete=true", 29), ("incomplete=note", 28), ("incomplete=paid", 1)]
    {
        assert_eq!(keys_of(&node, &format!("?{query}")).await.0.len(), count, "{query}");
    }
    for (query, expected) in [
        (format!("where={}", encode("order.piad > 1")), "at character 1); did you mean `order.paid`?"),
        (format!("where={}", encode("order.paid >")), "where: "),
        (format!("where={}", encode("'text'")), "true or false"),
        ("incomplete=piad".into(), "did you mean `paid`?"),
        ("limit=0".into(), "1 to 1000"),
        ("limit=1001".into(), "1 to 1000"),
        ("limit=x".into(), "limit is \"x\""),
        ("order=up".into(), "order"),
    ] {
        let detail = node.get(&format!("/v1/entities/order?{query}")).await.problem(400, "invalid_value");
        assert!(detail.contains(expected), "{query}: {detail}");
    }
}

/// If this failed, whoever waits for an entity would hear too early, too late or never.
#[actix_web::test]
async fn an_entity_can_be_waited_for() {
    let node = Node::start();
    node.get("/v1/entities/order/new?wait=any&timeout=0s").await.problem(404, "not_found");
    let wait = |query: &'static str| {
        let node = node.clone();
        actix::spawn(async move { node.get(&format!("/v1/entities/order/new?timeout=1m&{query}")).await })
    };
    let (applied, confirmed) = (wait("wait=applied"), wait("wait=Confirmed"));
    node.post("", paid("1", "new", 1)).await.expect(202);
    assert_eq!(applied.await.unwrap().expect(200)["version"], 1);
    let undecided = node.get("/v1/entities/order/new?wait=Confirmed&timeout=0s").await.expect(202);
    assert_eq!(undecided["version"], 1);
    node.post("", paid("2", "new", 100)).await.expect(202);
    assert_eq!(confirmed.await.unwrap().expect(200)["decisions"]["Confirmed"]["state"], "made");
    let detail = node.get("/v1/entities/customer/c?wait=Confirmed").await.problem(400, "invalid_value");
    assert!(detail.contains("there is `applied`, `any`") || detail.contains("did you mean"), "{detail}");
}

/// If this failed, a client would not read its own write.
#[actix_web::test]
async fn a_position_can_be_waited_for() {
    let node = Node::start();
    let lsn = node.post("", noted("1", "a", "x")).await.expect(202)["lsn"].as_u64().unwrap();
    assert_eq!(node.get(&format!("/v1/entities/order/a?min_lsn={lsn}")).await.expect(200)["lsn"], lsn);
    let late = node.get(&format!("/v1/entities/order/a?min_lsn={}&timeout=1ms", lsn + 1)).await;
    late.problem(503, "busy");
    assert_eq!(late.retry_after.as_deref(), Some("1"));
    node.get(&format!("/v1/entities/order/a?min_lsn={}&timeout=0s", u64::MAX)).await.problem(503, "busy");
    node.get("/v1/entities/order/a?min_lsn=x").await.problem(400, "invalid_value");

    let told = node.forget_commits();
    let waiting = {
        let node = node.clone();
        actix::spawn(async move { node.get(&format!("/v1/entities/order/a?timeout=1m&min_lsn={lsn}")).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    node.tell_commit(told);
    assert_eq!(told, Lsn(lsn));
    waiting.await.unwrap().expect(200);
}

/// If this failed, a reader of decisions would miss some or see some twice.
#[actix_web::test]
async fn decisions_are_read_in_order() {
    let node = Node::start();
    let none = node.get("/v1/decisions").await.expect(200);
    assert_eq!(none, json!({ "items": [], "next": "0" }));
    node.post("", noted("1", "a", "x")).await.expect(202);
    node.post("", paid("2", "a", 60)).await.expect(202);
    node.post("", paid("3", "a", 60)).await.expect(202);
    node.post("", noted("1", "b", "x")).await.expect(202);
    let all = node.get("/v1/decisions").await.expect(200);
    let (items, end) = (&all["items"], all["next"].as_str().unwrap().to_owned());
    let of = |lsn: u64, name: &str| json!({ "lsn": lsn, "type": name });
    assert_eq!(items, &json!([of(1, "Remarked"), of(3, "Celebrated"), of(3, "Confirmed"), of(4, "Remarked")]));
    assert_eq!(end, "4");
    for limit in 1..=4 {
        let (mut seen, mut after) = (Vec::new(), "0".to_owned());
        loop {
            let page = node.get(&format!("/v1/decisions?limit={limit}&after={after}")).await.expect(200);
            let items = page["items"].as_array().unwrap();
            after = page["next"].as_str().unwrap().to_owned();
            if items.is_empty() {
                break;
            }
            assert!(items.len() <= limit);
            seen.extend(items.clone());
        }
        assert_eq!((&json!(seen), &*after), (items, "4"), "limit {limit}");
    }
    node.post("", noted("2", "c", "x")).await.expect(202);
    let more = node.get(&format!("/v1/decisions?after={end}")).await.expect(200);
    assert_eq!(more["items"], json!([of(5, "Remarked")]));
    node.get("/v1/decisions?after=soon").await.problem(400, "invalid_value");
    let filtered = node.get("/v1/decisions?type=order&key=a&decision=Remarked").await.expect(200);
    assert_eq!(filtered, json!({ "items": [of(1, "Remarked")], "next": "5" }));
    let detail = node.get("/v1/decisions?decision=Remraked").await.problem(400, "invalid_value");
    assert!(detail.contains("did you mean `Remarked`?"), "{detail}");
}

/// If this failed, a reader that was away for too long would not learn that it missed decisions.
#[actix_web::test]
async fn trimmed_decisions_are_said_to_be_gone() {
    let node = Node::start_with(Options { segment_bytes: 1, ..Options::default() });
    for n in 1..=3 {
        node.post("", noted(&n.to_string(), "a", &n.to_string())).await.expect(202);
    }
    node.journal.trim(Lsn(3)).unwrap();
    node.post("", noted("4", "a", "4")).await.expect(202);
    let detail = node.get("/v1/decisions?after=0").await.problem(410, "trimmed");
    assert!(detail.contains("starts at LSN 3"), "{detail}");
    let kept = node.get("/v1/decisions").await.expect(200);
    assert_eq!(kept["items"][0]["lsn"], 3);
}

/// If this failed, an event would seem lost once its identity has moved to a row of its own.
#[actix_web::test]
async fn events_are_known_wherever_their_identity_is() {
    let node = Node::start();
    let events: Vec<String> = (0..100).map(|n| noted(&format!("e{n}"), "a", "x")).collect();
    node.post("", events.join("\n")).await.expect(202);
    node.checkpoint().await;
    for n in 0..100 {
        assert_eq!(node.get(&format!("/v1/entities/order/a/events/e{n}")).await.expect(200)["state"], "applied");
    }
    node.get("/v1/entities/order/a/events/e100").await.problem(404, "not_found");
}

/// If this failed, one request could keep the node busy for as long as it has entities.
#[actix_web::test]
async fn a_filter_that_few_pass_is_bounded() {
    let node = Node::start();
    let events: Vec<String> = (0..10_001).map(|n| noted("n", &format!("{n:05}"), "x")).collect();
    node.post("", events.join("\n")).await.expect(202);
    let (first, next) = keys_of(&node, "?where=key%20%3D%3D%20'10000'").await;
    assert_eq!((first.as_slice(), next.as_str()), (&[][..], Some("09999")));
    let (rest, end) = keys_of(&node, "?after=09999&where=key%20%3D%3D%20'10000'").await;
    assert_eq!((rest, end), (vec!["10000".to_owned()], Value::Null));
}
