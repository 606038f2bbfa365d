//! Recorded events, sorted by the entities they are about.

use std::collections::HashMap;
use std::sync::Arc;

use super::group::{Given, Group};
use super::ties::Ties;
use crate::config::Duplicates;
use crate::model::event::Event;
use crate::model::ids::{EntityKey, IdentityHash, PayloadHash};
use crate::model::refusal::{Code, Refusal};
use crate::rules::{Ruleset, Taken};

/// So many refused events are kept to be shown; all are counted.
const REFUSED_KEPT_MAX: usize = 100;

/// An event that no entity took.
#[derive(Clone, Debug)]
pub struct Refused {
    pub number: u64,
    pub refusal: Refusal,
}

/// Which entities are looked at.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub kind: Option<String>,
    pub key: Option<String>,
}

/// All events so far.
#[derive(Debug, Default)]
pub struct Recording {
    wanted: Wanted,
    ties: Option<Ties>,
    entities: HashMap<EntityKey, Entity>,
    /// The entities in the order in which they were first heard of.
    order: Vec<EntityKey>,
    arrived: u64,
    pub events: u64,
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<Refused>,
}

#[derive(Debug, Default)]
struct Entity {
    events: Vec<Given>,
    conflicts: Vec<(Given, usize)>,
    /// What arrived, and when among all.
    order: Vec<(u64, usize)>,
    seen: HashMap<IdentityHash, Vec<(PayloadHash, usize)>>,
}

impl Recording {
    /// A recording of entities of this type, with this key, or all.
    pub fn of(kind: Option<String>, key: Option<String>) -> Self {
        Recording { wanted: Wanted { kind, key }, ..Recording::default() }
    }

    /// Adds the next event.
    pub fn add(&mut self, ruleset: &Arc<Ruleset>, number: u64, event: &Event) {
        match ruleset.admit(event) {
            Ok(takers) => {
                if self.events == 0 {
                    self.ties = Ties::of(ruleset);
                }
                self.events += 1;
                takers.into_iter().for_each(|taken| self.take(number, event, taken));
            }
            Err(refusal) => self.refuse(number, refusal),
        }
    }

    /// Notes an event that is refused.
    pub fn refuse(&mut self, number: u64, refusal: Refusal) {
        self.refused += 1;
        if self.refusals.len() < REFUSED_KEPT_MAX {
            self.refusals.push(Refused { number, refusal });
        }
    }

    fn take(&mut self, number: u64, event: &Event, taken: Box<Taken>) {
        match &mut self.ties {
            Some(ties) => ties.follow(taken.clone()),
            None if !self.wanted.has(&taken.entity) => return,
            None => {}
        }
        self.arrived += 1;
        let arrived = self.arrived;
        let entity = self.entities.entry(taken.entity.clone()).or_insert_with(|| {
            self.order.push(taken.entity.clone());
            Entity::default()
        });
        let payload = taken.input.payload;
        let seen = entity.seen.entry(taken.identity).or_default();
        if let Some((_, at)) = seen.iter().find(|(known, _)| *known == payload) {
            entity.order.push((arrived, *at));
            return;
        }
        let first = seen.first().map(|(_, at)| *at);
        if let Some(first) = first.filter(|_| taken.rules.duplicates == Duplicates::Strict) {
            let message = format!("event {:?} came before with another payload", &*event.id);
            entity.conflicts.push((Given::new(number, event, taken), first));
            self.refuse(number, Refusal::new(Code::Conflict, message));
        } else {
            // Where payloads may differ silently, whichever comes first counts: that is a matter of order.
            seen.push((payload, entity.events.len()));
            entity.order.push((arrived, entity.events.len()));
            entity.events.push(Given::new(number, event, taken));
        }
    }

    /// The groups of events that have to do with each other, those of wanted entities.
    pub fn into_groups(mut self) -> Vec<Group> {
        let mut tied = self.ties.take().map(Ties::finish).unwrap_or_default();
        let mut groups: Vec<Vec<EntityKey>> = Vec::new();
        let mut places: HashMap<EntityKey, usize> = HashMap::new();
        for entity in std::mem::take(&mut self.order) {
            let at = *places.entry(tied.group_of(&entity)).or_insert(groups.len());
            if at == groups.len() {
                groups.push(Vec::new());
            }
            groups[at].push(entity);
        }
        let wanted = groups.into_iter().filter(|group| group.iter().any(|entity| self.wanted.has(entity)));
        let wanted: Vec<_> = wanted.collect();
        wanted.into_iter().map(|group| self.group(&group)).collect()
    }

    fn group(&mut self, entities: &[EntityKey]) -> Group {
        let (mut events, mut conflicts, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for entity in entities {
            let entity = self.entities.remove(entity).unwrap_or_default();
            let before = events.len();
            events.extend(entity.events);
            conflicts.extend(entity.conflicts.into_iter().map(|(given, with)| (given, before + with)));
            order.extend(entity.order.into_iter().map(|(arrived, event)| (arrived, before + event)));
        }
        order.sort_unstable();
        let order: Vec<usize> = order.into_iter().map(|(_, event)| event).collect();
        Group::new(entities, events, conflicts, &order)
    }
}

impl Wanted {
    fn has(&self, entity: &EntityKey) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        is(&self.kind, entity.kind()) && is(&self.key, entity.key())
    }
}
