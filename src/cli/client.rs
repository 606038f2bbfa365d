//! Asking a running server over HTTP.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use super::failure::{Exit, Failure};
use crate::model::json;
use crate::model::value::Value;
use crate::trust::{Tls, plain_client_config};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, besides the waiting that was asked for.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The deepest answer that is read: deeper than any event may be by default.
const ANSWER_DEPTH_MAX: usize = 1_000;
/// What stays as it is in a path segment or a query value.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'~').remove(b'-').remove(b'.');

const URL_EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT";

/// The heading of options that every subcommand takes, so that its own come first.
pub const GLOBAL: &str = "Global options";

/// Where the server is and how it knows us.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The server that get, ls and status ask
    #[arg(long, global = true, help_heading = GLOBAL, env = "TURNSTILE_URL", default_value = "http://127.0.0.1:7480", value_parser = parse_url)]
    url: Url,
    /// The secret the server asks for, if it has one configured
    #[arg(long, global = true, help_heading = GLOBAL, env = "TURNSTILE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Certificates to trust instead of the system's, where a server speaks TLS (PEM)
    #[arg(long, global = true, help_heading = GLOBAL, env = "TURNSTILE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show to a server that asks for one (PEM)
    #[arg(long, global = true, help_heading = GLOBAL, env = "TURNSTILE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, global = true, help_heading = GLOBAL, env = "TURNSTILE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl ServerArgs {
    /// The secret to be sent, if any.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whom to trust, and what to show.
    ///
    /// # Errors
    /// When a file cannot be read (2).
    pub fn tls(&self) -> Result<rustls::ClientConfig, Failure> {
        let identity = self.client_cert.as_deref().zip(self.client_key.as_deref());
        let tls = Tls { ca: self.ca.as_deref(), identity };
        tls.client_config().map_err(|error| Failure::new(Exit::Usage, error))
    }
}

#[cfg(test)]
impl ServerArgs {
    pub fn of_test(url: &str, token: Option<&str>) -> Self {
        ServerArgs {
            url: parse_url(url).unwrap(),
            token: token.map(str::to_owned),
            ca: None,
            client_cert: None,
            client_key: None,
        }
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; {URL_EXPECTED}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(URL_EXPECTED.to_owned()),
    }
}

/// A connection to the server for one command.
pub struct Client<'a> {
    server: &'a ServerArgs,
    pub(super) http: reqwest::Client,
    pub(super) runtime: tokio::runtime::Runtime,
}

/// What the server answered, if it was no problem.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200 or 202.
    pub status: u16,
    pub body: Vec<u8>,
}

impl<'a> Client<'a> {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// When the process is out of file handles.
    pub fn new(server: &'a ServerArgs) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Io, error))?;
        let tls = match server.url.scheme() {
            "https" => server.tls()?,
            _ => plain_client_config().map_err(|error| Failure::new(Exit::Io, error))?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| Failure::new(Exit::Io, error))?;
        Ok(Client { server, http, runtime })
    }

    /// Asks for `/v1/` + `path`, given as its plain segments, with a query.
    ///
    /// # Errors
    /// The server says no (1), what was asked or the token is wrong (2), or it cannot answer (3).
    pub fn get(&self, path: &[&str], query: &[(&str, String)], timeout: Duration) -> Result<Answer, Failure> {
        let url = address(&self.server.url, path, query)?;
        self.runtime.block_on(self.exchange(self.http.get(url).timeout(timeout)))
    }

    /// Sends a JSON document to `/v1/` + `path`, given as its plain segments.
    ///
    /// # Errors
    /// As those of [`Self::get`].
    pub fn post(&self, path: &[&str], document: &str) -> Result<Answer, Failure> {
        let url = address(&self.server.url, path, &[])?;
        let request = self.http.post(url).header("content-type", "application/json").body(document.to_owned());
        self.runtime.block_on(self.exchange(request.timeout(ANSWER_TIMEOUT)))
    }

