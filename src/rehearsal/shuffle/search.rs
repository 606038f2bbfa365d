//! The search over all groups: orders are run and compared with the one given; what differs is shrunk and explained.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::blame::{Blame, Inquiry};
use super::compare::{Difference, Part, Subject, are_same, differences};
use super::group::{Arrival, Group, Times, Unit};
use super::orders::Orders;
use super::shrink::{Pair, Shrinker};
use crate::config::Config;
use crate::model::codec::CodecError;
use crate::model::time::Timestamp;
use crate::rules::{Fickle, Ruleset};

/// So many rules are explained; it is better to mend some and ask again.
const FINDINGS_MAX: usize = 10;
/// So many conflicts are looked into.
const CONFLICTS_MAX: usize = 100;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Random orders of each group.
    pub rounds: u64,
    pub seed: u64,
    /// The probability with which an event is repeated.
    pub duplicates: f64,
    /// What numbers the events.
    pub unit: Unit,
}

/// What came of a search.
#[derive(Debug, Default)]
pub struct Found {
    pub groups: u64,
    pub entities: u64,
    /// Groups with an outcome that depends on the order.
    pub diverging: u64,
    /// Orders that were run.
    pub orders: u64,
    /// Events that were applied in them.
    pub applied: u64,
    pub findings: Vec<Finding>,
    pub conflicts: Vec<Conflict>,
}

/// A rule that makes outcomes depend on the order, and the smallest pair of orders that shows it.
#[derive(Debug)]
pub struct Finding {
    /// The place of the group among all.
    pub group: usize,
    pub subject: Subject,
    pub pair: Pair,
    pub differences: Vec<Difference>,
    pub blame: Blame,
    /// In so many groups.
    pub groups: u64,
}

/// An event whose identity came with another payload, which is refused at whichever comes second.
#[derive(Debug)]
pub struct Conflict {
    pub group: usize,
    pub number: u64,
    /// What came first.
    pub with: u64,
    /// What would be different if the other had come first.
    pub differences: Vec<Difference>,
}

/// The rules that are looked at.
#[derive(Clone, Copy)]
struct Under<'a> {
    config: &'a Config,
    ruleset: &'a Arc<Ruleset>,
    fickle: &'a Fickle,
}

/// A divergence that is not explained yet.
struct Candidate {
    group: usize,
    subject: Subject,
    order: Vec<Arrival>,
    groups: u64,
}

/// Searches all groups; `progress` is told of every group how many events were applied.
///
/// # Errors
/// When a state is not read as it was stored.
pub fn search(
    config: &Config,
    ruleset: &Arc<Ruleset>,
    groups: &[Group],
    options: Options,
    mut progress: impl FnMut(u64),
) -> Result<Found, CodecError> {
    let entities = groups.iter().map(|group| group.entities as u64).sum();
    let mut found = Found { groups: groups.len() as u64, entities, ..Found::default() };
    let fickle = Fickle::of(ruleset);
    let rules = Under { config, ruleset, fickle: &fickle };
    let mut candidates: BTreeMap<(String, Part), Candidate> = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        let parts = shuffle(rules, group, options, &mut found, &mut progress)?;
        found.diverging += u64::from(!parts.is_empty());
        for (subject, order) in parts {
            let name = (subject.entity.kind().to_owned(), subject.part.clone());
            let candidate = candidates.entry(name).or_insert_with(|| Candidate {
                group: at,
                subject: subject.clone(),
                order: order.clone(),
                groups: 0,
            });
            candidate.groups += 1;
            if group.events.len() < groups[candidate.group].events.len() {
                (candidate.group, candidate.subject, candidate.order) = (at, subject, order);
            }
        }
        look_into_conflicts(rules, at, group, &mut found.conflicts)?;
    }
    for candidate in candidates.into_values().take(FINDINGS_MAX) {
        let finding = explain(rules, groups, options.unit, candidate)?;
        let same = found.findings.iter_mut().find(|known| known.blame.rule == finding.blame.rule);
        match same {
            Some(known) if known.pair.first.len() <= finding.pair.first.len() => {}
            Some(known) => *known = finding,
            None => found.findings.push(finding),
        }
    }
    Ok(found)
}

