//! A connection of the source `tcp`: newline-delimited JSON in, acknowledgements and refusals out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};

use super::admission::Admitted;
use super::credits::Need;
use super::listener::{Phase, TcpSource, is_token_line};
use super::receiving::{FREE_BYTES, Room};
use super::window::{Window, refusal_line};
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::{Acknowledge, EventOutcome, Outcomes};
use crate::model::time::Timestamp;

/// So many bytes are read at once.
pub(super) const READ_BYTES: usize = FREE_BYTES;
/// So many lines are decoded before they are sent on their way.
const BATCH_LINES_MAX: usize = 256;
/// How long a connection that is being ended may take to accept its last answers.
pub(super) const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// Why no more lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has sent all it wanted.
    Finished,
    /// The node is on its way out.
    Draining,
    /// A long line was begun and did not come in time.
    Overdue,
    /// The client is gone.
    Broken,
}

/// One connection.
pub(super) struct Connection {
    source: Arc<TcpSource>,
    window: Mutex<Window>,
    /// Something is to be told.
    news: Notify,
    /// The window may have room again.
    room: Notify,
    end: watch::Sender<Option<End>>,
}

impl Acknowledge for Connection {
    fn settled(&self, outcomes: Outcomes) {
        let admission = &self.source.admission;
        let durations = admission.metrics.ack_duration.local();
        let now = Instant::now();
        let (mut accepted, mut returned) = (0, Need::default());
        let mut window = self.window();
        let was_waiting = self.is_crowded(&window);
        for (line, outcome) in outcomes {
            match &outcome {
                EventOutcome::Refused(refusal) => self.source.metrics.refused(&admission.metrics, refusal.code),
                EventOutcome::Accepted(_) | EventOutcome::Duplicate(_) => accepted += 1,
            }
            if let Some(line) = window.settle(line, outcome) {
                returned += line.need;
                durations.observe(now.saturating_duration_since(line.read_at).as_secs_f64());
            }
        }
        let has_room = was_waiting && !self.is_crowded(&window);
        let tells = window.has_news();
        drop(window);
        self.source.metrics.accepted.inc_by(accepted);
        durations.flush();
        admission.credits.give_back(returned);
        if tells {
            self.news.notify_one();
        }
        if has_room {
            self.room.notify_one();
        }
    }
}

