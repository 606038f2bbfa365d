//! The compiled rules of one entity type.

use std::sync::Arc;
use std::time::Duration;

use super::expr::{CompileError, Expr, Member, Roots, Shown};
use crate::config::{Duplicates, Feedback, Guarantee, Policy, Retry, glob_matches};
use crate::model::dealings::Watch;
use crate::model::record::Take;
use crate::model::value::Value;

/// What a rule depends on and a record may change: a field by its slot; then references, deadlines and effects, each by
/// their place among theirs.
pub type Unit = u16;

/// The compiled rules of one entity type.
#[derive(Debug)]
pub struct EntityRules {
    pub name: Arc<str>,
    pub key: KeyRules,
    pub id: Option<Expr>,
    pub time: Option<Expr>,
    pub condition: Option<Expr>,
    pub dedupe: Option<Duration>,
    pub expire: Option<ExpireRules>,
    pub duplicates: Duplicates,
    pub require_time: bool,
    /// In name order: a field's place is its slot in states.
    pub fields: Vec<FieldRules>,
    /// In name order.
    pub derived: Vec<DerivedRules>,
    /// Members (fields, then derived values) that make up the completeness.
    pub complete: Vec<usize>,
    /// What the completeness depends on.
    pub complete_reads: Vec<Unit>,
    /// In name order, as are deadlines and effects.
    pub references: Vec<ReferenceRules>,
    pub deadlines: Vec<DeadlineRules>,
    pub effects: Vec<EffectRules>,
    /// What other types see of it.
    pub watches: Vec<WatchRules>,
    /// In name order.
    pub decisions: Vec<DecisionRules>,
    /// BLAKE3 of everything that gives states their meaning.
    pub fingerprint: [u8; 32],
}

/// When an entity is given up.
#[derive(Debug)]
pub struct ExpireRules {
    pub after: Duration,
    /// After this decision, while it stands; none: after the last event.
    pub decision: Option<Box<str>>,
}

/// How the key is found.
#[derive(Debug)]
pub enum KeyRules {
    Expr(Expr),
    ByType(Vec<(Box<str>, Expr)>),
}

/// One merged field.
#[derive(Debug)]
pub struct FieldRules {
    pub name: Box<str>,
    pub on: Vec<Box<str>>,
    pub take: Take,
    pub value: Option<Expr>,
    pub order_by: Option<Expr>,
    pub condition: Option<Expr>,
    pub by: Option<Expr>,
    /// Whether any rule depends on it.
    pub is_read: bool,
}

/// One derived value.
#[derive(Debug)]
pub struct DerivedRules {
    pub name: Box<str>,
    pub expr: Expr,
}

/// One decision.
#[derive(Debug)]
pub struct DecisionRules {
    pub name: Box<str>,
    pub when: Option<Expr>,
    pub data: DataRules,
    pub policy: Policy,
    /// One for each element of this.
    pub by: Option<Expr>,
    /// It is made when the key has been quiet for so long.
    pub settle: Option<Duration>,
    /// Sinks it goes to; none: all.
    pub to: Option<Vec<String>>,
    pub feedback: Feedback,
    /// What it depends on, through derived values too.
    pub reads: Vec<Unit>,
}

/// What a decision says.
#[derive(Debug)]
pub enum DataRules {
    None,
    Table(Vec<(Box<str>, Expr)>),
    Value(Expr),
}

/// A view of another entity.
#[derive(Debug)]
pub struct ReferenceRules {
    pub name: Box<str>,
    /// The entity type it shows.
    pub kind: Arc<str>,
    pub key: Expr,
    pub reads: Vec<Unit>,
    /// What may be read through it.
    pub members: Vec<Box<str>>,
}

/// A time at which something missing is noticed.
#[derive(Debug)]
pub struct DeadlineRules {
    pub name: Box<str>,
    pub at: Expr,
    pub unless: Option<Expr>,
    pub grace: Duration,
    pub reads: Vec<Unit>,
}

/// A call to the outside.
#[derive(Debug)]
pub struct EffectRules {
    pub name: Box<str>,
    pub when: Option<Expr>,
    pub request: RequestRules,
    pub timeout: Duration,
    pub guarantee: Guarantee,
    pub retry: Retry,
    pub concurrency: u32,
    pub policy: Policy,
    pub reads: Vec<Unit>,
}

/// An HTTP request whose parts depend on the entity.
#[derive(Debug)]
pub struct RequestRules {
    pub method: Box<str>,
    pub url: TemplateRules,
    /// Those whose value depends on the entity.
    pub headers: Vec<(Box<str>, TemplateRules)>,
    /// Those whose value does not: they may be secrets, so they are nowhere but here.
    pub constant_headers: Vec<(Box<str>, Box<str>)>,
    pub json: Option<JsonRules>,
}

/// Text with expressions in it.
#[derive(Debug)]
pub struct TemplateRules(pub Vec<TextRules>);

/// A part of a text.
#[derive(Debug)]
pub enum TextRules {
    Text(Box<str>),
    Expr(Expr),
}

/// A JSON document with expressions in it.
#[derive(Debug)]
pub enum JsonRules {
    Expr(Expr),
    Literal(Value),
    List(Vec<JsonRules>),
    Table(Vec<(Box<str>, JsonRules)>),
}

