//! Reading committed blocks from a position on, with every checksum, the chain and the positions checked on the way.

use std::sync::Arc;

use super::block::{Block, BlockHeader};
use super::error::{JournalError, at};
use super::segment;
use super::segments::{SegmentBlocks, Segments};
use crate::model::ids::Lsn;

/// Reads what is committed, also of segments made later. Cheap to clone; the files stay open (and locked for other
/// processes) as long as one is kept.
#[derive(Clone, Debug)]
pub struct JournalReader {
    segments: Arc<Segments>,
}

impl JournalReader {
    pub(super) fn new(segments: Arc<Segments>) -> Self {
        JournalReader { segments }
    }

    /// Position of the last committed record, [`Lsn::ZERO`] if there never was one.
    pub fn last_lsn(&self) -> Lsn {
        self.segments.last_lsn()
    }

    /// Position of the first record still kept; right after [`Self::last_lsn`] if there is none.
    pub fn first_lsn(&self) -> Lsn {
        self.segments.first_lsn()
    }

    /// Bytes of the disk that the journal's files take.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// All segments, oldest first, the last one still growing: each one's first position, and the bytes of the disk it takes.
    pub fn spans(&self) -> Vec<(Lsn, u64)> {
        self.segments.spans()
    }

    /// The blocks that hold records at `from` or later, in order. The first may begin before `from`.
    ///
    /// # Errors
    /// [`JournalError::Trimmed`] if `from` is no longer kept.
    pub fn read_from(&self, from: Lsn) -> Result<Blocks, JournalError> {
        self.blocks(from, Wanted::All)
    }

    /// As [`Self::read_from`], without the blocks that hold no decision: of those only the header is looked at.
    pub fn read_decisions_from(&self, from: Lsn) -> Result<Blocks, JournalError> {
        self.blocks(from, Wanted::WithDecisions)
    }

    fn blocks(&self, from: Lsn, wanted: Wanted) -> Result<Blocks, JournalError> {
        let from = from.max(Lsn::FIRST);
        let first = self.first_lsn();
        if from < first {
            return Err(JournalError::Trimmed { from, first });
        }
        Ok(Blocks { segments: self.segments.clone(), wanted, position: Position::Within(from) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    WithDecisions,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// Nothing was read yet; the block that holds this record comes first.
    Within(Lsn),
    /// The next block starts here and its chain says this.
    StartingAt(Lsn, u32),
    /// An error was given out; nothing comes after it.
    Failed,
}

/// Blocks in order. `None` means that no more is committed for now: asked again later, it goes on where it was, so one
/// iterator can follow the journal's end. After an error it stays at `None`.
#[derive(Debug)]
pub struct Blocks {
    segments: Arc<Segments>,
    wanted: Wanted,
    position: Position,
}

impl Blocks {
    /// Everything before this position was given out or passed over as not wanted.
    pub fn position(&self) -> Option<Lsn> {
        match self.position {
            Position::Within(lsn) | Position::StartingAt(lsn, _) => Some(lsn),
            Position::Failed => None,
        }
    }

    fn advance(&mut self) -> Result<Option<Block>, JournalError> {
        loop {
            let (Position::Within(lsn) | Position::StartingAt(lsn, _)) = self.position else { return Ok(None) };
            if lsn > self.segments.last_lsn() {
                return Ok(None);
            }
            let (header, block) = self.segments.read(lsn, |blocks| self.load(blocks))?;
            self.position = Position::StartingAt(header.last_lsn().next(), header.crc);
            if block.is_some() {
                return Ok(block);
            }
        }
    }

    /// Reads the block at the position; without its records if it is not wanted.
    fn load(&self, blocks: &SegmentBlocks<'_>) -> Result<(BlockHeader, Option<Block>), JournalError> {
        let path = &blocks.path;
        let found = match self.position {
            Position::Within(lsn) => match blocks.table.range(..=lsn.0).map_err(at(path, "read"))?.next_back() {
                Some(row) => Some(row.map(|(key, value)| (key.value(), value)).map_err(at(path, "read"))?),
                None => None,
            },
            Position::StartingAt(lsn, _) => {
                blocks.table.get(lsn.0).map_err(at(path, "read"))?.map(|value| (lsn.0, value))
            }
            Position::Failed => None,
        };
        let lsn = self.position().unwrap_or_default();
        let (key, value) =
            found.ok_or_else(|| JournalError::corrupt(path, format!("the block of LSN {lsn} is missing")))?;
        let header = segment::decode_header(path, Lsn(key), value.value())?;
        self.check_place(&header, blocks)?;
        if self.wanted == Wanted::WithDecisions && !header.has_decisions {
            return Ok((header, None));
        }
        let block = Block::decode(&header, value.value().to_vec())
            .map_err(|error| segment::block_error(path, header.first_lsn, &error))?;
        Ok((header, Some(block)))
    }

    /// The block must hold what was asked for and continue what came before it.
    fn check_place(&self, header: &BlockHeader, blocks: &SegmentBlocks<'_>) -> Result<(), JournalError> {
        let before = match self.position {
            Position::StartingAt(_, chain) => Some(chain),
            // In mid-segment the first block is taken at its own checksums' word.
            Position::Within(_) | Position::Failed => None,
        };
        let starts_segment = header.first_lsn == blocks.header.first_lsn;
        let continues = before.is_none_or(|chain| chain == header.chain)
            && (!starts_segment || header.chain == blocks.header.chain);
        let holds = self.position().is_some_and(|lsn| header.last_lsn() >= lsn);
        let what = match (continues, holds) {
            (true, true) => return Ok(()),
            (false, _) => "does not continue the block before it",
            (true, false) => "ends before the records that must follow it",
        };
        Err(JournalError::corrupt(&blocks.path, format!("the block that starts at LSN {} {what}", header.first_lsn)))
    }
}

impl Iterator for Blocks {
    type Item = Result<Block, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.advance();
        if result.is_err() {
            self.position = Position::Failed;
        }
        result.transpose()
    }
}
