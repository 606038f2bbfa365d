//! How outgoing connections are secured: rustls, with the certificates the system trusts or those of one's own authority.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What an outgoing connection trusts and shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'a> {
    /// Certificates to trust instead of the system's.
    pub ca: Option<&'a Path>,
    /// A certificate to show, and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
}

impl Tls<'_> {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or holds something else.
    pub fn client_config(&self) -> io::Result<ClientConfig> {
        let roots = if let Some(path) = self.ca {
            authorities(path)?
        } else {
            let mut roots = RootCertStore::empty();
            // A machine may have certificates that cannot be read; those that can are enough, or connections say so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        };
        let builder = builder()?.with_root_certificates(roots);
        match self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, private_key(key)?).map_err(|error| wrong(certificate, &error))
            }
        }
    }
}

/// For clients that never speak TLS, which saves them reading the system's certificates.
///
/// # Errors
/// Never, unless the library is built without its ciphers.
pub fn plain_client_config() -> io::Result<ClientConfig> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(io::Error::other)
}

/// Where ciphers come from, on both sides.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in a PEM file; there is at least one.
pub(super) fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found.map_err(|error| wrong(path, &error))? {
        none if none.is_empty() => Err(wrong(path, &"it holds no certificate (PEM)")),
        some => Ok(some),
    }
}

/// The private key in a PEM file.
pub(super) fn private_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| wrong(path, &error))
}

/// The authorities in a PEM file.
pub(super) fn authorities(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| wrong(path, &error))?;
    }
    Ok(roots)
}

pub(super) fn wrong(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}
