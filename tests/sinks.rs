//! Where decisions go: each revision once in a file, whatever happens to the process and to the end of the file.

mod common;

use std::io::Write;

use common::orders::{created, event, feed, paid, reserved, shipped};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
customer = { on = "OrderCreated", take = "latest" }
payment = { on = "PaymentProcessed", take = "latest" }
stock = { on = "InventoryReserved", take = "latest" }
shipping = { on = "ShippingCalculated", take = "latest" }
[entity.order.decision.Confirmed]
when = "order.payment.status == 'successful' && has(order.stock)"
data = { warehouse = "order.stock.warehouseId", days = "order.?shipping.?estimatedDays.orValue(5)" }
[entity.order.decision.Welcome]
data = "order.customer.customerId"
policy = "once"
"#;

fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect()
}

/// The file once it has so many lines.
fn file_with(server: &Server, name: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{name} has {count} decisions"), || {
        let text = std::fs::read_to_string(server.path(name)).unwrap_or_default();
        let lines: Vec<Value> = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {name}: {line}")))
            .collect();
        (lines.len() >= count).then_some(lines)
    })
}

/// `once` waits until all its data is known and then never changes; `revise` follows the data.
#[test]
fn once_and_revise() {
    let server = Setup::new(RULES).start();
    feed(&server, &[paid("o", "successful"), reserved("o")]);
    let pending = server.entity("order", "o");
    assert_eq!(pending["decisions"]["Welcome"]["state"], "pending", "its data is not known: {pending}");
    let mut later = event("o-again", "OrderCreated", "o", &json!({"customerId": "c-8"}));
    later["time"] = "2026-11-20T11:00:00Z".into();
    feed(&server, &[created("o"), later, shipped("o")]);
    let entity = server.entity("order", "o");
    assert_eq!(entity["fields"]["customer"]["customerId"], "c-8", "{entity}");
    let welcome = &entity["decisions"]["Welcome"];
    assert_eq!((&welcome["data"], &welcome["revision"]), (&json!("c-7"), &json!(1)), "made once: {entity}");
    let file = file_with(&server, "out/decisions.ndjson", 3);
    assert_eq!(ids(&file), ["order/o/Confirmed/1", "order/o/Welcome/1", "order/o/Confirmed/2"]);
}

/// A sink on the terminal is how one looks at what happens.
#[test]
fn standard_output_and_routing() {
    let rules = RULES.replace("policy = \"once\"", "policy = \"once\"\nto = [\"terminal\"]");
    let server = Setup::new(&rules).tables("[sink.terminal]\nkind = \"stdout\"").start();
    feed(&server, &[created("o"), paid("o", "successful"), reserved("o")]);
    let said = wait_for("standard output has both decisions", || {
        let lines: Vec<Value> = server.stdout().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= 2).then_some(lines)
    });
    assert_eq!(ids(&said), ["order/o/Welcome/1", "order/o/Confirmed/1"]);
    let file = file_with(&server, "out/decisions.ndjson", 1);
    assert_eq!(ids(&file), ["order/o/Confirmed/1"], "what is for the terminal alone is not in the file");
}

/// After a crash the end of the file is whatever the disk has; what follows the last noted place is written anew.
#[test]
fn a_torn_end_of_the_file_is_mended() {
    let mut server = Setup::new(RULES).start();
    for n in 0..50 {
        let order = format!("o-{n}");
        feed(&server, &[paid(&order, "successful"), reserved(&order)]);
    }
    let before = file_with(&server, "out/decisions.ndjson", 50);
    server.kill();
    let path = server.path("out/decisions.ndjson");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("the file");
    file.write_all(b"{\"id\":\"order/o-0/Confirmed/1\",\"torn").expect("it can be written");
    drop(file);
    server.start();
    feed(&server, &[paid("last", "successful"), reserved("last")]);
    let after = file_with(&server, "out/decisions.ndjson", 51);
    assert_eq!(after[..50], before[..], "each revision is there once, as it was");
    assert_eq!(after[50]["subject"], "last");
    assert_eq!(after.len(), 51);
}

/// A sink that is added later starts where it is told to.
#[test]
fn a_new_sink_starts_with_what_is_new_or_with_all() {
    let mut server = Setup::new(RULES).start();
    feed(&server, &[paid("old", "successful"), reserved("old")]);
    file_with(&server, "out/decisions.ndjson", 1);
    assert_eq!(server.terminate().code(), Some(0));
    let more = "[sink.all]\nkind = \"file\"\npath = \"all.ndjson\"\nfrom = \"all\"\n\
                [sink.new]\nkind = \"file\"\npath = \"new.ndjson\"";
    server.rewrite(&Setup::new(RULES).tables(more).text());
    server.start();
    feed(&server, &[paid("new", "successful"), reserved("new")]);
    assert_eq!(ids(&file_with(&server, "all.ndjson", 2)), ["order/old/Confirmed/1", "order/new/Confirmed/1"]);
    assert_eq!(ids(&file_with(&server, "new.ndjson", 1)), ["order/new/Confirmed/1"]);
    assert_eq!(file_with(&server, "out/decisions.ndjson", 2).len(), 2, "the old sink goes on where it was");
}
