//! A connection that is given up when its other end takes nothing of what it is sent, and that tells when it will send no more.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpRequest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

/// Once nothing was taken for `timeout`, whoever speaks on it is told; after as long again writing to it fails.
pub(super) struct Unread<S> {
    stream: S,
    timeout: Duration,
    /// Runs while something waits to be taken.
    patience: Option<Pin<Box<Sleep>>>,
    standing: watch::Sender<Standing>,
}

/// How it stands with the other end. What it has come to stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    There,
    /// It has taken nothing for too long.
    Stalled,
    /// It has closed its half, or all of it; which of both is known only once something was sent to it.
    Closed,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct OtherEnd(watch::Receiver<Standing>);

impl OtherEnd {
    /// That of a request's connection; none outside of the server.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        request.conn_data::<OtherEnd>().cloned()
    }

    pub fn is_stalled(&self) -> bool {
        *self.0.borrow() == Standing::Stalled
    }

    /// Waits until it has taken nothing for too long.
    pub async fn stalled(&mut self) {
        self.until(|standing| standing == Standing::Stalled).await;
    }

    /// Waits until there is no reason to send it more.
    pub async fn left(&mut self) -> Standing {
        self.until(|standing| standing != Standing::There).await
    }

    async fn until(&mut self, is_so: fn(Standing) -> bool) -> Standing {
        let reached = self.0.wait_for(|standing| is_so(*standing)).await.map(|standing| *standing);
        match reached {
            Ok(standing) => standing,
            // The connection is gone, and so will be whoever waits here.
            Err(_) => pending().await,
        }
    }
}

impl<S> Unread<S> {
    pub fn new(stream: S, timeout: Duration) -> Self {
        Unread { stream, timeout, patience: None, standing: watch::Sender::new(Standing::There) }
    }

    pub fn other_end(&self) -> OtherEnd {
        OtherEnd(self.standing.subscribe())
    }

    /// What became of writing, or that there was enough patience with it.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let timeout = self.timeout;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(patience.as_mut().poll(cx));
        if self.standing.send_replace(Standing::Stalled) != Standing::Stalled {
            patience.as_mut().reset(Instant::now() + timeout);
            ready!(patience.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end took nothing of what it was sent")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, closed)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (had, could) = (into.filled().len(), into.remaining());
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if could > 0 && into.filled().len() == had {
            self.standing.send_if_modified(|standing| {
                let is_new = *standing == Standing::There;
                if is_new {
                    *standing = Standing::Closed;
                }
                is_new
            });
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// If this failed, whoever asks and never reads would keep a connection and its buffers for ever, or a slow reader
    /// would be cut off although it reads.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up() {
        let (near, mut far) = duplex(8);
        let mut near = Unread::new(near, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut taken = [0; 4];
            for _ in 0..4 {
                sleep(Duration::from_secs(20)).await;
                far.read_exact(&mut taken).await.unwrap();
            }
            far
        });
        near.write_all(&[0; 24]).await.unwrap();
        let _far = reader.await.unwrap();
        let (start, mut other_end) = (Instant::now(), near.other_end());
        assert!(!other_end.is_stalled());
        let told = tokio::spawn(async move {
            other_end.stalled().await;
            start.elapsed().as_secs()
        });
        let error = near.write_all(&[0; 24]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        assert_eq!(told.await.unwrap(), 30);
    }

    /// If this failed, who has closed a stream would be taken for one that listens.
    #[tokio::test]
    async fn who_sends_no_more_is_told_of() {
        let (near, mut far) = duplex(8);
        let mut near = Unread::new(near, Duration::from_secs(30));
        let mut other_end = near.other_end();
        far.write_all(b"GET").await.unwrap();
        far.shutdown().await.unwrap();
        let mut sent = Vec::new();
        near.read_to_end(&mut sent).await.unwrap();
        assert_eq!((sent.as_slice(), other_end.left().await), (b"GET".as_slice(), Standing::Closed));
    }
}
