//! A connection of `bench`: what can be written and read without waiting, over TCP or TLS, on the thread that asks.

use std::io::{self, Read, Write};

use rustls::ClientConnection;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::cli::destination::Connected;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Something has come and was not given yet.
    waits: bool,
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Wire { stream, tls: None, waits: false }
    }
}

impl From<Connected> for Wire {
    fn from(connected: Connected) -> Self {
        match connected {
            Connected::Plain(stream) => stream.into(),
            Connected::Secured(stream) => {
                let (stream, tls) = (*stream).into_inner();
                // What came with the handshake is looked for at once.
                Wire { stream, tls: Some(Box::new(tls)), waits: true }
            }
        }
    }
}

impl Wire {
    /// Takes what it can of `bytes`.
    ///
    /// # Errors
    /// `WouldBlock` when it can take nothing now, or what went wrong.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_write(bytes) };
        flush(tls, &self.stream)?;
        let taken = tls.writer().write(bytes)?;
        match flush(tls, &self.stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Gives what has come; 0 bytes at the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has, or what went wrong.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_read(buffer) };
        loop {
            self.waits = false;
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    let left = tls.process_new_packets().map_err(io::Error::other)?;
                    self.waits = left.plaintext_bytes_to_read() > 0;
                    return read;
                }
            }
            // At the end, the reader says so when it is asked again.
            tls.read_tls(&mut Socket(&self.stream))?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Waits until there may be something to read, or room if something is to be written; tells whether to read.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn ready(&self, interest: Interest) -> io::Result<bool> {
        if self.waits {
            return Ok(true);
        }
        let interest = match &self.tls {
            Some(tls) if tls.wants_write() => interest | Interest::WRITABLE,
            _ => interest,
        };
        Ok(self.stream.ready(interest).await?.is_readable())
    }

    /// Writes what was taken and could not go yet.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn go_on(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        match flush(tls, &self.stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// Hands everything to the socket, or says that it cannot take it now.
fn flush(tls: &mut ClientConnection, stream: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut Socket(stream))?;
    }
    Ok(())
}

/// A socket as rustls wants it.
struct Socket<'s>(&'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
