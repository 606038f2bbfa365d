//! One call over HTTP, made once.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use reqwest::{Client, Request};
use rustls::ClientConfig;

use super::judge::Answer;
use super::response::{Body, BodyLimits};
use crate::config::Guarantee;
use crate::egress::client::{client, pause_of, root_cause};
use crate::rules::EffectRules;

/// The longest that connecting may take. Who has not taken the connection by then has not been sent anything, which is worth
/// knowing; so it is always less than the call's own time.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// A call under way. It comes to an end by itself, in the time that the request says.
pub(super) type Calling<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Whoever makes calls.
pub(super) trait MakeCalls: Send + Sync {
    fn call(&self, request: Request) -> Calling<'_>;
}

/// Makes the calls of one effect.
pub(super) struct Http {
    client: Client,
    limits: BodyLimits,
}

impl Http {
    /// For the calls of an effect; nothing is connected yet.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn new(rules: &EffectRules, tls: ClientConfig, limits: BodyLimits) -> io::Result<Self> {
        let connect_timeout = (rules.timeout * 9 / 10).min(CONNECT_TIMEOUT_MAX);
        let mut builder = client(tls).connect_timeout(connect_timeout);
        if rules.guarantee == Guarantee::AtMostOnce {
            // A connection that was kept may be closed by the other side just when it is used; then nobody could tell
            // whether the request has arrived. A new one has no such past.
            builder = builder.pool_max_idle_per_host(0);
        }
        Ok(Http { client: builder.build().map_err(io::Error::other)?, limits })
    }
}

impl MakeCalls for Http {
    fn call(&self, request: Request) -> Calling<'_> {
        Box::pin(async move {
            match self.client.execute(request).await {
                Ok(response) => {
                    let (status, pause) = (response.status().as_u16(), pause_of(response.headers()));
                    Answer::Status { status, body: Body::read(response, self.limits).await, pause }
                }
                Err(error) if error.is_connect() || error.is_builder() => Answer::NotSent { why: why(&error) },
                Err(error) => Answer::Lost { why: why(&error) },
            }
        })
    }
}

fn why(error: &reqwest::Error) -> String {
    let step = if error.is_connect() { "no connection" } else { "no answer" };
    format!("{step}: {}", root_cause(error))
}
