//! Writes a configuration back as TOML, with every default filled in and secrets hidden, so that people see what is in
//! force. What is printed can be loaded again, once secrets are put back.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Config;
use super::diagnostics::Expr;
use super::door::{CLIENTS, Door, Token};
use super::entities::word;
use super::nats::{NatsAuth, NatsConnection};
use super::retry::format_retry;
use super::secret::Secret;
use super::server::HTTP_OFF;
use super::sink_nats::{DELIVERIES, NatsSink, SubjectPart};
use super::sink_webhook::WebhookSink;
use super::sinks::{FROM, Sink, SinkKind};
use super::source_http::{FORMATS, Inbox};
use super::source_nats::{NatsFrom, NatsSource};
use super::source_sql::{Database, Growth, SqlSource};
use super::sources::{Source, SourceKind};
use super::telemetry::Telemetry;
use super::tuning::{LOG_FORMATS, LOG_LEVELS, Tuning};
use super::units::{format_duration, format_size};

/// The effective configuration as one TOML document. Paths are absolute.
pub fn print(config: &Config) -> String {
    let mut out = Printer { text: String::new(), secrets: Secrets::Hidden };
    let server = &config.server;
    out.table("server");
    out.text("name", &server.name);
    out.path("data_dir", &server.data_dir);
    if let Some(backups) = &server.backups {
        out.path("backups", backups);
    }
    let http = server.http.as_ref().map_or(HTTP_OFF.into(), ToString::to_string);
    out.text("http", &http);
    if let Some(admin) = &server.admin {
        out.text("admin", &admin.to_string());
    }
    out.door(&server.door);
    out.value("ignore", &list(server.ignore.iter()));
    config.sources.iter().for_each(|source| out.source(source));
    config.sinks.iter().for_each(|sink| out.sink(sink));
    config.entities.iter().for_each(|entity| out.entity(entity));
    out.tuning(&config.tuning);
    config.telemetry.iter().for_each(|telemetry| out.telemetry(telemetry));
    out.text
}

/// What of a configuration says what events mean, as one TOML document: the entity types, what is ignored, and sinks only
/// by their names, since decisions may name them. Its fingerprints are those of `config`, so that it is not for people.
pub fn print_rules(config: &Config) -> String {
    let mut out = Printer { text: String::new(), secrets: Secrets::Kept };
    out.table("server");
    out.text("name", &config.server.name);
    out.value("ignore", &list(config.server.ignore.iter()));
    for sink in &config.sinks {
        out.table(&format!("sink.{}", sink.name.value));
        out.text("kind", "stdout");
    }
    config.entities.iter().for_each(|entity| out.entity(entity));
    out.text
}

pub(super) struct Printer {
    text: String,
    pub secrets: Secrets,
}

/// Whether what is printed is for people, or for a program to which it has to mean the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    /// Those on which it depends what rules mean: texts of requests with expressions in them.
    Kept,
}

impl Printer {
    pub fn table(&mut self, title: &str) {
        let newline = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{newline}[{title}]");
    }

    pub fn value(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    pub fn text(&mut self, key: &str, text: &str) {
        self.value(key, &quote(text));
    }

    pub fn expr(&mut self, key: &str, expr: Option<&Expr>) {
        if let Some(expr) = expr {
            self.text(key, expr);
        }
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, &absolute(path));
    }

    fn secret(&mut self, secret: Option<&Secret>) {
        if let Some(secret) = secret {
            self.text("token", &secret.to_string());
        }
    }

    fn door(&mut self, door: &Door) {
        self.secret(door.token.as_ref());
        if !door.tokens.is_empty() {
            let token = |token: &Token| {
                let scopes = token.scopes.names().map(quote).collect::<Vec<_>>().join(", ");
                format!("{} = {{ token = \"{}\", scopes = [{scopes}] }}", quote_plain(&token.name), token.token)
            };
            self.value("tokens", &inline(door.tokens.iter().map(token)));
        }
        if let Some(tls) = &door.tls {
            self.path("tls_cert", &tls.certificate);
            self.path("tls_key", &tls.key);
            if let Some((authority, wanted)) = &tls.clients {
                self.path("tls_client_ca", authority);
                self.text("tls_client", word(&CLIENTS, wanted));
            }
        }
        self.value("insecure", &door.insecure.to_string());
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.text(key, &format_size(bytes));
    }

    pub fn duration(&mut self, key: &str, duration: Duration) {
        self.text(key, &format_duration(duration));
    }

