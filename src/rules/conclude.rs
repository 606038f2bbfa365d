//! What follows from a change: references that point elsewhere, deadlines, effects, decisions, what others see. Only rules
//! that depend on what changed are looked at.

use std::borrow::Cow;

use super::decision::{Numbering, revisions};
use super::entity_bindings::EntityBindings;
use super::entity_rules::{DeadlineRules, EffectRules, EntityRules, ReferenceRules, Unit};
use super::evolve::given_correlation;
use super::expiry;
use super::expr::Fault;
use super::request::rendered;
use crate::config::{Feedback, Policy};
use crate::model::dealings::{DeadlineTimes, Dealings};
use crate::model::packed::Packed;
use crate::model::record::{
    Content, DeadlineSet, DecisionRevision, DecisionState, EffectRequest, Input, Notice, Record, ReferenceSet,
};
use crate::model::state::{FieldState, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

/// A decision that comes back to its entity as an event may lead to another one that does, at most so many times on end.
pub const HOPS_MAX: u8 = 16;

/// An entity that is about to change.
pub(super) struct Moment<'a> {
    pub rules: &'a EntityRules,
    /// As it was until now.
    pub state: &'a State,
    /// Fields as they will be.
    pub fields: &'a [(u16, FieldState)],
    /// Everything is looked at.
    pub is_first: bool,
}

/// Something of an entity's dealings that changes.
enum Change {
    Refer(ReferenceSet),
    Deadline(DeadlineSet),
    Request(EffectRequest),
}

/// Puts into `record` all that follows when its input is handled and `touched` has changed. `dealings` are those after the
/// input, if it changed them. Returns the names of rules that went wrong.
pub(super) fn conclude(
    moment: &Moment<'_>,
    touched: Vec<Unit>,
    dealings: Option<Dealings>,
    record: &mut Record,
) -> Vec<Box<str>> {
    let Moment { rules, state, .. } = moment;
    let dealings = match (dealings, state.dealings.as_deref()) {
        (Some(changed), _) => Cow::Owned(changed),
        (None, Some(same)) => Cow::Borrowed(same),
        (None, None) => Cow::Owned(Dealings::default()),
    };
    // One that others only wait for has no rules to follow yet.
    if state.events == 0 && !moment.is_first {
        return Vec::new();
    }
    let mut concluding = Concluding { moment, touched, dealings, errors: Vec::new() };
    if rules.has_dealings() {
        concluding.deal(record);
    }
    let Concluding { touched, dealings, mut errors, .. } = concluding;
    let entity = record.entity.clone();
    let bindings = EntityBindings::new(rules, entity.key(), state).changed(moment.fields, Some(&dealings));
    let is_touched = |reads: &[Unit]| moment.is_first || touched.iter().any(|unit| reads.contains(unit));
    decide_all(moment, &bindings, &dealings, &is_touched, record, &mut errors);
    record.missing = if is_touched(&rules.complete_reads) { missing(rules, &bindings) } else { state.missing };
    for watched in dealings.watched.iter().filter(|watched| watched.watchers.iter().any(|it| it.is_watching)) {
        let Some(watch) = rules.watches.iter().find(|watch| watch.by == watched.by) else { continue };
        if watched.content.is_some() && !is_touched(&watch.reads) {
            continue;
        }
        let shown = shown(rules, &watch.shown, &bindings);
        if watched.content.as_ref() != Some(&shown) {
            record.notices.push(Notice { by: watch.by.clone(), shown });
        }
    }
    if let Some(expire) = &rules.expire {
        expiry::note(expire, state, &dealings, record);
    }
    errors.sort();
    errors.dedup();
    errors
}

/// What watchers see.
pub(super) fn shown(rules: &EntityRules, members: &[usize], bindings: &EntityBindings<'_>) -> Packed {
    let names: Vec<&str> = rules.member_names().collect();
    let mut shown = Map::default();
    for at in members {
        // What is missing or wrong here is missing there.
        if let Ok(value) = bindings.member(*at) {
            shown.insert(names[*at], value.clone());
        }
    }
    Packed::new(&Value::Map(shown))
}

