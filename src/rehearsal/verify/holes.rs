//! What is missing from one entity: what it waits for, lacks, called and heard nothing of, or is itself for want of better.

use super::findings::{Findings, Kind};
use super::options::{Effects, Options};
use super::run::Setup;
use crate::model::dealings::EffectStage;
use crate::model::ids::EntityKey;
use crate::model::state::State;
use crate::model::system::{Origin, SystemState};
use crate::model::time::Timestamp;
use crate::rules::EntityRules;

/// By what an entity is looked at.
#[derive(Clone, Copy)]
pub(super) struct Measure<'a> {
    pub options: &'a Options,
    pub effects: Effects,
    pub now: Timestamp,
}

impl<'a> Measure<'a> {
    pub fn of(setup: &'a Setup<'_>, now: Timestamp) -> Self {
        Measure { options: &setup.options, effects: setup.effects, now }
    }
}

/// Looks at an entity. `incomplete_since` is known where its records are.
pub(super) fn look(
    rules: Option<&EntityRules>,
    entity: &EntityKey,
    state: &State,
    incomplete_since: Option<Timestamp>,
    Measure { options, effects, now }: Measure<'_>,
    findings: &mut Findings,
) {
    let long_ago = |since: Timestamp, longer| since.after(longer) < now;
    if let Some(SystemState::DeadLetter(letter)) = state.system.as_deref() {
        let from = match &letter.origin {
            Origin::Sink { name, .. } => format!("sink {name}"),
            Origin::Source { name, .. } => format!("source {name}"),
        };
        findings.add(Kind::DeadLetter, entity.key(), format!("{from}: {}, {}", letter.reason, letter.id));
    }
    let since = incomplete_since.unwrap_or(state.now);
    if let Some(rules) = rules.filter(|_| state.exists() && state.missing != 0)
        && long_ago(since, options.incomplete_longer)
    {
        let missing: Vec<_> = rules.missing_names(state.missing).collect();
        findings.of(Kind::Incomplete, entity, format!("since {since} without {}", missing.join(", ")));
    }
    let Some(dealings) = state.dealings.as_deref() else { return };
    for view in dealings.views.iter().filter(|view| view.content.is_none()) {
        if long_ago(view.since, options.waiting_longer) {
            let (reference, to, since) = (&view.reference, &view.to, view.since);
            findings.of(Kind::Waiting, entity, format!("{reference} has waited for {to:?} since {since}"));
        }
    }
    for effect in &dealings.effects {
        let (name, run, at) = (&effect.name, effect.run, effect.at);
        if effect.stage == EffectStage::Unknown {
            findings.of(Kind::EffectUnknown, entity, format!("{name} {run}, called before {at}"));
        } else if effect.stage == EffectStage::Requested && effects == Effects::LeftOut {
            // It stays so, for whoever compares with production to see.
        } else if effect.stage.is_open() && long_ago(at, options.waiting_longer) {
            let attempts = effect.attempts;
            findings.of(Kind::EffectOpen, entity, format!("{name} {run}, asked for at {at}, {attempts} attempts"));
        }
    }
}
