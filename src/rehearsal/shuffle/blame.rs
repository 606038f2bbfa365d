//! Which rule makes an outcome depend on the order, why, and what to write instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compare::{Part, Subject, says};
use super::group::{Group, Times, Unit};
use super::shrink::{Pair, Shrinker};
use crate::config::{Config, EntityType, Location, Policy};
use crate::model::codec::CodecError;
use crate::model::state::LsnBook;
use crate::model::value::Value;
use crate::rules::{Decided, Document, EntityRules, Fickle, Ruleset, touched};

/// A rule, and what is to be known of it.
#[derive(Clone, Debug)]
pub struct Blame {
    /// Its path in the configuration.
    pub rule: String,
    /// Where it is written.
    pub at: Option<Location>,
    pub why: String,
    /// What to write instead.
    pub instead: String,
}

/// What is looked at to find the cause of a pair that cannot be made smaller.
pub struct Inquiry<'a> {
    pub config: &'a Config,
    pub ruleset: &'a Arc<Ruleset>,
    pub fickle: &'a Fickle,
    pub group: &'a Group,
    pub subject: &'a Subject,
    pub pair: &'a Pair,
    pub unit: Unit,
}

impl Inquiry<'_> {
    /// Finds the cause, by trying what makes the difference go away.
    ///
    /// # Errors
    /// When a state is not read as it was stored.
    pub fn blame(&self) -> Result<Blame, CodecError> {
        if !Shrinker::new(self.group, self.ruleset, self.fickle, self.subject).differs(self.pair, Times::Fixed)? {
            return Ok(self.no_time());
        }
        if let Some(blame) = self.lapsed().or_else(|| self.two_payloads()) {
            return Ok(blame);
        }
        let nobody = || {
            self.of_part(
                "no rule is known to make what it comes to depend on the order".into(),
                "nothing: this is a mistake in Turnstile; please report it with these events".into(),
            )
        };
        let Some(rules) = self.ruleset.get(self.subject.entity.kind()) else { return Ok(nobody()) };
        let name = self.subject.part.name();
        match &self.subject.part {
            Part::Decision(_) => match rules.decisions.iter().find(|known| *known.name == *name) {
                Some(decision) if decision.policy == Policy::Once => self.once(rules, &decision.reads),
                Some(_) => self.went_wrong(rules),
                None => Ok(nobody()),
            },
            Part::Effect(_) => match rules.effects.iter().find(|known| *known.name == *name) {
                Some(effect) if effect.policy == Policy::Once => self.once(rules, &effect.reads),
                _ => Ok(nobody()),
            },
            Part::Field(_) | Part::Derived(_) | Part::Deadline(_) => Ok(nobody()),
        }
    }

    fn declared(&self) -> Option<&EntityType> {
        self.config.entities.iter().find(|declared| declared.name.value == self.subject.entity.kind())
    }

    fn of_type(&self, why: String, instead: String) -> Blame {
        let at = self.declared().map(|declared| declared.name.at);
        Blame { rule: format!("entity.{}", self.subject.entity.kind()), at, why, instead }
    }

    fn of_part(&self, why: String, instead: String) -> Blame {
        let name = self.subject.part.name();
        let table = match self.subject.part {
            Part::Field(_) => "fields",
            Part::Derived(_) => "derived",
            Part::Deadline(_) => "deadline",
            Part::Effect(_) => "effect",
            Part::Decision(_) => "decision",
        };
        let at = self.declared().and_then(|declared| {
            let names: Vec<_> = match self.subject.part {
                Part::Field(_) => declared.fields.iter().map(|field| &field.name).collect(),
                Part::Derived(_) => declared.derived.iter().map(|(name, _)| name).collect(),
                Part::Deadline(_) => declared.deadlines.iter().map(|deadline| &deadline.name).collect(),
                Part::Effect(_) => declared.effects.iter().map(|effect| &effect.name).collect(),
                Part::Decision(_) => declared.decisions.iter().map(|decision| &decision.name).collect(),
            };
            names.into_iter().find(|known| known.value == name).map(|known| known.at)
        });
        let rule = format!("entity.{}.{table}.{name}", self.subject.entity.kind());
        Blame { rule, at, why, instead }
    }

    fn named(&self, events: impl Iterator<Item = usize>) -> String {
        let numbers: BTreeSet<u64> = events.map(|event| self.group.events[event].number).collect();
        numbers.into_iter().map(|number| self.unit.of(number)).collect::<Vec<_>>().join(", ")
    }

    fn no_time(&self) -> Blame {
        let arrived = self.pair.first.iter().map(|arrival| arrival.event);
        let events = self.named(arrived.filter(|event| self.group.events[*event].is_timeless()));
        self.of_part(
            format!("it goes by the time of events, and {events} came without one: theirs is when they arrive"),
            "send `time` with every event, and refuse what has none: require_time = true; or go by something in the \
             event: order_by = \"event.data.…\""
                .into(),
        )
    }

    /// An identity that was forgotten before it came again.
    fn lapsed(&self) -> Option<Blame> {
        let window = self.ruleset.get(self.subject.entity.kind())?.dedupe?;
        let window_ms = u64::try_from(window.as_millis()).ok()?;
        let orders = [&self.pair.first, &self.pair.second];
        let order = orders.into_iter().find(|order| order.iter().any(|arrival| arrival.pause_ms > window_ms))?;
        let repeated = order.iter().map(|arrival| arrival.event);
        let again = repeated.filter(|event| order.iter().filter(|arrival| arrival.event == *event).count() > 1);
        let events = self.named(again);
        Some(self.of_type(
            format!("its `dedupe` window was over when {events} came again, so it counted twice"),
            "a longer `dedupe`, or none: then identities are remembered as long as the entity; or a `take` to which a \
             repeat makes no difference: latest, first, min, max, set"
                .into(),
        ))
    }

    /// One identity with two payloads, where that is no conflict.
    fn two_payloads(&self) -> Option<Blame> {
        let events: BTreeSet<usize> = self.pair.first.iter().map(|arrival| arrival.event).collect();
        let identity = |event: &usize| self.group.events[*event].taken.identity;
        let both = events.iter().find_map(|event| {
            let other = events.range(event + 1..).find(|other| identity(other) == identity(event))?;
            Some([*event, *other])
        })?;
        Some(self.of_type(
            format!(
                "with duplicates = \"lenient\" the first payload of an identity counts, and {} have the same identity",
                self.named(both.into_iter())
            ),
            "duplicates = \"strict\", which refuses the second payload and says so; or an identity of its own for each: \
             id = \"event.id + '/' + hash(event.data)\""
                .into(),
        ))
    }

    /// A decision that is made, or a call that is asked for, for good before all that it reads has come.
    fn once(&self, rules: &EntityRules, reads: &[u16]) -> Result<Blame, CodecError> {
        let Subject { entity, part } = self.subject;
        let is_effect = matches!(part, Part::Effect(_));
        let mut late = BTreeSet::new();
        let mut made = [false; 2];
        for (order, made) in [&self.pair.first, &self.pair.second].into_iter().zip(&mut made) {
            self.group.observe(self.ruleset, order, Times::OfArrival, |Decided { record, .. }| {
                if record.entity != *entity {
                    return;
                }
                if *made {
                    late.extend(touched(rules, record).into_iter().filter(|unit| reads.contains(unit)));
                }
                *made |= if is_effect {
                    record.effects.iter().any(|request| *request.name == *part.name())
                } else {
                    record.decisions.iter().any(|revision| *revision.name == *part.name())
                };
            })?;
        }
        let names: Vec<&str> = late.iter().filter_map(|unit| rules.unit_name(*unit)).collect();
        let what = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let says = if is_effect { "asks for good for" } else { "says for good" };
        let first = if is_effect { "asked for" } else { "made" };
        let why = if made == [true; 2] {
            format!(
                "with policy = \"once\" it {says} what was known when it was first {first}; {what} came or changed later"
            )
        } else {
            format!(
                "with policy = \"once\" it stays even though `when` was true for a while only, until {what} came or changed"
            )
        };
        let revise = if is_effect {
            "policy = \"revise\": it is called again when what it asks for changes"
        } else {
            "policy = \"revise\": a revision follows when what it says changes"
        };
        if made == [true; 2]
            && let Some(when) = self.waiting_when(rules, &late)
        {
            return Ok(self.of_part(why, format!("{revise}; or let it wait: when = \"{when}\"")));
        }
        Ok(self.of_part(why, revise.into()))
    }

    /// A condition that waits for fields too; none where that does not help: what changes may always change again.
    fn waiting_when(&self, rules: &EntityRules, late: &BTreeSet<u16>) -> Option<String> {
        let entity = &self.subject.entity;
        let comes_once = |slot: &u16| {
            let merges = |event: usize| {
                let taken = &self.group.events[event].taken;
                taken.entity == *entity && taken.merges.iter().any(|merge| merge.slot == *slot)
            };
            self.pair.first.iter().filter(|arrival| merges(arrival.event)).count() == 1
        };
        if late.is_empty() || !late.iter().all(|unit| usize::from(*unit) < rules.fields.len() && comes_once(unit)) {
            return None;
        }
        let names = late.iter().filter_map(|unit| rules.unit_name(*unit));
        let has: Vec<String> = names.map(|name| format!("has({}.{name})", rules.name)).collect();
        let has = has.join(" && ");
        let name = self.subject.part.name();
        let declared = self.declared()?;
        let when = match self.subject.part {
            Part::Effect(_) => declared.effects.iter().find(|it| it.name.value == name)?.when.as_ref(),
            _ => declared.decisions.iter().find(|it| it.name.value == name)?.when.as_ref(),
        };
        Some(match when {
            Some(when) => format!("({}) && {has}", when.trim()),
            None => has,
        })
    }

    /// A decision that cannot be evaluated in the end: what it said before stays.
    fn went_wrong(&self, rules: &EntityRules) -> Result<Blame, CodecError> {
        let machine = self.group.run(self.ruleset, &self.pair.first, Times::OfArrival)?;
        let error = machine.states().get(&self.subject.entity).and_then(|state| {
            let document = Document::new(rules, self.subject.entity.key(), state, &LsnBook::default());
            let Some(Value::Map(errors)) = document.get("errors") else { return None };
            Some(errors.get(self.subject.part.name())?.as_str()?.to_owned())
        });
        let stands =
            machine.states().get(&self.subject.entity).is_some_and(|it| says(it, self.subject.part.name()).is_some());
        let before = if stands { "what it said before stays" } else { "it is not made" };
        let error = error.map_or(String::new(), |error| format!(" ({error})"));
        Ok(self.of_part(
            format!("in the end it cannot be evaluated{error}: {before}, and in the other order it is otherwise"),
            "expressions that have a value in every state: ask for what they cannot do without, as in \
             `x != 0 && y / x > 2`"
                .into(),
        ))
    }
}
