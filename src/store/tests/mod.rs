//! The store as its callers see it: on a real file, against damage, and against a map in memory.

mod audit;
mod copying;
mod damage;
mod look_ups;
mod opening;
mod oracle;
mod writing;

use std::path::Path;

use super::{CheckpointWriter, EntityWrite, Store, StoreOptions, StoredIdentity, StoredRow};
use crate::model::ids::{EntityKey, IdentityHash, Lsn, PayloadHash, Version};
use crate::model::state::Gaps;

const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 4 * 1024 * 1024 };

fn open(dir: &Path) -> Store {
    Store::open(dir, OPTIONS).expect("the store opens")
}

/// A store in a directory that goes when the test ends.
fn scratch() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = open(dir.path());
    (dir, store)
}

fn row(version: u64, missing: u64, state: &[u8]) -> StoredRow {
    let gaps = Some(Gaps { missing, waiting: 0 });
    StoredRow { version: Version(version), lsn: Lsn(version), gaps, wake: None, state: state.to_vec() }
}

fn write_of(kind: &str, key: &str, row: StoredRow) -> EntityWrite {
    EntityWrite {
        entity: EntityKey::new(kind, key),
        row,
        ended: Version(0),
        identities: Vec::new(),
        history: Vec::new(),
    }
}

fn identity(number: u64) -> (IdentityHash, StoredIdentity) {
    let stored = StoredIdentity { payload: PayloadHash(number), seen_ms: number.cast_signed() };
    (IdentityHash::of("test", &number.to_string()), stored)
}

/// Stores `writes` as one call of the writer, noting LSN 1,000.
fn store_all(store: &Store, writes: Vec<EntityWrite>) {
    CheckpointWriter::new(store.clone()).write(writes, Lsn(1000)).expect("the writes are stored");
}
