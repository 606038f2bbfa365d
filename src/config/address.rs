//! Where a listener listens: `host:port`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::diagnostics::Located;
use super::reader::Context;

const HELP: &str =
    "an address is host:port: \"127.0.0.1:7400\", \"[::1]:7400\", or \"0.0.0.0:7400\" for all interfaces";

/// Host (name or IP address, without brackets) and port; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Reads `host:port`; none if it is not that.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let word = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|host| !host.is_empty() && host.chars().all(word))?,
        };
        Some(Address { host: host.to_ascii_lowercase(), port })
    }

    /// Reads an address. What is none is reported; an address with which nothing else is wrong stands in for it.
    pub(super) fn read(cx: &mut Context, text: &Located<String>, key: &str) -> Address {
        Address::parse(text).unwrap_or_else(|| {
            cx.out.error(text.at, format!("`{}` is not an address for `{key}`", text.value)).help(HELP);
            Address { host: "localhost".into(), port: 0 }
        })
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether one of two listeners on these addresses could not start.
    pub(super) fn collides_with(&self, other: &Address) -> bool {
        let any = |address: &Address| address.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        self.port != 0 && self.port == other.port && (self.host == other.host || any(self) || any(other))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [open, close] = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a listener would start elsewhere than written, or not at all.
    #[test]
    fn addresses_are_read_and_written() {
        for text in ["127.0.0.1:7400", "[::1]:0", "localhost:80", "0.0.0.0:65535", "my-host.example:1"] {
            assert_eq!(Address::parse(text).map(|address| address.to_string()).as_deref(), Some(text));
        }
        for text in ["", "7400", "127.0.0.1", ":7400", "h:", "h:65536", "h:+1", "::1:80", "[::1:80", "[h]:1", "h /:1"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    /// If this failed, an open listener would be taken for a closed one, or two would fight for a port only at start.
    #[test]
    fn addresses_are_compared() {
        let address = |text| Address::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert!(address("127.0.0.2:1").is_loopback() && address("LocalHost:1").is_loopback());
        assert!(!address("0.0.0.0:1").is_loopback() && !address("[::]:1").is_loopback());
        for (a, b, expected) in [
            ("a:1", "A:1", true),
            ("a:1", "b:1", false),
            ("a:1", "a:2", false),
            ("a:0", "a:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
        ] {
            assert_eq!(address(a).collides_with(&address(b)), expected, "{a} {b}");
        }
    }
}
