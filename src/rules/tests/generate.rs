//! Random rules, as what they mean and as the text that says so; random events, as sources could send them.

use std::fmt::Write;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::time;
use crate::config::glob_matches;
use crate::model::event::{Event, TimeGiven};
use crate::model::json;
use crate::model::number::Decimal;
use crate::model::value::{Map, Value};

/// A field: `take` and the rest, each part out of a few that the oracle knows too.
#[derive(Clone, Debug)]
pub struct FieldSpec {
    pub take: &'static str,
    pub on: &'static [&'static str],
    pub keep: Option<usize>,
    pub value: Source,
    pub order: Option<Order>,
    pub condition: Option<Condition>,
    pub by: Option<By>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    Data,
    Member,
    Number,
    Time,
    OrNone,
    Pair,
}

#[derive(Clone, Copy, Debug)]
pub enum Order {
    Member,
    Source,
}

#[derive(Clone, Copy, Debug)]
pub enum Condition {
    IsA,
    HasNumber,
}

#[derive(Clone, Copy, Debug)]
pub enum By {
    Member,
    Type,
}

/// A derived value of fields, or of the derived value before it.
#[derive(Clone, Debug)]
pub enum DerivedSpec {
    Has(usize),
    OrNone(usize),
    Same(usize),
    Both(usize, usize),
    Pick(usize, usize),
    NotPrevious,
}

/// A decision: made when this member is there, says these fields.
#[derive(Clone, Debug)]
pub struct DecisionSpec {
    pub when: Option<usize>,
    pub data: Vec<usize>,
    pub is_one_value: bool,
    pub is_once: bool,
}

#[derive(Clone, Debug)]
pub struct RulesSpec {
    pub fields: Vec<FieldSpec>,
    pub derived: Vec<DerivedSpec>,
    pub complete: Vec<usize>,
    pub decisions: Vec<DecisionSpec>,
    pub overrides_id: bool,
}

impl FieldSpec {
    pub fn takes(&self, kind: &str) -> bool {
        self.on.iter().any(|glob| glob_matches(glob, kind))
    }

