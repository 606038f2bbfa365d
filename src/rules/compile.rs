//! From declared entity types to compiled rules: every expression parsed and its names checked, once, at load.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::expr::{CompileError, Expr, Root, Roots};
use crate::config::{
    self, Data, Diagnostics, Duplicates, EntityType, Expr as Text, Files, KeyRule, Located, Policy, glob_matches,
};
use crate::model::record::Take;

/// The compiled rules of one entity type.
#[derive(Debug)]
pub struct EntityRules {
    pub name: Arc<str>,
    pub key: KeyRules,
    pub id: Option<Expr>,
    pub time: Option<Expr>,
    pub condition: Option<Expr>,
    pub dedupe: Option<Duration>,
    pub duplicates: Duplicates,
    pub require_time: bool,
    /// In name order: a field's place is its slot in states.
    pub fields: Vec<FieldRules>,
    /// In name order.
    pub derived: Vec<DerivedRules>,
    /// Members (fields, then derived values) that make up the completeness.
    pub complete: Vec<usize>,
    /// Fields that the completeness depends on.
    pub complete_reads: Vec<u16>,
    /// In name order.
    pub decisions: Vec<DecisionRules>,
    /// BLAKE3 of everything that gives states their meaning.
    pub fingerprint: [u8; 32],
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
    /// Sinks it goes to; none: all.
    pub to: Option<Vec<String>>,
    /// Fields it depends on, through derived values too.
    pub reads: Vec<u16>,
}

/// What a decision says.
#[derive(Debug)]
pub enum DataRules {
    None,
    Table(Vec<(Box<str>, Expr)>),
    Value(Expr),
}

impl EntityRules {
    /// How many fields and derived values there are.
    pub fn members(&self) -> usize {
        self.fields.len() + self.derived.len()
    }

    /// The names of fields and derived values, in the order expressions number them.
    pub fn member_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| &*field.name).chain(self.derived.iter().map(|derived| &*derived.name))
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
    pub fn compile_filter(&self, text: &str) -> Result<Expr, CompileError> {
        let names: Vec<&str> = self.member_names().collect();
        Expr::compile(text, &Roots::Entity { kind: &self.name, members: &names })
    }
}

impl FieldRules {
    /// Whether events of this type are for this field.
    pub fn takes(&self, kind: &str) -> bool {
        self.on.iter().any(|glob| glob_matches(glob, kind))
    }
}

/// Compiles one entity type. What is wrong is added to `diagnostics`; then nothing is returned.
pub fn compile(declared: &EntityType, files: &Files, diagnostics: &mut Diagnostics) -> Option<EntityRules> {
    let mut fields: Vec<_> = declared.fields.iter().collect();
    fields.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    let mut derived: Vec<_> = declared.derived.iter().collect();
    derived.sort_by(|a, b| a.0.value.cmp(&b.0.value));
    let members: Vec<&str> =
        fields.iter().map(|field| field.name.as_str()).chain(derived.iter().map(|(name, _)| name.as_str())).collect();
    let mut compiler = Compiler { files, diagnostics, kind: &declared.name.value, members: &members, failed: false };

    let key = match &declared.key {
        KeyRule::Expr(text) => compiler.event(text).map(KeyRules::Expr),
        KeyRule::ByType(table) => Some(KeyRules::ByType(
            table.iter().filter_map(|(glob, text)| Some((glob.as_str().into(), compiler.event(text)?))).collect(),
        )),
    };
    let id = compiler.event_option(declared.id.as_ref());
    let time = compiler.event_option(declared.time.as_ref());
    let condition = compiler.event_condition(declared.condition.as_ref());
    let compiled_fields: Vec<_> = fields.iter().map(|field| compiler.field(field)).collect();
    let compiled_derived: Vec<_> = derived
        .iter()
        .filter_map(|(name, text)| Some(DerivedRules { name: name.as_str().into(), expr: compiler.entity(text)? }))
        .collect();
    let mut decisions: Vec<_> = declared.decisions.iter().collect();
    decisions.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    let mut compiled_decisions: Vec<_> = decisions.iter().filter_map(|decision| compiler.decision(decision)).collect();
    if compiler.failed {
        return None;
    }
    let reads = Reads { fields: compiled_fields.len(), derived: &compiled_derived };
    if !reads.check_circles(&derived, diagnostics) {
        return None;
    }
    for decision in &mut compiled_decisions {
        decision.reads = reads.of_decision(decision);
    }
    let complete: Vec<usize> = declared
        .complete
        .iter()
        .filter_map(|name| members.iter().position(|member| *member == name.as_str()))
        .collect();
    let roots: Vec<Root> = complete.iter().map(|at| Root::Member(*at)).collect();
    let complete_reads = reads.fields_of(&roots);
    Some(EntityRules {
        name: declared.name.value.as_str().into(),
        key: key?,
        id,
        time,
        condition,
        dedupe: declared.dedupe,
        duplicates: declared.duplicates,
        require_time: declared.require_time,
        fields: compiled_fields,
        derived: compiled_derived,
        complete,
        complete_reads,
        decisions: compiled_decisions,
        fingerprint: *blake3::hash(declared.fingerprint_text().as_bytes()).as_bytes(),
    })
}

