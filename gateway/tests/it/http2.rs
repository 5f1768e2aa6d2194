//! Tests HTTP/2 from clients: the rules of HTTP/1.1, many requests on one connection, and WebSocket on a stream.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use sha1::{Digest, Sha1};
use tokio::task::JoinHandle;

use crate::client::{LIMIT, bytes, read_body};
use crate::operators::logging;
use crate::support::{Gateway, Received, held, recording, upstream, write};

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Runs a client; panics if it exceeds the time limit of these tests.
pub(crate) fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(LIMIT, work)
            .await
            .expect("the client finishes in time")
    })
}

/// A connection of a client.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await;
        Self::on(stream.expect("a connection")).await
    }

    /// Starts HTTP/2 on an open connection.
    pub(crate) async fn on<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = h2::client::handshake(stream).await.expect("a handshake");
        let connection = tokio::spawn(connection);
        let sender = sender.ready().await.expect("the connection is open");
        Self { sender, connection }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        std::future::poll_fn(|context| self.sender.poll_ready(context))
            .await
            .expect("the connection is open");
        self.sender
            .send_request(request, ends)
            .expect("the request is sent")
    }

    /// Sends a request without a body; returns the response, its body and trailers.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> (Response<()>, String, HeaderMap) {
        let (response, _) = self.send(request, true).await;
        whole(response).await
    }
}

/// A client that sends messages that the `h2` crate would not send: raw frames, and field lines as literals.
pub(crate) struct Frames(TcpStream);

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
pub(crate) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "app.example"),
    (":path", "/"),
];

impl Frames {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client = Self(stream);
        client
            .0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        client.send(SETTINGS, 0, 0, &[]);
        client
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, flags, stream, payload);
        self.0.write_all(&frame).expect("the frame is sent");
    }

    /// Sends many copies of a frame at once.
    pub(crate) fn send_many(
        &mut self,
        count: usize,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) {
        let frame = frame(kind, flags, stream, payload);
        self.0
            .write_all(&frame.repeat(count))
            .expect("the frames are sent");
    }

    /// Sends a head or a trailer section as literals without indexing, RFC 7541 §6.2.2.
    pub(crate) fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value].map(|text| bytes(text)) {
                // An integer with a prefix of seven bits, RFC 7541 §5.1.
                match text.len().checked_sub(127) {
                    None => block.push(u8::try_from(text.len()).unwrap()),
                    Some(mut rest) => {
                        block.push(127);
                        while rest >= 128 {
                            block.push(u8::try_from(rest % 128).unwrap() | 128);
                            rest /= 128;
                        }
                        block.push(u8::try_from(rest).unwrap());
                    }
                }
                block.extend_from_slice(&text);
            }
        }
        let parts: Vec<&[u8]> = block.chunks(16_000).collect();
        for (number, part) in parts.iter().enumerate() {
            let (kind, flags) = if number == 0 {
                (HEADERS, flags)
            } else {
                (CONTINUATION, 0)
            };
            let last = if number + 1 == parts.len() {
                END_HEADERS
            } else {
                0
            };
            self.send(kind, flags | last, stream, part);
        }
    }

    /// Returns the status of the next response; `None` if there is no response.
    pub(crate) fn status(&mut self) -> Option<String> {
        let head = std::iter::from_fn(|| self.next()).find(|frame| frame.kind == HEADERS)?;
        Some(Self::status_of(&head))
    }

    /// Returns the status in HEADERS, which must be the first of a connection.
    pub(crate) fn status_of(head: &Frame) -> String {
        // `:status` is first: an entry of the static table, or a literal with an indexed name, RFC 7541 §6 and appendix A.
        match head.payload.as_slice() {
            [0x88, ..] => "200".to_owned(),
            [0x8c, ..] => "400".to_owned(),
            [0x8d, ..] => "404".to_owned(),
            [0x08, 3, a, b, c, ..] => [a, b, c].map(|digit| char::from(*digit)).iter().collect(),
            other => panic!("{other:02x?}"),
        }
    }

    /// Returns the next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [high, middle, low, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.read(&mut payload)?;
        Some(Frame { kind, payload })
    }

    /// Fills `buffer`; `None` at the end of the connection.
    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.0.read_exact(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("nothing has arrived for {LIMIT:?}")
            }
            result => result.ok(),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

pub(crate) fn get(path: &str) -> Request<()> {
    request(Method::GET, path, &[])
}

