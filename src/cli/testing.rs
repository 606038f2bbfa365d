//! What the tests of this folder share: a server that answers by a script, and a screen in memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use super::client::ServerArgs;
use super::failure::{Exit, Failure};
use super::screen::Screen;

/// Runs a command; gives its exit code, its output and what it said besides.
pub fn told(command: impl FnOnce(&mut Screen<'_>) -> Result<Exit, Failure>) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen::of_test(&mut out, &mut err);
    let exit = command(&mut screen).unwrap_or_else(|failure| {
        screen.complain(&failure);
        failure.exit()
    });
    drop(screen);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// An HTTP server that gives the answers it was made with, one a request, and remembers the requests.
pub struct HttpServer {
    address: SocketAddr,
    requests: mpsc::Receiver<String>,
}

impl HttpServer {
    pub fn answering(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut request).unwrap() > 0, "the request ends early: {request}");
                }
                let length =
                    request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut sent = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut sent).unwrap();
                request.push_str(&String::from_utf8(sent).unwrap());
                sender.send(request).unwrap();
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
                    .unwrap();
            }
        });
        HttpServer { address, requests }
    }

    pub fn args(&self, token: Option<&str>) -> ServerArgs {
        ServerArgs::of_test(&format!("http://{}", self.address), token)
    }

    /// Every request that came, after the command ended.
    pub fn requests(self) -> Vec<String> {
        std::iter::from_fn(|| self.requests.recv_timeout(Duration::from_secs(5)).ok()).collect()
    }
}
