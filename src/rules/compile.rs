//! From declared entity types to compiled rules: every expression parsed and its names checked, once, at load.

use super::entity_rules::{
    DataRules, DeadlineRules, DecisionRules, DerivedRules, EffectRules, EntityRules, ExpireRules, FieldRules,
    JsonRules, KeyRules, ReferenceRules, RequestRules, TemplateRules, TextRules,
};
use super::expr::{CompileError, Expr, Member, Root, Roots, Shown};
use super::kinds::{self, Place};
use super::negations;
use super::reads::Reads;
use super::watches;
use crate::config::{self, Data, Diagnostics, EntityType, Expr as Text, Files, Json, KeyRule, Template, TemplatePart};
use crate::model::json;
use crate::model::record::Take;

/// Literals in a request's JSON are numbers and bools, which do not nest.
const LITERAL_DEPTH_MAX: usize = 2;

/// Compiles all entity types. What is wrong is added to `diagnostics`; then nothing is returned. A type that refers to one
/// that is not declared is passed over: that is reported where declarations are read.
pub fn compile(declared: &[EntityType], files: &Files, diagnostics: &mut Diagnostics) -> Option<Vec<EntityRules>> {
    let names: Vec<Names> = declared.iter().map(Names::new).collect();
    let mut types = Vec::new();
    let mut failed = false;
    for (declared, own) in declared.iter().zip(&names) {
        let seen = declared.references.iter().map(|it| names.iter().find(|names| names.kind == it.entity.value));
        let Some(seen) = seen.collect::<Option<Vec<_>>>() else { continue };
        match compile_type(declared, own, &seen, files, diagnostics) {
            Some(rules) => types.push(rules),
            None => failed = true,
        }
    }
    failed |= !watches::connect(&mut types, declared, diagnostics);
    types.iter_mut().for_each(EntityRules::note_what_is_read);
    (!failed).then_some(types)
}

/// The names that rules read of an entity type, each group in order.
struct Names<'a> {
    kind: &'a str,
    members: Vec<Member<'a>>,
}

impl<'a> Names<'a> {
    fn new(declared: &'a EntityType) -> Self {
        Names { kind: &declared.name.value, members: kinds::members(declared) }
    }
}

/// In the order of their names.
fn sorted<'a, T>(items: &'a [T], name: impl Fn(&'a T) -> &'a str) -> Vec<&'a T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by(|a, b| name(a).cmp(name(b)));
    sorted
}

