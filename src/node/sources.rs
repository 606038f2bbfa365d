//! Starting the sources: addresses are bound before anything else can fail late, and served once the node is ready.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::start::NodeError;
use crate::actors::Shards;
use crate::config::{Address, Config, HTTP_SOURCE, Limits, Secret, Source, SourceKind};
use crate::ingress::{Admission, Decoder, Ledger, Phase, SourceMetrics, SqlControl, SqlSetup, TcpSource, sql_source};

/// A bound listener of a source.
pub(super) struct Bound<'c> {
    pub source: &'c Source,
    pub kind: Kind<'c>,
    pub listener: TcpListener,
    pub address: SocketAddr,
}

/// What is served on it.
#[derive(Clone, Copy)]
pub(super) enum Kind<'c> {
    Http,
    Tcp(&'c Option<Secret>),
}

impl Bound<'_> {
    /// The source as the status document shows it.
    pub fn status(&self) -> serde_json::Value {
        let kind = match self.kind {
            Kind::Http => "http",
            Kind::Tcp(_) => "tcp",
        };
        serde_json::json!({ "name": self.source.name.value, "kind": kind, "listen": self.address.to_string() })
    }
}

/// Binds the address of every source.
pub(super) fn bind_all(config: &Config) -> Result<Vec<Bound<'_>>, NodeError> {
    let mut bound = Vec::new();
    for source in &config.sources {
        let (kind, address) = match &source.kind {
            SourceKind::Tcp { listen, token } => (Kind::Tcp(token), &listen.value),
            SourceKind::Http => match &config.server.http.value {
                Some(address) => (Kind::Http, address),
                None => continue,
            },
            SourceKind::Sql(_) => continue,
        };
        let (listener, address) = bind(address)?;
        bound.push(Bound { source, kind, listener, address });
    }
    Ok(bound)
}

fn bind(address: &Address) -> Result<(TcpListener, SocketAddr), NodeError> {
    let bound = TcpListener::bind((address.host.as_str(), address.port)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| NodeError::Listen { address: address.to_string(), source })
}

/// Serves a TCP source.
pub(super) fn serve_tcp(
    bound: Bound<'_>,
    token: Option<Secret>,
    decoders: &mut HashMap<String, Decoder>,
    admission: &Arc<Admission>,
    limits: &Limits,
    phase: watch::Receiver<Phase>,
    runtime: &Runtime,
) -> Result<JoinHandle<()>, NodeError> {
    let _inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(bound.listener)
        .map_err(|source| NodeError::Listen { address: bound.address.to_string(), source })?;
    let source = TcpSource {
        name: bound.source.name.value.clone(),
        admission: admission.clone(),
        decoder: take_decoder(decoders, &bound.source.name.value)?,
        token,
        limits: limits.clone(),
        metrics: SourceMetrics::new(&admission.metrics, &bound.source.name.value),
        phase,
        connections: AtomicU64::new(0),
    };
    Ok(runtime.spawn(Arc::new(source).run(listener)))
}

/// Starts the sources that ask for their events.
pub(super) fn start_polling(
    config: &Config,
    decoders: &mut HashMap<String, Decoder>,
    admission: &Arc<Admission>,
    shards: &Shards,
    phase: &watch::Sender<Phase>,
    runtime: &Runtime,
) -> Result<Polled, NodeError> {
    let mut polled = Polled { tasks: Vec::new(), controls: HashMap::new() };
    for source in &config.sources {
        let SourceKind::Sql(sql) = &source.kind else { continue };
        let name = source.name.value.clone();
        let (noting, reading) = (shards.clone(), shards.clone());
        let ledger = Ledger {
            note: Box::new(move |entity, input| noting.note(entity, input)),
            read: Box::new(move |entity| {
                let shards = reading.clone();
                Box::pin(async move { shards.read(&entity).await?.state.system.map(|system| *system) })
            }),
        };
        let (task, control) = sql_source(SqlSetup {
            name: name.clone(),
            source: (**sql).clone(),
            admission: admission.clone(),
            decoder: take_decoder(decoders, &name)?,
            ledger,
            phase: phase.subscribe(),
        });
        polled.tasks.push(runtime.spawn(task));
        polled.controls.insert(name, control);
    }
    Ok(polled)
}

/// The sources that ask for their events.
pub(super) struct Polled {
    pub tasks: Vec<JoinHandle<()>>,
    pub controls: HashMap<String, SqlControl>,
}

/// A function that describes all sources, in the order of the configuration.
pub(super) fn listed(
    config: &Config,
    bound: &[Bound<'_>],
    polled: &Polled,
) -> Arc<dyn Fn() -> serde_json::Value + Send + Sync> {
    let find = |source: &Source| {
        let bound = bound.iter().find(|bound| bound.source.name.value == source.name.value).map(Bound::status);
        (bound, polled.controls.get(&source.name.value).cloned())
    };
    let sources: Vec<_> = config.sources.iter().map(find).collect();
    Arc::new(move || {
        let shown = sources
            .iter()
            .filter_map(|(bound, polled)| polled.as_ref().map(SqlControl::status).or_else(|| bound.clone()));
        shown.collect()
    })
}

/// The decoder of a source.
pub(super) fn take_decoder(decoders: &mut HashMap<String, Decoder>, source: &str) -> Result<Decoder, NodeError> {
    let missing = || NodeError::Start {
        what: "a source",
        source: std::io::Error::other(format!("source `{source}` was not prepared")),
    };
    decoders.remove(source).ok_or_else(missing)
}

/// The name of the source that HTTP is.
pub(super) const HTTP: &str = HTTP_SOURCE;
