//! How NATS is reached, for sources and sinks of this kind alike: servers, credentials, TLS.

use std::path::PathBuf;

use super::diagnostics::Located;
use super::reader::Section;
use super::secret::Secret;
use super::server::{read_file, read_secret, read_token};

const SERVERS_HELP: &str =
    "write \"nats://HOST:4222\", or \"tls://HOST:4222\" for TLS; user and password have keys of their own";

/// A connection to NATS.
#[derive(Clone, Debug)]
pub struct NatsConnection {
    /// Any of them will do.
    pub servers: Vec<String>,
    pub auth: Option<NatsAuth>,
    /// Certificates to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
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

impl NatsConnection {
    pub(super) fn read(section: &mut Section) -> NatsConnection {
        section.require("servers", SERVERS_HELP);
        let servers = section.some_strings("servers", SERVERS_HELP).unwrap_or_default();
        for server in &servers {
            check_server(section, server);
        }
        NatsConnection {
            servers: servers.into_iter().map(|server| server.value).collect(),
            auth: read_auth(section),
            tls_ca: read_path(section, "tls_ca"),
            tls_identity: read_identity(section),
        }
    }
}

fn check_server(section: &mut Section, server: &Located<String>) {
    let host = ["nats://", "tls://"].iter().find_map(|scheme| server.strip_prefix(scheme));
    let visible = |c: char| c.is_ascii_graphic() && !"@/?#".contains(c);
    if !host.is_some_and(|host| !host.is_empty() && host.chars().all(visible)) {
        // It may hold a password, so that it is not repeated.
        section.cx.out.error(server.at, "this is not the address of a NATS server").help(SERVERS_HELP);
    }
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
    let at = section.peek("tls_cert").or(section.peek("tls_key"))?;
    if let (Some(certificate), Some(key)) = (read_path(section, "tls_cert"), read_path(section, "tls_key")) {
        return Some((certificate, key));
    }
    section.cx.out.error(at, "`tls_cert` and `tls_key` go together").help("give both, or neither");
    None
}
