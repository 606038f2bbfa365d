//! A `[[test]]` block made ready to run, and its run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::{Failure, RefusedInput, compare_decision, entity_name};
use crate::config::{
    Config, DecisionState, Diagnostics, EventsOfTest, Expectation, ExpectedDecision, Files, Located, Location, Step,
    Test, read_text,
};
use crate::ingress::Decoder;
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::{Span, Timestamp};
use crate::rules::{Came, Expr, Machine, Ruleset, compile_condition, explain};

/// The time at which tests begin whose events carry none.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// One test, ready to run.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    /// Where it is written.
    pub at: Location,
    inputs: Vec<Input>,
    advance: Option<Duration>,
    refused: Vec<Code>,
    expect: Vec<Expected>,
}

/// A step and what messages call it.
#[derive(Debug)]
struct Input {
    name: String,
    step: Step,
}

#[derive(Debug)]
struct Expected {
    entity: EntityKey,
    that: Vec<(Located<String>, Expr)>,
    decisions: Vec<(String, ExpectedDecision)>,
}

/// Makes the tests of a configuration ready to run; what is wrong is added to `diagnostics`.
pub fn compile_cases(config: &Config, ruleset: &Ruleset, files: &Files, diagnostics: &mut Diagnostics) -> Vec<Case> {
    config.tests.iter().filter_map(|test| Case::compile(test, ruleset, files, diagnostics)).collect()
}

impl Case {
    fn compile(test: &Test, ruleset: &Ruleset, files: &Files, diagnostics: &mut Diagnostics) -> Option<Case> {
        let inputs = match &test.events {
            EventsOfTest::Inline(steps) => {
                let mut events = 0;
                let named = steps.iter().map(|step| {
                    events += u32::from(!matches!(step.value, Step::Advance(_)));
                    Input { name: format!("event {events}"), step: step.value.clone() }
                });
                Some(named.collect())
            }
            EventsOfTest::File(path) => match read_lines(path) {
                Ok(inputs) => Some(inputs),
                Err(why) => {
                    diagnostics
                        .error(path.at, format!("cannot read {}: {why}", path.display()))
                        .help("the path is relative to the file that names it");
                    None
                }
            },
        };
        let expect: Vec<_> =
            test.expect.iter().filter_map(|expected| compile_expected(expected, ruleset, files, diagnostics)).collect();
        let whole = expect.len() == test.expect.len();
        Some(Case {
            name: test.name.value.clone(),
            at: test.name.at,
            inputs: inputs.filter(|_| whole)?,
            advance: test.advance,
            refused: test.refused.clone(),
            expect,
        })
    }

    /// Runs the test; what is not as expected comes back.
    pub fn run(&self, ruleset: &Arc<Ruleset>, decoder: &Decoder) -> Vec<Failure> {
        let mut run = Run { ruleset, decoder, machine: Machine::new(ruleset.clone()), now: None, refused: Vec::new() };
        for input in &self.inputs {
            run.step(input);
        }
        if let Some(advance) = self.advance {
            run.advance(advance);
        }
        let mut failures = Vec::new();
        if !run.refused.iter().map(|refused| refused.refusal.code).eq(self.refused.iter().copied()) {
            failures.push(Failure::Refused { expected: self.refused.clone(), actual: run.refused });
        }
        for expected in &self.expect {
            expected.compare(ruleset, &run.machine, &mut failures);
        }
        failures
    }
}

fn compile_expected(
    expected: &Expectation,
    ruleset: &Ruleset,
    files: &Files,
    diagnostics: &mut Diagnostics,
) -> Option<Expected> {
    let rules = ruleset.get(&expected.kind)?;
    let compiled = expected.that.iter().filter_map(|text| {
        let expr = compile_condition(text, rules, files, diagnostics)?;
        Some((text.clone(), expr))
    });
    let that: Vec<_> = compiled.collect();
    (that.len() == expected.that.len()).then(|| Expected {
        entity: EntityKey::new(&expected.kind, &expected.key),
        that,
        decisions: expected.decisions.iter().map(|(name, decision)| (name.value.clone(), decision.clone())).collect(),
    })
}

fn read_lines(path: &Path) -> Result<Vec<Input>, String> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.map(|(n, line)| Input { name: format!("line {}", n + 1), step: Step::Text(line.to_owned()) }).collect())
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    decoder: &'a Decoder,
    machine: Machine,
    now: Option<Timestamp>,
    refused: Vec<RefusedInput>,
}

impl Run<'_> {
    /// The time as far as it has come: before the first event with a time, an arbitrary one.
    fn now(&self) -> Timestamp {
        self.now.or_else(|| Timestamp::parse(BEGIN)).unwrap_or_default()
    }

    fn advance(&mut self, by: Duration) {
        let span = i128::try_from(by.as_nanos()).ok().and_then(Span::from_nanos);
        let now = self.now();
        self.now = Some(span.and_then(|span| now.plus(span)).unwrap_or(now));
    }

    fn step(&mut self, input: &Input) {
        let decoded = match &input.step {
            Step::Advance(by) => return self.advance(*by),
            Step::Event(body) => self.decoder.event(body.clone(), self.now()),
            Step::Text(text) => self.decoder.decode(text.as_bytes(), self.now()),
        };
        if let Err(refusal) = decoded.and_then(|event| self.handle(&event)) {
            self.refused.push(RefusedInput { input: input.name.clone(), refusal });
        }
    }

    /// An event arrives when it happens, unless it is later than that already.
    fn handle(&mut self, event: &Event) -> Result<(), Refusal> {
        let now = self.now.map_or(event.time, |now| now.just_after().max(event.time));
        self.now = Some(now);
        let mut conflict = None;
        for taken in self.ruleset.admit(event)? {
            let entity = taken.entity.clone();
            if let Came::Conflict = self.machine.apply(taken, now) {
                let message =
                    format!("{} counted event {:?} before with another payload", entity_name(&entity), event.id);
                conflict = Some(Refusal::new(Code::Conflict, message));
            }
        }
        conflict.map_or(Ok(()), Err)
    }
}

impl Expected {
    fn compare(&self, ruleset: &Ruleset, machine: &Machine, failures: &mut Vec<Failure>) {
        let (Some(rules), Some(state)) = (ruleset.get(self.entity.kind()), machine.states().get(&self.entity)) else {
            let there = machine.states().keys().map(entity_name).collect();
            failures.push(Failure::NoEntity { entity: self.entity.clone(), there });
            return;
        };
        for (text, expr) in &self.that {
            let explained = explain(rules, self.entity.key(), state, expr);
            if explained.outcome != Ok(true) {
                failures.push(Failure::That { entity: self.entity.clone(), text: text.clone(), explained });
            }
        }
        for (name, expected) in &self.decisions {
            let differences = compare_decision(expected, state.decision(name, None));
            if !differences.is_empty() {
                failures.push(Failure::Decision { entity: self.entity.clone(), name: name.clone(), differences });
            }
        }
    }
}

impl From<crate::model::record::DecisionState> for DecisionState {
    fn from(state: crate::model::record::DecisionState) -> Self {
        match state {
            crate::model::record::DecisionState::Made => DecisionState::Made,
            crate::model::record::DecisionState::Revised => DecisionState::Revised,
            crate::model::record::DecisionState::Withdrawn => DecisionState::Withdrawn,
        }
    }
}
