//! Effects: what is called, when, and what rules see of it.

use super::{Machine, ruleset};
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::ids::EntityKey;
use crate::model::json;
use crate::model::mandate::Mandate;
use crate::model::packed::Packed;
use crate::model::record::Input;
use crate::model::value::Value;

/// A call for each application that is ready; `policy` comes after it.
fn rules(policy: &str) -> String {
    format!(
        r#"
[entity.application]
key = "event.subject"
fields = {{ id = {{ on = "Applied", take = "latest", value = "event.data.id" }}, notes = {{ on = "Noted", take = "count" }} }}
[entity.application.effect.pull]
when = "application.notes > 0"
request = {{ url = "http://bureau/{{application.id}}", json = {{ id = "application.id", key = "key" }} }}
{policy}
[entity.application.decision.State]
data = {{ state = "application.pull.state", score = "application.pull.response.score", left = "5 - application.pull.attempts" }}
"#
    )
}

fn outcome(stage: EffectStage, response: &str) -> EffectOutcome {
    let response = json::parse(response.as_bytes(), 8).unwrap();
    EffectOutcome { stage, status: Some(200), response: Some(Packed::new(&response)), error: None }
}

fn check(policy: &str, answers: Vec<EffectOutcome>, events: &[&str], calls: &[&str], revisions: &[&str]) -> Machine {
    let mut machine = Machine::new(ruleset(&rules(policy)));
    machine.heard.answers = answers.into();
    let events: Vec<(i64, &str)> = (0..).zip(events.iter().copied()).collect();
    machine.go(&events);
    assert_eq!(machine.calls, calls, "{policy} {events:?}");
    assert_eq!(machine.decision_lines(), revisions, "{policy} {events:?}");
    machine
}

