//! Where in the journal the records of one entity are: the index behind its history. Kept beside the state, not in it, since
//! only the commit of a record tells its LSN.
//!
//! There are as many books as live entities, so everything but the last record's position is packed into one small piece
//! of bytes. So many positions at a time are sealed into a chunk, always at the same places, so that a replay seals the
//! same ones again; chunks become rows of the store at the next checkpoint and leave the book.

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use smallvec::SmallVec;

use super::ids::{Lsn, Version};

/// So many positions make a chunk.
pub const CHUNK_LSNS: usize = 128;

/// The positions of an entity's newest records, of those that made standing decisions, and how many duplicates came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct LsnBook {
    pub version: Version,
    pub last: Lsn,
    /// [`Trail`], packed; nothing for an entity without records.
    trail: Box<[u8]>,
    /// Chunks without a row yet, oldest first; most entities have none.
    #[allow(clippy::box_collection)] // a third of the size
    sealed: Option<Box<Vec<LsnChunk>>>,
}

/// Consecutive records of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct LsnChunk {
    pub first: Lsn,
    /// How far each of the others is from the one before it.
    deltas: Box<[u8]>,
}

impl LsnChunk {
    /// A chunk in its stored form; `None` if the bytes are none.
    pub fn new(first: Lsn, deltas: &[u8]) -> Option<Self> {
        sum(deltas)?.checked_add(first.0)?;
        Some(LsnChunk { first, deltas: deltas.into() })
    }

    /// The stored form, which goes with [`LsnChunk::first`].
    pub fn deltas(&self) -> &[u8] {
        &self.deltas
    }

    /// The last position.
    pub fn last(&self) -> Lsn {
        self.first.plus(sum(&self.deltas).unwrap_or_default())
    }

    /// The positions, in order.
    pub fn lsns(&self) -> impl Iterator<Item = Lsn> {
        positions(self.first, &self.deltas)
    }
}

/// What is packed into a book.
#[derive(Default)]
struct Trail<'a> {
    /// How many positions there are since the last chunk, the last record's among them.
    count: u64,
    duplicates: u64,
    /// Records that made decisions as they stand.
    decisions: SmallVec<[(Version, Lsn); 2]>,
    /// How far each position is from the one before, but for the first.
    deltas: &'a [u8],
}

impl<'a> Trail<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        if rest.is_empty() {
            return Some(Trail::default());
        }
        let (count, duplicates) = (take(&mut rest)?, take(&mut rest)?);
        let mut decisions = SmallVec::new();
        for _ in 0..take(&mut rest)? {
            decisions.push((Version(take(&mut rest)?), Lsn(take(&mut rest)?)));
        }
        Some(Trail { count, duplicates, decisions, deltas: rest })
    }

    /// The packed form, with one more delta.
    fn pack(&self, delta: Option<u64>) -> Box<[u8]> {
        let mut bytes = SmallVec::<[u8; 128]>::new();
        let decisions = self.decisions.iter().flat_map(|(version, lsn)| [version.0, lsn.0]);
        for number in [self.count, self.duplicates, self.decisions.len() as u64].into_iter().chain(decisions) {
            put(&mut bytes, number);
        }
        bytes.extend_from_slice(self.deltas);
        if let Some(delta) = delta {
            put(&mut bytes, delta);
        }
        Box::from(&*bytes)
    }
}

