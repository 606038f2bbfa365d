//! What rules depend on: the units a record may change, followed through derived values.

use std::collections::{BTreeSet, VecDeque};

use super::entity_rules::{
    DataRules, DeadlineRules, DecisionRules, EffectRules, EntityRules, JsonRules, TemplateRules, TextRules, Unit,
};
use super::expr::{Expr, Root};
use crate::config::{Diagnostics, EntityType, Expr as Text, Located, Policy};

/// Follows what expressions of an entity type read.
pub(super) struct Reads<'a>(&'a EntityRules);

impl<'a> Reads<'a> {
    pub(super) fn new(rules: &'a EntityRules) -> Self {
        Reads(rules)
    }

    /// Which derived value a member is, if it is one.
    fn derived_at(&self, member: usize) -> Option<usize> {
        member.checked_sub(self.0.fields.len()).filter(|at| *at < self.0.derived.len())
    }

    /// Every root that these lead to through derived values, themselves among them.
    fn followed(&self, roots: &[Root]) -> BTreeSet<Root> {
        let mut reached = BTreeSet::new();
        let mut open = roots.to_vec();
        while let Some(root) = open.pop() {
            if reached.contains(&root) {
                continue;
            }
            for at in self.derived_in(&root) {
                open.extend(self.0.derived[at].expr.reads().iter().cloned());
            }
            reached.insert(root);
        }
        reached
    }

    /// The members that a reference shows and these read.
    pub(super) fn seen_through(&self, reference: usize, roots: &[Root]) -> Seen {
        let mut seen = BTreeSet::new();
        for root in self.followed(roots) {
            match root {
                Root::Reference(at) if at == reference => return Seen::All,
                Root::Seen(at, name) if at == reference => {
                    seen.insert(name);
                }
                _ => {}
            }
        }
        Seen::Members(seen)
    }

    pub(super) fn units_of(&self, roots: &[Root]) -> Vec<Unit> {
        let rules = self.0;
        let (fields, derived, deadlines) = (rules.fields.len(), rules.derived.len(), rules.deadlines.len());
        let mut units = BTreeSet::new();
        for root in self.followed(roots) {
            match root {
                Root::Entity => {
                    units.extend((0..fields).map(|slot| slot as Unit));
                    units.extend((0..deadlines).map(|at| rules.deadline_unit(at)));
                    units.extend((0..rules.effects.len()).map(|at| rules.effect_unit(at)));
                }
                Root::Reference(at) | Root::Seen(at, _) => {
                    units.insert(rules.reference_unit(at));
                }
                Root::Member(at) => match at.checked_sub(fields + derived) {
                    None if at < fields => {
                        units.insert(at as Unit);
                    }
                    None => {}
                    Some(at) if at < deadlines => {
                        units.insert(rules.deadline_unit(at));
                    }
                    Some(at) => {
                        units.insert(rules.effect_unit(at - deadlines));
                    }
                },
                _ => {}
            }
        }
        units.into_iter().collect()
    }

    pub(super) fn of(&self, exprs: &[&Expr]) -> Vec<Unit> {
        let roots: Vec<Root> = exprs.iter().flat_map(|expr| expr.reads().iter().cloned()).collect();
        self.units_of(&roots)
    }

    pub(super) fn of_decision(&self, decision: &DecisionRules) -> Vec<Unit> {
        self.of(&of_decision(decision))
    }

    pub(super) fn of_deadline(&self, deadline: &DeadlineRules) -> Vec<Unit> {
        self.of(&of_deadline(deadline))
    }

    /// One that is asked for again waits for the outcome of the last time.
    pub(super) fn of_effect(&self, at: usize, effect: &EffectRules) -> Vec<Unit> {
        let mut units = self.of(&of_effect(effect));
        let own = self.0.effect_unit(at);
        if effect.policy == Policy::Revise && !units.contains(&own) {
            units.push(own);
        }
        units
    }

