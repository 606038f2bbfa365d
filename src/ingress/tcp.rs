//! The source `tcp`: newline-delimited JSON in, acknowledgements and refusals out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::admission::{Admission, SourceMetrics};
use super::credits::Need;
use super::decode::Decoder;
use super::window::{Window, refusal_line};
use crate::config::Secret;
use crate::model::refusal::{Code, Refusal};
use crate::model::settle::{Acknowledge, EventOutcome};
use crate::model::time::Timestamp;
use crate::rules::Takers;

/// So many bytes are read at once.
const READ_BYTES: usize = 64 * 1024;
/// So many lines are decoded before they are sent on their way.
const BATCH_LINES_MAX: usize = 256;
/// A connection is not read while so many of its lines are unsettled, or refusals untold.
const WINDOW_LINES_MAX: usize = 200_000;
/// How long the first line may take where a token is asked for.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);
/// The first line, with the token, has at most so many bytes.
const TOKEN_LINE_BYTES_MAX: usize = 4096;
/// How long a connection that is being ended may take to accept its last answers.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);

/// Whether the node is running or on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// Nothing more is read; what was read is settled.
    Draining,
}

/// A TCP source.
pub struct TcpSource {
    pub name: String,
    pub admission: Arc<Admission>,
    pub decoder: Decoder,
    pub token: Option<Secret>,
    pub connections_max: u64,
    pub metrics: SourceMetrics,
    pub phase: watch::Receiver<Phase>,
    pub connections: AtomicU64,
}

impl TcpSource {
    /// Serves connections until the node drains; returns once every connection has ended.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut phase = self.phase.clone();
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let source = self.clone();
                        connections.spawn(source.serve(stream));
                        while connections.try_join_next().is_some() {}
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: pause instead of spinning.
                        tracing::warn!(source = %self.name, %error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                () = draining(&mut phase) => break,
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let open = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.connections.set(open.try_into().unwrap_or(i64::MAX));
        if open > self.connections_max {
            let why = format!("limits.connections_max = {} connections are open", self.connections_max);
            self.dismiss(&mut stream, &Refusal::new(Code::Busy, why)).await;
        } else {
            self.clone().converse(stream).await;
        }
        let open = self.connections.fetch_sub(1, Ordering::Relaxed) - 1;
        self.metrics.connections.set(open.try_into().unwrap_or(i64::MAX));
    }

    async fn dismiss(&self, stream: &mut TcpStream, refusal: &Refusal) {
        self.metrics.refused(&self.admission.metrics, refusal.code);
        let mut out = Vec::new();
        refusal_line(&mut out, 0, refusal);
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, async {
            stream.write_all(&out).await?;
            stream.shutdown().await?;
            read_to_end(stream).await
        })
        .await;
    }

    async fn converse(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        if let Some(token) = &self.token {
            let told = tokio::time::timeout(TOKEN_PATIENCE, token_line(&mut stream, &mut buffer)).await;
            let right = told.ok().flatten().is_some_and(|told| told.as_bytes().ct_eq(token.expose().as_bytes()).into());
            if !right {
                let why = "the first line must be {\"token\":\"…\"} with the configured token";
                return self.dismiss(&mut stream, &Refusal::new(Code::Unauthorized, why)).await;
            }
        }
        let (mut read, write) = stream.into_split();
        let connection = Arc::new(Connection {
            source: self.clone(),
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
}

/// Reads and drops what still comes. A connection closed with something unread would be reset, and the client would lose
/// the last answers.
async fn read_to_end(read: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut dropped = vec![0; READ_BYTES];
    while read.read(&mut dropped).await? > 0 {}
    Ok(())
}

async fn draining(phase: &mut watch::Receiver<Phase>) {
    // A node that is gone is draining, too.
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
}

async fn ended(end: &mut watch::Receiver<Option<End>>) {
    let _ = end.wait_for(Option::is_some).await;
}

/// The token of the first line, `{"token":"…"}`; what follows stays in `buffer`.
async fn token_line(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<String> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1);
            let message: serde_json::Value = serde_json::from_slice(&line).ok()?;
            return Some(message.get("token")?.as_str()?.to_owned());
        }
        if buffer.len() > TOKEN_LINE_BYTES_MAX || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Why no more lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has sent all it wanted.
    Finished,
    /// The node is on its way out.
    Draining,
    /// The client is gone.
    Broken,
}

