//! Redis as people use it for this: a script that drops what it has seen and keeps the latest of each part, in one hash a
//! key; every answer after the append-only file is synced. It makes no decisions.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use turnstile::cli::bench::{DriveError, Load, Measured, Pace, Rendered, Replies};

use super::bed::{self, Events, Process};

pub const CONNECTIONS: usize = 64;
const PIPELINE: usize = 32;
/// What the script is given, and what it does with it: an identity counts once a key, of each type of event the data with
/// the latest time stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The event as it came, which the script reads, as Turnstile does.
    Event,
    /// Its parts, which the client has cut out before the clock started.
    Parts,
}

const READS_EVENT: &str = "\
local key, event = KEYS[1], cjson.decode(ARGV[1])
if redis.call('HSETNX', key, 'id:' .. event.source .. ':' .. event.id, '') == 0 then return 0 end
local part, time = event.type, event.time
local seen = redis.call('HGET', key, part .. ':time')
if not seen or seen <= time then redis.call('HSET', key, part, cjson.encode(event.data), part .. ':time', time) end
return 1";
const TAKES_PARTS: &str = "\
local key, id, part, time, data = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HSETNX', key, 'id:' .. id, '') == 0 then return 0 end
local seen = redis.call('HGET', key, part .. ':time')
if not seen or seen <= time then redis.call('HSET', key, part, data, part .. ':time', time) end
return 1";

pub struct Redis {
    port: u16,
    given: Given,
    /// Of the script.
    sha: String,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    /// Starts a server with an empty folder; `None` if it is not installed.
    pub fn start(given: Given) -> Option<Redis> {
        let program = bed::program("redis-server", &[])?;
        let (folder, port) = (bed::folder("redis"), bed::free_port());
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder.path());
        let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let stream = bed::wait_for("redis-server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let mut redis = Redis { port, given, sha: String::new(), _process: process, _folder: folder };
        let script = match given {
            Given::Event => READS_EVENT,
            Given::Parts => TAKES_PARTS,
        };
        redis.sha = ask(&stream, &["SCRIPT", "LOAD", script]);
        Some(redis)
    }

    pub fn version() -> Option<String> {
        let output = Command::new(bed::program("redis-server", &[])?).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.split("v=").nth(1)?.split(' ').next()?.to_owned())
    }

    pub fn loads(&self, events: &Events) -> Vec<Arc<Load>> {
        events.loads(CONNECTIONS, |event, bytes| self.request(event, bytes))
    }

    fn request(&self, event: &Rendered, bytes: &mut Vec<u8>) {
        let mut arguments = vec![b"EVALSHA".as_slice(), self.sha.as_bytes(), b"1", &event.key];
        let mut whole = Vec::new();
        match self.given {
            Given::Event => {
                event.cloud_event(&mut whole);
                arguments.push(whole.trim_ascii_end());
            }
            Given::Parts => {
                arguments.extend([&*event.id, event.part.as_bytes(), event.time.as_bytes(), &*event.data]);
            }
        }
        encode(&arguments, bytes);
    }

    pub fn run(&self, loads: &[Arc<Load>]) -> Measured<Answers> {
        let pace = Pace { pipeline: PIPELINE, batch: PIPELINE, rate: None };
        bed::run(|| TcpStream::connect(("127.0.0.1", self.port)), loads, Answers::default, pace)
            .expect("it answers everything")
    }

    /// How many keys it holds, to see that it did what it was asked.
    pub fn keys(&self) -> usize {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        ask(&stream, &["DBSIZE"]).parse().expect("a number of keys")
    }
}

fn encode(arguments: &[&[u8]], bytes: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    let _ = write!(bytes, "*{}\r\n", arguments.len());
    for argument in arguments {
        let _ = write!(bytes, "${}\r\n", argument.len());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// One question whose answer is a number or a string of one line.
fn ask(mut stream: &TcpStream, arguments: &[&str]) -> String {
    let mut bytes = Vec::new();
    encode(&arguments.iter().map(|argument| argument.as_bytes()).collect::<Vec<_>>(), &mut bytes);
    stream.write_all(&bytes).expect("redis-server listens");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("redis-server answers"));
    let first = lines.next().expect("an answer");
    match first.split_at(1) {
        (":", number) => number.to_owned(),
        ("$", _) => lines.next().expect("an answer"),
        _ => panic!("redis-server says {first}"),
    }
}

/// One line an answer: `:0` or `:1`.
#[derive(Default)]
pub struct Answers {
    answered: u64,
    /// Where in a line it is.
    begun: bool,
}

impl Replies for Answers {
    fn answered(&mut self, bytes: &[u8]) -> Result<u64, DriveError> {
        for &byte in bytes {
            if !self.begun && byte == b'-' {
                return Err(DriveError::Answer(String::from_utf8_lossy(bytes).into_owned()));
            }
            self.begun = byte != b'\n';
            self.answered += u64::from(!self.begun);
        }
        Ok(self.answered)
    }
}
