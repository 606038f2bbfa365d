//! Tells NATS what became of messages, and hears that it knows: of those that are told together the last one is to be
//! confirmed, and since the server takes them in order, it then has all of them. What is not confirmed is delivered again,
//! and counts once.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::hand::{Hand, Tell};

const ACKNOWLEDGED: Bytes = Bytes::from_static(b"+ACK");
const TERMINATED: Bytes = Bytes::from_static(b"+TERM");
/// How often it is looked for acknowledgements that were lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells until it is stopped.
pub(super) async fn tell(hand: Arc<Hand>, client: Client) {
    let inbox = client.new_inbox();
    // It fails only when the client has ended, and then nothing can be told.
    let Ok(mut confirmations) = client.subscribe(format!("{inbox}.*")).await else { return };
    let mut burials = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let mut burst = Burst { client: &client, last: None, messages: 0 };
        for tell in hand.to_tell() {
            match tell {
                Tell::Acknowledge(reply) => burst.add(reply, ACKNOWLEDGED).await,
                Tell::Answer(reply, answer) => {
                    let _ = client.publish(reply, answer.into()).await;
                    hand.finished(1);
                }
                Tell::Terminate { durable, reply, need } => {
                    burials.push(async move { (durable.await.is_ok(), reply, need) });
                }
            }
        }
        burst.finish(&hand, &inbox).await;
        tokio::select! {
            () = hand.news.notified() => {}
            Some(first) = confirmations.next() => {
                let more = std::iter::from_fn(|| confirmations.next().now_or_never().flatten());
                hand.confirmed(std::iter::once(first).chain(more).filter_map(|message| number(&message)));
            }
            Some(first) = burials.next() => {
                let mut burst = Burst { client: &client, last: None, messages: 0 };
                let mut next = Some(first);
                while let Some((is_durable, reply, need)) = next {
                    hand.admission.credits.give_back(need);
                    match reply {
                        Some(reply) if is_durable => burst.add(reply, TERMINATED).await,
                        _ => hand.finished(1),
                    }
                    next = burials.next().now_or_never().flatten();
                }
                burst.finish(&hand, &inbox).await;
            }
            _ = look.tick() => hand.forget_overdue(),
        }
    }
}

/// What is told of several messages at once.
struct Burst<'c> {
    client: &'c Client,
    last: Option<(Subject, Bytes)>,
    messages: usize,
}

impl Burst<'_> {
    /// While there is no connection it is kept and sent later, which is right: what was durable stays so.
    async fn add(&mut self, to: Subject, what: Bytes) {
        self.messages += 1;
        if let Some((to, what)) = self.last.replace((to, what)) {
            let _ = self.client.publish(to, what).await;
        }
    }

    async fn finish(self, hand: &Hand, inbox: &str) {
        let Some((to, what)) = self.last else { return };
        let number = hand.telling(self.messages);
        if self.client.publish_with_reply(to, format!("{inbox}.{number}"), what).await.is_err() {
            hand.confirmed([number]);
        }
    }
}

/// What was told under this number is confirmed, or nobody is there to hear it.
fn number(message: &Message) -> Option<u64> {
    message.subject.rsplit('.').next()?.parse().ok()
}
