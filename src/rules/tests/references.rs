//! References: what is seen of other entities, whichever of them comes first.

use super::{Machine, diagnosed, ruleset};
use crate::model::ids::EntityKey;

/// An invoice names its routing, which names its shipment.
const CHAIN: &str = r#"
[entity.shipment]
key = "event.subject"
fields = { segment = { on = "S", take = "latest", value = "event.data.segment" }, heard = { on = ["S", "N"], take = "count" } }
derived = { label = "shipment.segment + '!'" }
[entity.routing]
key = "event.subject"
fields = { to = { on = "R", take = "latest", value = "event.data" }, other = { on = "O", take = "latest", value = "event.data" } }
derived = { label = "shipment.label + '?'" }
ref.shipment = { entity = "shipment", key = "routing.to" }
ref.second = { entity = "shipment", key = "routing.other" }
[entity.routing.decision.Dispatched]
when = "has(shipment.segment)"
data = { segment = "shipment.segment", second = "second.segment" }
[entity.invoice]
key = "event.subject"
fields = { routing = { on = "I", take = "latest", value = "event.data" } }
ref.routing = { entity = "routing", key = "invoice.routing" }
[entity.invoice.decision.Billed]
data = "routing.label"
"#;

/// Runs events over the rules and compares the revisions that come about.
fn check(rules: &str, events: &[&str], expected: &[&str]) -> Machine {
    let mut machine = Machine::new(ruleset(rules));
    let events: Vec<(i64, &str)> = (0..).zip(events.iter().copied()).collect();
    machine.go(&events);
    assert_eq!(machine.decision_lines(), expected, "{events:?}");
    machine
}

