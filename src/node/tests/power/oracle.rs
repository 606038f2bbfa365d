//! What must be true after a crash, told by what was sent, answered and published before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::fixtures::added;
use super::process::{Process, SERVER, told};
use crate::actors::History;
use crate::disk::simulated::SimDisk;
use crate::egress::{Next, write_cloud_event};
use crate::model::codec;
use crate::model::event::Event;
use crate::model::identities::Identities;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, Version};
use crate::model::json;
use crate::model::outgoing::decision_id;
use crate::model::record::Record;
use crate::model::state::State;

/// Says what is wrong.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// The one failure that is no end: a sink tries again.
pub const SINK_CANNOT_WRITE: &str = "the sink cannot write";

/// How much was asked of the disk when something happened. A cut after that comes after it.
pub type Stamp = usize;

pub struct Sent {
    pub event: Event,
    pub key: String,
    pub n: i64,
}

/// A record that was handed to the journal, in the order of that.
struct Logged {
    entity: EntityKey,
    version: Version,
    bytes: Vec<u8>,
    /// The state it made, without identities: where those are is the store's business.
    state: Vec<u8>,
    event: Option<usize>,
    lines: Vec<u8>,
}

#[derive(Default)]
pub struct Oracle {
    pub events: Vec<Sent>,
    /// The record of LSN n + 1.
    log: Vec<Logged>,
    /// The end of the journal, as told after commits.
    committed: Vec<(Stamp, Lsn)>,
    /// Events that were acknowledged.
    acknowledged: BTreeMap<usize, Stamp>,
    /// Decisions that anybody could have seen: where they are, and what they say.
    published: HashMap<String, (Lsn, Vec<u8>)>,
}

fn comparable(state: &State) -> Vec<u8> {
    let mut state = state.clone();
    state.identities = Identities::default();
    codec::encode(1, &state)
}

/// A decision's id and line.
fn lines(record: &Record) -> Vec<(String, Vec<u8>)> {
    let line = |decision| {
        let mut line = Vec::new();
        write_cloud_event(&mut line, SERVER, record, decision);
        line.push(b'\n');
        (decision_id(&record.entity, decision), line)
    };
    record.decisions.iter().map(line).collect()
}

impl Oracle {
    /// A new event.
    pub fn event(&mut self, key: String, n: i64) -> usize {
        let event = added(&format!("e{}", self.events.len()), &key, n);
        self.events.push(Sent { event, key, n });
        self.events.len() - 1
    }

    /// A record was handed to the journal.
    pub fn logged(&mut self, record: &Record, state: &State, event: Option<usize>) {
        self.log.push(Logged {
            entity: record.entity.clone(),
            version: record.version,
            bytes: record.encode(),
            state: comparable(state),
            event,
            lines: lines(record).into_iter().flat_map(|(_, line)| line).collect(),
        });
    }

    pub fn acknowledge(&mut self, event: usize, stamp: Stamp) {
        self.acknowledged.entry(event).or_insert(stamp);
    }

    /// A commit was told: what it holds can be read by everybody.
    pub fn commit(&mut self, process: &Process, last: Lsn, stamp: Stamp) -> Result<(), String> {
        let before = self.committed_at(Stamp::MAX);
        self.committed.push((stamp, last));
        self.publish(process, before.next())
    }

    fn publish(&mut self, process: &Process, from: Lsn) -> Result<(), String> {
        for block in process.reader.read_decisions_from(from).map_err(told)? {
            for (lsn, bytes) in block.map_err(told)?.records() {
                for (id, line) in lines(&Record::decode(bytes).map_err(told)?) {
                    let (first, known) = self.published.entry(id.clone()).or_insert_with(|| (lsn, line.clone()));
                    ensure!(*known == line, "decision {id} of LSN {first} says something else at LSN {lsn}");
                }
            }
        }
        Ok(())
    }

    /// The end of the journal as it was known.
    pub fn committed_at(&self, stamp: Stamp) -> Lsn {
        let told = self.committed.iter().filter(|(told, _)| *told <= stamp).map(|(_, lsn)| *lsn);
        told.max().unwrap_or(Lsn::ZERO)
    }

    /// How many events were acknowledged in this life.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// What happened after the cut at `stamp` has not happened; a journal that ends at `last` is what is left.
    pub fn roll_back(&mut self, process: &Process, stamp: Stamp, last: Lsn, now: Stamp) -> Result<(), String> {
        self.log.truncate(last.0 as usize);
        self.acknowledged.retain(|_, told| *told <= stamp);
        self.acknowledged.values_mut().for_each(|told| *told = 0);
        let floor = self.committed_at(stamp);
        self.published.retain(|_, (lsn, _)| *lsn <= last);
        self.committed = vec![(0, floor), (now, last)];
        self.publish(process, process.reader.first_lsn())
    }

    /// Checks a process that has just recovered from a cut at `stamp`, when the journal was known to reach `floor`.
    /// Returns where it ends.
    pub fn check(&self, process: &mut Process, disk: &SimDisk, stamp: Stamp, floor: Lsn) -> Result<Lsn, String> {
        let last = process.reader.last_lsn();
        ensure!(last >= floor, "the journal ends at LSN {last}, but {floor} was committed");
        ensure!(last.0 as usize <= self.log.len(), "the journal ends at LSN {last}, {} were written", self.log.len());
        self.check_journal(process, last)?;
        let counted = self.check_states(process, last)?;
        for (event, told) in &self.acknowledged {
            let in_both = |kind: &str| counted.get(kind).is_some_and(|counted| counted.contains(event));
            ensure!(
                *told > stamp || in_both("order") && in_both("tally"),
                "event {event} was acknowledged, and is lost"
            );
        }
        self.check_sink(process, disk, last)?;
        Ok(last)
    }

