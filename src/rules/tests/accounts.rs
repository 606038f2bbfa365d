//! What is told of records: of every kind of input, with what fields held before and without.

use super::{Came, Machine, ruleset, second};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::json;
use crate::model::state::State;
use crate::rules::{Account, AtVersion, Before, Earlier, evolve};

const RULES: &str = r#"
[entity.parent]
key = "event.subject"
[entity.parent.fields]
name = { on = "Named", take = "latest", value = "event.data.name" }
[entity.child]
key = "event.subject"
[entity.child.fields]
of = { on = "Set", take = "latest", value = "event.data.of" }
price = { on = "Set", take = "max", value = "event.data.price", if = "event.data.price < 100" }
paid = { on = "Paid", take = "sum", value = "event.data.amount" }
by_day = { on = "Paid", take = "count", by = "event.data.day" }
notes = { on = "Noted", take = "list", value = "event.data" }
[entity.child.derived]
is_paid = "child.paid >= 10"
[entity.child.ref.parent]
entity = "parent"
key = "child.of"
[entity.child.deadline.overdue]
at = "timestamp('2026-11-20T10:00:30Z')"
[entity.child.decision.Settled]
when = "child.is_paid && has(parent.name)"
data = { name = "parent.name" }
"#;

/// The members of each account of an entity, in short; `tell` says what is known of what was before.
fn told(machine: &Machine, kind: &str, members: &[&str], tell: Tell) -> Vec<String> {
    let (mut state, mut earlier) = (State::default(), Earlier::default());
    let rules = machine.rules.get(kind).unwrap();
    let entity = EntityKey::new(kind, "k");
    let records = machine.records.iter().filter(|record| record.entity == entity);
    let account = |(n, record)| {
        let seen = |state: &State| AtVersion::new(rules, "k", state.clone());
        let before = seen(&state);
        evolve(&mut state, record);
        let after = seen(&state);
        let before = match tell {
            Tell::Nothing => Before::Nothing,
            Tell::Earlier => Before::Earlier(&earlier),
            Tell::States => Before::States { before: &before, after: &after },
        };
        let account = Account::new(rules, Lsn(n), record, before);
        earlier.note(record);
        let shown = members.iter().filter_map(|name| account.get(name));
        shown.map(json::to_string).collect::<Vec<_>>().join(" ")
    };
    (1..).zip(records).map(account).collect()
}

#[derive(Clone, Copy)]
enum Tell {
    Nothing,
    Earlier,
    States,
}

