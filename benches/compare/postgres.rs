//! PostgreSQL as people use it for this: a table of what was seen and a row a key, one prepared statement an event, each
//! its own transaction, committed synchronously. It makes no decisions.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use turnstile::cli::bench::{DriveError, Load, Measured, Pace, Rendered, Replies};

use super::bed::{self, Events, Process};

pub const CONNECTIONS: usize = 64;
const TABLES: &str = "CREATE TABLE seen (source text, id text, PRIMARY KEY (source, id)); CREATE TABLE orders (key text PRIMARY KEY, doc jsonb NOT NULL)";
const STATEMENT: &str = "\
WITH event AS (SELECT $1::jsonb AS e),
fresh AS (
  INSERT INTO seen (source, id) SELECT e ->> 'source', e ->> 'id' FROM event ON CONFLICT DO NOTHING RETURNING id)
INSERT INTO orders AS o (key, doc)
SELECT e -> 'data' ->> 'orderId',
       jsonb_build_object(e ->> 'type', jsonb_build_object('time', e -> 'time', 'data', e -> 'data')) FROM event, fresh
ON CONFLICT (key) DO UPDATE SET doc = o.doc || excluded.doc
WHERE coalesce(o.doc -> ($1::jsonb ->> 'type') ->> 'time', '') <= $1::jsonb ->> 'time'";
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;
/// The least that a server for this work is given; initdb's own values are for small machines.
const SETTINGS: [&str; 8] = [
    "-cfsync=on",
    "-csynchronous_commit=on",
    "-cshared_buffers=1GB",
    "-cmax_wal_size=4GB",
    "-cmax_connections=100",
    "-cunix_socket_directories=",
    "-clisten_addresses=127.0.0.1",
    "-clogging_collector=off",
];

pub struct Postgres {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Starts a server with an empty database; `None` if it is not installed.
    pub fn start() -> Option<Postgres> {
        let (initdb, postgres) = (bed::program("initdb", &folders())?, bed::program("postgres", &folders())?);
        let (folder, port) = (bed::folder("postgres"), bed::free_port());
        let data = folder.path().join("data");
        give_away(folder.path());
        let made = as_user(&initdb).arg("-D").arg(&data).args(["--auth=trust", "-U", "postgres"]).output();
        let made = made.expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = as_user(&postgres);
        command.arg("-D").arg(&data).args(SETTINGS).args(["-p", &port.to_string()]);
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let server = Postgres { port, _process: process, _folder: folder };
        let mut stream = bed::wait_for("postgres listens", || server.connect().ok());
        let mut question = Vec::new();
        message(b'Q', &[TABLES.as_bytes(), b"\0"].concat(), &mut question);
        exchange(&mut stream, &question).expect("the tables can be made");
        Some(server)
    }

    pub fn version() -> Option<String> {
        let output = Command::new(bed::program("postgres", &folders())?).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout).split(' ').nth(2).map(str::to_owned)
    }

    pub fn loads(events: &Events) -> Vec<Arc<Load>> {
        events.loads(CONNECTIONS, request)
    }

    pub fn run(&self, loads: &[Arc<Load>]) -> Measured<Answers> {
        let pace = Pace { pipeline: 1, batch: 1, rate: None };
        bed::run(|| self.prepared(), loads, Answers::default, pace).expect("it answers everything")
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        let mut greeting = (body.len() as i32 + 4).to_be_bytes().to_vec();
        greeting.extend_from_slice(&body);
        exchange(&mut stream, &greeting)?;
        Ok(stream)
    }

    /// A connection that knows the statement.
    fn prepared(&self) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        let mut question = Vec::new();
        message(b'P', &[b"event\0", STATEMENT.as_bytes(), b"\0\0\0"].concat(), &mut question);
        message(b'S', &[], &mut question);
        exchange(&mut stream, &question)?;
        Ok(stream)
    }
}

/// Debian keeps the programs off the path, in a folder a version.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

/// It refuses to run as root; then it runs as the user that Debian made for it.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

fn give_away(folder: &Path) {
    if is_root() {
        let status = Command::new("chown").arg("postgres:postgres").arg(folder).status().expect("chown runs");
        assert!(status.success(), "the folder can be given to postgres");
    }
}

fn message(kind: u8, body: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(kind);
    bytes.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
}

fn request(event: &Rendered, bytes: &mut Vec<u8>) {
    let mut line = Vec::new();
    event.cloud_event(&mut line);
    let line = line.trim_ascii_end();
    // An unnamed portal; one parameter, as text.
    let mut bind = b"\0event\0\0\0\0\x01".to_vec();
    bind.extend_from_slice(&(line.len() as i32).to_be_bytes());
    bind.extend_from_slice(line);
    bind.extend_from_slice(&[0, 0]);
    message(b'B', &bind, bytes);
    message(b'E', &[0; 5], bytes);
    message(b'S', &[], bytes);
}

/// Sends a question and waits until the server is ready for the next.
fn exchange(stream: &mut TcpStream, question: &[u8]) -> io::Result<()> {
    stream.write_all(question)?;
    let (mut answers, mut buffer) = (Answers::default(), [0; 4096]);
    loop {
        let bytes = stream.read(&mut buffer)?;
        let answered = answers.answered(&buffer[..bytes]).map_err(io::Error::other)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if answered > 0 {
            return Ok(());
        }
    }
}

/// Counts `ReadyForQuery`, one an event.
#[derive(Default)]
pub struct Answers {
    answered: u64,
    partial: Vec<u8>,
}

impl Replies for Answers {
    fn answered(&mut self, bytes: &[u8]) -> Result<u64, DriveError> {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(&[kind, a, b, c, d]) = self.partial[at..].first_chunk::<5>() {
            let end = at + 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            let Some(message) = self.partial.get(at..end) else { break };
            match kind {
                b'E' => return Err(DriveError::Answer(String::from_utf8_lossy(message).replace('\0', " "))),
                b'Z' => self.answered += 1,
                _ => {}
            }
            at = end;
        }
        self.partial.drain(..at);
        Ok(self.answered)
    }
}
