//! Messages of a stream: asks its consumer for as many as there is room for, again before the last of them has come.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};

use super::batch::{BATCH_MESSAGES_MAX, Batch};
use super::consumer::{attach, told};
use super::message::Received;
use super::source::{Ended, MESSAGES_MAX, NatsSource};
use crate::ingress::tcp::draining;

/// The most messages that are asked for at once.
const ASKED_MAX: usize = MESSAGES_MAX / 4;
/// The most bytes of what is asked for at once; but the largest message that the server takes must fit.
const ASKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What headers and subject may add to the largest payload.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// How long the server keeps a question.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is there while it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A server that is silent for so long has forgotten what it was asked.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// How often it is asked how many messages there are.
const LOOK_EVERY: Duration = Duration::from_secs(5);

const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// Takes messages until something ends it.
pub(super) async fn receive(source: &NatsSource, stream: &str, consumer: &str) -> Ended {
    let mut phase = source.phase.clone();
    let attached = async {
        let connection = source.link.connected().await;
        let subjects = &source.declared.subjects;
        (connection, attach(&source.client, stream, consumer, subjects).await)
    };
    let (connection, consumer) = tokio::select! {
        biased;
        () = draining(&mut phase) => return Ended::Draining,
        (connection, attached) = attached => match attached {
            Ok(consumer) => (connection, consumer),
            Err(problem) => return Ended::Problem(problem),
        },
    };
    let inbox = Subject::from(source.client.new_inbox());
    let messages = match source.client.subscribe(inbox.clone()).await {
        Ok(messages) => messages,
        Err(error) => return Ended::Problem(told("an inbox", &error)),
    };
    if source.link.set_problem(None) {
        tracing::info!(source = %source.name, "receives messages");
    }
    source.link.lag.set(i64::try_from(consumer.cached_info().num_pending).unwrap_or(i64::MAX));
    let config = &consumer.cached_info().config;
    let limit = |limit: i64| usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let expires = [config.max_expires, EXPIRES].into_iter().filter(|limit| !limit.is_zero()).min().unwrap_or(EXPIRES);
    let bytes_max = ASKED_BYTES_MAX.max(source.client.max_payload() + HEADERS_BYTES_MAX);
    let mut pulling = Pulling {
        source,
        ask: BatchConfig {
            batch: limit(config.max_batch).map_or(ASKED_MAX, |limit| limit.min(ASKED_MAX)),
            expires: Some(expires),
            max_bytes: limit(config.max_bytes).map_or(bytes_max, |limit| limit.min(bytes_max)),
            // The server takes none that is longer than half the time.
            idle_heartbeat: HEARTBEAT.min(expires / 2),
            ..BatchConfig::default()
        },
        consumer: consumer.clone(),
        inbox,
        messages,
        asked: 0,
        heard: Instant::now(),
        connection,
    };
    tokio::select! {
        ended = pulling.run() => ended,
        () = watch_lag(source, consumer) => Ended::Disconnected,
    }
}

/// Asks how many messages there are; while some come, they tell it themselves.
async fn watch_lag(source: &NatsSource, mut consumer: PullConsumer) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Ok(info) = consumer.info().await {
            source.link.lag.set(i64::try_from(info.num_pending).unwrap_or(i64::MAX));
        }
    }
}

struct Pulling<'s> {
    source: &'s NatsSource,
    consumer: PullConsumer,
    ask: BatchConfig,
    inbox: Subject,
    messages: Subscriber,
    /// How many messages were asked for and have not come.
    asked: usize,
    /// When the server was heard of last.
    heard: Instant,
    connection: u64,
}

impl Pulling<'_> {
    async fn run(&mut self) -> Ended {
        let source = self.source;
        let mut phase = source.phase.clone();
        loop {
            if !source.hand.admission.gate.is_open() {
                // What is in the inbox already waits behind the gate, too.
                tokio::select! {
                    biased;
                    () = draining(&mut phase) => return Ended::Draining,
                    () = source.link.gone(self.connection) => return Ended::Disconnected,
                    () = source.hand.admission.gate.opened() => self.heard = Instant::now(),
                }
            }
            if let Err(problem) = self.ask().await {
                return Ended::Problem(problem);
            }
            let (few, room) = (self.asked < self.least(), self.asked + self.least());
            tokio::select! {
                biased;
                () = draining(&mut phase) => return Ended::Draining,
                () = source.link.gone(self.connection) => return Ended::Disconnected,
                message = self.messages.next() => {
                    let taken = match message {
                        Some(message) => self.take(message).await,
                        None => Err("the inbox has ended".to_owned()),
                    };
                    if let Err(problem) = taken {
                        return Ended::Problem(problem);
                    }
                }
                () = source.hand.has_room(room), if few => {}
                () = tokio::time::sleep_until((self.heard + SILENCE_MAX).into()), if self.asked > 0 => {
                    return Ended::Problem("the server has not answered for a while".to_owned());
                }
            }
        }
    }

    /// It is asked again once no more than this are to come, and for no fewer.
    fn least(&self) -> usize {
        self.ask.batch.div_ceil(2)
    }

    /// Asks for more, if few are to come and there is room.
    async fn ask(&mut self) -> Result<(), String> {
        let room = self.source.hand.free().saturating_sub(self.asked);
        if self.asked >= self.least() || room < self.least() {
            return Ok(());
        }
        let ask = BatchConfig { batch: room.min(self.ask.batch), ..self.ask.clone() };
        if self.asked == 0 {
            self.heard = Instant::now();
        }
        self.asked += ask.batch;
        let asked = self.consumer.request_batch(ask, self.inbox.clone()).await;
        asked.map_err(|error| told("messages cannot be asked for", &error))
    }

    /// Takes a message and those that have come with it.
    async fn take(&mut self, first: Message) -> Result<(), String> {
        let mut batch = Batch::new(self.source);
        let mut taken = self.add(first, &mut batch).await;
        for _ in 1..BATCH_MESSAGES_MAX {
            if taken.is_err() {
                break;
            }
            let Some(Some(message)) = self.messages.next().now_or_never() else { break };
            taken = self.add(message, &mut batch).await;
        }
        batch.finish();
        // It may have taken its time behind the credits; that was not the server's.
        self.heard = Instant::now();
        taken
    }

    async fn add(&mut self, message: Message, batch: &mut Batch<'_>) -> Result<(), String> {
        match message.status.map(|status| status.as_u16()) {
            None | Some(200) => {
                self.asked = self.asked.saturating_sub(1);
                // One that is not from a stream is nothing we asked for.
                if let Some((message, behind)) = Received::of_stream(message) {
                    self.source.link.lag.set(i64::try_from(behind).unwrap_or(i64::MAX));
                    batch.add(message).await;
                }
                Ok(())
            }
            Some(status) => self.told(status, &message),
        }
    }

    /// What the server says instead of a message.
    fn told(&mut self, status: u16, message: &Message) -> Result<(), String> {
        let description = message.description.as_deref().unwrap_or_default();
        let left = message.headers.as_ref().and_then(|headers| headers.get(PENDING_MESSAGES));
        match (status, left.and_then(|left| left.as_str().parse::<usize>().ok())) {
            (100, _) => Ok(()),
            (503, _) => Err("nobody answers for the consumer: is JetStream on, and is the stream there?".to_owned()),
            // A question that is over: so many will not come.
            (404 | 408 | 409, Some(left)) => {
                self.asked = self.asked.saturating_sub(left);
                Ok(())
            }
            (408, None) => {
                self.asked = 0;
                Ok(())
            }
            _ => Err(format!("the server says {status} {description}")),
        }
    }
}
