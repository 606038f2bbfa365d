//! What an entity's records set off once they are committed: letters to others, calls, a time at which it is to be looked at
//! again.

use std::time::Duration;

use crate::model::dealings::{Call, Dealings};
use crate::model::ids::{EntityKey, Version};
use crate::model::record::EffectRequest;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::model::trace::TraceContext;
use crate::rules::EntityRules;

/// What is to be done after a commit.
#[derive(Default)]
pub struct Aftermath {
    /// When the next deadline is due.
    pub due: Option<Timestamp>,
    /// Effects without an outcome; those that are under way are known where they are made.
    pub calls: Vec<Call>,
    /// Decisions that wait for quiet.
    pub rests: Vec<Rest>,
}

/// A decision that is made when the key has been quiet for so long.
pub struct Rest {
    pub decision: Box<str>,
    /// The version of the last record that was noise.
    pub since: Version,
    pub wait: Duration,
}

impl Aftermath {
    /// What is to be done of an entity as it is now; none for most.
    pub(super) fn of(key: &EntityKey, state: &State, rules: &EntityRules) -> Option<Box<Aftermath>> {
        let dealings = state.dealings.as_deref()?;
        let aftermath = Aftermath {
            due: dealings.next_due(),
            calls: dealings
                .effects
                .iter()
                .filter(|effect| effect.stage.is_open())
                .map(|it| it.call(key, &state.correlation))
                .collect(),
            rests: rests(dealings, rules),
        };
        let is_nothing = aftermath.due.is_none() && aftermath.calls.is_empty() && aftermath.rests.is_empty();
        (!is_nothing).then(|| Box::new(aftermath))
    }
}

impl Aftermath {
    /// The calls of these requests belong to a trace.
    pub(super) fn belongs_to(&mut self, trace: Option<TraceContext>, requests: &[EffectRequest]) {
        let Some(trace) = trace else { return };
        let is_one = |call: &&mut Call| requests.iter().any(|it| it.name == call.effect && it.run == call.run);
        self.calls.iter_mut().filter(is_one).for_each(|call| call.trace = Some(Box::new(trace.clone())));
    }
}

fn rests(dealings: &Dealings, rules: &EntityRules) -> Vec<Rest> {
    let waits = |name: &str| rules.decisions.iter().find(|it| &*it.name == name)?.settle;
    let settling = dealings.settling.iter().filter_map(|name| Some((name, waits(name)?)));
    settling.map(|(name, wait)| Rest { decision: name.clone(), since: dealings.noise, wait }).collect()
}