impl Connection {
    /// Talks with the client until one of both ends it; `buffer` holds what was read already.
    pub async fn serve<R, W>(source: Arc<TcpSource>, mut read: R, write: W, buffer: BytesMut)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(Connection {
            source,
            window: Mutex::default(),
            news: Notify::new(),
            room: Notify::new(),
            end: watch::Sender::new(None),
        });
        let teller = tokio::spawn(connection.clone().tell(write));
        let end = connection.clone().read(&mut read, buffer).await;
        connection.end.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(end);
            first
        });
        connection.news.notify_one();
        let _ = teller.await;
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, read_to_end(&mut read)).await;
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no more is read until something is settled or told.
    fn is_crowded(&self, window: &Window) -> bool {
        window.len() as u64 >= self.source.limits.connection_lines_max
            || window.refusal_bytes() as u64 >= self.source.limits.refusal_bytes_max
    }

    /// Reads lines until no more come.
    async fn read(self: Arc<Self>, read: &mut (impl AsyncRead + Unpin), mut buffer: BytesMut) -> End {
        let mut phase = self.source.phase.clone();
        let mut end = self.end.subscribe();
        let may_be_token = self.source.tokens.is_empty();
        let mut lines = Lines { may_be_token, skipping: false, searched: 0 };
        let mut long_line = None;
        loop {
            lines.take(&self, &mut buffer).await;
            if buffer.len() <= FREE_BYTES && long_line.take().is_some() {
                // The memory of the long line goes with its room.
                buffer = BytesMut::from(&buffer[..]);
            }
            tokio::select! {
                biased;
                () = draining(&mut phase) => return End::Draining,
                () = ended(&mut end) => return End::Broken,
                () = self.may_read(buffer.len(), &mut long_line) => {}
            }
            buffer.reserve(READ_BYTES);
            tokio::select! {
                received = read.read_buf(&mut buffer) => match received {
                    Ok(0) => {
                        lines.take_last(&self, &mut buffer).await;
                        return End::Finished;
                    }
                    Ok(_) => {}
                    Err(_) => return End::Broken,
                },
                () = overdue(long_line.as_ref()) => return End::Overdue,
                () = draining(&mut phase) => return End::Draining,
                () = ended(&mut end) => return End::Broken,
            }
        }
    }

    /// Waits until more may be read behind the `begun` bytes of an unfinished line.
    async fn may_read(&self, begun: usize, long_line: &mut Option<LongLine>) {
        self.source.admission.gate.opened().await;
        if begun > FREE_BYTES && long_line.is_none() {
            let receiving = &self.source.admission.receiving;
            let room = receiving.room(self.source.decoder.event_bytes_max() as u64).await;
            *long_line = Some(LongLine { due: Instant::now() + receiving.timeout, _room: room });
        }
        self.has_room().await;
    }

    async fn has_room(&self) {
        while self.is_crowded(&self.window()) {
            self.room.notified().await;
        }
    }

    /// Waits for room for what is read already, unless the connection is being ended.
    async fn has_room_or_ends(&self) {
        if !self.is_crowded(&self.window()) {
            return tokio::task::yield_now().await;
        }
        let (mut phase, mut end) = (self.source.phase.clone(), self.end.subscribe());
        tokio::select! {
            () = self.has_room() => {}
            () = draining(&mut phase) => {}
            () = ended(&mut end) => {}
        }
    }

    /// Why the server ends the connection, if it does.
    fn say_why(&self, end: Option<End>, out: &mut Vec<u8>) {
        match end {
            Some(End::Draining) => out.extend(b"{\"bye\":\"draining\"}\n"),
            Some(End::Overdue) => {
                let why = "a long line was begun and did not come within limits.receiving_timeout";
                self.source.metrics.refused(&self.source.admission.metrics, Code::Busy);
                refusal_line(out, 0, &Refusal::new(Code::Busy, why));
            }
            Some(End::Finished | End::Broken) | None => {}
        }
    }

    /// Tells refusals and acknowledgements until all is told.
    async fn tell(self: Arc<Self>, mut write: impl AsyncWrite + Unpin) {
        let mut out = Vec::new();
        loop {
            let end = *self.end.borrow();
            let all_settled = {
                let mut window = self.window();
                window.tell(&mut out);
                window.is_empty()
            };
            let last = end.is_some() && all_settled;
            if last {
                self.say_why(end, &mut out);
            }
            if !out.is_empty() {
                let written = async {
                    write.write_all(&out).await?;
                    if last { write.shutdown().await } else { write.flush().await }
                };
                let written = match end {
                    Some(_) => tokio::time::timeout(FAREWELL_PATIENCE, written).await.unwrap_or(Ok(())),
                    None => written.await,
                };
                out.clear();
                if written.is_err() || end == Some(End::Broken) {
                    self.end.send_replace(Some(End::Broken));
                    return;
                }
                self.room.notify_one();
            }
            if last {
                return;
            }
            self.news.notified().await;
        }
    }
}

/// Reads and drops what still comes. A connection closed with something unread would be reset, and the client would lose
/// the last answers.
pub(super) async fn read_to_end(read: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut dropped = vec![0; READ_BYTES];
    while read.read(&mut dropped).await? > 0 {}
    Ok(())
}

pub(in crate::ingress) async fn draining(phase: &mut watch::Receiver<Phase>) {
    // A node that is gone is draining, too.
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
}

async fn ended(end: &mut watch::Receiver<Option<End>>) {
    let _ = end.wait_for(Option::is_some).await;
}

/// A line of which more has come than anybody may send without asking.
struct LongLine {
    due: Instant,
    _room: Room,
}

async fn overdue(line: Option<&LongLine>) {
    match line {
        Some(line) => tokio::time::sleep_until(line.due.into()).await,
        None => std::future::pending().await,
    }
}

