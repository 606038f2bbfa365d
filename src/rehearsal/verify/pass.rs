//! One pass over the journal: the entities of some partitions are followed, then compared with how they are.
//!
//! A running server goes on meanwhile. An entity that has moved on since the cut is followed to where it is: what was read
//! of it is held, and the journal is read on until its records have come to that.

use std::collections::HashMap;
use std::ops::Range;

use super::findings::Kind;
use super::followed::Followed;
use super::holes::{self, Measure};
use super::run::Run;
use super::world::VerifyError;
use crate::actors::Kept;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::Record;
use crate::model::record_head::RecordHead;
use crate::model::state::State;
use crate::store::{StoreError, StoredRow};

/// So many entities are asked for at a time.
const READ_AT_ONCE: usize = 256;
/// So many entities that moved on are held until they are followed to where they are.
const MOVED_MAX: usize = 2_000;
/// So many rows of the store are looked at in one snapshot.
const ROWS_AT_ONCE: usize = 1_000;

type Entities = HashMap<EntityKey, Followed>;

impl Run<'_> {
    /// Verifies the entities of some partitions.
    pub fn pass(&mut self, range: &Range<u16>) -> Result<(), VerifyError> {
        let mut entities = Entities::new();
        self.blank = self.each_record(self.first, |run, lsn, bytes| {
            run.step()?;
            let entity = Record::entity_of(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            let is_in_range = range.contains(&entity.partition().0);
            if !is_in_range && !run.adopted.take_again(lsn) {
                return Ok(());
            }
            let record = Record::decode(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            run.take_again(&mut entities, range, lsn, &record);
            if is_in_range {
                run.follow(&mut entities, lsn, &record);
            }
            Ok(())
        })?;
        let mut keys: Vec<EntityKey> = entities.keys().cloned().collect();
        // In the order of the store's table.
        keys.sort_unstable();
        self.expect(keys.len() as u64);
        let mut moved: Vec<(EntityKey, State)> = Vec::new();
        for keys in keys.chunks(READ_AT_ONCE) {
            for (entity, state) in self.read(keys)? {
                self.step()?;
                let Some(followed) = entities.get_mut(&entity) else { continue };
                match state {
                    Some(state) if state.version > followed.version => moved.push((entity, state)),
                    state => self.compare(&entity, followed, state.as_ref()),
                }
            }
            if moved.len() >= MOVED_MAX {
                self.follow_moved(&mut entities, std::mem::take(&mut moved))?;
            }
        }
        self.follow_moved(&mut entities, moved)?;
        self.rows(range, &entities)
    }

    /// Has entities that were made anew since take a record's event as they did then.
    fn take_again(&mut self, entities: &mut Entities, range: &Range<u16>, lsn: Lsn, record: &Record) {
        let ruleset = self.setup.ruleset;
        for taken in self.adopted.taken(ruleset, lsn, record) {
            if range.contains(&taken.entity.partition().0) {
                let followed = entities.entry(taken.entity.clone()).or_insert_with(|| {
                    self.counts.entities += 1;
                    Followed::new(ruleset, &taken.entity, Version(1))
                });
                if self.adopted.has_forgotten {
                    followed.be_lenient();
                }
                followed.take_again(lsn, record.now, &taken);
            }
        }
    }

    fn follow(&mut self, entities: &mut Entities, lsn: Lsn, record: &Record) {
        self.counts.records += 1;
        let ruleset = self.setup.ruleset;
        let followed = entities.entry(record.entity.clone()).or_insert_with(|| {
            self.counts.entities += 1;
            Followed::new(ruleset, &record.entity, record.version)
        });
        let under = self.adopted.under(record.entity.kind(), lsn);
        let is_new = followed.follow(ruleset, under, lsn, record, &mut self.findings);
        self.sinks.look(ruleset, lsn, record);
        let Some(input) = record.input.arrived() else { return };
        self.meet(input);
        // What came after that is noted at the end, all of it.
        if is_new && lsn <= self.noted {
            self.sequences.note(input, record.now);
        }
    }

    /// Entities as they are; those whose rows cannot be read are told of and left out. Rows are compared on the way.
    fn read(&mut self, keys: &[EntityKey]) -> Result<Vec<(EntityKey, Option<State>)>, VerifyError> {
        let mut rows = Vec::with_capacity(keys.len());
        for entity in keys {
            match Kept::load(self.setup.world.store(), entity) {
                Ok(kept) => rows.push((entity.clone(), kept)),
                // The row itself was told of; what is in it was not looked at yet.
                Err(error @ StoreError::Corrupt { .. }) => {
                    self.findings.of(Kind::Unreadable, entity, error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let keys: Vec<EntityKey> = rows.iter().map(|(entity, _)| entity.clone()).collect();
        let states = self.setup.world.read(&keys)?.into_iter().map(|read| read.map(|it| it.state));
        let mut read = Vec::with_capacity(rows.len());
        for ((entity, kept), state) in rows.into_iter().zip(states) {
            if let (Some(kept), Some(state)) = (kept, &state) {
                self.compare_row(&entity, kept.entity.state(), state);
            }
            read.push((entity, state));
        }
        Ok(read)
    }

    /// The store must have an entity as it is, if it has that version.
    fn compare_row(&mut self, entity: &EntityKey, stored: &State, state: &State) {
        let is_same = stored.version != state.version
            || (stored.events, stored.missing, &stored.fields) == (state.events, state.missing, &state.fields)
                && (&stored.ledger, &stored.dealings) == (&state.ledger, &state.dealings)
                && stored.system == state.system;
        if !is_same {
            self.findings.of(Kind::StoredOtherwise, entity, format!("version {}", state.version.0));
        }
    }

    fn compare(&mut self, entity: &EntityKey, followed: &mut Followed, state: Option<&State>) {
        let is_excused = (self.blank > 0 || self.adopted.has_forgotten) && followed.allow_for_forgotten(state);
        if followed.is_cut() {
            self.counts.cut += 1;
        }
        let Some(state) = state else {
            // Of who is only waited for, or whose life has ended, nobody has to know.
            if followed.is_not_there() || is_excused {
                return;
            }
            let version = followed.version.0;
            return self.findings.of(Kind::Behind, entity, format!("it is not known; {version} records are journaled"));
        };
        let (version, journaled) = (state.version.0, followed.version.0);
        if version < journaled {
            let detail = format!("it is at version {version}, version {journaled} is journaled");
            return self.findings.of(Kind::Behind, entity, detail);
        }
        if version > journaled {
            let detail = format!("it is at version {version}, the journal ends at {journaled}");
            return self.findings.of(Kind::Ahead, entity, detail);
        }
        followed.compare(entity, state, &mut self.findings);
        let rules = self.setup.ruleset.get(entity.kind()).map(|rules| &**rules);
        let measure = Measure::of(self.setup, self.now);
        holes::look(rules, entity, state, followed.incomplete_since, measure, &mut self.findings);
    }

    /// Follows entities that have moved on since the cut to where they were when they were read, and compares them.
    fn follow_moved(&mut self, entities: &mut Entities, moved: Vec<(EntityKey, State)>) -> Result<(), VerifyError> {
        if moved.is_empty() {
            return Ok(());
        }
        let moved: HashMap<EntityKey, State> = moved.into_iter().collect();
        let cut = self.cut;
        self.cut = self.setup.world.journal().last_lsn();
        let followed = self.each_record(cut.next(), |run, lsn, bytes| {
            let head = RecordHead::of(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            let is_wanted = moved.get(&head.entity).is_some_and(|state| head.version <= state.version);
            if is_wanted {
                let record = Record::decode(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
                run.follow(entities, lsn, &record);
            }
            Ok(())
        });
        self.cut = cut;
        followed?;
        for (entity, state) in &moved {
            let Some(followed) = entities.get_mut(entity) else { continue };
            if followed.version < state.version && self.was_forgotten(entity, state)? {
                continue;
            }
            self.compare(entity, followed, Some(state));
        }
        Ok(())
    }

    /// Whether the entity was forgotten after it was read: then records that made it what it was are blank.
    fn was_forgotten(&self, entity: &EntityKey, state: &State) -> Result<bool, VerifyError> {
        let now = self.setup.world.read(std::slice::from_ref(entity))?.pop().flatten();
        Ok(now.is_some_and(|now| now.state.ended() > state.version))
    }

    /// Looks at stored entities that have no records: those are gone if the journal was trimmed, else nothing made them.
    fn rows(&mut self, range: &Range<u16>, entities: &Entities) -> Result<(), VerifyError> {
        let is_whole = self.first <= Lsn::FIRST;
        let mut after = None;
        loop {
            let rows = self.setup.world.store().readable_rows(after.as_ref(), ROWS_AT_ONCE)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let without = |(entity, row): &(EntityKey, StoredRow)| {
                let is_known = row.lsn > Lsn::ZERO && row.lsn <= self.cut;
                is_known && range.contains(&entity.partition().0) && !entities.contains_key(entity)
            };
            let without: Vec<EntityKey> = rows.into_iter().filter(without).map(|(entity, _)| entity).collect();
            if is_whole {
                for entity in &without {
                    self.findings.of(Kind::Orphan, entity, "no record is about it");
                }
                continue;
            }
            for (entity, state) in self.read(&without)? {
                self.counts.entities += 1;
                self.counts.cut += 1;
                let Some(state) = state else { continue };
                let rules = self.setup.ruleset.get(entity.kind()).map(|rules| &**rules);
                let measure = Measure::of(self.setup, self.now);
                holes::look(rules, &entity, &state, None, measure, &mut self.findings);
            }
        }
    }
}