pub(crate) fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("http://app.example{path}"));
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a request")
}

pub(crate) async fn whole(response: ResponseFuture) -> (Response<()>, String, HeaderMap) {
    let (head, mut body) = response.await.expect("a response").into_parts();
    let mut all = Vec::new();
    while let Some(data) = next(&mut body).await {
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.expect("the end").unwrap_or_default();
    (
        Response::from_parts(head, ()),
        crate::client::text(&all),
        trailers,
    )
}

async fn next(body: &mut RecvStream) -> Option<Bytes> {
    loop {
        let data = body.data().await?.expect("a body");
        body.flow_control()
            .release_capacity(data.len())
            .expect("the window grows");
        if !data.is_empty() {
            return Some(data);
        }
    }
}

/// Responds with what was received: the head, an empty line, the body, an empty line, the trailers.
pub(crate) fn echo(received: &Received, stream: &mut BufReader<TcpStream>) -> bool {
    let Ok((body, trailers)) = read_body(&received.head, stream) else {
        return false;
    };
    let echoed = format!(
        "{}\n\n{body}\n\n{}",
        received.head.join("\n"),
        trailers.join("\n")
    );
    let length = echoed.chars().count();
    write(
        stream,
        &format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nConnection: x-hop\r\nX-Hop: y\r\n\r\n{echoed}"
        ),
    );
    true
}

#[test]
fn a_request_is_forwarded_over_http_1_1() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let forged = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=6.6.6.6"),
            ("x-remote-user", "root"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("x-value", "caf\u{e9}"),
        ];
        let (head, body, _) = client
            .ask(request(Method::GET, "/a%2Fb?c=d", &forged))
            .await;
        assert_eq!(head.status(), 200);
        assert!(head.headers().contains_key("x-request-id"));
        for hop in ["connection", "x-hop", "transfer-encoding"] {
            assert!(!head.headers().contains_key(hop), "{hop}: {head:?}");
        }
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(lines[..2], ["GET /a%2Fb?c=d HTTP/1.1", "host: app.example"]);
        for line in [
            "cookie: a=b; c=d",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-value: caf\u{c3}\u{a9}",
        ] {
            assert_eq!(
                lines.iter().filter(|other| **other == line).count(),
                1,
                "{line}: {body}"
            );
        }
        assert_eq!(body.matches("cookie").count(), 1, "{body}");
        for gone in [
            "6.6.6.6",
            "root",
            "content-length",
            "transfer-encoding",
            ":authority",
        ] {
            assert!(!body.contains(gone), "{gone}: {body}");
        }
    });
}

#[test]
fn bodies_and_trailers_of_responses_are_forwarded() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nDigest: d\r\nSet-Cookie: a=b\r\n\r\n",
    );
    let answering = Gateway::in_front_of(address, &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        for (fields, framing) in [
            (&[][..], "transfer-encoding: chunked"),
            (&[("content-length", "6")], "content-length: 6"),
        ] {
            let (response, mut body) = client.send(request(Method::POST, "/", fields), false).await;
            body.send_data(Bytes::from("abc"), false).unwrap();
            body.send_data(Bytes::from("def"), fields.len() == 1)
                .unwrap();
            if fields.is_empty() {
                let mut trailers = HeaderMap::new();
                trailers.insert("digest", "d".parse().unwrap());
                trailers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
                body.send_trailers(trailers).unwrap();
            }
            let (head, body, _) = whole(response).await;
            assert_eq!(head.status(), 200);
            let (lines, rest) = body.split_once("\n\n").unwrap();
            assert!(lines.lines().any(|line| line == framing), "{lines}");
            assert_eq!(rest, "abcdef\n\n", "an upstream need not read trailers");
        }
        let (_, body, trailers) = Http2::to(answering.address).await.ask(get("/")).await;
        assert_eq!(body, "ok");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["digest"], "d");
    });
}

#[test]
fn responses_without_a_body() {
    for (method, answer, length) in [
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n",
            Some("12345"),
        ),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", None),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
            None,
        ),
    ] {
        let (address, _) = recording(answer);
        let gateway = Gateway::in_front_of(address, &[]);
        run(async {
            let mut client = Http2::to(gateway.address).await;
            let (head, body, _) = client.ask(request(method.clone(), "/", &[])).await;
            assert_eq!(head.status().as_str(), &answer[9..12]);
            let declared = head.headers().get("content-length");
            assert_eq!(
                declared.map(|value| value.to_str().unwrap()),
                length,
                "{answer:?}"
            );
            assert_eq!(body, "");
        });
    }
}

