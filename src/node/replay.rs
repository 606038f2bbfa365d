//! Recovery: bringing the states up to the end of the journal. Nothing is decided again; states evolve from the records
//! above the watermark. Each thread has its share of the partitions, so that the records of one entity stay in order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::recovery::{Opened, RecoveryError};
use crate::actors::{HandedOver, Kept};
use crate::journal::Block;
use crate::metrics::TypeMetrics;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::Record;
use crate::store::{CheckpointWriter, StoreError};

/// So many replayed states are kept unpacked, over all threads; the others in their stored form, a third as large.
const UNPACKED_MAX: usize = 200_000;
/// Blocks that are read ahead for each thread.
const READ_AHEAD_BLOCKS: usize = 4;

type Types = HashMap<Arc<str>, Arc<TypeMetrics>>;

/// What recovery found.
#[derive(Default)]
pub struct Recovered {
    /// Entities the store does not have as they are now.
    pub entities: HashMap<EntityKey, HandedOver>,
    pub records: u64,
    /// What the records took: the journal's tail that is not in the store.
    pub bytes: u64,
}

/// Applies the journal's records above the watermark.
pub fn replay(opened: &Opened, types: &Types) -> Result<Recovered, RecoveryError> {
    for (kind, gauges) in opened.store.gauges()? {
        let Some(metrics) = types.get(kind.as_str()) else { continue };
        metrics.set_counts(gauges.entities, &gauges.missing, &gauges.waiting);
    }
    let from = opened.store.watermark()?.next();
    match opened.replaying_threads {
        0 | 1 => {
            let mut replayer = Replayer::new(opened, types, 1);
            for block in opened.journal.reader().read_from(from)? {
                for (lsn, bytes) in block?.records().filter(|(lsn, _)| *lsn >= from) {
                    replayer.record(bytes, lsn)?;
                }
            }
            Ok(replayer.finish())
        }
        threads => std::thread::scope(|scope| {
            let mut shares = Vec::new();
            let mut replaying = Vec::new();
            for _ in 0..threads {
                let (giving, taking) = crossbeam_channel::bounded(READ_AHEAD_BLOCKS);
                shares.push(giving);
                replaying.push(scope.spawn(move || Replayer::new(opened, types, threads).run(&taking)));
            }
            let dealt = deal(opened, from, &shares);
            drop(shares);
            let joined = |thread: ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            let found: Vec<Result<Recovered, RecoveryError>> = replaying.into_iter().map(joined).collect();
            let mut recovered = Recovered::default();
            let mut wrong = dealt.err();
            for found in found {
                match found {
                    Ok(found) => {
                        recovered.entities.extend(found.entities);
                        recovered.records += found.records;
                        recovered.bytes += found.bytes;
                    }
                    // After a failure the store is closed to all threads; the failure itself is what people need to know.
                    Err(error) => {
                        wrong = Some(wrong.take().filter(|known| !is_consequence(known)).unwrap_or(error));
                    }
                }
            }
            wrong.map_or(Ok(recovered), Err)
        }),
    }
}

/// Whether an error only says that there was one before.
fn is_consequence(error: &RecoveryError) -> bool {
    matches!(error, RecoveryError::Store(StoreError::Unusable(_)))
}

/// A thread's records of a block.
struct Share {
    block: Arc<Block>,
    records: Vec<Lsn>,
}

