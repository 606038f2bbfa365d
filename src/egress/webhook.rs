//! The sink `webhook`: each decision is one POST, as in Standard Webhooks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Response, StatusCode, Url};

use super::addresses::{PublicOnly, is_public, not_public};
use super::client::{carry, client, pause_of, root_cause};
use super::routing::Delivery;
use super::sends::{Outcome, Sent, Transport};
use crate::config::WebhookSink;
use crate::model::trace::TraceContext;
use crate::trust::{Signer, Tls};

/// The most of an answer that is read, so that the connection can be used again; what it says is not looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The sink.
pub struct Webhook(Arc<Shared>);

struct Shared {
    client: Client,
    url: Url,
    /// The address in the URL itself, if it has one that is not connected to.
    forbidden: Option<IpAddr>,
    signer: Signer,
    body_bytes_max: usize,
}

impl Webhook {
    /// A sink for what is configured; nothing is connected yet.
    ///
    /// # Errors
    /// When a certificate cannot be read, or the URL is none.
    pub fn new(declared: &WebhookSink) -> std::io::Result<Self> {
        let tls = Tls { ca: declared.tls_ca.as_deref(), identity: None };
        let mut builder = client(tls.client_config()?).timeout(declared.timeout);
        if !declared.allow_private {
            builder = builder.dns_resolver(PublicOnly);
        }
        let url = Url::parse(&declared.url).map_err(std::io::Error::other)?;
        // An address needs no resolving, so it is looked at here.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let written: Option<IpAddr> = host.parse().ok();
        let forbidden = written.filter(|address| !declared.allow_private && !is_public(*address));
        let keys = declared.secrets.iter().map(|secret| secret.key.as_slice());
        Ok(Webhook(Arc::new(Shared {
            client: builder.build().map_err(std::io::Error::other)?,
            url,
            forbidden,
            signer: Signer::new(keys),
            body_bytes_max: declared.body_bytes_max,
        })))
    }
}

impl Transport for Webhook {
    fn send(&self, delivery: Arc<Delivery>, trace: Option<TraceContext>) -> Sent {
        let shared = self.0.clone();
        Box::pin(async move { shared.send(&delivery, trace.as_ref()).await })
    }
}

impl Shared {
    async fn send(&self, delivery: &Delivery, trace: Option<&TraceContext>) -> Outcome {
        if let Some(address) = self.forbidden {
            return Outcome::Failed { why: not_public(address), pause: None };
        }
        let body = delivery.json();
        if body.len() > self.body_bytes_max {
            let why = format!("it has {} bytes, more than body_bytes_max = {}", body.len(), self.body_bytes_max);
            return Outcome::Never { reason: "too_large", why };
        }
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            carry(trace, &mut headers);
        }
        let request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .header("webhook-id", delivery.id())
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", self.signer.sign(delivery.id(), timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(response) => answered(response).await,
            // The URL may hold what is nobody's business.
            Err(error) => Outcome::Failed { why: root_cause(&error.without_url()), pause: None },
        }
    }
}

async fn answered(mut response: Response) -> Outcome {
    let status = response.status();
    let pause = pause_of(response.headers());
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    match status {
        _ if status.is_success() => Outcome::Delivered,
        StatusCode::TOO_MANY_REQUESTS => Outcome::Busy { pause },
        StatusCode::GONE => Outcome::Closed { why: "the endpoint answered 410 Gone".to_owned() },
        _ if status.is_redirection() => {
            Outcome::Failed { why: format!("HTTP {} (redirects are not followed)", status.as_u16()), pause }
        }
        _ => Outcome::Failed { why: format!("HTTP {}", status.as_u16()), pause },
    }
}
