//! The entity document at each stage of the design's order example.

use super::{Machine, ruleset, second};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::state::LsnBook;
use crate::rules::Document;

pub const ORDERS: &str = r#"
[entity.order]
key = "event.data.orderId"
[entity.order.fields]
customer = { on = "OrderCreated", take = "latest" }
created  = { on = "OrderCreated", take = "min", value = "event.time" }
payment  = { on = "PaymentProcessed", take = "latest" }
stock    = { on = "InventoryReserved", take = "latest" }
shipping = { on = "ShippingCalculated", take = "latest" }
loyalty  = { on = "LoyaltyPointsUpdated", take = "latest" }
[entity.order.derived]
decidable = "has(order.payment) && has(order.stock)"
failed    = "order.?payment.?status.orValue('') == 'failed'"
status    = "order.failed ? 'payment_failed' : has(order.customer) ? 'processing' : 'pending'"
[entity.order.complete]
fields = ["customer", "payment", "stock", "shipping", "loyalty"]
[entity.order.decision.OrderConfirmed]
when = "order.decidable && order.payment.status == 'successful' && size(order.stock.reservedItems) > 0"
data = { warehouse = "order.stock.warehouseId", days = "order.?shipping.?estimatedDays.orValue(5)" }
[entity.order.decision.OrderRejected]
when = "order.decidable && order.failed"
data = { reason = "'Payment failed'" }
"#;

/// One event a stage, the last things first; then the payment turns out to have failed.
const STAGES: [&str; 6] = [
    r#"{"id":"1","type":"LoyaltyPointsUpdated","time":"2026-11-20T09:59:00Z","data":{"orderId":"o1","points":3}}"#,
    r#"{"id":"2","type":"PaymentProcessed","time":"2026-11-20T09:58:00Z","data":{"orderId":"o1","status":"successful"}}"#,
    r#"{"id":"3","type":"InventoryReserved","time":"2026-11-20T09:57:00Z","data":{"orderId":"o1","reservedItems":["a"],"warehouseId":"west"}}"#,
    r#"{"id":"4","type":"ShippingCalculated","time":"2026-11-20T09:56:00Z","data":{"orderId":"o1","estimatedDays":3}}"#,
    r#"{"id":"5","type":"OrderCreated","time":"2026-11-20T09:55:00Z","data":{"orderId":"o1","name":"Ann"}}"#,
    r#"{"id":"6","type":"PaymentProcessed","time":"2026-11-20T09:59:00Z","data":{"orderId":"o1","status":"failed"}}"#,
];

/// If this failed, people would see another order than the one that was reported. One line a stage.
#[test]
fn the_order_is_shown_as_far_as_it_is_known() {
    let mut machine = Machine::new(ruleset(ORDERS));
    let mut lsns = LsnBook::default();
    let entity = EntityKey::new("order", "o1");
    let mut expected = include_str!("order_documents.ndjson").lines();
    for (n, text) in (0..).zip(STAGES) {
        machine.handle(&super::event(text), second(n)).unwrap();
        let state = &machine.states()[&entity];
        lsns.note(state.version, Lsn(100 + state.version.0), state.standing().as_deref());
        let document = Document::new(machine.rules.get("order").unwrap(), "o1", state, &lsns);
        assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected.next().unwrap(), "after {text}");
    }
    assert_eq!(expected.next(), None);
}

/// What a pending decision needs, by its rules and what is there (a field `a` is 1).
#[test]
fn what_a_pending_decision_needs_is_what_would_help() {
    for (rest, needs) in [
        (r#"when = "has(e.b)""#, r#"["b"]"#),
        (r#"when = "e.b == 1 && e.c == 1""#, r#"["b","c"]"#),
        (r#"when = "e.a == 2 && e.b == 1""#, r#"["b"]"#),
        (r#"when = "e.a.x == 1""#, "[]"),
        (r#"when = "e.m.x.y == 1""#, r#"["m.x"]"#),
        (r#"when = "has(e.m.x)""#, r#"["m.x"]"#),
        (r#"when = "e.m.?x.value() == 1""#, r#"["m.x"]"#),
        (r#"when = "e.?b.orValue(0) == 1""#, "[]"),
        (r#"when = "!has(e.b) && has(e.c)""#, r#"["c"]"#),
        (r#"when = "!e.b.flag""#, r#"["b"]"#),
        (r#"when = "(has(e.a) || has(e.b)) && has(e.c)""#, r#"["c"]"#),
        (r#"when = "has(e.b) || has(e.c)""#, r#"["b","c"]"#),
        (r#"when = "e.both""#, r#"["b","c"]"#),
        (r#"when = "e.both && e.again""#, r#"["b","c"]"#),
        (r#"when = "e.again""#, r#"["b","c"]"#),
        (r#"when = "e.nothing == 1""#, r#"["nothing"]"#),
        ("when = \"e.l[3] == 1\"", r#"["l[3]"]"#),
        ("when = \"has(e.b)\"\ndata = { c = \"e.c\" }", r#"["b"]"#),
        ("when = \"has(e.b)\"\ndata = \"e.c\"", r#"["b","c"]"#),
        ("data = \"e.c\"", r#"["c"]"#),
        ("policy = \"once\"\ndata = { a = \"e.a\", b = \"e.b\", c = \"e.?c.orValue(1)\" }", r#"["b"]"#),
        ("when = \"has(e.b)\"\npolicy = \"once\"\ndata = { c = \"e.c\", n = \"1 / (e.a - 1)\" }", r#"["b","c"]"#),
        (r#"when = "key == 'other'""#, "[]"),
    ] {
        let text = format!(
            r#"
[entity.e]
key = "'k'"
[entity.e.fields]
a = {{ on = "A", take = "latest", value = "dyn(1)" }}
m = {{ on = "A", take = "latest", value = "{{'n': 1}}" }}
l = {{ on = "A", take = "list", value = "1" }}
b = {{ on = "B", take = "latest" }}
c = {{ on = "C", take = "latest" }}
[entity.e.derived]
both = "has(e.b) && has(e.c)"
again = "e.both && e.a == 1"
nothing = "max([])"
[entity.e.decision.D]
{rest}
"#
        );
        let mut machine = Machine::new(ruleset(&text));
        machine.count(&[r#"{"id":"1","type":"A","data":{}}"#]);
        let expected = format!(r#"{{"D":{{"needs":{needs},"state":"pending"}}}}"#);
        assert_eq!(machine.shown("e", "k", "decisions"), expected, "{rest}");
    }
}
