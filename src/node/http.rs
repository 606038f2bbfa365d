//! The listeners of HTTP: bound before recovery, which they tell of, and served once the node is ready.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::web;

use super::rebuild::Progress;
use super::sources::{HTTP, bind};
use super::start::NodeError;
use crate::admin::{self, Api, HttpServer, Path, Routes, Stop, configure, configure_recovering};
use crate::config::{Config, Limits, SourceKind};
use crate::ingress::{Door, Inbox, SourceMetrics};
use crate::metrics::Metrics;
use crate::trust::{Certificates, Tokens};

/// The listeners, and what they have in common.
pub(super) struct Http {
    listeners: Vec<Listener>,
    pub certificates: Option<Arc<Certificates>>,
    tokens: Tokens,
}

struct Listener {
    bound: TcpListener,
    address: SocketAddr,
    routes: Routes,
}

impl Http {
    /// Binds the addresses, if HTTP is on.
    pub fn bind(config: &Config) -> Result<Option<Self>, NodeError> {
        let server = &config.server;
        let Some(address) = &server.http.value else { return Ok(None) };
        let public = if server.admin.is_some() { Routes::Public } else { Routes::All };
        let mut listeners = Vec::new();
        let admin = server.admin.iter().map(|admin| (&admin.value, Routes::Admin));
        for (address, routes) in [(address, public)].into_iter().chain(admin) {
            let (bound, address) = bind(address)?;
            listeners.push(Listener { bound, address, routes });
        }
        let certificates = super::sources::certificates(&server.door)?;
        Ok(Some(Http { listeners, certificates, tokens: server.door.all_tokens() }))
    }

    /// The source `http`, and those that are paths of it, as the status document shows them.
    pub fn status(&self, config: &Config) -> Vec<serde_json::Value> {
        let Some(public) = self.listeners.first() else { return Vec::new() };
        let listen = public.address.to_string();
        let paths = config.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Inbox(inbox) => Some((&source.name.value, &inbox.path.value)),
            _ => None,
        });
        let paths = paths
            .map(|(name, path)| serde_json::json!({ "name": name, "kind": "http", "listen": listen, "path": path }));
        let http = serde_json::json!({ "name": HTTP, "kind": "http", "listen": listen });
        [http].into_iter().chain(paths).collect()
    }

    /// Says that the node is alive and not ready, until the servers are stopped.
    pub fn serve_recovering(
        &self,
        metrics: &Arc<Metrics>,
        limits: &Limits,
        progress: &Arc<Progress>,
    ) -> Result<Vec<HttpServer>, NodeError> {
        let progress = progress.clone();
        let told: admin::Told = Arc::new(move || progress.line().map(|line| (line, progress.document())));
        let routes = configure_recovering(metrics.clone(), self.tokens.clone(), told);
        let open = metrics.sources.connections.with_label_values(&[HTTP]);
        let served = self.listeners.iter().map(|listener| {
            let bound = listener.bound.try_clone().map_err(|source| listener.failed(source))?;
            let door = Door::new(self.certificates.clone(), limits, open.clone());
            let server = admin::serve(bound, door, limits, routes.clone());
            server.map_err(|source| listener.failed(source))
        });
        served.collect()
    }

    /// Serves the interface; says where on `out`.
    pub fn serve(self, api: Api, out: &mut impl Write) -> Result<Vec<HttpServer>, NodeError> {
        let api = web::Data::new(api);
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        let mut servers = Vec::new();
        for listener in self.listeners {
            let name = if listener.routes == Routes::Admin { "admin" } else { HTTP };
            let _ = writeln!(out, "{name} listening on {scheme}://{}", listener.address);
            let door = Door::new(self.certificates.clone(), &api.limits, api.source.connections.clone());
            let (address, routes, told) = (listener.address, listener.routes, api.clone());
            let server = admin::serve(listener.bound, door, &api.limits, move |config| {
                configure(told.clone(), routes)(config);
            });
            servers.push(server.map_err(|source| NodeError::Listen { address: address.to_string(), source })?);
        }
        Ok(servers)
    }
}

impl Listener {
    fn failed(&self, source: std::io::Error) -> NodeError {
        NodeError::Listen { address: self.address.to_string(), source }
    }
}

/// The sources that are paths, each with what it counts.
pub(super) fn paths(inboxes: Vec<Inbox>, metrics: &Metrics) -> Vec<Arc<Path>> {
    let path = |inbox: Inbox| Path { metrics: SourceMetrics::new(metrics, &inbox.name), inbox };
    inboxes.into_iter().map(|inbox| Arc::new(path(inbox))).collect()
}

/// Ends servers; their listeners are closed at once, all of them.
pub(super) async fn stop(servers: Vec<HttpServer>, how: Stop) {
    futures_util::future::join_all(servers.into_iter().map(|server| server.stop(how))).await;
}
