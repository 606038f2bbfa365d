//! A reader of Server-Sent Events, as plain as a test needs it: it reads when it is asked to, and not before.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{PATIENCE, Server};

/// A stream that is open.
pub struct EventStream {
    lines: BufReader<Chunks>,
    /// What the reader would say to go on.
    pub last_id: String,
    /// The id of the event that is being read.
    id: String,
}

/// An event that has data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: Value,
}

impl EventStream {
    /// Opens a stream, at a position if one is given.
    pub fn open(server: &Server, path: &str, last_id: Option<&str>) -> EventStream {
        Self::try_open(server, path, last_id).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// As [`Self::open`], from a server that may not answer.
    pub fn try_open(server: &Server, path: &str, last_id: Option<&str>) -> std::io::Result<EventStream> {
        Self::over(TcpStream::connect(server.http())?, path, last_id)
    }

    fn over(mut stream: TcpStream, path: &str, last_id: Option<&str>) -> std::io::Result<EventStream> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let last = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = BufReader::new(stream);
        let mut line = String::new();
        head.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(std::io::Error::other(format!("answered {line:?}")));
        }
        while !line.trim().is_empty() {
            line.clear();
            head.read_line(&mut line)?;
        }
        let mut events = EventStream {
            lines: BufReader::new(Chunks { stream: head, left: 0 }),
            last_id: String::new(),
            id: String::new(),
        };
        // The first thing that comes is where it begins: from then on nothing is missed.
        while events.last_id.is_empty() {
            let line = events.line()?.ok_or_else(|| std::io::Error::other("it ended at once"))?;
            events.note_id(&line);
        }
        Ok(events)
    }

    /// The next event with data; none when the server has closed in order.
    pub fn next(&mut self) -> std::io::Result<Option<Event>> {
        let (mut kind, mut data) = (String::new(), None);
        while let Some(line) = self.line()? {
            self.note_id(&line);
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")));
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                return Ok(Some(Event { id: self.last_id.clone(), name: kind, data }));
            }
        }
        Ok(None)
    }

    /// The next `count` events, which must come.
    pub fn take(&mut self, count: usize) -> Vec<Event> {
        let next = |_| self.next().expect("the stream goes on").expect("the stream does not end");
        (0..count).map(next).collect()
    }

    /// The next line; none at the end of the body.
    fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(line.trim_end_matches('\n').to_owned()))
    }

    /// An id counts once its event is there as a whole.
    fn note_id(&mut self, line: &str) {
        if let Some(id) = line.strip_prefix("id: ") {
            id.clone_into(&mut self.id);
        } else if line.is_empty() && !self.id.is_empty() {
            self.last_id = std::mem::take(&mut self.id);
        }
    }
}

/// The content of a chunked body.
struct Chunks {
    stream: BufReader<TcpStream>,
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            // After each chunk but the first stands a line end.
            while line.trim().is_empty() {
                line.clear();
                if self.stream.read_line(&mut line)? == 0 {
                    return Err(std::io::Error::other("the connection was closed in the middle"));
                }
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let size = into.len().min(self.left);
        let read = self.stream.read(&mut into[..size])?;
        if read == 0 {
            return Err(std::io::Error::other("the connection was closed in the middle"));
        }
        self.left -= read;
        Ok(read)
    }
}