struct Compiler<'a> {
    files: &'a Files,
    diagnostics: &'a mut Diagnostics,
    kind: &'a str,
    members: &'a [&'a str],
    failed: bool,
}

impl Compiler<'_> {
    fn compiled(&mut self, text: &Text, roots: &Roots<'_>) -> Option<Expr> {
        let expr = compile_text(text, roots, self.files, self.diagnostics);
        self.failed |= expr.is_none();
        expr
    }

    fn condition(&mut self, text: &Text, expr: Option<Expr>) -> Option<Expr> {
        let condition = must_be_bool(text, expr?, self.diagnostics);
        self.failed |= condition.is_none();
        condition
    }

    fn event(&mut self, text: &Text) -> Option<Expr> {
        self.compiled(text, &Roots::Event)
    }

    fn event_option(&mut self, text: Option<&Text>) -> Option<Expr> {
        text.and_then(|text| self.event(text))
    }

    fn event_condition(&mut self, text: Option<&Text>) -> Option<Expr> {
        text.and_then(|text| {
            let expr = self.event(text);
            self.condition(text, expr)
        })
    }

    fn entity(&mut self, text: &Text) -> Option<Expr> {
        let roots = Roots::Entity { kind: self.kind, members: self.members };
        self.compiled(text, &roots)
    }

    fn field(&mut self, field: &config::Field) -> FieldRules {
        FieldRules {
            name: field.name.as_str().into(),
            on: field.on.iter().map(|glob| glob.as_str().into()).collect(),
            take: match field.take {
                config::Take::First => Take::First,
                config::Take::Latest => Take::Latest,
                config::Take::Min => Take::Min,
                config::Take::Max => Take::Max,
                config::Take::Sum => Take::Sum,
                config::Take::Count => Take::Count,
                config::Take::Set => Take::Set,
                config::Take::List => Take::List { keep: field.keep },
            },
            value: self.event_option(field.value.as_ref()),
            order_by: self.event_option(field.order_by.as_ref()),
            condition: self.event_condition(field.condition.as_ref()),
            by: self.event_option(field.by.as_ref()),
        }
    }

    fn decision(&mut self, decision: &config::Decision) -> Option<DecisionRules> {
        let when = decision.when.as_ref().and_then(|text| {
            let expr = self.entity(text);
            self.condition(text, expr)
        });
        let data = match &decision.data {
            Data::None => DataRules::None,
            Data::Value(text) => DataRules::Value(self.entity(text)?),
            Data::Table(entries) => DataRules::Table(
                entries.iter().filter_map(|(name, text)| Some((name.as_str().into(), self.entity(text)?))).collect(),
            ),
        };
        Some(DecisionRules {
            name: decision.name.as_str().into(),
            when,
            data,
            policy: decision.policy,
            to: decision.to.clone(),
            reads: Vec::new(),
        })
    }
}

/// Compiles an expression of the configuration; an error is added to `diagnostics`, located within its text.
pub fn compile_text(text: &Text, roots: &Roots<'_>, files: &Files, diagnostics: &mut Diagnostics) -> Option<Expr> {
    match Expr::compile(&text.value, roots) {
        Ok(expr) => Some(expr),
        Err(CompileError { message, help, start, end }) => {
            let diagnostic = diagnostics.error(text.at.within(files, start, end), message);
            if let Some(help) = help {
                diagnostic.help(help);
            }
            None
        }
    }
}