fn decide_all(
    moment: &Moment<'_>,
    bindings: &EntityBindings<'_>,
    dealings: &Dealings,
    is_touched: &dyn Fn(&[Unit]) -> bool,
    record: &mut Record,
    errors: &mut Vec<Box<str>>,
) {
    let quiet = match &record.input {
        Input::Quiet { decision, .. } => Some(decision.clone()),
        _ => None,
    };
    let mut made: Vec<(DecisionRevision, Feedback)> = Vec::new();
    for decision in &moment.rules.decisions {
        let is_settling = !dealings.settling.is_empty() && dealings.settling.contains(&decision.name);
        let is_settled = quiet.as_ref() == Some(&decision.name);
        if !is_touched(&decision.reads) && !is_settled {
            if is_settling {
                record.settling.push(decision.name.clone());
            }
            continue;
        }
        match revisions(decision, bindings, moment.state, Numbering::new(moment.rules, record.now)) {
            Ok(revisions) if revisions.is_empty() => {}
            Ok(_) if decision.settle.is_some() && !is_settled => record.settling.push(decision.name.clone()),
            Ok(revisions) => made.extend(revisions.into_iter().map(|it| (it, decision.feedback))),
            Err(_) => errors.push(decision.name.clone()),
        }
    }
    made.sort_by_key(|(it, _)| it.state != DecisionState::Withdrawn);
    if made.is_empty() {
        return;
    }
    let hops = record.input.hops();
    let correlation = correlation(moment.state, &record.input);
    for (place, (mut decision, feedback)) in made.into_iter().enumerate() {
        decision.correlation.clone_from(&correlation);
        if feedback == Feedback::ToSelf && hops < HOPS_MAX {
            record.feedback.push(place as u16);
        } else if feedback == Feedback::ToSelf && !record.stopped.contains(&decision.name) {
            record.stopped.push(decision.name.clone());
        }
        record.decisions.push(decision);
    }
}

/// What correlates what follows from an input: what its cause says, else the id of the entity's first event.
fn correlation(state: &State, input: &Input) -> Box<str> {
    let given = match input {
        Input::Event(input) | Input::Released(input) => given_correlation(&input.event),
        Input::Message(received) => received.correlation.clone(),
        _ => None,
    };
    given.unwrap_or_else(|| match input {
        Input::Event(input) | Input::Released(input) if state.events == 0 => input.event.id.clone(),
        _ => state.correlation.clone(),
    })
}

/// The mask of `complete` members that are missing.
pub(super) fn missing(rules: &EntityRules, bindings: &EntityBindings<'_>) -> u64 {
    let absent = rules.complete.iter().enumerate().filter(|(_, at)| !bindings.is_present(**at));
    absent.fold(0, |mask, (bit, _)| mask | 1 << bit)
}

struct Concluding<'a> {
    moment: &'a Moment<'a>,
    touched: Vec<Unit>,
    dealings: Cow<'a, Dealings>,
    errors: Vec<Box<str>>,
}

impl Concluding<'_> {
    /// References first, then deadlines, effects last, which nothing takes back: each sees what came of those before, until
    /// nothing changes any more.
    fn deal(&mut self, record: &mut Record) {
        let rules = self.moment.rules;
        let rounds_max = 2 * (rules.references.len() + rules.deadlines.len() + rules.effects.len()) + 1;
        for _ in 0..rounds_max {
            let changes = self.changes(record);
            if changes.is_empty() {
                return;
            }
            for change in changes {
                self.apply(change, record);
            }
        }
    }

    /// The first group of changes that are to be made.
    fn changes(&mut self, record: &Record) -> Vec<Change> {
        let Moment { rules, state, fields, is_first, .. } = self.moment;
        let dealings = &*self.dealings;
        let bindings = EntityBindings::new(rules, record.entity.key(), state).changed(fields, Some(dealings));
        let is_touched = |reads: &[Unit]| *is_first || self.touched.iter().any(|unit| reads.contains(unit));
        let references = (0..).zip(&rules.references).filter(|(_, it)| is_touched(&it.reads));
        let mut found: Found<'_> =
            references.map(|(place, it)| (&*it.name, refer(place, it, &bindings, dealings))).collect();
        if !is_any(&found) {
            let deadlines = rules.deadlines.iter().filter(|it| is_touched(&it.reads));
            found.extend(deadlines.map(|it| (&*it.name, deadline(it, &bindings, dealings, record.now))));
        }
        if !is_any(&found) {
            // What was asked for is not asked for again because rules are written otherwise.
            let is_asked = |name: &str| dealings.effect(name).is_some();
            let is_new = |name: &str| !matches!(record.input, Input::Rules { .. }) || !is_asked(name);
            let effects = rules.effects.iter().filter(|it| is_touched(&it.reads) && is_new(&it.name));
            found.extend(effects.map(|it| (&*it.name, request(it, &bindings, dealings))));
        }
        let mut changes = Vec::new();
        let mut errors = Vec::new();
        for (name, change) in found {
            match change {
                Ok(change) => changes.extend(change),
                Err(_) => errors.push(Box::from(name)),
            }
        }
        self.errors.extend(errors);
        changes
    }

    fn apply(&mut self, change: Change, record: &mut Record) {
        let rules = self.moment.rules;
        let dealings = self.dealings.to_mut();
        let unit = match change {
            Change::Refer(set) => {
                dealings.refer(&set, record.now);
                let at = rules.references.iter().position(|it| it.name == set.reference);
                record.references.push(set);
                at.map(|at| rules.reference_unit(at))
            }
            Change::Deadline(set) => {
                dealings.set_deadline(&set.name, set.to);
                let at = rules.deadlines.iter().position(|it| it.name == set.name);
                record.deadlines.push(set);
                at.map(|at| rules.deadline_unit(at))
            }
            Change::Request(request) => {
                dealings.request(&request.name, request.run, request.request.clone(), record.now);
                let at = rules.effects.iter().position(|it| it.name == request.name);
                record.effects.push(request);
                at.map(|at| rules.effect_unit(at))
            }
        };
        self.touched.extend(unit.filter(|unit| !self.touched.contains(unit)));
    }
}