#[test]
fn requests_that_exceed_limits_are_rejected() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "10"),
            ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "10"),
        ],
    );
    let many: Vec<(&str, &str)> = vec![("x", "y"); 11];
    run(async {
        let mut client = Http2::to(gateway.address).await;
        for (status, asked) in [
            (400, request(Method::GET, "/", &[("host", "other.example")])),
            (400, request(Method::GET, "/%2e%2e/x", &[])),
            (405, request(Method::TRACE, "/", &[])),
            (431, request(Method::GET, "/", &many)),
            (413, request(Method::PUT, "/", &[("content-length", "11")])),
            (417, request(Method::GET, "/", &[("expect", "tea")])),
            (404, get("/__fluxlit/debug")),
            (404, get("/api/x")),
        ] {
            let name = format!("{asked:?}");
            let ends = asked.method() != Method::PUT;
            let (response, _body) = client.send(asked, ends).await;
            assert_eq!(
                response.await.expect("a response").status(),
                status,
                "{name}"
            );
        }
        // Without a content-length, the body is found to be too large only while it is read.
        let (response, mut body) = client.send(request(Method::PUT, "/", &[]), false).await;
        body.send_data(Bytes::from("0123456789a"), false).unwrap();
        assert_eq!(response.await.expect("a response").status(), 413);
        assert!(seen.requests().iter().all(|line| line == "PUT / HTTP/1.1"));
        let (head, body, _) = client.ask(get("/")).await;
        assert_eq!(
            (head.status().as_u16(), body.as_str()),
            (200, "ok"),
            "the connection stays open"
        );
    });
}

#[test]
fn a_rejection_has_a_reason_and_a_request_id() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "10")]);
    let many: Vec<(&str, &str)> = vec![("x", "y"); 11];
    let large = "y".repeat(70_000);
    let mut tunnel = request(Method::CONNECT, "/x", &[]);
    tunnel
        .extensions_mut()
        .insert(Protocol::from_static("connect-udp"));
    let lengths = [("content-length", "0"), ("content-length", "0")];
    run(async {
        let mut client = Http2::to(gateway.address).await;
        client.ask(get("/api/healthz")).await;
        for (status, text, asked) in [
            (
                431,
                "The request has too many header lines.",
                request(Method::GET, "/", &many),
            ),
            (
                431,
                "The head of the request is too large.",
                request(Method::GET, "/", &[("x", &large)]),
            ),
            (
                400,
                "The length of the body is ambiguous.",
                request(Method::GET, "/", &lengths),
            ),
            (501, "This protocol is not supported.", tunnel),
            // A response to HEAD has no body, but it has a content-length.
            (431, "", request(Method::HEAD, "/", &many)),
            (400, "", request(Method::HEAD, "/", &lengths)),
            (404, "", request(Method::HEAD, "/api/x", &[])),
        ] {
            let name = format!("{:.200}", format!("{asked:?}"));
            let to_head = asked.method() == Method::HEAD;
            let (response, _up) = client.send(asked, true).await;
            let (head, body, _) = whole(response).await;
            assert_eq!(head.status(), status, "{name}");
            assert!(body.starts_with(text), "{name}: {body}");
            assert_eq!(body.is_empty(), to_head, "{name}: {body}");
            let id = head.headers()["x-request-id"].to_str().unwrap();
            assert!(to_head || body.contains(id), "{name}: {body}");
            let length: usize = head.headers()["content-length"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(length > 0 && (to_head || length == body.len()), "{name}");
        }
    });
    assert_eq!(seen.count(), 0);
}

