//! A node in memory, without journal, store or clock: entities, the letters between them, what is due when, calls that wait
//! for an answer. Inputs in, states changed, what came of it out. Tests of rules and shuffles run on it.
//!
//! Time is what the caller says it is. A letter arrives when it is delivered: in the order sent, or in any other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::admit::{Ruleset, Taken};
use super::conclude::is_noise;
use super::decide::{Decided, Verdict, decide, decide_inside};
use super::evolve::evolve;
use super::messages::messages;
use crate::model::codec::CodecError;
use crate::model::dealings::{Call, Dealings, EffectOutcome};
use crate::model::ids::EntityKey;
use crate::model::life::EXPIRE;
use crate::model::outbox::{Letter, Outgoing};
use crate::model::record::{Input, Record};
use crate::model::refusal::Refusal;
use crate::model::state::State;
use crate::model::time::Timestamp;

/// So much may follow by itself in one go; rules that need more never come to rest.
const STEPS_MAX: u32 = 1_000_000;

/// What came of an event.
#[derive(Debug)]
pub enum Came {
    Counted(Box<Decided>),
    Duplicate,
    Conflict,
}

/// What is around the entities: it hears of what follows by itself, and answers calls.
pub trait Around {
    /// What becomes of a call; none: it stays asked for.
    fn answer(&mut self, _: &Call) -> Option<EffectOutcome> {
        None
    }

    /// Something was decided.
    fn hear(&mut self, _: &Decided) {}

    /// A decision came back to its entity, whose rules refuse it as an event.
    fn refused(&mut self, _: &EntityKey, _: &Refusal) {}
}

/// Nobody answers, and nobody hears.
impl Around for () {}

/// Whether everything that follows by itself did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Reached,
    /// There was no end to it.
    Never,
}

/// States of entities, those that nothing was heard of have none; and what is under way.
#[derive(Debug)]
pub struct Machine {
    ruleset: Arc<Ruleset>,
    states: BTreeMap<EntityKey, State>,
    now: Timestamp,
    letters: VecDeque<Outgoing>,
    calls: VecDeque<Call>,
    /// When entities have something to do by themselves, the soonest first.
    wakes: BTreeSet<(Timestamp, EntityKey)>,
    alarms: HashMap<EntityKey, Alarm>,
    /// Whether entities expire.
    expires: bool,
}

/// What time means to an entity.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    wake: Option<Timestamp>,
    /// The last time when there was noise.
    noise: Timestamp,
}

impl Alarm {
    fn set(&mut self, wake: Option<Timestamp>, entity: &EntityKey, wakes: &mut BTreeSet<(Timestamp, EntityKey)>) {
        if wake != self.wake {
            self.wake.map(|at| wakes.remove(&(at, entity.clone())));
            self.wake = wake;
            wakes.extend(wake.map(|at| (at, entity.clone())));
        }
    }
}

impl Machine {
    /// Entities that nothing was heard of yet.
    pub fn new(ruleset: Arc<Ruleset>) -> Self {
        Machine {
            ruleset,
            states: BTreeMap::new(),
            now: Timestamp::default(),
            letters: VecDeque::new(),
            calls: VecDeque::new(),
            wakes: BTreeSet::new(),
            alarms: HashMap::new(),
            expires: true,
        }
    }

    /// All entities, those among them that others only wait for.
    pub fn states(&self) -> &BTreeMap<EntityKey, State> {
        &self.states
    }

    /// The rules at work.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The time as far as it has come.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Has the entity handle what it takes of an event. What follows from it elsewhere is under way then.
    pub fn apply(&mut self, taken: Box<Taken>, now: Timestamp) -> Came {
        self.now = now;
        let entity = taken.entity.clone();
        let state = self.states.entry(entity.clone()).or_default();
        let prior = state.identities.get(taken.identity).map(|seen| seen.payload);
        match decide(state, taken, prior, now) {
            Verdict::Record(decided) => {
                evolve(state, &decided.record);
                // Most entities have nothing to do with others or with time.
                let has_more = state.dealings.is_some() || !decided.record.feedback.is_empty();
                if has_more || !self.alarms.is_empty() {
                    self.follow(&entity, &decided.record);
                }
                Came::Counted(decided)
            }
            Verdict::Duplicate => Came::Duplicate,
            Verdict::Conflict => Came::Conflict,
        }
    }

    /// Has the entity handle an input from inside, now. `None` where that says nothing new.
    pub fn handle(&mut self, entity: &EntityKey, input: Input) -> Option<Decided> {
        let rules = self.ruleset.get(entity.kind())?.clone();
        let state = self.states.entry(entity.clone()).or_default();
        let decided = decide_inside(&rules, entity.clone(), state, input, self.now)?;
        evolve(state, &decided.record);
        self.follow(entity, &decided.record);
        Some(decided)
    }

    /// What is set off by a record.
    fn follow(&mut self, entity: &EntityKey, record: &Record) {
        let state = &self.states[entity];
        self.letters.extend(messages(self.ruleset.server(), state, record));
        let asked = record.effects.iter().filter_map(|asked| state.dealings.as_deref()?.effect(&asked.name));
        self.calls.extend(asked.map(|effect| effect.call(entity, &state.correlation)));
        if state.dealings.is_some() || self.alarms.contains_key(entity) {
            let alarm = self.alarms.entry(entity.clone()).or_insert(Alarm { wake: None, noise: self.now });
            if is_noise(&record.input) {
                alarm.noise = self.now;
            }
            let wake = next(&self.ruleset, entity, state, alarm.noise, self.expires).map(|(at, _)| at);
            alarm.set(wake, entity, &mut self.wakes);
        }
    }

