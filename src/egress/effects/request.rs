//! The HTTP request of a call: what is recorded, and what is nowhere but in the rules.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};

use crate::model::dealings::Call;
use crate::model::json;
use crate::model::outgoing::effect_id;
use crate::model::value::{Map, Value};
use crate::rules::EffectRules;

/// The name under which receivers know the effect's id, the same at each attempt.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The request, the same bytes each time.
///
/// # Errors
/// Why there is no such request; never with its URL or a header's value, which may be nobody's business.
pub(super) fn request(call: &Call, rules: &EffectRules) -> Result<Request, String> {
    let Value::Map(recorded) = call.request.unpack() else { return Err("the request is no map".into()) };
    let text = |name: &str| recorded.get(name).and_then(Value::as_str).unwrap_or_default();
    let method = Method::from_bytes(text("method").as_bytes()).map_err(|_| "the request has no method of HTTP")?;
    let mut request = Request::new(method, url(text("url"))?);
    *request.timeout_mut() = Some(rules.timeout);
    let headers = request.headers_mut();
    if let Some(body) = recorded.get("json") {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut bytes = Vec::new();
        json::write_canonical(&mut bytes, body);
        *request.body_mut() = Some(bytes.into());
    }
    let headers = request.headers_mut();
    if let Some(Value::Map(given)) = recorded.get("headers") {
        add_given(headers, given)?;
    }
    for (name, value) in &rules.request.constant_headers {
        let mut value = header_value(name, value)?;
        value.set_sensitive(true);
        headers.insert(header_name(name)?, value);
    }
    let id = effect_id(&call.entity, &call.effect, call.run);
    headers.insert(IDEMPOTENCY_KEY, header_value(IDEMPOTENCY_KEY.as_str(), &id)?);
    Ok(request)
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the request's URL is none: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the request's URL does not begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the request's URL holds a user or password, which belong into the header `authorization`".into());
    }
    Ok(url)
}

fn add_given(headers: &mut HeaderMap, given: &Map) -> Result<(), String> {
    for (name, value) in given.iter() {
        headers.insert(header_name(name)?, header_value(name, value.as_str().unwrap_or_default())?);
    }
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` cannot be the name of a header"))
}

/// UTF-8 beyond ASCII goes out as it is.
fn header_value(name: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| format!("header `{name}` would have a control character"))
}