#[test]
fn malformed_requests_are_not_forwarded() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&whole);
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            let is_whole = read_body(&received.head, stream).is_ok();
            count.fetch_add(is_whole.into(), Ordering::SeqCst);
            write(stream, OK);
            is_whole
        }),
        &[],
    );
    for (status, value) in [
        ("400", " y"),
        ("400", "y "),
        ("400", "\ty"),
        ("400", " "),
        ("200", ""),
        ("200", "y z"),
    ] {
        let mut client = Frames::new(gateway.address);
        client.headers(1, END_STREAM, &[&GET[..], &[("x", value)]].concat());
        assert_eq!(client.status().as_deref(), Some(status), "{value:?}");
    }
    let post = [&[(":method", "POST")][..], &GET[1..]].concat();
    let large = "y".repeat(70_000);
    let too_large = "y".repeat(140_000);
    for (status, trailers) in [
        ("200", &[("digest", "d")][..]),
        ("400", &[(":path", "/x")]),
        ("400", &[("digest", "d ")]),
        ("431", &[("digest", "d"), ("x", &large)]),
        ("431", &[("x", &too_large)]),
        ("400", &[("x\"y", "z")]),
        ("400", &[("X", "z")]),
        ("400", &[("x", "a\nb")]),
    ] {
        let mut client = Frames::new(gateway.address);
        client.headers(1, 0, &post);
        client.send(DATA, 0, 1, b"abc");
        client.headers(1, END_STREAM, trailers);
        let name = trailers[0].0;
        assert_eq!(client.status().as_deref(), Some(status), "{name}");
    }
    let whole = whole.load(Ordering::SeqCst);
    assert_eq!(whole, 3, "a rejected request never arrives in full");
}

#[test]
fn a_request_needs_one_host() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    let bare = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    for (status, host) in [
        ("400", &[][..]),
        ("400", &[("host", "")]),
        ("400", &[("host", "app.example"), ("host", "app.example")]),
        ("200", &[("host", "app.example")]),
    ] {
        let mut client = Frames::new(gateway.address);
        client.headers(1, END_STREAM, &[&bare[..], host].concat());
        assert_eq!(client.status().as_deref(), Some(status), "{host:?}");
    }
    assert_eq!(seen.count(), 1);
    assert_eq!(seen.last().values("host"), ["app.example"]);
}

#[test]
fn many_requests_run_at_the_same_time() {
    const MANY: usize = 100;
    let all = Arc::new(Barrier::new(MANY));
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            // Responds only after all requests have arrived.
            all.wait();
            echo(received, stream)
        }),
        &[],
    );
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let mut answers = Vec::new();
        for number in 0..MANY {
            answers.push(client.send(get(&format!("/{number}")), true).await.0);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            let (_, body, _) = whole(answer).await;
            assert!(body.starts_with(&format!("GET /{number} ")), "{body}");
        }
    });
}

#[test]
fn a_reset_stream_cancels_only_its_request() {
    let (ended, end) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            if received.head[0].starts_with("GET /endless ") {
                write(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n",
                );
                let block = vec![b'x'; 64 * 1024];
                while stream.get_mut().write_all(&block).is_ok() {}
                ended.send(()).unwrap();
                return false;
            }
            if received.head[0].starts_with("GET /silent ") {
                let _ = stream.read(&mut [0]);
                ended.send(()).unwrap();
                return false;
            }
            echo(received, stream)
        }),
        &[],
    );
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let (response, mut stream) = client.send(get("/endless"), true).await;
        let mut body = response.await.unwrap().into_body();
        assert!(next(&mut body).await.is_some());
        stream.send_reset(Reason::CANCEL);
        let (_silent, mut stream) = client.send(get("/silent"), true).await;
        let (_, other, _) = client.ask(get("/other")).await;
        assert!(other.starts_with("GET /other "), "{other}");
        stream.send_reset(Reason::CANCEL);
        let waiting =
            tokio::task::spawn_blocking(move || (0..2).all(|_| end.recv_timeout(LIMIT).is_ok()));
        assert!(
            waiting.await.unwrap(),
            "both requests to the upstream are canceled"
        );
    });
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    const SIZE: usize = 64 << 20;
    let (blocked, is_blocked) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            write(
                stream,
                &format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"),
            );
            let stream = stream.get_mut();
            stream
                .set_write_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let block = vec![b'x'; 1 << 20];
            let mut sent = 0;
            while let Ok(count) = stream.write(&block) {
                sent += count;
            }
            blocked.send(sent).unwrap();
            false
        }),
        &[],
    );
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let (response, _) = client.send(get("/"), true).await;
        let _body = response.await.unwrap().into_body();
        let sent = tokio::task::spawn_blocking(move || is_blocked.recv_timeout(LIMIT).unwrap());
        let sent = sent.await.unwrap();
        assert!(
            sent < SIZE / 2,
            "the upstream could send {sent} bytes although the client does not read"
        );
    });
}