    /// Whether rules see something even before anything was merged.
    pub fn start(&self) -> Option<Value> {
        match self.take {
            _ if self.by.is_some() => Some(Value::Map(Map::default())),
            "count" => Some(Value::Int(0)),
            "sum" => Some(Value::decimal(Decimal::zero())),
            "set" | "list" => Some(Value::List(Vec::new())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{{ on = {:?}, take = {:?}", self.on, self.take);
        let value = match self.value {
            _ if self.take == "count" => None,
            Source::Data => None,
            Source::Member => Some("event.data.v"),
            Source::Number => Some("event.data.n"),
            Source::Time => Some("event.time"),
            Source::OrNone => Some("event.?data.?v.orValue('none')"),
            Source::Pair => Some("[event.data.v, event.type]"),
        };
        let order = self.order.map(|order| match order {
            Order::Member => "event.data.o",
            Order::Source => "event.source",
        });
        let condition = self.condition.map(|condition| match condition {
            Condition::IsA => "event.data.b == 'a'",
            Condition::HasNumber => "has(event.data.n)",
        });
        let by = self.by.map(|by| match by {
            By::Member => "event.data.b",
            By::Type => "event.type",
        });
        for (name, part) in [("value", value), ("order_by", order), ("if", condition), ("by", by)] {
            if let Some(part) = part {
                let _ = write!(text, ", {name} = {part:?}");
            }
        }
        if let Some(keep) = self.keep {
            let _ = write!(text, ", keep = {keep}");
        }
        text + " }"
    }
}

impl RulesSpec {
    /// The configuration that says this.
    pub fn text(&self) -> String {
        let mut text = "[entity.e]\nkey = \"event.?data.?k.orValue('none')\"\n".to_owned();
        if self.overrides_id {
            text += "id = \"event.id + '!'\"\n";
        }
        text += "[entity.e.fields]\n";
        for (n, field) in self.fields.iter().enumerate() {
            let _ = writeln!(text, "f{n} = {}", field.text());
        }
        text += "[entity.e.derived]\n";
        for (n, derived) in self.derived.iter().enumerate() {
            let expr = match derived {
                DerivedSpec::Has(a) => format!("has(e.f{a})"),
                DerivedSpec::OrNone(a) => format!("e.?f{a}.orValue('none')"),
                DerivedSpec::Same(a) => format!("e.f{a} == e.f{a}"),
                DerivedSpec::Both(a, b) => format!("has(e.f{a}) && has(e.f{b})"),
                DerivedSpec::Pick(a, b) => format!("has(e.f{a}) ? e.f{b} : 'no'"),
                DerivedSpec::NotPrevious if n == 0 => "!false".to_owned(),
                DerivedSpec::NotPrevious => format!("!has(e.d{})", n - 1),
            };
            let _ = writeln!(text, "d{n} = {expr:?}");
        }
        let complete: Vec<String> = self.complete.iter().map(|n| format!("f{n}")).collect();
        if !complete.is_empty() {
            let _ = writeln!(text, "[entity.e.complete]\nfields = {complete:?}");
        }
        for (n, decision) in self.decisions.iter().enumerate() {
            let _ = writeln!(text, "[entity.e.decision.D{n}]");
            if let Some(at) = decision.when {
                let _ = writeln!(text, "when = {:?}", format!("has(e.{})", self.member(at)));
            }
            if decision.is_once {
                text += "policy = \"once\"\n";
            }
            let entries = decision.data.iter().map(|at| (at, self.member(*at)));
            match decision.data.as_slice() {
                [only] if decision.is_one_value => {
                    let _ = writeln!(text, "data = {:?}", format!("e.{}", self.member(*only)));
                }
                [] => {}
                _ => {
                    let entries: Vec<_> = entries.map(|(at, name)| format!("m{at} = \"e.{name}\"")).collect();
                    let _ = writeln!(text, "data = {{ {} }}", entries.join(", "));
                }
            }
        }
        text
    }

    fn member(&self, at: usize) -> String {
        match at.checked_sub(self.fields.len()) {
            None => format!("f{at}"),
            Some(derived) => format!("d{derived}"),
        }
    }
}

fn field() -> impl Strategy<Value = FieldSpec> {
    let takes = select(vec!["first", "latest", "min", "max", "sum", "count", "set", "list", "list", "latest"]);
    let ons: Vec<&'static [&'static str]> = vec![&["A"], &["A", "B"], &["*"], &["*"], &["B*", "A"]];
    let value = select(vec![Source::Member, Source::Number, Source::Time, Source::OrNone, Source::Pair, Source::Data]);
    (
        takes,
        select(ons),
        option::of(1_usize..4),
        value,
        option::of(select(vec![Order::Member, Order::Source])),
        option::weighted(0.2, select(vec![Condition::IsA, Condition::HasNumber])),
        option::weighted(0.3, select(vec![By::Member, By::Type])),
    )
        .prop_map(|(take, on, keep, value, order, condition, by)| FieldSpec {
            take,
            on,
            keep: keep.filter(|_| take == "list"),
            value: match take {
                "sum" => Source::Number,
                "min" | "max" if matches!(value, Source::Pair | Source::Data) => Source::Member,
                _ => value,
            },
            order: order.filter(|_| matches!(take, "first" | "latest" | "list")),
            condition,
            by,
        })
}

/// Random rules.
pub fn rules() -> impl Strategy<Value = RulesSpec> {
    let derived = prop::collection::vec((0..6, any::<Index>(), any::<Index>()), 0..4);
    let decisions = prop::collection::vec(
        (option::of(any::<Index>()), prop::collection::btree_set(0..5_usize, 0..3), any::<bool>(), any::<bool>()),
        0..4,
    );
    let fields = prop::collection::vec(field(), 1..6);
    let complete = prop::collection::btree_set(0..6_usize, 0..4);
    (fields, derived, complete, decisions, any::<bool>()).prop_map(
        |(fields, derived, complete, decisions, overrides_id)| {
            let count = fields.len();
            let derived: Vec<_> = derived
                .into_iter()
                .map(|(form, a, b)| {
                    let (a, b) = (a.index(count), b.index(count));
                    match form {
                        0 => DerivedSpec::Has(a),
                        1 => DerivedSpec::OrNone(a),
                        2 => DerivedSpec::Same(a),
                        3 => DerivedSpec::Both(a, b),
                        4 => DerivedSpec::Pick(a, b),
                        _ => DerivedSpec::NotPrevious,
                    }
                })
                .collect();
            let members = count + derived.len();
            let decisions = decisions
                .into_iter()
                .map(|(when, data, is_one_value, is_once)| DecisionSpec {
                    when: when.map(|at| at.index(members)),
                    data: data.into_iter().filter(|at| *at < members).collect(),
                    is_one_value,
                    is_once,
                })
                .collect();
            let complete = complete.into_iter().filter(|at| *at < count).collect();
            RulesSpec { fields, derived, complete, decisions, overrides_id }
        },
    )
}

/// Any JSON value, often one that equals another one written differently.
fn value() -> impl Strategy<Value = String> {
    let numbers = ["1", "1.0", "1e0", "2", "-3", "0", "0.1", "9007199254740993", "9007199254740992", "1e30", "1e-10"];
    let more = ["9223372036854775807", "123456789012345678901234567890", "0.1000000000000000000000000001", "-1e300"];
    let texts = [r#""""#, r#""a""#, r#""a\u0000""#, r#""é🦀""#, r#""\u0000""#, "null", "true", "false"];
    let nested = ["[]", "[1]", "[1.0]", r#"{"a":1}"#, r#"{"a":1.0}"#, "{}", "[null]"];
    prop_oneof![
        6 => select([&numbers[..], &more[..]].concat()),
        4 => select(texts.to_vec()),
        1 => select(nested.to_vec()),
    ]
    .prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = String> {
    let known = ["1", "1.0", "0.1", "0.1", "1e30", "-1e30", "1e-10", "9223372036854775807", "null", "1e399", "-1e-399"];
    prop_oneof![
        4 => select(known.to_vec()).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        2 => (-1000_i32..1000).prop_map(|n| format!("{:?}", f64::from(n) / 8.0)),
    ]
}

/// Events with distinct identities, in any order; a few of them are refused by some rules.
pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let times = [
        "1948-05-14T00:00:00Z",
        "1969-12-31T23:59:59.5Z",
        "2026-11-20T10:00:00Z",
        "2026-11-20T10:00:00.000000001Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    let identity = (select(vec!["", "s", "s\0", "t"]), select(vec!["", "1", "2", "1\0", "é", "10"]));
    let data = (
        option::weighted(0.9, value()),
        option::weighted(0.8, number()),
        option::weighted(0.8, select(vec![r#""a""#, r#""""#, r#""\u0000é""#, "1", r#""1""#, "true", "null"])),
        option::weighted(0.8, select(vec!["1", "1.0", "2.5", r#""x""#, "null", r#""2026-01-01""#, "-1e30"])),
        select(vec![r#""a""#, r#""a""#, r#""a\u0000""#, r#""é🦀/%""#, "7"]),
    );
    let rest = (select(vec!["A", "B", "Bc"]), select(times.to_vec()), option::weighted(0.95, data));
    prop::collection::btree_map(identity, rest, 1..14)
        .prop_map(|events| events.into_iter().map(|(identity, rest)| event(identity, rest)).collect::<Vec<_>>())
        .prop_shuffle()
}

type Data = (Option<String>, Option<String>, Option<&'static str>, Option<&'static str>, &'static str);

fn event((source, id): (&str, &str), (kind, at, data): (&str, &str, Option<Data>)) -> Event {
    let data = data.map(|(v, n, b, o, k)| {
        let members = [("v", v.as_deref()), ("n", n.as_deref()), ("b", b), ("o", o), ("k", Some(k))];
        let members = members.into_iter().filter_map(|(name, json)| Some(format!("{name:?}:{}", json?)));
        let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        json::parse(text.as_bytes(), 64).unwrap()
    });
    Event {
        source: source.into(),
        id: id.into(),
        kind: kind.into(),
        time: time(at),
        time_given: TimeGiven::BySender,
        subject: None,
        data,
        extensions: Map::default(),
    }
}
