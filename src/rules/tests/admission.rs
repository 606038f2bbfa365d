//! What is taken and what is refused, and with which words.

use super::{Came, Machine, event, ruleset, second};
use crate::config::Duplicates;
use crate::model::json;
use crate::model::refusal::Code;

const RULES: &str = r#"
[server]
ignore = ["Debug*", "Noise"]
[entity.order]
key = { "Order*" = "event.data.id", Payment = "event.data.order.id", Int = "event.data.n" }
[entity.order.fields]
doc = { on = ["Order*", "Int"], take = "latest" }
paid = { on = "Payment", take = "sum", value = "event.data.amount" }
least = { on = "Payment", take = "min", value = "event.data.amount" }
lines = { on = "OrderLine", take = "latest", by = "event.data.line" }
late = { on = "OrderLate", take = "count", if = "event.data.minutes > 5" }

[entity.account]
key = "event.data.account"
id = "event.data.entry"
time = "event.data.booked"
if = "event.?data.?kind.orValue('') != 'draft'"
[entity.account.fields]
balance = { on = "Booked", take = "sum", value = "event.data.amount" }
last = { on = "Booked", take = "max", value = "event.time" }

[entity.sensor]
key = "event.subject"
require_time = true
[entity.sensor.fields]
value = { on = ["Measured", "Both"], take = "latest" }

[entity.room]
key = "event.data.room"
[entity.room.fields]
seen = { on = "Both", take = "count" }
"#;

fn refused(text: &str) -> (Code, String) {
    match ruleset(RULES).admit(&event(text)) {
        Err(refusal) => (refusal.code, refusal.message),
        Ok(taken) => panic!("{text} is taken: {taken:?}"),
    }
}

/// If this failed, a sender could not tell from the answer what to mend.
#[test]
fn refusals_for_want_of_a_key_say_what_to_mend() {
    let long = format!(r#"{{"id":"1","type":"OrderX","data":{{"id":"{}"}}}}"#, "é".repeat(257));
    let cases: &[(&str, Code, &str)] = &[
        (
            r#"{"id":"1","type":"Unknown","data":{}}"#,
            Code::Unmatched,
            r#"no entity type takes events of type "Unknown"; declare it in a field's `on`, or list it in [server] ignore"#,
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"kind":"draft"}}"#,
            Code::Unmatched,
            r#"every entity type's `if` leaves this event of type "Booked" out"#,
        ),
        (
            r#"{"id":"1","type":"OrderX","data":{}}"#,
            Code::MissingKey,
            "`key` of entity type `order`: the event has no event.data.id",
        ),
        (
            r#"{"id":"1","type":"OrderX"}"#,
            Code::MissingKey,
            "`key` of entity type `order`: the event has no event.data",
        ),
        (
            r#"{"id":"1","type":"Payment","data":{"amount":1}}"#,
            Code::MissingKey,
            "`key` of entity type `order`: the event has no event.data.order",
        ),
        (
            r#"{"id":"1","type":"OrderX","data":{"id":null}}"#,
            Code::MissingKey,
            "`key` of entity type `order`: it is null",
        ),
        (
            r#"{"id":"1","type":"OrderX","data":{"id":""}}"#,
            Code::InvalidKey,
            "`key` of entity type `order`: it is empty",
        ),
        (
            r#"{"id":"1","type":"OrderX","data":{"id":1.5}}"#,
            Code::InvalidKey,
            "`key` of entity type `order`: a key is a string or an integer, this is a double",
        ),
        (
            r#"{"id":"1","type":"OrderX","data":{"id":["a"]}}"#,
            Code::InvalidKey,
            "`key` of entity type `order`: a key is a string or an integer, this is a list",
        ),
        (
            r#"{"id":"1","type":"OrderX","data":"text"}"#,
            Code::InvalidKey,
            "`key` of entity type `order`: a string has no members, so not `id`",
        ),
        (&long, Code::InvalidKey, "`key` of entity type `order`: 514 bytes are more than limits.key_bytes_max = 512"),
    ];
    check_refusals(cases);
}

