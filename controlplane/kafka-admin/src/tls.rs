//! TLS towards brokers: whom we trust, and what we show.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Certificates as PEM text.
#[derive(Clone, Default)]
pub struct AdminTls {
    /// Whom we trust; `None`: the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// What we show to brokers that ask (mutual TLS); goes with `key_pem`.
    pub cert_pem: Option<Vec<u8>>,
    pub key_pem: Option<Vec<u8>>,
}

impl std::fmt::Debug for AdminTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminTls")
            .field("own_ca", &self.ca_pem.is_some())
            .field("client_cert", &self.cert_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Why the client cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{what} is not PEM")]
    Pem {
        what: &'static str,
        #[source]
        err: rustls::pki_types::pem::Error,
    },
    #[error("{what} holds no certificate")]
    NoCertificate { what: &'static str },
    #[error("a client certificate needs its key and the other way round")]
    HalfAnIdentity,
    #[error("TLS refuses the certificates")]
    Rustls(#[from] rustls::Error),
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

pub(crate) fn connector(tls: AdminTls) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_pem {
        Some(pem) => {
            for certificate in certificates(pem, "the CA file")? {
                roots.add(certificate)?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            for err in &native.errors {
                tracing::warn!(%err, "some of the system's root certificates cannot be read");
            }
            roots.add_parsable_certificates(native.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match (&tls.cert_pem, &tls.key_pem) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|err| TlsError::Pem { what: "the client key file", err })?;
            builder.with_client_auth_cert(certificates(cert, "the client certificate file")?, key)?
        }
        _ => return Err(TlsError::HalfAnIdentity),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|err| TlsError::Pem { what, err })?;
    if found.is_empty() { Err(TlsError::NoCertificate { what }) } else { Ok(found) }
}
