//! Sending against a server that is played line by line.

mod broken;
mod command;
mod plain;

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::connection::Options;
use super::lane::Window;
use super::report::{Progress, Report, Tally};
use super::transmit::{TransmitError, transmit};
use crate::cli::destination::Way;

/// Long enough that no test ever waits for it.
const LONG: Duration = Duration::from_mins(1);

fn options() -> Options {
    Options {
        way: Way::of_test(""),
        token: None,
        window: Window { lines: 10_000, bytes: 1 << 20 },
        timeout: LONG,
        retry_for: LONG,
        backoff: (Duration::from_millis(1), Duration::from_millis(4)),
    }
}

/// Sends `input` while `server` plays the other side; gives what came of it.
async fn send_to(
    server: impl AsyncFnOnce(&TcpListener),
    input: impl Read + Send + 'static,
    connections: usize,
    options: Options,
) -> (Result<(), TransmitError>, Tally) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options { way: Way::of_test(&listener.local_addr().unwrap().to_string()), ..options };
    let report = Arc::new(Report::new(Progress::Quiet));
    let (outcome, ()) = tokio::join!(transmit(input, connections, options, &report), server(&listener));
    (outcome, report.end().tally)
}

/// The server's side of one connection.
struct Peer {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        Self::of(listener.accept().await.unwrap().0)
    }

    fn of(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Peer { reader: BufReader::new(reader), writer }
    }

    /// The next line without its newline, `None` at the end.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).await.unwrap_or_default();
        (length > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// Expects exactly these lines.
    async fn expect(&mut self, lines: &[&str]) {
        for expected in lines {
            assert_eq!(self.line().await.as_deref(), Some(*expected));
        }
    }

    /// Expects the client to close its sending side.
    async fn expect_end(&mut self) {
        assert_eq!(self.line().await, None);
    }

    async fn say(&mut self, line: &str) {
        // A client that has all it wanted may be gone.
        let _ = self.writer.write_all(format!("{line}\n").as_bytes()).await;
    }
}
