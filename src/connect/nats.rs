//! Connections to NATS: who we are, whom we trust, and one line in the log when the connection comes or goes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{ConnectOptions, Event};

use crate::config::{NatsAuth, NatsConnection};
use crate::trust::Tls;

/// Options of a connection that is made in the background, now and whenever it has to be, for `who`, such as `sink bus`.
/// `seen` is told of what happens to it, and must not block.
///
/// # Errors
/// When a file of `declared` cannot be read, or the credentials are none.
pub fn nats_options(
    who: &str,
    declared: &NatsConnection,
    seen: impl Fn(&Event) + Send + Sync + 'static,
) -> io::Result<ConnectOptions> {
    let mut options = ConnectOptions::new().name(format!("turnstile {who}")).retry_on_initial_connect();
    options = match &declared.auth {
        None => options,
        Some(NatsAuth::User { user, password }) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        Some(NatsAuth::Token(token)) => options.token(token.expose().to_owned()),
        Some(NatsAuth::Nkey(file)) => options.nkey(file.text.expose().trim().to_owned()),
        Some(NatsAuth::Credentials(file)) => {
            // The last line end belongs to the format. What is wrong with them may quote them.
            options
                .credentials(&format!("{}\n", file.text.expose()))
                .map_err(|_| io::Error::other("the credentials are not those of NATS"))?
        }
    };
    let identity = declared.tls_identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    options = options.tls_client_config(Tls { ca: declared.tls_ca.as_deref(), identity }.client_config()?);
    let (who, told) = (who.to_owned(), AtomicBool::new(false));
    Ok(options.event_callback(move |event| {
        tell(&who, &event, &told);
        seen(&event);
        std::future::ready(())
    }))
}

/// One line when the connection is lost or cannot be made, and one when it is there.
fn tell(who: &str, event: &Event, told: &AtomicBool) {
    match event {
        Event::Connected => {
            told.store(false, Ordering::Relaxed);
            tracing::info!("{who} is connected to NATS");
        }
        Event::Disconnected | Event::ClientError(_) | Event::ServerError(_) | Event::Closed
            if !told.swap(true, Ordering::Relaxed) =>
        {
            tracing::warn!("{who} is not connected to NATS, trying again and again: {event}");
        }
        _ => {}
    }
}
