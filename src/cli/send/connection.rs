//! One connection: sends what its lane holds, reads the answers, and begins anew as often as it must.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer;
use super::input::Line;
use super::lane::{Event, Lane, Window};
use super::report::Report;
use crate::cli::destination::{Connected, Way};

/// How much is gathered for one write.
const WRITE_BYTES: usize = 64 << 10;
/// The longest line a server may answer with.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How to send.
#[derive(Clone, Debug)]
pub struct Options {
    pub way: Way,
    pub token: Option<String>,
    /// What each connection may have under way.
    pub window: Window,
    /// How long a connection may take to be made, and how long it may be silent while it owes an answer.
    pub timeout: Duration,
    /// How long to go on without any progress.
    pub retry_for: Duration,
    /// The pauses between attempts: from, to; each is twice the one before.
    pub backoff: (Duration, Duration),
}

/// Why sending was given up.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{address}: {why}; given up after {} s without progress; unanswered lines of this connection: {unsettled}",
            retry_for.as_secs_f64())]
    NoProgress { address: String, why: String, retry_for: Duration, unsettled: usize },
    #[error("{address}: {code}: {message}")]
    Rejected { address: String, code: String, message: String },
    #[error("{address}: {why}")]
    Protocol { address: String, why: String },
}

/// Why a connection ended.
enum End {
    /// Everything is settled and there is no more.
    Done,
    /// It is to be made anew.
    Broken(String),
    /// There is no use in trying again.
    GivenUp(SendError),
}

/// Sends every line that comes until the input ends and all are settled.
///
/// # Errors
/// When the server rejects us, is none of ours, or makes no progress for too long.
pub async fn run(input: Receiver<Vec<Line>>, options: Arc<Options>, report: Arc<Report>) -> Result<(), SendError> {
    let pause = options.backoff.0;
    let lane = Lane::new(options.window);
    let mut connection = Connection { lane, input, more: true, options, report, progressed: Instant::now(), pause };
    while connection.has_work().await {
        match connection.attempt().await {
            End::Done => break,
            End::GivenUp(error) => return Err(error),
            End::Broken(_) if connection.lane.is_empty() => {}
            End::Broken(why) => connection.rest(why).await?,
        }
    }
    Ok(())
}

struct Connection {
    lane: Lane,
    input: Receiver<Vec<Line>>,
    /// The input has not ended.
    more: bool,
    options: Arc<Options>,
    report: Arc<Report>,
    /// When something was last settled, or something to be settled came.
    progressed: Instant,
    pause: Duration,
}

impl Connection {
    /// Waits for something to send; false when nothing will come.
    async fn has_work(&mut self) -> bool {
        while self.lane.is_empty() && self.more {
            let batch = self.input.recv().await;
            self.take(batch);
        }
        !self.lane.is_empty()
    }

    fn take(&mut self, batch: Option<Vec<Line>>) {
        if self.lane.is_empty() {
            self.progressed = Instant::now();
        }
        match batch {
            Some(lines) => self.lane.push(lines),
            None => self.more = false,
        }
    }

    async fn attempt(&mut self) -> End {
        let options = self.options.clone();
        let connecting = options.way.connect();
        let deadline = self.give_up_at().min(Instant::now() + self.options.timeout);
        match timeout_at(deadline, connecting).await {
            Err(_) => End::Broken("cannot connect: no answer".to_owned()),
            Ok(Err(error)) => End::Broken(format!("cannot connect: {error}")),
            Ok(Ok(Connected::Plain(stream))) => {
                let (reader, writer) = stream.into_split();
                self.exchange(reader, writer).await
            }
            Ok(Ok(Connected::Secured(stream))) => {
                let (reader, writer) = tokio::io::split(stream);
                self.exchange(reader, writer).await
            }
        }
    }

    /// Pauses before the next attempt.
    async fn rest(&mut self, why: String) -> Result<(), SendError> {
        self.report.interrupted(&self.options.way.to_string(), &why);
        sleep_until((Instant::now() + self.pause).min(self.give_up_at())).await;
        self.pause = (self.pause * 2).min(self.options.backoff.1);
        if Instant::now() >= self.give_up_at() { Err(self.no_progress(why)) } else { Ok(()) }
    }