/// The acknowledgment of its ping cannot be written either.
#[test]
fn a_request_that_arrives_while_the_client_does_not_read_is_served() {
    const SIZE: usize = 16 << 20;
    let (blocked, is_blocked) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            if received.head[0].starts_with("GET / ") {
                write(stream, OK);
                return true;
            }
            write(
                stream,
                &format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"),
            );
            let stream = stream.get_mut();
            stream
                .set_write_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let block = vec![b'x'; 1 << 16];
            let mut left = SIZE;
            while left > 0 {
                match stream.write(&block[..left.min(block.len())]) {
                    Ok(count) => left -= count,
                    // The gateway does not read, because its client does not.
                    Err(_) => blocked.send(()).unwrap_or_default(),
                }
            }
            true
        }),
        &[],
    );
    let mut client = Frames::new(gateway.address);
    let window = (1u32 << 30).to_be_bytes();
    client.send(SETTINGS, 0, 0, &[&[0, 4], &window[..]].concat());
    client.send(WINDOW_UPDATE, 0, 0, &window);
    let big = [&GET[..3], &[(":path", "/big")]].concat();
    client.headers(1, END_STREAM, &big);
    is_blocked.recv_timeout(LIMIT).unwrap();

    let ping = frame(PING, 0, 0, &[0; 8]);
    // GET, http, and `/` from the static table, and `:authority` as a literal.
    let head = [&[0x82, 0x86, 0x84, 0x01, 11], &b"app.example"[..]].concat();
    let head = frame(HEADERS, END_STREAM | END_HEADERS, 3, &head);
    client.0.write_all(&[ping, head].concat()).unwrap();
    // The responses of both streams begin with HEADERS.
    let mut heads = 0;
    while heads < 2 {
        let frame = client.next().expect("both responses arrive");
        assert_ne!(frame.kind, RST_STREAM, "{:?}", frame.payload);
        heads += usize::from(frame.kind == HEADERS);
    }
}

#[test]
fn requests_in_flight_finish_when_the_gateway_stops() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(address, &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let idle = Http2::to(gateway.address).await;
        let (response, _) = client.send(get("/"), true).await;
        let connection = client.connection;
        let mut sender = client.sender;
        let arrival = tokio::task::spawn_blocking(move || arrival.recv_timeout(LIMIT).unwrap());
        arrival.await.unwrap();
        gateway.terminate();
        // The idle connection ends with GOAWAY and NO_ERROR.
        idle.connection.await.unwrap().unwrap();
        let refused = loop {
            match std::future::poll_fn(|context| sender.poll_ready(context)).await {
                Err(error) => break error,
                Ok(()) => tokio::task::yield_now().await,
            }
        };
        assert!(refused.is_go_away(), "{refused}");
        release.send(()).unwrap();
        assert_eq!(whole(response).await.1, "ok");
        drop(sender);
        connection.await.unwrap().unwrap();
    });
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_client_that_ignores_pings_does_not_delay_the_stop() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(
        address,
        // Longer than any read in this test waits.
        &[("FLUXLIT_GRACE_PERIOD_S", "600")],
    );
    let mut idle = Frames::new(gateway.address);
    let mut waiting = Frames::new(gateway.address);
    waiting.headers(1, END_STREAM, &GET);
    arrival.recv_timeout(LIMIT).unwrap();
    gateway.terminate();
    let kinds: Vec<u8> = std::iter::from_fn(|| idle.next())
        .map(|frame| frame.kind)
        .collect();
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    // A pending response is sent, and then the connection ends.
    release.send(()).unwrap();
    let body = std::iter::from_fn(|| waiting.next()).find(|frame| frame.kind == DATA);
    assert_eq!(body.expect("a response").payload, b"ok");
    while waiting.next().is_some() {}
    assert_eq!(gateway.exit_code(), Some(0));
}

/// Closing the socket at once would reset the connection when the client enlarges a window, and the end of a response that
/// the client has not read might be lost.
#[test]
fn a_client_may_send_frames_after_the_last_response_before_the_stop() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(address, &[]);
    let mut client = Frames::new(gateway.address);
    client.headers(1, END_STREAM, &GET);
    arrival.recv_timeout(LIMIT).unwrap();
    gateway.terminate();
    let ping = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == PING);
    client.send(PING, 1, 0, &ping.expect("a ping").payload);
    let end = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
    assert_eq!(end.expect("the last GOAWAY").payload[..4], [0, 0, 0, 1]);
    release.send(()).unwrap();
    let body = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == DATA);
    assert_eq!(body.expect("a response").payload, b"ok");
    while client.next().is_some() {}
    for _ in 0..2 {
        client.send(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
    }
    let read = client.0.read(&mut [0]);
    assert!(matches!(read, Ok(0)), "{read:?}");
    drop(client);
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let (address, _) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_KEEPALIVE_TIMEOUT_S", "3")]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        assert_eq!(client.ask(get("/")).await.1, "ok");
        client.connection.await.unwrap().unwrap();
    });
}

