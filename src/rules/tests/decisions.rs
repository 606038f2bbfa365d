//! Decisions: made, revised, withdrawn and made again; what is unknown, and what is wrong.

use super::{Machine, event, ruleset, second};
use crate::model::ids::Incarnation;

/// Rules with fields `a`, `b`, `n` (the latest of each event type's data) and these tables after them.
fn rules(rest: &str) -> String {
    format!(
        r#"
[entity.e]
key = "'k'"
[entity.e.fields]
a = {{ on = "A", take = "latest", value = "event.data" }}
b = {{ on = "B", take = "latest", value = "event.data" }}
n = {{ on = "N", take = "count" }}
{rest}
"#
    )
}

/// Events such as `A 1` (type and data), one second after another, and the revisions they bring about.
fn check(rest: &str, events: &[&str], expected: &[&str]) -> Machine {
    let mut machine = Machine::new(ruleset(&rules(rest)));
    for (n, text) in (0..).zip(events) {
        let (kind, data) = text.split_once(' ').unwrap();
        let text = format!(r#"{{"id":"{n}","type":"{kind}","time":"2026-11-20T08:00:{n:02}Z","data":{data}}}"#);
        machine.handle(&event(&text), second(n)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    }
    assert_eq!(machine.decision_lines(), expected, "{rest} {events:?}");
    machine
}

#[test]
fn a_decision_is_made_revised_withdrawn_and_made_again() {
    let rest = r#"
[entity.e.decision.D]
when = "e.a > 0"
data = { a = "e.a", b = "e.?b.orValue(0)" }
"#;
    check(
        rest,
        &["B 7", "A 1", "A 2", "N 0", "A 2.0", "B 8", "A -1", "B 9", "A 3", "A null"],
        &[
            r#"D 1 made {"a":1,"b":7}"#,
            r#"D 2 revised {"a":2,"b":7}"#,
            // 2 and 2.0 are equal, but people see another number.
            r#"D 3 revised {"a":2.0,"b":7}"#,
            r#"D 4 revised {"a":2.0,"b":8}"#,
            "D 5 withdrawn null",
            r#"D 6 made {"a":3,"b":9}"#,
            "D 7 withdrawn null",
        ],
    );
}

/// If this failed, a node that was restored would give ids again that were published with other content.
#[test]
fn another_incarnation_numbers_on_from_a_place_of_its_own() {
    let rules = ruleset(&rules("[entity.e.decision.D]\nwhen = \"e.a > 0\"\ndata = { a = \"e.a\" }"));
    rules.begin(Incarnation(2));
    let mut machine = Machine::new(rules);
    for (n, data) in (0..).zip([1, 2, -1, 3]) {
        let text = format!(r#"{{"id":"{n}","type":"A","time":"2026-11-20T08:00:{n:02}Z","data":{data}}}"#);
        machine.handle(&event(&text), second(n)).unwrap();
    }
    let expected = [
        r#"D 2000001 made {"a":1}"#,
        r#"D 2000002 revised {"a":2}"#,
        "D 2000003 withdrawn null",
        r#"D 2000004 made {"a":3}"#,
    ];
    assert_eq!(machine.decision_lines(), expected);
}

#[test]
fn data_that_is_unknown_is_left_out_until_it_is_known() {
    check(
        "[entity.e.decision.D]\ndata = { a = \"e.a\", b = \"e.b\" }",
        &["A 1", "B 2", "A null"],
        &[r#"D 1 made {"a":1}"#, r#"D 2 revised {"a":1,"b":2}"#, r#"D 3 revised {"b":2}"#],
    );
    check("[entity.e.decision.D]\ndata = \"e.b\"", &["A 1", "B 2", "B null"], &["D 1 made 2", "D 2 withdrawn null"]);
    check("[entity.e.decision.D]", &["N 1", "A 1"], &["D 1 made {}"]);
    check("[entity.e.decision.D]\ndata = \"e.a == e.a ? null : 1\"", &["A 1", "A 2"], &["D 1 made null"]);
}

#[test]
fn once_waits_for_all_its_data_and_never_changes() {
    let rest = "[entity.e.decision.D]\nwhen = \"e.a > 0\"\npolicy = \"once\"\ndata = { a = \"e.a\", b = \"e.b\" }";
    check(rest, &["A 1", "N 0", "A 2", "B 5", "A 3", "A -1", "B null", "A 4"], &[r#"D 1 made {"a":2,"b":5}"#]);
    check(rest, &["B 5", "A -1", "N 0"], &[]);
    let rest = "[entity.e.decision.D]\npolicy = \"once\"\ndata = { a = \"e.a\", b = \"e.?b.orValue(0)\" }";
    check(rest, &["N 0", "A 1", "B 1"], &[r#"D 1 made {"a":1,"b":0}"#]);
}

#[test]
fn a_condition_that_is_unknown_is_not_true() {
    for when in ["e.b == 1", "!(e.b == 1)", "e.b != 1", "e.b.flag", "e.b == 1 && e.a == 1", "e.b == 1 || e.a == 2"] {
        check(&format!("[entity.e.decision.D]\nwhen = \"{when}\""), &["A 1", "N 0"], &[]);
    }
    for when in ["e.b == 1 || e.a == 1", "!(e.b == 1 && e.a == 2)", "!has(e.b)", "e.?b.orValue(1) == 1"] {
        check(&format!("[entity.e.decision.D]\nwhen = \"{when}\""), &["A 1", "N 0"], &["D 1 made {}"]);
    }
}

/// If this failed, what is only wrong together would be blamed on whichever event came last, or undo what was decided.
#[test]
fn what_goes_wrong_in_the_state_is_shown_and_undoes_nothing() {
    let rest = r#"
[entity.e.derived]
ratio = "e.b / e.a"
[entity.e.complete]
fields = ["a", "ratio"]
[entity.e.decision.D]
when = "e.ratio > 1"
data = { ratio = "e.ratio" }
[entity.e.decision.Other]
when = "has(e.a)"
"#;
    let made = ["Other 1 made {}", r#"D 1 made {"ratio":5}"#];
    let machine = check(rest, &["A 2", "B 10", "A 0", "N 0"], &made);
    let why = r#""division by zero""#;
    assert_eq!(machine.shown("e", "k", "errors"), format!(r#"{{"D":{why},"ratio":{why}}}"#));
    let decisions = machine.shown("e", "k", "decisions");
    assert!(decisions.contains(r#""D":{"data":{"ratio":5},"revision":1,"state":"made""#), "{decisions}");
    assert_eq!(machine.shown("e", "k", "missing"), r#"["ratio"]"#);
    assert_eq!(machine.errors, ["D".into()] as [Box<str>; 1], "counted once, when it went wrong");

    let mended = check(
        rest,
        &["A 2", "B 10", "A 0", "A 5", "B 20"],
        &[made[0], made[1], r#"D 2 revised {"ratio":2}"#, r#"D 3 revised {"ratio":4}"#],
    );
    assert_eq!(mended.shown("e", "k", "errors"), "{}");
    check(rest, &["A 0", "B 10"], &["Other 1 made {}"]);
}

/// If this failed, documents of entities would show errors of decisions that nobody asks for yet.
#[test]
fn what_a_decision_would_say_is_not_wrong_before_it_holds() {
    let rest = "[entity.e.decision.D]\nwhen = \"e.a > 0\"\ndata = { x = \"10 / e.a\" }";
    let machine = check(rest, &["A 0"], &[]);
    assert_eq!(machine.shown("e", "k", "errors"), "{}");
    assert!(machine.errors.is_empty());
}

#[test]
fn withdrawals_come_first() {
    let rest = "[entity.e.decision.A]\nwhen = \"e.a == 2\"\n[entity.e.decision.Z]\nwhen = \"e.a == 1\"";
    check(rest, &["A 1", "A 2"], &["Z 1 made {}", "Z 2 withdrawn null", "A 1 made {}"]);
}

/// The clock stands still or goes back; revisions do not.
#[test]
fn times_of_revisions_rise_whatever_the_clock_does() {
    let mut machine = Machine::new(ruleset(&rules("[entity.e.decision.D]\ndata = \"e.n\"")));
    for (n, at) in [0, 0, 0, -5, 100, 50].into_iter().enumerate() {
        machine.handle(&event(&format!(r#"{{"id":"{n}","type":"N"}}"#)), second(at)).unwrap();
    }
    let times: Vec<_> = machine.decisions().map(|(_, made)| made.time.to_string()).collect();
    assert_eq!(
        times,
        [
            "2026-11-20T10:00:00Z",
            "2026-11-20T10:00:00.000001Z",
            "2026-11-20T10:00:00.000002Z",
            "2026-11-20T10:00:00.000003Z",
            "2026-11-20T10:01:40Z",
            "2026-11-20T10:01:40.000001Z",
        ]
    );
    assert!(machine.records.is_sorted_by_key(|record| record.now));
}

#[test]
fn the_first_event_correlates_what_follows() {
    for (extensions, correlation) in [("", "0"), (r#","correlationid":"c7""#, "c7"), (r#","correlationid":7"#, "0")] {
        let mut machine = Machine::new(ruleset(&rules("")));
        machine.handle(&event(&format!(r#"{{"id":"0","type":"N"{extensions}}}"#)), second(0)).unwrap();
        machine.handle(&event(r#"{"id":"1","type":"N","correlationid":"later"}"#), second(0)).unwrap();
        assert_eq!(&*machine.states().values().next().unwrap().correlation, correlation);
    }
}
