//! Decisions with one for each element, decisions that come back, and what caused them.

use super::{Machine, event, ruleset, second};
use crate::model::outgoing::{cause_of, decision_id};

/// Rules with a field `v` (the latest of each `V`'s data), `n` (a count) and these tables after them.
fn rules(rest: &str) -> String {
    format!(
        r#"
[entity.e]
key = "event.subject"
[entity.e.fields]
v = {{ on = "V", take = "latest", value = "event.data" }}
legs = {{ on = "Leg", take = "latest", by = "event.data.name", value = "event.data.to" }}
n = {{ on = "N", take = "count" }}
{rest}
"#
    )
}

fn check(rest: &str, events: &[&str], expected: &[&str]) -> Machine {
    let mut machine = Machine::new(ruleset(&rules(rest)));
    let events: Vec<(i64, &str)> = (0..).zip(events.iter().copied()).collect();
    machine.go(&events);
    let revisions = machine.decisions().map(|(entity, made)| {
        let data = crate::model::json::to_string(&made.data.unpack());
        format!("{} {} {data}", decision_id(entity, made), made.state.as_str())
    });
    assert_eq!(revisions.collect::<Vec<_>>(), expected, "{rest} {events:?}");
    machine
}

const LINES: &str = "[entity.e.decision.D]\nby = \"e.v\"\ndata = { element = \"element\", n = \"e.n\" }";
const LEGS: &str =
    "[entity.e.decision.D]\nby = \"e.legs\"\nwhen = \"e.legs[element] != ''\"\ndata = \"e.legs[element]\"";

/// If this failed, some elements would have no decision, or those that are gone would keep theirs.
#[test]
fn each_element_has_its_own_decision() {
    check(
        LINES,
        &["V k [\"b\", \"a\"]", "V k [\"b\", \"c\", \"b\"]", "V k [7, true, \"a b/c\"]", "V k null"],
        &[
            r#"e/k/D/a/1 made {"element":"a","n":0}"#,
            r#"e/k/D/b/1 made {"element":"b","n":0}"#,
            "e/k/D/a/2 withdrawn null",
            r#"e/k/D/c/1 made {"element":"c","n":0}"#,
            "e/k/D/b/2 withdrawn null",
            "e/k/D/c/2 withdrawn null",
            r#"e/k/D/7/1 made {"element":7,"n":0}"#,
            r#"e/k/D/a%20b%2Fc/1 made {"element":"a b/c","n":0}"#,
            r#"e/k/D/true/1 made {"element":true,"n":0}"#,
            "e/k/D/7/2 withdrawn null",
            "e/k/D/a%20b%2Fc/2 withdrawn null",
            "e/k/D/true/2 withdrawn null",
        ],
    );
    check(
        LINES,
        &["V k [\"a\"]", "N k", "V k []", "V k [\"a\"]"],
        &[
            r#"e/k/D/a/1 made {"element":"a","n":0}"#,
            r#"e/k/D/a/2 revised {"element":"a","n":1}"#,
            "e/k/D/a/3 withdrawn null",
            r#"e/k/D/a/4 made {"element":"a","n":1}"#,
        ],
    );
}

