//! Signatures of webhooks as in Standard Webhooks: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Signs with every secret there is: while one is replaced by another, receivers may know either.
pub(super) struct Signer(Vec<Hmac<Sha256>>);

impl Signer {
    /// A signer with these keys.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        // HMAC takes keys of any length.
        Signer(keys.into_iter().filter_map(|key| Hmac::new_from_slice(key).ok()).collect())
    }

    /// The header `webhook-signature`; `timestamp` in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signed = self.0.iter().map(|keyed| {
            let mut mac = keyed.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signed.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, no receiver could verify what it is sent. The example is the specification's.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(Signer::new([&*key]).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body), expected);
        let both = Signer::new([b"new", &*key]).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(both.split(' ').nth(1), Some(expected), "while a secret is replaced, both count: {both}");
    }
}
