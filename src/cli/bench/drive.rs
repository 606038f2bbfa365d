//! Sends loads over connections and times the answers, all on one thread: what is measured shares the machine with it.
//!
//! An answer settles requests in the order they were sent. A request's time runs from the moment it was written to the
//! socket or, when a rate is given, from the moment it was due: a server that falls behind is not asked less for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::Interest;
use tokio::task::JoinSet;

use super::load::Load;
use super::wire::Wire;

/// So much is handed to a socket at once.
const WRITE_BYTES_MAX: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Without an answer for so long, driving is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer latencies count as this one: ten minutes.
const LATENCY_MICROS_MAX: u64 = 600_000_000;
/// Latencies are kept in microseconds, to so many digits.
const DIGITS: u8 = 3;

/// Why driving came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the server closed the connection before it had answered everything")]
    Closed,
    #[error("no answer for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("{0}")]
    Answer(String),
}

/// Counts the answers on one connection, in whatever protocol.
pub trait Replies: Send + Sync + 'static {
    /// Takes what was received; returns how many requests of this connection are answered by now.
    ///
    /// # Errors
    /// When the other side says what it should not, or that it cannot go on.
    fn answered(&mut self, bytes: &[u8]) -> Result<u64, DriveError>;
}

/// How requests are let go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Of one connection, so many may be unanswered.
    pub pipeline: usize,
    /// They are sent so many at a time, once there is room for them.
    pub batch: usize,
    /// So many a second over all connections, due at even distances; as fast as it goes otherwise.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub struct Measured<R> {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Microseconds.
    pub latencies: Histogram<u64>,
    /// When answers came, what of each write they settled, and how long the first of it took.
    pub settled: Vec<Settled>,
    /// Processor time of this process.
    pub cpu: Duration,
    /// The connections' counts, in their order.
    pub replies: Vec<R>,
}

/// Requests of one write that an answer settled.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub at: Instant,
    pub requests: u32,
    pub latency: Duration,
}

struct Lane<R> {
    stream: Wire,
    load: Arc<Load>,
    replies: R,
    pace: Pace,
    /// Which of so many connections it is: requests that are due are dealt out in turn.
    place: (usize, usize),
    begin: Instant,
    sent: usize,
    sent_bytes: usize,
    answered: usize,
    /// Requests up to this one were written at this time.
    written: VecDeque<(usize, Instant)>,
    latencies: Histogram<u64>,
    settled: Vec<Settled>,
}

/// Sends each connection's load and waits for all answers. What was already sent on a connection is not counted.
///
/// # Errors
/// When a connection breaks, closes early, falls silent, or says what it should not.
pub async fn drive<R: Replies>(connections: Vec<(Wire, Arc<Load>, R)>, pace: Pace) -> Result<Measured<R>, DriveError> {
    let count = connections.len();
    let (begin, cpu) = (Instant::now(), cpu_time());
    let mut tasks = JoinSet::new();
    for (place, (stream, load, replies)) in connections.into_iter().enumerate() {
        let lane = Lane {
            stream,
            load,
            replies,
            pace,
            place: (place, count),
            begin,
            sent: 0,
            sent_bytes: 0,
            answered: 0,
            written: VecDeque::new(),
            latencies: histogram(),
            settled: Vec::new(),
        };
        tasks.spawn(lane.run());
    }
    let mut lanes = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(lane) => lanes.push(lane?),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(DriveError::Closed),
        }
    }
    let elapsed = begin.elapsed();
    lanes.sort_by_key(|lane| lane.place);
    let cpu = cpu_time().saturating_sub(cpu);
    let mut measured = Measured { elapsed, latencies: histogram(), settled: Vec::new(), cpu, replies: Vec::new() };
    for lane in lanes {
        // Both have the same bounds.
        let _ = measured.latencies.add(&lane.latencies);
        measured.settled.extend(lane.settled);
        measured.replies.push(lane.replies);
    }
    Ok(measured)
}