    fn source(&mut self, source: &Source) {
        self.table(&format!("source.{}", source.name.value));
        match &source.kind {
            SourceKind::Http => self.text("kind", "http"),
            SourceKind::Inbox(inbox) => self.inbox(inbox),
            SourceKind::Tcp { listen, door } => {
                self.text("kind", "tcp");
                self.text("listen", &listen.to_string());
                self.door(door);
            }
            SourceKind::Sql(sql) => self.sql(sql),
            SourceKind::Nats(nats) => self.nats_source(nats),
        }
        if let Some(mapping) = &source.event {
            let parts = mapping.attributes().map(|(name, expr)| format!("{name} = {}", quote(expr)));
            self.value("event", &inline(parts));
        }
        self.expr("sequence", source.sequence.as_ref());
    }

    fn sql(&mut self, sql: &SqlSource) {
        self.text("kind", "sql");
        match &sql.database {
            Database::Postgres(url) | Database::MySql(url) => self.text("url", &url.to_string()),
            Database::Sqlite(path) => self.text("url", &format!("sqlite:{}", absolute(path))),
        }
        self.text("query", &sql.query.text);
        self.text("cursor", &sql.cursor);
        match sql.growth {
            Growth::Number { start, overlap } => {
                self.value("start", &start.to_string());
                self.value("overlap", &overlap.to_string());
            }
            Growth::Time { start, overlap } => {
                self.text("start", &start.to_string());
                self.duration("overlap", overlap);
            }
        }
        self.duration("every", sql.every);
        self.value("limit", &sql.limit.to_string());
        self.duration("timeout", sql.timeout);
    }

    fn inbox(&mut self, inbox: &Inbox) {
        self.text("kind", "http");
        self.text("path", &inbox.path);
        self.text("format", word(&FORMATS, &inbox.format));
        self.expr("each", inbox.each.as_ref());
        if let Some(respond) = &inbox.respond {
            let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or(path.clone());
            let content_type = respond.content_type.iter().map(|text| format!("content_type = {}", quote(text)));
            let file = respond
                .body_file
                .iter()
                .map(|path| format!("body_file = {}", quote(&absolute(path).to_string_lossy())));
            self.value(
                "respond",
                &inline([format!("status = {}", respond.status)].into_iter().chain(content_type).chain(file)),
            );
        }
        if let Some(signature) = &inbox.signature {
            let parts = [format!("scheme = {}", quote(signature.name())), "secret = \"***\"".to_owned()];
            self.value("signature", &inline(parts));
        }
        self.value("insecure", &inbox.insecure.to_string());
    }

    fn sink(&mut self, sink: &Sink) {
        self.table(&format!("sink.{}", sink.name.value));
        match &sink.kind {
            SinkKind::Stdout => self.text("kind", "stdout"),
            SinkKind::File { path } => {
                self.text("kind", "file");
                self.path("path", path);
            }
            SinkKind::Nats(nats) => self.nats(nats),
            SinkKind::Webhook(webhook) => self.webhook(webhook),
        }
        self.text("from", word(&FROM, &sink.from));
        if !sink.types.is_empty() {
            self.value("types", &list(sink.types.iter().map(|glob| &glob.value)));
        }
        if sink.dead_letters {
            self.value("dead_letters", "true");
        }
        self.expr("if", sink.condition.as_ref());
    }

    fn nats_source(&mut self, nats: &NatsSource) {
        self.text("kind", "nats");
        self.nats_connection(&nats.connection);
        if !nats.subjects.is_empty() {
            self.value("subjects", &list(nats.subjects.iter()));
        }
        match &nats.from {
            NatsFrom::Stream { stream, consumer } => {
                self.text("stream", stream);
                self.text("consumer", consumer);
            }
            NatsFrom::Core { queue: Some(queue) } => self.text("queue", queue),
            NatsFrom::Core { queue: None } => {}
        }
    }

    fn nats(&mut self, nats: &NatsSink) {
        self.text("kind", "nats");
        self.nats_connection(&nats.connection);
        let part = |part: &SubjectPart| match part {
            SubjectPart::Text(text) => text.clone(),
            SubjectPart::Entity => "{entity}".to_owned(),
            SubjectPart::Key => "{key}".to_owned(),
            SubjectPart::Decision => "{decision}".to_owned(),
        };
        self.text("subject", &nats.subject.iter().map(part).collect::<String>());
        self.text("delivery", word(&DELIVERIES, &nats.delivery));
        self.value("window", &nats.window.to_string());
    }

    fn nats_connection(&mut self, connection: &NatsConnection) {
        self.value("servers", &list(connection.servers.iter()));
        match &connection.auth {
            None => {}
            Some(NatsAuth::User { user, password }) => {
                self.text("user", user);
                self.text("password", &password.to_string());
            }
            Some(NatsAuth::Token(token)) => self.secret(Some(token)),
            Some(NatsAuth::Nkey(file)) => self.path("nkey_file", &file.path),
            Some(NatsAuth::Credentials(file)) => self.path("credentials_file", &file.path),
        }
        self.paths("tls_ca", connection.tls_ca.as_deref());
        self.paths("tls_cert", connection.tls_identity.as_ref().map(|(certificate, _)| certificate.as_path()));
        self.paths("tls_key", connection.tls_identity.as_ref().map(|(_, key)| key.as_path()));
    }

