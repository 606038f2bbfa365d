//! Runs operations on a node whose disk is simulated, cuts its power, and checks every disk that a cut can leave.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::Oracle;
use super::process::{Clock, Process, Taking};
use super::workload::Op;
use crate::disk::simulated::{Image, Shadow, SimDisk};
use crate::model::ids::Lsn;
use crate::model::time::Timestamp;

/// Cuts during recovery, one within the other.
const DEPTH_MAX: u32 = 3;
/// The chance that a recovery is cut, too.
const RECOVERY_CUT: f64 = 0.4;

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub images: u64,
    pub recoveries_cut: u64,
    pub acknowledged: u64,
    pub watermark: u64,
    pub trimmed: u64,
    /// What was asked of the disk, as a hash: equal if two runs were.
    pub asked: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.images += other.images;
        self.recoveries_cut += other.recoveries_cut;
        self.acknowledged += other.acknowledged;
        self.watermark = self.watermark.max(other.watermark);
        self.trimmed = self.trimmed.max(other.trimmed);
        self.asked ^= other.asked;
    }
}

/// A node, its disk, and what is known of both from outside.
pub struct World {
    disk: SimDisk,
    process: Option<Process>,
    pub oracle: Oracle,
    clock: Clock,
    /// Events that were given, and how many takings of each are not settled yet.
    requests: Vec<(usize, usize)>,
    images_per_cut: u64,
    /// When the process that runs now began: what was before is known only as it was then.
    since: usize,
    pub seen: Seen,
}

impl World {
    /// A machine on which nothing ever ran.
    pub fn new(images_per_cut: u64) -> Self {
        let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        World {
            disk: SimDisk::new(Image::empty()),
            process: None,
            oracle: Oracle::default(),
            clock: Clock { instant: Instant::now(), time },
            requests: Vec::new(),
            images_per_cut,
            since: 0,
            seen: Seen::default(),
        }
    }

    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn process(&mut self) -> Result<&mut Process, String> {
        if self.process.is_none() {
            self.process = Some(Process::start(&self.disk, self.clock)?);
        }
        Ok(self.process.as_mut().unwrap())
    }

    /// Starts a node on this disk, checks what it recovered, and goes on with it.
    pub fn recover(&mut self, disk: SimDisk, stamp: usize) -> Result<(), String> {
        self.process = None;
        self.disk = disk;
        self.requests.clear();
        let mut process = Process::start(&self.disk, self.clock)?;
        let floor = self.oracle.committed_at(stamp);
        let last = self.oracle.check(&mut process, &self.disk, stamp, floor)?;
        self.oracle.roll_back(&process, stamp, last, self.disk.asked())?;
        self.process = Some(process);
        Ok(())
    }

    /// Does one thing; if the process dies of it, the next one is started.
    pub fn step(&mut self, op: Op) -> Result<(), String> {
        match self.try_step(op) {
            Err(_) if self.disk.is_dead() => self.restart(),
            done => done,
        }
    }

    /// The process is gone, the machine has stayed on.
    pub fn restart(&mut self) -> Result<(), String> {
        let disk = self.disk.kill();
        self.since = disk.asked();
        self.recover(disk, self.since)
    }

    fn try_step(&mut self, op: Op) -> Result<(), String> {
        let clock = self.clock;
        match op {
            Op::Send { key, n } => {
                let event = self.oracle.event(format!("k{key}"), n);
                self.give(event)?;
            }
            Op::Again { nth } => {
                if !self.oracle.events.is_empty() {
                    self.give(nth % self.oracle.events.len())?;
                }
            }
            Op::Commit => self.commit()?,
            Op::Checkpoint { entities } => self.process()?.checkpoint(entities, clock)?,
            Op::Deliver => self.deliver()?,
            Op::Wait { ms } => {
                self.clock.instant += Duration::from_millis(ms);
                let nanos = self.clock.time.nanos() + i128::from(ms) * 1_000_000;
                self.clock.time = Timestamp::from_nanos(nanos).unwrap();
            }
            Op::Passivate => self.process()?.passivate(),
            Op::Kill { after } => self.disk.die_after(after),
            Op::Cut { seed } => self.cut(seed)?,
        }
        Ok(())
    }