fn compile_type(
    declared: &EntityType,
    own: &Names<'_>,
    seen: &[&Names<'_>],
    files: &Files,
    diagnostics: &mut Diagnostics,
) -> Option<EntityRules> {
    let mut shown: Vec<(Shown<'_>, &config::Reference)> = declared
        .references
        .iter()
        .zip(seen)
        .map(|(it, names)| (Shown { name: &it.name.value, members: &names.members }, it))
        .collect();
    shown.sort_by_key(|(shown, _)| shown.name);
    let references: Vec<Shown<'_>> = shown.iter().map(|(shown, _)| *shown).collect();
    let mut compiler = Compiler { files, diagnostics, own, references: &references, element: false, failed: false };

    let key = match &declared.key {
        KeyRule::Expr(text) => compiler.event_at(Place::Key, text).map(KeyRules::Expr),
        KeyRule::ByType(table) => Some(KeyRules::ByType(
            table
                .iter()
                .filter_map(|(glob, text)| Some((glob.as_str().into(), compiler.event_at(Place::Key, text)?)))
                .collect(),
        )),
    };
    let id = compiler.event_option(Place::Key, declared.id.as_ref());
    let time = compiler.event_option(Place::EventTime, declared.time.as_ref());
    let condition = compiler.event_condition(declared.condition.as_ref());
    let fields = sorted(&declared.fields, |it| &it.name.value);
    let derived = sorted(&declared.derived, |it| &it.0.value);
    let deadlines = sorted(&declared.deadlines, |it| &it.name.value);
    let effects = sorted(&declared.effects, |it| &it.name.value);
    let decisions = sorted(&declared.decisions, |it| &it.name.value);
    let mut rules = EntityRules {
        name: declared.name.value.as_str().into(),
        id,
        time,
        condition,
        dedupe: declared.dedupe,
        expire: declared.expire.as_ref().map(|expire| ExpireRules {
            after: expire.after,
            decision: expire.decision.as_ref().map(|name| name.as_str().into()),
        }),
        duplicates: declared.duplicates,
        require_time: declared.require_time,
        fields: fields.iter().map(|field| compiler.field(field)).collect(),
        derived: derived
            .iter()
            .filter_map(|(name, text)| Some(DerivedRules { name: name.as_str().into(), expr: compiler.entity(text)? }))
            .collect(),
        references: shown.iter().filter_map(|(shown, it)| compiler.reference(shown, it)).collect(),
        deadlines: deadlines.iter().filter_map(|it| compiler.deadline(it)).collect(),
        effects: effects.iter().filter_map(|it| compiler.effect(it)).collect(),
        decisions: decisions.iter().filter_map(|decision| compiler.decision(decision)).collect(),
        complete: declared
            .complete
            .iter()
            .filter_map(|name| own.members.iter().position(|member| member.name == name.as_str()))
            .collect(),
        complete_reads: Vec::new(),
        watches: Vec::new(),
        fingerprint: *blake3::hash(declared.fingerprint_text().as_bytes()).as_bytes(),
        key: key.unwrap_or(KeyRules::ByType(Vec::new())),
    };
    if compiler.failed || !Reads::new(&rules).check_circles(&derived, diagnostics) {
        return None;
    }
    note_reads(&mut rules);
    if !Reads::new(&rules).check_dealings(declared, diagnostics) {
        return None;
    }
    negations::warn(&rules, declared, files, diagnostics);
    Some(rules)
}

/// Notes what every rule depends on.
fn note_reads(rules: &mut EntityRules) {
    let reads = Reads::new(rules);
    let references: Vec<_> = rules.references.iter().map(|it| reads.of(&[&it.key])).collect();
    let deadlines: Vec<_> = rules.deadlines.iter().map(|it| reads.of_deadline(it)).collect();
    let effects: Vec<_> = (0..).zip(&rules.effects).map(|(at, it)| reads.of_effect(at, it)).collect();
    let decisions: Vec<_> = rules.decisions.iter().map(|it| reads.of_decision(it)).collect();
    let roots: Vec<Root> = rules.complete.iter().map(|at| Root::Member(*at)).collect();
    let complete = reads.units_of(&roots);
    rules.references.iter_mut().zip(references).for_each(|(it, reads)| it.reads = reads);
    rules.deadlines.iter_mut().zip(deadlines).for_each(|(it, reads)| it.reads = reads);
    rules.effects.iter_mut().zip(effects).for_each(|(it, reads)| it.reads = reads);
    rules.decisions.iter_mut().zip(decisions).for_each(|(it, reads)| it.reads = reads);
    rules.complete_reads = complete;
}

struct Compiler<'a> {
    files: &'a Files,
    diagnostics: &'a mut Diagnostics,
    own: &'a Names<'a>,
    references: &'a [Shown<'a>],
    /// Whether `element` may be read.
    element: bool,
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

    /// Whether types let the expression be here.
    fn placed(&mut self, place: Place, text: &Text, expr: Option<Expr>) -> Option<Expr> {
        let expr = expr.filter(|expr| place.accepts(expr, text, self.diagnostics));
        self.failed |= expr.is_none();
        expr
    }

    fn event_at(&mut self, place: Place, text: &Text) -> Option<Expr> {
        let expr = self.event(text);
        self.placed(place, text, expr)
    }

    fn event_option(&mut self, place: Place, text: Option<&Text>) -> Option<Expr> {
        text.and_then(|text| self.event_at(place, text))
    }

    fn event_condition(&mut self, text: Option<&Text>) -> Option<Expr> {
        text.and_then(|text| {
            let expr = self.event(text);
            self.condition(text, expr)
        })
    }

    fn entity(&mut self, text: &Text) -> Option<Expr> {
        let Names { kind, members } = self.own;
        let roots = Roots::Entity { kind, members, references: self.references, element: self.element };
        self.compiled(text, &roots)
    }

    fn entity_at(&mut self, place: Place, text: &Text) -> Option<Expr> {
        let expr = self.entity(text);
        self.placed(place, text, expr)
    }

    fn entity_condition(&mut self, text: Option<&Text>) -> Option<Expr> {
        text.and_then(|text| {
            let expr = self.entity(text);
            self.condition(text, expr)
        })
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
            value: self.event_option(Place::Value(field.take), field.value.as_ref()),
            order_by: self.event_option(Place::OrderBy, field.order_by.as_ref()),
            condition: self.event_condition(field.condition.as_ref()),
            by: self.event_option(Place::By, field.by.as_ref()),
            is_read: false,
        }
    }

    fn reference(&mut self, shown: &Shown<'_>, reference: &config::Reference) -> Option<ReferenceRules> {
        Some(ReferenceRules {
            name: shown.name.into(),
            kind: reference.entity.value.as_str().into(),
            key: self.entity_at(Place::Key, &reference.key)?,
            reads: Vec::new(),
            members: shown.members.iter().map(|member| Box::from(member.name)).collect(),
        })
    }

    fn deadline(&mut self, deadline: &config::Deadline) -> Option<DeadlineRules> {
        Some(DeadlineRules {
            name: deadline.name.as_str().into(),
            unless: self.entity_condition(deadline.unless.as_ref()),
            at: self.entity_at(Place::DeadlineAt, &deadline.at)?,
            grace: deadline.grace,
            reads: Vec::new(),
        })
    }

    fn effect(&mut self, effect: &config::Effect) -> Option<EffectRules> {
        let when = self.entity_condition(effect.when.as_ref());
        let request = &effect.request;
        let (constant, varying): (Vec<_>, Vec<_>) =
            request.headers.iter().partition(|(_, value)| value.constant().is_some());
        Some(EffectRules {
            name: effect.name.as_str().into(),
            when,
            request: RequestRules {
                method: request.method.as_str().into(),
                url: self.template(&request.url),
                headers: varying.iter().map(|(name, value)| (name.as_str().into(), self.template(value))).collect(),
                constant_headers: constant
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str().into(), value.constant()?.into())))
                    .collect(),
                json: match &request.json {
                    Some(json) => Some(self.json(json)?),
                    None => None,
                },
            },
            timeout: effect.timeout,
            guarantee: effect.guarantee,
            retry: effect.retry,
            concurrency: effect.concurrency,
            policy: effect.policy,
            reads: Vec::new(),
        })
    }

    fn template(&mut self, template: &Template) -> TemplateRules {
        let parts = template.parts.iter().filter_map(|part| match part {
            TemplatePart::Text(text) => Some(TextRules::Text(text.as_str().into())),
            TemplatePart::Expr(text) => self.entity_at(Place::Text, text).map(TextRules::Expr),
        });
        TemplateRules(parts.collect())
    }

    fn json(&mut self, document: &Json) -> Option<JsonRules> {
        Some(match document {
            Json::Expr(text) => JsonRules::Expr(self.entity(text)?),
            Json::Literal(text) => JsonRules::Literal(json::parse(text.as_bytes(), LITERAL_DEPTH_MAX).ok()?),
            Json::List(items) => JsonRules::List(items.iter().filter_map(|item| self.json(item)).collect()),
            Json::Table(members) => JsonRules::Table(
                members.iter().filter_map(|(name, value)| Some((name.as_str().into(), self.json(value)?))).collect(),
            ),
        })
    }

    fn decision(&mut self, decision: &config::Decision) -> Option<DecisionRules> {
        let by = decision.by.as_ref().and_then(|text| self.entity_at(Place::Elements, text));
        self.element = decision.by.is_some();
        let when = self.entity_condition(decision.when.as_ref());
        let data = match &decision.data {
            Data::None => Some(DataRules::None),
            Data::Value(text) => self.entity(text).map(DataRules::Value),
            Data::Table(entries) => Some(DataRules::Table(
                entries.iter().filter_map(|(name, text)| Some((name.as_str().into(), self.entity(text)?))).collect(),
            )),
        };
        self.element = false;
        Some(DecisionRules {
            name: decision.name.as_str().into(),
            when,
            data: data?,
            policy: decision.policy,
            by,
            settle: decision.settle,
            to: decision.to.clone(),
            feedback: decision.feedback,
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
    let expr = rules.with_roots(|roots| compile_text(text, roots, files, diagnostics))?;
    must_be_bool(text, expr, diagnostics)
}

fn must_be_bool(text: &Text, expr: Expr, diagnostics: &mut Diagnostics) -> Option<Expr> {
    if !expr.may_be_bool() {
        diagnostics.error(text.at, "a condition must be true or false").help("compare it: `… == …`");
        return None;
    }
    Some(expr)
}
