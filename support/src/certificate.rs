//! Creates certificates for tests, and TLS clients that trust them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion};

/// A certificate and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate as PEM.
    pub pem: String,
    /// The key as PEM.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// The PEM files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, which is also the trust anchor for clients if it is self-signed.
    pub certificate: PathBuf,
    /// The key, readable by its owner alone.
    pub key: PathBuf,
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    /// The certificate of the authority as PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificate {
    /// Creates a self-signed certificate for these names, which are host names or IP addresses, and URIs.
    ///
    /// # Errors
    ///
    /// If a name is not valid in a certificate.
    pub fn create(names: &[&str], uris: &[&str]) -> std::io::Result<Self> {
        let mut params = params(names)?;
        add_uris(&mut params, uris)?;
        Self::self_signed(&params)
    }

    /// Creates a self-signed certificate for these names that says that it is one of an authority.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn create_as_authority(names: &[&str]) -> std::io::Result<Self> {
        let mut params = params(names)?;
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self::self_signed(&params)
    }

    /// Creates a self-signed certificate for these names that is valid for a year before `end`.
    ///
    /// # Errors
    ///
    /// If a name is not valid in a certificate.
    pub fn create_until(names: &[&str], end: SystemTime) -> std::io::Result<Self> {
        let mut params = params(names)?;
        params.not_before = (end - Duration::from_secs(365 * 86_400)).into();
        params.not_after = end.into();
        Self::self_signed(&params)
    }

    /// Creates a self-signed certificate for these names, and writes it and its key to `folder`.
    ///
    /// # Errors
    ///
    /// If a name is not valid in a certificate, or a file cannot be written.
    pub fn create_files(folder: &Path, names: &[&str]) -> std::io::Result<CertificateFiles> {
        Self::create(names, &[])?.write(folder)
    }

    /// Writes the certificate and its key to `folder`.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<CertificateFiles> {
        let files = CertificateFiles {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        std::fs::write(&files.certificate, &self.pem)?;
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&files.key)?
            .write_all(self.key_pem.as_bytes())?;
        Ok(files)
    }

    /// Builds the settings of a TLS client that trusts this certificate and presents `client`, if there is one.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be used for TLS.
    pub fn client_config(&self, client: Option<&Self>) -> std::io::Result<ClientConfig> {
        client_config(self.certificate.clone(), client, DEFAULT_VERSIONS)
    }

    fn self_signed(params: &CertificateParams) -> std::io::Result<Self> {
        let key = KeyPair::generate().map_err(std::io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(std::io::Error::other)?;
        Self::of(&certificate, &key)
    }

    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> std::io::Result<Self> {
        Ok(Self {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).map_err(std::io::Error::other)?,
        })
    }
}

impl CertificateFiles {
    /// Builds the settings of a TLS client that trusts this certificate and presents `client`, if there is one.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be used for TLS.
    pub fn client_config(&self, client: Option<&Certificate>) -> std::io::Result<ClientConfig> {
        trusting_file(&self.certificate, client)
    }

    /// The same, for these versions of TLS alone.
    ///
    /// # Errors
    ///
    /// As [`CertificateFiles::client_config`].
    pub fn client_config_of_versions(
        &self,
        client: Option<&Certificate>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<ClientConfig> {
        let trusted = CertificateDer::from_pem_file(&self.certificate);
        client_config(trusted.map_err(std::io::Error::other)?, client, versions)
    }
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Errors
    ///
    /// If no key can be generated.
    pub fn create() -> std::io::Result<Self> {
        let key = KeyPair::generate().map_err(std::io::Error::other)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).map_err(std::io::Error::other)?;
        Ok(Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Creates a certificate for a client that these URIs identify.
    ///
    /// # Errors
    ///
    /// If a URI is not valid in a certificate.
    pub fn sign(&self, uris: &[&str]) -> std::io::Result<Certificate> {
        let mut params = CertificateParams::default();
        add_uris(&mut params, uris)?;
        self.sign_params(params)
    }

    /// Creates a certificate for a server with these names, which are host names or IP addresses.
    ///
    /// # Errors
    ///
    /// If a name is not valid in a certificate.
    pub fn sign_server(&self, names: &[&str]) -> std::io::Result<Certificate> {
        self.sign_params(params(names)?)
    }

    fn sign_params(&self, mut params: CertificateParams) -> std::io::Result<Certificate> {
        let key = KeyPair::generate().map_err(std::io::Error::other)?;
        // With the issuer's name the certificate would count as self-signed.
        params.distinguished_name = DistinguishedName::new();
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(std::io::Error::other)?;
        Certificate::of(&certificate, &key)
    }
}

/// Builds the settings of a TLS client that trusts the certificate in a PEM file and presents `client`, if there is one.
///
/// # Errors
///
/// If the file cannot be read, or a certificate cannot be used for TLS.
pub fn trusting_file(path: &Path, client: Option<&Certificate>) -> std::io::Result<ClientConfig> {
    let trusted = CertificateDer::from_pem_file(path).map_err(std::io::Error::other)?;
    client_config(trusted, client, DEFAULT_VERSIONS)
}

fn client_config(
    trusted: CertificateDer<'static>,
    client: Option<&Certificate>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).map_err(std::io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots);
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => builder
            .with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())
            .map_err(std::io::Error::other),
    }
}

fn params(names: &[&str]) -> std::io::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).map_err(std::io::Error::other)
}

fn add_uris(params: &mut CertificateParams, uris: &[&str]) -> std::io::Result<()> {
    for &uri in uris {
        let uri = uri.try_into().map_err(std::io::Error::other)?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(())
}