    /// Sends a document to `/v1/` + `path`, and hands on every line of the answer as it comes, however long that takes.
    ///
    /// # Errors
    /// As those of [`Self::get`], and those of `take`.
    pub fn post_for_lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        (content_type, document): (&str, String),
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let url = address(&self.server.url, path, query)?;
        let request = self.http.post(url).header("content-type", content_type).body(document);
        self.runtime.block_on(async {
            let mut response = self.send(request).await?;
            let status = response.status();
            let mut rest = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
                rest.extend_from_slice(&chunk);
                while let Some(end) = memchr::memchr(b'\n', &rest).filter(|_| status.is_success()) {
                    take(&rest[..end])?;
                    rest.drain(..=end);
                }
                if rest.len() > ANSWER_BYTES_MAX {
                    return Err(too_long());
                }
            }
            if status.is_success() { Ok(()) } else { Err(problem(status.as_u16(), &rest)) }
        })
    }

    /// Has `/v1/` + `path` deleted, given as its plain segments; the document says by whom and why.
    ///
    /// # Errors
    /// As those of [`Self::get`].
    pub fn delete(&self, path: &[&str], document: &str) -> Result<Answer, Failure> {
        let url = address(&self.server.url, path, &[])?;
        let request = self.http.delete(url).header("content-type", "application/json").body(document.to_owned());
        self.runtime.block_on(self.exchange(request.timeout(ANSWER_TIMEOUT)))
    }

    /// Asks for `/v1/` + `path` as a stream of events, from after `last` on. There is no limit on how long it takes.
    ///
    /// # Errors
    /// As those of [`Self::get`].
    pub async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = self.http.get(address(&self.server.url, path, query)?).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        if let Some(token) = self.server.token() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = tokio::time::timeout(ANSWER_TIMEOUT, response.bytes()).await.ok().and_then(Result::ok);
        Err(problem(status, &body.unwrap_or_default()))
    }

    /// Runs what asks more than one thing.
    pub fn block_on<T>(&self, asking: impl Future<Output = T>) -> T {
        self.runtime.block_on(asking)
    }

    /// The server's metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// As those of [`Self::get`].
    pub fn metrics(&self) -> Result<String, Failure> {
        let text = format!("{}/metrics", self.server.url.as_str().trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|error| Failure::message(Exit::Usage, format!("--url {text}: {error}")))?;
        let answer = self.runtime.block_on(self.exchange(self.http.get(url).timeout(ANSWER_TIMEOUT)))?;
        String::from_utf8(answer.body).map_err(|error| not_understood(&error.to_string()))
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let mut response = self.send(request.header("accept", "application/json")).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        if response.status().is_success() { Ok(Answer { status, body }) } else { Err(problem(status, &body)) }
    }

    /// The answer as it begins.
    pub(super) async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        if let Some(token) = self.server.token() {
            request = request.bearer_auth(token);
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// The address of `/v1/` + `path`.
    pub(super) fn address(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Failure> {
        address(&self.server.url, path, query)
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut root: &dyn Error = error;
        while let Some(source) = root.source() {
            root = source;
        }
        let hint = if error.is_connect() { " (is it running? --url says where it is)" } else { "" };
        Failure::message(Exit::Io, format!("no answer from {}: {root}{hint}", self.server.url))
    }
}

impl Answer {
    /// The body as a JSON document.
    ///
    /// # Errors
    /// When it is none: then the other side is no Turnstile.
    pub fn document(&self) -> Result<Value, Failure> {
        document(&self.body)
    }
}

/// A JSON document of the server.
///
/// # Errors
/// When it is none: then the other side is no Turnstile.
pub fn document(body: &[u8]) -> Result<Value, Failure> {
    json::parse(body, ANSWER_DEPTH_MAX).map_err(|refusal| not_understood(&refusal.message))
}

fn too_long() -> Failure {
    Failure::message(Exit::Io, format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"))
}

/// An answer that no Turnstile gives.
pub fn not_understood(why: &str) -> Failure {
    Failure::message(Exit::Io, format!("the answer is not one of a Turnstile server: {why}"))
}

fn address(base: &Url, path: &[&str], query: &[(&str, String)]) -> Result<Url, Failure> {
    let mut text = format!("{}/v1", base.as_str().trim_end_matches('/'));
    for segment in path {
        let why = match *segment {
            "" => "an empty type, key, name or id is none: give one".to_owned(),
            // Every URL parser on the way takes these for steps in the path, percent-encoded or not.
            "." | ".." => format!("'{segment}' cannot be part of a URL"),
            _ => String::new(),
        };
        if !why.is_empty() {
            return Err(Failure::message(Exit::Usage, why));
        }
        text.push('/');
        text.extend(utf8_percent_encode(segment, ENCODED));
    }
    for (n, (name, value)) in query.iter().enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, ENCODED));
    }
    Url::parse(&text).map_err(|error| Failure::message(Exit::Usage, format!("--url {base}: {error}")))
}

