//! Messages as they are published: nobody keeps them for us, and what is not taken in time is lost.

use async_nats::{Message, Subscriber};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt, StreamExt};

use super::batch::{BATCH_MESSAGES_MAX, Batch};
use super::consumer::told;
use super::message::Received;
use super::source::{Ended, NatsSource};
use crate::ingress::tcp::draining;

/// Takes messages until something ends it. The client subscribes again whenever it has connected again.
pub(super) async fn receive(source: &NatsSource, queue: Option<&str>) -> Ended {
    let mut phase = source.phase.clone();
    let mut messages = match subscribe(source, queue).await {
        Ok(messages) => messages,
        Err(problem) => return Ended::Problem(problem),
    };
    loop {
        let next = async {
            let connection = source.link.connected().await;
            source.link.set_problem(None);
            source.hand.admission.gate.opened().await;
            source.hand.has_room(BATCH_MESSAGES_MAX).await;
            tokio::select! {
                message = messages.next() => Some(message),
                () = source.link.gone(connection) => None,
            }
        };
        let next = tokio::select! {
            biased;
            () = draining(&mut phase) => return Ended::Draining,
            next = next => next,
        };
        let Some(message) = next else { continue };
        let Some(message) = message else { return Ended::Problem("the subscriptions have ended".to_owned()) };
        take(source, message, &mut messages).await;
    }
}

async fn subscribe(source: &NatsSource, queue: Option<&str>) -> Result<SelectAll<Subscriber>, String> {
    let mut subscribers = Vec::new();
    for subject in &source.declared.subjects {
        let subscribed = match queue {
            Some(queue) => source.client.queue_subscribe(subject.clone(), queue.to_owned()).await,
            None => source.client.subscribe(subject.clone()).await,
        };
        subscribers.push(subscribed.map_err(|error| told(&format!("subject `{subject}`"), &error))?);
    }
    Ok(select_all(subscribers))
}

/// Takes a message and those that have come with it.
async fn take(source: &NatsSource, first: Message, messages: &mut SelectAll<Subscriber>) {
    let mut batch = Batch::new(source);
    batch.add(Received::live(first)).await;
    for _ in 1..BATCH_MESSAGES_MAX {
        let Some(Some(message)) = messages.next().now_or_never() else { break };
        batch.add(Received::live(message)).await;
    }
    batch.finish();
}
