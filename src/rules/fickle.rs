//! What depends on when things happened, by design: what reads how an effect went, or a field that the entity's own decisions
//! feed. All else is a function of the set of events, and shuffles hold it to that.

use std::collections::BTreeSet;

use super::admit::Ruleset;
use super::entity_rules::EntityRules;
use super::expr::{Expr, Root};
use super::reads::{of_deadline, of_decision, of_effect};
use crate::config::Feedback;

/// Names of members and decisions, each with its entity type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fickle(BTreeSet<(String, String)>);

impl Fickle {
    /// What is so among these rules.
    pub fn of(ruleset: &Ruleset) -> Self {
        let mut fickle = Fickle::default();
        for rules in ruleset.types() {
            let fed = rules.decisions.iter().filter(|it| it.feedback == Feedback::ToSelf).map(|it| &*it.name);
            let fed: Vec<&str> = fed.collect();
            let fields = rules.fields.iter().filter(|field| fed.iter().any(|name| field.takes(name)));
            fields.for_each(|field| fickle.add(rules, &field.name));
            rules.effects.iter().for_each(|effect| fickle.add(rules, &effect.name));
        }
        let mut known = 0;
        while known < fickle.0.len() {
            known = fickle.0.len();
            ruleset.types().iter().for_each(|rules| fickle.follow(rules));
        }
        fickle
    }

    /// Whether a member or a decision of a type is.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.0.contains(&(kind.to_owned(), name.to_owned()))
    }

    /// Whether what an effect asks for is.
    pub fn asks(&self, rules: &EntityRules, effect: &str) -> bool {
        rules.effects.iter().filter(|it| *it.name == *effect).any(|it| self.reads(rules, &of_effect(it)))
    }

    fn add(&mut self, rules: &EntityRules, name: &str) {
        self.0.insert((rules.name.to_string(), name.to_owned()));
    }

    fn follow(&mut self, rules: &EntityRules) {
        let derived = rules.derived.iter().map(|it| (&it.name, vec![&it.expr]));
        let deadlines = rules.deadlines.iter().map(|it| (&it.name, of_deadline(it)));
        let decisions = rules.decisions.iter().map(|it| (&it.name, of_decision(it)));
        for (name, exprs) in derived.chain(deadlines).chain(decisions) {
            if self.reads(rules, &exprs) {
                self.add(rules, name);
            }
        }
    }

    fn reads(&self, rules: &EntityRules, exprs: &[&Expr]) -> bool {
        exprs.iter().flat_map(|expr| expr.reads()).any(|root| match root {
            Root::Member(at) => rules.member_names().nth(*at).is_some_and(|name| self.has(&rules.name, name)),
            Root::Entity => rules.member_names().any(|name| self.has(&rules.name, name)),
            Root::Seen(at, name) => self.sees(rules, *at) || self.has(&rules.references[*at].kind, name),
            Root::Reference(at) => {
                let reference = &rules.references[*at];
                self.sees(rules, *at) || reference.members.iter().any(|name| self.has(&reference.kind, name))
            }
            _ => false,
        })
    }

    /// Whether where a reference points is.
    fn sees(&self, rules: &EntityRules, reference: usize) -> bool {
        self.reads(rules, &[&rules.references[reference].key])
    }
}
