//! Deadlines and rests: what time alone brings about.

use super::{Machine, ruleset, second};

const RULES: &str = r#"
[entity.o]
key = "event.subject"
fields = { at = { on = "At", take = "latest", value = "event.data" }, paid = { on = "Paid", take = "latest", value = "event.data" } }
[entity.o.deadline.late]
at = "timestamp(o.at, 'UTC')"
unless = "o.paid"
grace = "5s"
[entity.o.decision.Late]
when = "has(o.late)"
data = { at = "o.late" }
"#;

/// An event that sets `at` to the n-th second.
fn at(n: i64) -> String {
    format!("At k \"{}\"", second(n))
}

/// Events at seconds, then time up to a second; what was decided and when.
fn check(rules: &str, events: &[(i64, &str)], until: i64, expected: &[(i64, &str)]) -> Machine {
    let mut machine = Machine::new(ruleset(rules));
    machine.go(events);
    machine.advance(until);
    let times = machine.records.iter().flat_map(|record| record.decisions.iter().map(|_| record.now));
    let times: Vec<_> = times.map(|now| now.since(second(0)).whole_seconds()).collect();
    let lines = machine.decision_lines();
    let found: Vec<(i64, &str)> = times.into_iter().zip(lines.iter().map(String::as_str)).collect();
    assert_eq!(found, expected, "{events:?} until {until}");
    machine
}

const AT_10: &str = r#"{"at":"2026-11-20T10:00:10Z"}"#;

