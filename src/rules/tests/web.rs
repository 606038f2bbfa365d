//! Random rules of entities that look at each other, wait, and call out; what they must come to, computed anew from the whole
//! set of events.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::model::number::Decimal;
use crate::model::time::{Span, Timestamp};
use crate::model::value::{Map, Value};

/// Something that can be read of an entity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Member {
    Value,
    Sum,
    Late,
    Derived(usize),
}

/// Where it is read: of the entity itself, or through one of its references.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub through: Option<usize>,
    pub member: Member,
}

#[derive(Clone, Copy, Debug)]
pub enum Form {
    Read(Operand),
    Has(Operand),
    OrZero(Operand),
    IsOne(Operand),
}

#[derive(Clone, Debug)]
pub struct DecisionSpec {
    pub when: Option<Form>,
    pub data: Vec<Form>,
    pub is_once: bool,
    pub settles: bool,
    pub has_elements: bool,
}

#[derive(Clone, Debug)]
pub struct EffectSpec {
    pub when: Form,
    pub says: Form,
    pub is_once: bool,
}

/// An entity type; the n-th is called `tn`.
#[derive(Clone, Debug)]
pub struct TypeSpec {
    /// The types its references are to.
    pub references: Vec<usize>,
    pub derived: Vec<Form>,
    /// Minutes after its first event, and unless when.
    pub deadline: Option<(i64, Option<Form>)>,
    pub decisions: Vec<DecisionSpec>,
    pub effect: Option<EffectSpec>,
}

#[derive(Clone, Debug)]
pub struct Web(pub Vec<TypeSpec>);

/// What an event says of a member of its data.
#[derive(Clone, Copy, Debug)]
pub enum Said<T> {
    Nothing,
    Null,
    Value(T),
}

impl<T> Said<T> {
    /// The JSON, if anything is said.
    pub fn json(self, value: impl FnOnce(T) -> String) -> Option<String> {
        match self {
            Said::Nothing => None,
            Said::Null => Some("null".to_owned()),
            Said::Value(it) => Some(value(it)),
        }
    }

    /// What the last of these that say anything says.
    fn latest(all: impl DoubleEndedIterator<Item = Said<T>>) -> Option<T> {
        match all.rev().find(|said| !matches!(said, Said::Nothing))? {
            Said::Value(it) => Some(it),
            Said::Nothing | Said::Null => None,
        }
    }
}

/// An event for an entity, and what it says.
#[derive(Clone, Debug)]
pub struct EventSpec {
    pub kind: usize,
    pub key: &'static str,
    pub minute: i64,
    pub value: Said<i64>,
    pub number: i64,
    pub to: [Said<&'static str>; 2],
}

impl Form {
    fn text(self, own: usize) -> String {
        let (Form::Read(it) | Form::Has(it) | Form::OrZero(it) | Form::IsOne(it)) = self;
        let root = it.through.map_or(format!("t{own}"), |at| format!("r{at}"));
        let name = match it.member {
            Member::Value => "v".to_owned(),
            Member::Sum => "s".to_owned(),
            Member::Late => "late".to_owned(),
            Member::Derived(at) => format!("d{at}"),
        };
        match self {
            Form::Read(_) => format!("{root}.{name}"),
            Form::Has(_) => format!("has({root}.{name})"),
            Form::OrZero(_) => format!("{root}.?{name}.orValue(0)"),
            Form::IsOne(_) => format!("{root}.{name} == 1"),
        }
    }
}

impl Web {
    fn reaches(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut open) = (vec![], vec![from]);
        while let Some(at) = open.pop() {
            if at == to {
                return true;
            }
            if !seen.contains(&at) {
                seen.push(at);
                open.extend(&self.0[at].references);
            }
        }
        false
    }