/// If this failed, maps with `by` and decisions with it would not go together.
#[test]
fn entries_of_a_map_are_elements() {
    let leg = |name: &str, to: &str| format!("Leg k {{\"name\":\"{name}\",\"to\":{to}}}");
    let events = [leg("a", "\"x\""), leg("b", "\"\""), leg("b", "\"y\""), leg("a", "\"\""), leg("b", "null")];
    let machine = check(
        LEGS,
        &events.each_ref().map(String::as_str),
        &[r#"e/k/D/a/1 made "x""#, r#"e/k/D/b/1 made "y""#, "e/k/D/a/2 withdrawn null", "e/k/D/b/2 withdrawn null"],
    );
    let decisions = machine.shown("e", "k", "decisions");
    let expected = r#"{"D":{"a":{"revision":2,"state":"withdrawn","time":"2026-11-20T10:00:03Z"},"b":{"revision":2,"state":"withdrawn","time":"2026-11-20T10:00:04Z"}}}"#;
    assert_eq!(decisions, expected);
}

/// If this failed, what was said for good would be taken back, or what is unknown be said.
#[test]
fn an_element_decided_once_stays() {
    let once = LINES.replace("by =", "policy = \"once\"\nby =");
    check(
        &once,
        &["V k [\"a\"]", "N k", "V k []", "V k [\"a\", \"b\"]"],
        &[r#"e/k/D/a/1 made {"element":"a","n":0}"#, r#"e/k/D/b/1 made {"element":"b","n":1}"#],
    );
}

/// If this failed, elements that cannot be named would end in made-up decisions.
#[test]
fn what_is_no_element_is_shown() {
    for (v, why) in [
        ("[1.5]", "an element of `by` is a string, integer or bool, this is a double"),
        ("[{}]", "an element of `by` is a string, integer or bool, this is a map"),
        ("5", "`by` must be a list or a map, this is an int"),
    ] {
        let machine = check(LINES, &[&format!("V k {v}")], &[]);
        let errors = machine.shown("e", "k", "errors");
        assert_eq!(errors, format!("{{\"D\":\"{why}\"}}"), "{v}");
    }
    let machine = check(LINES, &["N k"], &[]);
    assert_eq!(machine.shown("e", "k", "decisions"), r#"{"D":{}}"#);
}

const BACK: &str = r#"
steps = { on = "Next", take = "max", value = "event.data.step" }
kept = { on = "Next", take = "latest", value = "event.?data.?step.orValue('gone')" }
[entity.e.decision.Next]
to = ["self"]
when = "e.n > 0 && e.?steps.orValue(0) < LIMIT"
data = { step = "e.?steps.orValue(0) + 1" }
"#;

/// If this failed, one decision could not lead to the next, or would do so without end.
#[test]
fn a_decision_comes_back_as_an_event() {
    let machine = check(
        &BACK.replace("LIMIT", "2"),
        &["N k"],
        &[r#"e/k/Next/1 made {"step":1}"#, r#"e/k/Next/2 revised {"step":2}"#, "e/k/Next/3 withdrawn null"],
    );
    assert_eq!(machine.shown("e", "k", "fields"), r#"{"kept":"gone","n":1,"steps":2}"#);
    assert_eq!(machine.shown("e", "k", "errors"), "{}");
    let hops: Vec<u8> = machine.records.iter().map(|record| record.input.hops()).collect();
    assert_eq!(hops, [0, 1, 2, 3]);
    let causes: Vec<_> = machine.records.iter().map(|record| cause_of(record).unwrap().into_owned()).collect();
    assert_eq!(causes, ["0", "e/k/Next/1", "e/k/Next/2", "e/k/Next/3"]);
    assert!(machine.decisions().all(|(_, made)| &*made.correlation == "0"), "all of it follows from the first event");
}

/// If this failed, rules that feed themselves would keep the process busy for ever.
#[test]
fn it_comes_back_only_so_often() {
    let mut machine = Machine::new(ruleset(&rules(&BACK.replace("LIMIT", "1000"))));
    machine.go(&[(0, "N k")]);
    assert_eq!(machine.decisions().count(), 17);
    let errors = machine.shown("e", "k", "errors");
    assert_eq!(
        errors,
        r#"{"Next":"it led back to itself more than 16 times on end, and is an event to itself no more"}"#
    );
    machine.go(&[(1, "N k")]);
    assert_eq!(machine.decisions().count(), 17, "an event that changes nothing for it sets nothing off");
}

/// If this failed, nobody could follow what came of what.
#[test]
fn causes_and_correlations_go_along() {
    let rules = r#"
[entity.p]
key = "event.subject"
fields = { v = { on = "V", take = "latest", value = "event.data" }, at = { on = "V", take = "min", value = "event.time" } }
deadline.old = { at = "p.at + duration('10s')" }
[entity.p.decision.Old]
when = "has(p.old)"
[entity.c]
key = "event.subject"
fields = { n = { on = "C", take = "count" } }
ref.p = { entity = "p", key = "'p'" }
[entity.c.decision.Seen]
when = "has(p.v)"
data = "p.v"
"#;
    let mut machine = Machine::new(ruleset(rules));
    machine.handle(&event(r#"{"id":"child","type":"C","subject":"c"}"#), second(0)).unwrap();
    machine.advance(1);
    for (n, extension) in [(1, r#","correlationid":"x""#), (2, "")] {
        let text = format!(r#"{{"id":"v{n}","type":"V","subject":"p","data":{n}{extension}}}"#);
        machine.handle(&event(&text), second(n)).unwrap();
        machine.advance(n);
    }
    machine.advance(20);
    let made = machine.records.iter().flat_map(|record| {
        let cause = cause_of(record).unwrap_or_default().into_owned();
        record.decisions.iter().map(move |made| [made.name.to_string(), cause.clone(), made.correlation.to_string()])
    });
    let expected = [["Seen", "v1", "x"], ["Seen", "v2", "child"], ["Old", "p/p/old", "x"]];
    assert_eq!(made.collect::<Vec<_>>(), expected.map(|line| line.map(str::to_owned)));
}