/// If this failed, what is missing would not be noticed, or noticed when it is there.
#[test]
fn a_deadline_passes_when_it_is_due_and_goes_when_it_is_met() {
    let at_10 = at(10);
    let made = format!("Late 1 made {AT_10}");
    check(RULES, &[(0, &at_10)], 9, &[]);
    let machine = check(RULES, &[(0, &at_10)], 20, &[(10, &made)]);
    assert_eq!(machine.shown("o", "k", "deadlines"), r#"{"late":{"at":"2026-11-20T10:00:10Z","state":"passed"}}"#);
    check(RULES, &[(0, &at_10), (5, "Paid k true")], 20, &[]);
    check(RULES, &[(0, &at_10), (5, "Paid k true"), (6, "Paid k false")], 20, &[(10, &made)]);
    let machine = check(
        RULES,
        &[(0, &at_10), (15, "Paid k true"), (16, "Paid k false")],
        30,
        // It stands again in the past, and is noticed no sooner than the grace allows.
        &[(10, &made), (15, "Late 2 withdrawn null"), (21, &made.replace("1 made", "3 made"))],
    );
    assert_eq!(machine.records.len(), 5);
    let machine = check(RULES, &[(0, &at_10)], 5, &[]);
    assert_eq!(machine.shown("o", "k", "deadlines"), r#"{"late":{"at":"2026-11-20T10:00:10Z","state":"pending"}}"#);
    let machine = check(RULES, &[(0, "Paid k true"), (1, &at_10)], 20, &[]);
    assert_eq!(machine.shown("o", "k", "deadlines"), "{}");
}

/// If this failed, a deadline that was moved would be noticed at its old time, or twice.
#[test]
fn a_deadline_moves() {
    let [at_5, at_10, at_12, at_20, at_40] = [5, 10, 12, 20, 40].map(at);
    let made = |n: i64, revision: u32, state: &str| format!("Late {revision} {state} {{\"at\":\"{}\"}}", second(n));
    check(RULES, &[(0, &at_10), (5, &at_20)], 30, &[(20, &made(20, 1, "made"))]);
    check(RULES, &[(0, &at_20), (5, &at_10)], 30, &[(10, &made(10, 1, "made"))]);
    // Within the past it stays passed; in the future it is to come again.
    check(
        RULES,
        &[(0, &at_10), (15, &at_12), (16, &at_5), (18, &at_40)],
        50,
        &[
            (10, &made(10, 1, "made")),
            (15, &made(12, 2, "revised")),
            (16, &made(5, 3, "revised")),
            (18, "Late 4 withdrawn null"),
            (40, &made(40, 5, "made")),
        ],
    );
    // To a time that is over it is not noticed ahead of what else may be about to come.
    check(RULES, &[(15, &at_10)], 30, &[(20, &made(10, 1, "made"))]);
    check(RULES, &[(15, &at_10), (18, &at_12)], 30, &[(23, &made(12, 1, "made"))]);
    check(RULES, &[(0, &at_10), (3, "At k null")], 30, &[]);
}

/// If this failed, a backlog of old events would be full of deadlines that were met long ago.
#[test]
fn a_backlog_comes_before_its_deadlines() {
    let at_10 = at(10);
    check(RULES, &[(1_000, &at_10), (1_004, "Paid k true")], 2_000, &[]);
    check(
        &RULES.replace("grace = \"5s\"", "grace = \"0s\""),
        &[(1_000, &at_10)],
        1_000,
        &[(1_000, &format!("Late 1 made {AT_10}"))],
    );
}

/// If this failed, what an error or a time that is none leads to would be anybody's guess.
#[test]
fn a_deadline_without_a_time_is_shown_as_wrong() {
    let rules = RULES.replace("timestamp(o.at, 'UTC')", "o.at");
    let machine = check(&rules, &[(0, &at(10))], 20, &[]);
    assert_eq!(machine.errors, ["late".into()] as [Box<str>; 1]);
    let errors = machine.shown("o", "k", "errors");
    assert_eq!(errors, r#"{"late":"`at` must be a timestamp, this is a string"}"#);
}

const RESTING: &str = r#"
[entity.o]
key = "event.subject"
fields = { v = { on = "V", take = "latest", value = "event.data" } }
ref.p = { entity = "p", key = "'p'" }
[entity.o.decision.Rested]
when = "o.v > 0"
settle = "10s"
data = { v = "o.v", w = "p.w" }
[entity.p]
key = "event.subject"
fields = { w = { on = "W", take = "latest", value = "event.data" } }
[entity.q]
key = "event.subject"
fields = { x = { on = "X", take = "latest", value = "event.data" } }
ref.o = { entity = "o", key = "q.x" }
[entity.q.decision.Seen]
data = "o.v"
"#;

/// If this failed, decisions would be made in the middle of a burst, or never after one.
#[test]
fn a_decision_is_made_once_the_key_is_quiet() {
    check(RESTING, &[(0, "V k 1")], 9, &[]);
    check(RESTING, &[(0, "V k 1")], 100, &[(10, r#"Rested 1 made {"v":1}"#)]);
    check(RESTING, &[(0, "V k 1"), (8, "V k 2"), (16, "V k 3")], 100, &[(26, r#"Rested 1 made {"v":3}"#)]);
    check(RESTING, &[(0, "V k 1"), (5, "V k -1")], 100, &[]);
    check(
        RESTING,
        &[(0, "V k 1"), (20, "V k 2"), (25, "V k 3"), (50, "V k -1"), (55, "V k 3")],
        100,
        &[(10, r#"Rested 1 made {"v":1}"#), (35, r#"Rested 2 revised {"v":3}"#)],
    );
    check(
        RESTING,
        &[(0, "V k 1"), (20, "V k -1")],
        100,
        &[(10, r#"Rested 1 made {"v":1}"#), (30, "Rested 2 withdrawn null")],
    );
}

/// If this failed, whoever looks at an entity could keep it from coming to rest, or news that it reads would not.
#[test]
fn what_is_seen_elsewhere_is_noise_and_being_looked_at_is_not() {
    check(RESTING, &[(0, "V k 1"), (6, "W p 7")], 100, &[(16, r#"Rested 1 made {"v":1,"w":7}"#)]);
    check(RESTING, &[(0, "V k 1"), (6, "X q \"k\"")], 100, &[(6, "Seen 1 made 1"), (10, r#"Rested 1 made {"v":1}"#)]);
}

/// If this failed, a duplicate would put off what is to be decided.
#[test]
fn duplicates_are_no_noise() {
    let mut machine = Machine::new(ruleset(RESTING));
    let text = r#"{"id":"1","type":"V","subject":"k","data":1}"#;
    for n in [0, 4, 8] {
        machine.advance(n);
        machine.handle(&super::event(text), second(n)).unwrap();
    }
    machine.advance(10);
    assert_eq!(machine.decision_lines(), [r#"Rested 1 made {"v":1}"#]);
}
