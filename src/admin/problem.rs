//! Errors as RFC 9457 problem documents, with a stable `code` for programs and a `detail` for people.

use std::fmt;
use std::future::{Ready, ready};

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde_json::{Value, json};

use crate::model::refusal::{Code, Refusal};

/// The media type of problem documents.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which it is worth trying again.
const RETRY_AFTER_SECONDS: &str = "1";
/// Names that differ in more than a third of their letters are not taken for a slip.
const SLIP_SHARE: usize = 3;

/// An error as it is answered.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// Members beyond those that every problem has.
    members: serde_json::Map<String, Value>,
    allow: Option<&'static str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into(), members: serde_json::Map::new(), allow: None }
    }

    /// Something in the request's path or query is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidValue.as_str(), detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// It cannot be answered now, but may be a little later.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// Something that is no fault of the request.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.as_str(), detail)
    }

    /// As JSON.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let Value::Object(document) = &mut document {
            document.extend(self.members.clone());
        }
        document
    }

    /// With the members of an object of its own.
    pub fn with(mut self, members: Value) -> Self {
        if let Value::Object(members) = members {
            self.members = members;
        }
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Conflict => StatusCode::CONFLICT,
            Code::Busy => StatusCode::TOO_MANY_REQUESTS,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, refusal.code.as_str(), refusal.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let document = self.document();
        let mut response = HttpResponse::build(self.status);
        response.content_type(PROBLEM_JSON).insert_header((CACHE_CONTROL, "no-store"));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            StatusCode::UNAUTHORIZED => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        response.body(document.to_string())
    }
}

/// For paths that lead nowhere.
pub(super) fn not_found(request: HttpRequest) -> Ready<Result<HttpResponse, Problem>> {
    ready(Err(Problem::not_found(format!("there is nothing at {}", request.path()))))
}

/// For a resource that knows only the methods `allow`.
pub(super) fn method_not_allowed(allow: &'static str) -> Ready<Result<HttpResponse, Problem>> {
    let detail = format!("this resource knows only {allow}");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    ready(Err(Problem { allow: Some(allow), ..problem }))
}

/// For an unknown name: `; did you mean …?` if one of `known` is near, else what there is.
pub(super) fn suggest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near =
        known.iter().map(|name| (strsim::damerau_levenshtein(&unknown.to_lowercase(), &name.to_lowercase()), *name));
    match near.min() {
        Some((distance, name)) if distance <= unknown.chars().count() / SLIP_SHARE + 1 && distance < name.len() => {
            format!("; did you mean `{name}`?")
        }
        Some(_) => {
            format!("; there is {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
        None => String::new(),
    }
}

/// Whether a parameter names something that there is; `what` is what it names.
///
/// # Errors
/// When it does not: nothing would ever be found.
pub(super) fn known<'k>(what: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> Result<(), Problem> {
    let known: Vec<&str> = known.into_iter().collect();
    if known.contains(&name) {
        return Ok(());
    }
    Err(Problem::invalid(format!("{what} is called {name:.80?}{}", suggest(name, known))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, clients would mistake what they may try again for what they must mend, or the other way round.
    #[test]
    fn every_refusal_has_its_status() {
        for code in Code::ALL {
            let expected = match code.as_str() {
                "too_large" => 413,
                "unauthorized" => 401,
                "conflict" => 409,
                "busy" => 429,
                "internal" => 500,
                _ => 400,
            };
            let response = Problem::from(Refusal::new(code, "why")).error_response();
            assert_eq!(response.status().as_u16(), expected, "{code}");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), expected == 429, "{code}");
            assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), expected == 401, "{code}");
            assert_eq!(response.headers().get("content-type").unwrap(), PROBLEM_JSON);
        }
    }

    /// If this failed, a slip would be answered with a guess that is none.
    #[test]
    fn near_names_are_suggested() {
        for (unknown, expected) in [
            ("ordre", "; did you mean `order`?"),
            ("Order", "; did you mean `order`?"),
            ("zzz", "; there is `order`, `routing`"),
        ] {
            assert_eq!(suggest(unknown, ["order", "routing"]), expected);
        }
        assert_eq!(suggest("x", []), "");
    }
}