/// If this failed, a routing that comes before its shipment would never leave, or leave wrong.
#[test]
fn whichever_comes_first_the_reference_shows_it() {
    let made = [r#"Dispatched 1 made {"segment":"a"}"#];
    check(CHAIN, &["S s {\"segment\":\"a\"}", "R r \"s\""], &made);
    let machine = check(CHAIN, &["R r \"s\"", "S s {\"segment\":\"a\"}"], &made);
    assert_eq!(machine.shown("routing", "r", "waiting_for"), "[]");
    check(CHAIN, &["R r \"s\"", "N s", "S s {\"segment\":\"a\"}", "N s"], &made);
    check(
        CHAIN,
        &["R r \"s\"", "S s {\"segment\":\"a\"}", "S s {\"segment\":\"b\"}", "N s"],
        &[made[0], r#"Dispatched 2 revised {"segment":"b"}"#],
    );
}

/// If this failed, nobody could see what an entity waits for, or entities would be listed that do not exist.
#[test]
fn what_is_waited_for_is_shown_and_is_not_there() {
    let machine = check(CHAIN, &["R r \"s\""], &[]);
    assert_eq!(
        machine.shown("routing", "r", "waiting_for"),
        r#"[{"key":"s","reference":"shipment","since":"2026-11-20T10:00:00Z","type":"shipment"}]"#
    );
    let decisions = machine.shown("routing", "r", "decisions");
    assert_eq!(decisions, r#"{"Dispatched":{"needs":["shipment.segment"],"state":"pending"}}"#);
    let parent = &machine.states()[&EntityKey::new("shipment", "s")];
    assert!(!parent.exists() && parent.version.0 == 1, "{parent:?}");
    let child = &machine.states()[&EntityKey::new("routing", "r")];
    assert_eq!(child.dealings.as_ref().unwrap().waiting(), 0b10, "references in name order");
    let there = check(CHAIN, &["R r \"s\"", "N s"], &[]);
    assert_eq!(there.shown("routing", "r", "waiting_for"), "[]", "it is there, though it has no segment");
}

/// If this failed, an entity would see one of its references only, or mix them up.
#[test]
fn several_references_are_told_apart() {
    check(
        CHAIN,
        &["S a {\"segment\":\"a\"}", "R r \"a\"", "O r \"b\"", "S b {\"segment\":\"b\"}", "O r \"a\"", "R r \"b\""],
        &[
            r#"Dispatched 1 made {"segment":"a"}"#,
            r#"Dispatched 2 revised {"second":"b","segment":"a"}"#,
            // The second one looks elsewhere, and sees nothing until it is told.
            r#"Dispatched 3 revised {"segment":"a"}"#,
            r#"Dispatched 4 revised {"second":"a","segment":"a"}"#,
            "Dispatched 5 withdrawn null",
            r#"Dispatched 6 made {"second":"a","segment":"b"}"#,
        ],
    );
}

/// If this failed, what is computed from a reference would not be seen through another one.
#[test]
fn derived_values_are_read_through_chains() {
    let events = ["S s {\"segment\":\"a\"}", "R r \"s\"", "I i \"r\""];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut machine = Machine::new(ruleset(CHAIN));
        machine.go(&order.map(|at| (0, events[at])));
        let lines = machine.decision_lines();
        let billed: Vec<_> = lines.iter().filter(|line| line.starts_with("Billed")).collect();
        assert_eq!(billed, [r#"Billed 1 made "a!?""#], "{order:?}");
    }
}

/// If this failed, a child that comes back would see what was there when it left, or an old shipment would still reach it.
#[test]
fn a_key_changes_to_and_fro() {
    let machine = check(
        CHAIN,
        &[
            "S a {\"segment\":\"a1\"}",
            "S b {\"segment\":\"b1\"}",
            "R r \"a\"",
            "R r \"b\"",
            "S a {\"segment\":\"a2\"}",
            "S b {\"segment\":\"b2\"}",
            "R r \"a\"",
            "S b {\"segment\":\"b3\"}",
            "R r null",
            "S a {\"segment\":\"a3\"}",
            "R r \"a\"",
        ],
        &[
            r#"Dispatched 1 made {"segment":"a1"}"#,
            "Dispatched 2 withdrawn null",
            r#"Dispatched 3 made {"segment":"b1"}"#,
            r#"Dispatched 4 revised {"segment":"b2"}"#,
            "Dispatched 5 withdrawn null",
            r#"Dispatched 6 made {"segment":"a2"}"#,
            "Dispatched 7 withdrawn null",
            r#"Dispatched 8 made {"segment":"a3"}"#,
        ],
    );
    assert_eq!(machine.shown("routing", "r", "errors"), "{}");
}

/// If this failed, news would not reach all who wait, or reach some twice.
#[test]
fn a_parent_has_a_thousand_children() {
    let mut machine = Machine::new(ruleset(CHAIN));
    let children: Vec<String> = (0..1_000).map(|n| format!("R r{n} \"s\"")).collect();
    let (before, after) = children.split_at(600);
    let run = |machine: &mut Machine, events: &[String]| {
        machine.go(&events.iter().map(|event| (0, event.as_str())).collect::<Vec<_>>());
    };
    run(&mut machine, before);
    machine.go(&[(1, "S s {\"segment\":\"a\"}")]);
    run(&mut machine, after);
    let lines = machine.decision_lines();
    assert!(lines.iter().all(|line| line == r#"Dispatched 1 made {"segment":"a"}"#));
    assert_eq!(lines.len(), 1_000);
    let before = machine.records.len();
    machine.go(&[(2, "N s")]);
    assert_eq!(machine.records.len(), before + 1, "what no child reads is no news to any");
}

const EACH_OTHER: &str = r#"
[entity.a]
key = "event.subject"
fields = { n = { on = "A", take = "count" }, to = { on = "A", take = "latest", value = "event.data" }, own = { on = "FromA", take = "count" } }
ref.b = { entity = "b", key = "a.to" }
[entity.a.decision.FromA]
data = { n = "a.n", of_b = "b.n", own = "b.own" }
[entity.b]
key = "event.subject"
fields = { n = { on = "B", take = "count" }, to = { on = "B", take = "latest", value = "event.data" }, own = { on = "FromB", take = "count" } }
ref.a = { entity = "a", key = "b.to" }
[entity.b.decision.FromB]
data = { n = "b.n", of_a = "a.n", own = "a.own" }
"#;

/// If this failed, two types that look at each other would talk for ever.
#[test]
fn types_that_refer_to_each_other_come_to_rest() {
    let machine = check(
        EACH_OTHER,
        &["A x \"y\"", "B y \"x\"", "A x \"y\""],
        &[
            r#"FromA 1 made {"n":1}"#,
            r#"FromB 1 made {"n":1}"#,
            r#"FromA 2 revised {"n":1,"of_b":1,"own":0}"#,
            r#"FromB 2 revised {"n":1,"of_a":1,"own":0}"#,
            r#"FromA 3 revised {"n":2,"of_b":1,"own":0}"#,
            r#"FromB 3 revised {"n":1,"of_a":2,"own":0}"#,
        ],
    );
    assert!(machine.records.len() < 20, "{}", machine.records.len());
}

/// If this failed, decisions that come back as events would go round between two entities for ever.
#[test]
fn what_comes_back_goes_round_between_entities_only_so_often() {
    let rules = EACH_OTHER.replace("data = { n", "to = [\"self\"]\ndata = { n");
    let mut machine = Machine::new(ruleset(&rules));
    machine.go(&[(0, "A x \"y\""), (1, "B y \"x\"")]);
    let shown = [machine.shown("a", "x", "errors"), machine.shown("b", "y", "errors")].concat();
    assert!(shown.contains("more than 16 times on end"), "{shown}");
    assert!(machine.records.len() < 300, "{}", machine.records.len());
}

/// If this failed, trees and lists of one type would not be possible.
#[test]
fn a_type_refers_to_itself() {
    let rules = r#"
[entity.e]
key = "event.subject"
fields = { v = { on = "V", take = "latest", value = "event.data" }, up = { on = "U", take = "latest", value = "event.data" } }
ref.parent = { entity = "e", key = "e.up" }
[entity.e.decision.D]
when = "has(e.up)"
data = { v = "e.v", up = "parent.v" }
"#;
    check(
        rules,
        &["U child \"top\"", "V top 1", "V child 2", "U top \"top\"", "V top 3", "U child \"child\""],
        &[
            "D 1 made {}",
            r#"D 2 revised {"up":1}"#,
            r#"D 3 revised {"up":1,"v":2}"#,
            r#"D 1 made {"v":1}"#,
            r#"D 2 revised {"up":1,"v":1}"#,
            r#"D 3 revised {"up":1,"v":3}"#,
            r#"D 4 revised {"up":3,"v":2}"#,
            r#"D 4 revised {"up":3,"v":3}"#,
            r#"D 5 revised {"v":2}"#,
            r#"D 6 revised {"up":2,"v":2}"#,
        ],
    );
}

/// If this failed, rules whose values go round for ever would be taken.
#[test]
fn circles_of_what_is_computed_are_refused() {
    let computed = EACH_OTHER
        .replace("own = { on = \"FromB\"", "x = { on = \"FromB\"")
        .replace("[entity.b.decision.FromB]", "[entity.b.derived]\nown = \"a.n\"\n[entity.b.decision.FromB]");
    let own = |key: &str| {
        format!(
            "[entity.e]\nkey = \"event.subject\"\nfields = {{ v = {{ on = \"V\", take = \"latest\" }} }}\n\
             ref.p = {{ entity = \"e\", key = \"{key}\" }}\nref.q = {{ entity = \"e\", key = \"p.v.q\" }}\n\
             deadline.d.at = \"e.v.at\"\n"
        )
    };
    let deadline = own("e.v").replace("e.v.at", "has(e.d) ? e.v.at : e.v.later");
    for (rules, says) in [
        (computed, "`b` and `a` refer to each other, so rules may not read `b.own`, which is computed"),
        (own("p.v"), "the reference `p` needs itself: p → p"),
        (own("q.v"), "the reference `p` needs itself: p → q → p"),
        (deadline, "the deadline `d` needs itself: d → d"),
    ] {
        let said = diagnosed(&rules);
        assert!(said.replace("`a` and `b`", "`b` and `a`").contains(says), "{says}\n{said}");
    }
    assert_eq!(diagnosed(&own("e.v")), "");
}