impl LsnBook {
    /// Notes that the record of `version` was committed at `lsn`.
    /// `standing` are the versions of the standing decisions after it, if it made any.
    pub fn note(&mut self, version: Version, lsn: Lsn, standing: Option<&[Version]>) {
        let mut trail = Trail::read(&self.trail).unwrap_or_default();
        if let Some(standing) = standing {
            // A replay notes what the book may know already.
            trail.decisions.retain(|(known, _)| *known != version && standing.contains(known));
            trail.decisions.push((version, lsn));
        }
        let is_new = lsn > self.last;
        let delta = (is_new && trail.count > 0).then(|| lsn.0 - self.last.0);
        trail.count += u64::from(is_new);
        let mut packed = trail.pack(delta);
        if trail.count as usize == CHUNK_LSNS {
            let deltas = Trail::read(&packed).unwrap_or_default().deltas;
            let first = Lsn(lsn.0 - sum(deltas).unwrap_or_default());
            self.sealed.get_or_insert_default().push(LsnChunk { first, deltas: deltas.into() });
            packed = Trail { count: 0, deltas: &[], ..trail }.pack(None);
        }
        self.trail = packed;
        self.version = version;
        self.last = lsn;
    }

    /// Where the record of `version` is, if it is the last one or made a standing decision.
    pub fn lsn_of(&self, version: Version) -> Option<Lsn> {
        if version == self.version {
            return Some(self.last);
        }
        let trail = Trail::read(&self.trail)?;
        trail.decisions.iter().find(|(known, _)| *known == version).map(|(_, lsn)| *lsn)
    }

    /// An event came that had counted before. It makes no record: what is noted here is stored with the next one.
    pub fn count_duplicate(&mut self) {
        let trail = Trail::read(&self.trail).unwrap_or_default();
        self.trail = Trail { duplicates: trail.duplicates + 1, ..trail }.pack(None);
    }

    /// How many duplicates are known to have come.
    pub fn duplicates(&self) -> u64 {
        Trail::read(&self.trail).unwrap_or_default().duplicates
    }

    /// The first position that the book itself knows; older ones have rows.
    pub fn first(&self) -> Option<Lsn> {
        self.sealed().first().map(|chunk| chunk.first).or_else(|| self.newest().next())
    }

    /// The positions after `after` that the book itself knows, in order.
    pub fn after(&self, after: Lsn) -> impl Iterator<Item = Lsn> {
        let sealed = self.sealed();
        let holds = sealed.partition_point(|chunk| chunk.first <= after).saturating_sub(1);
        sealed[holds..].iter().flat_map(LsnChunk::lsns).chain(self.newest()).filter(move |lsn| *lsn > after)
    }

    /// The positions before `before` that the book itself knows, the newest first.
    pub fn before(&self, before: Lsn) -> impl Iterator<Item = Lsn> {
        let newest: SmallVec<[Lsn; CHUNK_LSNS]> = self.newest().collect();
        let sealed = self.sealed();
        let sealed = &sealed[..sealed.partition_point(|chunk| chunk.first < before)];
        let sealed = sealed.iter().rev().flat_map(|chunk| {
            let lsns: SmallVec<[Lsn; CHUNK_LSNS]> = chunk.lsns().collect();
            lsns.into_iter().rev()
        });
        newest.into_iter().rev().chain(sealed).filter(move |lsn| *lsn < before)
    }

    /// The positions since the last chunk.
    fn newest(&self) -> impl Iterator<Item = Lsn> {
        let trail = Trail::read(&self.trail).unwrap_or_default();
        let first = Lsn(self.last.0.saturating_sub(sum(trail.deltas).unwrap_or_default()));
        positions(first, trail.deltas).take(trail.count as usize)
    }

    /// Chunks that are to get rows.
    pub fn sealed(&self) -> &[LsnChunk] {
        self.sealed.as_deref().map_or(&[], Vec::as_slice)
    }

    /// A copy without the chunks, which go into rows of their own.
    #[must_use]
    pub fn without_sealed(&self) -> LsnBook {
        LsnBook { version: self.version, last: self.last, trail: self.trail.clone(), sealed: None }
    }

    /// Drops chunks that are rows of the store now: all that end up to `stored`, the last record that was stored with them.
    pub fn spill_through(&mut self, stored: Lsn) {
        if let Some(sealed) = &mut self.sealed {
            sealed.retain(|chunk| chunk.last() > stored);
        }
        self.sealed.take_if(|sealed| sealed.is_empty());
    }
}