    fn webhook(&mut self, webhook: &WebhookSink) {
        self.text("kind", "webhook");
        self.text("url", &webhook.shown_url());
        self.value(
            "secret",
            &list(webhook.secrets.iter().map(|secret| format!("{secret:?}")).collect::<Vec<_>>().iter()),
        );
        self.duration("timeout", webhook.timeout);
        self.value("retry", &format_retry(webhook.attempts, webhook.backoff));
        self.value("allow_private", &webhook.allow_private.to_string());
        self.size("body_bytes_max", webhook.body_bytes_max as u64);
        self.paths("tls_ca", webhook.tls_ca.as_deref());
        self.value("window", &webhook.window.to_string());
    }

    fn paths(&mut self, key: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.path(key, path);
        }
    }

    fn tuning(&mut self, tuning: &Tuning) {
        self.table("journal");
        self.duration("retention", tuning.journal.retention);
        if let Some(bytes) = tuning.journal.retention_bytes {
            self.size("retention_bytes", bytes);
        }
        self.size("segment_bytes", tuning.journal.segment_bytes);
        self.size("commit_bytes_max", tuning.journal.commit_bytes_max);
        self.table("actors");
        self.value("shards", &tuning.actors.shards.to_string());
        self.value("max_live", &tuning.actors.max_live.to_string());
        self.duration("idle", tuning.actors.idle);
        self.table("checkpoint");
        self.size("journal_bytes", tuning.checkpoint.journal_bytes);
        self.size("dirty_bytes_max", tuning.checkpoint.dirty_bytes_max);
        let limits = &tuning.limits;
        self.table("limits");
        self.size("event_bytes_max", limits.event_bytes_max);
        self.size("key_bytes_max", limits.key_bytes_max);
        self.size("entity_bytes_max", limits.entity_bytes_max);
        self.value("json_depth_max", &limits.json_depth_max.to_string());
        self.value("connections_max", &limits.connections_max.to_string());
        self.value("connections_per_address_max", &limits.connections_per_address_max.to_string());
        self.duration("handshake_timeout", limits.handshake_timeout);
        self.duration("hello_timeout", limits.hello_timeout);
        self.duration("keepalive", limits.keepalive);
        self.value("connection_lines_max", &limits.connection_lines_max.to_string());
        self.size("refusal_bytes_max", limits.refusal_bytes_max);
        self.size("receiving_bytes_max", limits.receiving_bytes_max);
        self.duration("receiving_timeout", limits.receiving_timeout);
        self.value("in_flight_records_max", &limits.in_flight_records_max.to_string());
        self.size("in_flight_bytes_max", limits.in_flight_bytes_max);
        self.size("disk_free_min", limits.disk_free_min);
        self.size("http_body_bytes_max", limits.http_body_bytes_max);
        self.value("http_events_max", &limits.http_events_max.to_string());
        self.size("effect_response_bytes_max", limits.effect_response_bytes_max);
        self.value("streams_max", &limits.streams_max.to_string());
        self.value("socket_subscriptions_max", &limits.socket_subscriptions_max.to_string());
        self.duration("unread_timeout", limits.unread_timeout);
        self.value("verify_records_per_second", &limits.verify_records_per_second.to_string());
        self.duration("drain", limits.drain);
        self.table("log");
        self.text("level", word(&LOG_LEVELS, &tuning.log.level));
        self.text("format", word(&LOG_FORMATS, &tuning.log.format));
    }
}

impl Printer {
    fn telemetry(&mut self, telemetry: &Telemetry) {
        self.table("telemetry");
        self.text("otlp", &telemetry.otlp);
        self.value("sample", &format!("{:?}", telemetry.sample));
        self.paths("headers_file", telemetry.headers_file.as_deref());
        self.paths("tls_ca", telemetry.tls_ca.as_deref());
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or(path.to_owned()).to_string_lossy().into_owned()
}

pub(super) fn inline(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    if parts.is_empty() { "{}".into() } else { format!("{{ {} }}", parts.join(", ")) }
}

pub(super) fn list<'t>(texts: impl Iterator<Item = &'t String>) -> String {
    let texts: Vec<String> = texts.map(|text| quote(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A TOML string value; `$` is doubled, since loading it puts variables in.
pub(super) fn quote(text: &str) -> String {
    quote_plain(&text.replace('$', "$$"))
}

/// A TOML key in quotes; in keys, `$` means nothing.
pub(super) fn quote_plain(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
