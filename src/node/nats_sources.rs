//! Starting the sources over NATS: connected in the background, asked for messages once the node is ready.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::sources::take_decoder;
use super::start::NodeError;
use crate::actors::Shards;
use crate::admin::answer;
use crate::config::{Config, NatsFrom, SourceKind};
use crate::ingress::{Admission, Bury, Decoder, Link, NatsSetup, NatsSource, Phase};
use crate::model::ids::EntityKey;
use crate::model::record::Input;
use crate::model::system::DEAD_LETTER_KIND;

/// The sources over NATS.
pub(super) struct NatsSources(Vec<Connected>);

struct Connected {
    shown: Shown,
    source: NatsSource,
}

/// What people are shown of a source.
#[derive(Clone)]
struct Shown {
    name: String,
    servers: Vec<String>,
    from: NatsFrom,
    link: Arc<Link>,
}

impl NatsSources {
    /// Prepares all that are configured; nothing is received yet.
    pub async fn connect(
        config: &Config,
        decoders: &mut HashMap<String, Decoder>,
        admission: &Arc<Admission>,
        shards: &Shards,
        phase: &watch::Sender<Phase>,
        runtime: &Runtime,
    ) -> Result<NatsSources, NodeError> {
        let mut sources = Vec::new();
        for source in &config.sources {
            let SourceKind::Nats(declared) = &source.kind else { continue };
            let name = source.name.value.clone();
            let metrics = &admission.metrics.sources;
            let link = Arc::new(Link::new(
                metrics.up.with_label_values(&[&name]),
                metrics.dropped.with_label_values(&[&name]),
                metrics.lag.with_label_values(&[&name]),
            ));
            let servers = declared.connection.servers.clone();
            let shown = Shown { name: name.clone(), servers, from: declared.from.clone(), link: link.clone() };
            let setup = NatsSetup {
                name: name.clone(),
                declared: (**declared).clone(),
                admission: admission.clone(),
                decoder: take_decoder(decoders, &name)?,
                bury: burying(shards.clone()),
                answer: Arc::new(answer),
                link,
                phase: phase.subscribe(),
            };
            // On the threads that the rest of the network is on.
            let connected = runtime.spawn(NatsSource::connect(setup)).await.map_err(std::io::Error::other);
            let connected = connected.and_then(|connected| connected);
            let source = connected.map_err(|source| NodeError::Source { name, source })?;
            sources.push(Connected { shown, source });
        }
        Ok(NatsSources(sources))
    }

    /// A function that describes them for the status document.
    pub fn status(&self) -> impl Fn() -> Vec<Value> + Send + Sync + use<> {
        let shown = self.shown();
        move || shown.iter().map(Shown::status).collect()
    }

    /// A function that names those that cannot receive.
    pub fn not_connected(&self) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
        let shown = self.shown();
        Arc::new(move || {
            shown.iter().filter(|shown| shown.link.problem().is_some()).map(|shown| shown.name.clone()).collect()
        })
    }

    fn shown(&self) -> Vec<Shown> {
        self.0.iter().map(|connected| connected.shown.clone()).collect()
    }

    /// Lets them receive until the node drains.
    pub fn start(self, out: &mut impl Write, runtime: &Runtime) -> Vec<JoinHandle<()>> {
        let start = |Connected { shown, source }| {
            let _ = writeln!(out, "source {} receiving from {}", shown.name, shown.servers.join(", "));
            runtime.spawn(source.run())
        };
        self.0.into_iter().map(start).collect()
    }
}

impl Shown {
    fn status(&self) -> Value {
        let problem = self.link.problem();
        let mut status = json!({ "name": self.name, "kind": "nats", "connected": problem.is_none() });
        if let NatsFrom::Stream { stream, consumer } = &self.from {
            status["stream"] = stream.as_str().into();
            status["consumer"] = consumer.as_str().into();
            status["lag"] = self.link.lag.get().into();
        }
        if let Some(problem) = problem {
            status["problem"] = problem.into();
        }
        status
    }
}

fn burying(shards: Shards) -> Bury {
    Arc::new(move |letter| {
        let entity = EntityKey::new(DEAD_LETTER_KIND, letter.origin.key());
        shards.note(entity, Input::DeadLetter(Box::new(letter)))
    })
}