    /// The form, with nothing in it that is not there or may not be read: `below` bounds derived values.
    fn legal(&self, own: usize, form: Form, below: usize, may_be_late: bool) -> Form {
        let (Form::Read(it) | Form::Has(it) | Form::OrZero(it) | Form::IsOne(it)) = form;
        let through = it.through.filter(|at| *at < self.0[own].references.len());
        let target = through.map_or(own, |at| self.0[own].references[at]);
        let is_computed_shown = through.is_none() || !self.reaches(target, own);
        let member = match it.member {
            Member::Derived(at) if through.is_none() && at < below.min(self.0[own].derived.len()) => it.member,
            Member::Derived(at) if through.is_some() && is_computed_shown && at < self.0[target].derived.len() => {
                it.member
            }
            Member::Late
                if (through.is_some() || may_be_late) && is_computed_shown && self.0[target].deadline.is_some() =>
            {
                it.member
            }
            Member::Sum => Member::Sum,
            _ => Member::Value,
        };
        let it = Operand { through, member };
        match form {
            Form::Read(_) => Form::Read(it),
            Form::OrZero(_) => Form::OrZero(it),
            Form::IsOne(_) if matches!(member, Member::Value | Member::Sum) => Form::IsOne(it),
            Form::IsOne(_) | Form::Has(_) => Form::Has(it),
        }
    }

    fn condition(&self, own: usize, form: Form, below: usize, may_be_late: bool) -> Form {
        match self.legal(own, form, below, may_be_late) {
            Form::Read(it) | Form::OrZero(it) => Form::Has(it),
            form => form,
        }
    }

    fn legalized(self) -> Web {
        let all = usize::MAX;
        let types = self.0.iter().enumerate().map(|(own, raw)| TypeSpec {
            references: raw.references.clone(),
            derived: (0..).zip(&raw.derived).map(|(at, form)| self.legal(own, *form, at, true)).collect(),
            deadline: raw.deadline.map(|(after, unless)| (after, unless.map(|it| self.condition(own, it, 0, false)))),
            decisions: raw
                .decisions
                .iter()
                .map(|it| DecisionSpec {
                    when: it.when.map(|when| self.condition(own, when, all, true)),
                    data: it.data.iter().map(|form| self.legal(own, *form, all, true)).collect(),
                    ..it.clone()
                })
                .collect(),
            effect: raw.effect.as_ref().map(|it| EffectSpec {
                when: self.condition(own, it.when, all, true),
                says: self.legal(own, it.says, all, true),
                is_once: it.is_once,
            }),
        });
        Web(types.collect())
    }

    /// The configuration that says this.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (own, of) in self.0.iter().enumerate() {
            let value = |name: &str, take: &str| {
                format!("{name} = {{ on = \"E{own}\", take = \"{take}\", value = \"event.data.{name}\" }}\n")
            };
            let _ = write!(text, "[entity.t{own}]\nkey = \"event.subject\"\n[entity.t{own}.fields]\n");
            text += &[value("v", "latest"), value("s", "sum"), value("a", "latest"), value("b", "latest")].concat();
            let _ = writeln!(text, "at = {{ on = \"E{own}\", take = \"min\", value = \"event.time\" }}");
            for (at, (to, key)) in of.references.iter().zip(["a", "b"]).enumerate() {
                let _ = writeln!(text, "[entity.t{own}.ref.r{at}]\nentity = \"t{to}\"\nkey = \"t{own}.{key}\"");
            }
            let _ = writeln!(text, "[entity.t{own}.derived]");
            for (at, form) in of.derived.iter().enumerate() {
                let _ = writeln!(text, "d{at} = {:?}", form.text(own));
            }
            if let Some((after, unless)) = &of.deadline {
                let _ = writeln!(text, "[entity.t{own}.deadline.late]\nat = \"t{own}.at + duration('{after}m')\"");
                if let Some(it) = unless {
                    let _ = writeln!(text, "unless = {:?}", it.text(own));
                }
            }
            for (at, decision) in of.decisions.iter().enumerate() {
                let _ = writeln!(text, "[entity.t{own}.decision.D{at}]");
                if let Some(it) = &decision.when {
                    let _ = writeln!(text, "when = {:?}", it.text(own));
                }
                text += if decision.is_once { "policy = \"once\"\n" } else { "" };
                text += if decision.settles { "settle = \"10s\"\n" } else { "" };
                if decision.has_elements {
                    let _ = writeln!(text, "by = \"has(t{own}.v) ? [t{own}.v] : []\"");
                }
                let data = decision.data.iter().enumerate().map(|(at, it)| format!("m{at} = {:?}", it.text(own)));
                let _ = writeln!(text, "data = {{ {} }}", data.collect::<Vec<_>>().join(", "));
            }
            if let Some(effect) = &of.effect {
                let (when, says) = (effect.when.text(own), effect.says.text(own));
                let policy = if effect.is_once { "once" } else { "revise" };
                let _ = writeln!(text, "[entity.t{own}.effect.call]\nwhen = {when:?}\npolicy = \"{policy}\"");
                let _ = writeln!(text, "request = {{ url = \"http://h/\", json = {{ says = {says:?} }} }}");
            }
        }
        text
    }
}

