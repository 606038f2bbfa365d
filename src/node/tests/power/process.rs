//! A node as one thread runs it: its journal, its store and all that paces them are the real ones; entities are a map, as a
//! supervisor keeps them, and what would wait takes steps instead.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::fixtures;
use crate::actors::{Copies, Entity, Kept, Slice, StoredCopy};
use crate::config::Tuning;
use crate::disk::Place;
use crate::disk::simulated::SimDisk;
use crate::egress::{Beyond, Dispatcher, DispatcherSetup, FileSink, Lines, Next, Reached, Routing, Takes};
use crate::journal::{Committed, Committer, Entry, JournalReader};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::event::Event;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::{Input, Record};
use crate::model::state::{LsnBook, State};
use crate::model::system::{SINK_KIND, SinkProgress, SinkWindow, SystemState};
use crate::model::time::Timestamp;
use crate::node::checkpoint::{Checkpoint, Pacing};
use crate::node::recovery;
use crate::node::replay::replay;
use crate::node::retention::{Need, Retention, Room};
use crate::rules::{self, Ruleset, Taken, Verdict};
use crate::store::Store;

/// `order` tells which events counted; `tally` takes the same ones, so that an event is two records.
const RULES: &str = r#"
[entity.order]
key = "event.data.key"
[entity.order.fields]
last = { on = "Added", take = "latest", value = "event.data.n" }
total = { on = "Added", take = "sum", value = "event.data.n" }
times = { on = "Added", take = "count" }
[entity.order.complete]
fields = ["last"]
[entity.order.decision.Large]
when = "order.total > 100"
data = { total = "order.total" }
[entity.order.decision.Odd]
when = "order.last % 2 == 1"
data = { last = "order.last" }
[entity.tally]
key = "event.data.key"
[entity.tally.fields]
times = { on = "Added", take = "count" }
"#;

pub const SERVER: &str = "simulated";
const DATA_DIR: &str = "/data";
const SINK_PATH: &str = "/out/to/decisions.ndjson";
const SINK: &str = "decisions";
/// Few, so that recoveries write to the store.
const REPLAYED_HELD_MAX: usize = 6;

static RULESET: LazyLock<Arc<Ruleset>> = LazyLock::new(|| fixtures::ruleset(RULES));
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::new()));
static TYPES: LazyLock<HashMap<Arc<str>, Arc<TypeMetrics>>> = LazyLock::new(|| {
    let of = |kind: &str, complete: &[&str], decisions: &[&str]| {
        (Arc::from(kind), METRICS.entity_type(kind, complete, &[], decisions))
    };
    HashMap::from([of("order", &["last"], &["Large", "Odd"]), of("tally", &[], &[])])
});
static TUNING: LazyLock<Tuning> = LazyLock::new(|| {
    let mut tuning = fixtures::tuning();
    tuning.journal.segment_bytes = 5 * 4096;
    tuning.journal.commit_bytes_max = 1500;
    tuning.journal.retention = Duration::from_secs(2);
    tuning.checkpoint.journal_bytes = 4000;
    tuning
});

/// Who is to hear of a commit.
pub enum Told {
    /// The sender of the event with this number.
    Sender(usize),
    Sink(oneshot::Sender<Lsn>),
}

/// What goes through the journal with a record.
pub struct Tag {
    pub entity: EntityKey,
    pub version: Version,
    /// As in [`LsnBook::note`].
    standing: Option<Box<[Version]>>,
    told: Told,
}

/// What an event was to one of its takers.
pub enum Taking {
    /// A record, and the state that it made.
    Recorded(Box<(Record, State)>),
    /// Known before; it waits for the commit of what is known.
    Duplicate,
}

/// An entity in memory.
struct Live {
    entity: Entity,
    /// Where its committed records are.
    book: LsnBook,
    stored: Version,
    listed: bool,
    /// Senders of duplicates that wait for a commit.
    waiting: Vec<(Version, usize)>,
}

/// Progress to be journaled, and who is to hear of it.
type Notes = Vec<(Input, oneshot::Sender<Lsn>)>;

