//! What the interface stands on, and its routes.

use std::error::Error;
use std::sync::Arc;

use actix_web::dev::Handler;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{FromRequest, Resource, Responder, guard, web};
use tokio::sync::watch;

use super::forget::{self, Forgetting};
use super::guard::EVENTS_ROUTE;
use super::inboxes::{self, Path};
use super::problem::{method_not_allowed, not_found};
use super::replay::Replay;
use super::retry::InHand;
use super::sinks::{self, Sinks};
use super::sources::{self, Sources};
use super::streams::{self, Streams};
use super::verify::Verify;
use super::{
    backup, dead_letters, decisions, effects, entities, entity, events, export, history, openapi, pausing, replay,
    retry, status, verify,
};
use crate::actors::{Pauses, Shards};
use crate::backup::Backups;
use crate::config::Limits;
use crate::ingress::{Admission, Again, Decoder, SourceMetrics};
use crate::journal::JournalReader;
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::record::Record;
use crate::rules::Ruleset;
use crate::store::Store;
use crate::trust::Tokens;

/// Ends the process.
pub type Fatal = Arc<dyn Fn(&dyn Error) + Send + Sync>;
/// Renders the decisions of a committed record as CloudEvents: one JSON document each, without line ends, in the record's
/// order.
pub type RenderDecisions = Arc<dyn Fn(Lsn, &Record) -> Vec<Vec<u8>> + Send + Sync>;

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    Ready,
    /// The node is about to end: events are no longer taken, and nobody is kept waiting.
    Draining,
}

impl NodeState {
    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Ready => "ready",
            NodeState::Draining => "draining",
        }
    }
}

/// What the interface stands on.
pub struct Api {
    pub server_name: String,
    pub admission: Arc<Admission>,
    pub decoder: Decoder,
    pub source: SourceMetrics,
    pub shards: Shards,
    pub pauses: Arc<Pauses>,
    pub store: Store,
    pub journal: JournalReader,
    pub ruleset: Arc<Ruleset>,
    pub metrics: Arc<Metrics>,
    /// What requests must show, if anything.
    pub tokens: Tokens,
    pub backups: Backups,
    /// Sources that are paths of their own.
    pub paths: Vec<Arc<Path>>,
    pub limits: Limits,
    /// Position of the last committed record, told after the shards were told of it.
    pub committed: watch::Receiver<Lsn>,
    pub state: watch::Receiver<NodeState>,
    pub render_decisions: RenderDecisions,
    /// Ends the process, when journal or store cannot be read.
    pub fatal: Fatal,
    pub sources: Sources,
    /// Says what other rules would change.
    pub replay: Replay,
    pub sinks: Sinks,
    /// Tries dead letters of sources again.
    pub again: Again,
    pub in_hand: InHand,
    pub forgetting: Forgetting,
    pub streams: Streams,
    /// The sources that cannot receive at the moment.
    pub not_connected: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    pub verify: Verify,
    /// The node's own members of the status document: an object.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// Which of the routes a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    All,
    /// Events in, entities and decisions out.
    Public,
    /// The node itself: status, metrics, dead letters, and whatever changes it.
    Admin,
}

