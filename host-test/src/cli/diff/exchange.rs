//! How is an exchange played over a connection, and in what do two of them differ?

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use host_test::case_file::{Exchange, Peer, Version, envoy_peer};
use host_test::{ChainOutcome, HeaderMap, Message, envoy};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::envoy::Upstream;

/// What the upstream received and what the client got.
pub(super) struct Seen {
    upstream: Option<Message>,
    downstream: Option<Message>,
}

/// What came of an exchange in this host.
pub(super) fn of_outcome(outcome: &ChainOutcome) -> Seen {
    Seen {
        upstream: outcome.upstream.clone(),
        downstream: outcome.downstream.clone(),
    }
}

/// Why an exchange cannot be played, if it cannot.
pub(super) fn unplayable(exchange: &Exchange) -> Option<String> {
    let request = &exchange.request;
    let reason = if request.tls {
        "TLS"
    } else if request.http != Version::Http11 {
        "another HTTP version"
    } else if !matches!(request.peer, Peer::Ip(_)) {
        "a peer that is no address"
    } else if !request.trailers.is_empty() || !exchange.answer.trailers.is_empty() {
        "trailers"
    } else if !request.frames.is_empty()
        || !exchange.answer.frames.is_empty()
        || request.frame_size.is_some()
        || exchange.answer.frame_size.is_some()
    {
        "frames"
    } else if !request.properties.is_empty() {
        "properties"
    } else if exchange.after_ms > 0 || exchange.answer.delay_ms > 0 {
        "time that passes"
    } else if exchange.paused || exchange.reset {
        "an exchange that does not come to an end"
    } else {
        return build(exchange)
            .err()
            .map(|error| format!("the request cannot be sent: {error}"));
    };
    Some(reason.to_owned())
}

/// Starts the upstream; returns where it listens.
pub(super) async fn listen(upstream: Arc<Upstream>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, Arc::clone(&upstream)));
                // A connection that breaks is seen by the client as Envoy's answer to it.
                let _ = server::Builder::new()
                    .serve_connection(TokioIo::new(connection), service)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    request: Request<Incoming>,
    upstream: Arc<Upstream>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes().to_vec())
        .unwrap_or_default();
    let mut headers = HeaderMap::default();
    headers.add(b":method", parts.method.as_str().as_bytes());
    headers.add(b":path", parts.uri.to_string().as_bytes());
    for (name, value) in &parts.headers {
        let name = if name == http::header::HOST {
            ":authority"
        } else {
            name.as_str()
        };
        headers.add(name.as_bytes(), value.as_bytes());
    }
    let received = Message {
        headers,
        body,
        trailers: HeaderMap::default(),
        is_complete: true,
    };
    *upstream
        .received
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(received);
    let answer = upstream
        .answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut response = Response::new(Full::new(Bytes::from(latin1(&answer.body))));
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(&latin1(value)),
        ) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}

/// Plays one exchange on a connection of its own.
pub(super) async fn play(
    address: SocketAddr,
    exchange: &Exchange,
    upstream: &Upstream,
) -> anyhow::Result<Seen> {
    upstream.take_received();
    upstream
        .answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone_from(&exchange.answer);
    let mut connection = TcpStream::connect(address).await?;
    if let envoy::Peer::Ip(peer) = envoy_peer(exchange.request.peer) {
        let line = match peer.ip() {
            IpAddr::V4(ip) => format!("PROXY TCP4 {ip} 127.0.0.1 {} 10000\r\n", peer.port()),
            IpAddr::V6(ip) => format!("PROXY TCP6 {ip} ::1 {} 10000\r\n", peer.port()),
        };
        connection.write_all(line.as_bytes()).await?;
    }
    let (mut sender, driver) = client::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(connection))
        .await?;
    let driver = tokio::spawn(driver);
    let response = async {
        let response = sender.send_request(build(exchange)?).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::Ok((parts, body))
    };
    let response = tokio::time::timeout(LIMIT, response)
        .await
        .context("no response came")?;
    driver.abort();
    // A reset is no response.
    let downstream = response.ok().map(|(parts, body)| {
        let fields = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        Message {
            headers: envoy::response_headers(parts.status.as_u16(), fields),
            body: body.to_vec(),
            trailers: HeaderMap::default(),
            is_complete: true,
        }
    });
    Ok(Seen {
        upstream: upstream.take_received(),
        downstream,
    })
}

fn build(exchange: &Exchange) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = &exchange.request;
    let mut builder = Request::builder()
        .method(request.method.as_str())
        .uri(request.target.as_str());
    if let Some(host) = &request.host {
        builder = builder.header(http::header::HOST, HeaderValue::from_bytes(&latin1(host))?);
    }
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), HeaderValue::from_bytes(&latin1(value))?);
    }
    Ok(builder.body(Full::new(Bytes::from(latin1(&request.body))))?)
}

/// Says in what two hosts differ, one readable line a difference.
pub(super) fn differences(here: &Seen, there: &Seen) -> Vec<String> {
    let mut differences = Vec::new();
    for (side, here, there) in [
        ("upstream", &here.upstream, &there.upstream),
        ("downstream", &here.downstream, &there.downstream),
    ] {
        match (here, there) {
            (None, None) => {}
            (Some(here), Some(there)) => message(side, here, there, &mut differences),
            (Some(_), None) => differences.push(format!("{side}: a message / none")),
            (None, Some(_)) => differences.push(format!("{side}: none / a message")),
        }
    }
    differences
}

fn message(side: &str, here: &Message, there: &Message, differences: &mut Vec<String>) {
    let names: BTreeSet<String> = [here, there]
        .into_iter()
        .flat_map(|message| message.headers.iter())
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !TRANSPORT.contains(&name.as_str()))
        .collect();
    for name in names {
        let lines = |message: &Message| -> Vec<String> {
            message
                .headers
                .get_all(&name)
                .into_iter()
                .map(|value| value.escape_ascii().to_string())
                .collect()
        };
        let (here, there) = (lines(here), lines(there));
        if here != there {
            differences.push(format!("{side} `{name}`: {here:?} / {there:?}"));
        }
    }
    if here.body != there.body {
        differences.push(format!(
            "{side} body: \"{}\" / \"{}\"",
            here.body.escape_ascii(),
            there.body.escape_ascii()
        ));
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

/// Fields that belong to one hop's transport, or that Envoy adds to every message. The scheme is not on the wire.
const TRANSPORT: [&str; 11] = [
    ":scheme",
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
    "x-forwarded-proto",
];

const LIMIT: Duration = Duration::from_secs(20);
