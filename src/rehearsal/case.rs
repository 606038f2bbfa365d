//! A `[[test]]` block made ready to run, and its run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::{Failure, RefusedInput, compare_decision, entity_name};
use crate::config::{
    Answer, Config, DecisionState, Diagnostics, EventsOfTest, Expectation, ExpectedDecision, Files, Located, Location,
    Step, Test, read_text,
};
use crate::ingress::Decoder;
use crate::model::dealings::{Call, Dealings, EffectOutcome};
use crate::model::event::Event;
use crate::model::ids::EntityKey;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::{Span, Timestamp};
use crate::rules::{Around, Came, Expr, Machine, Rest, Ruleset, compile_condition, explain};

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
    answers: Vec<Answer>,
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
    decisions: Vec<ExpectedDecision>,
    waiting_for: Option<Vec<String>>,
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
            answers: test.effects.clone(),
            expect,
        })
    }

    /// Runs the test; what is not as expected comes back.
    pub fn run(&self, ruleset: &Arc<Ruleset>, decoder: &Decoder) -> Vec<Failure> {
        let around = AroundTest { answers: &self.answers, refused: Vec::new() };
        let machine = Machine::new(ruleset.clone());
        let mut run = Run { ruleset, decoder, machine, now: None, around, rest: Rest::Reached };
        for input in &self.inputs {
            run.step(input);
        }
        run.advance(self.advance.unwrap_or_default());
        let mut failures = Vec::new();
        let refused = run.around.refused;
        if !refused.iter().map(|refused| refused.refusal.code).eq(self.refused.iter().copied()) {
            failures.push(Failure::Refused { expected: self.refused.clone(), actual: refused });
        }
        if run.rest == Rest::Never {
            failures.push(Failure::NoRest);
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
        decisions: expected.decisions.clone(),
        waiting_for: expected.waiting_for.as_ref().map(|names| names.iter().map(|name| name.value.clone()).collect()),
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
    around: AroundTest<'a>,
    rest: Rest,
}

/// What the test says of calls, and what it is told.
struct AroundTest<'a> {
    answers: &'a [Answer],
    refused: Vec<RefusedInput>,
}

impl Around for AroundTest<'_> {
    fn answer(&mut self, call: &Call) -> Option<EffectOutcome> {
        let fits = |answer: &&Answer| {
            let is_for = |key: &String| key == call.entity.key();
            answer.kind == call.entity.kind()
                && *answer.effect == *call.effect
                && answer.key.as_ref().is_none_or(is_for)
        };
        let fitting: Vec<&Answer> = self.answers.iter().filter(fits).collect();
        let nth = usize::try_from(call.run).ok()?.checked_sub(1)?;
        fitting.get(nth).or(fitting.last()).map(|answer| answer.outcome.clone())
    }

    fn refused(&mut self, entity: &EntityKey, refusal: &Refusal) {
        let input = format!("a decision of {} that came back", entity_name(entity));
        self.refused.push(RefusedInput { input, refusal: refusal.clone() });
    }
}

impl Run<'_> {
    /// The time as far as it has come: before the first event with a time, an arbitrary one.
    fn now(&self) -> Timestamp {
        self.now.or_else(|| Timestamp::parse(BEGIN)).unwrap_or_default()
    }

    fn advance(&mut self, by: Duration) {
        let span = i128::try_from(by.as_nanos()).ok().and_then(Span::from_nanos);
        let now = self.now();
        self.come_to(span.and_then(|span| now.plus(span)).unwrap_or(now));
    }

    /// Time passes, and with it what follows by itself.
    fn come_to(&mut self, now: Timestamp) {
        self.now = Some(now);
        if self.machine.advance(now, &mut self.around) == Rest::Never {
            self.rest = Rest::Never;
        }
    }

    fn step(&mut self, input: &Input) {
        let decoded = match &input.step {
            Step::Advance(by) => return self.advance(*by),
            Step::Event(body) => self.decoder.event(body.clone(), self.now()),
            Step::Text(text) => self.decoder.decode(text.as_bytes(), self.now()),
        };
        if let Err(refusal) = decoded.and_then(|event| self.handle(&event)) {
            self.around.refused.push(RefusedInput { input: input.name.clone(), refusal });
        }
    }

    /// An event arrives when it happens, unless it is later than that already.
    fn handle(&mut self, event: &Event) -> Result<(), Refusal> {
        let takers = self.ruleset.admit(event)?;
        let now = self.now.map_or(event.time, |now| now.just_after().max(event.time));
        self.come_to(now);
        let mut conflict = None;
        for taken in takers {
            let entity = taken.entity.clone();
            if let Came::Conflict = self.machine.apply(taken, now) {
                let message =
                    format!("{} counted event {:?} before with another payload", entity_name(&entity), event.id);
                conflict = Some(Refusal::new(Code::Conflict, message));
            }
        }
        self.come_to(now);
        conflict.map_or(Ok(()), Err)
    }
}

impl Expected {
    fn compare(&self, ruleset: &Ruleset, machine: &Machine, failures: &mut Vec<Failure>) {
        let there = || machine.states().iter().filter(|(_, state)| state.exists());
        let state = there().find(|(entity, _)| **entity == self.entity).map(|(_, state)| state);
        let (Some(rules), Some(state)) = (ruleset.get(self.entity.kind()), state) else {
            let there = there().map(|(entity, _)| entity_name(entity)).collect();
            failures.push(Failure::NoEntity { entity: self.entity.clone(), there });
            return;
        };
        for (text, expr) in &self.that {
            let explained = explain(rules, self.entity.key(), state, expr);
            if explained.outcome != Ok(true) {
                failures.push(Failure::That { entity: self.entity.clone(), text: text.clone(), explained });
            }
        }
        for expected in &self.decisions {
            let ExpectedDecision { name, element, .. } = expected;
            let differences = compare_decision(expected, state.decision(name, element.as_deref()));
            if !differences.is_empty() {
                let name = element.iter().fold(name.clone(), |name, element| [&name, "/", element].concat());
                failures.push(Failure::Decision { entity: self.entity.clone(), name, differences });
            }
        }
        if let Some(expected) = &self.waiting_for {
            let mask = state.dealings.as_deref().map_or(0, Dealings::waiting);
            let is_waiting = |at: usize| mask & (1 << at) != 0;
            let references = rules.references.iter().enumerate().filter(|(at, _)| is_waiting(*at));
            let actual: Vec<String> = references.map(|(_, it)| it.name.to_string()).collect();
            let mut expected = expected.clone();
            expected.sort();
            if expected != actual {
                failures.push(Failure::Waiting { entity: self.entity.clone(), expected, actual });
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
