//! What would happen if the rules were others, worked out from the journal alone: nothing is written, nobody is asked.
//!
//! What entities are now is made of the same records: fields by the rules in force, as new rules make theirs, and the facts
//! by evolving without the merges. So both stand at one place in the journal while the node goes on.

use std::collections::{BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use super::left_out::LeftOut;
use super::progress::{Progress, Work};
use super::reading::{Refused, STATE_BYTES, Share, offer};
use super::report::Report;
use crate::journal::JournalReader;
use crate::model::identities::Identities;
use crate::model::ids::{EntityKey, Lsn, PARTITIONS, Partition, Version};
use crate::model::record::Record;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::node::recovery::RecoveryError;
use crate::rules::{self, EntityRules, Ruleset};
use crate::store::{Store, StoreError, StoreOptions};
use crate::vital;

/// The page cache of a store of which only the marks are read.
const STORE_CACHE_BYTES: usize = 1024 * 1024;

/// A question about other rules.
pub struct Prediction {
    old: Arc<Ruleset>,
    new: Arc<Ruleset>,
    entity: Option<EntityKey>,
    bytes_max: u64,
    left_out: LeftOut,
}

/// What was found of some partitions.
struct Pass {
    partitions: Range<u16>,
    old: Share,
    new: Share,
    facts: HashMap<EntityKey, State>,
}

impl Prediction {
    /// What rules would make of the journal instead of those in force; of one entity, or of all. About `bytes_max` is held in
    /// memory at a time.
    pub fn new(old: Arc<Ruleset>, new: Arc<Ruleset>, entity: Option<EntityKey>, bytes_max: u64) -> Self {
        Prediction { old, new, entity, bytes_max, left_out: LeftOut::default() }
    }

    /// Leaves out what is to be forgotten as the store has it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn leave_out_forgotten(&mut self, store: &Store) -> Result<(), StoreError> {
        self.left_out.forgotten(store)
    }

    /// Opens what a node that is not running left, to ask it of that; none if there is nothing. While the journal is read no
    /// node can start there.
    ///
    /// # Errors
    /// A node runs there, or a file is damaged.
    pub fn open_stopped(&mut self, folder: &Path) -> Result<Option<JournalReader>, RecoveryError> {
        if let Some(store) = Store::of_stopped(folder, StoreOptions { cache_bytes: STORE_CACHE_BYTES })? {
            let incarnation = store.beginning()?.incarnation;
            self.old.begin(incarnation);
            self.new.begin(incarnation);
            self.leave_out_forgotten(&store)?;
        }
        Ok(JournalReader::of_stopped(folder)?)
    }

    /// The types whose rules differ.
    fn changed<'r>(&self, of: &'r Ruleset) -> impl Iterator<Item = &'r Arc<EntityRules>> {
        let fingerprint = |ruleset: &Ruleset, name: &str| ruleset.get(name).map(|rules| rules.fingerprint);
        let is_changed =
            move |rules: &&Arc<EntityRules>| fingerprint(&self.old, &rules.name) != fingerprint(&self.new, &rules.name);
        of.types().iter().filter(is_changed)
    }

    /// Reads the journal up to `through`, as often as memory asks for. `go_on` is told how far it has come; none if it was
    /// told to stop.
    ///
    /// # Errors
    /// The journal is trimmed, or cannot be read.
    pub fn run(
        &mut self,
        reader: &JournalReader,
        through: Lsn,
        go_on: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Option<Report>, RecoveryError> {
        let changed: Vec<Arc<EntityRules>> = self.changed(&self.new).cloned().collect();
        let is_known = |rules: &&Arc<EntityRules>| self.new.get(&rules.name).is_some();
        let were: Vec<Arc<EntityRules>> = self.changed(&self.old).filter(is_known).cloned().collect();
        let removed = self.changed(&self.old).filter(|rules| !is_known(rules)).map(|rules| rules.name.to_string());
        let mut report = Report::new(through, removed.collect());
        let names: Vec<String> = changed.iter().map(|rules| rules.name.to_string()).collect();
        if reader.first_lsn() > Lsn::FIRST && !changed.is_empty() {
            let folder = "the data folder".to_owned();
            return Err(RecoveryError::Trimmed { folder, types: names, first: reader.first_lsn() });
        }
        self.left_out.held(reader, through)?;
        let progress = Progress::of(Work::Compared);
        progress.begin(through.0);
        let all = self.entity.as_ref().map_or(0..PARTITIONS, |entity| {
            let Partition(one) = entity.partition();
            one..one + 1
        });
        let now = Timestamp::now();
        let mut first = all.start;
        while first < all.end && !changed.is_empty() {
            let mut refused = Refused::default();
            let pass = Pass {
                partitions: first..all.end,
                old: Share::default(),
                new: Share::default(),
                facts: HashMap::new(),
            };
            let read = Reading { asked: self, changed: &changed, were: &were, progress: &progress };
            let Some(pass) = read.all(reader, through, pass, &mut refused, go_on)? else { return Ok(None) };
            // Each pass reads the same events.
            report.refused = refused;
            first = pass.partitions.end;
            self.compare(pass, &changed, now, &mut report);
        }
        Ok(Some(report))
    }

    fn compare(&self, pass: Pass, changed: &[Arc<EntityRules>], now: Timestamp, report: &mut Report) {
        let Pass { mut old, mut new, mut facts, .. } = pass;
        let keys: BTreeSet<EntityKey> = old.made.keys().chain(new.made.keys()).chain(facts.keys()).cloned().collect();
        for key in keys.into_iter().filter(|key| self.entity.as_ref().is_none_or(|asked| asked == key)) {
            let Some(rules) = changed.iter().find(|rules| *rules.name == *key.kind()) else { continue };
            let facts = facts.remove(&key).unwrap_or_default();
            let made = |share: &mut Share| share.made.remove(&key).map(|made| made.rebuilt).unwrap_or_default();
            let before = made(&mut old).carrying(&facts);
            let after = made(&mut new).carrying(&facts);
            if !before.exists() && !after.exists() {
                continue;
            }
            match vital::guarded(|| rules::adopt(rules, &key, after, now)) {
                Ok(adopted) => report.add(&key, self.old.get(key.kind()), &before, rules, &adopted),
                Err(why) => report.panicked(&key, &why),
            }
        }
    }
}

