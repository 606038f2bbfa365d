//! What types make of the journal's events: states of as many partitions at a time as fit into memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::left_out::LeftOut;
use super::progress::Progress;
use crate::journal::{Block, JournalReader};
use crate::model::ids::{EntityKey, Lsn, PARTITIONS};
use crate::model::packed::Packed;
use crate::model::record::{Merge, MergeValue, Record, Take};
use crate::model::time::Timestamp;
use crate::node::recovery::RecoveryError;
use crate::rules::{Audience, EntityRules, Rebuilt, Ruleset, Taken};

/// Blocks that a thread is given at a time.
const BLOCKS_AT_ONCE: usize = 4;
/// What a state and its place take, without its events.
pub(super) const STATE_BYTES: u64 = 600;
/// What an identity takes, with its place in an index.
const IDENTITY_BYTES: u64 = 100;

/// The journal's events, for some types.
pub(super) struct Reading<'a> {
    pub reader: JournalReader,
    pub ruleset: &'a Ruleset,
    /// What nobody takes, or not yet.
    pub left_out: &'a LeftOut,
    pub kinds: &'a [Arc<EntityRules>],
    pub threads: usize,
    /// What all states that are held may take.
    pub bytes_max: u64,
    pub progress: &'a Progress,
}

/// A state as far as its events are read.
#[derive(Default)]
pub(super) struct Made {
    pub rebuilt: Rebuilt,
    bytes: u64,
}

/// The states of a thread's share of the partitions.
#[derive(Default)]
pub(super) struct Share {
    pub made: HashMap<EntityKey, Made>,
    pub bytes: u64,
}

/// States of some partitions.
pub(super) struct Pass {
    pub partitions: Range<u16>,
    pub entities: HashMap<EntityKey, Made>,
    pub refused: Refused,
}

/// Events that counted when they came and do not fit the new rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub count: u64,
    pub first: Option<String>,
}

impl Refused {
    pub fn one(&mut self, why: String) {
        self.add(Refused { count: 1, first: Some(why) });
    }

    pub fn add(&mut self, other: Refused) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// What becomes of an entity.
enum Step {
    Event(Box<Taken>, Timestamp),
    /// It expired, or was forgotten: what it had counts no more.
    End(EntityKey),
}

/// What a thread takes from its blocks: for each share of the partitions the events in their order.
#[derive(Default)]
struct Offered {
    shares: Vec<Vec<Step>>,
    records: u64,
    refused: Refused,
}

impl Reading<'_> {
    /// Reads the whole journal for the partitions from `first` on: as many as fit.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn pass(&self, first: u16) -> Result<Pass, RecoveryError> {
        let mut partitions = first..PARTITIONS;
        let mut shares: Vec<Share> = (0..self.threads).map(|_| Share::default()).collect();
        let mut refused = Refused::default();
        let mut blocks = self.reader.read_from(Lsn::FIRST)?;
        self.progress.begin_pass(&partitions);
        loop {
            let batch: Vec<Block> = blocks.by_ref().take(self.threads * BLOCKS_AT_ONCE).collect::<Result<_, _>>()?;
            if batch.is_empty() {
                break;
            }
            let mut offered = self.offer(&batch, &partitions)?;
            for found in &mut offered {
                self.progress.read(found.records);
                refused.add(std::mem::take(&mut found.refused));
            }
            count_all(&mut shares, offered);
            while shares.iter().map(|share| share.bytes).sum::<u64>() > self.bytes_max && partitions.len() > 1 {
                // What is left out here has a pass of its own later.
                partitions.end = partitions.start + (partitions.end - partitions.start) / 2;
                for share in &mut shares {
                    share.keep(&partitions);
                }
                self.progress.begin_pass(&partitions);
            }
        }
        let entities = shares.into_iter().flat_map(|share| share.made).collect();
        Ok(Pass { partitions, entities, refused })
    }

    /// Offers the events of blocks to the types, each thread those of some blocks; in the order of the blocks.
    fn offer(&self, blocks: &[Block], partitions: &Range<u16>) -> Result<Vec<Offered>, RecoveryError> {
        let each = blocks.len().div_ceil(self.threads).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                blocks.chunks(each).map(|blocks| scope.spawn(move || self.offer_blocks(blocks, partitions))).collect();
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect()
        })
    }

    fn offer_blocks(&self, blocks: &[Block], partitions: &Range<u16>) -> Result<Offered, RecoveryError> {
        let shares = (0..self.threads).map(|_| Vec::new()).collect();
        let mut offered = Offered { shares, ..Offered::default() };
        for (lsn, bytes) in blocks.iter().flat_map(Block::records) {
            let record = Record::decode(bytes).map_err(|source| RecoveryError::Record { lsn, source })?;
            offered.records += 1;
            self.offer_record(&record, partitions, &mut offered);
        }
        Ok(offered)
    }

    fn offer_record(&self, record: &Record, partitions: &Range<u16>, offered: &mut Offered) {
        if record.input.ending().is_some() {
            let share = record.entity.partition().shard(self.threads);
            offered.shares[share].push(Step::End(record.entity.clone()));
        }
        offer(self.ruleset, self.left_out, self.kinds, record, |taken| match taken {
            Ok(taken) if partitions.contains(&taken.entity.partition().0) => {
                let share = taken.entity.partition().shard(self.threads);
                offered.shares[share].push(Step::Event(taken, record.now));
            }
            Ok(_) => {}
            Err(why) => offered.refused.one(why),
        });
    }
}

