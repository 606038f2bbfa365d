//! Orders out of a JetStream stream: Turnstile beside a bare client that takes the same messages from the same server and
//! does nothing but acknowledge each.

use std::cell::RefCell;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::bed::{self, Process, Source};
use super::figures::{Figures, Unit, Wanted};
use super::turnstile::Turnstile;

/// Messages in the stream.
const MESSAGES: usize = 400_000;
/// Messages that the client acknowledges with an answer to each, which takes it long.
const CONFIRMED: usize = 20_000;
const PUBLISHED_AT_ONCE: usize = 1_000;
const STREAM: &str = "ORDERS";
const POLL: Duration = Duration::from_millis(10);

/// What the client does with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// Sends its acknowledgement, and goes on.
    Sent,
    /// Waits until the server has confirmed it.
    Confirmed,
}

struct Nats {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

fn program() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("pytools/bin");
    bed::program("nats-server", &[tools])
}

/// The server's version, if there is one.
pub fn version() -> Option<String> {
    let output = Command::new(program()?).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().rsplit('v').next()?.to_owned())
}

impl Nats {
    fn start() -> Option<Nats> {
        let (program, folder, port) = (program()?, bed::folder("nats"), bed::free_port());
        let mut command = Command::new(program);
        command.args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string(), "--store_dir"]);
        let process = Process::spawn(command.arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()));
        bed::wait_for("nats-server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(Nats { port, _process: process, _folder: folder })
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.url()).await.expect("it listens"))
    }
}

/// The rates of both, of the same messages.
pub fn nats(figures: &mut Figures) {
    let Some(server) = Nats::start() else { return };
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(fill(&server));
    let bare = runtime.block_on(drain(&server, Acks::Sent, MESSAGES));
    figures.add("NATS: bare client, acknowledges each", Unit::PerSecond, Wanted::Nothing, bare);
    let confirmed = runtime.block_on(drain(&server, Acks::Confirmed, CONFIRMED));
    figures.add("NATS: bare client, waits for each to be confirmed", Unit::PerSecond, Wanted::Nothing, confirmed);
    let source = format!(
        "[source.bus]\nkind = \"nats\"\nservers = \"{}\"\nstream = \"{STREAM}\"\nconsumer = \"turnstile\"",
        server.url()
    );
    let begin = Instant::now();
    let turnstile = Turnstile::start(&source);
    let rate = runtime.block_on(acknowledged(&server, begin));
    figures.add("NATS: Turnstile", Unit::PerSecond, Wanted::Nothing, rate);
    let accepted = turnstile.counters().sum("turnstile_events_accepted_total");
    assert_eq!(accepted as usize, MESSAGES, "it took all of them");
    figures.add("NATS: Turnstile / bare client", Unit::Times, Wanted::AtLeast(1.0), rate / bare);
    figures.add("NATS: Turnstile / bare client that waits", Unit::Times, Wanted::Nothing, rate / confirmed);
}

/// Puts the orders into a new stream.
async fn fill(server: &Nats) {
    let jetstream = server.jetstream().await;
    let config =
        stream::Config { name: STREAM.to_owned(), subjects: vec!["orders".to_owned()], ..stream::Config::default() };
    jetstream.create_stream(config).await.expect("the stream is made");
    let messages = RefCell::new(Vec::with_capacity(MESSAGES));
    Source::new(&bed::ORDERS, "n").take(MESSAGES).loads(1, |event, _| {
        let mut bytes = Vec::new();
        event.cloud_event(&mut bytes);
        messages.borrow_mut().push(Bytes::from(bytes));
    });
    for messages in messages.into_inner().chunks(PUBLISHED_AT_ONCE) {
        let publish = |message: &Bytes| jetstream.publish("orders", message.clone());
        for stored in join_all(messages.iter().map(publish)).await {
            stored.expect("it is sent").await.expect("it is stored");
        }
    }
}

/// Messages a second of a client that only acknowledges them, one by one, in the way its documentation shows.
async fn drain(server: &Nats, acks: Acks, count: usize) -> f64 {
    let jetstream = server.jetstream().await;
    let config = pull::Config { durable_name: Some("bare".to_owned()), ..pull::Config::default() };
    let consumer: PullConsumer = jetstream.create_consumer_on_stream(config, STREAM).await.expect("it is made");
    let begin = Instant::now();
    let mut messages = consumer.messages().await.expect("messages").take(count);
    while let Some(message) = messages.next().await {
        let message = message.expect("a message");
        let acknowledged = match acks {
            Acks::Sent => message.ack().await,
            Acks::Confirmed => message.double_ack().await,
        };
        acknowledged.expect("it is acknowledged");
    }
    jetstream.client().flush().await.expect("it has left");
    let elapsed = begin.elapsed();
    drop(messages);
    jetstream.delete_consumer_from_stream("bare", STREAM).await.expect("it is deleted");
    count as f64 / elapsed.as_secs_f64()
}

/// Waits until NATS knows that Turnstile has all; messages a second since `begin`.
async fn acknowledged(server: &Nats, begin: Instant) -> f64 {
    let jetstream = server.jetstream().await;
    loop {
        let found: Result<PullConsumer, _> = jetstream.get_consumer_from_stream("turnstile", STREAM).await;
        if found.is_ok_and(|found| found.cached_info().ack_floor.stream_sequence >= MESSAGES as u64) {
            return MESSAGES as f64 / begin.elapsed().as_secs_f64();
        }
        tokio::time::sleep(POLL).await;
    }
}