/// One look at the journal.
struct Reading<'a> {
    asked: &'a Prediction,
    changed: &'a [Arc<EntityRules>],
    were: &'a [Arc<EntityRules>],
    progress: &'a Progress,
}

impl Reading<'_> {
    fn all(
        &self,
        reader: &JournalReader,
        through: Lsn,
        mut pass: Pass,
        refused: &mut Refused,
        go_on: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Option<Pass>, RecoveryError> {
        self.progress.begin_pass(&pass.partitions);
        for block in reader.read_from(Lsn::FIRST)? {
            let block = block?;
            for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn <= through) {
                let record = Record::decode(bytes).map_err(|source| RecoveryError::Record { lsn, source })?;
                self.record(record, lsn, &mut pass, refused)?;
            }
            self.progress.read(block.count());
            while pass.bytes() > self.asked.bytes_max && pass.partitions.len() > 1 {
                pass.partitions.end = pass.partitions.start + (pass.partitions.end - pass.partitions.start) / 2;
                pass.keep();
                self.progress.begin_pass(&pass.partitions);
            }
            if go_on(self.progress).is_break() {
                return Ok(None);
            }
            if block.last_lsn() >= through {
                break;
            }
        }
        Ok(Some(pass))
    }

    fn record(
        &self,
        mut record: Record,
        lsn: Lsn,
        pass: &mut Pass,
        refused: &mut Refused,
    ) -> Result<(), RecoveryError> {
        let Pass { partitions, old, new, facts } = pass;
        let is_here = |key: &EntityKey| {
            partitions.contains(&key.partition().0) && self.asked.entity.as_ref().is_none_or(|asked| asked == key)
        };
        if record.input.ending().is_some() {
            old.end(&record.entity);
            new.end(&record.entity);
        }
        let left_out = &self.asked.left_out;
        offer(&self.asked.new, left_out, self.changed, &record, |taken| match taken {
            Ok(taken) if is_here(&taken.entity) => new.count(taken, record.now),
            Ok(_) => {}
            Err(why) => refused.one(why),
        });
        offer(&self.asked.old, left_out, self.were, &record, |taken| match taken {
            Ok(taken) if is_here(&taken.entity) => old.count(taken, record.now),
            // What the rules in force refuse now, since they changed before, does not count.
            Ok(_) | Err(_) => {}
        });
        if !self.changed.iter().any(|rules| *rules.name == *record.entity.kind()) || !is_here(&record.entity) {
            return Ok(());
        }
        let state = facts.entry(record.entity.clone()).or_default();
        if record.input.ending().is_some() {
            // Of one that was forgotten this is the first record that is left.
            state.version = Version(record.version.0.saturating_sub(1));
        }
        if record.version != state.version.next() {
            let (entity, found, state) = (record.entity.to_string(), record.version.0, state.version.0);
            return Err(RecoveryError::Gap { entity, lsn, found, state });
        }
        record.merges.clear();
        rules::evolve(state, &record);
        // Those of the events that count are known from the events.
        state.identities = Identities::default();
        Ok(())
    }
}

impl Pass {
    fn bytes(&self) -> u64 {
        self.old.bytes + self.new.bytes + self.facts.len() as u64 * STATE_BYTES
    }

    fn keep(&mut self) {
        self.old.keep(&self.partitions);
        self.new.keep(&self.partitions);
        self.facts.retain(|key, _| self.partitions.contains(&key.partition().0));
    }
}