    fn give(&mut self, number: usize) -> Result<(), String> {
        let (clock, request) = (self.clock, self.requests.len());
        self.process()?;
        let event = self.oracle.events[number].event.clone();
        let takings = self.process()?.give(request, &event, clock)?;
        self.requests.push((number, takings.len()));
        for (_, taking, is_settled) in takings {
            if let Taking::Recorded(made) = &taking {
                self.oracle.logged(&made.0, &made.1, Some(number));
            }
            if is_settled {
                self.settle(request);
            }
        }
        Ok(())
    }

    fn settle(&mut self, request: usize) {
        let (event, left) = &mut self.requests[request];
        *left -= 1;
        if *left == 0 {
            self.oracle.acknowledge(*event, self.disk.asked());
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let Some((last, settled)) = self.process()?.commit()? else { return Ok(()) };
        for request in settled {
            self.settle(request);
        }
        let process = self.process.as_ref().unwrap();
        self.oracle.commit(process, last, self.disk.asked())
    }

    fn deliver(&mut self) -> Result<(), String> {
        let clock = self.clock;
        let (_, recorded) = self.process()?.deliver(clock)?;
        for (record, state) in recorded {
            self.oracle.logged(&record, &state, None);
        }
        Ok(())
    }

    /// Cuts the power at several moments since the machine was switched on, and goes on from one of them.
    fn cut(&mut self, seed: u64) -> Result<(), String> {
        self.look()?;
        self.process = None;
        let mut random = StdRng::seed_from_u64(seed);
        let (start, log) = self.disk.history();
        let mut moments: Vec<usize> =
            (0..self.images_per_cut).map(|_| random.random_range(self.since..=log.len())).collect();
        moments.sort_unstable();
        let next = random.random_range(0..moments.len());
        let mut shadow = Shadow::new(start);
        let mut done = 0;
        let mut goes_on = None;
        for (nth, moment) in moments.into_iter().enumerate() {
            log[done..moment].iter().for_each(|io| shadow.step(io));
            done = moment;
            let image = shadow.cut(&mut random);
            if nth == next {
                goes_on = Some((image.clone(), moment));
            }
            let floor = self.oracle.committed_at(moment);
            let checked = self.check(image, moment, floor, &mut random, 1);
            checked.map_err(|error| {
                format!("{error}\n  after a cut at {moment} of {}, the {nth}th of its seed", log.len())
            })?;
        }
        let Some((image, moment)) = goes_on else { return Ok(()) };
        self.since = 0;
        self.recover(SimDisk::new(image), moment)
    }

    /// Checks one disk that a power cut left; and those that a cut during its recovery leaves.
    fn check(&mut self, image: Image, stamp: usize, floor: Lsn, random: &mut StdRng, depth: u32) -> Result<(), String> {
        self.seen.images += 1;
        let disk = SimDisk::new(image);
        let mut process = Process::start(&disk, self.clock)?;
        let started = disk.asked();
        let last = self.oracle.check(&mut process, &disk, stamp, floor)?;
        drop(process);
        if depth > DEPTH_MAX || !random.random_bool(RECOVERY_CUT) {
            return Ok(());
        }
        self.seen.recoveries_cut += 1;
        let (start, log) = disk.history();
        let moment = random.random_range(0..=log.len());
        let mut shadow = Shadow::new(start);
        log[..moment].iter().for_each(|io| shadow.step(io));
        let image = shadow.cut(random);
        // What has recovered may have been read.
        let floor = if moment >= started { last } else { floor };
        let checked = self.check(image, stamp, floor, random, depth + 1);
        checked.map_err(|error| format!("{error}\n  after a cut of the recovery, at {moment} of {}", log.len()))
    }

    /// Notes what a run went through, so that one that tests nothing is noticed.
    fn look(&mut self) -> Result<(), String> {
        let process = self.process()?;
        let watermark = process.store.watermark().map_err(super::process::told)?.0;
        let first = process.reader.first_lsn().0;
        self.seen.acknowledged += self.oracle.acknowledged() as u64;
        self.seen.watermark = self.seen.watermark.max(watermark);
        self.seen.trimmed = self.seen.trimmed.max(first - 1);
        self.seen.asked = self.seen.asked.wrapping_mul(31).wrapping_add(self.disk.fingerprint());
        Ok(())
    }
}
