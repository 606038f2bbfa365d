//! Requests that a page in somebody's browser makes. Browsers let any page ask any server for things, with the reach of the
//! machine they run on, and say only where the page is from; programs say nothing of the kind.

use std::net::IpAddr;

use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};

use super::guard::FORBIDDEN;
use super::problem::Problem;
use crate::trust::Tokens;

/// What browsers say where they say nothing of the origin.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Refuses what a page of another server asks for. Where no token is asked for, what it asks must also be an address or
/// `localhost`: whoever owns a name can have it lead here, and pages under that name would be of this server.
///
/// # Errors
/// The answer to such a request.
pub(super) fn same_origin(headers: &HeaderMap, tokens: &Tokens) -> Result<(), Problem> {
    let text = |header: Option<&actix_web::http::header::HeaderValue>| {
        header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let forbidden = |why| Err(Problem::new(StatusCode::FORBIDDEN, FORBIDDEN, why));
    let Some(origin) = text(headers.get(ORIGIN)) else {
        return match text(headers.get(SEC_FETCH_SITE)) {
            Some(site) if site.eq_ignore_ascii_case("cross-site") => forbidden(OTHER_PAGE),
            _ => Ok(()),
        };
    };
    let host = text(headers.get(HOST)).unwrap_or_default();
    let from = origin.split_once("://").map_or("", |(_, from)| from);
    if from.is_empty() || !from.eq_ignore_ascii_case(&host) {
        return forbidden(OTHER_PAGE);
    }
    if tokens.is_empty() && !is_address(&host) {
        return forbidden(OTHER_NAME);
    }
    Ok(())
}

const OTHER_PAGE: &str = "pages of other servers may not do this: `Origin` is not the `Host` that was asked";
const OTHER_NAME: &str =
    "pages may do this only at an IP address or `localhost` while no token is configured: anybody's name may lead here";

/// Whether a `Host` is an address of a machine, or the name that every machine has for itself.
fn is_address(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or_default(),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_name = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::trust::Scopes;

    /// If this failed, any page that an operator's browser shows could read and change what is here, or programs that
    /// are no browsers could not.
    #[test]
    fn pages_of_others_are_refused_and_programs_are_not() {
        let tokens = Tokens::new([("t", Scopes::all())]);
        for (host, headers, without_tokens, with_tokens) in [
            ("localhost:7480", &[][..], true, true),
            ("turnstile.example", &[], true, true),
            ("localhost:7480", &[("origin", "http://localhost:7480")], true, true),
            ("localhost:7480", &[("origin", "https://LOCALHOST:7480")], true, true),
            ("127.0.0.1:7480", &[("origin", "http://127.0.0.1:7480")], true, true),
            ("[::1]:7480", &[("origin", "http://[::1]:7480")], true, true),
            ("localhost:7480", &[("origin", "http://localhost")], false, false),
            ("localhost:7480", &[("origin", "http://elsewhere.example")], false, false),
            ("localhost:7480", &[("origin", "null")], false, false),
            ("localhost:7480", &[("origin", "")], false, false),
            // A name that was made to lead here.
            ("elsewhere.example:7480", &[("origin", "http://elsewhere.example:7480")], false, true),
            ("127.0.0.1.example", &[("origin", "http://127.0.0.1.example")], false, true),
            ("[::1].example", &[("origin", "http://[::1].example")], false, true),
            ("localhost:80@example", &[("origin", "http://localhost:80@example")], false, true),
            ("localhost:7480", &[("sec-fetch-site", "cross-site")], false, false),
            ("localhost:7480", &[("sec-fetch-site", "none")], true, true),
        ] {
            let mut request = TestRequest::post().insert_header(("host", host));
            for header in headers {
                request = request.insert_header(*header);
            }
            let request = request.to_http_request();
            let is_taken = |tokens: &Tokens| same_origin(request.headers(), tokens).is_ok();
            let taken = (is_taken(&Tokens::default()), is_taken(&tokens));
            assert_eq!(taken, (without_tokens, with_tokens), "{host} {headers:?}");
        }
    }
}
