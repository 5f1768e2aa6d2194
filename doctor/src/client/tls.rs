//! Connects with TLS, and reads the certificate of the server.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
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

/// Why TLS fails, as far as the cures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate is that of an authority itself.
    Authority,
    /// The server wants a certificate of the client.
    ClientCertificate,
    /// The certificate is no longer valid, or not yet.
    Expired,
    /// The server has no version of TLS that browsers use.
    OldVersion,
    /// No trusted authority has signed the certificate, or an intermediate one is missing.
    UnknownIssuer,
    /// The certificate is for other hosts.
    WrongName,
    /// Anything else.
    Other,
}

impl TlsFault {
    fn of(error: &std::io::Error) -> Self {
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        match error {
            Some(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                // The second: another certificate of the same name is trusted.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownIssuer
                }
                // There is no variant for what the verifier of names and chains says.
                CertificateError::Other(other) if format!("{other:?}").contains(CA) => {
                    Self::Authority
                }
                _ => Self::Other,
            },
            Some(
                rustls::Error::PeerIncompatible(_)
                | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
            ) => Self::OldVersion,
            _ => Self::Other,
        }
    }
}

const CA: &str = "CaUsedAsEndEntity";

/// Begins TLS with a listener of this machine, whatever its certificate is: nothing secret is sent, and the certificate is
/// the subject of another check. `name`: the host that selects the filter chain.
pub(crate) async fn connect_unverified(
    name: ServerName<'static>,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(
        provider
            .signature_verification_algorithms
            .supported_schemes(),
    ));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Accepts every certificate. Contains the signature schemes to offer.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Has no certificate of the client, and remembers whether the server has asked for one.
#[derive(Debug, Default)]
struct NoCertificate {
    was_asked: AtomicBool,
}

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
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
    /// It has asked for a certificate of the client.
    pub(crate) asks_for_certificate: bool,
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
        let failed =
            |error: &dyn std::fmt::Display| Failure::Tls(TlsFault::Other, error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = Arc::new(NoCertificate::default());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Arc::clone(&own) as Arc<dyn ResolvesClientCert>);
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
            .map_err(|error| match TlsFault::of(&error) {
                // With TLS 1.2, the alert says no more than that the handshake fails.
                TlsFault::Other if own.was_asked.load(Ordering::Relaxed) => {
                    Failure::Tls(TlsFault::ClientCertificate, error.to_string())
                }
                fault => Failure::Tls(fault, error.to_string()),
            })?;
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
            asks_for_certificate: own.was_asked.load(Ordering::Relaxed),
        };
        Ok((stream, peer))
    }
}
