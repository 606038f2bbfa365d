//! `[sink.*]` of kind `webhook`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::address::Address;
use super::diagnostics::{Located, Location};
use super::nats::read_path;
use super::reader::Section;
use super::retry::read_retry;
use super::server::read_file;

/// How many requests for different keys may be under way, unless said otherwise.
pub const WEBHOOK_WINDOW_DEFAULT: u64 = 16;
/// How long an endpoint has to answer, unless said otherwise.
pub const WEBHOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// The longest body that is sent, unless said otherwise.
pub const WEBHOOK_BODY_BYTES_DEFAULT: u64 = 1024 * 1024;
/// How often a decision is tried, and the pauses in between, unless said otherwise: given up after about four hours.
pub const RETRY_ATTEMPTS_DEFAULT: u32 = 30;
pub const RETRY_BACKOFF_DEFAULT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));

const ATTEMPTS_MAX: u32 = 1000;
const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRETS_MAX: usize = 2;
const URL_HELP: &str = "write \"https://HOST/path\"; user and password cannot be part of it";
const SECRET_HELP: &str = "write \"whsec_\" and 24 to 64 random bytes in base64: echo whsec_$(openssl rand -base64 32)";

/// Decisions as requests.
#[derive(Clone, Debug)]
pub struct WebhookSink {
    pub url: String,
    /// One, or two while one is replaced by the other.
    pub secrets: Vec<WebhookSecret>,
    pub timeout: Duration,
    pub attempts: u32,
    /// The first pause, and the longest.
    pub backoff: (Duration, Duration),
    /// Addresses of this machine and of private networks are connected to as well.
    pub allow_private: bool,
    pub body_bytes_max: usize,
    /// Certificates to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// How many keys' decisions may be under way.
    pub window: usize,
}

/// A signing key.
#[derive(Clone)]
pub struct WebhookSecret {
    pub key: Vec<u8>,
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl WebhookSink {
    pub(super) fn read(section: &mut Section) -> Option<WebhookSink> {
        let url = section.required_string("url", URL_HELP);
        if let Some(url) = &url {
            check_url(section, url);
        }
        let secrets = read_secrets(section);
        let timeout = section.duration("timeout", Duration::from_millis(100)..=Duration::from_mins(5));
        let (attempts, backoff) = read_retry(section, ATTEMPTS_MAX);
        let allow_private = section.boolean("allow_private", false);
        let body_bytes_max = section.size("body_bytes_max", 1024..=64 << 20).unwrap_or(WEBHOOK_BODY_BYTES_DEFAULT);
        let tls_ca = read_path(section, "tls_ca");
        let window = section.integer("window", 1..=1024).unwrap_or(WEBHOOK_WINDOW_DEFAULT);
        Some(WebhookSink {
            url: url?.value,
            secrets,
            timeout: timeout.unwrap_or(WEBHOOK_TIMEOUT_DEFAULT),
            attempts: attempts.unwrap_or(RETRY_ATTEMPTS_DEFAULT),
            backoff: backoff.unwrap_or(RETRY_BACKOFF_DEFAULT),
            allow_private,
            body_bytes_max: body_bytes_max as usize,
            tls_ca,
            window: window as usize,
        })
    }
}

fn check_url(section: &mut Section, url: &Located<String>) {
    let (is_secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (true, ""),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') || !url.chars().all(|c| c.is_ascii_graphic()) {
        // It may hold a password, so that it is not repeated.
        section.cx.out.error(url.at, "this is not the address of a webhook").help(URL_HELP);
        return;
    }
    let host = Address::parse(authority).or_else(|| Address::parse(&format!("{authority}:80")));
    if !is_secure && !host.is_some_and(|host| host.is_loopback()) {
        let message = "decisions go to this webhook unencrypted";
        section.cx.out.warning(url.at, message).help("use https://");
    }
}

fn read_secrets(section: &mut Section) -> Vec<WebhookSecret> {
    let (direct_at, file_at) = (section.peek("secret"), section.peek("secret_file"));
    let direct = section.some_strings("secret", SECRET_HELP);
    let file = section.path("secret_file");
    let (texts, at): (Vec<String>, Location) = match (direct, file) {
        (None, None) => {
            if direct_at.or(file_at).is_none() {
                section.require("secret", SECRET_HELP);
            }
            return Vec::new();
        }
        (Some(_), Some(file)) => {
            section.cx.out.error(file.at, "both `secret` and `secret_file` are given").help("keep one of them");
            return Vec::new();
        }
        (Some(texts), None) => {
            let at = texts.first().map_or(section.at, |text| text.at);
            (texts.into_iter().map(|text| text.value).collect(), at)
        }
        (None, Some(file)) => match read_file(section, &file, "the secret") {
            None => return Vec::new(),
            Some(text) => (text.split_whitespace().map(str::to_owned).collect(), file.at),
        },
    };
    if texts.is_empty() || texts.len() > SECRETS_MAX {
        let message = format!("there are {} secrets", texts.len());
        let help = "give one, or two while one is replaced: the new one first";
        section.cx.out.error(at, message).help(help);
    }
    let secrets: Vec<_> = texts.iter().filter_map(|text| read_secret_key(text)).collect();
    if secrets.len() < texts.len() {
        section.cx.out.error(at, "this is not the secret of a webhook").help(SECRET_HELP);
    }
    secrets
}

pub(super) fn read_secret_key(text: &str) -> Option<WebhookSecret> {
    let key = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    KEY_BYTES.contains(&key.len()).then_some(WebhookSecret { key })
}

impl WebhookSink {
    /// The URL without its query, which may hold a secret.
    pub(super) fn shown_url(&self) -> String {
        self.url.split_once('?').map_or(self.url.clone(), |(url, _)| format!("{url}?***"))
    }
}
