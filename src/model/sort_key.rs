//! Order-preserving bytes for values: comparing two sort keys as bytes compares the values. Numbers of all kinds are one
//! kind, so `1`, `1.0` and `decimal("1")` have the same key. Stored in states: the encoding never changes.

use super::number::Decimal;
use super::time::Timestamp;
use super::value::Value;

/// Order-preserving bytes of one value, or of an order with its tie-breakers.
pub type SortKey = Box<[u8]>;

const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const NUMBER: u8 = 4;
const STRING: u8 = 5;
const TIMESTAMP: u8 = 6;
const DURATION: u8 = 7;
const LIST: u8 = 8;
const MAP: u8 = 9;
const END: u8 = 0;

/// The sort key of a value.
pub fn sort_key(value: &Value) -> SortKey {
    let mut bytes = Vec::with_capacity(24);
    push_value(&mut bytes, value);
    bytes.into()
}

/// The stamp of a merge: order, then source, then id. Larger stamps are later; no two events have the same.
pub fn stamp(order: &Value, source: &str, id: &str) -> SortKey {
    let mut bytes = Vec::with_capacity(24 + source.len() + id.len());
    push_value(&mut bytes, order);
    push_text(&mut bytes, source);
    push_text(&mut bytes, id);
    bytes.into()
}

/// [`stamp`] for the usual order, a time.
pub fn time_stamp(order: Timestamp, source: &str, id: &str) -> SortKey {
    stamp(&Value::Timestamp(order), source, id)
}

fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(NULL),
        Value::Bool(false) => bytes.push(FALSE),
        Value::Bool(true) => bytes.push(TRUE),
        Value::Int(int) => push_number(bytes, &Decimal::from(*int)),
        Value::Decimal(decimal) => push_number(bytes, decimal),
        Value::Double(double) => match Decimal::from_double(*double) {
            Some(decimal) => push_number(bytes, &decimal),
            // Infinities and NaN: below and above every number.
            None => bytes.extend([NUMBER, if *double == f64::NEG_INFINITY { 0 } else { 4 }]),
        },
        Value::String(text) => {
            bytes.push(STRING);
            push_text(bytes, text);
        }
        Value::Timestamp(time) => {
            bytes.push(TIMESTAMP);
            bytes.extend(time.sort_bytes());
        }
        Value::Duration(span) => {
            bytes.push(DURATION);
            bytes.extend(span.sort_bytes());
        }
        Value::List(items) => {
            bytes.push(LIST);
            for item in items {
                push_value(bytes, item);
            }
            bytes.push(END);
        }
        Value::Map(members) => {
            bytes.push(MAP);
            for (name, member) in members.iter() {
                bytes.push(STRING);
                push_text(bytes, name);
                push_value(bytes, member);
            }
            bytes.push(END);
        }
    }
}

/// Zero bytes are escaped, so that the end of a text is below every continuation of it.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 1]);
}

/// Sign, exponent, digits; for negative numbers the exponent's and digits' bytes are inverted.
fn push_number(bytes: &mut Vec<u8>, number: &Decimal) {
    bytes.push(NUMBER);
    let (sign, exponent, digits) = number.scientific();
    if sign == 0 {
        bytes.push(2);
        return;
    }
    bytes.push(if sign < 0 { 1 } else { 3 });
    let start = bytes.len();
    // Within ±NUMBER_DIGITS_MAX × 2, so it fits 16 bits.
    bytes.extend(((exponent + 0x8000) as u16).to_be_bytes());
    bytes.extend(digits.bytes().map(|digit| digit - b'0' + 1));
    bytes.push(0);
    if sign < 0 {
        bytes[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Int),
            (-1000_i64..1000).prop_map(Value::Int),
            any::<f64>().prop_filter("finite", |d| d.is_finite()).prop_map(Value::Double),
            (-1000_i64..1000).prop_map(|n| Value::Double(n as f64 / 8.0)),
            (any::<i64>(), -20_i32..20)
                .prop_map(|(n, e)| Value::decimal(Decimal::parse(&format!("{n}e{e}")).unwrap().unwrap())),
        ]
    }

    fn text() -> impl Strategy<Value = Value> {
        "[a\\x00\\x01é]{0,4}".prop_map(Value::string)
    }

    proptest! {
        /// If this failed, `min`, `max` and `latest` would pick the wrong one of two values.
        #[test]
        fn keys_order_like_values(a in prop_oneof![number(), text()], b in prop_oneof![number(), text()]) {
            if let Some(order) = a.compare(&b) {
                prop_assert_eq!(sort_key(&a).cmp(&sort_key(&b)), order, "{:?} {:?}", a, b);
            }
        }

        #[test]
        fn stamps_order_by_time_then_source_then_id(
            a in (0_i64..3, "[ab\\x00]{0,2}", "[ab\\x00]{0,2}"), b in (0_i64..3, "[ab\\x00]{0,2}", "[ab\\x00]{0,2}")
        ) {
            let key = |(n, source, id): &(i64, String, String)| stamp(&Value::Int(*n), source, id);
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn one_number_has_one_key() {
        assert_eq!(sort_key(&Value::Int(1)), sort_key(&Value::Double(1.0)));
        assert_eq!(sort_key(&Value::Int(100)), sort_key(&Value::decimal(Decimal::parse("1e2").unwrap().unwrap())));
    }

    /// Stamps are stored in states.
    #[test]
    fn stored_form_is_frozen() {
        assert_eq!(*stamp(&Value::Int(-120), "a", ""), [4, 1, 127, 252, 253, 252, 255, b'a', 0, 1, 0, 1]);
    }
}
