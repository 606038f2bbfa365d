//! The raw limit: the bytes of the events that count, appended to redb in blocks as large as Turnstile's commits were,
//! two-phase and with quick repair as the journal does it, and nothing else.

use std::time::{Duration, Instant};

use redb::{Database, Durability, TableDefinition};

use super::bed::{self, Events};

const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");

/// Appends `bytes` in blocks of `block_bytes`; how long it took.
pub fn append(bytes: &[u8], block_bytes: usize) -> Duration {
    let folder = bed::folder("raw");
    let database = Database::builder().create(folder.path().join("raw.redb")).expect("a redb file");
    let commit = |key: u64, block: &[u8]| -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        transaction.open_table(BLOCKS)?.insert(key, block)?;
        Ok(transaction.commit()?)
    };
    commit(0, &[]).expect("a table");
    let begin = Instant::now();
    for (key, block) in bytes.chunks(block_bytes).enumerate() {
        commit(key as u64 + 1, block).expect("the disk takes it");
    }
    begin.elapsed()
}

/// The lines of the events, each identity once.
pub fn bytes(events: &Events) -> Vec<u8> {
    let mut seen = std::collections::HashSet::new();
    let mut once = events.first(0);
    once.planned = events.planned.iter().copied().filter(|planned| seen.insert(planned.number)).collect();
    let loads = once.loads(1, turnstile::cli::bench::Rendered::cloud_event);
    loads[0].bytes.clone()
}
