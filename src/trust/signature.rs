//! Signatures of bodies, made and looked at: HMAC-SHA256 over id, time and body as in Standard Webhooks, or over the body
//! alone as GitHub does it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Seconds that a signed request may be old, or come early: later it may be one that somebody has recorded.
pub const TIMESTAMP_TOLERANCE_SECONDS: u64 = 300;
const GITHUB_PREFIX: &str = "sha256=";

/// Signs with every secret there is: while one is replaced by another, receivers may know either.
pub struct Signer(Keys);

impl Signer {
    /// A signer with these keys.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        Signer(Keys::new(keys))
    }

    /// The header `webhook-signature`; `timestamp` in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = webhook_head(id, timestamp);
        let signed = self.0.over(&[head.as_bytes(), body]).into_iter();
        signed.map(|mac| format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))).collect::<Vec<_>>().join(" ")
    }
}

/// Why a body is not believed to come from who has the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the request has no header `{0}`")]
    Missing(&'static str),
    #[error("`webhook-timestamp` is not within {TIMESTAMP_TOLERANCE_SECONDS} s of the time here")]
    Time,
    #[error("the signature is not that of this body with a configured secret")]
    Wrong,
}

/// Looks at signatures as in Standard Webhooks.
#[derive(Clone, Debug)]
pub struct WebhookVerifier(Keys);

impl WebhookVerifier {
    /// A verifier that believes each of these keys.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        WebhookVerifier(Keys::new(keys))
    }

    /// Whether the body is signed, and signed lately; `now` in seconds since 1970, headers by lower-case name.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now: u64,
    ) -> Result<(), BadSignature> {
        let named = |name| header(name).ok_or(BadSignature::Missing(name));
        let (id, time) = (named("webhook-id")?, named("webhook-timestamp")?);
        let signatures = named("webhook-signature")?;
        let timestamp = time.parse::<u64>().map_err(|_| BadSignature::Time)?;
        if timestamp.abs_diff(now) > TIMESTAMP_TOLERANCE_SECONDS {
            return Err(BadSignature::Time);
        }
        let head = webhook_head(id, timestamp);
        let shown = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        self.0.believe(shown.filter_map(|text| STANDARD.decode(text).ok()), &[head.as_bytes(), body])
    }
}

/// Looks at signatures as GitHub makes them: HMAC-SHA256 over the body, in `x-hub-signature-256`.
#[derive(Clone, Debug)]
pub struct GithubVerifier(Keys);

impl GithubVerifier {
    /// The header that carries the signature.
    pub const HEADER: &str = "x-hub-signature-256";

    /// A verifier that believes each of these secrets.
    pub fn new<'k>(secrets: impl IntoIterator<Item = &'k [u8]>) -> Self {
        GithubVerifier(Keys::new(secrets))
    }

    /// Whether the body is signed.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, header: Option<&str>, body: &[u8]) -> Result<(), BadSignature> {
        let header = header.ok_or(BadSignature::Missing(Self::HEADER))?;
        self.0.believe(header.strip_prefix(GITHUB_PREFIX).and_then(from_hex), &[body])
    }
}

/// Keyed hashes that wait for their text.
#[derive(Clone)]
struct Keys(Vec<Hmac<Sha256>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Keys {
    fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Self {
        // HMAC takes keys of any length.
        Keys(keys.into_iter().filter_map(|key| Hmac::new_from_slice(key).ok()).collect())
    }

    fn over(&self, parts: &[&[u8]]) -> Vec<Hmac<Sha256>> {
        let over = |keyed: &Hmac<Sha256>| {
            let mut mac = keyed.clone();
            for part in parts {
                mac.update(part);
            }
            mac
        };
        self.0.iter().map(over).collect()
    }

    /// Whether one of the signatures is that of one of the keys, compared in constant time.
    fn believe(&self, signatures: impl IntoIterator<Item = Vec<u8>>, parts: &[&[u8]]) -> Result<(), BadSignature> {
        let macs = self.over(parts);
        let is_right = |signature: &Vec<u8>| macs.iter().any(|mac| mac.clone().verify_slice(signature).is_ok());
        signatures.into_iter().any(|signature| is_right(&signature)).then_some(()).ok_or(BadSignature::Wrong)
    }
}

/// What a webhook's signature covers before the body.
fn webhook_head(id: &str, timestamp: u64) -> String {
    format!("{id}.{timestamp}.")
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
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

    /// If this failed, somebody without the secret, or with an old recording, would have events taken, or the real sender
    /// would not.
    #[test]
    fn only_what_was_signed_lately_with_a_known_key_is_believed() {
        let (old, new, other) = (&b"old-key"[..], &b"new-key"[..], &b"other"[..]);
        let verifier = WebhookVerifier::new([new, old]);
        let body = b"{}";
        let check = |id: &str, time: u64, signature: &str, now: u64| {
            let time = time.to_string();
            let headers = [("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", signature)];
            verifier.verify(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value), body, now)
        };
        let sign = |key, body| Signer::new([key]).sign("m", 1000, body);
        let wrong = Err(BadSignature::Wrong);
        for (id, time, signature, now, expected) in [
            ("m", 1000, sign(new, body), 1000, Ok(())),
            ("m", 1000, sign(old, body), 1300, Ok(())),
            ("m", 1000, format!("v1a,x {} {}", sign(other, body), sign(old, body)), 700, Ok(())),
            ("m", 1000, sign(new, body), 1301, Err(BadSignature::Time)),
            ("m", 1000, sign(new, body), 699, Err(BadSignature::Time)),
            ("m", 1000, sign(other, body), 1000, wrong.clone()),
            ("m", 1000, sign(new, b"{ }"), 1000, wrong.clone()),
            ("n", 1000, sign(new, body), 1000, wrong.clone()),
            ("m", 1001, sign(new, body), 1000, wrong.clone()),
            ("m", 1000, String::new(), 1000, wrong),
        ] {
            assert_eq!(check(id, time, &signature, now), expected, "{id} {time} {signature} {now}");
        }
        let missing = verifier.verify(|name| (name != "webhook-timestamp").then_some("1"), body, 1);
        assert_eq!(missing, Err(BadSignature::Missing("webhook-timestamp")));
    }

    /// The example is from GitHub's documentation. If this failed, its deliveries would not be taken, or anybody's would.
    #[test]
    fn signatures_are_looked_at_as_github_makes_them() {
        let verifier = GithubVerifier::new([&b"It's a Secret to Everybody"[..]]);
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let body = b"Hello, World!";
        assert_eq!(verifier.verify(Some(right), body), Ok(()));
        for (header, body) in [
            (Some(right), &b"Hello, World"[..]),
            (Some(&right[..right.len() - 1]), body),
            (Some(&right[..right.len() - 2]), body),
            (Some("sha1=757107ea"), body),
            (Some("sha256="), body),
            (Some(""), body),
        ] {
            assert_eq!(verifier.verify(header, body), Err(BadSignature::Wrong), "{header:?}");
        }
        assert_eq!(verifier.verify(None, body), Err(BadSignature::Missing(GithubVerifier::HEADER)));
    }
}