/// The clock of the simulation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub instant: Instant,
    pub time: Timestamp,
}

/// A running node.
pub struct Process {
    pub store: Store,
    pub reader: JournalReader,
    committer: Committer<Tag>,
    live: BTreeMap<EntityKey, Live>,
    changed: Vec<EntityKey>,
    copies: Copies<EntityKey>,
    /// The checkpoint under way, and how much was journaled when it began.
    checkpoint: Option<(Checkpoint, u64)>,
    pacing: Pacing,
    retention: Retention,
    journaled_bytes: u64,
    committed: Lsn,
    started: Instant,
    dispatcher: Option<Dispatcher>,
    notes: Arc<Mutex<Notes>>,
    reached: Arc<Reached>,
}

/// The message of an error, with its causes.
pub fn told<E: std::error::Error>(error: E) -> String {
    crate::node::causes(&error)
}

impl Process {
    /// Opens the data folder and recovers; nothing else is done yet.
    pub fn start(disk: &SimDisk, clock: Clock) -> Result<Process, String> {
        let place = |path: &str| Place { disk: Arc::new(disk.clone()), path: Path::new(path).into() };
        let mut opened = recovery::open(place(DATA_DIR), &TUNING, &RULESET).map_err(told)?;
        opened.replayed_held_max = REPLAYED_HELD_MAX;
        opened.replaying_threads = 1;
        let recovered = replay(&opened, &TYPES).map_err(told)?;
        let live: BTreeMap<_, _> = recovered
            .entities
            .into_iter()
            .map(|(key, handed)| {
                let kept = Kept::decode(&handed.bytes).unwrap();
                let live = Live { listed: true, ..Live::new(kept, handed.stored) };
                (key, live)
            })
            .collect();
        let mut process = Process {
            changed: live.keys().cloned().collect(),
            live,
            pacing: Pacing::new(&TUNING),
            retention: Retention::new(&TUNING),
            journaled_bytes: recovered.bytes,
            committed: opened.journal.last_lsn(),
            started: clock.instant,
            reader: opened.journal.reader(),
            store: opened.store,
            committer: Committer::new(opened.journal),
            copies: Copies::default(),
            checkpoint: None,
            dispatcher: None,
            notes: Arc::default(),
            reached: Arc::new(Reached::new(Lsn::ZERO)),
        };
        process.start_sink(&place(SINK_PATH), clock)?;
        Ok(process)
    }

    /// As the node starts its sinks; the very first progress is noted, but it cannot be waited for here.
    fn start_sink(&mut self, place: &Place, clock: Clock) -> Result<(), String> {
        let progress = self.progress()?.unwrap_or_default();
        let sink = FileSink::open(place.clone(), progress.offset, Beyond::Cut).map_err(told)?;
        self.reached = Arc::new(Reached::new(progress.delivered));
        let notes = self.notes.clone();
        let setup = DispatcherSetup {
            routing: Routing {
                sink: SINK.to_owned(),
                server: SERVER.to_owned(),
                ruleset: RULESET.clone(),
                takes: Takes::Decisions(Vec::new()),
                condition: None,
                metrics: METRICS.clone(),
                tracer: crate::telemetry::Tracer::default(),
                told: AtomicBool::new(false),
            },
            done: SinkWindow::through(progress.delivered),
            outlet: Box::new(Lines::new(SINK, Box::new(sink), progress, crate::telemetry::Tracer::default(), &METRICS)),
            journal: self.reader.clone(),
            note: Box::new(move |input| {
                let (done, durable) = oneshot::channel();
                notes.lock().unwrap().push((input, done));
                durable
            }),
            reached: self.reached.clone(),
        };
        self.dispatcher = Some(Dispatcher::new(setup, clock.instant).map_err(told)?);
        Ok(())
    }

    /// How far the sink was when it was last noted.
    pub fn progress(&mut self) -> Result<Option<SinkProgress>, String> {
        let entity = EntityKey::new(SINK_KIND, SINK);
        Ok(match self.live(&entity)?.entity.state().system.as_deref() {
            Some(SystemState::Progress(progress)) => Some(progress.clone()),
            _ => None,
        })
    }

