//! The source `tcp`: accepts connections, as many as are allowed, of those who show the token.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::admission::{Admission, SourceMetrics};
use super::decode::Decoder;
use super::door::{Door, Entered};
use super::tcp::{Connection, FAREWELL_PATIENCE, READ_BYTES, draining, read_to_end};
use super::window::refusal_line;
use crate::config::Limits;
use crate::model::refusal::{Code, Refusal};
use crate::trust::{Scope, Tokens};

/// The first line, with the token, has at most so many bytes.
const TOKEN_LINE_BYTES_MAX: usize = 4096;
/// A silent other end is asked so many times, a quarter of `limits.keepalive` apart, before it counts as gone.
const KEEPALIVE_PROBES: u32 = 4;
/// So many connections over a limit are told so at a time.
const DISMISSED_MAX: usize = 16;
/// Pause after a connection could not be accepted, most likely for want of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    pub door: Arc<Door>,
    /// What the first line of a connection must show, if anything.
    pub tokens: Tokens,
    pub limits: Limits,
    pub metrics: SourceMetrics,
    pub phase: watch::Receiver<Phase>,
    /// Connections that are being told that there is no place for them.
    pub dismissed: AtomicUsize,
}

impl TcpSource {
    /// Serves connections until the node drains; returns once every connection has ended.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut phase = self.phase.clone();
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let source = self.clone();
                        connections.spawn(source.serve(stream, from.ip()));
                        while connections.try_join_next().is_some() {}
                    }
                    Err(error) => {
                        tracing::warn!(source = %self.name, %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = draining(&mut phase) => break,
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, from: IpAddr) {
        let _ = stream.set_nodelay(true);
        self.keep_alive(&stream);
        let _place = match self.door.place(from) {
            Ok(place) => place,
            Err(crowded) => {
                // Told nothing if it could not read it, or if those that are being told take enough files already.
                let told = self.dismissed.fetch_add(1, Ordering::Relaxed) < DISMISSED_MAX && !self.door.is_secured();
                if told {
                    self.dismiss(&mut stream, &Refusal::new(Code::Busy, crowded.to_string())).await;
                }
                self.dismissed.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        match self.door.enter(stream).await {
            Ok(Entered::Plain(stream)) => {
                let (read, write) = stream.into_split();
                self.converse(read, write).await;
            }
            Ok(Entered::Secured(stream)) => {
                let (read, write) = tokio::io::split(stream);
                self.converse(read, write).await;
            }
            Err(error) => tracing::debug!(source = %self.name, %from, %error, "a connection was not secured"),
        }
    }

    /// Has the system find out about other ends that went without a word. If it will not, they stay until they are written
    /// to.
    fn keep_alive(&self, stream: &TcpStream) {
        let idle = self.limits.keepalive;
        let pause = (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let _ = sockopt::set_tcp_keepidle(stream, idle)
            .and_then(|()| sockopt::set_tcp_keepintvl(stream, pause))
            .and_then(|()| sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES))
            .and_then(|()| sockopt::set_socket_keepalive(stream, true));
    }

    async fn dismiss(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), refusal: &Refusal) {
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

    async fn converse<R, W>(self: Arc<Self>, mut read: R, write: W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        if !self.tokens.is_empty() {
            let told = tokio::time::timeout(self.limits.hello_timeout, token_line(&mut read, &mut buffer)).await;
            let scopes = told.ok().flatten().and_then(|told| self.tokens.scopes(told.as_bytes()));
            if !scopes.is_some_and(|scopes| scopes.include(Scope::Send)) {
                let why =
                    "the first line must be {\"token\":\"…\"} with a configured token, within limits.hello_timeout";
                let mut stream = tokio::io::join(read, write);
                return self.dismiss(&mut stream, &Refusal::new(Code::Unauthorized, why)).await;
            }
        }
        Connection::serve(self, read, write, buffer).await;
    }
}

/// Whether a line is nothing but a token. It is no event, and must not become one.
pub(super) fn is_token_line(line: &[u8]) -> bool {
    if line.len() > TOKEN_LINE_BYTES_MAX {
        return false;
    }
    let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(line) else { return false };
    members.len() == 1 && members.get("token").is_some_and(serde_json::Value::is_string)
}

/// The token of the first line, `{"token":"…"}`; what follows stays in `buffer`.
async fn token_line(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Option<String> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1);
            if line.len() > TOKEN_LINE_BYTES_MAX {
                return None;
            }
            let message: serde_json::Value = serde_json::from_slice(&line).ok()?;
            return Some(message.get("token")?.as_str()?.to_owned());
        }
        if buffer.len() > TOKEN_LINE_BYTES_MAX || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
