//! Terminates TLS, and replaces the certificate while connections are open.
//!
//! The PEM files are read again every few seconds and on request, and compared by content: Kubernetes replaces a symbolic
//! link, which does not change the file's own time. New connections get the new certificate, open ones continue. If the files
//! cannot be used, the certificate stays and the error is logged once.
//!
//! Clients may be asked for a certificate, to recognize proxies. One that cannot be verified ends the handshake, RFC 8446
//! §4.4.2.4; a client without one is served, and is nobody.
//!
//! HTTP/2 and HTTP/1.1 are offered by ALPN. The crypto provider is set explicitly, because another crate may choose the
//! process default.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::net::certificates::{CertificateFiles, Contents, TlsError};

/// The server's TLS configuration and certificate. Clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    files: Arc<CertificateFiles>,
    /// The contents of the files when the current certificate was read.
    contents: Arc<Mutex<Contents>>,
    current: Arc<CurrentCertificate>,
    /// Replaced when the certificates that sign those of clients change. Locked once in a handshake, like the certificate.
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

/// The certificate for new connections. It is locked once in a handshake, which costs a thousand times as much as the lock.
#[derive(Debug)]
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl Tls {
    /// Reads a certificate chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or parsed, or if the two do not belong together.
    pub(crate) fn load(
        certificate: &Path,
        key: &Path,
        client_ca: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let files = CertificateFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            client_ca: client_ca.map(Path::to_owned),
        };
        let contents = files.read()?;
        let certified = files.parse(&contents)?;
        let current = Arc::new(CurrentCertificate(RwLock::new(certified)));
        let config = server_config(&current, files.client_verifier(&contents)?)?;
        Ok(Self {
            files: Arc::new(files),
            contents: Arc::new(Mutex::new(contents)),
            current,
            config: Arc::new(RwLock::new(config)),
        })
    }

    /// Returns the acceptor for new connections. It always uses the current certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read();
        Arc::clone(&config.unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Reads the files again. Returns true if the certificate or the key has changed.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`]; the current certificate stays.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let new = self.files.read()?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if *contents == new {
            return Ok(false);
        }
        let certified = self.files.parse(&new)?;
        if contents.client_ca != new.client_ca {
            // With a new key for tickets, because a session that is resumed keeps the identity of its client.
            let new = server_config(&self.current, self.files.client_verifier(&new)?)?;
            *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        *contents = new;
        let current = self.current.0.write();
        *current.unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(true)
    }

    /// Reloads every `interval`, and at once when notified. It reads two small files on the calling thread, which should not
    /// be a worker.
    pub(crate) async fn watch(&self, interval: Duration, now: &Notify) -> std::convert::Infallible {
        let mut logged = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = now.notified() => {}
            }
            match self.reload() {
                Ok(true) => {
                    logged = None;
                    tracing::info!("the TLS certificate was replaced");
                }
                Ok(false) => logged = None,
                Err(error) => {
                    let text = format!("{error:?}");
                    if logged.as_ref() != Some(&text) {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, "the TLS certificate was not replaced");
                    }
                    logged = Some(text);
                }
            }
        }
    }

    /// Returns a function that gives the expiry of the current certificate in seconds since 1970, zero if unknown.
    pub(crate) fn expiry(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let current = Arc::clone(&self.current);
        move || {
            let current = current.get();
            let own = current.cert.first().map(CertificateDer::as_ref);
            let parsed = own.and_then(|der| parse_x509_certificate(der).ok());
            parsed
                .and_then(|(_, parsed)| parsed.validity().not_after.timestamp().try_into().ok())
                .unwrap_or(0)
        }
    }
}

/// Returns the configuration for new connections.
fn server_config(
    current: &Arc<CurrentCertificate>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match client_verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(current) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // The client keeps its session, so nothing is stored here and any worker can resume it.
    config.ticketer = Ticketer::new().map_err(TlsError::Provider)?;
    Ok(Arc::new(config))
}

/// Returns the URI name (SPIFFE id) of a client's certificate, which the handshake has verified: the first one, as in Envoy's
/// `uri_san_peer_certificate`.
pub(crate) fn identity(connection: &ServerConnection) -> Option<Box<[u8]>> {
    let own = connection.peer_certificates()?.first()?;
    let (_, parsed) = parse_x509_certificate(own).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some(uri.as_bytes().into()),
            _ => None,
        })
}

impl CurrentCertificate {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm, date_time_ymd};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tempfile::TempDir;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// The files of a test.
    struct Folder {
        folder: TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    struct Pair {
        certificate: String,
        key: String,
        der: CertificateDer<'static>,
    }

    impl Folder {
        fn with(pair: &Pair) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name| folder.path().join(name);
            let (certificate, key) = (path("tls.crt"), path("tls.key"));
            let folder = Self {
                folder,
                certificate,
                key,
            };
            folder.put(&pair.certificate, &pair.key);
            folder
        }

        fn put(&self, certificate: &str, key: &str) {
            fs::write(&self.certificate, certificate).expect("a file");
            fs::write(&self.key, key).expect("a file");
        }

        fn load(&self) -> Result<Tls, TlsError> {
            Tls::load(&self.certificate, &self.key, None)
        }

        /// Returns the error without the folder's name.
        fn error(&self) -> String {
            let error = self.load().expect_err("an error");
            let error = format!("{:#}", anyhow::Error::new(error));
            error.replace(&format!("{}/", self.folder.path().display()), "")
        }
    }

    fn pair(algorithm: &'static SignatureAlgorithm, year: i32) -> Pair {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    fn ecdsa() -> Pair {
        pair(&rcgen::PKCS_ECDSA_P256_SHA256, 2099)
    }

    /// Connects as a browser with these protocols, and returns the certificate and the negotiated protocol.
    async fn connect(
        tls: &Tls,
        trusted: &Pair,
        protocols: &[&str],
    ) -> std::io::Result<(CertificateDer<'static>, Option<Vec<u8>>)> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der.clone()).expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let (near, far) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let (accepted, connected) =
            tokio::join!(tls.acceptor().accept(far), connector.connect(name, near));
        let connected = connected?;
        let (_, client) = connected.get_ref();
        let shown = client.peer_certificates().and_then(<[_]>::first);
        let shown = shown.expect("a certificate").clone().into_owned();
        let accepted = accepted?;
        let (_, server) = accepted.get_ref();
        Ok((shown, server.alpn_protocol().map(<[u8]>::to_vec)))
    }

    #[tokio::test]
    async fn keys_of_all_types_are_accepted() {
        let algorithms = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        for algorithm in algorithms {
            let pair = pair(algorithm, 2099);
            let tls = Folder::with(&pair).load().expect("usable");
            let (shown, _) = connect(&tls, &pair, &[]).await.expect("a connection");
            assert_eq!(shown, pair.der);
        }
    }

    #[tokio::test]
    async fn http_2_is_preferred_to_http_1_1() {
        let pair = ecdsa();
        let tls = Folder::with(&pair).load().expect("usable");
        let table: [(&[&str], Option<&str>); 4] = [
            (&["http/1.1", "h2"], Some("h2")),
            (&["h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ];
        for (offered, chosen) in table {
            let (_, protocol) = connect(&tls, &pair, offered).await.expect("a connection");
            assert_eq!(protocol.as_deref(), chosen.map(str::as_bytes));
        }
        let neither = connect(&tls, &pair, &["spdy/3"]).await;
        assert!(neither.is_err());
    }

    #[tokio::test]
    async fn new_connections_get_the_new_certificate() {
        let (old, new) = (ecdsa(), pair(&rcgen::PKCS_ED25519, 2050));
        let folder = Folder::with(&old);
        let tls = folder.load().expect("usable");
        let (acceptor, expiry) = (tls.acceptor(), tls.expiry());
        assert_eq!(expiry(), 4_070_908_800);
        assert!(!tls.reload().expect("usable"));
        folder.put(&new.certificate, &new.key);
        assert!(tls.reload().expect("usable"));
        assert!(!tls.reload().expect("usable"));
        let (shown, _) = connect(&tls, &new, &[]).await.expect("a connection");
        assert_eq!(shown, new.der);
        assert_eq!(expiry(), 2_524_608_000);
        assert!(Arc::ptr_eq(acceptor.config(), tls.acceptor().config()));
    }

    #[test]
    fn a_replaced_symbolic_link_is_a_change() {
        use std::os::unix::fs::symlink;
        let (old, new) = (Folder::with(&ecdsa()), Folder::with(&ecdsa()));
        let mounted = tempfile::tempdir().expect("a folder");
        let (data, next) = (mounted.path().join("..data"), mounted.path().join("..next"));
        symlink(old.folder.path(), &data).expect("a link");
        let tls = Tls::load(&data.join("tls.crt"), &data.join("tls.key"), None).expect("usable");
        // As Kubernetes does: the new link replaces the old one in one step.
        symlink(new.folder.path(), &next).expect("a link");
        fs::rename(&next, &data).expect("a swap");
        assert!(tls.reload().expect("usable"));
    }

    #[tokio::test]
    async fn a_broken_file_changes_nothing() {
        let (old, new) = (ecdsa(), ecdsa());
        let folder = Folder::with(&old);
        let tls = folder.load().expect("usable");
        for (certificate, key) in [
            ("", &*new.key),
            (&new.certificate, "-----BEGIN"),
            // Half of a change.
            (&new.certificate, &old.key),
        ] {
            folder.put(certificate, key);
            tls.reload().expect_err("an error");
            let (shown, _) = connect(&tls, &old, &[]).await.expect("a connection");
            assert_eq!(shown, old.der);
        }
        fs::remove_file(&folder.key).expect("a file");
        tls.reload().expect_err("an error");
        folder.put(&new.certificate, &new.key);
        assert!(tls.reload().expect("usable"));
    }

    #[tokio::test]
    async fn a_change_is_found_on_the_interval_and_when_notified() {
        let hour = Duration::from_secs(3600);
        for (every, is_notified) in [(Duration::from_millis(1), false), (hour, true)] {
            let (old, new) = (ecdsa(), ecdsa());
            let folder = Folder::with(&old);
            let tls = folder.load().expect("usable");
            let now = Notify::new();
            folder.put(&new.certificate, &new.key);
            if is_notified {
                now.notify_one();
            }
            let changed = async {
                while connect(&tls, &new, &[]).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = tls.watch(every, &now) => {}
                () = changed => {}
            }
            assert!(!tls.reload().expect("usable"));
        }
    }

    #[test]
    fn errors_name_the_file_and_what_is_expected() {
        let (one, other) = (ecdsa(), ecdsa());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let table = [
            (
                &*one.certificate,
                &*other.key,
                "the key in `tls.key` does not belong to the certificate in `tls.crt`; the server's own certificate must come first",
            ),
            (
                "hello",
                &one.key,
                "`tls.crt` has no certificate: a PEM file is expected, with the line -----BEGIN CERTIFICATE-----",
            ),
            (
                &one.certificate,
                encrypted,
                "`tls.key` has no private key without a passphrase: a PEM file is expected, with the line -----BEGIN PRIVATE KEY-----",
            ),
            (
                &one.certificate,
                nonsense,
                "`tls.key` has no usable private key: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA",
            ),
            (
                broken,
                &one.key,
                "`tls.crt` has no usable certificate: invalid peer certificate: BadEncoding",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                &one.key,
                "`tls.crt` is not a PEM file, or is truncated",
            ),
        ];
        for (certificate, key, expected) in table {
            let folder = Folder::with(&one);
            folder.put(certificate, key);
            assert_eq!(folder.error(), expected);
        }
        let folder = Folder::with(&one);
        fs::remove_file(&folder.certificate).expect("a file");
        assert_eq!(
            folder.error(),
            "cannot read `tls.crt`: No such file or directory (os error 2)"
        );
    }
}
