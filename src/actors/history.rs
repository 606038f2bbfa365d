//! Where an entity's records are: rows of the store and, for the newest, its book.

use actix::{Handler, Message};
use tokio::sync::oneshot;

use super::supervisor::Supervisor;
use crate::model::book::{CHUNK_LSNS, LsnBook, LsnChunk};
use crate::model::ids::{EntityKey, Lsn};
use crate::store::{Store, StoreError};

/// The positions of an entity's records.
pub struct History<'a> {
    pub store: &'a Store,
    pub entity: &'a EntityKey,
    /// Taken before the store is asked: what leaves the book is in the store then.
    pub book: &'a LsnBook,
}

impl History<'_> {
    /// The first ones after `after`, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(&self, after: Lsn, limit: usize) -> Result<Vec<Lsn>, StoreError> {
        let newest = self.book.first().unwrap_or(Lsn(u64::MAX));
        let mut found = Vec::new();
        if after.next() < newest {
            let chunks = self.store.history_from(self.entity, after.next(), chunks_of(limit))?;
            found.extend(chunks.iter().flat_map(LsnChunk::lsns).filter(|lsn| after < *lsn && *lsn < newest));
        }
        let room = limit.saturating_sub(found.len());
        found.extend(self.book.after(after).take(room));
        found.truncate(limit);
        Ok(found)
    }

    /// The last ones before `before`, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn before(&self, before: Lsn, limit: usize) -> Result<Vec<Lsn>, StoreError> {
        let end = self.book.first().map_or(before, |first| first.min(before));
        let mut found: Vec<Lsn> = self.book.before(before).take(limit).collect();
        if found.len() < limit {
            for chunk in self.store.history_before(self.entity, end, chunks_of(limit))? {
                let lsns: Vec<Lsn> = chunk.lsns().filter(|lsn| *lsn < end).collect();
                found.extend(lsns.into_iter().rev());
            }
            found.truncate(limit);
        }
        Ok(found)
    }
}

/// Asks for an entity's book, as of its last committed record. Its state stays where it is: that of a busy key is large.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadBook {
    pub entity: EntityKey,
    pub reply: oneshot::Sender<LsnBook>,
}

impl Handler<ReadBook> for Supervisor {
    type Result = ();

    fn handle(&mut self, ReadBook { entity, reply }: ReadBook, _: &mut Self::Context) {
        let live = self.slots.find(&entity).and_then(|id| self.slots.get_mut(id)).map(|slot| slot.book.clone());
        let here = live.or_else(|| self.handed.get(&entity).map(|handed| handed.book(&entity)));
        // Where the store cannot be read the process ends, and nobody is answered.
        if let Some(book) = here.or_else(|| self.load(&entity).map(|(kept, _)| kept.book)) {
            let _ = reply.send(book);
        }
    }
}

/// So many chunks hold `limit` positions, wherever in the first one they begin.
fn chunks_of(limit: usize) -> usize {
    limit / CHUNK_LSNS + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Version;
    use crate::store::{CheckpointWriter, EntityWrite, StoreOptions, StoredRow};

    /// The positions of an entity, in pages forwards and backwards.
    fn check(history: &History<'_>, expected: &[Lsn]) {
        for limit in [1, 7, 128, 1000] {
            let (mut forwards, mut backwards) = (Vec::new(), Vec::new());
            loop {
                let page = history.after(forwards.last().copied().unwrap_or_default(), limit).unwrap();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                forwards.extend(page);
            }
            assert_eq!(forwards, expected, "{limit} a page");
            loop {
                let page = history.before(backwards.last().copied().unwrap_or(Lsn(u64::MAX)), limit).unwrap();
                if page.is_empty() {
                    break;
                }
                backwards.extend(page);
            }
            backwards.reverse();
            assert_eq!(backwards, expected, "{limit} a page, from the end");
        }
    }

    /// If this failed, the history of a busy key would lack records or repeat some, depending on what was stored when.
    #[test]
    fn pages_are_complete_wherever_positions_are() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let mut writer = CheckpointWriter::new(store.clone());
        let (hot, other) = (EntityKey::new("t", "hot"), EntityKey::new("t", "other"));
        let mut all = Vec::new();
        let mut book = LsnBook::default();
        for n in 1..=700 {
            // Those in between are the other's.
            let lsn = Lsn(3 * n + n % 3);
            book.note(Version(n), lsn, None);
            all.push(lsn);
            if [100, 300, 301, 640].contains(&n) {
                let before = book.clone();
                for entity in [&hot, &other] {
                    let row = StoredRow { version: Version(n), lsn, gaps: None, wake: None, state: Vec::new() };
                    let (entity, history) = (entity.clone(), book.sealed().to_vec());
                    let write = EntityWrite { entity, row, ended: Version(0), identities: Vec::new(), history };
                    writer.write(vec![write], lsn).unwrap();
                }
                book.spill_through(lsn);
                check(&History { store: &store, entity: &hot, book: &before }, &all);
                check(&History { store: &store, entity: &hot, book: &book }, &all);
            }
        }
        assert_eq!(book.sealed().len(), 0);
        check(&History { store: &store, entity: &hot, book: &book }, &all);
        let nothing = EntityKey::new("t", "hot2");
        check(&History { store: &store, entity: &nothing, book: &LsnBook::default() }, &[]);
    }
}
