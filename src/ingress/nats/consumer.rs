//! The durable consumer of a stream: the one that is there, else one that is made.

use std::error::Error;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};

/// How long a question to JetStream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A message that was not acknowledged for so long is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// So many may be delivered and not acknowledged: several times what is ever in hand, so that one that was killed with
/// its hands full does not keep its successor waiting.
const ACK_PENDING_MAX: i64 = 8 * super::source::MESSAGES_MAX as i64;

/// Finds the consumer, or makes one that begins with the oldest message.
///
/// # Errors
/// Why it cannot be had.
pub(super) async fn attach(
    client: &Client,
    stream: &str,
    consumer: &str,
    subjects: &[String],
) -> Result<PullConsumer, String> {
    let jetstream = ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client.clone());
    match jetstream.get_consumer_from_stream(consumer, stream).await {
        Ok(found) => usable(found, subjects),
        Err(error) if is_missing(&error) => make(&jetstream, stream, consumer, subjects).await,
        Err(error) => Err(told(&format!("consumer `{consumer}` of stream `{stream}`"), &error)),
    }
}

fn is_missing(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

async fn make(jetstream: &Context, stream: &str, name: &str, subjects: &[String]) -> Result<PullConsumer, String> {
    let mut config = pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some("made by Turnstile".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: ACK_PENDING_MAX,
        ..pull::Config::default()
    };
    // Several need a server of 2.10.
    match subjects {
        [subject] => config.filter_subject.clone_from(subject),
        _ => config.filter_subjects = subjects.to_vec(),
    }
    let made = jetstream.create_consumer_on_stream(config, stream).await;
    let made = made.map_err(|error| told(&format!("consumer `{name}` cannot be made in stream `{stream}`"), &error))?;
    tracing::info!(stream, consumer = name, "made the consumer");
    Ok(made)
}

/// One that is there is taken as it is, if it can be told what became of each message.
fn usable(found: PullConsumer, subjects: &[String]) -> Result<PullConsumer, String> {
    let info = found.cached_info();
    let (name, config) = (&info.name, &info.config);
    if config.ack_policy != AckPolicy::Explicit {
        return Err(format!("consumer `{name}` has another ack policy than `explicit`; make it anew"));
    }
    if config.headers_only {
        return Err(format!("consumer `{name}` delivers headers only; make it anew"));
    }
    let mut filters = config.filter_subjects.clone();
    filters.extend(Some(config.filter_subject.clone()).filter(|subject| !subject.is_empty()));
    filters.sort();
    let mut wanted = subjects.to_vec();
    wanted.sort();
    if filters != wanted {
        tracing::warn!(consumer = %name, ?filters, "the consumer is there with other `subjects`, and is used as it is");
    }
    Ok(found)
}

/// What went wrong, with its causes.
pub(super) fn told(what: &str, error: &dyn Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
