//! Lives that end: when, what outlives them, and what an event does that comes after.

use super::{Came, Machine, event, ruleset, second};
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::ids::EntityKey;
use crate::model::life::{EXPIRE, Ending};
use crate::model::mandate::Mandate;
use crate::model::record::Input;
use crate::model::state::State;

/// A parent that others look at, a child that looks at it, and a call for each parent that is ready.
fn rules(expire: &str) -> String {
    format!(
        r#"
[entity.parent]
key = "event.subject"
{expire}
fields = {{ name = {{ on = "Named", take = "latest", value = "event.data.v" }}, notes = {{ on = "Noted", take = "count" }} }}
[entity.parent.decision.Seen]
when = "has(parent.name)"
data = {{ name = "parent.name", notes = "parent.notes" }}
[entity.parent.decision.Welcomed]
when = "has(parent.name)"
policy = "once"
[entity.parent.effect.pull]
when = "has(parent.name)"
request = {{ url = "http://bureau/{{parent.name}}" }}
[entity.child]
key = "event.subject"
fields = {{ to = {{ on = "Born", take = "latest", value = "event.data.to" }} }}
[entity.child.ref.parent]
entity = "parent"
key = "child.to"
[entity.child.decision.Told]
data = "{{'name': parent.name}}"
"#
    )
}

fn answered(rules: &str) -> Machine {
    let mut machine = Machine::new(ruleset(rules));
    let done = EffectOutcome { stage: EffectStage::Succeeded, status: Some(200), response: None, error: None };
    machine.heard.answers = vec![done; 9].into();
    machine
}

fn is_there(machine: &Machine, kind: &str, key: &str) -> bool {
    machine.states().get(&EntityKey::new(kind, key)).is_some_and(State::exists)
}

/// If this failed, states would stay for ever, or go while they are still used.
#[test]
fn it_expires_after_its_last_event_or_after_a_decision() {
    let mut machine = answered(&rules("expire = \"128s\""));
    machine.go(&[(0, "Named p {\"v\":\"a\"}"), (100, "Noted p")]);
    machine.advance(227);
    assert!(is_there(&machine, "parent", "p"), "its last event was not long enough ago");
    assert_eq!(machine.shown("parent", "p", "deadlines"), "{}", "what the rules do not declare is not shown");
    machine.advance(229);
    assert!(!is_there(&machine, "parent", "p"));
    let state = &machine.states()[&EntityKey::new("parent", "p")];
    assert_eq!((state.fields.len(), state.ledger.len(), state.identities.oldest()), (0, 0, None));

    let mut machine = answered(&rules("expire = { after = \"10s\", decision = \"Seen\" }"));
    machine.go(&[(0, "Noted p"), (100, "Named p {\"v\":\"a\"}"), (105, "Noted p")]);
    machine.advance(114);
    assert!(is_there(&machine, "parent", "p"), "the decision was revised meanwhile");
    machine.go(&[(114, "Named p {\"v\":null}")]);
    machine.advance(1000);
    assert!(is_there(&machine, "parent", "p"), "the decision does not stand any more");
    machine.go(&[(1000, "Named p {\"v\":\"b\"}")]);
    machine.advance(1010);
    assert!(!is_there(&machine, "parent", "p"));
}

