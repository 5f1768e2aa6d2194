//! Tests client certificates over HTTP/2: each stream of a connection, a resumed session, and a WebSocket.

use std::io;
use std::sync::{Arc, Barrier};

use fluxlit_support::certificate::{Authority, Certificate};
use http::Request;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client_certificates::{CLIENT, INGRESS, Mesh, OTHER, PEER, USER};
use crate::http2::{Http2, OK, echo, handshake, request, run, whole};
use crate::support::{eventually, recording, upstream};

/// The user that a request names.
const EMAIL: &str = "ada@example.com";

/// What the app is told about a request that names another client and a user.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    client: String,
    user: Option<String>,
}

impl Told {
    /// That the peer is believed.
    fn by_ingress() -> Self {
        Self {
            client: CLIENT.to_owned(),
            user: Some(EMAIL.to_owned()),
        }
    }

    /// That the peer is not believed, so it is the client itself.
    fn by_stranger() -> Self {
        Self {
            client: PEER.to_owned(),
            user: None,
        }
    }

    /// Reads the head of a request.
    fn from_lines(lines: &str) -> Self {
        let values = |name: &str| -> Vec<&str> {
            let fields = lines.lines().filter_map(|line| line.split_once(": "));
            let named = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value).collect()
        };
        let users = values(USER);
        Self {
            client: values("x-forwarded-for").join(" "),
            user: (!users.is_empty()).then(|| users.join(" ")),
        }
    }
}

/// Returns the settings of a client that offers HTTP/2 and presents this certificate.
fn config(mesh: &Mesh, certificate: Option<&Certificate>) -> Arc<ClientConfig> {
    over_http2(mesh.files.client_config(certificate).unwrap())
}

