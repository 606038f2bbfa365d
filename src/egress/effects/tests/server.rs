//! A server on this machine that answers as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The head's lines behind the status, and the body.
    Status(u16, &'static str, Vec<u8>),
    /// Closes the connection without reading.
    Unread,
    /// Closes it when it has read all.
    Close,
    /// Says nothing, and keeps it.
    Silence,
    /// Begins an answer of 100 bytes, and then does this.
    Half(&'static Reply),
}

/// A request that it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which connection it came over.
    pub connection: usize,
    pub first_line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _listening: JoinSet<()>,
}

impl Server {
    /// Answers the n-th request (from 0, unread ones among them) by this.
    pub async fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/score", listener.local_addr().unwrap());
        let (seen, unread): (Arc<Mutex<Vec<Seen>>>, _) = (Arc::default(), Arc::new(Mutex::new(0)));
        let (all, reply) = (seen.clone(), Arc::new(reply));
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (all, reply, unread) = (all.clone(), reply.clone(), unread.clone());
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    loop {
                        let count = || all.lock().unwrap().len() + *unread.lock().unwrap();
                        if matches!(reply(count()), Reply::Unread) {
                            *unread.lock().unwrap() += 1;
                            return;
                        }
                        let Some(request) = read(&mut stream, connection).await else { return };
                        let reply = reply(count());
                        all.lock().unwrap().push(request);
                        if !answer(stream.get_mut(), &reply).await {
                            return;
                        }
                    }
                });
            }
        });
        Server { url, seen, _listening: listening }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let first_line = lines.remove(0);
    let pairs = lines.iter().filter_map(|line| line.split_once(": "));
    let headers: HashMap<String, String> = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { connection, first_line, headers, body: String::from_utf8(body).unwrap() })
}

/// Answers; whether the connection goes on.
async fn answer(stream: &mut TcpStream, reply: &Reply) -> bool {
    let mut reply = reply;
    loop {
        match reply {
            Reply::Status(status, head, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{head}content-length: {}\r\n\r\n", body.len());
                return stream.write_all(&[head.as_bytes(), body].concat()).await.is_ok();
            }
            Reply::Unread | Reply::Close => return false,
            Reply::Silence => std::future::pending().await,
            Reply::Half(then) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"score\":").await;
                reply = then;
            }
        }
    }
}