    async fn exchange(&mut self, mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) -> End {
        self.lane.begin();
        let mut out = Outgoing::new(self.options.token.as_deref());
        let (mut inbox, mut heard) = (Vec::new(), Instant::now());
        // Why nothing more is sent here, once there is a reason.
        let mut leaving: Option<String> = None;
        let (mut sends, mut unflushed) = (true, false);
        loop {
            if leaving.is_none() {
                self.report.resent(out.refill(&mut self.lane));
            }
            if !self.more && self.lane.is_empty() {
                return End::Done;
            }
            if sends && leaving.is_none() && !self.more && self.lane.unsent() == 0 && out.rest().is_empty() {
                sends = false;
                if let Err(error) = writer.shutdown().await {
                    leaving = Some(error.to_string());
                }
            }
            if self.lane.under_way() == 0
                && let Some(why) = leaving
            {
                return End::Broken(why);
            }
            let owing = self.lane.under_way() > 0;
            let deadline = self.give_up_at().min(heard + self.options.timeout);
            tokio::select! {
                read = reader.read_buf(&mut inbox) => {
                    match read {
                        Ok(0) => return End::Broken(leaving.unwrap_or_else(|| "the server closed the connection".to_owned())),
                        Err(error) => return End::Broken(leaving.unwrap_or_else(|| error.to_string())),
                        Ok(_) => heard = Instant::now(),
                    }
                    match self.answers(&mut inbox) {
                        Ok(None) => {}
                        Ok(Some(why)) => leaving = Some(why),
                        Err(error) => return End::GivenUp(error),
                    }
                }
                wrote = write(&mut writer, out.rest()), if leaving.is_none() && (unflushed || !out.rest().is_empty()) => match wrote {
                    Ok(length) => {
                        unflushed = length > 0;
                        out.advance(length);
                    }
                    // Why the server hung up may still be there to be read.
                    Err(error) => leaving = Some(error.to_string()),
                },
                batch = self.input.recv(), if leaving.is_none() && self.more && self.lane.unsent() == 0 => {
                    if !owing {
                        heard = Instant::now();
                    }
                    self.take(batch);
                }
                () = sleep_until(deadline), if owing => {
                    let why = leaving.unwrap_or_else(|| "the server does not answer".to_owned());
                    if deadline >= self.give_up_at() {
                        return End::GivenUp(self.no_progress(why));
                    }
                    return End::Broken(why);
                }
            }
        }
    }

    /// Takes all whole lines from `inbox`; tells why nothing more should be sent on this connection, if so.
    fn answers(&mut self, inbox: &mut Vec<u8>) -> Result<Option<String>, SendError> {
        let (mut start, mut leaving) = (0, None);
        while let Some(length) = memchr::memchr(b'\n', &inbox[start..]) {
            let line = inbox[start..start + length].trim_ascii();
            start += length + 1;
            if line.is_empty() {
                continue;
            }
            let answer = answer::parse(line).map_err(|error| self.protocol(&error))?;
            match self.lane.answer(answer).map_err(|error| self.protocol(&error))? {
                Event::Nothing => {}
                Event::Bye(why) => leaving = Some(why),
                Event::Rejected { code, message } => {
                    return Err(SendError::Rejected { address: self.options.way.to_string(), code, message });
                }
                Event::Settled(settled) => {
                    if settled.busy > 0 {
                        leaving = Some("the server is busy".to_owned());
                    }
                    if settled.bytes > 0 {
                        self.progressed = Instant::now();
                        self.pause = self.options.backoff.0;
                    }
                    self.report.settled(settled);
                }
            }
        }
        inbox.drain(..start);
        if inbox.len() > ANSWER_BYTES_MAX {
            return Err(self.protocol(&"the server's line does not end"));
        }
        Ok(leaving)
    }

    fn give_up_at(&self) -> Instant {
        self.progressed + self.options.retry_for
    }

    fn no_progress(&self, why: String) -> SendError {
        let Options { way, retry_for, .. } = &*self.options;
        SendError::NoProgress { address: way.to_string(), why, retry_for: *retry_for, unsettled: self.lane.unsettled() }
    }

    fn protocol(&self, why: &dyn std::fmt::Display) -> SendError {
        SendError::Protocol { address: self.options.way.to_string(), why: why.to_string() }
    }
}

/// Writes some of what is to be written; if that is nothing, sees to it that what was written goes.
async fn write(writer: &mut (impl AsyncWrite + Unpin), rest: &[u8]) -> std::io::Result<usize> {
    if rest.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(rest).await }
}

/// What is to be written next.
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// A connection begins with the token, if there is one.
    fn new(token: Option<&str>) -> Self {
        let hello = token.map(|token| format!("{}\n", serde_json::json!({ "token": token })));
        Outgoing { bytes: hello.unwrap_or_default().into_bytes(), written: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn advance(&mut self, length: usize) {
        self.written += length;
    }

    /// Takes more from the lane once all was written; tells how many of these lines go a second time.
    fn refill(&mut self, lane: &mut Lane) -> u64 {
        if self.written < self.bytes.len() && self.written > 0 {
            return 0;
        }
        if self.written > 0 {
            self.bytes.clear();
            self.written = 0;
        }
        lane.fill(&mut self.bytes, WRITE_BYTES)
    }
}
