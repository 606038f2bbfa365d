//! The source `tcp`: accepts connections, as many as are allowed, of those who show the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::admission::{Admission, SourceMetrics};
use super::decode::Decoder;
use super::tcp::{Connection, FAREWELL_PATIENCE, READ_BYTES, draining, read_to_end};
use super::window::refusal_line;
use crate::config::{Limits, Secret};
use crate::model::refusal::{Code, Refusal};

/// How long the first line may take where a token is asked for.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);
/// The first line, with the token, has at most so many bytes.
const TOKEN_LINE_BYTES_MAX: usize = 4096;
/// A silent other end is asked so many times, a quarter of `limits.keepalive` apart, before it counts as gone.
const KEEPALIVE_PROBES: u32 = 4;
/// So many connections over the limit are told so at a time.
const DISMISSED_MAX: u64 = 16;
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
    pub token: Option<Secret>,
    pub limits: Limits,
    pub metrics: SourceMetrics,
    pub phase: watch::Receiver<Phase>,
    pub connections: AtomicU64,
}

impl TcpSource {
    /// Serves connections until the node drains; returns once every connection has ended.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut phase = self.phase.clone();
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let source = self.clone();
                        connections.spawn(source.serve(stream));
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

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        self.keep_alive(&stream);
        let open = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.connections.set(open.try_into().unwrap_or(i64::MAX));
        let max = self.limits.connections_max;
        if open > max + DISMISSED_MAX {
            // Told nothing: those that are being told take enough files already.
        } else if open > max {
            let why = format!("limits.connections_max = {max} connections are open");
            self.dismiss(&mut stream, &Refusal::new(Code::Busy, why)).await;
        } else {
            self.clone().converse(stream).await;
        }
        let open = self.connections.fetch_sub(1, Ordering::Relaxed) - 1;
        self.metrics.connections.set(open.try_into().unwrap_or(i64::MAX));
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

    async fn dismiss(&self, stream: &mut TcpStream, refusal: &Refusal) {
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

    async fn converse(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        if let Some(token) = &self.token {
            let told = tokio::time::timeout(TOKEN_PATIENCE, token_line(&mut stream, &mut buffer)).await;
            let right = told.ok().flatten().is_some_and(|told| told.as_bytes().ct_eq(token.expose().as_bytes()).into());
            if !right {
                let why = "the first line must be {\"token\":\"…\"} with the configured token";
                return self.dismiss(&mut stream, &Refusal::new(Code::Unauthorized, why)).await;
            }
        }
        Connection::serve(self, stream, buffer).await;
    }
}

/// The token of the first line, `{"token":"…"}`; what follows stays in `buffer`.
async fn token_line(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<String> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer) {
            let line = buffer.split_to(end + 1);
            let message: serde_json::Value = serde_json::from_slice(&line).ok()?;
            return Some(message.get("token")?.as_str()?.to_owned());
        }
        if buffer.len() > TOKEN_LINE_BYTES_MAX || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
