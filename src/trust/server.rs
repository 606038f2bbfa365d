//! How incoming connections are secured: the server's certificate, whose clients are let in, and both read anew while the
//! server runs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::client::{authorities, certificates, private_key, provider, wrong};

/// What becomes of clients that show no certificate. One that is shown must be right in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    Required,
    Optional,
}

/// The PEM files of a listener.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// The certificate that is shown, first, and those up to the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whose clients' certificates are right, and whether clients must have one; none are asked for otherwise.
    pub clients: Option<(PathBuf, ClientCertificates)>,
}

impl ServerFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, holds something else, or they do not go together.
    pub fn load(&self) -> io::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some((path, wanted)) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match wanted {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(path, &error))?)
            }
        };
        let config = builder.with_single_cert(certificates(&self.certificate)?, private_key(&self.key)?);
        Ok(Arc::new(config.map_err(|error| wrong(&self.certificate, &error))?))
    }
}

/// The certificates of a listener as they were last read.
#[derive(Debug)]
pub struct Certificates {
    files: ServerFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// # Errors
    /// As those of [`ServerFiles::load`].
    pub fn load(files: ServerFiles) -> io::Result<Self> {
        let current = RwLock::new(files.load()?);
        Ok(Certificates { files, current })
    }

    /// What a new connection is secured with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again, for connections from now on. Sessions of earlier ones are not resumed, so that whoever is
    /// no longer trusted does not come back.
    ///
    /// # Errors
    /// As those of [`ServerFiles::load`]; what was read before then stays.
    pub fn reload(&self) -> io::Result<()> {
        let read = self.files.load()?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }
}