#[test]
fn refusals_for_other_attributes_and_values_say_what_to_mend() {
    let big = format!(r#"{{"id":"1","type":"Payment","data":{{"order":{{"id":"a"}},"amount":1{}}}}}"#, "0".repeat(500));
    let cases: &[(&str, Code, &str)] = &[
        (
            r#"{"id":"1","type":"Measured"}"#,
            Code::MissingTime,
            "entity type `sensor` requires every event to carry a `time` (RFC 3339)",
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","entry":"e"}}"#,
            Code::MissingTime,
            "`time` of entity type `account`: the event does not have it",
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","entry":"e","booked":"yesterday"}}"#,
            Code::InvalidTime,
            r#"`time` of entity type `account`: "yesterday" is no RFC 3339 time"#,
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","entry":"e","booked":5}}"#,
            Code::InvalidTime,
            "`time` of entity type `account`: an int is no time",
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","booked":"2026-01-01T00:00:00Z"}}"#,
            Code::MissingId,
            "`id` of entity type `account`: the event does not have it",
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","entry":"","booked":"2026-01-01T00:00:00Z"}}"#,
            Code::MissingId,
            "`id` of entity type `account`: the event does not have it",
        ),
        (
            r#"{"id":"1","type":"Booked","data":{"account":"a","entry":true,"booked":"2026-01-01T00:00:00Z"}}"#,
            Code::InvalidValue,
            "`id` of entity type `account`: an id is a string or an integer, this is a bool",
        ),
        (
            r#"{"id":"1","type":"Payment","data":{"order":{"id":"a"},"amount":"ten"}}"#,
            Code::InvalidValue,
            r#"`value` of field `paid` of entity type `order`: only numbers can be summed, "ten" is a string"#,
        ),
        (
            &big,
            Code::InvalidValue,
            "`value` of field `paid` of entity type `order`: a summand has at most 400 digits before and after the point",
        ),
        (
            r#"{"id":"1","type":"OrderLine","data":{"id":"a","line":{}}}"#,
            Code::InvalidValue,
            "`by` of field `lines` of entity type `order`: a string, integer or bool is needed, this is a map",
        ),
        (
            r#"{"id":"1","type":"OrderLate","data":{"id":"a","minutes":"6"}}"#,
            Code::InvalidValue,
            "`if` of field `late` of entity type `order`: `>` does not work on string and int",
        ),
    ];
    check_refusals(cases);
}

fn check_refusals(cases: &[(&str, Code, &str)]) {
    for (text, code, message) in cases {
        assert_eq!(refused(text), (*code, (*message).to_owned()), "{text}");
    }
}

#[test]
fn orders_and_extremes_need_values_that_have_an_order() {
    let rules = "[entity.e]\nkey = \"'k'\"\n[entity.e.fields]\n\
        last = { on = \"A\", take = \"latest\", order_by = \"event.data.rank\" }\n\
        most = { on = \"B\", take = \"max\", value = \"event.data.rank\" }\n";
    for (kind, message) in [
        ("A", "`order_by` of field `last` of entity type `e`: lists and maps have no order"),
        ("B", "`value` of field `most` of entity type `e`: a list has no order, so no smallest or largest"),
    ] {
        let text = format!(r#"{{"id":"1","type":"{kind}","data":{{"rank":[1]}}}}"#);
        let refusal = ruleset(rules).admit(&event(&text)).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::InvalidValue, message));
    }
}

