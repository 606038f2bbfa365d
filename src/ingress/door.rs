//! What a connection passes before anything of it is looked at: there is a place for it, and its handshake came in time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Limits;
use crate::trust::Certificates;

/// The door of one listener.
pub struct Door {
    certificates: Option<Arc<Certificates>>,
    handshake_timeout: Duration,
    places: Arc<Semaphore>,
    places_max: usize,
    places_per_address_max: u64,
    by_address: Mutex<HashMap<IpAddr, u64>>,
    open: IntGauge,
}

/// A connection that came in, and is closed with its place.
pub enum Entered {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// A connection's place among those that a listener may have.
pub struct Place {
    door: Arc<Door>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    #[error("limits.connections_max = {0} connections are open")]
    All(usize),
    #[error("limits.connections_per_address_max = {0} connections of this address are open")]
    Address(u64),
}

impl Door {
    /// A door that counts who is inside as `open`.
    pub fn new(certificates: Option<Arc<Certificates>>, limits: &Limits, open: IntGauge) -> Arc<Self> {
        let places_max = usize::try_from(limits.connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Door {
            certificates,
            handshake_timeout: limits.handshake_timeout,
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            places_per_address_max: limits.connections_per_address_max,
            by_address: Mutex::default(),
            open,
        })
    }

    /// Whether connections are secured, so that nothing can be told to those that do not come in.
    pub fn is_secured(&self) -> bool {
        self.certificates.is_some()
    }

    /// Waits until another connection has a place, whoever makes it.
    pub async fn vacancy(&self) {
        // The semaphore is never closed.
        let _ = self.places.acquire().await;
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// If there is none.
    pub fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, Crowded> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| Crowded::All(self.places_max))?;
        let address = counted_as(address);
        let mut by_address = self.by_address();
        let its = by_address.entry(address).or_default();
        if *its >= self.places_per_address_max {
            return Err(Crowded::Address(self.places_per_address_max));
        }
        *its += 1;
        self.open.inc();
        Ok(Place { door: self.clone(), address, _permit: permit })
    }

    /// Secures a connection, if this door does.
    ///
    /// # Errors
    /// When the handshake fails, as without a certificate that is asked for, or does not come in time.
    pub async fn enter(&self, stream: TcpStream) -> io::Result<Entered> {
        let Some(certificates) = &self.certificates else { return Ok(Entered::Plain(stream)) };
        let handshake = TlsAcceptor::from(certificates.current()).accept(stream);
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(secured) => Ok(Entered::Secured(Box::new(secured?))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took longer than it may")),
        }
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.door.by_address();
        if let Some(its) = by_address.get_mut(&self.address) {
            *its -= 1;
            if *its == 0 {
                by_address.remove(&self.address);
            }
        }
        self.door.open.dec();
    }
}

/// Whoever has one IPv6 address has the /64 network around it.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn door(max: u64, per_address: u64) -> Arc<Door> {
        let mut limits =
            config::load_str("[entity.a]\nkey = 'event.id'\nfields = { n = { on = 'A', take = 'count' } }", &|_| None);
        let mut limits = limits.config.take().expect("it is right").tuning.limits;
        (limits.connections_max, limits.connections_per_address_max) = (max, per_address);
        Door::new(None, &limits, IntGauge::new("open", "open").unwrap())
    }

    /// If this failed, one address could keep all others out, or places would be lost with those who left.
    #[test]
    fn an_address_has_only_so_many_places() {
        let door = door(3, 2);
        let [a, a_mapped, b, net, same_net, other_net] =
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1"]
                .map(|text| text.parse::<IpAddr>().unwrap());
        let first = door.place(a).map_err(|_| "full").unwrap();
        let second = door.place(a_mapped).map_err(|_| "full").unwrap();
        assert_eq!(door.place(a).err(), Some(Crowded::Address(2)));
        let third = door.place(b).map_err(|_| "full").unwrap();
        assert_eq!((door.place(net).err(), door.open.get()), (Some(Crowded::All(3)), 3));
        drop((first, second, third));
        assert_eq!((door.open.get(), door.by_address().len()), (0, 0), "whoever left is counted no more");
        let _in_net = [door.place(net), door.place(same_net)].map(|place| place.map_err(|_| "full").unwrap());
        assert_eq!(door.place(same_net).err(), Some(Crowded::Address(2)));
        assert!(door.place(other_net).is_ok());
    }
}
