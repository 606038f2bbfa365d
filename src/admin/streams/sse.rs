//! Server-Sent Events: the body of an answer that goes on. It is asked for more only while the connection takes it, so
//! that nothing is queued here; what is handed out and not taken is a batch and what the connection buffers.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::end::End;
use super::feed::{Feed, Item};
use super::hub::Streams;
use super::start::Start;
use super::subject::Subject;
use crate::admin::api::Api;
use crate::admin::entity::document;
use crate::admin::position::Position;
use crate::admin::problem::Problem;
use crate::admin::unread::{OtherEnd, Standing};

const EVENT_STREAM: &str = "text/event-stream";
/// A stream on which nothing is told says after this time that it is still there, and how far it has read.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Milliseconds after which browsers connect again.
const RETRY_MS: u32 = 1000;

/// Whether the request asks for a stream.
pub(in crate::admin) fn wants_stream(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(ACCEPT).filter_map(|accept| accept.to_str().ok());
    let mut kinds = accepted.flat_map(|accept| accept.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM)))
}

/// Answers with a stream.
///
/// # Errors
/// When it cannot begin there, or there are as many streams as there may be.
pub(in crate::admin) async fn respond(
    api: &web::Data<Api>,
    request: &HttpRequest,
    subject: Subject,
    start: Start,
) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    // Proxies that gather answers would keep all of this from whom it is for.
    response.content_type(EVENT_STREAM).insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header(("x-accel-buffering", "no"));
    let (feed, opening) = open(api, subject, start).await?;
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let events = EventStream::new(api.streams.clone(), OtherEnd::of(request), feed, opening);
    let chunks = stream::unfold(events, |mut events| async {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    });
    // Boxed: the state of a stream that waits is not small.
    Ok(response.streaming(Box::pin(chunks)))
}

/// The feed, and what its reader is told before it: the entity as it is, where that is what the stream is about and the
/// reader does not come back.
pub(super) async fn open(api: &Api, subject: Subject, start: Start) -> Result<(Feed, Option<Item>), Problem> {
    let position = start.position(&api.streams)?;
    let asked = match (&subject, start) {
        (Subject::Entity(rules, entity), Start::Now) => Some((rules.clone(), entity.clone())),
        _ => None,
    };
    let Some((rules, entity)) = asked else { return Ok((Feed::new(&api.streams, subject, position)?, None)) };
    // Read after the position was taken: no change falls between, and the document says which ones it has.
    let snapshot = api.shards.read(&entity).await;
    let shown = snapshot.as_ref().map_or(position, |snapshot| position.max(Position::through(snapshot.lsns.last)));
    let json = snapshot.map_or_else(|| b"null".to_vec(), |snapshot| document(&rules, &entity, &snapshot));
    let first = Item { event: "entity", position: shown, json: json.into() };
    Ok((Feed::new(&api.streams, subject, shown)?, Some(first)))
}

/// A stream on its way out, chunk by chunk.
struct EventStream {
    streams: Streams,
    feed: Feed,
    opening: Option<Bytes>,
    other_end: Option<OtherEnd>,
    ended: bool,
}

impl EventStream {
    fn new(streams: Streams, other_end: Option<OtherEnd>, feed: Feed, first: Option<Item>) -> Self {
        // The position at once: who is cut off before the first event can go on where it began.
        let mut opening = format!("retry: {RETRY_MS}\nid: {}\n\n", feed.position()).into_bytes();
        if let Some(first) = &first {
            write_item(&mut opening, first);
        }
        EventStream { streams, feed, opening: Some(opening.into()), other_end, ended: false }
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let end = match self.chunk().await {
            Ok(chunk) => return chunk,
            Err(end) => end,
        };
        self.ended = true;
        self.streams.cut(end.code);
        Some(format!("event: end\ndata: {}\n\n", end.document()).into())
    }

    /// What comes next; none once the reader has closed the connection.
    async fn chunk(&mut self) -> Result<Option<Bytes>, End> {
        let timeout = self.streams.limits().unread_timeout;
        if let Some(opening) = self.opening.take() {
            return Ok(Some(opening));
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let batch = tokio::select! {
                biased;
                () = self.streams.draining() => return Err(End::draining()),
                standing = left(self.other_end.as_mut()) => match standing {
                    Standing::Closed => return Ok(None),
                    _ => return Err(End::slow(timeout)),
                },
                batch = self.feed.next() => batch?,
                // An event without data is not told to anybody, but its id counts.
                () = tokio::time::sleep_until(heartbeat) => {
                    let beat = format!(": heartbeat\nid: {}\n\n", self.feed.position());
                    return Ok(Some(beat.into()));
                }
            };
            if !batch.is_empty() {
                let mut chunk = Vec::with_capacity(batch.iter().map(|item| item.json.len() + EVENT_BYTES).sum());
                for item in &batch {
                    write_item(&mut chunk, item);
                }
                return Ok(Some(chunk.into()));
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // The connection was closed under a reader that took nothing, not even the end.
        if !self.ended && self.other_end.as_ref().is_some_and(OtherEnd::is_stalled) {
            self.streams.cut(End::slow(self.streams.limits().unread_timeout).code);
        }
    }
}

/// Waits until the reader has taken nothing for too long.
pub(super) async fn stalled(reader: Option<&mut OtherEnd>) {
    match reader {
        Some(reader) => reader.stalled().await,
        None => pending().await,
    }
}

/// Waits until there is no reason to send the reader more.
async fn left(reader: Option<&mut OtherEnd>) -> Standing {
    match reader {
        Some(reader) => reader.left().await,
        None => pending().await,
    }
}

/// About what an event takes besides its data.
const EVENT_BYTES: usize = 60;

/// JSON is written without line ends, so one line of data is enough.
fn write_item(out: &mut Vec<u8>, item: &Item) {
    out.extend_from_slice(format!("id: {}\nevent: {}\ndata: ", item.position, item.event).as_bytes());
    out.extend_from_slice(&item.json);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// If this failed, readers of streams would get pages, or readers of pages an answer that does not end.
    #[test]
    fn who_asks_for_a_stream_gets_one() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream;q=0.9", true),
            ("application/json, text/event-stream", true),
            ("application/json", false),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let request = TestRequest::get().insert_header(("accept", accept)).to_http_request();
            assert_eq!(wants_stream(&request), expected, "{accept}");
        }
    }
}