#[test]
fn an_interim_response_is_forwarded() {
    let (address, _) = recording(&format!(
        "HTTP/1.1 103 Early Hints\r\nx-hint: a\r\nlink: </a.css>; rel=preload\r\nconnection: x\r\n\r\n{OK}"
    ));
    let gateway = Gateway::in_front_of(address, &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let (mut response, _) = client.send(get("/"), true).await;
        let hints = std::future::poll_fn(|context| response.poll_informational(context)).await;
        let hints = hints.unwrap().unwrap();
        assert_eq!(hints.status(), 103);
        assert_eq!(hints.headers()["x-hint"], "a");
        assert_eq!(hints.headers().len(), 1);
        assert_eq!(whole(response).await.1, "ok");
    });
}

#[test]
fn interim_responses_are_limited() {
    let many = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let (address, _) = recording(&format!("{many}{OK}"));
    let gateway = Gateway::in_front_of(address, &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let (mut response, _) = client.send(get("/"), true).await;
        let mut count = 0;
        while let Some(interim) =
            std::future::poll_fn(|context| response.poll_informational(context)).await
        {
            assert_eq!(interim.unwrap().status(), 102);
            count += 1;
        }
        assert_eq!(count, 8);
        assert_eq!(whole(response).await.1, "ok");
    });
}

#[test]
fn a_response_with_a_malformed_first_chunk_is_a_502() {
    for body in ["ZZ\r\n", "5\r\nhello\r\nZZ\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let (address, _) = recording(&answer);
        let gateway = Gateway::in_front_of(address, &[]);
        run(async {
            let mut client = Http2::to(gateway.address).await;
            let (head, text, _) = client.ask(get("/")).await;
            assert_eq!(head.status(), 502, "{body:?}");
            assert!(text.starts_with("The app"), "{text}");
        });
    }
}

#[test]
fn a_stream_that_is_cut_off_by_the_stop_is_logged() {
    let (arrived, arrival) = mpsc::channel();
    let address = upstream(move |_, stream| {
        arrived.send(()).unwrap();
        let _ = stream.read(&mut [0]);
        false
    });
    let (mut gateway, mut log) = logging(address, &[("FLUXLIT_GRACE_PERIOD_S", "0.5")]);
    let mut client = Frames::new(gateway.address);
    client.headers(1, END_STREAM, &GET);
    arrival.recv_timeout(LIMIT).unwrap();
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).unwrap();
    let line = lines.lines().find(|line| line.contains(r#""version":"2""#));
    let line: serde_json::Value = serde_json::from_str(line.unwrap_or_default()).unwrap();
    assert_eq!(line["ending"], "drained", "{line}");
    assert_eq!(line["status"], 0, "{line}");
}

/// A `Sec-WebSocket-Key`, which clients need not send on a stream.
const CLIENT_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Accepts a handshake with any key, and echoes until the other side has closed.
fn accepting(received: &Received, stream: &mut BufReader<TcpStream>) -> bool {
    assert_eq!(received.head[0], "GET /_stcore/stream HTTP/1.1");
    assert_eq!(received.values("upgrade"), ["websocket"]);
    assert_eq!(received.values("host"), ["app.example"]);
    assert_eq!(received.values("sec-websocket-version"), ["13"]);
    let key = received.values("sec-websocket-key");
    assert_eq!(key.len(), 1, "{key:?}");
    assert_ne!(key[0], CLIENT_KEY);
    let digest = Sha1::new()
        .chain_update(key[0])
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    let accept = base64::prelude::BASE64_STANDARD.encode(digest);
    let protocol = received.values("sec-websocket-protocol").join("|");
    write(
        stream,
        &format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nset-cookie: x=y\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
        ),
    );
    let mut block = vec![0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        if stream.get_mut().write_all(&block[..count]).is_err() {
            return false;
        }
    }
    false
}

