//! Where events are sent over TCP, and how the way there is secured.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::ServerArgs;
use super::failure::Failure;

const TLS_SCHEME: &str = "tls://";

/// `HOST:PORT`, or `tls://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    address: String,
    secured: bool,
}

/// A destination with whom to trust there.
#[derive(Clone)]
pub struct Way {
    destination: Destination,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection to it.
pub enum Connected {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

impl Destination {
    /// Reads it as it is given on the command line.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, secured) = text.strip_prefix(TLS_SCHEME).map_or((text, false), |address| (address, true));
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() => {
                Ok(Destination { address: address.to_owned(), secured })
            }
            _ => Err("expected HOST:PORT or tls://HOST:PORT".to_owned()),
        }
    }

    /// The way there, with the certificates that `server` names.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn way(&self, server: &ServerArgs) -> Result<Way, Failure> {
        let tls = self.secured.then(|| server.tls().map(Arc::new)).transpose()?;
        Ok(Way { destination: self.clone(), tls })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.secured { TLS_SCHEME } else { "" }, self.address)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

impl Way {
    /// Connects, without delaying small writes.
    ///
    /// # Errors
    /// When nobody is there, or somebody who is not to be trusted.
    pub async fn connect(&self) -> io::Result<Connected> {
        let address = &self.destination.address;
        let stream = TcpStream::connect(address).await?;
        // Only a matter of latency.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return Ok(Connected::Plain(stream)) };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Connected::Secured(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?)))
    }
}

#[cfg(test)]
impl Way {
    /// A way that is not secured.
    pub fn of_test(address: &str) -> Self {
        Way { destination: Destination { address: address.to_owned(), secured: false }, tls: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, what was meant to be secured would go in the clear, or nowhere.
    #[test]
    fn destinations_are_read_and_shown() {
        for (text, secured) in [
            ("localhost:7400", false),
            ("tls://localhost:7400", true),
            ("[::1]:7400", false),
            ("tls://[::1]:7400", true),
        ] {
            let parsed = Destination::parse(text).unwrap();
            assert_eq!((parsed.secured, parsed.to_string().as_str()), (secured, text));
        }
        for text in ["", "localhost", "https://localhost:1", "tls://", "tls://:7400", "a:b", "tls://a:1/x"] {
            assert!(Destination::parse(text).is_err(), "{text}");
        }
    }
}
