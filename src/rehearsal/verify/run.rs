//! A verification from its beginning to its report.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::adopted::AdoptedTypes;
use super::findings::{Findings, Kind};
use super::options::{Effects, Options};
use super::sequence::{Beginning, Sequences};
use super::sinks::Sinks;
use super::world::{VerifyError, World};
use crate::config::Config;
use crate::model::ids::{IdentityHash, Lsn, PARTITIONS};
use crate::model::record::{EventInput, Record};
use crate::model::record_head::RecordHead;
use crate::model::time::Timestamp;
use crate::rules::Ruleset;

/// What is held of entities at a time, in bytes, about; more only if one partition has more. The journal is read as often as
/// that takes.
pub const HELD_MAX: u64 = 512 << 20;
/// What is held of an entity, unless its state is large, and of each of its records: that it counted.
const ENTITY_BYTES: u64 = 2_048;
const RECORD_BYTES: u64 = 48;
/// How often is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records read, over all passes.
    pub done: u64,
    pub total: u64,
    pub entities: u64,
}

/// What is to be verified, and how.
pub struct Setup<'a> {
    pub world: &'a dyn World,
    pub ruleset: &'a Ruleset,
    pub config: &'a Config,
    pub options: Options,
    pub effects: Effects,
    /// So many records are read in a second; none: as fast as it goes.
    pub records_per_second: Option<u64>,
    /// See [`HELD_MAX`].
    pub held_max: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub findings: Findings,
    first: Lsn,
    through: Lsn,
    counts: Counts,
    took: Duration,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub records: u64,
    pub entities: u64,
    /// Of these, those whose first records are gone, so that not all of them could be compared.
    pub cut: u64,
    pub rows: u64,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// As a document.
    pub fn to_json(&self) -> Json {
        json!({
            "clean": self.is_clean(),
            "first_lsn": self.first.0,
            "lsn": self.through.0,
            "records": self.counts.records,
            "entities": self.counts.entities,
            "not_comparable": self.counts.cut,
            "rows": self.counts.rows,
            "seconds": self.took.as_secs_f64(),
            "notes": self.findings.notes(),
            "findings": self.findings.to_json(),
        })
    }
}

/// A verification under way.
pub(super) struct Run<'a> {
    pub setup: &'a Setup<'a>,
    pub now: Timestamp,
    /// Where the journal began at the start: what is trimmed after that ends the verification.
    pub first: Lsn,
    /// What is journaled up to here is compared.
    pub cut: Lsn,
    /// Numbers of sequences are noted up to here while entities are followed.
    pub noted: Lsn,
    pub findings: Findings,
    pub counts: Counts,
    pub sequences: Sequences,
    pub sinks: Sinks,
    pub adopted: AdoptedTypes,
    /// So many records were made blank, since somebody was forgotten.
    pub blank: u64,
    /// Events that should have come and were not met yet.
    pub sought: HashMap<IdentityHash, (String, String)>,
    pace: Pace<'a>,
}

/// Verifies. `tell` hears how far it is, and ends it by saying no.
///
/// # Errors
/// When journal or store cannot be read.
pub fn verify(setup: &Setup<'_>, tell: &mut dyn FnMut(Progress) -> bool) -> Result<Report, VerifyError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let cut = setup.world.committed();
    let first = setup.world.first();
    let before = Timestamp::from_nanos(now.nanos() - setup.options.waiting_longer.as_nanos().cast_signed());
    let mut run = Run {
        setup,
        now,
        first,
        cut,
        noted: cut,
        findings: Findings::new(setup.options.examples),
        counts: Counts::default(),
        sequences: Sequences::default(),
        sinks: Sinks::of(setup.world, &setup.config.sinks, before.unwrap_or_default())?,
        adopted: AdoptedTypes::of(setup.world, setup.ruleset, first)?,
        blank: 0,
        sought: setup.options.ids.iter().map(|it| (IdentityHash::of(&it.0, &it.1), it.clone())).collect(),
        pace: Pace::new(setup.records_per_second, tell),
    };
    if setup.effects == Effects::LeftOut {
        run.findings
            .note("this is a shadow, which calls no effects: that they are asked for and not called is no finding");
    }
    run.audit()?;
    Sinks::tell_lost(setup.world, &setup.config.sinks, first, &mut run.findings)?;
    run.hold_back()?;
    for range in run.ranges()? {
        run.pass(&range)?;
    }
    run.follow_sequences()?;
    run.look_again()?;
    let Run { mut findings, counts, sequences, sinks, sought, blank, .. } = run;
    sequences.tell(Timestamp::now(), setup.options.gap_older, blank, &mut findings);
    sinks.tell(setup.world, &mut findings)?;
    silent(setup, now, &mut findings);
    for (source, id) in sought.into_values() {
        let before =
            if first > Lsn::FIRST { format!(" since LSN {first}, where the journal begins") } else { String::new() };
        findings.add(Kind::AgainstEvent, "all entities", format!("event {id:?} of {source:?} never came{before}"));
    }
    Ok(Report { findings, first, through: cut, counts, took: started.elapsed() })
}