fn over_http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn connect(
    mesh: &Mesh,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<tokio::net::TcpStream>> {
    let stream = tokio::net::TcpStream::connect(mesh.gateway.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
}

/// A request that names another client and a user.
fn naming(path: &str) -> Request<()> {
    request(
        http::Method::GET,
        path,
        &[("x-forwarded-for", CLIENT), (USER, EMAIL)],
    )
}

#[test]
fn every_stream_has_the_identity_of_its_connection() {
    const STREAMS: usize = 5;
    // All requests of all connections are at the app before it responds to any.
    let all = Arc::new(Barrier::new(3 * STREAMS));
    let mesh = Mesh::in_front_of(upstream(move |received, stream| {
        all.wait();
        echo(received, stream)
    }));
    let [ingress, other] = [INGRESS, OTHER].map(|uri| mesh.authority.sign(&[uri]).unwrap());
    run(async {
        let mut clients = Vec::new();
        for (certificate, expected) in [
            (Some(&ingress), Told::by_ingress()),
            (Some(&other), Told::by_stranger()),
            (None, Told::by_stranger()),
        ] {
            let stream = connect(&mesh, &config(&mesh, certificate)).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            clients.push((Http2::on(stream).await, expected));
        }
        let mut sent = Vec::new();
        for number in 0..STREAMS {
            for (client, expected) in &mut clients {
                let (response, _) = client.send(naming(&format!("/{number}")), true).await;
                sent.push((response, expected.clone()));
            }
        }
        for (response, expected) in sent {
            let (head, lines, _) = whole(response).await;
            assert_eq!(head.status(), 200);
            assert_eq!(Told::from_lines(&lines), expected, "{lines}");
        }
    });
}

#[test]
fn a_resumed_session_has_the_identity_of_the_first() {
    let mesh = Mesh::in_front_of(upstream(echo));
    for version in [&TLS12, &TLS13] {
        for (uri, expected) in [
            (Some(INGRESS), Told::by_ingress()),
            (Some(OTHER), Told::by_stranger()),
            (None, Told::by_stranger()),
        ] {
            let certificate = uri.map(|uri| mesh.authority.sign(&[uri]).unwrap());
            let config = mesh
                .files
                .client_config_of_versions(certificate.as_ref(), &[version]);
            // Keeps the sessions of both connections.
            let config = over_http2(config.unwrap());
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                run(async {
                    let stream = connect(&mesh, &config).await.unwrap();
                    let place = format!("{:?}, {uri:?}, {kind:?}", version.version);
                    assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{place}");
                    let mut client = Http2::on(stream).await;
                    for path in ["/first", "/second"] {
                        let (_, lines, _) = client.ask(naming(path)).await;
                        assert_eq!(Told::from_lines(&lines), expected, "{place}: {lines}");
                    }
                });
            }
        }
    }
}

#[test]
fn a_session_cannot_be_resumed_after_the_issuers_were_replaced() {
    let (address, seen) = recording(OK);
    let mesh = Mesh::in_front_of(address);
    let certificate = mesh.authority.sign(&[INGRESS]).unwrap();
    let old = config(&mesh, Some(&certificate));
    let ask = |config: &Arc<ClientConfig>| {
        run(async {
            let stream = connect(&mesh, config).await?;
            try_to_ask(stream).await
        })
    };
    ask(&old).unwrap();
    assert_eq!(
        Told::from_lines(&seen.last().head.join("\n")),
        Told::by_ingress()
    );

    let new = Authority::create().unwrap();
    mesh.replace_issuers(&new.pem);
    let new_client = config(&mesh, Some(&new.sign(&[INGRESS]).unwrap()));
    assert!(
        eventually(|| ask(&new_client).is_ok()),
        "{}",
        mesh.gateway.log()
    );
    let served = seen.count();
    assert!(ask(&old).is_err(), "the old session was resumed");
    assert_eq!(seen.count(), served);
}

#[test]
fn a_certificate_of_an_unknown_issuer_ends_the_connection_before_any_stream() {
    let (address, seen) = recording(OK);
    let mesh = Mesh::in_front_of(address);
    let stranger = Authority::create().unwrap();
    let self_signed = Certificate::create(&["localhost"], &[INGRESS]).unwrap();
    for certificate in [&stranger.sign(&[INGRESS]).unwrap(), &self_signed] {
        let result = run(async {
            // With TLS 1.3, the client has finished its part of the handshake before the gateway rejects it.
            let stream = connect(&mesh, &config(&mesh, Some(certificate))).await?;
            try_to_ask(stream).await
        });
        assert!(result.is_err());
    }
    assert_eq!(seen.count(), 0);
    run(async {
        let stream = connect(&mesh, &config(&mesh, None)).await?;
        try_to_ask(stream).await
    })
    .expect("others are still served");
    assert_eq!(
        Told::from_lines(&seen.last().head.join("\n")),
        Told::by_stranger()
    );
}

/// Sends a request, and waits for the head of the response.
async fn try_to_ask(stream: TlsStream<tokio::net::TcpStream>) -> io::Result<()> {
    let (sender, connection) = h2::client::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.map_err(io::Error::other)?;
    let (response, _) = sender
        .send_request(naming("/"), true)
        .map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other);
    connection.abort();
    response.map(|_| ())
}

#[test]
fn a_websocket_on_a_stream_has_the_identity_of_its_connection() {
    // The rejection of a handshake shows what the app was told as well as its acceptance.
    let (address, seen) = recording("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let mesh = Mesh::in_front_of(address);
    for (uri, expected) in [(INGRESS, Told::by_ingress()), (OTHER, Told::by_stranger())] {
        let certificate = mesh.authority.sign(&[uri]).unwrap();
        run(async {
            let stream = connect(&mesh, &config(&mesh, Some(&certificate)))
                .await
                .unwrap();
            let mut client = Http2::on(stream).await;
            // The server's SETTINGS, which allow this, arrive before its first response.
            client.ask(naming("/api/healthz")).await;
            let fields = [("x-forwarded-for", CLIENT), (USER, EMAIL)];
            let (response, _up) = client.send(handshake(&fields), false).await;
            assert_eq!(response.await.unwrap().status(), 403);
        });
        let handshake = seen.last();
        assert_eq!(handshake.values("upgrade"), ["websocket"]);
        assert_eq!(Told::from_lines(&handshake.head.join("\n")), expected);
    }
}
