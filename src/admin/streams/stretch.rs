//! A stretch of the journal as streams need it: read, checked and decoded once, for everybody who comes by.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::admin::api::RenderDecisions;
use crate::admin::decisions::Unreadable;
use crate::admin::position::Position;
use crate::journal::{Block, JournalError, JournalReader};
use crate::model::codec::CodecError;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;
use crate::rules::{Account, Before, EntityRules};

/// What a stretch costs besides its bytes, an item: names, positions, places in tables.
const ITEM_BYTES: usize = 200;

/// What is read of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reading {
    /// Decisions alone: blocks without any are passed over.
    Decisions,
    Records,
}

/// What lies between the position that was asked for and `next`. It never changes.
pub(super) struct Stretch {
    pub content: Content,
    /// Go on here.
    pub next: Lsn,
    /// About what it takes in memory.
    pub bytes: usize,
}

pub(super) enum Content {
    Decisions(Vec<Told>),
    Records(Records),
    /// Nothing that was asked for.
    Nothing,
}

/// A decision as it is told.
pub(super) struct Told {
    /// After it.
    pub position: Position,
    pub entity: EntityKey,
    pub name: Box<str>,
    pub json: Bytes,
}

/// Why there is no stretch.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Record(#[from] Unreadable),
}

impl Stretch {
    /// Reads the next block that holds something at `from` or later. Blocks the thread.
    pub fn read(
        journal: &JournalReader,
        render: &RenderDecisions,
        reading: Reading,
        from: Lsn,
    ) -> Result<Stretch, ReadError> {
        let mut blocks = match reading {
            Reading::Decisions => journal.read_decisions_from(from)?,
            Reading::Records => journal.read_from(from)?,
        };
        let Some(block) = blocks.next().transpose()? else {
            let next = blocks.position().unwrap_or(from);
            return Ok(Stretch { content: Content::Nothing, next, bytes: ITEM_BYTES });
        };
        let next = block.last_lsn().next();
        match reading {
            Reading::Decisions => {
                let told = decisions(&block, from, render)?;
                let bytes = told.iter().map(|told| told.json.len() + ITEM_BYTES).sum::<usize>() + ITEM_BYTES;
                Ok(Stretch { content: Content::Decisions(told), next, bytes })
            }
            Reading::Records => {
                let records = Records::new(block)?;
                let bytes = records.bytes();
                Ok(Stretch { content: Content::Records(records), next, bytes })
            }
        }
    }
}

/// The decisions of a block from `from` on.
fn decisions(block: &Block, from: Lsn, render: &RenderDecisions) -> Result<Vec<Told>, Unreadable> {
    let mut all = Vec::new();
    for (lsn, bytes) in block.decisions().filter(|(lsn, _)| *lsn >= from) {
        let record = Record::decode(bytes).map_err(|source| Unreadable { lsn, source })?;
        let count = record.decisions.len();
        let rendered = render(lsn, &record).into_iter().zip(&record.decisions);
        all.extend(rendered.enumerate().map(|(nth, (json, decision))| Told {
            position: Position::after_decision(lsn, nth, count),
            entity: record.entity.clone(),
            name: decision.name.clone(),
            json: json.into(),
        }));
    }
    Ok(all)
}

/// The records of a block. Most are never told of, so that each is decoded by whoever needs it first.
pub(super) struct Records {
    block: Block,
    /// Those that are not blank, by place.
    lsns: Vec<Lsn>,
    entities: Vec<EntityKey>,
    by_entity: HashMap<EntityKey, Vec<u32>>,
    accounts: Vec<OnceLock<Bytes>>,
}

impl Records {
    fn new(block: Block) -> Result<Self, Unreadable> {
        let entity = |(lsn, bytes)| Record::entity_of(bytes).map_err(|source| Unreadable { lsn, source });
        let lsns = block.records().map(|(lsn, _)| lsn).collect();
        let entities: Vec<EntityKey> = block.records().map(entity).collect::<Result<_, _>>()?;
        let mut by_entity: HashMap<EntityKey, Vec<u32>> = HashMap::new();
        for (nth, entity) in (0..).zip(&entities) {
            by_entity.entry(entity.clone()).or_default().push(nth);
        }
        let accounts = entities.iter().map(|_| OnceLock::new()).collect();
        Ok(Records { block, lsns, entities, by_entity, accounts })
    }

    /// About what it takes with all accounts, which are longer than what they tell of.
    fn bytes(&self) -> usize {
        let records: usize = self.block.records().map(|(_, bytes)| bytes.len() * 3 + ITEM_BYTES).sum();
        records + ITEM_BYTES
    }

    /// Places of the records of entities of a type, from place `nth` on.
    pub fn of_type<'r>(&'r self, kind: &'r str, nth: usize) -> impl Iterator<Item = usize> + 'r {
        (nth..self.entities.len()).filter(move |nth| self.entities[*nth].kind() == kind)
    }

    /// Places of the records of an entity, from place `nth` on.
    pub fn of_entity(&self, entity: &EntityKey, nth: usize) -> impl Iterator<Item = usize> + '_ {
        let all = self.by_entity.get(entity).map_or(&[][..], Vec::as_slice);
        all.iter().map(|place| *place as usize).filter(move |place| *place >= nth)
    }

    /// Position of the record at a place.
    pub fn lsn(&self, nth: usize) -> Lsn {
        self.lsns[nth]
    }

    /// The place of the first record after `lsn`.
    pub fn place_after(&self, lsn: Lsn) -> usize {
        self.lsns.partition_point(|other| *other <= lsn)
    }

    /// What is told of the record at a place, which is one of an entity with these rules.
    pub fn account(&self, nth: usize, rules: &Arc<EntityRules>) -> Result<Bytes, Unreadable> {
        if let Some(account) = self.accounts[nth].get() {
            return Ok(account.clone());
        }
        let lsn = self.lsns[nth];
        let bytes = self.block.at(lsn).unwrap_or_default();
        let record = Record::decode(bytes).map_err(|source: CodecError| Unreadable { lsn, source })?;
        let account = Bytes::from(Account::new(rules, lsn, &record, Before::Nothing).to_json());
        Ok(self.accounts[nth].get_or_init(|| account).clone())
    }
}
