//! Which addresses webhooks may go to. A name is resolved here and the connection is made to the addresses that were
//! checked, so that a name cannot mean something else a moment later.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names to public addresses only.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is put in by the caller.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.iter().copied().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                let why = match found.first() {
                    Some(address) => not_public(address.ip()),
                    None => format!("{} has no address", name.as_str()),
                };
                return Err(io::Error::other(why).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Why an address is not connected to.
pub(super) fn not_public(address: IpAddr) -> String {
    format!("{address} is no public address; allow_private = true allows it")
}

/// Whether the address is one that anybody on the net can have: neither this machine's, nor this network's, nor special.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared with the provider's other customers; protocol assignments; 6to4 relays; benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Global unicast is 2000::/3; within it, what is not for the public or carries an IPv4 address that is not.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match (first, second) {
        // NAT64: what is behind it is an IPv4 address.
        (0x64, 0xff9b) => {
            let [.., high, low] = address.segments();
            address.segments()[2..6] == [0; 4] && is_public_v4(embedded(high, low))
        }
        (0x2002, _) => is_public_v4(embedded(second, third)),
        // Protocol assignments, Teredo among them; documentation.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, whoever may name a webhook could have this machine call its own network.
    #[test]
    fn only_addresses_of_the_public_net_are_public() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.1.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2a00::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    /// If this failed, a name that leads inside would be connected to.
    #[tokio::test]
    async fn a_name_of_this_machine_is_not_resolved() {
        let resolving = PublicOnly.resolve("localhost".parse().unwrap());
        let Err(error) = resolving.await else { panic!("localhost is public") };
        assert!(error.to_string().contains("allow_private"), "{error}");
    }
}