    /// What the sink's file holds.
    pub fn delivered(disk: &SimDisk) -> Vec<u8> {
        disk.content(Path::new(SINK_PATH)).unwrap_or_default()
    }

    fn live(&mut self, key: &EntityKey) -> Result<&mut Live, String> {
        if !self.live.contains_key(key) {
            let kept = Kept::load(&self.store, key).map_err(told)?.unwrap_or_default();
            let stored = kept.entity.version();
            self.live.insert(key.clone(), Live::new(kept, stored));
        }
        Ok(self.live.get_mut(key).unwrap())
    }

    /// A state, and where its records are.
    pub fn known(&mut self, key: &EntityKey) -> Result<(State, LsnBook), String> {
        let live = self.live(key)?;
        Ok((live.entity.state().clone(), live.book.clone()))
    }

    /// Gives an event to its takers: what each made of it, and whether that is settled already.
    pub fn give(
        &mut self,
        number: usize,
        event: &Event,
        clock: Clock,
    ) -> Result<Vec<(EntityKey, Taking, bool)>, String> {
        let mut takings = Vec::new();
        for taken in RULESET.admit(event).unwrap() {
            let entity = taken.entity.clone();
            let (taking, is_settled) = self.take(number, taken, clock)?;
            takings.push((entity, taking, is_settled));
        }
        Ok(takings)
    }

    fn take(&mut self, number: usize, taken: Box<Taken>, clock: Clock) -> Result<(Taking, bool), String> {
        let (key, identity) = (taken.entity.clone(), taken.identity);
        let store = self.store.clone();
        let live = self.live(&key)?;
        let state = live.entity.state();
        let prior = match state.identities.get(identity) {
            Some(seen) => Some(seen.payload),
            None if state.identities.has_spilled() => {
                store.identity(&key, identity).map_err(told)?.map(|stored| stored.payload)
            }
            None => None,
        };
        match rules::decide(state, taken, prior, clock.time) {
            Verdict::Record(decided) => {
                let state = self.record(&decided.record, Told::Sender(number))?;
                Ok((Taking::Recorded(Box::new((decided.record, state))), false))
            }
            Verdict::Duplicate => {
                let version = state.version;
                let is_settled = version <= live.book.version;
                if !is_settled {
                    live.waiting.push((version, number));
                }
                Ok((Taking::Duplicate, is_settled))
            }
            Verdict::Conflict => Err(format!("event {number} is in conflict with itself")),
        }
    }

    fn record(&mut self, record: &Record, told: Told) -> Result<State, String> {
        let key = &record.entity;
        let live = self.live(key)?;
        live.entity.replay(record).expect("it was made for this state");
        let (state, is_listed) = (live.entity.state().clone(), std::mem::replace(&mut live.listed, true));
        if !is_listed {
            self.changed.push(key.clone());
        }
        let tag = Tag { entity: key.clone(), version: record.version, standing: state.standing(), told };
        let has_decision = !record.decisions.is_empty();
        self.committer.append(vec![Entry { bytes: record.encode(), has_decision, tag }]);
        Ok(state)
    }

    /// Makes one commit, if there is anything to commit. Returns the events whose taking it settles, a number each.
    pub fn commit(&mut self) -> Result<Option<(Lsn, Vec<usize>)>, String> {
        let Some(commit) = self.committer.step().map_err(told)? else { return Ok(None) };
        let Committed { last_lsn, tags, bytes, .. } = commit;
        self.journaled_bytes += bytes as u64;
        let mut settled = Vec::new();
        for (lsn, tag) in tags {
            match tag.told {
                Told::Sender(number) => settled.push(number),
                Told::Sink(done) => drop(done.send(lsn)),
            }
            let live = self.live.get_mut(&tag.entity).unwrap();
            live.book.note(tag.version, lsn, tag.standing.as_deref());
            settled
                .extend(live.waiting.extract_if(.., |(version, _)| *version <= tag.version).map(|(_, number)| number));
            self.copies.ripen(&tag.entity, &tag.entity, &live.book, None);
        }
        self.committed = last_lsn;
        self.pass_slice()?;
        Ok(Some((last_lsn, settled)))
    }

