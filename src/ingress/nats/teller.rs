//! Tells NATS what became of messages. Each acknowledgement is itself acknowledged, to one inbox for all of them; what is
//! not confirmed is delivered again, and counts once.

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
        for tell in hand.to_tell() {
            match tell {
                Tell::Acknowledge(reply) => send(&hand, &client, &inbox, reply, ACKNOWLEDGED).await,
                Tell::Answer(reply, answer) => {
                    let _ = client.publish(reply, answer.into()).await;
                    hand.finished(1);
                }
                Tell::Terminate { durable, reply, need } => {
                    burials.push(async move { (durable.await.is_ok(), reply, need) });
                }
            }
        }
        tokio::select! {
            () = hand.news.notified() => {}
            Some(first) = confirmations.next() => {
                let more = std::iter::from_fn(|| confirmations.next().now_or_never().flatten());
                hand.confirmed(std::iter::once(first).chain(more).filter_map(|message| number(&message)));
            }
            Some((is_durable, reply, need)) = burials.next() => {
                hand.admission.credits.give_back(need);
                match reply {
                    Some(reply) if is_durable => send(&hand, &client, &inbox, reply, TERMINATED).await,
                    _ => hand.finished(1),
                }
            }
            _ = look.tick() => hand.forget_overdue(),
        }
    }
}

async fn send(hand: &Hand, client: &Client, inbox: &str, to: Subject, what: Bytes) {
    let number = hand.telling();
    // While there is no connection it is kept and sent later, which is right: what was durable stays so.
    if client.publish_with_reply(to, format!("{inbox}.{number}"), what).await.is_err() {
        hand.confirmed([number]);
    }
}

/// What was told under this number is confirmed, or nobody is there to hear it.
fn number(message: &Message) -> Option<u64> {
    message.subject.rsplit('.').next()?.parse().ok()
}
