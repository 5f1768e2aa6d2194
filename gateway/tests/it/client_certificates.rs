//! Tests trust in a proxy by its client certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_support::certificate::{Authority, Certificate, CertificateFiles};
use fluxlit_support::client::{connect, exchange, tls};
use fluxlit_support::wait::wait_until;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Gateway, Requests, recording};

pub(crate) const INGRESS: &str = "spiffe://mesh.example/ns/edge/sa/ingress";
pub(crate) const OTHER: &str = "spiffe://mesh.example/ns/edge/sa/other";
pub(crate) const CLIENT: &str = "203.0.113.7";
pub(crate) const PEER: &str = "127.0.0.1";

/// The field with which the ingress names the user.
pub(crate) const USER: &str = "x-auth-request-email";

/// A gateway that trusts one client certificate.
pub(crate) struct Mesh {
    _folder: TempDir,
    pub(crate) files: CertificateFiles,
    pub(crate) client_ca: PathBuf,
    pub(crate) authority: Authority,
    pub(crate) gateway: Gateway,
}

/// A gateway with an upstream that records what arrives.
struct Recorded {
    mesh: Mesh,
    seen: Requests,
}

impl Mesh {
    pub(crate) fn in_front_of(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Certificate::create_files(folder.path(), &["localhost"]).unwrap();
        let authority = Authority::create().unwrap();
        let client_ca = folder.path().join("client-ca.pem");
        put(&client_ca, &authority.pem);
        let upstream = format!("http://{upstream}");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (certificate, key) = (text(&files.certificate), text(&files.key));
        let gateway = Gateway::start(
            &[
                ("FLUXLIT_STREAMLIT_UPSTREAM", &upstream),
                ("FLUXLIT_TLS_CERTIFICATE", &certificate),
                ("FLUXLIT_TLS_KEY", &key),
                ("FLUXLIT_TLS_CLIENT_CA", &text(&client_ca)),
                ("FLUXLIT_TRUST_PROXY", "1"),
                ("FLUXLIT_TRUSTED_IDENTITIES", INGRESS),
                ("FLUXLIT_TRUSTED_PASS_HEADERS", USER),
            ],
            &[],
        );
        Self {
            _folder: folder,
            files,
            client_ca,
            authority,
            gateway,
        }
    }

    /// Replaces the certificates that sign those of clients.
    pub(crate) fn replace_issuers(&self, pem: &str) {
        put(&self.client_ca, pem);
        self.gateway.signal(Signal::HUP);
    }
}

impl Recorded {
    fn start() -> Self {
        let (address, seen) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let mesh = Mesh::in_front_of(address);
        Self { mesh, seen }
    }

    /// Sends a request that names another client, and returns whom the app takes for the client; an error if the connection is
    /// ended.
    fn client(&self, certificate: Option<&Certificate>) -> std::io::Result<String> {
        let address: SocketAddr = self.mesh.gateway.address;
        let config = self.mesh.files.client_config(certificate)?;
        let mut stream = tls(connect(address)?, config)?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: app.example\r\nx-forwarded-for: {CLIENT}\r\nconnection: close\r\n\r\n"
        );
        let response = exchange(&mut stream, request.as_bytes(), "GET")?;
        assert_eq!(response.status, 200, "{response:?}");
        Ok(self.seen.last().values("x-forwarded-for").join(" "))
    }
}

fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn only_a_listed_identity_is_trusted() {
    let recorded = Recorded::start();
    for (uris, expected) in [
        (&[INGRESS][..], CLIENT),
        (&[OTHER], PEER),
        (&["spiffe://mesh.example/ns/edge/sa/ingress/x"], PEER),
        (&["SPIFFE://mesh.example/ns/edge/sa/ingress"], PEER),
        // The first name counts, as in Envoy.
        (&[INGRESS, OTHER], CLIENT),
        (&[OTHER, INGRESS], PEER),
        (&[], PEER),
    ] {
        let certificate = recorded.mesh.authority.sign(uris).unwrap();
        assert_eq!(
            recorded.client(Some(&certificate)).unwrap(),
            expected,
            "{uris:?}"
        );
    }
    assert_eq!(recorded.client(None).unwrap(), PEER);
}

#[test]
fn a_certificate_of_an_unknown_issuer_ends_the_connection() {
    let recorded = Recorded::start();
    let stranger = Authority::create().unwrap();
    let self_signed = Certificate::create(&["localhost"], &[INGRESS]).unwrap();
    for certificate in [&stranger.sign(&[INGRESS]).unwrap(), &self_signed] {
        assert!(recorded.client(Some(certificate)).is_err());
    }
    assert_eq!(recorded.seen.count(), 0);
    assert_eq!(
        recorded.client(None).unwrap(),
        PEER,
        "others are still served"
    );
}

#[test]
fn new_issuers_are_used_after_sighup() {
    let recorded = Recorded::start();
    let new = Authority::create().unwrap();
    let (old_client, new_client) = (
        recorded.mesh.authority.sign(&[INGRESS]).unwrap(),
        new.sign(&[INGRESS]).unwrap(),
    );
    assert_eq!(recorded.client(Some(&old_client)).unwrap(), CLIENT);
    // A file that cannot be used changes nothing.
    recorded.mesh.replace_issuers("nothing");
    let log = "the TLS certificate was not replaced";
    assert!(wait_until(LIMIT, || recorded
        .mesh
        .gateway
        .log()
        .contains(log)));
    assert_eq!(recorded.client(Some(&old_client)).unwrap(), CLIENT);

    recorded.mesh.replace_issuers(&new.pem);
    assert!(wait_until(LIMIT, || {
        recorded
            .client(Some(&new_client))
            .is_ok_and(|client| client == CLIENT)
    }));
    assert!(recorded.client(Some(&old_client)).is_err());
}

const LIMIT: Duration = Duration::from_secs(60);
