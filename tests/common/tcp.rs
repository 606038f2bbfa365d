//! A client of the TCP source, and ways to deliver many lines with it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::PATIENCE;

/// A connection.
pub struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

/// What became of delivered lines.
#[derive(Debug, Default)]
pub struct Outcome {
    pub acked: u64,
    pub duplicates: u64,
    /// The refusals, as they came.
    pub refused: Vec<Value>,
    /// The reason given before the server closed, if it closed first.
    pub bye: Option<String>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("TCP accepts the connection")
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        Client::over(TcpStream::connect(address)?)
    }

    /// A client on a connection that is there.
    pub fn over(stream: TcpStream) -> std::io::Result<Client> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let replies = BufReader::new(stream.try_clone()?);
        Ok(Client { stream, replies })
    }

    /// The client's end of the connection.
    pub fn local_port(&self) -> u16 {
        self.stream.local_addr().expect("an address").port()
    }

    /// Sends one line.
    pub fn send(&mut self, line: impl AsRef<[u8]>) {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Sends one line to a server that may have closed.
    pub fn try_send(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// Writes as much as the other side takes without anything being read here, at most `bytes`; tells how much.
    pub fn stuff(&mut self, bytes: &[u8], patience: std::time::Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a timeout");
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("the server closed a connection that only wrote: {error}"),
            }
        }
        written
    }

    /// Closes the sending side.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("half a close");
    }

    /// The next answer; none when the server has closed.
    pub fn reply(&mut self) -> Option<Value> {
        self.try_reply().expect("an answer or the end")
    }

    pub fn try_reply(&mut self) -> std::io::Result<Option<Value>> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if !line.ends_with('\n') {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "an answer was cut off"));
        }
        let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the answer {line:?}"));
        Ok(Some(value))
    }

    /// Answers until line `n` is settled.
    pub fn settle(&mut self, n: u64) -> Outcome {
        let mut outcome = Outcome::default();
        while outcome.acked < n {
            let reply = self.reply().unwrap_or_else(|| panic!("closed before the ack of line {n}: {outcome:?}"));
            outcome.take(&reply);
        }
        outcome
    }

    /// Closes the sending side and reads everything up to the end.
    pub fn finish(mut self) -> Outcome {
        self.finish_sending();
        let mut outcome = Outcome::default();
        while let Some(reply) = self.reply() {
            outcome.take(&reply);
        }
        outcome
    }

    /// Both halves, for a thread each.
    pub fn split(self) -> (TcpStream, BufReader<TcpStream>) {
        (self.stream, self.replies)
    }
}

impl Outcome {
    /// Notes an answer, and checks what holds for any sequence of them: acks grow, and a refusal comes before the ack
    /// that covers it.
    pub fn take(&mut self, reply: &Value) {
        if let Some(ack) = reply["ack"].as_u64() {
            assert!(ack > self.acked, "acks grow: {reply} after {}", self.acked);
            let duplicates = reply["duplicates"].as_u64().unwrap_or_else(|| panic!("an ack has `duplicates`: {reply}"));
            assert!(reply["lsn"].is_u64(), "an ack has an `lsn`: {reply}");
            assert!(duplicates >= self.duplicates && duplicates <= ack, "duplicates among lines 1..{ack}: {reply}");
            (self.acked, self.duplicates) = (ack, duplicates);
        } else if let Some(line) = reply["refused"].as_u64() {
            assert!(line == 0 || line > self.acked, "a refusal comes before its ack: {reply} after {}", self.acked);
            assert!(reply["code"].is_string() && reply["message"].is_string(), "a refusal says why: {reply}");
            self.refused.push(reply.clone());
        } else if let Some(reason) = reply["bye"].as_str() {
            self.bye = Some(reason.to_owned());
        }
    }

    /// The code with which line `n` was refused.
    pub fn code(&self, n: u64) -> Option<&str> {
        self.refused.iter().find(|refusal| refusal["refused"] == n).and_then(|refusal| refusal["code"].as_str())
    }
}

/// Sends all lines on one connection while reading the answers, half-closes, and reads to the end.
pub fn deliver(address: SocketAddr, lines: &[String]) -> Outcome {
    let (mut stream, replies) = Client::connect(address).split();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            stream.write_all(text.as_bytes()).expect("the server takes what is sent");
            stream.shutdown(Shutdown::Write).expect("half a close");
        });
        let mut outcome = Outcome::default();
        for line in replies.lines() {
            let line = line.expect("answers up to the end");
            outcome.take(&serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}")));
        }
        outcome
    })
}

/// Sends lines with at most `window` of them unacknowledged, until all are acknowledged or the connection ends. What is
/// acknowledged leaves `lines` and is counted in `acked`, so that the rest can be sent again on another connection.
pub fn deliver_some(address: SocketAddr, lines: &mut VecDeque<String>, window: usize, acked: &AtomicUsize) {
    let Ok(client) = Client::try_connect(address) else { return };
    let (mut stream, replies) = client.split();
    let mut answers = Client { stream: stream.try_clone().expect("a handle"), replies };
    let (mut settled, mut sent) = (0, 0);
    while !lines.is_empty() {
        let batch: String =
            lines.range(sent - settled..lines.len().min(window)).flat_map(|line| [line, "\n"]).collect();
        // If this fails, what was acknowledged before the end can still be read below.
        let _ = stream.write_all(batch.as_bytes());
        sent = settled + lines.len().min(window);
        let Ok(Some(reply)) = answers.try_reply() else { return };
        assert!(reply["refused"].is_null(), "nothing in the data is to be refused: {reply}");
        if let Some(ack) = reply["ack"].as_u64() {
            let ack = usize::try_from(ack).expect("a line number");
            assert!(ack > settled && ack <= sent, "ack {ack} after {settled}, of {sent} sent");
            lines.drain(..ack - settled);
            acked.fetch_add(ack - settled, Ordering::SeqCst);
            settled = ack;
        }
    }
}
