//! A connection that is given up when its other end takes nothing of what it is sent.

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
    stalled: watch::Sender<bool>,
}

/// Whether the other end of a connection has taken nothing for too long. It stays so, even if it takes something then.
#[derive(Clone, Debug)]
pub(super) struct Stalled(watch::Receiver<bool>);

impl Stalled {
    /// That of a request's connection; none outside of the server.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        request.conn_data::<Stalled>().cloned()
    }

    pub fn is_so(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is so.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|stalled| *stalled).await.is_err() {
            // The connection is gone, and so will be whoever waits here.
            pending::<()>().await;
        }
    }
}

impl<S> Unread<S> {
    pub fn new(stream: S, timeout: Duration) -> Self {
        Unread { stream, timeout, patience: None, stalled: watch::Sender::new(false) }
    }

    pub fn stalled(&self) -> Stalled {
        Stalled(self.stalled.subscribe())
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
        if !self.stalled.send_replace(true) {
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
        Pin::new(&mut self.stream).poll_read(cx, into)
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
        let (start, mut stalled) = (Instant::now(), near.stalled());
        assert!(!stalled.is_so());
        let told = tokio::spawn(async move {
            stalled.wait().await;
            start.elapsed().as_secs()
        });
        let error = near.write_all(&[0; 24]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        assert_eq!(told.await.unwrap(), 30);
    }
}
