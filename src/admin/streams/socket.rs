//! `GET /v1/stream`: several streams over one WebSocket, subscribed to and unsubscribed from by messages.

use std::collections::VecDeque;
use std::future::pending;
use std::io::ErrorKind;

use actix_web::error::PayloadError;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use futures_util::StreamExt;
use futures_util::future::select_all;
use tokio::time::{Duration, Instant, interval_at, timeout};

use super::end::End;
use super::feed::{Feed, Item};
use super::message::{self, Asked};
use super::sse::{HEARTBEAT, open, stalled};
use super::start::Start;
use super::subject::Subject;
use crate::admin::api::Api;
use crate::admin::origin::same_origin;
use crate::admin::position::Position;
use crate::admin::problem::Problem;
use crate::admin::unread::OtherEnd;
use crate::model::refusal::{Code, Refusal};

/// Largest message of a client.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
const TOO_LARGE: &str = "messages have up to 16 KiB";
/// How long the other end may give no sign of life. It is pinged at each heartbeat.
const IDLE_TIMEOUT: Duration = HEARTBEAT.saturating_mul(3);

/// A subscription.
struct Subscription {
    name: String,
    feed: Feed,
    /// The position that the client was last told.
    told: Position,
}

/// A socket that is being served.
struct Socket {
    api: web::Data<Api>,
    session: Session,
    /// Whoever was served last stands last.
    subscriptions: VecDeque<Subscription>,
    other_end: Option<OtherEnd>,
    /// When the client last gave a sign of life.
    heard: Instant,
}

/// Why a socket is no longer served.
enum Stop {
    /// The client has closed it, or is gone.
    Closed,
    Ended(End),
    /// The client has broken the protocol.
    Broken(CloseReason),
}

/// Takes a request for a WebSocket.
pub(in crate::admin) async fn connect(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    // Browsers let every page open sockets to every server.
    same_origin(request.headers(), &api.tokens)?;
    let (response, session, messages) = actix_ws::handle(&request, payload)
        .map_err(|error| Problem::invalid(format!("this path speaks WebSocket and nothing else: {error}")))?;
    let messages = messages.max_frame_size(MESSAGE_BYTES_MAX).aggregate_continuations();
    let messages = messages.max_continuation_size(MESSAGE_BYTES_MAX);
    let other_end = OtherEnd::of(&request);
    let socket = Socket { api, session, subscriptions: VecDeque::new(), other_end, heard: Instant::now() };
    actix_rt::spawn(socket.run(messages));
    Ok(response)
}

impl Socket {
    async fn run(mut self, mut messages: AggregatedMessageStream) {
        let stop = self.serve(&mut messages).await.err().unwrap_or(Stop::Closed);
        let streams = &self.api.streams;
        let end = match stop {
            Stop::Ended(end) => end,
            stop => {
                let reason = if let Stop::Broken(reason) = stop { Some(reason) } else { None };
                // Nobody hears it if the client is gone.
                let _ = timeout(streams.limits().unread_timeout, self.session.close(reason)).await;
                return;
            }
        };
        streams.cut(end.code);
        let code = if end.code == "slow" { CloseCode::Policy } else { CloseCode::Away };
        let mut session = self.session;
        let last = async {
            if session.text(message::end(&end)).await.is_ok() {
                let _ = session.close(Some(CloseReason { code, description: Some(end.detail) })).await;
            }
        };
        // What is not taken by then is dropped with the connection.
        let _ = timeout(streams.limits().unread_timeout, last).await;
    }

    /// Serves until there is a reason to stop.
    async fn serve(&mut self, messages: &mut AggregatedMessageStream) -> Result<(), Stop> {
        let mut beat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let (streams, patience) = (self.api.streams.clone(), self.api.limits.unread_timeout);
        loop {
            tokio::select! {
                biased;
                () = streams.draining() => return Err(Stop::Ended(End::draining())),
                () = stalled(self.other_end.as_mut()) => return Err(Stop::Ended(End::slow(patience))),
                message = messages.next() => match message {
                    Some(Ok(message)) => self.hear(message).await?,
                    Some(Err(error)) => return Err(broken(&error)),
                    None => return Ok(()),
                },
                _ = beat.tick() => self.beat().await?,
                (at, batch) = next_batch(&mut self.subscriptions) => self.tell(at, batch).await?,
            }
        }
    }

    async fn hear(&mut self, message: AggregatedMessage) -> Result<(), Stop> {
        self.heard = Instant::now();
        match message {
            AggregatedMessage::Text(text) => self.answer(&text).await,
            AggregatedMessage::Binary(_) => {
                self.say(message::error(None, &Problem::invalid("messages are text, not binary"))).await
            }
            AggregatedMessage::Ping(bytes) => self.session.pong(&bytes).await.map_err(|_| Stop::Closed),
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(_) => Err(Stop::Closed),
        }
    }