/// Reads the journal and gives each thread its records.
fn deal(opened: &Opened, from: Lsn, shares: &[Sender<Share>]) -> Result<(), RecoveryError> {
    for block in opened.journal.reader().read_from(from)? {
        let block = Arc::new(block?);
        let mut dealt: Vec<Vec<Lsn>> = shares.iter().map(|_| Vec::new()).collect();
        for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn >= from) {
            let entity = Record::entity_of(bytes).map_err(|source| RecoveryError::Record { lsn, source })?;
            dealt[entity.partition().shard(shares.len())].push(lsn);
        }
        for (share, records) in shares.iter().zip(dealt) {
            if share.send(Share { block: block.clone(), records }).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A replayed entity.
enum Held {
    /// With the version the store has.
    Unpacked(Box<Kept>, Version),
    Packed(HandedOver),
}

impl Held {
    fn packed(self) -> HandedOver {
        match self {
            Held::Packed(handed) => handed,
            Held::Unpacked(kept, stored) => HandedOver::new(&kept, stored, true),
        }
    }
}

/// One thread's part.
struct Replayer<'a> {
    opened: &'a Opened,
    types: &'a Types,
    held: HashMap<EntityKey, Held>,
    unpacked: usize,
    unpacked_max: usize,
    held_max: usize,
    records: u64,
    bytes: u64,
}

impl<'a> Replayer<'a> {
    fn new(opened: &'a Opened, types: &'a Types, threads: usize) -> Self {
        Replayer {
            opened,
            types,
            held: HashMap::new(),
            unpacked: 0,
            unpacked_max: UNPACKED_MAX.min(opened.replayed_held_max) / threads,
            held_max: opened.replayed_held_max / threads,
            records: 0,
            bytes: 0,
        }
    }

    fn run(mut self, shares: &Receiver<Share>) -> Result<Recovered, RecoveryError> {
        for Share { block, records } in shares {
            for (lsn, bytes) in records.into_iter().filter_map(|lsn| Some((lsn, block.at(lsn)?))) {
                self.record(bytes, lsn)?;
            }
        }
        Ok(self.finish())
    }

    fn record(&mut self, bytes: &[u8], lsn: Lsn) -> Result<(), RecoveryError> {
        let record = Record::decode(bytes).map_err(|source| RecoveryError::Record { lsn, source })?;
        self.records += 1;
        self.bytes += bytes.len() as u64;
        let (types, opened) = (self.types, self.opened);
        let kept = self.entity(&record.entity)?;
        let gaps = kept.entity.state().gaps();
        kept.replay(&record, lsn, &opened.server).map_err(|state| RecoveryError::Gap {
            entity: record.entity.to_string(),
            lsn,
            found: record.version.0,
            state: state.0,
        })?;
        if let Some(metrics) = types.get(record.entity.kind()) {
            metrics.gaps_changed(gaps, kept.entity.state().gaps());
        }
        if self.held.len() > self.held_max {
            self.store_held()?;
        } else if self.unpacked > self.unpacked_max {
            self.pack();
        }
        Ok(())
    }

    /// The entity: as it was replayed so far, else as the store has it.
    fn entity(&mut self, key: &EntityKey) -> Result<&mut Kept, RecoveryError> {
        let held = match self.held.entry(key.clone()) {
            Entry::Occupied(held) => {
                let held = held.into_mut();
                if let Held::Packed(packed) = held {
                    *held = Held::Unpacked(Box::new(packed.kept(key)), packed.stored);
                    self.unpacked += 1;
                }
                held
            }
            Entry::Vacant(free) => {
                let stored = Kept::load(&self.opened.store, key)?;
                let version = stored.as_ref().map_or(Version(0), |kept| kept.entity.version());
                self.unpacked += 1;
                free.insert(Held::Unpacked(Box::new(stored.unwrap_or_default()), version))
            }
        };
        match held {
            Held::Unpacked(kept, _) => Ok(kept),
            Held::Packed(_) => unreachable!("it was unpacked just now"),
        }
    }

    /// Packs everything.
    fn pack(&mut self) {
        for held in self.held.values_mut() {
            if let Held::Unpacked(kept, stored) = held {
                *held = Held::Packed(HandedOver::new(kept, *stored, true));
            }
        }
        self.unpacked = 0;
    }

    /// Lets go of what is held; returns what of it the store does not have. A recovery that was cut short may have stored
    /// the rest, with records that this one has not come to yet.
    fn changed(&mut self) -> impl Iterator<Item = (EntityKey, HandedOver)> {
        self.unpacked = 0;
        let held = self.held.drain().map(|(key, held)| (key, held.packed()));
        held.filter(|(_, handed)| handed.version > handed.stored)
    }

    /// Writes what is held, so that a long journal does not need memory for all its entities.
    fn store_held(&mut self) -> Result<(), RecoveryError> {
        let writes = self.changed().map(|(key, handed)| handed.write(key)).collect();
        // All that is replayed is committed.
        CheckpointWriter::new(self.opened.store.clone()).write(writes, self.opened.journal.last_lsn())?;
        Ok(())
    }

    fn finish(mut self) -> Recovered {
        Recovered { entities: self.changed().collect(), records: self.records, bytes: self.bytes }
    }
}