/// Sources that have had no event for too long.
fn silent(setup: &Setup<'_>, now: Timestamp, findings: &mut Findings) {
    let heard = setup.world.heard().into_iter();
    for heard in heard.filter(|heard| heard.last.after(setup.options.silent_longer) < now) {
        let last = heard.last;
        let detail = if heard.never { format!("nothing since the start at {last}") } else { format!("since {last}") };
        findings.add(Kind::Silent, format!("source {}", heard.source), detail);
    }
}

impl Run<'_> {
    /// Looks at the store as a whole.
    fn audit(&mut self) -> Result<(), VerifyError> {
        let audit = self.setup.world.store().audit()?;
        self.counts.rows = audit.entities + audit.identities + audit.chunks;
        for (kind, described) in
            [(Kind::Unreadable, audit.unreadable), (Kind::Gauges, audit.gauges), (Kind::Agenda, audit.agenda)]
        {
            let more = described.count - described.first.len() as u64;
            for detail in described.first {
                self.findings.add(kind, "store", detail);
            }
            if more > 0 {
                self.findings.add_many(kind, more, "store", "further ones");
            }
        }
        Ok(())
    }

    /// Notes what was held when types were made anew.
    fn hold_back(&mut self) -> Result<(), VerifyError> {
        if !self.adopted.take_again(self.first) {
            return Ok(());
        }
        self.each_record(self.first, |run, lsn, bytes| {
            run.pace.step()?;
            let unread = |source| VerifyError::Record { lsn, source };
            if run.adopted.take_again(lsn) && RecordHead::of(bytes).map_err(unread)?.may_hold() {
                run.adopted.hold(lsn, &Record::decode(bytes).map_err(unread)?);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The partitions that can be held at a time.
    fn ranges(&mut self) -> Result<Vec<Range<u16>>, VerifyError> {
        let records = (self.cut.0 + 1).saturating_sub(self.first.0);
        let held_max = self.setup.held_max;
        if records * (RECORD_BYTES + ENTITY_BYTES) <= held_max {
            self.pace.total = self.pace.done + records;
            return Ok(split(&[], held_max));
        }
        let before = self.pace.done;
        self.pace.total = before + 2 * records;
        let mut weights = vec![0_u64; usize::from(PARTITIONS)];
        self.each_record(self.first, |run, lsn, bytes| {
            let head = RecordHead::of(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            let weight = RECORD_BYTES + if head.version.0 == 1 { ENTITY_BYTES } else { 0 };
            weights[usize::from(head.entity.partition().0)] += weight;
            run.pace.step()
        })?;
        let ranges = split(&weights, held_max);
        self.pace.total = before + records * (1 + ranges.len() as u64);
        Ok(ranges)
    }

    /// Calls `look` with the records from `from` on, up to the cut; returns how many there are blank.
    pub fn each_record(
        &mut self,
        from: Lsn,
        mut look: impl FnMut(&mut Self, Lsn, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<u64, VerifyError> {
        let (mut blank, mut next) = (0, from);
        'blocks: for block in self.setup.world.journal().read_from(from)? {
            let block = block?;
            for (lsn, bytes) in block.records().filter(|(lsn, _)| *lsn >= from) {
                if lsn > self.cut {
                    break 'blocks;
                }
                blank += lsn.0 - next.0;
                next = lsn.next();
                look(self, lsn, bytes)?;
            }
        }
        Ok(blank + (self.cut.0 + 1).saturating_sub(next.0))
    }

    /// An event has come.
    pub fn meet(&mut self, input: &EventInput) {
        if !self.sought.is_empty() {
            self.sought.remove(&IdentityHash::of(&input.event.source, &input.event.id));
        }
    }

    /// There is so much more to do.
    pub fn expect(&mut self, steps: u64) {
        self.pace.total += steps;
    }

    /// Takes a step at the pace that was asked for.
    pub fn step(&mut self) -> Result<(), VerifyError> {
        self.pace.entities = self.counts.entities;
        self.pace.step()
    }

    /// Numbers may have come out of order: what was on its way at the cut is looked at, too.
    fn follow_sequences(&mut self) -> Result<(), VerifyError> {
        let from = self.cut.next();
        self.cut = self.setup.world.committed();
        self.blank += self.each_record(from, |run, lsn, bytes| {
            let record = Record::decode(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            if let Some(input) = record.input.arrived() {
                run.meet(input);
                run.sequences.note(input, record.now);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// What sequences cannot be told of without it is read once more, in the order in which it came.
    fn look_again(&mut self) -> Result<(), VerifyError> {
        let beginning = if self.first > Lsn::FIRST { Beginning::Trimmed } else { Beginning::Kept };
        if !self.sequences.are_doubtful(beginning) {
            return Ok(());
        }
        self.expect((self.cut.0 + 1).saturating_sub(self.first.0));
        self.each_record(self.first, |run, lsn, bytes| {
            run.step()?;
            let record = Record::decode(bytes).map_err(|source| VerifyError::Record { lsn, source })?;
            if let Some(input) = record.input.arrived() {
                run.sequences.look_again(input, beginning);
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Ranges of partitions of which each weighs no more than may be held, unless it is one partition.
fn split(weights: &[u64], held_max: u64) -> Vec<Range<u16>> {
    let (mut ranges, mut start, mut held) = (Vec::new(), 0, 0);
    for (partition, weight) in (0..).zip(weights) {
        if held > 0 && held + weight > held_max {
            ranges.push(start..partition);
            (start, held) = (partition, 0);
        }
        held += weight;
    }
    ranges.push(start..PARTITIONS);
    ranges
}

/// Keeps to a rate, and tells how far it is.
struct Pace<'a> {
    rate: Option<u64>,
    started: Instant,
    told: Instant,
    done: u64,
    total: u64,
    entities: u64,
    tell: &'a mut dyn FnMut(Progress) -> bool,
}

/// The clock is looked at after so many records.
const STEPS: u64 = 256;

impl<'a> Pace<'a> {
    fn new(rate: Option<u64>, tell: &'a mut dyn FnMut(Progress) -> bool) -> Self {
        let now = Instant::now();
        Pace { rate, started: now, told: now, done: 0, total: 0, entities: 0, tell }
    }

    fn step(&mut self) -> Result<(), VerifyError> {
        self.done += 1;
        if !self.done.is_multiple_of(STEPS) {
            return Ok(());
        }
        let due = self.rate.map(|rate| self.started + Duration::from_secs_f64(self.done as f64 / rate as f64));
        while let Some(rest) = due.map(|due| due.saturating_duration_since(Instant::now())).filter(|it| !it.is_zero()) {
            std::thread::sleep(rest.min(TOLD_EVERY));
            self.look()?;
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), VerifyError> {
        if self.told.elapsed() < TOLD_EVERY {
            return Ok(());
        }
        self.told = Instant::now();
        let progress = Progress { done: self.done, total: self.total.max(self.done), entities: self.entities };
        if (self.tell)(progress) { Ok(()) } else { Err(VerifyError::Unwanted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a large journal would be held all at once, or a part of it never be looked at.
    #[test]
    fn partitions_are_split_into_what_can_be_held() {
        let mut weights = vec![10; usize::from(PARTITIONS)];
        assert_eq!(split(&weights, HELD_MAX), split(&[], HELD_MAX));
        assert_eq!(split(&[], HELD_MAX).iter().map(Range::len).collect::<Vec<_>>(), [usize::from(PARTITIONS)]);
        weights[5] = 3 * HELD_MAX;
        weights[9] = HELD_MAX - 30;
        assert_eq!(split(&weights, HELD_MAX), [0..5, 5..6, 6..10, 10..PARTITIONS]);
    }
}
