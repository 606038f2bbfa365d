//! `[sink.*]` of kind `nats`.

use std::path::PathBuf;

use super::diagnostics::Located;
use super::reader::Section;
use super::secret::Secret;
use super::server::{read_file, read_secret, read_token};

/// How many sends of different keys may be under way, unless said otherwise.
pub const NATS_WINDOW_DEFAULT: u64 = 256;
const URL_HELP: &str =
    "write \"nats://HOST:4222\", or \"tls://HOST:4222\" for TLS; user and password have keys of their own";
const SUBJECT_HELP: &str = "write it like \"orders.{decision}.{key}\"; there are {entity}, {key} and {decision}";

/// Decisions as messages.
#[derive(Clone, Debug)]
pub struct NatsSink {
    pub urls: Vec<String>,
    pub subject: Vec<SubjectPart>,
    pub delivery: NatsDelivery,
    pub auth: Option<NatsAuth>,
    /// Certificates to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// How many keys' decisions may be under way.
    pub window: usize,
}

/// A part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectPart {
    Text(String),
    Entity,
    Key,
    Decision,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsDelivery {
    /// A stream's acknowledgement.
    JetStream,
    /// Nothing: whoever listens gets it, at most once.
    Core,
}

/// How the server knows us.
#[derive(Clone, Debug)]
pub enum NatsAuth {
    User {
        user: String,
        password: Secret,
    },
    Token(Secret),
    /// The seed of an nkey.
    Nkey(SecretFile),
    /// The text of a credentials file: a JWT and its nkey.
    Credentials(SecretFile),
}

/// A secret that was read from a file.
#[derive(Clone, Debug)]
pub struct SecretFile {
    pub path: PathBuf,
    pub text: Secret,
}

pub(super) const DELIVERIES: [(&str, NatsDelivery); 2] =
    [("jetstream", NatsDelivery::JetStream), ("core", NatsDelivery::Core)];

const PLACES: [(&str, SubjectPart); 3] =
    [("{entity}", SubjectPart::Entity), ("{key}", SubjectPart::Key), ("{decision}", SubjectPart::Decision)];

impl NatsSink {
    pub(super) fn read(section: &mut Section) -> Option<NatsSink> {
        section.require("url", URL_HELP);
        let urls = section.some_strings("url", URL_HELP).unwrap_or_default();
        for url in &urls {
            check_url(section, url);
        }
        let subject = section.required_string("subject", SUBJECT_HELP);
        let subject = subject.and_then(|subject| read_subject(section, &subject));
        let delivery = section.choice("delivery", &DELIVERIES).map_or(NatsDelivery::JetStream, |found| found.value);
        let auth = read_auth(section);
        let tls_ca = read_path(section, "tls_ca");
        let tls_identity = read_identity(section);
        let window = section.integer("window", 1..=4096).unwrap_or(NATS_WINDOW_DEFAULT) as usize;
        let urls: Vec<String> = urls.into_iter().map(|url| url.value).collect();
        Some(NatsSink { urls, subject: subject?, delivery, auth, tls_ca, tls_identity, window })
    }
}

fn check_url(section: &mut Section, url: &Located<String>) {
    let host = ["nats://", "tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let visible = |c: char| c.is_ascii_graphic() && !"@/?#".contains(c);
    if !host.is_some_and(|host| !host.is_empty() && host.chars().all(visible)) {
        // It may hold a password, so that it is not repeated.
        section.cx.out.error(url.at, "this is not the address of a NATS server").help(URL_HELP);
    }
}

/// Splits a template into its parts.
fn read_subject(section: &mut Section, template: &Located<String>) -> Option<Vec<SubjectPart>> {
    let mut parts = Vec::new();
    let mut rest = template.as_str();
    while !rest.is_empty() {
        let found = PLACES.iter().find(|(name, _)| rest.starts_with(name));
        if let Some((name, part)) = found {
            parts.push(part.clone());
            rest = &rest[name.len()..];
            continue;
        }
        let end = rest[1..].find('{').map_or(rest.len(), |at| at + 1);
        let text = rest.get(..end).unwrap_or(rest);
        parts.push(SubjectPart::Text(text.to_owned()));
        rest = rest.get(end..).unwrap_or_default();
    }
    let is_text =
        |part: &SubjectPart, wrong: fn(char) -> bool| matches!(part, SubjectPart::Text(text) if text.contains(wrong));
    let wrong = |c: char| !c.is_ascii_graphic() || "*>{}".contains(c);
    let message = if template.split('.').any(str::is_empty) {
        "a part of the subject is empty"
    } else if parts.iter().any(|part| is_text(part, wrong)) {
        "the subject has characters or names that cannot be in it"
    } else if template.starts_with('$') {
        "subjects that begin with `$` belong to the server"
    } else {
        return Some(parts);
    };
    section.cx.out.error(template.at, message).help(SUBJECT_HELP);
    None
}

fn read_auth(section: &mut Section) -> Option<NatsAuth> {
    let given: Vec<_> = ["user", "token", "token_file", "nkey_file", "credentials_file"]
        .into_iter()
        .filter_map(|key| section.peek(key))
        .collect();
    let user = section.string("user");
    let password = read_secret(section, "password", "password_file");
    let token = read_token(section);
    let nkey = read_secret_file(section, "nkey_file");
    let credentials = read_secret_file(section, "credentials_file");
    if let [first, second, ..] = given[..] {
        let help = "keep one of: user and password, token, nkey_file, credentials_file";
        section.cx.out.error(second, "there are several ways to log in").help(help).also(first);
    }
    match (user, password) {
        (Some(user), Some(password)) => return Some(NatsAuth::User { user: user.value, password }),
        (Some(user), None) => {
            section.cx.out.error(user.at, "`user` needs a password").help("add password_file = \"…\"");
        }
        (None, Some(_)) => {
            section.cx.out.error(section.at, "there is a password and no `user`").help("add user = \"…\"");
        }
        (None, None) => {}
    }
    token.map(NatsAuth::Token).or(nkey.map(NatsAuth::Nkey)).or(credentials.map(NatsAuth::Credentials))
}

fn read_secret_file(section: &mut Section, key: &'static str) -> Option<SecretFile> {
    let file = section.path(key)?;
    let text = Secret::new(read_file(section, &file, "the secret")?);
    Some(SecretFile { path: section.cx.files.resolve(file.at.file, &file), text })
}

pub(super) fn read_path(section: &mut Section, key: &'static str) -> Option<PathBuf> {
    let written = section.path(key)?;
    Some(section.cx.files.resolve(written.at.file, &written))
}

pub(super) fn read_identity(section: &mut Section) -> Option<(PathBuf, PathBuf)> {
    let at = section.peek("tls_cert").or(section.peek("tls_key"));
    match (read_path(section, "tls_cert"), read_path(section, "tls_key")) {
        (Some(certificate), Some(key)) => return Some((certificate, key)),
        (None, None) => {}
        _ => {
            let at = at.unwrap_or(section.at);
            section.cx.out.error(at, "`tls_cert` and `tls_key` go together").help("give both, or neither");
        }
    }
    None
}
