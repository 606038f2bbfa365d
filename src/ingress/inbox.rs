//! A source `http` with a path of its own: from a request's body to its events, for senders that cannot be changed.

use crate::config::{self, BodyFormat, Respond, SignedWith};
use crate::model::json;
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};
use crate::model::xml;
use crate::rules::{BodyBindings, Expr, Fault};
use crate::trust::{BadSignature, GithubVerifier, WebhookVerifier};

use super::decode::Decoder;
use super::http::Request;

/// Headers that are nobody's business but the server's: expressions do not see them.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// One such source.
#[derive(Debug)]
pub struct Inbox {
    pub name: String,
    pub path: String,
    pub respond: Option<Respond>,
    /// Whoever sends must show the server's token: nothing else tells who it is.
    pub asks_token: bool,
    decoder: Decoder,
    format: BodyFormat,
    each: Option<Expr>,
    signed: Option<Verifier>,
    events_max: usize,
    /// Most bytes that the events of one body may come to.
    bytes_max: usize,
}

#[derive(Debug)]
enum Verifier {
    StandardWebhooks(WebhookVerifier),
    Github(GithubVerifier),
}

/// A request beside its body.
pub struct Envelope<'a> {
    pub path: &'a str,
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(&'a str, &'a str)>,
}

impl Envelope<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// What expressions read as `meta`.
    fn meta(&self) -> Value {
        let headers = self.headers.iter().filter(|(name, _)| !SECRET_HEADERS.contains(name));
        let headers: Map = headers.map(|(name, value)| (Box::from(*name), Value::string(*value))).collect();
        let query: Map =
            self.query.iter().map(|(name, value)| (Box::from(name.as_str()), Value::string(value.as_str()))).collect();
        let members =
            [("headers", Value::Map(headers)), ("path", Value::string(self.path)), ("query", Value::Map(query))];
        Value::Map(members.into_iter().map(|(name, value)| (Box::from(name), value)).collect())
    }
}

impl Inbox {
    /// The source called `name`, with its compiled expressions.
    pub fn new(
        name: &str,
        declared: &config::Inbox,
        each: Option<Expr>,
        decoder: Decoder,
        limits: &config::Limits,
    ) -> Self {
        let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let signed = declared.signature.as_ref().map(|signature| match signature {
            SignedWith::StandardWebhooks(secret) => {
                Verifier::StandardWebhooks(WebhookVerifier::new([secret.key.as_slice()]))
            }
            SignedWith::Github(secret) => Verifier::Github(GithubVerifier::new([secret.key.as_slice()])),
        });
        Inbox {
            name: name.to_owned(),
            path: declared.path.value.clone(),
            respond: declared.respond.clone(),
            asks_token: signed.is_none() && !declared.insecure,
            decoder,
            format: declared.format,
            each,
            signed,
            events_max: limit(limits.http_events_max),
            bytes_max: limit(limits.http_body_bytes_max),
        }
    }

    /// The most bytes a body may have.
    pub fn body_bytes_max(&self) -> usize {
        self.decoder.event_bytes_max()
    }

    /// Whether the body comes from who has the secret, if it is signed; `now` in seconds since 1970.
    ///
    /// # Errors
    /// If it does not.
    pub fn verify(&self, envelope: &Envelope<'_>, body: &[u8], now: u64) -> Result<(), BadSignature> {
        match &self.signed {
            None => Ok(()),
            Some(Verifier::StandardWebhooks(verifier)) => verifier.verify(|name| envelope.header(name), body, now),
            Some(Verifier::Github(verifier)) => verifier.verify(envelope.header(GithubVerifier::HEADER), body),
        }
    }

    /// The same as far as it can be told without the body, so that nobody has one received for nothing.
    ///
    /// # Errors
    /// If the body cannot be signed rightly, whatever it is.
    pub fn verify_head(&self, envelope: &Envelope<'_>, now: u64) -> Result<(), BadSignature> {
        match self.verify(envelope, &[], now) {
            Ok(()) | Err(BadSignature::Wrong) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The events of a body, received at `now`, and about how many bytes they come to.
    ///
    /// # Errors
    /// When the body as a whole cannot be read, or holds too much.
    pub fn read(&self, envelope: &Envelope<'_>, body: &[u8], now: Timestamp) -> Result<(Request, usize), Refusal> {
        if body.len() > self.body_bytes_max() {
            return Err(self.decoder.too_large());
        }
        let body = match self.format {
            BodyFormat::Json => json::parse(body, self.decoder.depth_max())?,
            BodyFormat::Xml => xml::parse(body, self.decoder.depth_max())?,
        };
        let meta = envelope.meta();
        let whole = BodyBindings { body: &body, item: None, meta: Some(&meta) };
        let Some(each) = &self.each else {
            let event = self.decoder.event_of(&whole, now);
            return Ok((Request { events: vec![(1, event)], is_batch: false }, 0));
        };
        let items = self.items(each, &whole)?;
        let (mut events, mut bytes) = (Vec::with_capacity(items.len()), 0);
        for (line, item) in (1..).zip(&items) {
            let event = self.decoder.event_of(&BodyBindings { item: Some(item), ..whole }, now);
            bytes += event.as_ref().map_or(0, |event| event.data.as_ref().map_or(0, weight));
            if bytes > self.bytes_max {
                let why = "the events of this body come to more than limits.http_body_bytes_max";
                return Err(Refusal::new(Code::TooLarge, why));
            }
            events.push((line, event));
        }
        Ok((Request { events, is_batch: true }, bytes))
    }

    /// What `each` makes of a body. What is no list is a list of one: in XML nobody can tell the one from the other.
    fn items(&self, each: &Expr, whole: &BodyBindings<'_>) -> Result<Vec<Value>, Refusal> {
        let items = match each.evaluate(whole).map(std::borrow::Cow::into_owned) {
            Ok(Value::List(items)) => items,
            Ok(item) => vec![item],
            Err(Fault::Missing(path)) => {
                let why = format!("`each` of source `{}`: the body has no {path}", self.name);
                return Err(Refusal::new(Code::InvalidValue, why));
            }
            Err(Fault::Wrong(why)) => {
                return Err(Refusal::new(Code::InvalidValue, format!("`each` of source `{}`: {why}", self.name)));
            }
        };
        if items.len() > self.events_max {
            let why = format!("the body has more than limits.http_events_max = {} events", self.events_max);
            return Err(Refusal::new(Code::TooLarge, why));
        }
        Ok(items)
    }
}

/// About how many bytes a value takes as JSON.
fn weight(value: &Value) -> usize {
    /// What stands around a value, and numbers.
    const AROUND: usize = 8;
    AROUND
        + match value {
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(weight).sum(),
            Value::Map(members) => members.iter().map(|(name, value)| name.len() + weight(value)).sum(),
            _ => 0,
        }
}