/// The positions from `first` on.
fn positions(first: Lsn, mut deltas: &[u8]) -> impl Iterator<Item = Lsn> {
    std::iter::successors(Some(first), move |last| take(&mut deltas).map(|delta| last.plus(delta)))
}

/// What all deltas come to; `None` if the bytes are none.
fn sum(mut deltas: &[u8]) -> Option<u64> {
    let mut sum = 0_u64;
    while !deltas.is_empty() {
        sum = sum.checked_add(take(&mut deltas).filter(|delta| *delta > 0)?)?;
    }
    Some(sum)
}

/// Appends a number: seven bits a byte, the lowest first, the highest bit set in all but the last.
fn put(bytes: &mut SmallVec<[u8; 128]>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

impl<Context> Decode<Context> for LsnChunk {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (first, deltas) = (Lsn::decode(decoder)?, Box::<[u8]>::decode(decoder)?);
        LsnChunk::new(first, &deltas).ok_or(DecodeError::Other("no positions"))
    }
}

bincode::impl_borrow_decode!(LsnChunk);

/// A book that was read can be relied on: its bytes are looked at here, and nowhere else.
impl<Context> Decode<Context> for LsnBook {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (version, last) = (Version::decode(decoder)?, Lsn::decode(decoder)?);
        let (trail, sealed) = (Box::<[u8]>::decode(decoder)?, Decode::decode(decoder)?);
        let is_sound = || {
            let read = Trail::read(&trail)?;
            let others = read.deltas.iter().filter(|byte| **byte < 0x80).count() as u64;
            let is_counted = read.count == others + u64::from(read.count > 0) && read.count < CHUNK_LSNS as u64;
            (is_counted && sum(read.deltas)? <= last.0 && read.duplicates < u64::MAX / 2).then_some(())
        };
        is_sound().ok_or(DecodeError::Other("no book of positions"))?;
        Ok(LsnBook { version, last, trail, sealed })
    }
}

