//! Starting the sources: addresses are bound before anything else can fail late, and served once the node is ready.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::nats_sources::NatsSources;
use super::start::NodeError;
use super::told::Describe;
use crate::actors::Shards;
use crate::config::{self, Address, Config, HTTP_SOURCE, Limits, Source, SourceKind};
use crate::ingress::{
    Admission, Decoder, Door, Ledger, Phase, SourceMetrics, SqlControl, SqlSetup, TcpSource, sql_source,
};
use crate::trust::Certificates;

/// A bound listener of a source.
pub(super) struct Bound<'c> {
    pub source: &'c Source,
    pub door: &'c config::Door,
    pub listener: TcpListener,
    pub address: SocketAddr,
    pub certificates: Option<Arc<Certificates>>,
}

impl Bound<'_> {
    /// The source as the status document shows it.
    pub fn status(&self) -> serde_json::Value {
        serde_json::json!({ "name": self.source.name.value, "kind": "tcp", "listen": self.address.to_string() })
    }
}

/// Binds the address of every source that listens by itself.
pub(super) fn bind_all(config: &Config) -> Result<Vec<Bound<'_>>, NodeError> {
    let mut bound = Vec::new();
    for source in &config.sources {
        let SourceKind::Tcp { listen, door } = &source.kind else { continue };
        let (listener, address) = bind(&listen.value)?;
        bound.push(Bound { source, door, listener, address, certificates: certificates(door)? });
    }
    Ok(bound)
}

/// Reads the certificates of a listener that has some.
pub(super) fn certificates(door: &config::Door) -> Result<Option<Arc<Certificates>>, NodeError> {
    let files = door.tls.clone();
    let certificates = files.map(Certificates::load).transpose();
    let certificates = certificates.map_err(|source| NodeError::Start { what: "TLS", source })?;
    Ok(certificates.map(Arc::new))
}

pub(super) fn bind(address: &Address) -> Result<(TcpListener, SocketAddr), NodeError> {
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
    decoders: &mut HashMap<String, Decoder>,
    admission: &Arc<Admission>,
    limits: &Limits,
    phase: watch::Receiver<Phase>,
    runtime: &Runtime,
) -> Result<JoinHandle<()>, NodeError> {
    let _inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(bound.listener)
        .map_err(|source| NodeError::Listen { address: bound.address.to_string(), source })?;
    let metrics = SourceMetrics::new(&admission.metrics, &bound.source.name.value);
    let source = TcpSource {
        name: bound.source.name.value.clone(),
        admission: admission.clone(),
        decoder: take_decoder(decoders, &bound.source.name.value)?,
        door: Door::new(bound.certificates, limits, metrics.connections.clone()),
        tokens: bound.door.all_tokens(),
        limits: limits.clone(),
        metrics,
        phase,
        dismissed: AtomicUsize::new(0),
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

/// A function that describes all sources: those that listen, then those that ask.
pub(super) fn listed(listening: Vec<serde_json::Value>, polled: &Polled, messages: &NatsSources) -> Describe {
    let polled: BTreeMap<_, _> = polled.controls.clone().into_iter().collect();
    let messages = messages.status();
    Arc::new(move || {
        let asking = polled.values().map(SqlControl::status).chain(messages());
        listening.iter().cloned().chain(asking).collect()
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

/// The decoders of sources whose refusals become dead letters, for trying those again.
pub(super) fn with_letters(config: &Config, decoders: &HashMap<String, Decoder>) -> HashMap<String, Decoder> {
    let has_letters = |kind: &SourceKind| matches!(kind, SourceKind::Sql(_) | SourceKind::Nats(_));
    let names = config.sources.iter().filter(|source| has_letters(&source.kind)).map(|source| &source.name.value);
    names.filter_map(|name| Some((name.clone(), decoders.get(name)?.clone()))).collect()
}

/// The name of the source that HTTP is.
pub(super) const HTTP: &str = HTTP_SOURCE;