/// If this failed, an id would be given to two different revisions, a call be made twice, a decision that is made once be
/// made again, or one that stands be taken back since its reasons were given up.
#[test]
fn a_late_event_begins_anew_and_keeps_what_was_promised() {
    let mut machine = answered(&rules("expire = \"10s\""));
    machine.go(&[(0, "Named p {\"v\":\"a\"}"), (1, "Noted p"), (1, "Noted p")]);
    let before = machine.decision_lines().len();
    machine.advance(100);
    assert_eq!(machine.decision_lines().len(), before, "nothing is taken back");
    let named = |machine: &Machine| machine.shown("parent", "p", "fields");
    machine.go(&[(100, "Noted p")]);
    assert_eq!(named(&machine), r#"{"notes":1}"#, "from scratch");
    assert_eq!(machine.decision_lines().len(), before);
    assert_eq!(
        machine.shown("parent", "p", "decisions"),
        r#"{"Seen":{"needs":["name"],"past_revision":3,"state":"pending"},"Welcomed":{"needs":["name"],"past_revision":1,"state":"pending"}}"#
    );
    machine.go(&[(101, "Named p {\"v\":\"b\"}")]);
    let lines = machine.decision_lines();
    assert_eq!(lines[before..], [r#"Seen 4 made {"name":"b","notes":1}"#], "revisions go on; once is once");
    assert_eq!(machine.calls.len(), 1, "{:?}", machine.calls);
}

/// If this failed, an event could be lost as a duplicate of one that nothing is known of any more.
#[test]
fn an_identity_counts_again_in_the_next_life() {
    let mut machine = answered(&rules("expire = \"10s\""));
    let text = r#"{"id":"1","type":"Noted","time":"2026-11-20T10:00:00Z","subject":"p"}"#;
    assert_eq!(machine.handle(&event(text), second(0)).unwrap(), [Came::Counted]);
    assert_eq!(machine.handle(&event(text), second(5)).unwrap(), [Came::Duplicate]);
    machine.advance(11);
    assert_eq!(machine.handle(&event(text), second(12)).unwrap(), [Came::Counted]);
    assert_eq!(machine.shown("parent", "p", "events"), "1");
}

/// If this failed, watchers would go on with what is no more, or miss what comes after.
#[test]
fn who_looks_at_it_is_told_that_it_is_gone_and_when_it_is_back() {
    let mut machine = answered(&rules("expire = \"10s\""));
    machine.go(&[(0, "Named p {\"v\":\"a\"}"), (1, "Born c {\"to\":\"p\"}")]);
    assert_eq!(machine.shown("child", "c", "waiting_for"), "[]");
    machine.advance(20);
    assert!(machine.shown("child", "c", "waiting_for").contains(r#""key":"p""#));
    assert_eq!(machine.decision_lines().last().unwrap(), "Told 2 withdrawn null");
    machine.go(&[(30, "Named p {\"v\":\"b\"}")]);
    assert_eq!(machine.decision_lines().last().unwrap(), r#"Told 3 made {"name":"b"}"#);
}

/// If this failed, entities that are gone would keep being told of others.
#[test]
fn what_it_looked_at_does_not_tell_it_any_more() {
    let text = rules("").replace("[entity.child]\n", "[entity.child]\nexpire = \"10s\"\n");
    let mut machine = answered(&text);
    machine.go(&[(0, "Named p {\"v\":\"a\"}"), (1, "Born c {\"to\":\"p\"}")]);
    machine.advance(20);
    assert!(!is_there(&machine, "child", "c"));
    let version = |machine: &Machine| machine.states()[&EntityKey::new("child", "c")].version;
    let before = version(&machine);
    machine.go(&[(30, "Named p {\"v\":\"b\"}")]);
    assert_eq!(version(&machine), before);
    machine.go(&[(40, "Born c {\"to\":\"p\"}")]);
    assert_eq!(machine.decision_lines().last().unwrap(), r#"Told 2 made {"name":"b"}"#);
}

/// If this failed, what nobody has heard of would be forgotten, or the same thing twice.
#[test]
fn what_is_there_or_has_expired_is_forgotten_once() {
    let mut machine = answered(&rules("expire = \"10s\""));
    let parent = EntityKey::new("parent", "p");
    let forget = |machine: &mut Machine| machine.memory.handle(&parent, Input::Forgotten(Mandate::default()));
    assert!(forget(&mut machine).is_none(), "nothing was heard of it");
    machine.go(&[(0, "Born c {\"to\":\"p\"}")]);
    let how = |machine: &Machine| machine.states()[&parent].end().map(|end| end.how);
    // It is waited for; its records might hold what it had under other rules.
    assert!(forget(&mut machine).is_some() && forget(&mut machine).is_none());
    machine.go(&[(1, "Named p {\"v\":\"a\"}")]);
    machine.advance(30);
    assert_eq!(how(&machine), Some(Ending::Expired));
    assert!(forget(&mut machine).is_some());
    assert_eq!(how(&machine), Some(Ending::Forgotten));
    assert!(forget(&mut machine).is_none());
    machine.go(&[(31, "Named p {\"v\":\"b\"}")]);
    assert_eq!(how(&machine), None);
    let due = machine.states()[&parent].dealings.as_ref().unwrap().deadline(EXPIRE).unwrap().times.at;
    assert!(forget(&mut machine).is_some());
    let late = Input::Due { name: EXPIRE.into(), at: due };
    assert!(machine.memory.handle(&parent, late).is_none(), "it is gone already");
}