    /// Whether no derived value needs itself; each circle is one error, at the first of its values.
    pub(super) fn check_circles(&self, declared: &[&(Located<String>, Text)], diagnostics: &mut Diagnostics) -> bool {
        let mut reported = BTreeSet::new();
        for (start, (name, text)) in declared.iter().enumerate() {
            if reported.contains(&start) {
                continue;
            }
            let next =
                |at: usize| self.0.derived[at].expr.reads().iter().flat_map(|root| self.derived_in(root)).collect();
            if let Some(circle) = circle(start, self.0.derived.len(), next) {
                let names: Vec<_> = [start].iter().chain(&circle).map(|at| declared[*at].0.as_str()).collect();
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

    /// Whether no reference and no deadline needs itself; what a circle comes to would depend on where it is looked at first.
    pub(super) fn check_dealings(&self, declared: &EntityType, diagnostics: &mut Diagnostics) -> bool {
        let rules = self.0;
        let references = rules.references.iter().map(|it| (&*it.name, &it.reads));
        let nodes: Vec<_> = references.chain(rules.deadlines.iter().map(|it| (&*it.name, &it.reads))).collect();
        let next = |at: usize| {
            let units = nodes[at].1.iter().filter_map(|unit| usize::from(*unit).checked_sub(rules.fields.len()));
            units.filter(|unit| *unit < nodes.len()).collect()
        };
        let mut circles = (0..nodes.len()).filter_map(|start| circle(start, nodes.len(), next));
        // One circle at a time, told at the first of its names.
        let Some(way) = circles.next() else { return true };
        let start = way[way.len() - 1];
        let (name, what) = (nodes[start].0, if start < rules.references.len() { "reference" } else { "deadline" });
        let names: Vec<&str> = [start].iter().chain(&way).map(|at| nodes[*at].0).collect();
        let references = declared.references.iter().map(|it| (it.name.as_str(), it.key.at));
        let at = references.chain(declared.deadlines.iter().map(|it| (it.name.as_str(), it.at.at)));
        if let Some((_, at)) = at.into_iter().find(|(known, _)| *known == name) {
            diagnostics
                .error(at, format!("the {what} `{name}` needs itself: {}", names.join(" → ")))
                .help("let it read fields, and derived values of fields alone");
        }
        false
    }

    /// The derived values that a root stands for.
    fn derived_in(&self, root: &Root) -> std::ops::Range<usize> {
        match root {
            Root::Entity => 0..self.0.derived.len(),
            Root::Member(at) => self.derived_at(*at).map_or(0..0, |at| at..at + 1),
            _ => 0..0,
        }
    }
}

/// The shortest way from a node back to itself, which is its last.
fn circle(start: usize, nodes: usize, next: impl Fn(usize) -> Vec<usize>) -> Option<Vec<usize>> {
    let mut reached_from = vec![None; nodes];
    let mut open = VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in next(at) {
            if next == start {
                let back = std::iter::successors(Some(at), |at| reached_from[*at]).take_while(|at| *at != start);
                let mut way: Vec<usize> = back.collect();
                way.reverse();
                way.push(start);
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

/// What is read of another entity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    All,
    Members(BTreeSet<Box<str>>),
}

/// Every root that an entity type's rules read, through whatever.
pub(super) fn all_roots(rules: &EntityRules) -> Vec<Root> {
    let exprs = rules.references.iter().map(|it| &it.key).chain(rules.derived.iter().map(|it| &it.expr));
    let exprs = exprs.chain(rules.deadlines.iter().flat_map(of_deadline));
    let exprs =
        exprs.chain(rules.effects.iter().flat_map(of_effect)).chain(rules.decisions.iter().flat_map(of_decision));
    exprs.flat_map(|expr| expr.reads().iter().cloned()).collect()
}

pub(super) fn of_decision(decision: &DecisionRules) -> Vec<&Expr> {
    let data: Vec<&Expr> = match &decision.data {
        DataRules::None => vec![],
        DataRules::Value(expr) => vec![expr],
        DataRules::Table(entries) => entries.iter().map(|(_, expr)| expr).collect(),
    };
    decision.by.iter().chain(&decision.when).chain(data).collect()
}

pub(super) fn of_deadline(deadline: &DeadlineRules) -> Vec<&Expr> {
    [&deadline.at].into_iter().chain(&deadline.unless).collect()
}

pub(super) fn of_effect(effect: &EffectRules) -> Vec<&Expr> {
    let mut exprs: Vec<&Expr> = effect.when.iter().collect();
    let request = &effect.request;
    for template in [&request.url].into_iter().chain(request.headers.iter().map(|(_, value)| value)) {
        exprs.extend(of_template(template));
    }
    request.json.iter().for_each(|json| of_json(json, &mut exprs));
    exprs
}

fn of_template(template: &TemplateRules) -> impl Iterator<Item = &Expr> {
    template.0.iter().filter_map(|part| match part {
        TextRules::Expr(expr) => Some(expr),
        TextRules::Text(_) => None,
    })
}

fn of_json<'a>(json: &'a JsonRules, exprs: &mut Vec<&'a Expr>) {
    match json {
        JsonRules::Expr(expr) => exprs.push(expr),
        JsonRules::Literal(_) => {}
        JsonRules::List(items) => items.iter().for_each(|item| of_json(item, exprs)),
        JsonRules::Table(members) => members.iter().for_each(|(_, value)| of_json(value, exprs)),
    }
}