/// What entities of another type see of this one.
#[derive(Debug)]
pub struct WatchRules {
    pub by: Watch,
    /// Members, by place.
    pub shown: Vec<usize>,
    pub reads: Vec<Unit>,
}

impl EntityRules {
    /// How many members expressions can read: fields, derived values, deadlines, effects.
    pub fn members(&self) -> usize {
        self.fields.len() + self.derived.len() + self.deadlines.len() + self.effects.len()
    }

    /// The members' names, in the order expressions number them.
    pub fn member_names(&self) -> impl Iterator<Item = &str> {
        let values = self.fields.iter().map(|it| &*it.name).chain(self.derived.iter().map(|it| &*it.name));
        values.chain(self.deadlines.iter().map(|it| &*it.name)).chain(self.effects.iter().map(|it| &*it.name))
    }

    /// The unit of a reference, a deadline or an effect, by its place among theirs.
    pub fn reference_unit(&self, at: usize) -> Unit {
        (self.fields.len() + at) as Unit
    }

    pub fn deadline_unit(&self, at: usize) -> Unit {
        (self.fields.len() + self.references.len() + at) as Unit
    }

    pub fn effect_unit(&self, at: usize) -> Unit {
        (self.fields.len() + self.references.len() + self.deadlines.len() + at) as Unit
    }

    /// The name of what a unit stands for.
    pub fn unit_name(&self, unit: Unit) -> Option<&str> {
        let fields = self.fields.iter().map(|it| &it.name).chain(self.references.iter().map(|it| &it.name));
        let others = self.deadlines.iter().map(|it| &it.name).chain(self.effects.iter().map(|it| &it.name));
        fields.chain(others).nth(unit.into()).map(|name| &**name)
    }

    /// Whether its entities have to do with others or with time, so that more than fields can change.
    pub fn has_dealings(&self) -> bool {
        !(self.references.is_empty() && self.deadlines.is_empty() && self.effects.is_empty())
    }

    /// Whether anything follows from an event of its entities but what they come to at once.
    pub fn acts_later(&self) -> bool {
        let waits = |decision: &DecisionRules| decision.settle.is_some() || decision.feedback == Feedback::ToSelf;
        self.has_dealings() || !self.watches.is_empty() || self.decisions.iter().any(waits)
    }

    /// Notes of every field whether any rule depends on it, so that it matters what it becomes.
    pub(super) fn note_what_is_read(&mut self) {
        for slot in 0..self.fields.len() {
            self.fields[slot].is_read = self.reads(slot as Unit);
        }
    }

    fn reads(&self, slot: Unit) -> bool {
        let reads = self.decisions.iter().map(|it| &it.reads).chain(self.watches.iter().map(|it| &it.reads));
        let reads = reads.chain(self.references.iter().map(|it| &it.reads));
        let reads = reads.chain(self.deadlines.iter().map(|it| &it.reads));
        let mut reads = reads.chain(self.effects.iter().map(|it| &it.reads)).chain([&self.complete_reads]);
        reads.any(|reads| reads.contains(&slot))
    }

    /// The names that slots stand for, as the store notes them.
    pub fn slot_names(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.name.to_string()).collect()
    }

    /// Whether events of this type are for this entity type.
    pub fn takes(&self, kind: &str) -> bool {
        self.fields.iter().any(|field| field.takes(kind))
    }

    /// The names of `complete` that a mask says are missing.
    pub fn missing_names(&self, missing: u64) -> impl Iterator<Item = &str> {
        let names = self.complete.iter().enumerate();
        names.filter(move |(bit, _)| missing & (1 << bit) != 0).filter_map(|(_, at)| self.member_names().nth(*at))
    }

    /// Whether a decision goes to a sink.
    pub fn goes_to(&self, decision: &str, sink: &str) -> bool {
        let decision = self.decisions.iter().find(|rules| &*rules.name == decision);
        let to = decision.and_then(|decision| decision.to.as_ref());
        to.is_none_or(|sinks| sinks.iter().any(|name| name == sink))
    }

    /// Compiles an expression over this entity type, such as a `where` filter.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile_filter(&self, text: &str) -> Result<Expr, CompileError> {
        self.with_roots(|roots| Expr::compile(text, roots))
    }

    /// Calls `compile` with the names that expressions over this entity type may read.
    pub(super) fn with_roots<T>(&self, compile: impl FnOnce(&Roots<'_>) -> T) -> T {
        let member = |name| Member { name, kind: None };
        let members: Vec<Member<'_>> = self.member_names().map(member).collect();
        let seen: Vec<Vec<Member<'_>>> =
            self.references.iter().map(|it| it.members.iter().map(|name| member(name)).collect()).collect();
        let shown = self.references.iter().zip(&seen);
        let references: Vec<Shown> = shown.map(|(it, members)| Shown { name: &it.name, members }).collect();
        compile(&Roots::Entity { kind: &self.name, members: &members, references: &references, element: false })
    }
}

impl FieldRules {
    /// Whether events of this type are for this field.
    pub fn takes(&self, kind: &str) -> bool {
        self.on.iter().any(|glob| glob_matches(glob, kind))
    }
}
