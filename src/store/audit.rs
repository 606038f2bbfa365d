//! Looking at the whole store: whether every row can be read, and whether what is counted and listed beside the entities
//! agrees with them. In one snapshot, whose pages are not reused meanwhile: it does nothing but look.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction};

use super::error::StoreError;
use super::file::Store;
use super::gauges::TypeGauges;
use super::row::{self, StoredRow};
use super::tables::{self, AGENDA, ENTITIES, GAUGES, HISTORY, IDENTITIES};
use crate::model::ids::EntityKey;

/// So many descriptions are kept of each kind of trouble; all are counted.
const DESCRIBED_MAX: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    pub entities: u64,
    pub identities: u64,
    /// Chunks of the history.
    pub chunks: u64,
    /// Rows that are not what was written.
    pub unreadable: Described,
    /// Types whose counts are not those of their rows.
    pub gauges: Described,
    /// Entities that would be looked at at another time than they ask for.
    pub agenda: Described,
}

/// How many there are, and what the first of them are.
#[derive(Debug, Default)]
pub struct Described {
    pub count: u64,
    pub first: Vec<String>,
}

impl Described {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < DESCRIBED_MAX {
            self.first.push(what());
        }
    }
}

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Store {
    /// Looks at every row.
    ///
    /// # Errors
    /// When the file cannot be read; a row that is wrong by itself is told.
    pub fn audit(&self) -> Result<Audit, StoreError> {
        self.read(|transaction| {
            let mut audit = Audit::default();
            let counted = audit.entities(transaction)?;
            let stored: BTreeMap<String, TypeGauges> = tables::all_records(transaction, GAUGES, "gauges")?;
            audit.gauges(counted, stored);
            audit.agenda(transaction)?;
            audit.identities(transaction)?;
            audit.history(transaction)?;
            Ok(audit)
        })
    }

    /// Entities with their rows, in the order of the table, from after one on: at most `limit`. Rows that cannot be read are
    /// passed over.
    pub fn readable_rows(
        &self,
        after: Option<&EntityKey>,
        limit: usize,
    ) -> Result<Vec<(EntityKey, StoredRow)>, StoreError> {
        let after = after.and_then(|entity| tables::entity_key(entity.kind(), entity.key()));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|transaction| {
            let mut rows = Vec::new();
            for entry in transaction.open_table(ENTITIES)?.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                let read = (tables::parse_entity_key(key.value()), row::view_state(key.value(), value.value()));
                let (Ok(entity), Ok(row)) = read else { continue };
                rows.push((entity, row.to_owned()));
                if rows.len() == limit {
                    break;
                }
            }
            Ok(rows)
        })
    }
}

impl Audit {
    /// Reads all entities; counts them by type.
    fn entities(&mut self, transaction: &ReadTransaction) -> Result<BTreeMap<String, TypeGauges>, StoreError> {
        let entities: Rows = transaction.open_table(ENTITIES)?;
        let agenda = transaction.open_table(AGENDA)?;
        let mut counted: BTreeMap<String, TypeGauges> = BTreeMap::new();
        for entry in entities.range::<&[u8]>(..)? {
            let (key, value) = entry?;
            self.entities += 1;
            let read = tables::parse_entity_key(key.value())
                .and_then(|entity| Ok((entity, row::view_state(key.value(), value.value())?)));
            let (entity, row) = match read {
                Ok(read) => read,
                Err(error) => {
                    self.unreadable.add(|| error.to_string());
                    continue;
                }
            };
            // Counting up never fails.
            let _ = counted.entry(entity.kind().to_owned()).or_default().replace(None, row.gaps);
            if let Some(wake) = row.wake
                && agenda.get(tables::agenda_key(wake, key.value()).as_slice())?.is_none()
            {
                self.agenda.add(|| format!("{entity} is not in the agenda and would not be looked at"));
            }
        }
        Ok(counted)
    }

    fn gauges(&mut self, counted: BTreeMap<String, TypeGauges>, stored: BTreeMap<String, TypeGauges>) {
        let mut stored: BTreeMap<_, _> = stored.into_iter().map(|(kind, it)| (kind, it.trimmed())).collect();
        for (kind, counted) in counted {
            let (counted, stored) = (counted.trimmed(), stored.remove(&kind).unwrap_or_default());
            if counted != stored {
                self.gauges.add(|| format!("{kind}: counted {counted:?}, noted {stored:?}"));
            }
        }
        for (kind, stored) in stored.into_iter().filter(|(_, stored)| *stored != TypeGauges::default()) {
            self.gauges.add(|| format!("{kind}: there are none, noted {stored:?}"));
        }
    }

    fn agenda(&mut self, transaction: &ReadTransaction) -> Result<(), StoreError> {
        let entities: Rows = transaction.open_table(ENTITIES)?;
        for entry in transaction.open_table(AGENDA)?.range::<&[u8]>(..)? {
            let (wake, entity) = match tables::parse_agenda_key(entry?.0.value()) {
                Ok(parsed) => parsed,
                Err(error) => {
                    self.unreadable.add(|| error.to_string());
                    continue;
                }
            };
            let Some(key) = tables::entity_key(entity.kind(), entity.key()) else { continue };
            let row = entities.get(key.as_slice())?;
            // A row that cannot be read was told of.
            let asks = match &row {
                Some(row) => row::view_state(&key, row.value()).map_or(Some(wake), |row| row.wake),
                None => None,
            };
            if asks != Some(wake) {
                self.agenda.add(|| format!("{entity} is in the agenda for a time it does not ask for"));
            }
        }
        Ok(())
    }

    fn history(&mut self, transaction: &ReadTransaction) -> Result<(), StoreError> {
        for entry in transaction.open_table(HISTORY)?.range::<&tables::HistoryRowKey>(..)? {
            let (key, value) = entry?;
            self.chunks += 1;
            if let Err(error) = row::decode_chunk(key.value(), tables::history_first(key.value()), value.value()) {
                self.unreadable.add(|| error.to_string());
            }
        }
        Ok(())
    }

    fn identities(&mut self, transaction: &ReadTransaction) -> Result<(), StoreError> {
        for entry in transaction.open_table(IDENTITIES)?.range::<&tables::IdentityRowKey>(..)? {
            let (key, value) = entry?;
            self.identities += 1;
            if let Err(error) = row::decode_identity(key.value(), value.value()) {
                self.unreadable.add(|| error.to_string());
            }
        }
        Ok(())
    }
}