/// Gives out what types make of a record's event; or why they cannot take it.
pub(super) fn offer(
    ruleset: &Ruleset,
    left_out: &LeftOut,
    kinds: &[Arc<EntityRules>],
    record: &Record,
    mut take: impl FnMut(Result<Box<Taken>, String>),
) {
    let Some((counted, audience)) = Audience::of(&record.input) else { return };
    let is_offered = |rules: &&Arc<EntityRules>| rules.takes(&counted.event.kind);
    let is_for = |taken: &Taken| audience.has(&taken.entity, &record.entity) && !left_out.has(record, taken);
    let mut event = None;
    for rules in kinds.iter().filter(is_offered) {
        let event = event.get_or_insert_with(|| counted.event.unpack());
        match ruleset.take_again(&rules.name, &record.entity, counted, event) {
            Ok(Some(taken)) if is_for(&taken) => take(Ok(taken)),
            Ok(_) => {}
            Err(refusal) => take(Err(format!("event {:?}: {}", counted.event.id, refusal.message))),
        }
    }
}

/// Counts the events, each thread those of its share.
fn count_all(shares: &mut [Share], mut offered: Vec<Offered>) {
    std::thread::scope(|scope| {
        for (at, share) in shares.iter_mut().enumerate() {
            let events: Vec<_> = offered.iter_mut().map(|offered| std::mem::take(&mut offered.shares[at])).collect();
            scope.spawn(move || {
                for step in events.into_iter().flatten() {
                    match step {
                        Step::Event(taken, now) => share.count(taken, now),
                        Step::End(entity) => share.end(&entity),
                    }
                }
            });
        }
    });
}

impl Share {
    pub fn count(&mut self, taken: Box<Taken>, now: Timestamp) {
        let data = || taken.input.event.data.as_ref().map_or(0, Packed::len);
        let adds = |merge: &&Merge| merge.by.is_some() || matches!(merge.take, Take::Set | Take::List { .. });
        let grown = taken.merges.iter().filter(adds).map(|merge| match &merge.value {
            MergeValue::Data => data(),
            MergeValue::Time => size_of::<Timestamp>(),
            MergeValue::Inline(value) => value.len(),
        });
        let grown = IDENTITY_BYTES + grown.sum::<usize>() as u64;
        let made = self.made.entry(taken.entity.clone()).or_insert_with(|| {
            self.bytes += STATE_BYTES;
            Made { bytes: STATE_BYTES, ..Made::default() }
        });
        if made.rebuilt.count(taken, now) {
            made.bytes += grown;
            self.bytes += grown;
        }
    }

    /// What the entity had counts no more.
    pub fn end(&mut self, entity: &EntityKey) {
        if let Some(made) = self.made.remove(entity) {
            self.bytes -= made.bytes;
        }
    }

    /// Lets go of all other partitions.
    pub fn keep(&mut self, partitions: &Range<u16>) {
        self.made.retain(|key, _| partitions.contains(&key.partition().0));
        self.bytes = self.made.values().map(|made| made.bytes).sum();
    }
}
