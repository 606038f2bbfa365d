//! Which rule makes an outcome depend on the order, why, and what to write instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compare::{Part, standing};
use super::group::{Group, Times, Unit};
use super::shrink::{Pair, Shrinker};
use crate::config::{Config, EntityType, Location, Policy};
use crate::model::codec::CodecError;
use crate::model::state::LsnBook;
use crate::model::value::Value;
use crate::rules::{Came, Document, EntityRules, Machine, Ruleset};

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
    pub group: &'a Group,
    pub part: &'a Part,
    pub pair: &'a Pair,
    pub unit: Unit,
}

impl Inquiry<'_> {
    /// Finds the cause, by trying what makes the difference go away.
    ///
    /// # Errors
    /// When a state is not read as it was stored.
    pub fn blame(&self) -> Result<Blame, CodecError> {
        if !Shrinker::new(self.group, self.ruleset, self.part).differs(self.pair, Times::Fixed)? {
            return Ok(self.no_time());
        }
        if let Some(blame) = self.lapsed().or_else(|| self.two_payloads()) {
            return Ok(blame);
        }
        let rules = self.ruleset.get(self.group.entity.kind());
        let decision = rules.and_then(|rules| rules.decisions.iter().find(|known| *known.name == *self.part.name()));
        Ok(match (self.part, rules, decision) {
            (Part::Decision(_), Some(rules), Some(decision)) if decision.policy == Policy::Once => {
                self.once(rules, &decision.reads)?
            }
            (Part::Decision(_), Some(rules), Some(_)) => self.went_wrong(rules)?,
            _ => self.of_part(
                "no rule is known to make a merged value depend on the order".into(),
                "nothing: this is a mistake in Turnstile; please report it with these events".into(),
            ),
        })
    }

    fn declared(&self) -> Option<&EntityType> {
        self.config.entities.iter().find(|declared| declared.name.value == self.group.entity.kind())
    }

    fn of_type(&self, why: String, instead: String) -> Blame {
        let at = self.declared().map(|declared| declared.name.at);
        Blame { rule: format!("entity.{}", self.group.entity.kind()), at, why, instead }
    }

    fn of_part(&self, why: String, instead: String) -> Blame {
        let name = self.part.name();
        let table = match self.part {
            Part::Field(_) => "fields",
            Part::Derived(_) => "derived",
            Part::Decision(_) => "decision",
        };
        let at = self.declared().and_then(|declared| {
            let names: Vec<_> = match self.part {
                Part::Field(_) => declared.fields.iter().map(|field| &field.name).collect(),
                Part::Derived(_) => declared.derived.iter().map(|(name, _)| name).collect(),
                Part::Decision(_) => declared.decisions.iter().map(|decision| &decision.name).collect(),
            };
            names.into_iter().find(|known| known.value == name).map(|known| known.at)
        });
        let rule = format!("entity.{}.{table}.{name}", self.group.entity.kind());
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
        let window = self.group.events.first()?.taken.rules.dedupe?;
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

    /// A decision that is made for good before all that it reads has come.
    fn once(&self, rules: &EntityRules, reads: &[u16]) -> Result<Blame, CodecError> {
        let mut late = BTreeSet::new();
        let mut made = [false; 2];
        for (order, made) in [&self.pair.first, &self.pair.second].into_iter().zip(&mut made) {
            let mut machine = Machine::new(self.ruleset.clone());
            self.group.each(self.ruleset, order, Times::OfArrival, |taken, now, _| {
                let slots: Vec<u16> = taken.merges.iter().map(|merge| merge.slot).collect();
                if *made {
                    late.extend(slots.into_iter().filter(|slot| reads.contains(slot)));
                }
                if let Came::Counted(decided) = machine.apply(taken, now) {
                    *made |= decided.record.decisions.iter().any(|revision| *revision.name == *self.part.name());
                }
                Ok(())
            })?;
        }
        let names: Vec<&str> = late.iter().filter_map(|slot| rules.member_names().nth(usize::from(*slot))).collect();
        let kind = &rules.name;
        let what = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let why = if made == [true; 2] {
            format!(
                "with policy = \"once\" it says for good what was known when it was first made; {what} came or changed later"
            )
        } else {
            format!(
                "with policy = \"once\" it stays even though `when` was true for a while only, until {what} came or changed"
            )
        };
        let revise = "policy = \"revise\": a revision follows when what it says changes";
        // Waiting helps only with what comes once; what changes may always change again.
        let comes_once = |slot: &u16| {
            let merges = |event: usize| self.group.events[event].taken.merges.iter().any(|merge| merge.slot == *slot);
            self.pair.first.iter().filter(|arrival| merges(arrival.event)).count() == 1
        };
        if made == [true; 2] && !late.is_empty() && late.iter().all(comes_once) {
            let has: Vec<String> = names.iter().map(|name| format!("has({kind}.{name})")).collect();
            let has = has.join(" && ");
            let when = self.declared().and_then(|it| it.decisions.iter().find(|it| it.name.value == self.part.name()));
            let when = match when.and_then(|decision| decision.when.as_ref()) {
                Some(when) => format!("({}) && {has}", when.trim()),
                None => has,
            };
            return Ok(self.of_part(why, format!("{revise}; or let it wait: when = \"{when}\"")));
        }
        Ok(self.of_part(why, revise.into()))
    }

    /// A decision that cannot be evaluated in the end: what it said before stays.
    fn went_wrong(&self, rules: &EntityRules) -> Result<Blame, CodecError> {
        let machine = self.group.run(self.ruleset, &self.pair.first, Times::OfArrival)?;
        let error = machine.states().get(&self.group.entity).and_then(|state| {
            let document = Document::new(rules, self.group.entity.key(), state, &LsnBook::default());
            let Some(Value::Map(errors)) = document.get("errors") else { return None };
            Some(errors.get(self.part.name())?.as_str()?.to_owned())
        });
        let stands =
            machine.states().get(&self.group.entity).is_some_and(|it| standing(it, self.part.name()).is_some());
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
