//! Reads a certificate, its private key, and the certificates that sign those of clients, from PEM files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

/// The error when a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TlsError {
    #[error("`{}` has no usable certificate", path.display())]
    Certificate {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error("`{}` has no usable private key", path.display())]
    Key {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error(
        "the key in `{}` does not belong to the certificate in `{}`; the server's own certificate must come first",
        key.display(),
        certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error(
        "`{}` has no {what}: a PEM file is expected, with the line -----BEGIN {line}-----",
        path.display()
    )]
    Missing {
        path: PathBuf,
        what: &'static str,
        line: &'static str,
    },
    #[error("`{}` is not a PEM file, or is truncated", path.display())]
    Pem { path: PathBuf },
    #[error("the certificates in `{}` cannot verify those of clients", path.display())]
    ClientCa {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot set up the TLS library")]
    Provider(#[source] rustls::Error),
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The paths of a certificate and its key.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// The certificates that sign those of clients; `None` if clients are not asked for one.
    pub(super) client_ca: Option<PathBuf>,
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

impl CertificateFiles {
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// Returns the verifier of client certificates; `None` if clients are not asked for one. A client need not have one.
    pub(super) fn client_verifier(
        &self,
        contents: &Contents,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(pem)) = (&self.client_ca, &contents.client_ca) else {
            return Ok(None);
        };
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::ClientCa {
            path: path.clone(),
            source,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TlsError::Pem { path: path.clone() })?;
            roots
                .add(certificate)
                .map_err(|source| unusable(source.into()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::Missing {
                path: path.clone(),
                what: "certificate",
                line: "CERTIFICATE",
            });
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|source| unusable(source.into()))?;
        Ok(Some(verifier))
    }

    /// Parses the contents, and checks that key and certificate belong together.
    pub(super) fn parse(&self, contents: &Contents) -> Result<Arc<CertifiedKey>, TlsError> {
        let Self {
            certificate, key, ..
        } = self;
        let not_pem = |path: &Path| {
            let path = path.to_owned();
            |_| TlsError::Pem { path }
        };
        let chain = CertificateDer::pem_slice_iter(&contents.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(not_pem(certificate))?;
        if chain.is_empty() {
            return Err(TlsError::Missing {
                path: certificate.clone(),
                what: "certificate",
                line: "CERTIFICATE",
            });
        }
        let private = PrivateKeyDer::from_pem_slice(&contents.key);
        let private = private.map_err(|source| match source {
            // An encrypted key has another label, so it is not found.
            pem::Error::NoItemsFound => TlsError::Missing {
                path: key.clone(),
                what: "private key without a passphrase",
                line: "PRIVATE KEY",
            },
            source => not_pem(key)(source),
        })?;
        let private = aws_lc_rs::sign::any_supported_type(&private);
        let private = private.map_err(|source| TlsError::Key {
            path: key.clone(),
            source,
        })?;
        let certified = CertifiedKey::new(chain, private);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            Err(source) => Err(TlsError::Certificate {
                path: certificate.clone(),
                source,
            }),
        }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They include a private key.
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}
