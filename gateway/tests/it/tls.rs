//! Tests TLS: the negotiation, what the app receives, and the replacement of a certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Method;
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http2::{Http2, request, run};
use crate::support::{Gateway, eventually, recording};
use crate::tunnel::handshake;

/// The files of a certificate and its key.
struct Files {
    _folder: TempDir,
    certificate: PathBuf,
    key: PathBuf,
    /// All certificates that have been in the files; clients trust each of them.
    trusted: Vec<CertificateDer<'static>>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Self {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            _folder: folder,
            trusted: Vec::new(),
        };
        files.renew();
        files
    }

    /// Writes a new certificate and key, each file atomically.
    fn renew(&mut self) {
        let new = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
        for (path, text) in [
            (&self.key, new.signing_key.serialize_pem()),
            (&self.certificate, new.cert.pem()),
        ] {
            let aside = path.with_extension("new");
            std::fs::write(&aside, text).unwrap();
            std::fs::rename(aside, path).unwrap();
        }
        self.trusted.push(new.cert.der().clone());
    }

    fn gateway(&self, upstream: SocketAddr, settings: &[(&str, &str)]) -> Gateway {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (upstream, certificate, key) = (
            format!("http://{upstream}"),
            text(&self.certificate),
            text(&self.key),
        );
        let mut all = vec![
            ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
            ("FLUXLIT_TLS_CERTIFICATE", certificate.as_str()),
            ("FLUXLIT_TLS_KEY", key.as_str()),
        ];
        all.extend(settings);
        Gateway::start(&all, &[])
    }

    async fn connect(
        &self,
        to: SocketAddr,
        protocols: &[&str],
    ) -> TlsStream<tokio::net::TcpStream> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.trusted {
            roots.add(certificate.clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("app.example").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// Returns the certificate that the gateway presents on a new connection.
    fn shown(&self, by: SocketAddr) -> CertificateDer<'static> {
        run(async {
            let stream = self.connect(by, &[]).await;
            let (_, connection) = stream.get_ref();
            connection.peer_certificates().unwrap()[0]
                .clone()
                .into_owned()
        })
    }
}

