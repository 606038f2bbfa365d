//! What expressions mean: values, what is missing, what is wrong.

use std::borrow::Cow;

use super::{Bindings, Expr, Fault, Member, Root, Roots};
use crate::model::json;
use crate::model::value::Value;

struct Order(Value);

const MEMBERS: &[Member<'_>] = &[
    Member { name: "payment", kind: None },
    Member { name: "stock", kind: None },
    Member { name: "items", kind: None },
    Member { name: "n", kind: None },
    Member { name: "created", kind: None },
    Member { name: "gone", kind: None },
];

impl Bindings for Order {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        let Value::Map(members) = &self.0 else { return Err(Fault::Missing(String::new())) };
        match root {
            Root::Member(at) => members.get(MEMBERS[*at].name).map(Cow::Borrowed).ok_or(Fault::Missing(String::new())),
            Root::Key => Ok(Cow::Owned(Value::string("k1"))),
            _ => Ok(Cow::Borrowed(&self.0)),
        }
    }
}

const STATE: &str =
    r#"{"payment":{"status":"ok","amount":12.5},"items":[3,1,2],"n":5,"created":"2026-11-20T23:30:00Z"}"#;

fn evaluate(text: &str) -> Result<String, Fault> {
    let order = Order(json::parse(STATE.as_bytes(), 64).unwrap());
    let expr = Expr::compile(text, &Roots::Entity { kind: "order", members: MEMBERS, references: &[], element: false })
        .unwrap_or_else(|e| panic!("{text}: {e:?}"));
    expr.evaluate(&order).map(|value| json::to_string(&value))
}

fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(evaluate(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn values() {
    check(&[
        ("order.payment.status", r#""ok""#),
        ("order['payment']['status']", r#""ok""#),
        ("order.payment.status == 'ok' && size(order.items) > 0", "true"),
        ("order.?payment.?status.orValue('none')", r#""ok""#),
        ("order.?gone.?status.orValue('none')", r#""none""#),
        ("order.?payment.?nothing.orValue(5)", "5"),
        ("order.?gone.hasValue()", "false"),
        ("order.items[?7].orValue(0)", "0"),
        ("order.items.map(i, i * 2)", "[6,2,4]"),
        ("order.items.filter(i, i > 1)", "[3,2]"),
        ("order.items.filter(i, i > 1).map(i, i + 1)", "[4,3]"),
        ("order.items.all(i, i > 0)", "true"),
        ("order.items.exists(i, i == 2)", "true"),
        ("order.items.exists_one(i, i > 1)", "false"),
        ("order.payment.exists(k, k == 'status')", "true"),
        ("order.items.sort()", "[1,2,3]"),
        ("order.items.sortBy(i, -i)", "[3,2,1]"),
        ("order.?payment.optMap(p, p.status + '!').orValue('')", r#""ok!""#),
        ("'a,b'.split(',')", r#"["a","b"]"#),
        ("'abc'.substring(1).upperAscii()", r#""BC""#),
        ("'%s-%d'.format(['a', 3])", r#""a-3""#),
        ("order.payment.status.matches('^o.$')", "true"),
        ("math.greatest(1, 2.5, order.n)", "5"),
        ("math.round(2.5)", "3.0"),
        ("key + '!'", r#""k1!""#),
        ("{'a': 1, ?'b': order.?gone}", r#"{"a":1}"#),
        ("[1, ?order.?gone, 2]", "[1,2]"),
        ("1 in order.items", "true"),
        ("'status' in order.payment", "true"),
        ("type(order.n)", r#""int""#),
    ]);
}

#[test]
fn numbers_are_exact_and_mix() {
    check(&[
        ("1 + 2.5", "3.5"),
        ("order.n * 1.5", "7.5"),
        ("7 / 2", "3"),
        ("7 / 2.0", "3.5"),
        ("1 == 1.0", "true"),
        ("decimal('0.1') + decimal('0.2') == decimal('0.3')", "true"),
        ("decimal('0.1') == 0.1", "true"),
        ("sum([0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1]) == 1.0", "true"),
        ("sum([1e30, 1e-10, -1e30])", "0.0000000001"),
        ("sum(order.items)", "6"),
        ("decimal(1) / 3", "0.3333333333333333333333333333333333"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("max(order.items) - min(1, 2)", "2"),
        ("sum({'a': 1, 'b': 2.5})", "3.5"),
    ]);
}

#[test]
fn times() {
    check(&[
        ("date(timestamp(order.created))", r#""2026-11-20""#),
        ("date(timestamp(order.created), 'Europe/Berlin')", r#""2026-11-21""#),
        ("format(timestamp(order.created), '%H:%M', 'Europe/Berlin')", r#""00:30""#),
        ("timestamp('2026-07-01T09:00:00', 'Europe/Berlin')", r#""2026-07-01T07:00:00Z""#),
        ("timestamp('2026-03-29 02:30:00', 'Europe/Berlin')", r#""2026-03-29T01:30:00Z""#),
        ("timestamp('2026-10-25T02:30', 'Europe/Berlin')", r#""2026-10-25T00:30:00Z""#),
        // A whole day was left out.
        ("timestamp('2011-12-30T12:00', 'Pacific/Apia')", r#""2011-12-30T22:00:00Z""#),
        ("timestamp('2026-11-20T10:00:00Z') - timestamp('2026-11-20T08:30:00Z')", r#""5400s""#),
        ("timestamp('2026-11-20T10:00:00Z') + duration('26h')", r#""2026-11-21T12:00:00Z""#),
        ("sum([duration('1h'), duration('30m')]) > duration('80m')", "true"),
        ("max([timestamp('9999-01-01T00:00:00Z'), timestamp('1948-01-01T00:00:00Z')]).getFullYear()", "9999"),
        ("timestamp('2026-11-20T23:30:00Z').getHours('Europe/Berlin')", "0"),
        ("duration('90m').getMinutes()", "90"),
    ]);
}

#[test]
fn missing_is_unknown() {
    for text in [
        "order.gone",
        "order.gone.deep.er == 1",
        "!order.gone.flag",
        "order.payment.nothing",
        "order.items[9]",
        "order.gone.x && true",
        "order.gone.x || false",
        "order.gone.x ? 1 : 2",
        "[order.gone]",
        "order.gone.map(i, i)",
        "order.items.all(i, i > order.gone.limit)",
        "max([])",
    ] {
        assert!(matches!(evaluate(text), Err(Fault::Missing(_))), "{text}: {:?}", evaluate(text));
    }
    check(&[
        ("has(order.gone)", "false"),
        ("has(order.gone.a.b)", "false"),
        ("has(order.payment.status)", "true"),
        ("has(order.payment.nothing)", "false"),
        ("order.gone.x && false", "false"),
        ("false && order.gone.x", "false"),
        ("order.gone.x || true", "true"),
        ("order.items.exists(i, i == 3 || order.gone.x)", "true"),
        ("order.items.all(i, i > 100 && order.gone.x)", "false"),
    ]);
    assert_eq!(evaluate("order.gone.a == 1"), Err(Fault::Missing("order.gone".into())));
    assert_eq!(evaluate("order.payment.nothing == 1"), Err(Fault::Missing("order.payment.nothing".into())));
}

#[test]
fn wrong_says_why() {
    for (text, why) in [
        ("lists.range(order.n * 100000)", "longer than 100000 items"),
        ("order.n / 0", "division by zero"),
        ("order.n + 'a'", "`+` does not work on int and string"),
        ("order.n < 'a'", "`<` does not work on int and string"),
        ("9223372036854775807 + order.n", "beyond 64 bits"),
        ("order.n.x", "an int has no members"),
        ("int(dyn('x'))", "is not a 64-bit integer"),
        ("timestamp(dyn('2026-11-20T10:00:00'))", "needs its zone"),
        ("date(timestamp(order.created), dyn('Europe/Berln'))", "is no time zone"),
        ("format(timestamp(order.created), dyn('%Q'))", "is no strftime format"),
        ("duration(dyn('1d'))", "is no duration"),
        ("dyn(order.n) && true", "a bool is needed"),
        ("lists.range(2000).map(a, lists.range(2000).map(b, a * b)).size() > 0", "steps"),
    ] {
        match evaluate(text) {
            Err(Fault::Wrong(message)) => assert!(message.contains(why), "{text}: {message}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn mistakes_are_found_when_compiling() {
    let roots = Roots::Entity { kind: "order", members: MEMBERS, references: &[], element: false };
    for (text, message, help) in [
        ("order.paymnt", "`order` has no field or derived value `paymnt`", "did you mean `order.payment`?"),
        ("ordr.payment", "unknown name `ordr`", "did you mean `order`?"),
        ("payment.status", "unknown name `payment`", "write `order.payment`"),
        ("event.data", "unknown name `event`", "this one reads `order`"),
        ("sizee(order.items)", "unknown function `sizee`", "did you mean `size`?"),
        ("order.items.contain(1)", "unknown function `contain`", "did you mean `contains`?"),
        ("order.n ==", "not a CEL expression", ""),
        ("'a' && true", "a bool is needed here, this is a string", ""),
        ("size(order.n, 2)", "`size` is not called like this", "write size(x) or x.size()"),
        ("'a'.b", "a string has no members", ""),
        ("18446744073709551615u", "an integer beyond 64 bits", "decimal"),
    ] {
        let error = Expr::compile(text, &roots).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error:?}");
        assert!(error.help.clone().unwrap_or_default().contains(help), "{text}: {error:?}");
        assert!(error.end <= text.len() + 1 && error.start <= error.end, "{text}: {error:?}");
    }
    for (before, after) in [("(", ")"), ("[", "]"), ("true ? 1 : ", ""), ("1 + ", ""), ("size(", ")"), ("true && ", "")]
    {
        let text = format!("{}1{}", before.repeat(600), after.repeat(600));
        assert!(Expr::compile(&text, &roots).is_err(), "{before}");
    }
    let _ = Expr::compile(&format!("{}true", "!".repeat(5000)), &roots);
}
