//! What every request passes first: the token, and being counted.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use subtle::ConstantTimeEq;

use super::api::Api;
use super::problem::Problem;
use crate::model::refusal::{Code, Refusal};

/// What is counted for paths that lead nowhere.
const OTHER_ROUTE: &str = "other";
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
    if let Some(token) = &api.token {
        let shown = request.headers().get(AUTHORIZATION).map_or(&b""[..], |header| header.as_bytes());
        let (scheme, shown) = shown.split_at(shown.len().min(b"Bearer ".len()));
        let right: bool = shown.ct_eq(token.expose().as_bytes()).into();
        if !right || !scheme.eq_ignore_ascii_case(b"Bearer ") {
            let why = "the request must carry the header `Authorization: Bearer …` with the configured token";
            return Err(Refusal::new(Code::Unauthorized, why).into());
        }
    }
    Ok(())
}