    /// The journal holds what was written, in that order, from where it begins.
    fn check_journal(&self, process: &Process, last: Lsn) -> Result<(), String> {
        let mut expected = process.reader.first_lsn();
        for block in process.reader.read_from(expected).map_err(told)? {
            for (lsn, bytes) in block.map_err(told)?.records() {
                ensure!(lsn == expected, "LSN {expected} is missing");
                ensure!(bytes == self.log[lsn.0 as usize - 1].bytes, "LSN {lsn} is not what was written there");
                expected = lsn.next();
            }
        }
        ensure!(expected == last.next(), "the journal can be read up to LSN {expected}, not {last}");
        Ok(())
    }

    /// Every state is what its records made of it, knows its identities and where its records are. Returns which events
    /// counted, by entity type.
    fn check_states(&self, process: &mut Process, last: Lsn) -> Result<HashMap<&str, BTreeSet<usize>>, String> {
        let mut counted: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        let mut entities: BTreeMap<&EntityKey, (Vec<Lsn>, Vec<usize>)> = BTreeMap::new();
        for (lsn, logged) in (1..).map(Lsn).zip(&self.log[..last.0 as usize]) {
            let (lsns, events) = entities.entry(&logged.entity).or_default();
            lsns.push(lsn);
            if let Some(event) = logged.event {
                events.push(event);
                let is_new = counted.entry(logged.entity.kind()).or_default().insert(event);
                ensure!(is_new, "event {event} counted twice for {}", logged.entity);
            }
        }
        for (entity, (lsns, events)) in entities {
            let (state, book) = process.known(entity)?;
            let lsn = lsns.last().copied().unwrap_or_default();
            let logged = &self.log[lsn.0 as usize - 1];
            let (found, expected) = (state.version.0, logged.version.0);
            ensure!(found == expected, "{entity} is at version {found}, its last record at {expected}");
            ensure!(comparable(&state) == logged.state, "{entity} is not what it was at version {expected}");
            ensure!(book.lsn_of(state.version) == Some(lsn), "{entity} does not know that its last record is at {lsn}");
            let history = History { store: &process.store, entity, book: &book };
            let known = history.after(Lsn::ZERO, usize::MAX).map_err(told)?;
            ensure!(known == lsns, "the history of {entity} is {known:?}, its records are at {lsns:?}");
            self.check_identities(process, entity, &state, &events)?;
            self.check_fold(process, entity, &events)?;
        }
        Ok(counted)
    }

    fn check_identities(
        &self,
        process: &Process,
        entity: &EntityKey,
        state: &State,
        events: &[usize],
    ) -> Result<(), String> {
        for event in events {
            let given = &self.events[*event].event;
            let id = IdentityHash::of(&given.source, &given.id);
            let is_known = state.identities.get(id).is_some()
                || state.identities.has_spilled() && process.store.identity(entity, id).map_err(told)?.is_some();
            ensure!(is_known, "{entity} has forgotten that event {event} counted");
        }
        Ok(())
    }

    /// The fields again, without any rule.
    fn check_fold(&self, process: &mut Process, entity: &EntityKey, events: &[usize]) -> Result<(), String> {
        let (state, _) = process.known(entity)?;
        let field = |slot: usize| state.fields.get(slot)?.as_ref()?.value();
        let total: i64 = events.iter().map(|event| self.events[*event].n).sum();
        let times = events.len() as i64;
        let mine = events.iter().all(|event| self.events[*event].key == *entity.key());
        let expected: &[(usize, i64)] = match entity.kind() {
            // In name order: last, times, total.
            "order" => &[(1, times), (2, total)],
            "tally" => &[(0, times)],
            _ => &[],
        };
        for (slot, expected) in expected {
            let mut found = Vec::new();
            if let Some(value) = field(*slot) {
                json::write(&mut found, &value);
            }
            let found = String::from_utf8_lossy(&found);
            ensure!(
                found == expected.to_string() && mine,
                "{entity} has {found:?} in field {slot}, {expected} by hand"
            );
        }
        Ok(())
    }

    /// The sink's file holds what was noted, and after it goes on each decision once.
    fn check_sink(&self, process: &mut Process, disk: &SimDisk, last: Lsn) -> Result<(), String> {
        let expected = |end: Lsn| self.log[..end.0 as usize].iter().flat_map(|logged| &logged.lines).copied();
        let noted = process.progress()?.unwrap_or_default().delivered;
        ensure!(noted <= last, "the sink is said to have delivered up to LSN {noted}, the journal ends at {last}");
        ensure!(Process::delivered(disk).into_iter().eq(expected(noted)), "the sink's file is not what was noted");
        loop {
            match process.deliver_only()? {
                Next::More => {}
                Next::Busy(_) => return Err(SINK_CANNOT_WRITE.to_owned()),
                Next::Wait(_) => break,
            }
        }
        ensure!(Process::delivered(disk).into_iter().eq(expected(last)), "the sink's file is not what was decided");
        Ok(())
    }
}
