//! Turnstile itself: the release binary with the rules beside this file, default settings, decisions to a file.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use turnstile::cli::bench::{Acks, Counters, Load, Measured, Pace, Rendered};

use super::bed::{self, Events, Process};

pub const CONNECTIONS: usize = 8;
/// Of each connection, so many events may be unacknowledged; they are sent in halves of it.
const PIPELINE: usize = 4_000;
const FULL: Pace = Pace { pipeline: PIPELINE, batch: PIPELINE / 2, rate: None };
/// A sink that lags by so few records has caught up.
const SINK_LAG_NEAR: f64 = 5.0;

pub struct Turnstile {
    tcp: SocketAddr,
    http: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
    /// Records that recovery evolved from.
    pub replayed: u64,
    process: Process,
    folder: TempDir,
}

impl Turnstile {
    /// Starts a server in an empty folder. `tables` are added to its configuration.
    pub fn start(tables: &str) -> Turnstile {
        let folder = bed::folder("turnstile");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/orders.toml");
        let config = format!(
            "include = [\"{}\"]\n[server]\ndata_dir = \"data\"\nhttp = \"127.0.0.1:0\"\n\
             [source.tcp]\nkind = \"tcp\"\nlisten = \"127.0.0.1:0\"\n\
             [sink.decisions]\nkind = \"file\"\npath = \"out/decisions.ndjson\"\n{tables}\n",
            rules.display()
        );
        std::fs::write(folder.path().join("config.toml"), config).expect("the configuration can be written");
        Self::start_in(folder)
    }

    fn start_in(folder: TempDir) -> Turnstile {
        let begin = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
        let mut process = Process::spawn(command.arg("run").current_dir(folder.path()).stdout(Stdio::piped()));
        let stdout = process.child().stdout.take().expect("a pipe");
        let (mut tcp, mut http, mut replayed) = (None, None, None);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let address = |prefix| line.strip_prefix(prefix).and_then(|address| address.trim().parse().ok());
            tcp = tcp.or_else(|| address("source tcp listening on "));
            http = http.or_else(|| address("http listening on http://"));
            let records = line.strip_prefix("recovered ").and_then(|rest| rest.split(", ").nth(1));
            replayed = replayed.or_else(|| records?.split(' ').next()?.replace(',', "").parse().ok());
            if tcp.is_some() && http.is_some() && replayed.is_some() {
                break;
            }
        }
        let (tcp, http) = tcp.zip(http).expect("it says where it listens");
        let mut server = Turnstile { tcp, http, ready_after: begin.elapsed(), replayed: 0, process, folder };
        bed::wait_for("turnstile is ready", || server.get("/readyz").starts_with("HTTP/1.1 200").then_some(()));
        server.ready_after = begin.elapsed();
        server.replayed = replayed.unwrap_or_default();
        server
    }

    /// Kills it without warning and starts it again.
    pub fn crash(self) -> Turnstile {
        self.process.kill();
        Self::start_in(self.folder)
    }

    pub fn loads(events: &Events) -> Vec<Arc<Load>> {
        events.loads(CONNECTIONS, Rendered::cloud_event)
    }

    /// As fast as it goes.
    pub fn run(&self, loads: &[Arc<Load>]) -> Measured<Acks> {
        self.paced(loads, FULL)
    }

    /// At a given rate.
    pub fn run_at(&self, loads: &[Arc<Load>], rate: f64) -> Measured<Acks> {
        self.paced(loads, Pace { pipeline: usize::MAX / 2, batch: 1, rate: Some(rate) })
    }

    fn paced(&self, loads: &[Arc<Load>], pace: Pace) -> Measured<Acks> {
        self.try_paced(loads, pace).expect("everything is acknowledged")
    }

    /// As fast as it goes, where it is in doubt whether it goes at all; or why it does not.
    pub fn try_run(&self, loads: &[Arc<Load>]) -> Result<Measured<Acks>, String> {
        self.try_paced(loads, FULL)
    }

    /// At a given pace; or why that does not go.
    pub fn try_paced(&self, loads: &[Arc<Load>], pace: Pace) -> Result<Measured<Acks>, String> {
        let measured = bed::run(|| TcpStream::connect(self.tcp), loads, Acks::default, pace);
        let measured = measured.map_err(|error| error.to_string())?;
        match measured.replies.iter().find_map(|acks| acks.refusal.clone()) {
            Some(refusal) => Err(refusal),
            None => Ok(measured),
        }
    }

    pub fn counters(&self) -> Counters {
        Counters::parse(&self.get("/metrics"))
    }

    /// What the files in the journal's folder take on the disk.
    pub fn journal_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.folder.path().join("data/journal")).expect("the journal");
        files.flatten().filter_map(|file| file.metadata().ok()).map(|about| taken(&about)).sum()
    }

    /// What all files in the data folder take on the disk.
    pub fn data_bytes(&self) -> u64 {
        let state = std::fs::metadata(self.folder.path().join("data/state.redb")).map_or(0, |about| taken(&about));
        self.journal_bytes() + state
    }

    /// Waits until the decisions are in the file; how long that took, in seconds.
    pub fn sinks_catch_up(&self) -> f64 {
        let begin = Instant::now();
        // Progress is journaled too, so a few records are always in front of it.
        let near = || (self.counters().sum("turnstile_sink_lag_records") <= SINK_LAG_NEAR).then_some(());
        bed::wait_for("the decisions are in the file", near);
        begin.elapsed().as_secs_f64()
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        let mut request = String::new();
        let _ = write!(request, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// redb lengthens its files in large steps, ahead of what it writes: only what was written takes room.
fn taken(about: &Metadata) -> u64 {
    about.blocks() * 512
}
