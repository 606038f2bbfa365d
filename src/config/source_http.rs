//! `[source.*]` of kind `http` with a path of its own: senders that cannot be changed.

use std::path::PathBuf;

use super::diagnostics::{Expr, Located};
use super::load::read_bytes;
use super::reader::Section;
use super::server::{Server, read_secret};
use super::sink_webhook::{WebhookSecret, read_secret_key};

/// The largest answer.
pub const RESPOND_BYTES_MAX: usize = 1024 * 1024;
const PATH_HELP: &str =
    "write it like \"/in/crm\": letters, digits, `/`, `-`, `_`, `.` and `~`, below nothing of the server's own";
/// Where the server has paths of its own.
const RESERVED: [&str; 4] = ["/v1", "/healthz", "/readyz", "/metrics"];
pub(super) const FORMATS: [(&str, BodyFormat); 2] = [("json", BodyFormat::Json), ("xml", BodyFormat::Xml)];
const SCHEMES: [(&str, Scheme); 2] = [("standard-webhooks", Scheme::StandardWebhooks), ("github", Scheme::Github)];

/// Requests to a path, each with one event or several.
#[derive(Clone, Debug)]
pub struct Inbox {
    pub path: Located<String>,
    pub format: BodyFormat,
    /// The list whose elements are events of their own; else the body is one event.
    pub each: Option<Expr>,
    /// What is answered once all is durable.
    pub respond: Option<Respond>,
    pub signature: Option<SignedWith>,
    /// No token is asked for, although the server has some.
    pub insecure: bool,
}

/// What bodies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Xml,
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Respond {
    pub status: u16,
    pub content_type: Option<String>,
    pub body_file: Option<PathBuf>,
    pub body: Vec<u8>,
}

/// How bodies are signed, by whoever has the secret.
#[derive(Clone, Debug)]
pub enum SignedWith {
    StandardWebhooks(WebhookSecret),
    Github(WebhookSecret),
}

#[derive(Clone, Copy)]
enum Scheme {
    StandardWebhooks,
    Github,
}

impl SignedWith {
    /// The scheme's word, as configured.
    pub(super) fn name(&self) -> &'static str {
        match self {
            SignedWith::StandardWebhooks(_) => SCHEMES[0].0,
            SignedWith::Github(_) => SCHEMES[1].0,
        }
    }
}

impl Inbox {
    pub(super) fn read(section: &mut Section, server: &Server) -> Option<Inbox> {
        if server.http.is_none() {
            let error = section.cx.out.error(section.at, "this source needs HTTP, and [server] http is off");
            error.help("give [server] http an address").also(server.http.at);
        }
        let path = section.required_string("path", "add path = \"/in/…\"");
        if let Some(path) = &path {
            check_path(section, path);
        }
        let format = section.required_choice("format", &FORMATS, "add format = \"json\" or \"xml\"");
        let each = section.expr("each");
        let respond = read_respond(section);
        let signature = read_signature(section);
        let insecure = section.boolean("insecure", false);
        Some(Inbox { path: path?, format: format?.value, each, respond, signature, insecure })
    }
}

fn check_path(section: &mut Section, path: &Located<String>) {
    let is_word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c));
    let parts =
        path.strip_prefix('/').map(|rest| rest.split('/').all(|part| is_word(part) && part != "." && part != ".."));
    let own = |own: &str| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if parts != Some(true) || RESERVED.into_iter().any(own) {
        section.cx.out.error(path.at, format!("`{}` cannot be the path of a source", path.value)).help(PATH_HELP);
    }
}

fn read_respond(section: &mut Section) -> Option<Respond> {
    let mut respond = section.section("respond");
    if !respond.is_present() {
        return None;
    }
    let status = respond.integer("status", 200..=299).unwrap_or(200) as u16;
    let content_type = respond.string("content_type");
    if let Some(written) = content_type.as_ref().filter(|text| !text.chars().all(|c| c.is_ascii_graphic() || c == ' '))
    {
        respond.cx.out.error(written.at, "this is no content type").help("write it like \"text/xml; charset=utf-8\"");
    }
    let file = respond.path("body_file");
    let body_file = file.as_ref().map(|file| respond.cx.files.resolve(file.at.file, file));
    let mut body = Vec::new();
    if let (Some(path), Some(file)) = (&body_file, file)
        && respond.cx.may_read(file.at)
    {
        match read_bytes(path, RESPOND_BYTES_MAX) {
            Ok(read) => body = read,
            Err(why) => {
                let message = format!("cannot read the answer from {}: {why}", path.display());
                respond.cx.out.error(file.at, message).help("the path is relative to the file that names it");
            }
        }
    }
    respond.finish();
    Some(Respond { status, content_type: content_type.map(|text| text.value), body_file, body })
}

fn read_signature(section: &mut Section) -> Option<SignedWith> {
    let mut signature = section.section("signature");
    if !signature.is_present() {
        return None;
    }
    let scheme = signature.required_choice("scheme", &SCHEMES, "add scheme = \"standard-webhooks\" or \"github\"");
    let given = ["secret", "secret_file"].into_iter().find_map(|key| signature.peek(key));
    let secret = read_secret(&mut signature, "secret", "secret_file");
    if given.is_none() {
        signature.require("secret_file", "add secret_file = \"…\", or secret = \"${VARIABLE}\"");
    }
    let at = given.unwrap_or(signature.at);
    let read = match (scheme.map(|scheme| scheme.value), secret) {
        (Some(Scheme::StandardWebhooks), Some(secret)) => {
            let key = read_secret_key(secret.expose());
            if key.is_none() {
                let help = "it is \"whsec_\" and 24 to 64 bytes in base64, as the sender shows it";
                signature.cx.out.error(at, "this is not the secret of a webhook").help(help);
            }
            key.map(SignedWith::StandardWebhooks)
        }
        (Some(Scheme::Github), Some(secret)) => {
            Some(SignedWith::Github(WebhookSecret { key: secret.expose().as_bytes().to_vec() }))
        }
        _ => None,
    };
    signature.finish();
    read
}