/// Each event with the key it gets.
#[test]
fn keys_are_found_by_type_and_kept_as_they_are() {
    for (text, entity, key) in [
        (r#"{"id":"1","type":"OrderX","data":{"id":"a"}}"#, "order", "a"),
        (r#"{"id":"1","type":"Payment","data":{"order":{"id":"a\u0000b"},"amount":1}}"#, "order", "a\0b"),
        (r#"{"id":"1","type":"Int","data":{"n":-9007199254740993}}"#, "order", "-9007199254740993"),
        (r#"{"id":"1","type":"OrderX","data":{"id":"日本/é%"}}"#, "order", "日本/é%"),
        (r#"{"id":"1","type":"Measured","subject":"s","time":"1948-01-01T00:00:00Z"}"#, "sensor", "s"),
    ] {
        let taken = ruleset(RULES).admit(&event(text)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].entity.kind(), taken[0].entity.key()), (entity, key), "{text}");
    }
}

/// If this failed, what a sender counts in 64 bits without a sign could be no key, id or line.
#[test]
fn whole_numbers_of_any_size_are_keys_and_ids() {
    let taken = |text: &str| ruleset(RULES).admit(&event(text)).unwrap();
    let big = "18446744073709551615";
    let order = taken(&format!(r#"{{"id":"1","type":"OrderLine","data":{{"id":{big},"line":{big}}}}}"#));
    assert_eq!(order[0].entity.key(), big);
    assert!(order[0].merges.iter().any(|merge| merge.by.as_deref() == Some(big)), "{order:?}");
    let account = taken(&format!(
        r#"{{"id":"1","type":"Booked","data":{{"account":{big},"entry":-{big}00,"booked":"2026-11-20T10:00:00Z","amount":1}}}}"#
    ));
    assert_eq!((account[0].entity.key(), account[0].input.id()), (big, &*format!("-{big}00")));
}

#[test]
fn ignored_events_go_to_nobody() {
    for kind in ["Debug", "DebugX", "Noise"] {
        assert!(ruleset(RULES).admit(&event(&format!(r#"{{"id":"1","type":"{kind}"}}"#))).unwrap().is_empty());
    }
    assert_eq!(refused(r#"{"id":"1","type":"NoiseX"}"#).0, Code::Unmatched);
}

/// If this failed, an event that was refused would have been counted by one of its takers.
#[test]
fn one_taker_without_a_key_refuses_the_event_for_all() {
    let at = r#""time":"2026-01-01T00:00:00Z""#;
    let both = format!(r#"{{"id":"1","type":"Both","subject":"s",{at},"data":{{"room":"r"}}}}"#);
    let kinds: Vec<_> = ruleset(RULES).admit(&event(&both)).unwrap().iter().map(|t| t.entity.to_string()).collect();
    assert_eq!(kinds, [r#"sensor "s""#, r#"room "r""#]);
    let (code, message) = refused(&format!(r#"{{"id":"1","type":"Both","subject":"s",{at}}}"#));
    assert_eq!(
        (code, message.as_str()),
        (Code::MissingKey, "`key` of entity type `room`: the event has no event.data")
    );
    let (code, message) = refused(&format!(r#"{{"id":"1","type":"Both",{at},"data":{{"room":"r"}}}}"#));
    let expected = "`key` of entity type `sensor`: the event has no event.subject";
    assert_eq!((code, message.as_str()), (Code::MissingKey, expected));
}

#[test]
fn id_and_time_overrides_are_the_identity_and_the_time() {
    let mut machine = Machine::new(ruleset(RULES));
    let booked = |id: &str, entry: &str, amount: &str| {
        event(&format!(
            r#"{{"id":"{id}","type":"Booked","time":"2026-05-05T00:00:00Z",
               "data":{{"account":"a","entry":{entry},"amount":{amount},"booked":"1948-05-14T01:00:00+01:00"}}}}"#
        ))
    };
    for (id, entry, amount, came) in [
        ("1", "\"e1\"", "5", Came::Counted),
        ("2", "\"e1\"", "5", Came::Duplicate),
        ("2", "\"e1\"", "6", Came::Conflict),
        ("1", "\"7\"", "1", Came::Counted),
        ("9", "7", "1", Came::Conflict),
    ] {
        assert_eq!(machine.handle(&booked(id, entry, amount), second(0)), Ok(vec![came]), "{id} {entry} {amount}");
    }
    assert_eq!(machine.shown("account", "a", "fields"), r#"{"balance":6,"last":"1948-05-14T00:00:00Z"}"#);
}

#[test]
fn what_is_left_alone_still_counts() {
    let mut machine = Machine::new(ruleset(RULES));
    machine.count(&[
        r#"{"id":"1","type":"OrderLate","data":{"id":"a","minutes":3}}"#,
        r#"{"id":"2","type":"OrderLate","data":{"id":"a"}}"#,
        r#"{"id":"3","type":"OrderLine","data":{"id":"a","line":null}}"#,
    ]);
    assert_eq!(machine.shown("order", "a", "events"), "3");
    assert!(!machine.shown("order", "a", "fields").contains("late"));
    machine.count(&[r#"{"id":"4","type":"OrderLate","data":{"id":"a","minutes":6}}"#]);
    assert!(machine.shown("order", "a", "fields").contains(r#""late":1"#));
}

/// What the same identity is when it comes again, changed in one way.
#[test]
fn the_payload_tells_a_duplicate_from_a_conflict() {
    let first =
        r#"{"id":"1","source":"s","type":"A","time":"2026-01-01T00:00:00Z","subject":"x","data":{"k":1,"b":[1]}}"#;
    let same = Came::Duplicate;
    let other = Came::Conflict;
    for (text, came) in [
        (first, same),
        (
            r#"{"data":{"b":[1.0],"k":1e0},"subject":"x","time":"2026-01-01T01:00:00+01:00","type":"A","source":"s","id":"1","traceparent":"t"}"#,
            same,
        ),
        (
            r#"{"id":"1","source":"s","type":"B","time":"2026-01-01T00:00:00Z","subject":"x","data":{"k":1,"b":[1]}}"#,
            other,
        ),
        (
            r#"{"id":"1","source":"s","type":"A","time":"2026-01-01T00:00:01Z","subject":"x","data":{"k":1,"b":[1]}}"#,
            other,
        ),
        (r#"{"id":"1","source":"s","type":"A","subject":"x","data":{"k":1,"b":[1]}}"#, other),
        (r#"{"id":"1","source":"s","type":"A","time":"2026-01-01T00:00:00Z","data":{"k":1,"b":[1]}}"#, other),
        (
            r#"{"id":"1","source":"s","type":"A","time":"2026-01-01T00:00:00Z","subject":"x","data":{"k":1,"b":[2]}}"#,
            other,
        ),
        (
            r#"{"id":"1","source":"t","type":"A","time":"2026-01-01T00:00:00Z","subject":"x","data":{"k":1,"b":[1]}}"#,
            Came::Counted,
        ),
    ] {
        for (duplicates, came) in [
            (Duplicates::Strict, came),
            (Duplicates::Lenient, if came == Came::Conflict { Came::Duplicate } else { came }),
        ] {
            let rules = format!(
                "[entity.e]\nkey = \"'k'\"\nduplicates = \"{}\"\n[entity.e.fields]\nn = {{ on = \"*\", take = \"count\" }}\n",
                format!("{duplicates:?}").to_lowercase()
            );
            let mut machine = Machine::new(ruleset(&rules));
            machine.count(&[first]);
            assert_eq!(machine.handle(&event(text), second(1)), Ok(vec![came]), "{duplicates:?} {text}");
        }
    }
}

/// One number has one canonical form, however it was written and however it is kept.
#[test]
fn numbers_written_differently_are_one_payload() {
    let payload = |number: &str| event(&format!(r#"{{"id":"1","type":"A","data":{number}}}"#)).payload_hash();
    for (a, b) in [
        ("1", "1.0"),
        ("0", "-0.0"),
        ("1e30", "1000000000000000000000000000000"),
        ("9007199254740994", "9007199254740994.0"),
        ("123456789012345678901234567890", "123456789012345678901234567890.0"),
        ("0.00000000000000000000000000000000010", "1e-34"),
    ] {
        assert_eq!(payload(a), payload(b), "{a} {b} {}", json::to_string(&json::parse(a.as_bytes(), 1).unwrap()));
    }
    assert_ne!(payload("9007199254740993"), payload("9007199254740992"));
    assert_ne!(payload("1"), payload("\"1\""));
}

/// Receipt times, in seconds, at which the same event comes, and what it is then. Others come between, or not.
#[test]
fn an_identity_counts_again_once_its_window_is_over() {
    use Came::{Counted, Duplicate};
    let rules =
        "[entity.e]\nkey = \"'k'\"\ndedupe = \"60s\"\n[entity.e.fields]\nn = { on = \"*\", take = \"count\" }\n";
    let (same, other) = (event(r#"{"id":"1","type":"A"}"#), event(r#"{"id":"2","type":"A"}"#));
    let check = |steps: &[(&crate::model::event::Event, i64, Came)]| {
        let mut machine = Machine::new(ruleset(rules));
        for (event, at, came) in steps {
            assert_eq!(machine.handle(event, second(*at)), Ok(vec![*came]), "{} at {at}", event.id);
        }
    };
    check(&[(&same, 0, Counted), (&same, 60, Duplicate), (&same, 61, Counted), (&same, 100, Duplicate)]);
    check(&[(&same, 0, Counted), (&other, 61, Counted), (&same, 62, Counted), (&other, 62, Duplicate)]);
    check(&[(&same, 0, Counted), (&other, 30, Counted), (&same, 61, Counted), (&other, 62, Duplicate)]);
}
