//! A source of kind `nats`: connects, receives until the node drains, and then acknowledges what was taken.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use tokio::sync::{oneshot, watch};

use super::hand::Hand;
use super::link::Link;
use super::{live, pull, teller};
use crate::config::{NatsFrom, NatsSource as Declared};
use crate::connect::nats_options;
use crate::ingress::admission::{Admission, SourceMetrics};
use crate::ingress::decode::Decoder;
use crate::ingress::listener::Phase;
use crate::ingress::tcp::{FAREWELL_PATIENCE, draining};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::settle::EventOutcome;
use crate::model::system::DeadLetter;

/// The most messages that may be in hand: received, and not known to be acknowledged.
pub(super) const MESSAGES_MAX: usize = 4096;
/// Messages that may lie unread in the client. What a stream delivers is asked for and never more than may be in hand.
const UNREAD_MAX: usize = MESSAGES_MAX + 1024;
/// Pauses after something stood in the way: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Records a dead letter; answers once it is durable.
pub type Bury = Arc<dyn Fn(DeadLetter) -> oneshot::Receiver<Lsn> + Send + Sync>;
/// The answer to a request that became this, at these entities.
pub type Answer = Arc<dyn Fn(EventOutcome, Vec<EntityKey>) -> Vec<u8> + Send + Sync>;

/// What a source needs.
pub struct NatsSetup {
    pub name: String,
    pub declared: Declared,
    pub admission: Arc<Admission>,
    pub decoder: Decoder,
    pub bury: Bury,
    pub answer: Answer,
    pub link: Arc<Link>,
    pub phase: watch::Receiver<Phase>,
}

/// The source.
pub struct NatsSource {
    pub(super) name: Arc<str>,
    pub(super) declared: Declared,
    pub(super) client: Client,
    pub(super) decoder: Decoder,
    pub(super) link: Arc<Link>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) hand: Arc<Hand>,
}

/// Why nothing more is received for now.
pub(super) enum Ended {
    /// The node is on its way out.
    Draining,
    /// The connection was lost.
    Disconnected,
    /// Something people may have to mend.
    Problem(String),
}

impl NatsSource {
    /// A source that connects in the background, now and whenever it has to; nothing is received yet.
    ///
    /// # Errors
    /// When a file of the configuration cannot be read, or an address is none.
    pub async fn connect(setup: NatsSetup) -> io::Result<Self> {
        let NatsSetup { name, declared, admission, decoder, bury, answer, link, phase } = setup;
        let name: Arc<str> = name.into();
        let seen = link.clone();
        let options = nats_options(&format!("source {name}"), &declared.connection, move |event| seen.heard(event))?;
        let connecting = options.subscription_capacity(UNREAD_MAX).connect(&declared.connection.servers[..]);
        let client = connecting.await.map_err(io::Error::other)?;
        let metrics = SourceMetrics::new(&admission.metrics, &name);
        let hand = Arc::new(Hand::new(name.clone(), admission, metrics, bury, answer));
        Ok(NatsSource { name, declared, client, decoder, link, phase, hand })
    }

    /// Receives until the node drains; returns once what was taken is acknowledged, as far as time allows.
    pub async fn run(self) {
        let telling = tokio::spawn(teller::tell(self.hand.clone(), self.client.clone()));
        let mut pause = PAUSES.0;
        loop {
            let began = Instant::now();
            let ended = match &self.declared.from {
                NatsFrom::Stream { stream, consumer } => pull::receive(&self, stream, consumer).await,
                NatsFrom::Core { queue } => live::receive(&self, queue.as_deref()).await,
            };
            if began.elapsed() > PAUSES.1 {
                pause = PAUSES.0;
            }
            match ended {
                Ended::Draining => break,
                Ended::Disconnected => {}
                Ended::Problem(problem) => {
                    if self.link.set_problem(Some(problem.clone())) {
                        tracing::warn!(source = %self.name, "nothing can be received, trying again and again: {problem}");
                    }
                }
            }
            let mut phase = self.phase.clone();
            let _ = tokio::time::timeout(pause, draining(&mut phase)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        let told = async {
            self.hand.emptied().await;
            let _ = self.client.flush().await;
        };
        if self.link.problem().is_none() {
            let _ = tokio::time::timeout(FAREWELL_PATIENCE, told).await;
        }
        telling.abort();
    }
}
