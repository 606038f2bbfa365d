//! What every request passes first: whose page it is from if it changes anything, the token and what it is good for, and
//! being counted. No body is read before.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};

use super::api::Api;
use super::origin::same_origin;
use super::problem::Problem;
use crate::model::refusal::{Code, Refusal};
use crate::trust::{Scope, Tokens};

/// What is counted for paths that lead nowhere.
const OTHER_ROUTE: &str = "other";
/// Where events are brought, by who may send; whatever else is not read is for who may change the node.
pub(super) const EVENTS_ROUTE: &str = "/v1/events";
/// The code of a request with a token that is good for other things, or from a page of another server.
pub(super) const FORBIDDEN: &str = "forbidden";
const SCHEME: &[u8] = b"Bearer ";
/// Open to whoever asks, so that a load balancer needs no token.
const OPEN_ROUTES: [&str; 2] = ["/healthz", "/readyz"];

/// Refuses a request or passes it on; counts it under its route's pattern, never under a key.
pub(super) async fn guard<B: MessageBody + 'static>(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let route = request.match_pattern().unwrap_or_else(|| OTHER_ROUTE.to_owned());
    let response = match check(&api, &route, &request) {
        Ok(()) => next.call(request).await?.map_into_left_body(),
        Err(problem) => request.into_response(problem.error_response()).map_into_right_body(),
    };
    api.metrics.http_requests.with_label_values(&[&route, response.status().as_str()]).inc();
    Ok(response)
}

fn check(api: &Api, route: &str, request: &ServiceRequest) -> Result<(), Problem> {
    if OPEN_ROUTES.contains(&route) {
        return Ok(());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        same_origin(request.headers(), &api.tokens)?;
    }
    let path = api.paths.iter().find(|path| path.inbox.path == route);
    let scope = match *request.method() {
        Method::POST if path.is_some_and(|path| !path.inbox.asks_token) => return Ok(()),
        Method::POST if path.is_some() => Scope::Send,
        Method::GET | Method::HEAD => Scope::Read,
        Method::POST if route == EVENTS_ROUTE => Scope::Send,
        _ => Scope::Admin,
    };
    authorize(&api.tokens, scope, request)
}

/// Whether a request shows a token that is good for `scope`, if tokens are asked for.
///
/// # Errors
/// The answer to a request that does not.
pub(super) fn authorize(tokens: &Tokens, scope: Scope, request: &ServiceRequest) -> Result<(), Problem> {
    if tokens.is_empty() {
        return Ok(());
    }
    let shown = request.headers().get(AUTHORIZATION).map_or(&b""[..], |header| header.as_bytes());
    let (scheme, shown) = shown.split_at(shown.len().min(SCHEME.len()));
    match tokens.scopes(shown) {
        Some(scopes) if scheme.eq_ignore_ascii_case(SCHEME) => {
            if scopes.include(scope) {
                return Ok(());
            }
            let why = format!("the token is right, but lacks the scope `{}` that this needs", scope.name());
            Err(Problem::new(StatusCode::FORBIDDEN, FORBIDDEN, why))
        }
        _ => {
            let why = "the request must carry the header `Authorization: Bearer …` with a configured token";
            Err(Refusal::new(Code::Unauthorized, why).into())
        }
    }
}
