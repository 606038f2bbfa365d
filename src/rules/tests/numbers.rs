//! Values keep what they are: exact sums, one value however it is written, large texts and integers.

use super::{Machine, event, ruleset, second};
use crate::model::json;
use crate::model::state::State;
use crate::model::value::Value;

const RULES: &str = r#"
[entity.e]
key = "'k'"
[entity.e.fields]
sum = { on = "N", take = "sum" }
least = { on = "N", take = "min" }
most = { on = "N", take = "max" }
set = { on = "*", take = "set" }
last = { on = "*", take = "latest" }
"#;

/// What a field holds after events with this `data`, in this order and in the reverse one.
fn check(kind: &str, data: &[&str], field: &str, expected: &str) {
    let forwards: Vec<_> = data.iter().enumerate().collect();
    let backwards: Vec<_> = forwards.iter().rev().copied().collect();
    for order in [forwards, backwards] {
        let mut machine = Machine::new(ruleset(RULES));
        for (n, data) in order {
            let time = format!("2026-11-20T08:00:{n:02}Z");
            let text = format!(r#"{{"id":"{n}","type":"{kind}","time":"{time}","data":{data}}}"#);
            machine.handle(&event(&text), second(0)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        }
        let state = machine.states().values().next().unwrap();
        assert_eq!(State::decode(&state.encode()).unwrap(), *state);
        let document = machine.document("e", "k");
        let Some(Value::Map(fields)) = document.get("fields") else { panic!("no fields") };
        let shown = json::to_string(fields.get(field).unwrap());
        assert!(shown == expected, "{field} of {data:?} is {shown:.200}, not {expected:.200}");
    }
}

#[test]
fn sums_are_exact() {
    for (data, sum) in [
        (&["0.1"; 10][..], "1"),
        (&["1e30", "1e-10", "-1e30"], "0.0000000001"),
        (&["1e-10", "1e30"], "1000000000000000000000000000000.0000000001"),
        (&["9223372036854775807", "9223372036854775807"], "18446744073709551614"),
        (&["9007199254740993", "0.5"], "9007199254740993.5"),
        (&["1.10", "2.20"], "3.3"),
        (&["100", "-100.0"], "0"),
        (&["0.1234567890123456789012345678901", "1"], "1.1234567890123456789012345678901"),
    ] {
        check("N", data, "sum", sum);
    }
    let (large, small) = (format!("1{}", "0".repeat(399)), format!("0.{}1", "0".repeat(399)));
    check("N", &[&large, &small, &format!("-{large}")], "sum", &small);
}

#[test]
fn one_value_is_one_value_however_it_is_written() {
    for (data, set) in [
        (&["1", "1.0", "1e0"][..], "[1]"),
        (&["[1.0]", "[1]", r#"{"a":2.0}"#, r#"{"a":2}"#], r#"[[1],{"a":2}]"#),
        (&["9007199254740993", "9007199254740992", "9007199254740992.0"], "[9007199254740992,9007199254740993]"),
        (&["0", "-0.0"], "[0]"),
        (&[r#""b""#, "true", "10", "9.5", r#""a""#, "[]"], r#"[true,9.5,10,"a","b",[]]"#),
        (&[r#""""#, r#""\u0000""#, r#""\u0000a""#, r#""é""#], "[\"\",\"\\u0000\",\"\\u0000a\",\"é\"]"),
    ] {
        check("V", data, "set", set);
    }
    check("N", &["1.0", "1", "2"], "least", "1");
    check("N", &["1", "2.0", "2"], "most", "2");
}

#[test]
fn large_values_are_kept() {
    for number in ["9007199254740993", "-9223372036854775808", "18446744073709551615", "123456789012345678901234567890"]
    {
        check("N", &["1", number], "last", number);
    }
    let large = format!(r#""{}é🦀""#, "x".repeat(1 << 20));
    check("V", &["1", &large], "last", &large);
    check("V", &["1", &large, &large], "set", &format!("[1,{large}]"));
}
