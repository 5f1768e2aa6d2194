//! Connects with TLS, and reads the certificate of the server.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use crate::client::Failure;
use crate::client::site::Site;

/// The certificates that are trusted.
#[derive(Debug, Clone)]
pub struct Tls {
    roots: Arc<RootCertStore>,
}

/// The error when a file of trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read certificates from `{path}`: {reason}")]
pub struct CaFileError {
    path: String,
    reason: String,
}

/// What a server has sent.
#[derive(Debug, Clone)]
pub(crate) struct PeerCertificates {
    /// The certificate of the server and its chain.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The protocol that was chosen (ALPN).
    pub(crate) protocol: Option<Vec<u8>>,
    /// The version of TLS.
    pub(crate) version: String,
}

impl Tls {
    /// Trusts the certificates of the system, and those of a PEM file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or contains no certificate.
    pub fn new(file: Option<&Path>) -> Result<Self, CaFileError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = file {
            let error = |reason: String| CaFileError {
                path: path.display().to_string(),
                reason,
            };
            let read =
                CertificateDer::pem_file_iter(path).map_err(|cause| error(cause.to_string()))?;
            let before = roots.len();
            for certificate in read {
                let certificate = certificate.map_err(|cause| error(cause.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|cause| error(cause.to_string()))?;
            }
            if roots.len() == before {
                return Err(error("it contains no certificate in PEM format".to_owned()));
            }
        }
        Ok(Self {
            roots: Arc::new(roots),
        })
    }

    /// Begins TLS on a connection.
    pub(crate) async fn connect(
        &self,
        site: &Site,
        stream: TcpStream,
        protocols: &[&[u8]],
    ) -> Result<(TlsStream<TcpStream>, PeerCertificates), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = match &site.host {
            Host::Domain(name) => {
                ServerName::try_from(name.clone()).map_err(|error| failed(&error))?
            }
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
        };
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| failed(&error))?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        let peer = PeerCertificates {
            chain: chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
            version: session
                .protocol_version()
                .and_then(|version| version.as_str().map(str::to_owned))
                .unwrap_or_default(),
        };
        Ok((stream, peer))
    }
}