impl<R: Replies> Lane<R> {
    async fn run(mut self) -> Result<Self, DriveError> {
        let mut buffer = vec![0; READ_BYTES];
        while self.answered < self.load.len() {
            self.stream.go_on()?;
            let allowed = self.allowed();
            self.send(allowed)?;
            let ready = self.ready(allowed).await?;
            if ready {
                self.receive(&mut buffer)?;
            }
        }
        Ok(self)
    }

    /// How many requests may have been sent by now.
    fn allowed(&self) -> usize {
        let all = self.load.len();
        let due = self.pace.rate.map_or(all, |rate| self.due(rate));
        let room = (self.answered + self.pace.pipeline).min(due);
        // What is left at the end, or is due, goes however little it is.
        let enough = room - room.min(self.sent) >= self.pace.batch || room == all || self.pace.rate.is_some();
        if enough { room.max(self.sent) } else { self.sent }
    }

    fn due(&self, rate: f64) -> usize {
        let (place, count) = self.place;
        let passed = self.begin.elapsed().as_secs_f64() * rate - place as f64;
        if passed < 0.0 { 0 } else { ((passed / count as f64) as usize + 1).min(self.load.len()) }
    }

    /// When request `n` of this connection is due.
    fn due_at(&self, n: usize, rate: f64) -> Instant {
        let (place, count) = self.place;
        self.begin + Duration::from_secs_f64((n * count + place) as f64 / rate)
    }

    /// Writes requests before `allowed`, as far as the socket takes them.
    fn send(&mut self, allowed: usize) -> Result<(), DriveError> {
        while self.sent < allowed {
            let end = self.load.ends[allowed - 1].min(self.sent_bytes + WRITE_BYTES_MAX);
            let now = Instant::now();
            match self.stream.try_write(&self.load.bytes[self.sent_bytes..end]) {
                Ok(0) => return Err(DriveError::Closed),
                Ok(bytes) => self.sent_bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let whole = self.load.ends[self.sent..allowed].partition_point(|&end| end <= self.sent_bytes);
            if whole > 0 {
                self.sent += whole;
                self.written.push_back((self.sent, now));
            }
        }
        Ok(())
    }

    /// Waits for answers, or until more can be sent. Tells whether there may be something to read.
    async fn ready(&self, allowed: usize) -> Result<bool, DriveError> {
        let interest = if self.sent < allowed { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let next = self.pace.rate.filter(|_| {
            let room = self.sent < self.load.len() && self.sent < self.answered + self.pace.pipeline;
            room && self.sent >= allowed
        });
        let limit = match next {
            Some(rate) => self.due_at(self.sent, rate),
            None => Instant::now() + PATIENCE,
        };
        match tokio::time::timeout_at(limit.into(), self.stream.ready(interest)).await {
            Ok(ready) => Ok(ready?),
            Err(_) if next.is_some() => Ok(false),
            Err(_) => Err(DriveError::Silent),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), DriveError> {
        match self.stream.try_read(buffer) {
            Ok(0) => Err(DriveError::Closed),
            Ok(bytes) => {
                let answered = self.replies.answered(&buffer[..bytes])? as usize;
                if answered > self.sent {
                    return Err(DriveError::Answer("more was answered than was asked".to_owned()));
                }
                self.settle(answered);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes how long the requests before `answered` took.
    fn settle(&mut self, answered: usize) {
        let now = Instant::now();
        while let Some(&(end, at)) = self.written.front()
            && self.answered < answered
        {
            let until = end.min(answered);
            let first = self.pace.rate.map_or(at, |rate| self.due_at(self.answered, rate));
            let latency = now.saturating_duration_since(first);
            self.settled.push(Settled { at: now, requests: (until - self.answered) as u32, latency });
            match self.pace.rate {
                Some(rate) => {
                    for n in self.answered..until {
                        let due = self.due_at(n, rate);
                        self.latencies.saturating_record(micros(now, due));
                    }
                }
                None => self.latencies.saturating_record_n(micros(now, at), (until - self.answered) as u64),
            }
            self.answered = until;
            if end == until {
                self.written.pop_front();
            }
        }
    }
}

fn micros(now: Instant, since: Instant) -> u64 {
    now.saturating_duration_since(since).as_micros() as u64
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, DIGITS).expect("these bounds are far apart and the digits few")
}

/// Processor time that this process has used.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
