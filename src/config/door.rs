//! What whoever comes to a listener must show, and how the connection is secured: the same keys in `[server]` and in
//! sources that listen.

use std::path::PathBuf;

use super::address::Address;
use super::diagnostics::Located;
use super::document::Value;
use super::names::{NameOf, check_name};
use super::nats::read_identity;
use super::reader::{Context, Section};
use super::secret::Secret;
use super::server::{read_secret, read_token};
use crate::trust::{ClientCertificates, Scope, Scopes, ServerFiles, Tokens};

const SCOPES_HELP: &str = "write scopes = [\"send\", \"read\", \"admin\"], or some of them";
pub(super) const CLIENTS: [(&str, ClientCertificates); 2] =
    [("required", ClientCertificates::Required), ("optional", ClientCertificates::Optional)];

/// How a listener knows whom to let in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    pub tls: Option<ServerFiles>,
    /// The one token that is good for everything.
    pub token: Option<Secret>,
    pub tokens: Vec<Token>,
    /// Others than this machine may come although the connection is not secured, or nothing is to be shown.
    pub insecure: bool,
}

/// `[….tokens.NAME]`.
#[derive(Clone, Debug)]
pub struct Token {
    pub name: String,
    pub token: Secret,
    pub scopes: Scopes,
}

impl Door {
    /// Tokens must be good for `least`, or there is no use for them here.
    pub(super) fn read(section: &mut Section, title: &str, least: Option<Scope>) -> Door {
        let token = read_token(section);
        let tokens = read_tokens(section, title, least);
        Door { tls: read_tls(section), token, tokens, insecure: section.boolean("insecure", false) }
    }

    /// All tokens with what they are good for.
    pub fn all_tokens(&self) -> Tokens {
        let one = self.token.iter().map(|token| (token.expose(), Scopes::all()));
        Tokens::new(one.chain(self.tokens.iter().map(|token| (token.token.expose(), token.scopes))))
    }

    /// Whether nobody comes in without showing something.
    fn asks(&self) -> bool {
        let clients = self.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        let certificates = clients.is_some_and(|(_, wanted)| *wanted == ClientCertificates::Required);
        certificates || self.token.is_some() || !self.tokens.is_empty()
    }

    /// Refuses a listener that anyone on the network can use or listen to.
    pub(super) fn check(&self, cx: &mut Context, listen: &Located<Address>, place: &str) {
        let (lack, help) = match (self.tls.is_some(), self.asks()) {
            _ if listen.is_loopback() => return,
            (true, true) => return,
            (true, false) => ("without a token: whoever reaches it can use it", "add `token_file` or `tls_client_ca`"),
            (false, true) => ("without TLS: whoever is on the way can read the token", "add `tls_cert` and `tls_key`"),
            (false, false) => (
                "without TLS and a token: whoever reaches it can use it",
                "add `tls_cert` and `tls_key`, and `token_file` or `tls_client_ca`",
            ),
        };
        let message = format!("{place} listens on {} {lack}", listen.value);
        if self.insecure {
            cx.out.warning(listen.at, message).help(help);
        } else {
            let help = format!("{help}; or listen on 127.0.0.1; or set insecure = true if something else guards it");
            cx.out.error(listen.at, message).help(help);
        }
    }
}

fn read_tokens(section: &mut Section, title: &str, least: Option<Scope>) -> Vec<Token> {
    let title = format!("{title}.tokens");
    // A token is easily put where its table belongs.
    if !section.is_table("tokens") {
        section.hide("tokens");
    }
    let entry = section.entry("tokens");
    let entries = Section::open(section.cx, &title, entry).rest();
    let mut tokens = Vec::new();
    for entry in entries {
        if !matches!(entry.node.value, Value::Table(_)) {
            section.cx.out.hide(entry.node.at.within_quotes(&section.cx.files));
        }
        let name = entry.name.clone();
        check_name(&name, NameOf::Token, &mut section.cx.out);
        let mut section = Section::open(section.cx, &format!("{title}.{}", *name), Some(entry));
        let given = ["token", "token_file"].iter().any(|key| section.peek(key).is_some());
        let token = read_secret(&mut section, "token", "token_file");
        if !given {
            section.require("token_file", "add token_file = \"…\", or token = \"${VARIABLE}\"");
        }
        let scopes = read_scopes(&mut section);
        if let (Some(least), Some(scopes)) = (least, scopes)
            && !scopes.include(least)
        {
            let message = format!("a token is of no use here without the scope `{}`", least.name());
            section.cx.out.error(name.at, message).help("add it to `scopes`");
        }
        section.finish();
        if let (Some(token), Some(scopes)) = (token, scopes) {
            tokens.push(Token { name: name.value, token, scopes });
        }
    }
    tokens
}

fn read_scopes(section: &mut Section) -> Option<Scopes> {
    section.require("scopes", SCOPES_HELP);
    let words = section.some_strings("scopes", SCOPES_HELP)?;
    let mut scopes = Vec::new();
    for word in &words {
        if let Some((_, scope)) = Scope::ALL.iter().find(|(name, _)| *name == word.as_str()) {
            scopes.push(*scope);
        } else {
            let message = format!("there is no scope `{}`", word.value);
            section.cx.out.error(word.at, message).help(SCOPES_HELP);
        }
    }
    (scopes.len() == words.len()).then(|| scopes.into_iter().collect())
}

fn read_tls(section: &mut Section) -> Option<ServerFiles> {
    let at = section.peek("tls_cert");
    let identity = read_identity(section);
    let authority_at = section.peek("tls_client_ca");
    let authority = section.path("tls_client_ca");
    let wanted_at = section.peek("tls_client");
    let wanted = section.choice("tls_client", &CLIENTS);
    if let (None, Some(at)) = (authority_at, wanted_at) {
        section.cx.out.error(at, "`tls_client` needs `tls_client_ca`").help("add tls_client_ca = \"ca.pem\"");
    }
    let authority: Option<PathBuf> = authority.map(|file| section.cx.files.resolve(file.at.file, &file));
    let Some((certificate, key)) = identity else {
        if let (None, Some(at)) = (at, authority_at) {
            let message = "`tls_client_ca` needs `tls_cert` and `tls_key`";
            section.cx.out.error(at, message).help("clients show certificates to a server that shows one");
        }
        return None;
    };
    let wanted = wanted.map_or(ClientCertificates::Required, |wanted| wanted.value);
    let files = ServerFiles { certificate, key, clients: authority.map(|path| (path, wanted)) };
    let at = at.unwrap_or(section.at);
    if section.cx.may_read(at)
        && let Err(error) = files.load()
    {
        let message = format!("these certificates cannot be used: {error}");
        section.cx.out.error(at, message).help("give PEM files that belong together");
    }
    Some(files)
}