/// Compiles a condition over entities of a type, such as what a test expects.
pub fn compile_condition(
    text: &Text,
    rules: &EntityRules,
    files: &Files,
    diagnostics: &mut Diagnostics,
) -> Option<Expr> {
    let members: Vec<&str> = rules.member_names().collect();
    let expr = compile_text(text, &Roots::Entity { kind: &rules.name, members: &members }, files, diagnostics)?;
    must_be_bool(text, expr, diagnostics)
}

fn must_be_bool(text: &Text, expr: Expr, diagnostics: &mut Diagnostics) -> Option<Expr> {
    if !expr.may_be_bool() {
        diagnostics.error(text.at, "a condition must be true or false").help("compare it: `… == …`");
        return None;
    }
    Some(expr)
}

/// What expressions read, followed through derived values.
struct Reads<'a> {
    fields: usize,
    derived: &'a [DerivedRules],
}

impl Reads<'_> {
    fn fields_of(&self, roots: &[Root]) -> Vec<u16> {
        let mut slots = BTreeSet::new();
        let mut followed = vec![false; self.derived.len()];
        let mut open = roots.to_vec();
        while let Some(root) = open.pop() {
            match root {
                Root::Entity => return (0..self.fields).map(|slot| slot as u16).collect(),
                Root::Member(at) => match at.checked_sub(self.fields) {
                    None => {
                        slots.insert(at as u16);
                    }
                    Some(derived) if !std::mem::replace(&mut followed[derived], true) => {
                        open.extend(self.derived[derived].expr.reads().iter().cloned());
                    }
                    Some(_) => {}
                },
                _ => {}
            }
        }
        slots.into_iter().collect()
    }

    fn of_decision(&self, decision: &DecisionRules) -> Vec<u16> {
        let data: Vec<&Expr> = match &decision.data {
            DataRules::None => vec![],
            DataRules::Value(expr) => vec![expr],
            DataRules::Table(entries) => entries.iter().map(|(_, expr)| expr).collect(),
        };
        let roots: Vec<Root> = decision.when.iter().chain(data).flat_map(|expr| expr.reads().iter().cloned()).collect();
        self.fields_of(&roots)
    }

    /// Whether no derived value needs itself; each circle is one error, at the first of its values.
    fn check_circles(&self, declared: &[&(Located<String>, Text)], diagnostics: &mut Diagnostics) -> bool {
        let mut reported = BTreeSet::new();
        for (start, (name, text)) in declared.iter().enumerate() {
            if reported.contains(&start) {
                continue;
            }
            if let Some(circle) = self.circle(start) {
                let names: Vec<_> = circle.iter().chain([&start]).map(|at| declared[*at].0.as_str()).collect();
                diagnostics
                    .error(
                        text.at,
                        format!("the derived value `{}` needs itself: {}", name.as_str(), names.join(" → ")),
                    )
                    .help("compute one of them from fields alone");
                reported.extend(circle);
            }
        }
        reported.is_empty()
    }

    /// The shortest way from a derived value back to itself.
    fn circle(&self, start: usize) -> Option<Vec<usize>> {
        let mut reached_from = vec![None; self.derived.len()];
        let mut open = VecDeque::from([start]);
        while let Some(at) = open.pop_front() {
            for next in self.derived[at].expr.reads().iter().flat_map(|root| self.derived_in(root)) {
                if next == start {
                    let back = std::iter::successors(Some(at), |at| reached_from[*at].filter(|_| *at != start));
                    let mut way: Vec<usize> = back.collect();
                    way.reverse();
                    return Some(way);
                }
                if reached_from[next].is_none() {
                    reached_from[next] = Some(at);
                    open.push_back(next);
                }
            }
        }
        None
    }

    /// The derived values that a root stands for.
    fn derived_in(&self, root: &Root) -> std::ops::Range<usize> {
        match root {
            Root::Entity => 0..self.derived.len(),
            Root::Member(at) if *at >= self.fields => at - self.fields..at - self.fields + 1,
            _ => 0..0,
        }
    }
}