/// If this failed, an operator would read that something changed which did not, or another value than there was.
#[test]
fn changes_are_told_with_what_was_before_as_far_as_it_is_known() {
    let mut machine = Machine::new(ruleset(RULES));
    machine.go(&[
        (0, r#"Set k {"of":"k","price":3}"#),
        (1, r#"Set k {"of":"k","price":2}"#),
        (2, r#"Set k {"of":"j","price":200}"#),
        (3, r#"Paid k {"amount":4,"day":"mo"}"#),
        (4, r#"Paid k {"amount":6.5}"#),
        (5, "Noted k [1]"),
    ]);
    let of = |tell| told(&machine, "child", &["changes"], tell);
    assert_eq!(
        of(Tell::States),
        [
            r#"[{"field":"of","new":"k","old":null,"take":"latest"},{"field":"price","new":3,"old":null,"take":"max"}]"#,
            r#"[{"field":"of","new":"k","old":"k","take":"latest"}]"#,
            r#"[{"field":"of","new":"j","old":"k","take":"latest"}]"#,
            r#"[{"added":1,"by":"mo","field":"by_day","new":1,"old":null,"take":"count"},{"added":4,"field":"paid","new":4,"old":0,"take":"sum"}]"#,
            r#"[{"added":6.5,"field":"paid","new":10.5,"old":4,"take":"sum"}]"#,
            r#"[{"added":[1],"field":"notes","take":"list"}]"#,
        ]
    );
    assert_eq!(
        of(Tell::Earlier)[..3],
        [
            r#"[{"field":"of","new":"k","take":"latest"},{"field":"price","new":3,"take":"max"}]"#,
            r#"[{"field":"of","new":"k","old":"k","take":"latest"}]"#,
            r#"[{"field":"of","new":"j","old":"k","take":"latest"}]"#,
        ]
    );
    assert_eq!(of(Tell::Nothing)[4], r#"[{"added":6.5,"field":"paid","take":"sum"}]"#);
    assert_eq!(
        told(&machine, "child", &["derived"], Tell::States)[3..5],
        ["", r#"[{"derived":"is_paid","new":true,"old":false}]"#]
    );
}

/// If this failed, an event that left no trace could not be told from one that was lost.
#[test]
fn why_an_event_changed_nothing_is_told() {
    let mut machine = Machine::new(ruleset(RULES));
    for (n, (time, kind, data)) in (0..).zip([
        (10, "Set", r#"{"of":"k","price":3}"#),
        (5, "Set", r#"{"of":"j","price":200}"#),
        (6, "Set", r#"{"price":2}"#),
        (7, "Paid", r#"{"day":null}"#),
        (20, "Set", r#"{"of":"k","price":300}"#),
    ]) {
        let time = second(time);
        let text = format!(r#"{{"id":"{n}","type":"{kind}","time":"{time}","subject":"k","data":{data}}}"#);
        assert_eq!(machine.handle(&super::event(&text), second(100 + n)).unwrap(), [Came::Counted]);
    }
    assert_eq!(
        told(&machine, "child", &["outcome", "unchanged"], Tell::Nothing),
        [
            r#""merged""#,
            r#""stale" [{"field":"of","why":"stale"},{"field":"price","why":"filtered"}]"#,
            r#""stale" [{"field":"of","why":"no_value"},{"field":"price","why":"stale"}]"#,
            r#""no_value" [{"field":"by_day","why":"no_value"},{"field":"paid","why":"no_value"}]"#,
            r#""merged" [{"field":"price","why":"filtered"}]"#,
        ]
    );
    let late = told(&machine, "child", &["input"], Tell::Nothing);
    assert!(late[1].contains(r#""late":"96s""#) && late[1].contains(r#""time_given":"sender""#), "{}", late[1]);
}

/// If this failed, nobody could see what an entity waits for, or what others, time and decisions did to it.
#[test]
fn what_is_waited_for_and_what_follows_is_told() {
    let mut machine = Machine::new(ruleset(RULES));
    machine.go(&[(0, r#"Set k {"of":"k"}"#), (1, r#"Paid k {"amount":10}"#), (2, r#"Named k {"name":"Ann"}"#)]);
    machine.advance(60);
    let lines = told(
        &machine,
        "child",
        &["cause", "waiting_for", "needs", "decisions", "references", "deadlines"],
        Tell::States,
    );
    assert_eq!(
        lines,
        [
            concat!(
                r#""0" [{"key":"k","reference":"parent","since":"2026-11-20T10:00:00Z","type":"parent"}] "#,
                r#"{"Settled":["parent.name"]} [{"reference":"parent","to":"k","type":"parent"}] "#,
                r#"[{"at":"2026-11-20T10:00:30Z","deadline":"overdue"}]"#
            ),
            concat!(
                r#""2" [{"key":"k","reference":"parent","since":"2026-11-20T10:00:00Z","type":"parent"}] "#,
                r#"{"Settled":["parent.name"]}"#
            ),
            concat!(
                r#""3" [{"correlation":"0","data":{"name":"Ann"},"decision":"Settled","id":"child/k/Settled/1","#,
                r#""revision":1,"state":"made","time":"2026-11-20T10:00:02Z"}]"#
            ),
            r#""child/k/overdue""#,
        ]
    );
    let inputs = told(&machine, "child", &["input"], Tell::Nothing);
    assert_eq!(
        inputs[2..],
        [
            concat!(
                r#"{"from_key":"k","from_type":"parent","from_version":2,"kind":"message","reference":"parent","#,
                r#""says":"notice","shown":{"name":"Ann"}}"#
            ),
            r#"{"at":"2026-11-20T10:00:30Z","deadline":"overdue","kind":"deadline"}"#,
        ]
    );
}
