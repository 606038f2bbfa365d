//! What is answered while the journal is replayed: health and metrics; everything else may be asked again later.

use std::sync::Arc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpResponse, ResponseError, web};
use serde_json::{Value, json};

use super::guard::authorize;
use super::problem::Problem;
use super::status::{METRICS_TEXT, healthz};
use crate::metrics::Metrics;
use crate::trust::{Scope, Tokens};

/// What takes so long, in a line for people and as a document, if it is more than replaying the journal's tail.
pub type Told = Arc<dyn Fn() -> Option<(String, Value)> + Send + Sync>;

/// What can be answered meanwhile.
#[derive(Clone)]
struct Recovering {
    metrics: Arc<Metrics>,
    tokens: Tokens,
    told: Told,
}

/// The routes of a listener whose node is not ready; it can be served with others after that.
pub fn configure_recovering(
    metrics: Arc<Metrics>,
    tokens: Tokens,
    told: Told,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send {
    let recovering = Recovering { metrics, tokens, told };
    move |config| {
        config
            .app_data(web::Data::new(recovering.clone()))
            .route("/healthz", web::get().to(healthz))
            .service(web::resource("/metrics").wrap(from_fn(guard)).route(web::get().to(show_metrics)))
            .default_service(web::to(not_yet));
    }
}

async fn not_yet(recovering: web::Data<Recovering>) -> HttpResponse {
    let problem = match (recovering.told)() {
        Some((line, document)) => Problem::unavailable("recovering", line).with(json!({ "rebuilding": document })),
        None => Problem::unavailable("recovering", "the node is replaying its journal; ask again a little later"),
    };
    problem.error_response()
}

async fn show_metrics(recovering: web::Data<Recovering>) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TEXT).body(recovering.metrics.render())
}

async fn guard<B: MessageBody + 'static>(
    recovering: web::Data<Recovering>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match authorize(&recovering.tokens, Scope::Read, &request) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(problem) => Ok(request.into_response(problem.error_response()).map_into_right_body()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;
    use crate::trust::Scopes;

    /// Load balancers must see that it lives, and must not send to it yet; metrics are not for everybody meanwhile.
    #[actix_web::test]
    async fn a_recovering_node_is_alive_and_not_ready() {
        let tokens = Tokens::new([("t", Scopes::all())]);
        let told: Told = Arc::new(|| Some(("40 %".to_owned(), json!({ "done": 0.4 }))));
        let routes = configure_recovering(Arc::new(Metrics::new()), tokens, told);
        let app = init_service(App::new().configure(routes)).await;
        for (path, token, status, part) in [
            ("/healthz", "", 200, "ok"),
            ("/metrics", "t", 200, "turnstile_build_info"),
            ("/metrics", "", 401, "unauthorized"),
            ("/readyz", "", 503, "recovering"),
            ("/readyz", "", 503, "40 %"),
            ("/readyz", "", 503, "\"rebuilding\":{\"done\":0.4}"),
            ("/v1/entities/order/1", "t", 503, "recovering"),
        ] {
            let request = TestRequest::get().uri(path).insert_header(("authorization", format!("Bearer {token}")));
            let answer = call_service(&app, request.to_request()).await;
            assert_eq!(answer.status(), status, "{path} {token:?}");
            let body = read_body(answer).await;
            assert!(String::from_utf8_lossy(&body).contains(part), "{path}: {body:?}");
        }
    }
}