/// One connection.
struct Connection {
    source: Arc<TcpSource>,
    window: Mutex<Window>,
    /// Something is to be told.
    news: Notify,
    /// The window may have room again.
    room: Notify,
    end: watch::Sender<Option<End>>,
}

impl Acknowledge for Connection {
    fn settled(&self, line: u64, outcome: EventOutcome) {
        let admission = &self.source.admission;
        match &outcome {
            EventOutcome::Refused(refusal) => self.source.metrics.refused(&admission.metrics, refusal.code),
            _ => self.source.metrics.accepted.inc(),
        }
        let mut window = self.window();
        let was_waiting = window.is_crowded();
        let returned = window.settle(line, outcome);
        let has_room = was_waiting && !window.is_crowded();
        let tells = window.has_news();
        drop(window);
        if let Some(returned) = returned {
            admission.credits.give_back(returned.need);
            admission.metrics.ack_duration.observe(returned.read_at.elapsed().as_secs_f64());
        }
        if tells {
            self.news.notify_one();
        }
        if has_room {
            self.room.notify_one();
        }
    }
}

impl Window {
    fn is_crowded(&self) -> bool {
        self.len() + self.untold() > WINDOW_LINES_MAX
    }
}

impl Connection {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads lines until no more come.
    async fn read(self: Arc<Self>, read: &mut OwnedReadHalf, mut buffer: BytesMut) -> End {
        let mut phase = self.source.phase.clone();
        let mut end = self.end.subscribe();
        let mut lines = Lines { skipping: false, searched: 0 };
        loop {
            lines.take(&self, &mut buffer).await;
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                () = draining(&mut phase) => return End::Draining,
                () = ended(&mut end) => return End::Broken,
                () = self.has_room() => {}
            }
            tokio::select! {
                received = read.read_buf(&mut buffer) => match received {
                    Ok(0) => {
                        lines.take_last(&self, &mut buffer).await;
                        return End::Finished;
                    }
                    Ok(_) => {}
                    Err(_) => return End::Broken,
                },
                () = draining(&mut phase) => return End::Draining,
                () = ended(&mut end) => return End::Broken,
            }
        }
    }

    async fn has_room(&self) {
        self.source.admission.gate.opened().await;
        while self.window().is_crowded() {
            self.room.notified().await;
        }
    }

    /// Tells refusals and acknowledgements until all is told.
    async fn tell(self: Arc<Self>, mut write: OwnedWriteHalf) {
        let mut out = Vec::new();
        loop {
            let end = *self.end.borrow();
            let all_settled = {
                let mut window = self.window();
                window.tell(&mut out);
                window.is_empty()
            };
            let last = end.is_some() && all_settled;
            if last && end == Some(End::Draining) {
                out.extend(b"{\"bye\":\"draining\"}\n");
            }
            if !out.is_empty() {
                let written = async {
                    write.write_all(&out).await?;
                    if last { write.shutdown().await } else { Ok(()) }
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

/// Splitting what was received into lines.
struct Lines {
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
            if std::mem::take(&mut self.skipping) {
                buffer.advance(end + 1);
            } else {
                batch.line(&buffer[..end]).await;
                buffer.advance(end + 1);
            }
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
        if !self.skipping {
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
    lines: Vec<(Need, Result<Takers, Refusal>)>,
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
            .and_then(|event| source.admission.admit(&event, self.now, &source.metrics));
        self.add(line.len(), takers).await;
    }

    async fn refuse(&mut self, refusal: Refusal) {
        self.add(0, Err(refusal)).await;
    }

    async fn add(&mut self, bytes: usize, takers: Result<Takers, Refusal>) {
        let credits = &self.connection.source.admission.credits;
        let records = takers.as_ref().map_or(0, Takers::len) as u64;
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
                Err(refusal) => self.connection.settled(line, EventOutcome::Refused(refusal)),
            }
        }
        admission.deliver(&mut deliveries);
        // The next batch is received now.
        self.now = Timestamp::now();
        self.read_at = Instant::now();
        tokio::task::yield_now().await;
    }
}