#[test]
fn both_versions_of_http_are_negotiated_and_the_scheme_is_https() {
    let (address, seen) = recording(
        "HTTP/1.1 200 OK\r\nlocation: http://app.example/x\r\ncontent-length: 2\r\n\r\nok",
    );
    let files = Files::new();
    let gateway = files.gateway(address, &[("FLUXLIT_HSTS", "true")]);
    for (offered, chosen) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
    ] {
        let answer = run(async {
            let mut stream = files.connect(gateway.address, offered).await;
            let protocol = stream.get_ref().1.alpn_protocol();
            assert_eq!(protocol, chosen.map(str::as_bytes));
            if chosen == Some("h2") {
                let mut client = Http2::on(stream).await;
                let forged = [("x-forwarded-proto", "http"), ("x-forwarded-port", "80")];
                let (head, body, _) = client.ask(request(Method::GET, "/", &forged)).await;
                return format!("{head:?}{body}");
            }
            let asked = "GET / HTTP/1.1\r\nhost: app.example\r\nx-forwarded-proto: http\r\nconnection: close\r\n\r\n";
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        assert!(
            answer.contains("strict-transport-security") && answer.ends_with("ok"),
            "{answer}"
        );
        let received = seen.last();
        assert_eq!(received.values("x-forwarded-proto"), ["https"]);
        assert_eq!(received.values("x-forwarded-port"), ["443"]);
    }
}

/// A client and a server that read a connection as different versions of HTTP can be made to disagree.
#[test]
fn the_selected_version_of_http_is_binding() {
    let (address, seen) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let files = Files::new();
    let gateway = files.gateway(
        address,
        &[
            ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "true"),
            ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "true"),
        ],
    );
    let http1 = "GET / HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n";
    // The preface and SETTINGS, RFC 9113 §3.4.
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let ask = |offered: &[&str], sent: &str| {
        run(async {
            let mut stream = files.connect(gateway.address, offered).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            if sent == http2 && offered != ["http/1.1"] {
                // The server's own SETTINGS.
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.unwrap();
                return format!("SETTINGS {}", head[3]);
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            crate::client::text(&answer)
        })
    };
    for (offered, sent, start) in [
        (&["h2"][..], http2, "SETTINGS 4"),
        (&["http/1.1"], http1, "HTTP/1.1 200 "),
        (&["http/1.1"], http2, "HTTP/1.1 400 "),
        // Without ALPN, the client's first bytes decide.
        (&[], http1, "HTTP/1.1 200 "),
        (&[], http2, "SETTINGS 4"),
    ] {
        let answer = ask(offered, sent);
        assert!(answer.starts_with(start), "{offered:?}: {answer:?}");
    }
    for sent in [http1, "PRI * HTTP/2.1\r\n\r\n", "\0\0\0\u{4}\n", "GET /\n"] {
        assert_eq!(ask(&["h2"], sent), "", "{sent:?}");
    }
    let metrics = ask(
        &[],
        "GET /__fluxlit/metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    let counted = metrics
        .lines()
        .any(|line| line.ends_with("refused_total{reason=\"wrong_protocol\"} 5"));
    assert!(counted, "{metrics}");
    assert_eq!(seen.count(), 2);
}

/// A page that came over plain http may be an attacker's, who must not use the cookies of the https page.
#[test]
fn a_page_loaded_without_tls_opens_no_tunnel() {
    let (address, _) = recording("HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n");
    let files = Files::new();
    let gateway = files.gateway(address, &[]);
    for (origin, status) in [
        ("http://app.example", 403),
        ("http://app.example:443", 403),
        ("https://app.example:80", 403),
        ("https://app.example", 418),
        ("https://APP.example:443", 418),
    ] {
        let answer = run(async {
            let mut stream = files.connect(gateway.address, &[]).await;
            let asked = handshake(&format!("origin: {origin}\r\n"));
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut line = vec![0; 12];
            stream.read_exact(&mut line).await.unwrap();
            String::from_utf8(line).unwrap()
        });
        assert_eq!(answer, format!("HTTP/1.1 {status}"), "{origin}");
    }
}

/// The host is known from the handshake, and from the head if it can be read.
#[test]
fn a_response_to_an_invalid_request_has_the_usual_fields() {
    let (address, _) = recording("");
    let files = Files::new();
    let gateway = files.gateway(
        address,
        &[
            ("FLUXLIT_HSTS", "true"),
            ("FLUXLIT_SECURITY_HEADERS", "true"),
        ],
    );
    for (status, request) in [
        (400, "GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
        (505, "GET / HTTP/3.0\r\n\r\n"),
        (
            501,
            "PUT / HTTP/1.1\r\nhost: other.example\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        ),
    ] {
        let answer = run(async {
            let mut stream = files.connect(gateway.address, &[]).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        });
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        for name in [
            "strict-transport-security",
            "x-content-type-options",
            "x-request-id",
        ] {
            let found = answer.matches(&format!("\r\n{name}: ")).count();
            assert_eq!(found, 1, "{name}: {answer}");
        }
    }
}

#[test]
fn a_client_without_tls_gets_no_response_and_does_no_harm() {
    let (address, seen) = recording("");
    let files = Files::new();
    let gateway = files.gateway(address, &[]);
    let answer = gateway.get("/");
    assert!(!answer.contains("HTTP/1.1"), "{answer:?}");
    assert_eq!(files.shown(gateway.address), files.trusted[0]);
    assert_eq!(seen.count(), 0);
}

#[test]
fn a_new_certificate_is_used_after_sighup() {
    let (address, _) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut files = Files::new();
    let gateway = files.gateway(address, &[]);
    assert_eq!(files.shown(gateway.address), files.trusted[0]);
    // A certificate without its key changes nothing.
    std::fs::write(&files.key, "no key").unwrap();
    gateway.signal(Signal::HUP);
    assert_eq!(files.shown(gateway.address), files.trusted[0]);
    files.renew();
    gateway.signal(Signal::HUP);
    assert!(eventually(
        || files.shown(gateway.address) == files.trusted[1]
    ));
}

#[test]
fn a_new_certificate_is_found_without_a_signal() {
    let (address, _) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut files = Files::new();
    let gateway = files.gateway(address, &[]);
    files.renew();
    assert!(eventually(
        || files.shown(gateway.address) == files.trusted[1]
    ));
}

/// SIGHUP asks daemons to reload, and must not end a gateway that has nothing to reload.
#[test]
fn sighup_without_a_certificate_is_ignored() {
    let (address, _) = recording("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let gateway = Gateway::in_front_of(address, &[]);
    gateway.signal(Signal::HUP);
    for _ in 0..10 {
        assert!(gateway.get("/").ends_with("ok"));
    }
}