    /// Goes on with a checkpoint: copies so many entities. Begins one if that is due.
    pub fn checkpoint(&mut self, entities_max: usize, clock: Clock) -> Result<(), String> {
        if self.checkpoint.is_none() {
            if !self.pacing.is_due(self.journaled_bytes, 0) {
                return Ok(());
            }
            self.checkpoint = Some((Checkpoint::begin(self.store.clone(), self.committed), self.journaled_bytes));
            self.copies.begin(std::mem::take(&mut self.changed));
        }
        for key in self.copies.ask(entities_max) {
            let live = self.live.get_mut(&key).unwrap();
            live.listed = false;
            self.copies.wait_for_one();
            self.copies.came(key.clone(), live.entity.copy());
            self.copies.ripen(&key, &key, &live.book, None);
        }
        self.pass_slice()?;
        // At any time, not only after a checkpoint: what may go may go.
        let delivered = self.reached.noted();
        let needs = [Need::after("sink", delivered), Need::after("the store", self.store.watermark().map_err(told)?)];
        let kept = self.retention.look(&self.reader, &needs, clock.time, Room::Enough).map_err(told)?;
        self.committer.trim(kept.from);
        Ok(())
    }

    /// Hands a slice that is ready to the checkpoint, which the last one ends.
    fn pass_slice(&mut self) -> Result<(), String> {
        let Some((checkpoint, _)) = &mut self.checkpoint else { return Ok(()) };
        let Some((writes, is_last)) = self.copies.slice() else { return Ok(()) };
        let slice = Slice { shard: 0, writes, is_last, committed: self.committed };
        for StoredCopy { entity: key, version, lsn, spilled } in checkpoint.take(slice).map_err(told)? {
            // It may have left memory meanwhile, if the store had this version before.
            let Some(live) = self.live.get_mut(&key) else { continue };
            live.stored = version;
            live.book.spill_through(lsn);
            if let Some(last) = spilled {
                live.entity.spilled(last);
            }
        }
        if is_last && let Some((checkpoint, journaled)) = self.checkpoint.take() {
            checkpoint.finish().map_err(told)?;
            self.pacing.completed(journaled);
        }
        Ok(())
    }

    /// Lets the sink take one step; what it notes is journaled. Whether there is more to deliver.
    pub fn deliver(&mut self, clock: Clock) -> Result<(Next, Vec<(Record, State)>), String> {
        let committed = self.committed;
        let next = self.dispatcher.as_mut().unwrap().step(clock.instant, committed).map_err(told)?;
        let notes = std::mem::take(&mut *self.notes.lock().unwrap());
        let entity = EntityKey::new(SINK_KIND, SINK);
        let mut recorded = Vec::new();
        for (input, done) in notes {
            let state = self.live(&entity)?.entity.state();
            let record = rules::decide_system(entity.clone(), state, input, clock.time).expect("progress is news");
            let state = self.record(&record, Told::Sink(done))?;
            recorded.push((record, state));
        }
        Ok((next, recorded))
    }

    /// Lets the sink take one step, as if no time had gone by since the start: nothing is noted.
    pub fn deliver_only(&mut self) -> Result<Next, String> {
        let (started, committed) = (self.started, self.committed);
        self.dispatcher.as_mut().unwrap().step(started, committed).map_err(told)
    }

    /// Forgets what the store has whole, as passivation does.
    pub fn passivate(&mut self) {
        self.live.retain(|_, live| {
            let is_idle = live.book.version == live.entity.version() && live.waiting.is_empty();
            let is_stored = live.stored == live.entity.version() && !live.listed;
            !(is_idle && is_stored)
        });
    }
}

impl Live {
    fn new(kept: Kept, stored: Version) -> Self {
        let Kept { entity, book, .. } = kept;
        Live { entity, book, stored, listed: false, waiting: Vec::new() }
    }
}