/// Splitting what was received into lines.
struct Lines {
    /// The first line, where no token is asked for: whoever has one may show it.
    may_be_token: bool,
    /// The rest of a line that is too long is passed over.
    skipping: bool,
    /// No line ends before here.
    searched: usize,
}

impl Lines {
    /// Takes all whole lines out of `buffer`.
    async fn take(&mut self, connection: &Arc<Connection>, buffer: &mut BytesMut) {
        let mut batch = Batch::new(connection);
        while let Some(end) = memchr::memchr(b'\n', &buffer[self.searched..]).map(|at| self.searched + at) {
            let is_token = std::mem::take(&mut self.may_be_token) && is_token_line(&buffer[..end]);
            if !std::mem::take(&mut self.skipping) && !is_token {
                batch.line(&buffer[..end]).await;
            }
            buffer.advance(end + 1);
            self.searched = 0;
        }
        self.searched = buffer.len();
        if self.skipping {
            buffer.clear();
            self.searched = 0;
        } else if buffer.len() > connection.source.decoder.event_bytes_max() + 1 {
            batch.refuse(connection.source.decoder.too_large()).await;
            buffer.clear();
            self.searched = 0;
            self.skipping = true;
        }
        batch.finish().await;
    }

    /// Takes what comes after the last line end.
    async fn take_last(&mut self, connection: &Arc<Connection>, buffer: &mut BytesMut) {
        let is_token = self.may_be_token && is_token_line(buffer);
        if !self.skipping && !is_token {
            let mut batch = Batch::new(connection);
            batch.line(buffer).await;
            batch.finish().await;
        }
    }
}

/// Lines that are admitted together.
struct Batch<'c> {
    connection: &'c Arc<Connection>,
    sender: Arc<dyn Acknowledge>,
    now: Timestamp,
    read_at: Instant,
    lines: Vec<(Need, Result<Admitted, Refusal>)>,
}

impl<'c> Batch<'c> {
    fn new(connection: &'c Arc<Connection>) -> Self {
        Batch {
            connection,
            sender: connection.clone(),
            now: Timestamp::now(),
            read_at: Instant::now(),
            lines: Vec::new(),
        }
    }

    async fn line(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let source = &self.connection.source;
        let takers = source
            .decoder
            .decode(line, self.now)
            .and_then(|event| source.admission.admit(event, self.now, &source.metrics));
        self.add(line.len(), takers).await;
    }

    async fn refuse(&mut self, refusal: Refusal) {
        self.add(0, Err(refusal)).await;
    }

    async fn add(&mut self, bytes: usize, takers: Result<Admitted, Refusal>) {
        let credits = &self.connection.source.admission.credits;
        let records = takers.as_ref().map_or(0, |takers| takers.len()) as u64;
        let need = if records == 0 { Need::default() } else { credits.need(records, bytes as u64) };
        if !credits.try_take(need) {
            // What was admitted before must be on its way, or its credits would never come back.
            self.finish().await;
            credits.take(need).await;
        }
        self.lines.push((need, takers));
        if self.lines.len() >= BATCH_LINES_MAX {
            self.finish().await;
        }
    }

    /// Sends the lines so far on their way.
    async fn finish(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let admission = &self.connection.source.admission;
        let first = {
            let mut window = self.connection.window();
            let opened: Vec<u64> = self.lines.iter().map(|(need, _)| window.open(*need, self.read_at)).collect();
            opened.first().copied().unwrap_or(0)
        };
        let mut deliveries = Vec::with_capacity(self.lines.len());
        for (line, (_, takers)) in (first..).zip(self.lines.drain(..)) {
            match takers {
                Ok(takers) => admission.send(&self.sender, line, takers, &mut deliveries),
                Err(refusal) => self.connection.settled(vec![(line, EventOutcome::Refused(refusal))]),
            }
        }
        admission.deliver(&mut deliveries);
        self.connection.has_room_or_ends().await;
        // The next batch is received now.
        self.now = Timestamp::now();
        self.read_at = Instant::now();
    }
}
