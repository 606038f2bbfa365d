//! Whom to trust, on connections in both directions: TLS (by rustls, with ciphers from ring), tokens with what they are
//! good for, and signatures of bodies.
//!
//! Nothing here opens a connection or reads a configuration; secrets are compared in constant time and never shown.

mod client;
mod server;
mod signature;
mod tokens;

pub use client::{Tls, plain_client_config};
pub use server::{Certificates, ClientCertificates, ServerFiles};
pub use signature::{BadSignature, GithubVerifier, Signer, WebhookVerifier};
pub use tokens::{Scope, Scopes, Tokens};
