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

const INGRESS: &str = "spiffe://mesh.example/ns/edge/sa/ingress";
const OTHER: &str = "spiffe://mesh.example/ns/edge/sa/other";
const CLIENT: &str = "203.0.113.7";
const PEER: &str = "127.0.0.1";

struct Mesh {
    _folder: TempDir,
    files: CertificateFiles,
    client_ca: PathBuf,
    authority: Authority,
    seen: Requests,
    gateway: Gateway,
}

impl Mesh {
    fn start() -> Self {
        let (address, seen) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let folder = tempfile::tempdir().unwrap();
        let files = Certificate::create_files(folder.path(), &["localhost"]).unwrap();
        let authority = Authority::create().unwrap();
        let client_ca = folder.path().join("client-ca.pem");
        put(&client_ca, &authority.pem);
        let upstream = format!("http://{address}");
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
            ],
            &[],
        );
        Self {
            _folder: folder,
            files,
            client_ca,
            authority,
            seen,
            gateway,
        }
    }

    /// Sends a request that names another client, and returns whom the app takes for the client; an error if the connection is
    /// ended.
    fn client(&self, certificate: Option<&Certificate>) -> std::io::Result<String> {
        let address: SocketAddr = self.gateway.address;
        let config = self.files.client_config(certificate)?;
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
    let mesh = Mesh::start();
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
        let certificate = mesh.authority.sign(uris).unwrap();
        assert_eq!(
            mesh.client(Some(&certificate)).unwrap(),
            expected,
            "{uris:?}"
        );
    }
    assert_eq!(mesh.client(None).unwrap(), PEER);
}

#[test]
fn a_certificate_of_an_unknown_issuer_ends_the_connection() {
    let mesh = Mesh::start();
    let stranger = Authority::create().unwrap();
    let self_signed = Certificate::create(&["localhost"], &[INGRESS]).unwrap();
    for certificate in [&stranger.sign(&[INGRESS]).unwrap(), &self_signed] {
        assert!(mesh.client(Some(certificate)).is_err());
    }
    assert_eq!(mesh.seen.count(), 0);
    assert_eq!(mesh.client(None).unwrap(), PEER, "others are still served");
}

#[test]
fn new_issuers_are_used_after_sighup() {
    let mesh = Mesh::start();
    let new = Authority::create().unwrap();
    let (old_client, new_client) = (
        mesh.authority.sign(&[INGRESS]).unwrap(),
        new.sign(&[INGRESS]).unwrap(),
    );
    assert_eq!(mesh.client(Some(&old_client)).unwrap(), CLIENT);
    // A file that cannot be used changes nothing.
    put(&mesh.client_ca, "nothing");
    mesh.gateway.signal(Signal::HUP);
    let log = "the TLS certificate was not replaced";
    assert!(wait_until(LIMIT, || mesh.gateway.log().contains(log)));
    assert_eq!(mesh.client(Some(&old_client)).unwrap(), CLIENT);

    put(&mesh.client_ca, &new.pem);
    mesh.gateway.signal(Signal::HUP);
    assert!(wait_until(LIMIT, || {
        mesh.client(Some(&new_client))
            .is_ok_and(|client| client == CLIENT)
    }));
    assert!(mesh.client(Some(&old_client)).is_err());
}

const LIMIT: Duration = Duration::from_secs(60);
