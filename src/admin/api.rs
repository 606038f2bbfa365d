//! What the interface stands on, its routes, and the server.

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::{Handler, Server};
use actix_web::middleware::from_fn;
use actix_web::{App, FromRequest, HttpServer, Resource, Responder, web};
use prometheus::IntGauge;
use tokio::sync::watch;

use super::guard::guard;
use super::problem::{method_not_allowed, not_found};
use super::sources::{self, Sources};
use super::{dead_letters, decisions, entities, entity, events, status};
use crate::actors::Shards;
use crate::config::{Limits, Secret};
use crate::ingress::{Admission, Decoder, SourceMetrics};
use crate::journal::JournalReader;
use crate::metrics::Metrics;
use crate::model::ids::Lsn;
use crate::model::record::Record;
use crate::rules::Ruleset;
use crate::store::Store;

/// Threads that answer requests. Entities are asked on their shards' threads, so more would only take their cores.
const WORKERS: usize = 2;
/// Seconds that requests under way have when the server is stopped.
const SHUTDOWN_SECONDS: u64 = 2;

/// Ends the process.
pub type Fatal = Arc<dyn Fn(&dyn Error) + Send + Sync>;
/// Renders the decisions of a committed record as CloudEvents: one JSON document each, in the record's order.
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
    pub store: Store,
    pub journal: JournalReader,
    pub ruleset: Arc<Ruleset>,
    pub metrics: Arc<Metrics>,
    /// What requests must show, if anything.
    pub token: Option<Secret>,
    pub limits: Limits,
    /// Position of the last committed record, told after the shards were told of it.
    pub committed: watch::Receiver<Lsn>,
    pub state: watch::Receiver<NodeState>,
    pub render_decisions: RenderDecisions,
    /// Ends the process, when journal or store cannot be read.
    pub fatal: Fatal,
    pub sources: Sources,
    /// The node's own members of the status document: an object.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// The interface's routes.
pub fn configure(api: web::Data<Api>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let routes = web::scope("")
            .wrap(from_fn(guard))
            .service(
                web::resource("/v1/events")
                    .route(web::post().to(events::post_events))
                    .default_service(web::to(|| method_not_allowed("POST"))),
            )
            .service(readable("/v1/entities", entities::types))
            .service(readable("/v1/entities/{type}", entities::page))
            .service(readable("/v1/entities/{type}/{key}", entity::show))
            .service(readable("/v1/entities/{type}/{key}/events/{id}", entity::event_status))
            .service(readable("/v1/decisions", decisions::since))
            .service(readable("/v1/dead-letters", dead_letters::page))
            .service(readable("/v1/dead-letters/{id}", dead_letters::show))
            .service(readable("/v1/sources", sources::list))
            .service(
                web::resource("/v1/sources/{name}/rewind")
                    .route(web::post().to(sources::rewind))
                    .default_service(web::to(|| method_not_allowed("POST"))),
            )
            .service(readable("/v1/status", status::node))
            .service(readable("/healthz", status::healthz))
            .service(readable("/readyz", status::readyz))
            .service(readable("/metrics", status::metrics))
            .default_service(web::to(not_found));
        config.app_data(api).service(routes);
    }
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

/// Starts the server on `listener`; it ends when its handle stops it, and heeds no signals.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(api: Arc<Api>, listener: TcpListener) -> std::io::Result<Server> {
    let connections_max = usize::try_from(api.limits.connections_max).unwrap_or(usize::MAX);
    let open = api.source.connections.clone();
    let api = web::Data::from(api);
    let server = HttpServer::new(move || App::new().configure(configure(api.clone())))
        .workers(WORKERS)
        .max_connections(connections_max.div_ceil(WORKERS))
        .on_connect(move |_, extensions| {
            extensions.insert(OpenConnection::counted(open.clone()));
        })
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .listen(listener)?;
    Ok(server.run())
}

/// Counts a connection as long as it is open.
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn counted(open: IntGauge) -> Self {
        open.inc();
        OpenConnection(open)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