/// References, deadlines and effects that go wrong in a state, by name, and why.
pub(super) fn wrong<'a>(
    rules: &'a EntityRules,
    bindings: &EntityBindings<'_>,
    state: &State,
) -> impl Iterator<Item = (&'a str, String)> {
    let dealings = state.dealings.as_deref().cloned().unwrap_or_default();
    let references = (0..).zip(&rules.references).map(|(at, it)| (&*it.name, refer(at, it, bindings, &dealings)));
    let deadlines = rules.deadlines.iter().map(|it| (&*it.name, deadline(it, bindings, &dealings, state.now)));
    let effects = rules.effects.iter().map(|it| (&*it.name, request(it, bindings, &dealings)));
    let found: Found<'a> = references.chain(deadlines).chain(effects).collect();
    found.into_iter().filter_map(|(name, change)| Some((name, change.err()?)))
}

/// What rules come to, by name.
type Found<'a> = Vec<(&'a str, Result<Option<Change>, String>)>;

fn is_any(found: &Found<'_>) -> bool {
    found.iter().any(|(_, change)| matches!(change, Ok(Some(_))))
}

fn refer(
    place: u16,
    rules: &ReferenceRules,
    bindings: &EntityBindings<'_>,
    dealings: &Dealings,
) -> Result<Option<Change>, String> {
    let to: Option<Box<str>> = match rules.key.evaluate(bindings) {
        Err(Fault::Missing(_)) => None,
        Err(Fault::Wrong(why)) => return Err(why),
        Ok(value) => match &*value {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            other => Some(
                other
                    .whole_text()
                    .ok_or_else(|| format!("a key is a string or an integer, this is {}", other.described()))?,
            ),
        },
    };
    let from = dealings.view(&rules.name).map(|view| view.to.clone());
    let (reference, kind) = (rules.name.clone(), Box::from(&*rules.kind));
    Ok((from != to).then_some(Change::Refer(ReferenceSet { reference, place, kind, from, to })))
}

fn deadline(
    rules: &DeadlineRules,
    bindings: &EntityBindings<'_>,
    dealings: &Dealings,
    now: Timestamp,
) -> Result<Option<Change>, String> {
    let is_over = match rules.unless.as_ref().map(|unless| unless.test(bindings)) {
        None | Some(Err(Fault::Missing(_))) => false,
        Some(Ok(is_over)) => is_over,
        Some(Err(Fault::Wrong(why))) => return Err(why),
    };
    let at = match rules.at.evaluate(bindings) {
        _ if is_over => None,
        Err(Fault::Missing(_)) => None,
        Err(Fault::Wrong(why)) => return Err(why),
        Ok(value) => match &*value {
            Value::Timestamp(at) => Some(*at),
            Value::Null => None,
            other => return Err(format!("`at` must be a timestamp, this is {}", other.described())),
        },
    };
    let known = dealings.deadline(&rules.name).map(|deadline| deadline.times);
    if at == known.map(|known| known.at) {
        return Ok(None);
    }
    let to = at.map(|at| {
        // One that was noticed stays so while it moves within the past.
        let has_passed = at <= now && known.is_some_and(|known| known.has_passed);
        let due = if at <= now && !has_passed { now.after(rules.grace) } else { at };
        DeadlineTimes { at, due, has_passed }
    });
    Ok(Some(Change::Deadline(DeadlineSet { name: rules.name.clone(), to })))
}

fn request(rules: &EffectRules, bindings: &EntityBindings<'_>, dealings: &Dealings) -> Result<Option<Change>, String> {
    let last = dealings.effect(&rules.name);
    if last.is_some_and(|last| rules.policy == Policy::Once || last.stage.is_open()) {
        return Ok(None);
    }
    match rules.when.as_ref().map(|when| when.test(bindings)) {
        None | Some(Ok(true)) => {}
        Some(Ok(false) | Err(Fault::Missing(_))) => return Ok(None),
        Some(Err(Fault::Wrong(why))) => return Err(why),
    }
    let request = match rendered(&rules.request, bindings) {
        Ok(request) => Packed::new(&request),
        Err(Fault::Missing(_)) => return Ok(None),
        Err(Fault::Wrong(why)) => return Err(why),
    };
    if last.is_some_and(|last| last.request == request) {
        return Ok(None);
    }
    let run = last.map_or(1, |last| last.run + 1);
    Ok(Some(Change::Request(EffectRequest { name: rules.name.clone(), run, request })))
}

/// Whether an input breaks the quiet that decisions with `settle` wait for.
pub(super) fn is_noise(input: &Input) -> bool {
    match input {
        Input::Event(_) | Input::Released(_) | Input::Due { .. } | Input::Ended { .. } | Input::Resolved { .. } => true,
        Input::Message(received) => matches!(received.content, Content::Notice { .. } | Content::Gone { .. }),
        _ => false,
    }
}