    async fn answer(&mut self, text: &str) -> Result<(), Stop> {
        let said = match Asked::parse(text, &self.api.ruleset) {
            Ok(Asked::Subscribe { name, subject, start }) => match self.subscribe(&name, subject, start).await {
                Ok((first, position)) => {
                    self.say(message::subscribed(&name, position)).await?;
                    let Some(first) = first else { return Ok(()) };
                    message::item(&name, &first)
                }
                Err(problem) => message::error(Some(&name), &problem),
            },
            Ok(Asked::Unsubscribe { name }) => self.unsubscribe(&name),
            Err(problem) => message::error(message::name(text).as_deref(), &problem),
        };
        self.say(said).await
    }

    /// Ends a subscription; what is said then.
    fn unsubscribe(&mut self, name: &str) -> String {
        let at = self.subscriptions.iter().position(|subscription| subscription.name == name);
        if let Some(gone) = at.and_then(|at| self.subscriptions.remove(at)) {
            return message::unsubscribed(name, gone.feed.position());
        }
        message::error(Some(name), &Problem::not_found(format!("there is no subscription {name:.100?}")))
    }

    /// Begins a subscription; what is told first, and where it begins.
    async fn subscribe(
        &mut self,
        name: &str,
        subject: Subject,
        start: Start,
    ) -> Result<(Option<Item>, Position), Problem> {
        if self.subscriptions.iter().any(|subscription| subscription.name == name) {
            return Err(Problem::invalid(format!("there is a subscription {name:?} already; choose another name")));
        }
        let max = self.api.limits.socket_subscriptions_max;
        if self.subscriptions.len() as u64 >= max {
            let why = format!("limits.socket_subscriptions_max = {max} subscriptions are open on this connection");
            return Err(Refusal::new(Code::Busy, why).into());
        }
        let (feed, first) = open(&self.api, subject, start).await?;
        let told = feed.position();
        self.subscriptions.push_back(Subscription { name: name.to_owned(), feed, told });
        Ok((first, told))
    }

    /// Tells what has come for the subscription at a place.
    async fn tell(&mut self, at: usize, batch: Result<Vec<Item>, End>) -> Result<(), Stop> {
        let Some(mut subscription) = self.subscriptions.remove(at) else { return Ok(()) };
        match batch {
            Ok(items) => {
                for item in items {
                    self.say(message::item(&subscription.name, &item)).await?;
                    subscription.told = item.position;
                }
                self.subscriptions.push_back(subscription);
                Ok(())
            }
            Err(end) => {
                self.api.streams.cut(end.code);
                self.say(message::ended(&subscription.name, subscription.told, &end)).await
            }
        }
    }

    /// Asks whether the client is still there, and tells how far its subscriptions have come without telling anything.
    async fn beat(&mut self) -> Result<(), Stop> {
        if self.heard.elapsed() > IDLE_TIMEOUT {
            return Err(Stop::Ended(End::idle(IDLE_TIMEOUT)));
        }
        let mut said = Vec::new();
        for subscription in &mut self.subscriptions {
            let position = subscription.feed.position();
            if position != subscription.told {
                subscription.told = position;
                said.push(message::passed(&subscription.name, position));
            }
        }
        for text in said {
            self.say(text).await?;
        }
        self.session.ping(b"").await.map_err(|_| Stop::Closed)
    }

    /// Says something; the client has to take it in time.
    async fn say(&mut self, text: String) -> Result<(), Stop> {
        let patience = self.api.limits.unread_timeout;
        tokio::select! {
            said = self.session.text(text) => said.map_err(|_| Stop::Closed),
            () = stalled(self.other_end.as_mut()) => Err(Stop::Ended(End::slow(patience))),
        }
    }
}

/// What a message that cannot be understood comes to.
fn broken(error: &ProtocolError) -> Stop {
    let (code, description) = match error {
        ProtocolError::Overflow => (CloseCode::Size, TOO_LARGE.to_owned()),
        ProtocolError::Io(error) => match error.get_ref() {
            Some(inner) if inner.is::<PayloadError>() => return Stop::Closed,
            Some(inner) if inner.to_string().contains("utf-8") => (CloseCode::Invalid, "messages are UTF-8".to_owned()),
            // Of one that came in parts.
            _ if error.kind() == ErrorKind::Other => (CloseCode::Size, TOO_LARGE.to_owned()),
            _ => (CloseCode::Protocol, error.to_string()),
        },
        other => (CloseCode::Protocol, other.to_string()),
    };
    Stop::Broken(CloseReason { code, description: Some(description) })
}

/// The next batch of any subscription, and whose it is. Can be given up and asked again.
async fn next_batch(subscriptions: &mut VecDeque<Subscription>) -> (usize, Result<Vec<Item>, End>) {
    if subscriptions.is_empty() {
        return pending().await;
    }
    let all = subscriptions.iter_mut().map(|subscription| Box::pin(subscription.feed.next()));
    let (batch, at, _) = select_all(all).await;
    (at, batch)
}