bincode::impl_borrow_decode!(LsnBook);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::codec;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    fn read_back(book: &LsnBook) -> LsnBook {
        codec::decode(3, &codec::encode(3, book)).unwrap()
    }

    /// The store's content: a change here makes old folders unreadable.
    #[test]
    fn stored_form_is_frozen() {
        let mut book = LsnBook::default();
        assert_eq!(hex(&codec::encode(3, &book)), "0300000000");
        book.note(Version(9), Lsn(1000), Some(&[Version(9)]));
        book.note(Version(10), Lsn(70_000), None);
        book.count_duplicate();
        assert_eq!(hex(&codec::encode(3, &book)), "030afc701101000902010109e807889b0400");
        assert_eq!(read_back(&book), book);
        let chunk = LsnChunk::new(Lsn(7), &[1, 0x80, 1]).unwrap();
        assert_eq!(chunk.lsns().collect::<Vec<_>>(), [Lsn(7), Lsn(8), Lsn(136)]);
        assert_eq!(hex(&codec::encode(3, &chunk)), "030703018001");
    }

    #[test]
    fn the_book_knows_the_last_record_and_those_of_standing_decisions() {
        let mut book = LsnBook::default();
        book.note(Version(1), Lsn(10), Some(&[Version(1)]));
        book.note(Version(2), Lsn(20), Some(&[Version(1), Version(2)]));
        book.note(Version(3), Lsn(30), None);
        book.note(Version(4), Lsn(40), Some(&[Version(4), Version(2)]));
        book.note(Version(5), Lsn(50), None);
        let known: Vec<_> = (1..=5).map(|version| book.lsn_of(Version(version)).map(|lsn| lsn.0)).collect();
        assert_eq!(known, [None, Some(20), None, Some(40), Some(50)]);
    }

    /// If this failed, every live entity would take more memory, and there are hundreds of thousands.
    #[test]
    fn a_book_is_small() {
        let mut book = LsnBook::default();
        for n in 1..=5 {
            book.note(Version(n), Lsn(1_000_000 + 7 * n), (n == 3).then_some(&[Version(3)]));
        }
        assert!(size_of::<LsnBook>() <= 40, "{}", size_of::<LsnBook>());
        assert!(book.trail.len() <= 16, "what an order knows fits the allocator's smallest places: {:?}", book.trail);
    }

    /// If this failed, bytes that nobody vouches for could end the process, or lead to records of others.
    #[test]
    fn what_is_no_book_is_refused() {
        for trail in
            [&[1_u8][..], &[1, 0, 0, 5], &[2, 0, 0], &[2, 0, 0, 0], &[2, 0, 0, 9], &[2, 0, 1, 1], &[0, 0, 0, 0x80]]
        {
            let book = LsnBook { last: Lsn(8), trail: trail.into(), ..LsnBook::default() };
            assert!(codec::decode::<LsnBook>(3, &codec::encode(3, &book)).is_err(), "{trail:?}");
        }
        assert_eq!(LsnChunk::new(Lsn(u64::MAX), &[1]), None);
        assert_eq!(LsnChunk::new(Lsn(1), &[0xff; 10]), None);
    }

    proptest! {
        /// If this failed, an entity's history would lack records or show some twice: after a crash between any two records,
        /// with chunks that were stored or not, the same records noted again give the same rows and the same rest.
        #[test]
        fn every_position_is_known_once_whatever_was_replayed(
            steps in prop::collection::vec(1_u64..1 << 22, 1..600),
            stored_at in any::<prop::sample::Index>(),
            told_at in any::<prop::sample::Index>(),
        ) {
            let lsns: Vec<Lsn> = steps.iter().scan(0, |last, step| { *last += step; Some(Lsn(*last)) }).collect();
            let (stored_at, told_at) = (stored_at.index(lsns.len()), told_at.index(lsns.len()));
            let mut rows = std::collections::BTreeMap::new();
            let (mut live, mut stored) = (LsnBook::default(), LsnBook::default());
            for (n, lsn) in lsns.iter().enumerate() {
                live.note(Version(n as u64 + 1), *lsn, None);
                if n == stored_at {
                    stored = read_back(&live.without_sealed());
                    rows.extend(live.sealed().iter().map(|chunk| (chunk.first, chunk.clone())));
                }
                if n == told_at && told_at >= stored_at {
                    live.spill_through(lsns[stored_at]);
                }
            }
            let all = |book: &LsnBook| {
                let known: Vec<Lsn> = book.after(Lsn::ZERO).collect();
                let backwards: Vec<Lsn> = book.before(Lsn(u64::MAX)).collect();
                assert!(backwards.iter().rev().eq(&known) && book.first() == known.first().copied());
                let middle = known.get(known.len() / 3).copied().unwrap_or_default();
                assert!(book.after(middle).eq(known.iter().copied().filter(|lsn| *lsn > middle)));
                assert!(book.before(middle).eq(known.iter().copied().rev().filter(|lsn| *lsn < middle)));
                let older = rows.values().flat_map(LsnChunk::lsns);
                let older = older.filter(|lsn| known.first().is_none_or(|first| lsn < first));
                older.chain(known.iter().copied()).collect::<Vec<_>>()
            };
            prop_assert_eq!(&all(&live), &lsns);
            // A crash; the records above some watermark at or below what is stored are noted again.
            for (n, lsn) in lsns.iter().enumerate().skip(stored_at) {
                stored.note(Version(n as u64 + 1), *lsn, None);
            }
            prop_assert_eq!(&all(&stored), &lsns);
            for chunk in stored.sealed() {
                prop_assert_eq!(chunk.lsns().count(), CHUNK_LSNS);
                let differing = live.sealed().iter().find(|it| it.first == chunk.first && *it != chunk);
                prop_assert_eq!(differing, None);
            }
        }
    }
}
