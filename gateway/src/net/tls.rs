//! Which certificate does the gateway show, and how does a new one take its place?
//!
//! Certificate and key are PEM files. They are read again when told to and every few seconds, and compared by content:
//! Kubernetes swaps a symbolic link, which leaves no trace in the file's own time. New connections get the new
//! certificate, those that are open go on. Files that cannot be used change nothing but the log, once.
//!
//! HTTP/2 and HTTP/1.1 are offered by ALPN. The provider is named here: a process default could be another crate's choice.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use x509_parser::parse_x509_certificate;

/// The certificate and what is done with it; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    files: Arc<Files>,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TlsError {
    #[error("`{}` has no certificate that can be used", path.display())]
    Certificate {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error("`{}` has no private key that can be used", path.display())]
    Key {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error(
        "the key in `{}` is not that of the certificate in `{}`; the server's own certificate must come first",
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
    #[error("`{}` is not a PEM file, or is cut short", path.display())]
    Pem { path: PathBuf },
    #[error("the TLS library cannot be set up")]
    Provider(#[source] rustls::Error),
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What was in them when the certificate that is shown was read.
    contents: Mutex<Contents>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Looked at once in a handshake, which costs a thousand times what the lock does.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, does not hold what it should, or the two do not belong together.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let contents = Contents::read(certificate, key)?;
        let shown = Arc::new(Shown(RwLock::new(contents.certified(certificate, key)?)));
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are kept by the client: nothing is stored, and any worker can resume them.
        config.ticketer = Ticketer::new().map_err(TlsError::Provider)?;
        Ok(Self {
            files: Arc::new(Files {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                contents: Mutex::new(contents),
            }),
            shown,
            config: Arc::new(config),
        })
    }

    /// What makes a connection a TLS connection. It shows whatever certificate there is at the time.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config).into()
    }

    /// Reads the files again. Gives whether there is another certificate or key in them.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`]; what was shown before is shown on.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let Files {
            certificate, key, ..
        } = &*self.files;
        let new = Contents::read(certificate, key)?;
        let mut contents = self
            .files
            .contents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *contents == new {
            return Ok(false);
        }
        let certified = new.certified(certificate, key)?;
        *contents = new;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(true)
    }

    /// Reloads as often as `every` says, and at once when notified. Reads two small files on the thread that runs it,
    /// which should not be a worker's.
    pub(crate) async fn watch(&self, every: Duration, now: &Notify) -> std::convert::Infallible {
        let mut told = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = now.notified() => {}
            }
            match self.reload() {
                Ok(true) => {
                    told = None;
                    tracing::info!("the TLS certificate was changed");
                }
                Ok(false) => told = None,
                Err(error) => {
                    let all = format!("{error:?}");
                    if told.as_ref() != Some(&all) {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, "the TLS certificate stays as it was");
                    }
                    told = Some(all);
                }
            }
        }
    }

    /// When the server's certificate expires, in seconds since 1970; zero if it does not say. To be asked at any time.
    pub(crate) fn expiry(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let shown = Arc::clone(&self.shown);
        move || {
            let shown = shown.get();
            let own = shown.cert.first().map(CertificateDer::as_ref);
            let parsed = own.and_then(|der| parse_x509_certificate(der).ok());
            parsed
                .and_then(|(_, parsed)| parsed.validity().not_after.timestamp().try_into().ok())
                .unwrap_or(0)
        }
    }
}

impl Contents {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }

    /// What the contents say. The paths are for errors.
    fn certified(&self, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
        let not_pem = |path: &Path| {
            let path = path.to_owned();
            |_| TlsError::Pem { path }
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(not_pem(certificate))?;
        if chain.is_empty() {
            return Err(TlsError::Missing {
                path: certificate.to_owned(),
                what: "certificate",
                line: "CERTIFICATE",
            });
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| match source {
            // An encrypted key is none of the sections that are looked for.
            pem::Error::NoItemsFound => TlsError::Missing {
                path: key.to_owned(),
                what: "private key without a passphrase",
                line: "PRIVATE KEY",
            },
            source => not_pem(key)(source),
        })?;
        let private = aws_lc_rs::sign::any_supported_type(&private);
        let private = private.map_err(|source| TlsError::Key {
            path: key.to_owned(),
            source,
        })?;
        let certified = CertifiedKey::new(chain, private);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            }),
            Err(source) => Err(TlsError::Certificate {
                path: certificate.to_owned(),
                source,
            }),
        }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There is a private key in it.
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Shown {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm, date_time_ymd};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tempfile::TempDir;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Where a test's files are.
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
            Tls::load(&self.certificate, &self.key)
        }

        /// What is wrong with the files and why, the folder's name left out.
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

    /// Connects as a browser does that speaks these protocols; gives the certificate that was shown, and the protocol.
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
    async fn a_key_of_any_type_will_do() {
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
    async fn http_2_is_preferred_and_http_1_1_spoken() {
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
    fn a_link_that_is_swapped_is_a_change() {
        use std::os::unix::fs::symlink;
        let (old, new) = (Folder::with(&ecdsa()), Folder::with(&ecdsa()));
        let mounted = tempfile::tempdir().expect("a folder");
        let (data, next) = (mounted.path().join("..data"), mounted.path().join("..next"));
        symlink(old.folder.path(), &data).expect("a link");
        let tls = Tls::load(&data.join("tls.crt"), &data.join("tls.key")).expect("usable");
        // As Kubernetes does it: the new link takes the old one's place in one step.
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
    async fn a_change_is_found_by_itself_and_when_told() {
        let hour = Duration::from_secs(3600);
        for (every, is_told) in [(Duration::from_millis(1), false), (hour, true)] {
            let (old, new) = (ecdsa(), ecdsa());
            let folder = Folder::with(&old);
            let tls = folder.load().expect("usable");
            let now = Notify::new();
            folder.put(&new.certificate, &new.key);
            if is_told {
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
    fn an_error_says_which_file_and_what_is_expected() {
        let (one, other) = (ecdsa(), ecdsa());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let table = [
            (
                &*one.certificate,
                &*other.key,
                "the key in `tls.key` is not that of the certificate in `tls.crt`; the server's own certificate must come first",
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
                "`tls.key` has no private key that can be used: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA",
            ),
            (
                broken,
                &one.key,
                "`tls.crt` has no certificate that can be used: invalid peer certificate: BadEncoding",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                &one.key,
                "`tls.crt` is not a PEM file, or is cut short",
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