/// Runs a group's orders; which parts came out otherwise than in the order given, each with an order that shows it.
fn shuffle(
    rules: Under<'_>,
    group: &Group,
    options: Options,
    found: &mut Found,
    progress: &mut impl FnMut(u64),
) -> Result<Vec<(Subject, Vec<Arrival>)>, CodecError> {
    let ruleset = rules.ruleset;
    // Deadlines that are met in this order may be missed in another one.
    let mut last_due = Timestamp::default();
    let given = group.observe(ruleset, &group.given, Times::OfArrival, |decided| {
        let dues = decided.record.deadlines.iter().filter_map(|set| Some(set.to?.due));
        last_due = dues.fold(last_due, Timestamp::max);
    })?;
    let rest_ms = group.rest_ms(last_due.max(given.now()));
    let mut orders = Orders::new(group, options.seed, options.duplicates, rest_ms);
    let mut parts: Vec<(Subject, Vec<Arrival>)> = Vec::new();
    for _ in 0..options.rounds {
        let order = orders.next();
        found.orders += 1;
        found.applied += order.len() as u64;
        progress(order.len() as u64);
        let outcome = group.run(ruleset, &order, Times::OfArrival)?;
        if are_same(&given, &outcome) {
            continue;
        }
        let differences = differences(ruleset, rules.fickle, &given, &outcome);
        // Where a field differs, all that is computed from it does too.
        let is_field = |difference: &&Difference| matches!(difference.subject.part, Part::Field(_));
        let has_field = differences.iter().any(|difference| is_field(&difference));
        for difference in differences.iter().filter(|difference| !has_field || is_field(difference)) {
            let subject = &difference.subject;
            let same = |known: &Subject| known.part == subject.part && known.entity.kind() == subject.entity.kind();
            if !parts.iter().any(|(known, _)| same(known)) {
                parts.push((subject.clone(), order.clone()));
            }
        }
    }
    Ok(parts)
}

fn explain(rules: Under<'_>, groups: &[Group], unit: Unit, candidate: Candidate) -> Result<Finding, CodecError> {
    let Under { config, ruleset, fickle } = rules;
    let subject = candidate.subject;
    let group = &groups[candidate.group];
    let pair = Pair { first: group.given.clone(), second: candidate.order };
    let pair = Shrinker::new(group, ruleset, fickle, &subject).shrink(pair)?;
    let [first, second] = [&pair.first, &pair.second].map(|order| group.run(ruleset, order, Times::OfArrival));
    let differences = differences(ruleset, fickle, &first?, &second?);
    let blame = Inquiry { config, ruleset, fickle, group, subject: &subject, pair: &pair, unit }.blame()?;
    Ok(Finding { group: candidate.group, subject, pair, differences, blame, groups: candidate.groups })
}

/// What if the event that was refused had come first.
fn look_into_conflicts(
    rules: Under<'_>,
    at: usize,
    group: &Group,
    conflicts: &mut Vec<Conflict>,
) -> Result<(), CodecError> {
    let ruleset = rules.ruleset;
    if group.conflicts.is_empty() {
        return Ok(());
    }
    let given = group.run(ruleset, &group.given, Times::OfArrival)?;
    for (refused, with) in &group.conflicts {
        if conflicts.len() == CONFLICTS_MAX {
            break;
        }
        let outcome = group.instead(*with, refused).run(ruleset, &group.given, Times::OfArrival)?;
        conflicts.push(Conflict {
            group: at,
            number: refused.number,
            with: group.events[*with].number,
            differences: differences(ruleset, rules.fickle, &given, &outcome),
        });
    }
    Ok(())
}