    /// Letters under way, in the order sent.
    pub fn letters(&self) -> &VecDeque<Outgoing> {
        &self.letters
    }

    /// Takes a letter out of those under way, by its place.
    pub fn take_letter(&mut self, at: usize) -> Option<Outgoing> {
        self.letters.remove(at)
    }

    /// A letter arrives now.
    pub fn arrive(&mut self, letter: Outgoing, around: &mut dyn Around) {
        let Outgoing { to, letter, version } = letter;
        let decided = match letter {
            Letter::Message(received) => self.handle(&to, Input::Message(received)),
            Letter::Event { .. } if self.states.get(&to).is_some_and(|state| version <= state.ended()) => None,
            Letter::Event { event, hops } => match self.ruleset.take_back(&to, &event.unpack(), hops) {
                Ok(Some(taken)) => match self.apply(taken, self.now) {
                    Came::Counted(decided) => Some(*decided),
                    Came::Duplicate | Came::Conflict => None,
                },
                Ok(None) => None,
                Err(refusal) => {
                    around.refused(&to, &refusal);
                    None
                }
            },
        };
        if let Some(decided) = &decided {
            around.hear(decided);
        }
    }

    /// Takes the call that was asked for first.
    pub fn take_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// A call is made, and this becomes of it.
    pub fn end(&mut self, call: &Call, outcome: EffectOutcome, around: &mut dyn Around) {
        let (run, effect) = (call.run, || call.effect.clone());
        let started = Input::Started { effect: effect(), run, attempt: 1 };
        let ended = Input::Ended { effect: effect(), run, outcome: Box::new(outcome) };
        for input in [started, ended] {
            if let Some(decided) = self.handle(&call.entity, input) {
                around.hear(&decided);
            }
        }
    }

    /// When something is due next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// What is due next happens, if that is not later than `until`. Returns whether it did.
    pub fn wake(&mut self, until: Timestamp, around: &mut dyn Around) -> bool {
        let Some((at, entity)) = self.wakes.first().filter(|(at, _)| *at <= until).cloned() else { return false };
        self.now = self.now.max(at);
        let noise = self.alarms.get(&entity).map_or(at, |alarm| alarm.noise);
        let due = self.states.get(&entity).and_then(|state| next(&self.ruleset, &entity, state, noise, self.expires));
        let decided = due.and_then(|(_, input)| self.handle(&entity, input));
        assert!(decided.is_some(), "what is due at {at} says nothing to {entity}");
        if let Some(decided) = &decided {
            around.hear(decided);
        }
        true
    }

    /// Everything that follows by itself until `until` happens: letters arrive in the order sent, calls are answered,
    /// deadlines and rests come when they are due. Then it is `until`.
    pub fn advance(&mut self, until: Timestamp, around: &mut dyn Around) -> Rest {
        let rest = self.go_on(until, around);
        self.now = self.now.max(until);
        rest
    }

    /// The same, for as long as there is anything to happen; nothing expires, or nothing would be left.
    pub fn finish(&mut self, around: &mut dyn Around) -> Rest {
        self.expires = false;
        for (entity, alarm) in &mut self.alarms {
            let wake = next(&self.ruleset, entity, &self.states[entity], alarm.noise, self.expires);
            alarm.set(wake.map(|(at, _)| at), entity, &mut self.wakes);
        }
        self.go_on(Timestamp::MAX, around)
    }

    fn go_on(&mut self, until: Timestamp, around: &mut dyn Around) -> Rest {
        for _ in 0..STEPS_MAX {
            if let Some(letter) = self.letters.pop_front() {
                self.arrive(letter, around);
            } else if let Some(call) = self.calls.pop_front() {
                if let Some(outcome) = around.answer(&call) {
                    self.end(&call, outcome, around);
                }
            } else if !self.wake(until, around) {
                return Rest::Reached;
            }
        }
        Rest::Never
    }

    /// Brings every state to its stored form and back, as passivation and a restart do.
    ///
    /// # Errors
    /// When a state is not read as it was written.
    pub fn reload(&mut self) -> Result<(), CodecError> {
        for state in self.states.values_mut() {
            *state = State::decode(&state.encode())?;
        }
        Ok(())
    }
}

/// What an entity does by itself next, and when.
fn next(
    ruleset: &Ruleset,
    entity: &EntityKey,
    state: &State,
    noise: Timestamp,
    expires: bool,
) -> Option<(Timestamp, Input)> {
    let dealings: &Dealings = state.dealings.as_deref()?;
    let standing = dealings.deadlines.iter().filter(|it| !it.times.has_passed && (expires || *it.name != *EXPIRE));
    let dues = standing.map(|it| (it.times.due, Input::Due { name: it.name.clone(), at: it.times.at }));
    let rules = ruleset.get(entity.kind())?;
    let settling = rules.decisions.iter().filter(|it| dealings.settling.contains(&it.name));
    let rests = settling.filter_map(|it| {
        let quiet = Input::Quiet { decision: it.name.clone(), since: dealings.noise };
        Some((noise.after(it.settle?), quiet))
    });
    dues.chain(rests).min_by_key(|(at, _)| *at)
}
