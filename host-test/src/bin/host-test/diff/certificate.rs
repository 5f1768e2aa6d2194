//! Who is at the two ends of a TLS connection?
//!
//! Certificates made for the run: one of the listener's, and one of the client's where a case knows it by its names.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// A self-signed certificate and its key.
pub(super) struct Certificate {
    pub(super) pem: String,
    pub(super) key_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Makes one for host names and URIs.
    pub(super) fn create(names: &[&str], uris: &[&str]) -> anyhow::Result<Self> {
        let names = names
            .iter()
            .map(|name| Ok(SanType::DnsName((*name).try_into()?)));
        let uris = uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.chain(uris).collect::<Result<_, rcgen::Error>>()?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
        })
    }
}

/// How a client connects to a listener with the certificate `server`: under its name, by a certificate of its own if it
/// has one, offering one protocol.
pub(super) fn client(
    server: &Certificate,
    own: Option<&Certificate>,
    protocol: &[u8],
    name: &str,
) -> anyhow::Result<(tokio_rustls::TlsConnector, ServerName<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            builder.with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())?
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(name.to_owned()).context("the server's name")?;
    Ok((Arc::new(config).into(), name))
}