/// An RFC 9457 problem, or whatever else stood in an error's body.
pub(super) fn problem(status: u16, body: &[u8]) -> Failure {
    let exit = match status {
        400 | 401 | 403 => Exit::Usage,
        429 | 500.. => Exit::Io,
        _ => Exit::No,
    };
    let document = json::parse(body, ANSWER_DEPTH_MAX).unwrap_or(Value::Null);
    let member = |name| match &document {
        Value::Map(members) => members.get(name).and_then(Value::as_str),
        _ => None,
    };
    let message = match (member("code"), member("detail").or_else(|| member("title"))) {
        (Some(code), Some(detail)) => format!("{code}: {detail}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => {
            let body = String::from_utf8_lossy(body);
            format!("HTTP {status} {}", body.lines().next().unwrap_or_default()).trim_end().to_owned()
        }
    };
    Failure::message(exit, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_encode_what_they_carry() {
        let base = parse_url("http://h:1/base/").unwrap();
        let url = address(&base, &["entities", "order", "a/b ä%"], &[("where", "a == 'b&c'".to_owned())]).unwrap();
        assert_eq!(url.as_str(), "http://h:1/base/v1/entities/order/a%2Fb%20%C3%A4%25?where=a%20%3D%3D%20%27b%26c%27");
        assert_eq!(address(&base, &["entities", ".."], &[]).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn problems_are_told_by_code_and_detail() {
        for (status, body, exit, message) in [
            (
                404,
                r#"{"code":"unknown_entity","detail":"no order x","status":404}"#,
                Exit::No,
                "unknown_entity: no order x",
            ),
            (401, r#"{"code":"unauthorized","title":"Unauthorized"}"#, Exit::Usage, "unauthorized: Unauthorized"),
            (400, r#"{"detail":"no such field"}"#, Exit::Usage, "no such field"),
            (429, r#"{"code":"busy"}"#, Exit::Io, "busy"),
            (503, "", Exit::Io, "HTTP 503"),
            (502, "<html>\n<p>", Exit::Io, "HTTP 502 <html>"),
            (409, r#"["code"]"#, Exit::No, r#"HTTP 409 ["code"]"#),
        ] {
            let failure = problem(status, body.as_bytes());
            assert_eq!(failure.exit(), exit, "{body}");
            let Failure::Told { cause, .. } = failure else { panic!("{body}") };
            assert_eq!(cause.to_string(), message);
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_an_io_failure_with_a_hint() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let server = ServerArgs::of_test(&url, None);
        let failure = Client::new(&server).unwrap().get(&["status"], &[], ANSWER_TIMEOUT).unwrap_err();
        assert_eq!(failure.exit(), Exit::Io);
        let Failure::Told { cause, .. } = failure else { panic!("nothing told") };
        assert!(cause.to_string().contains("is it running?"), "{cause}");
    }
}