fn call(run: u32, id: u32) -> String {
    let request =
        format!(r#"{{"headers":{{}},"json":{{"id":{id},"key":"k"}},"method":"POST","url":"http://bureau/{id}"}}"#);
    format!("pull/{run} {request}")
}

const NONE: &str = "State 1 made {}";
const ASKED: &str = r#"State 2 revised {"left":5,"state":"requested"}"#;

/// If this failed, a call would be made before its time, twice, or never.
#[test]
fn a_call_is_asked_for_once() {
    let one = call(1, 7);
    check("", vec![], &["Applied k {\"id\":7}"], &[], &[NONE]);
    let events = ["Applied k {\"id\":7}", "Noted k", "Noted k", "Applied k {\"id\":8}"];
    let machine = check("", vec![], &events, &[&one], &[NONE, ASKED]);
    assert_eq!(
        machine.shown("application", "k", "effects"),
        r#"{"pull":{"at":"2026-11-20T10:00:01Z","attempts":0,"state":"requested"}}"#
    );
    let ended = [
        NONE,
        ASKED,
        r#"State 3 revised {"left":4,"state":"requested"}"#,
        r#"State 4 revised {"left":4,"score":9,"state":"succeeded"}"#,
    ];
    let answer = vec![outcome(EffectStage::Succeeded, r#"{"score":9}"#)];
    let machine = check("", answer, &events, &[&one], &ended);
    assert_eq!(
        machine.shown("application", "k", "effects"),
        r#"{"pull":{"at":"2026-11-20T10:00:01Z","attempts":1,"response":{"score":9},"state":"succeeded","status":200}}"#
    );
    let failed = vec![outcome(EffectStage::Failed, "null")];
    check(
        "",
        failed,
        &events[..2],
        &[&one],
        &[NONE, ASKED, ended[2], r#"State 4 revised {"left":4,"state":"failed"}"#].map(|line| line),
    );
}

/// If this failed, a call would go out with half of what it says.
#[test]
fn a_request_that_is_unknown_waits() {
    let one = call(1, 7);
    check("", vec![], &["Noted k", "Noted k"], &[], &[NONE]);
    check("", vec![], &["Noted k", "Applied k {\"id\":7}"], &[&one], &[NONE, ASKED]);
}

/// If this failed, two calls of one effect would be under way, or its last request would never be made.
#[test]
fn a_revised_call_waits_for_the_outcome_of_the_last_one() {
    let [one, two] = [call(1, 7), call(2, 9)];
    let events = ["Noted k", "Applied k {\"id\":7}", "Applied k {\"id\":8}", "Applied k {\"id\":9}"];
    check("policy = \"revise\"", vec![], &events, &[&one], &[NONE, ASKED]);

    let mut machine = Machine::new(ruleset(&rules("policy = \"revise\"")));
    machine.go(&[(0, events[0])]);
    let handle = |machine: &mut Machine, text: &str, id: &str| {
        let text = format!(r#"{{"id":"{id}","type":"Applied","subject":"k","data":{{"id":{text}}}}}"#);
        machine.handle(&super::event(&text), super::second(1)).unwrap();
    };
    handle(&mut machine, "7", "a");
    let first = machine.memory.take_call().unwrap();
    handle(&mut machine, "8", "b");
    handle(&mut machine, "9", "c");
    assert_eq!(machine.memory.take_call(), None, "one is under way");
    machine.memory.end(&first, outcome(EffectStage::Succeeded, "{}"), &mut machine.heard);
    let second = machine.memory.take_call().unwrap();
    assert_eq!(json::to_string(&second.request.unpack()), two.strip_prefix("pull/2 ").unwrap());
    assert_eq!(second.run, 2);
    machine.memory.end(&second, outcome(EffectStage::Succeeded, "{}"), &mut machine.heard);
    assert_eq!(machine.memory.take_call(), None, "what it would say is what it said");
    let before = machine.records.len();
    machine.memory.end(&first, outcome(EffectStage::Failed, "{}"), &mut machine.heard);
    machine.memory.end(&second, outcome(EffectStage::Failed, "{}"), &mut machine.heard);
    assert_eq!(machine.records.len(), before, "steps that were taken make no record");
}

/// If this failed, text that cannot be in a request would be sent, or nobody would know why nothing is.
#[test]
fn a_request_that_is_wrong_is_shown_and_not_made() {
    let machine = check("", vec![], &["Noted k", "Applied k {\"id\":[]}"], &[], &[NONE]);
    let errors = machine.shown("application", "k", "errors");
    assert_eq!(errors, r#"{"pull":"lists and maps cannot be put into text"}"#);
    assert_eq!(machine.errors, ["pull".into()] as [Box<str>; 1]);
}

/// If this failed, what a person says of an effect would not count, would count against an answer that came, or nobody would
/// know who said it.
#[test]
fn a_person_says_what_became_of_it() {
    let mut machine = Machine::new(ruleset(
        "[entity.a]\nkey = \"event.subject\"\n[entity.a.fields]\nn = { on = \"A\", take = \"latest\" }\n\
         [entity.a.effect.call]\n[entity.a.effect.call.request]\nurl = \"https://example.com/\"\n\
         [entity.a.decision.Done]\nwhen = \"a.call.state == 'succeeded'\"\ndata = { r = \"a.call.response\" }\n",
    ));
    machine.go(&[(0, "A k 1")]);
    let entity = EntityKey::new("a", "k");
    let mandate = Mandate { by: "ann".into(), why: "they called".into() };
    let outcome =
        |stage| EffectOutcome { stage, status: None, response: Some(Packed::new(&Value::Int(5))), error: None };
    let say = |machine: &mut Machine, run, stage| {
        let (effect, outcome, mandate) = ("call".into(), Box::new(outcome(stage)), mandate.clone());
        machine.memory.handle(&entity, Input::Resolved { effect, run, outcome, mandate })
    };
    let again = |machine: &mut Machine| {
        let (effect, mandate) = ("call".into(), mandate.clone());
        machine.memory.handle(&entity, Input::AskedAgain { effect, run: 1, mandate })
    };
    assert!(again(&mut machine).is_none(), "it is under way");
    assert!(say(&mut machine, 2, EffectStage::Failed).is_none(), "there is no such request");
    assert!(say(&mut machine, 1, EffectStage::Failed).is_some());
    assert!(again(&mut machine).is_some());
    assert!(machine.shown("a", "k", "effects").contains(r#""state":"requested""#));
    let decided = say(&mut machine, 1, EffectStage::Succeeded).expect("it is open again");
    assert!(matches!(&decided.record.input, Input::Resolved { mandate: said, .. } if *said == mandate));
    assert_eq!(decided.record.decisions.len(), 1);
    assert!(say(&mut machine, 1, EffectStage::Failed).is_none(), "it has succeeded");
    assert!(again(&mut machine).is_none());
}