pub(crate) fn handshake(fields: &[(&str, &str)]) -> Request<()> {
    handshake_at("/_stcore/stream", fields)
}

fn handshake_at(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = request(Method::CONNECT, path, fields);
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let headers = request.headers_mut();
    headers.insert("sec-websocket-version", "13".parse().unwrap());
    headers.insert(
        "sec-websocket-protocol",
        "streamlit, token, session".parse().unwrap(),
    );
    request
}

#[test]
fn a_websocket_opens_on_a_stream() {
    let gateway = Gateway::in_front_of(upstream(accepting), &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        // The server's SETTINGS arrive before its first response.
        client.ask(get("/api/healthz")).await;
        assert!(client.sender.is_extended_connect_protocol_enabled());
        let (response, mut up) = client
            .send(
                handshake(&[
                    ("origin", "http://app.example"),
                    ("sec-websocket-key", CLIENT_KEY),
                ]),
                false,
            )
            .await;
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["sec-websocket-protocol"],
            "streamlit, token, session"
        );
        assert_eq!(response.headers()["set-cookie"], "x=y");
        for gone in [
            "sec-websocket-accept",
            "upgrade",
            "connection",
            "content-length",
        ] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        let mut down = response.into_body();
        for message in ["first", "second"] {
            up.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(next(&mut down).await.unwrap(), message);
        }
        up.send_data(Bytes::from("last"), true).unwrap();
        assert_eq!(next(&mut down).await.unwrap(), "last");
        assert!(next(&mut down).await.is_none(), "both sides have ended");

        let (response, _up) = client
            .send(handshake(&[("origin", "https://evil.example")]), false)
            .await;
        assert_eq!(response.await.unwrap().status(), 403);
        let mut other = request(Method::CONNECT, "/x", &[]);
        other
            .extensions_mut()
            .insert(Protocol::from_static("connect-udp"));
        let (response, _up) = client.send(other, false).await;
        assert_eq!(response.await.unwrap().status(), 501);
    });
}

#[test]
fn a_response_without_a_websocket_is_not_a_2xx() {
    let answering = || {
        upstream(|received, stream| {
            let answer = if received.head[0].contains("/refuses ") {
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"
            };
            write(stream, answer);
            true
        })
    };
    let api = format!("http://{}", answering());
    let gateway = Gateway::in_front_of(
        answering(),
        &[
            ("FLUXLIT_API_UPSTREAM", &api),
            ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "true"),
            ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "true"),
        ],
    );
    run(async {
        let mut client = Http2::to(gateway.address).await;
        client.ask(get("/api/healthz")).await;
        for (path, status, text) in [
            (
                "/_stcore/other",
                502,
                "The app responded with 200 instead of opening a WebSocket.",
            ),
            (
                "/api/other",
                502,
                "The API responded with 200 instead of opening a WebSocket.",
            ),
            ("/refuses", 403, "no"),
            ("/api/healthz", 400, "No WebSocket is served here."),
            ("/api/readyz", 400, "No WebSocket is served here."),
            ("/__fluxlit/metrics", 400, "No WebSocket is served here."),
        ] {
            let (response, _up) = client.send(handshake_at(path, &[]), false).await;
            let (head, body, _) = whole(response).await;
            assert_eq!(head.status(), status, "{path}");
            assert!(body.starts_with(text), "{path}: {body}");
        }
        // An ordinary request to the same path gets the app's response.
        assert_eq!(client.ask(get("/_stcore/other")).await.1, "<html>");
    });
}

#[test]
fn a_websocket_on_a_stream_receives_a_close_frame() {
    let mut gateway = Gateway::in_front_of(upstream(accepting), &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let (response, mut up) = client.send(handshake(&[]), false).await;
        let mut down = response.await.unwrap().into_body();
        up.send_data(Bytes::from_static(b"\x81\x02hi"), false)
            .unwrap();
        assert_eq!(next(&mut down).await.unwrap(), &b"\x81\x02hi"[..]);
        gateway.terminate();
        assert_eq!(next(&mut down).await.unwrap(), &b"\x88\x02\x03\xf4"[..]);
        assert!(next(&mut down).await.is_none());
        up.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xf4"), true)
            .unwrap();
        drop((up, down));
        drop(client.sender);
        client.connection.await.unwrap().unwrap();
    });
    assert_eq!(gateway.exit_code(), Some(0));
}
