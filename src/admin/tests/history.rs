//! What happened to an entity, in pages from both ends; what one correlation id has to do with.

use serde_json::{Value, json};

use super::node::{Node, Options, noted, paid};
use crate::model::ids::Lsn;

async fn lsns(node: &Node, query: &str) -> (Vec<u64>, Option<String>) {
    let page = node.get(&format!("/v1/entities/order/o/history{query}")).await.expect(200);
    let lsn = |item: &Value| item["lsn"].as_u64().unwrap();
    let next = page["next"].as_str().map(str::to_owned);
    (page["items"].as_array().unwrap().iter().map(lsn).collect(), next)
}

/// If this failed, whoever reads page after page would miss records or see some twice, from either end, stored or not.
#[actix_web::test]
async fn every_record_is_on_one_page_from_either_end() {
    let node = Node::start();
    let mut expected = Vec::new();
    for round in 0..3 {
        for n in 0..60 {
            node.post("", noted(&format!("{round}.{n}"), "o", "x")).await.expect(202);
            expected.push(*node.api.committed.borrow());
            node.post("", noted(&format!("{round}.{n}"), "other", "x")).await.expect(202);
        }
        node.checkpoint().await;
    }
    let expected: Vec<u64> = expected.iter().map(|lsn| lsn.0).collect();
    let mut reversed = expected.clone();
    reversed.reverse();
    for (order, on, expected) in [("asc", "after", &expected), ("desc", "before", &reversed)] {
        for limit in [1, 50, 180, 1000] {
            let (mut seen, mut from) = (Vec::new(), String::new());
            loop {
                let (page, next) = lsns(&node, &format!("?order={order}&limit={limit}{from}")).await;
                assert!(page.len() == limit || next.is_none());
                seen.extend(page);
                let Some(next) = next else { break };
                from = format!("&{on}={next}");
            }
            assert_eq!(&seen, expected, "{order}, {limit} a page");
        }
    }
    let (between, _) = lsns(&node, &format!("?after={}&before={}", expected[3], expected[7])).await;
    assert_eq!(between, expected[4..7]);
    for wrong in ["limit=0", "order=up", "after=x", "before=-1", "what=1"] {
        node.get(&format!("/v1/entities/order/o/history?{wrong}")).await.problem(400, "invalid_value");
    }
    node.get("/v1/entities/order/none/history").await.problem(404, "not_found");
}

/// If this failed, an old value would be missing or wrong once an entity has many records.
#[actix_web::test]
async fn old_values_are_told_of_few_and_of_many_records() {
    let node = Node::start();
    node.post("", paid("p0", "o", 1)).await.expect(202);
    let last = async |node: &Node| {
        let page = node.get("/v1/entities/order/o/history?order=desc&limit=1").await.expect(200);
        page["items"][0].clone()
    };
    node.post("", noted("n0", "o", "text 0")).await.expect(202);
    let item = last(&node).await;
    assert_eq!(item["changes"], json!([{"field": "note", "take": "latest", "old": null, "new": "text 0"}]));
    assert_eq!(item["decisions"][0]["id"], "order/o/Remarked/1");
    let lines: Vec<String> = (1..600).map(|n| noted(&format!("n{n:03}"), "o", &format!("text {n}"))).collect();
    node.post("", lines.join("\n")).await.expect(202);
    let item = last(&node).await;
    assert_eq!(item["changes"][0]["new"], "text 599");
    assert_eq!(item["changes"][0]["old"], "text 598", "found among the records before");
    node.post("", noted("n599", "o", "text 599")).await.expect(202);
    assert_eq!(node.get("/v1/entities/order/o/history").await.expect(200)["duplicates"], 1);
}

/// If this failed, someone would be told that nothing came before, or be refused what is still there.
#[actix_web::test]
async fn what_the_journal_no_longer_has_is_said_to_be_gone() {
    let node = Node::start_with(Options { segment_bytes: 256 << 10, ..Options::default() });
    let text = "x".repeat(800);
    for n in 0..400 {
        node.post("", noted(&format!("{n}"), "o", &text)).await.expect(202);
    }
    node.checkpoint().await;
    let all = node.get("/v1/entities/order/o/history?limit=1").await.expect(200);
    assert_eq!(all["trimmed_before"], Value::Null);
    // So little that one file goes, not several one after the other.
    node.journal.trim(Lsn(100)).unwrap();
    let first = kept(&node).await;
    let page = node.get("/v1/entities/order/o/history?limit=1").await.expect(200);
    assert_eq!((&page["trimmed_before"], &page["items"][0]["lsn"]), (&json!(first), &json!(first)));
    let (rest, next) = lsns(&node, "?order=desc&limit=1000").await;
    assert_eq!((rest.last(), next), (Some(&first), None));
}

/// The first record kept, once some are gone.
async fn kept(node: &Node) -> u64 {
    for _ in 0..1000 {
        let first = node.api.journal.first_lsn().0;
        if first > 1 {
            return first;
        }
        // Each commit lets the writer get to what it was asked for.
        node.post("", noted("other", "other", "x")).await.expect(202);
    }
    panic!("nothing was trimmed");
}

/// If this failed, what one request set off could not be followed over the entities it touched.
#[actix_web::test]
async fn a_correlation_id_is_followed_across_entities() {
    let node = Node::start();
    let with = |event: String, id: &str| event.replacen('{', &format!(r#"{{"correlationid":"{id}","#), 1);
    node.post("", with(paid("a", "o1", 200), "c 1")).await.expect(202);
    node.post("", paid("b", "o2", 1)).await.expect(202);
    node.post("", with(noted("c", "o2", "c 1"), "c 2")).await.expect(202);
    node.post("", with(noted("d", "o3", "x"), "c 1")).await.expect(202);
    node.post("", noted("c 1", "o4", "x")).await.expect(202);
    let of = async |query: &str| {
        let page = node.get(&format!("/v1/correlations/c%201{query}")).await.expect(200);
        let key = |item: &Value| item["key"].as_str().unwrap().to_owned();
        (page["items"].as_array().unwrap().iter().map(key).collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(of("").await, (["o1", "o3", "o4"].map(str::to_owned).into(), Value::Null));
    let (first, next) = of("?limit=1").await;
    assert_eq!(first, ["o1"]);
    let (rest, next) = of(&format!("?limit=2&after={}", next.as_str().unwrap())).await;
    assert_eq!(rest, ["o3", "o4"]);
    assert_eq!(of(&format!("?after={}", next.as_str().unwrap())).await, (Vec::new(), Value::Null));
    let found = node.get("/v1/correlations/c%201").await.expect(200);
    assert_eq!(found["items"][0]["decisions"].as_array().unwrap().len(), 2);
    assert_eq!(found["correlation"], "c 1");
}