/// The interface's routes, for one listener.
pub fn configure(api: web::Data<Api>, routes: Routes) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let mut scope = web::scope("")
            .wrap(from_fn(super::guard::guard))
            .service(readable("/healthz", status::healthz))
            .service(readable("/readyz", status::readyz))
            .service(readable("/v1/openapi.json", openapi::show));

        if routes != Routes::Public {
            scope = scope.configure(|config| by_hand(config, routes));
        }
        if routes != Routes::Admin {
            scope = scope
                .service(
                    web::resource(EVENTS_ROUTE)
                        .route(web::post().to(events::post_events))
                        .default_service(web::to(|| method_not_allowed("POST"))),
                )
                .service(readable("/v1/entities", entities::types))
                .service(readable("/v1/entities/{type}", entities::page))
                .service(one_entity(routes))
                .service(readable("/v1/entities/{type}/{key}/events/{id}", entity::event_status))
                .service(readable("/v1/entities/{type}/{key}/history", history::of_entity))
                .service(readable("/v1/correlations/{id}", history::of_correlation))
                .service(readable("/v1/decisions", decisions::since))
                .service(
                    web::resource("/v1/stream")
                        .route(web::get().to(streams::connect))
                        .default_service(web::to(|| method_not_allowed("GET"))),
                )
                .service(
                    web::resource("/v1/export/entities")
                        .route(web::get().to(export::entities))
                        .default_service(web::to(|| method_not_allowed("GET"))),
                )
                .service(
                    web::resource("/v1/export/decisions")
                        .route(web::get().to(export::decisions))
                        .default_service(web::to(|| method_not_allowed("GET"))),
                );
            for path in &api.paths {
                scope = scope.service(receiving(path));
            }
        }
        if routes != Routes::Public {
            scope = scope
                .service(readable("/v1/forgotten", forget::page))
                .service(readable("/v1/dead-letters", dead_letters::page))
                .service(
                    web::resource("/v1/dead-letters/{id}")
                        .route(web::get().to(dead_letters::show))
                        .route(web::head().to(dead_letters::show))
                        .route(web::delete().to(retry::drop_one))
                        .default_service(web::to(|| method_not_allowed("GET, HEAD, DELETE"))),
                )
                .service(readable("/v1/sources", sources::list))
                .service(postable("/v1/sources/{name}/rewind", sources::rewind))
                .service(postable("/v1/replay", replay::post))
                .service(postable("/v1/backup", backup::make))
                .service(
                    postable("/v1/verify", verify::verify).app_data(web::PayloadConfig::new(verify::BODY_BYTES_MAX)),
                )
                .service(postable("/v1/verify/against", verify::against))
                .service(readable("/v1/status", status::node))
                .service(readable("/metrics", status::metrics));
        }
        if routes == Routes::Admin {
            scope = scope.service(one_entity(routes));
        }
        config.app_data(api).service(scope.default_service(web::to(not_found)));
    }
}

/// What is asked for by hand. Before all others: a key may be called `pause`, too, and is read at the same place.
fn by_hand(config: &mut web::ServiceConfig, routes: Routes) {
    let entity = if routes == Routes::Admin { "DELETE, POST" } else { "GET, HEAD, DELETE, POST" };
    config
        .service(beside("/v1/entities/{type}/pause", entity, pausing::pause_type))
        .service(beside("/v1/entities/{type}/resume", entity, pausing::resume_type))
        .service(postable("/v1/entities/{type}/{key}/pause", pausing::pause))
        .service(postable("/v1/entities/{type}/{key}/resume", pausing::resume))
        .service(readable("/v1/paused", pausing::page))
        .service(postable("/v1/entities/{type}/{key}/effects/{effect}/resolve", effects::resolve))
        .service(postable("/v1/entities/{type}/{key}/effects/{effect}/retry", effects::retry))
        .service(readable("/v1/effects", effects::page))
        .service(beside("/v1/dead-letters/retry", "GET, HEAD, DELETE, POST", retry::retry_several))
        .service(postable("/v1/dead-letters/{id}/retry", retry::retry))
        .service(postable("/v1/sinks/{name}/skip", sinks::skip))
        .service(readable("/v1/sinks", sinks::list));
}

/// A resource for POST at a path where the others of the methods `known` lead to another one.
fn beside<F, Args>(path: &str, known: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let is_ours = move |asked: &guard::GuardContext<'_>| {
        let method = &asked.head().method;
        method == Method::POST || known.split(", ").all(|other| other != method.as_str())
    };
    web::resource(path)
        .guard(guard::fn_guard(is_ours))
        .route(web::post().to(handler))
        .default_service(web::to(move || method_not_allowed(known)))
}

/// An entity: read by those who may ask, deleted by those who may change the node.
fn one_entity(routes: Routes) -> Resource {
    let mut entity = web::resource("/v1/entities/{type}/{key}");
    if routes != Routes::Admin {
        entity = entity.route(web::get().to(entity::show)).route(web::head().to(entity::show));
    }
    if routes != Routes::Public {
        entity = entity.route(web::delete().to(forget::forget));
    }
    let known = match routes {
        Routes::All => "GET, HEAD, DELETE",
        Routes::Public => "GET, HEAD",
        Routes::Admin => "DELETE",
    };
    entity.default_service(web::to(move || method_not_allowed(known)))
}

/// The resource of a source.
fn receiving(path: &Arc<Path>) -> Resource {
    let own = path.clone();
    let post = move |api, request, payload| inboxes::post(api, own.clone(), request, payload);
    web::resource(path.inbox.path.as_str())
        .route(web::post().to(post))
        .default_service(web::to(|| method_not_allowed("POST")))
}

/// A resource that is posted to and nothing else.
fn postable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(web::to(|| method_not_allowed("POST")))
}

/// A resource that is read and nothing else.
fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(|| method_not_allowed("GET, HEAD")))
}