/// What entities come to.
pub struct Oracle<'a> {
    web: &'a Web,
    /// By type and key, in the order of (time, id).
    events: BTreeMap<(usize, &'static str), Vec<(Timestamp, &'a EventSpec)>>,
}

impl<'a> Oracle<'a> {
    /// Of these events, each with its time; the n-th has the n-th id.
    pub fn new(web: &'a Web, events: &'a [(Timestamp, EventSpec)]) -> Self {
        let mut by_entity: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (time, event) in events {
            by_entity.entry((event.kind, event.key)).or_default().push((*time, event));
        }
        // Sorting is stable: ids of one time are in order already.
        for events in by_entity.values_mut() {
            events.sort_by_key(|(time, _)| *time);
        }
        Oracle { web, events: by_entity }
    }

    pub fn entities(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.events.keys().copied()
    }

    /// Where a reference points, and whether there is anything.
    pub fn target(
        &self,
        (kind, key): (usize, &'static str),
        reference: usize,
    ) -> Option<((usize, &'static str), bool)> {
        let events = &self.events[&(kind, key)];
        let to = Said::latest(events.iter().map(|(_, event)| event.to[reference]))?;
        let target = (self.web.0[kind].references[reference], to);
        Some((target, self.events.contains_key(&target)))
    }

    pub fn member(&self, entity: (usize, &'static str), member: Member) -> Option<Value> {
        let (events, of) = (&self.events[&entity], &self.web.0[entity.0]);
        match member {
            Member::Value => Said::latest(events.iter().map(|(_, event)| event.value)).map(Value::Int),
            Member::Sum => {
                let sum: i64 = events.iter().map(|(_, event)| event.number).sum();
                Some(Value::decimal(Decimal::from(sum)))
            }
            Member::Derived(at) => self.form(entity, of.derived[at]),
            Member::Late => {
                let (after, unless) = of.deadline?;
                let is_met = unless.is_some_and(|it| self.holds(entity, it));
                let at = events[0].0.plus(Span::from_nanos(i128::from(after) * 60_000_000_000)?)?;
                (!is_met).then_some(Value::Timestamp(at))
            }
        }
    }

    pub fn form(&self, entity: (usize, &'static str), form: Form) -> Option<Value> {
        let (Form::Read(it) | Form::Has(it) | Form::OrZero(it) | Form::IsOne(it)) = form;
        let value = match it.through {
            None => self.member(entity, it.member),
            Some(at) => {
                let target = self.target(entity, at).filter(|(_, is_there)| *is_there);
                target.and_then(|(target, _)| self.member(target, it.member))
            }
        };
        match form {
            Form::Read(_) => value,
            Form::Has(_) => Some(Value::Bool(value.is_some())),
            Form::OrZero(_) => Some(value.unwrap_or(Value::Int(0))),
            Form::IsOne(_) => value.map(|value| Value::Bool(value.equals(&Value::Int(1)))),
        }
    }

    pub fn holds(&self, entity: (usize, &'static str), form: Form) -> bool {
        self.form(entity, form).is_some_and(|value| value.equals(&Value::Bool(true)))
    }

    /// What a `revise` decision says in the end, by element.
    pub fn decision(&self, entity: (usize, &'static str), spec: &DecisionSpec) -> BTreeMap<Option<String>, Value> {
        let value = self.member(entity, Member::Value);
        let element = match (spec.has_elements, value) {
            (true, None) => return BTreeMap::new(),
            (true, Some(Value::Int(value))) => Some(value.to_string()),
            _ => None,
        };
        if spec.when.is_some_and(|when| !self.holds(entity, when)) {
            return BTreeMap::new();
        }
        let data = (0..).zip(&spec.data);
        let data: Map = data.filter_map(|(at, it)| Some((format!("m{at}").into(), self.form(entity, *it)?))).collect();
        BTreeMap::from([(element, Value::Map(data))])
    }
}

fn form() -> impl Strategy<Value = Form> {
    let member = prop_oneof![
        3 => Just(Member::Value),
        1 => Just(Member::Sum),
        2 => Just(Member::Late),
        3 => (0..3_usize).prop_map(Member::Derived),
    ];
    (0..4_usize, option::weighted(0.6, 0..2_usize), member).prop_map(|(form, through, member)| {
        let it = Operand { through, member };
        [Form::Read(it), Form::Has(it), Form::OrZero(it), Form::IsOne(it)][form]
    })
}

/// Random rules.
pub fn web() -> impl Strategy<Value = Web> {
    let decision = (option::of(form()), prop::collection::vec(form(), 0..3), 0..8_u8).prop_map(|(when, data, bits)| {
        let [is_once, settles, has_elements] = [1, 2, 4].map(|bit| bits & bit != 0);
        DecisionSpec { when, data, is_once: is_once && settles, settles, has_elements }
    });
    let effect = (form(), form(), any::<bool>()).prop_map(|(when, says, is_once)| EffectSpec { when, says, is_once });
    let of = (
        prop::collection::vec(any::<Index>(), 0..3),
        prop::collection::vec(form(), 0..3),
        option::weighted(0.6, (select(vec![-30_i64, 0, 7, 45]), option::of(form()))),
        prop::collection::vec(decision, 0..3),
        option::of(effect),
    );
    prop::collection::vec(of, 1..4).prop_map(|types| {
        let count = types.len();
        let types = types.into_iter().map(|(references, derived, deadline, decisions, effect)| TypeSpec {
            references: references.iter().map(|to| to.index(count)).collect(),
            derived,
            deadline,
            decisions,
            effect,
        });
        Web(types.collect()).legalized()
    })
}

/// Random events for these many types.
pub fn events() -> impl Strategy<Value = Vec<EventSpec>> {
    let keys = || select(vec!["k0", "k1"]);
    let to = || prop_oneof![4 => Just(Said::Nothing), 1 => Just(Said::Null), 5 => keys().prop_map(Said::Value)];
    let value = prop_oneof![1 => Just(Said::Nothing), 1 => Just(Said::Null), 4 => (1..3_i64).prop_map(Said::Value)];
    let event = (any::<Index>(), keys(), select(vec![0_i64, 5, 10, 30]), value, -2..3_i64, [to(), to()]);
    prop::collection::vec(event, 1..10).prop_map(|events| {
        let events = events.into_iter().map(|(kind, key, minute, value, number, to)| EventSpec {
            kind: kind.index(6),
            key,
            minute,
            value,
            number,
            to,
        });
        events.collect()
    })
}
