//! Tests that a request has the same result over HTTP/1.1 and HTTP/2, octet by octet, and what only HTTP/2 rejects.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::ChildStdout;
use std::sync::mpsc;

use crate::client::{Client, LIMIT};
use crate::http2::{DATA, END_STREAM, Frames, GET, GOAWAY, OK};
use crate::operators::logging;
use crate::support::{Gateway, Requests, recording, upstream, write};

/// A request as both versions can express it. Text is Latin-1.
struct Asked {
    method: String,
    target: String,
    host: String,
    field: (String, String),
}

/// What became of a request: the status (`None` if there is no response), the reason in the log, and the lines that the
/// upstream received.
type Result = (Option<String>, Option<String>, Vec<String>);

/// A gateway whose log tells of each request.
struct Observed {
    gateway: Gateway,
    log: BufReader<ChildStdout>,
    seen: Requests,
}

impl Observed {
    fn new() -> Self {
        let (address, seen) = recording(OK);
        let (gateway, log) = logging(address, &[]);
        Self { gateway, log, seen }
    }

    fn over_http1(&mut self, asked: &Asked) -> Result {
        let Asked {
            method,
            target,
            host,
            field: (name, value),
        } = asked;
        let mut client = Client::new(self.gateway.address);
        client.send(&format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\n{name}: {value}\r\n\r\n"
        ));
        let status = client.try_response().ok();
        self.result(status.map(|response| response.status.to_string()))
    }

    fn over_http2(&mut self, asked: &Asked) -> Result {
        self.ask(&[
            (":method", &asked.method),
            (":scheme", "http"),
            (":authority", &asked.host),
            (":path", &asked.target),
            (&asked.field.0, &asked.field.1),
        ])
    }

    fn ask(&mut self, fields: &[(&str, &str)]) -> Result {
        let mut client = Frames::new(self.gateway.address);
        client.headers(1, END_STREAM, fields);
        let status = status_or_reset(&mut client);
        self.result(status)
    }

    fn result(&mut self, status: Option<String>) -> Result {
        let line = loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "the log ends");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["path"] != "/api/readyz" && line["target"] != "/api/readyz" {
                break line;
            }
        };
        let reason = line["reason"].as_str().map(str::to_owned);
        let mut received = Vec::new();
        if status.as_deref() == Some("200") {
            let last = self.seen.last();
            received.push(last.head[0].clone());
            let own = ["x-request-id", "traceparent", "forwarded"];
            received.extend(
                last.head[1..]
                    .iter()
                    .filter(|line| !own.iter().any(|name| line.to_lowercase().starts_with(name)))
                    .map(|line| line.to_lowercase()),
            );
        }
        (status, reason, received)
    }
}

/// Returns the status of the response on stream 1; `None` if it is reset. The connection must stay open.
fn status_or_reset(client: &mut Frames) -> Option<String> {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    loop {
        let frame = client.next().expect("the connection stays open");
        match frame.kind {
            HEADERS => return Some(Frames::status_of(&frame)),
            RST_STREAM => return None,
            GOAWAY => panic!("the connection is ended"),
            _ => {}
        }
    }
}

#[test]
fn every_octet_has_the_same_result_over_both_versions() {
    let mut observed = Observed::new();
    let asked = || Asked {
        method: "GET".to_owned(),
        target: "/a?b".to_owned(),
        host: "app.example".to_owned(),
        field: ("x".to_owned(), "y".to_owned()),
    };
    for octet in '\0'..='\u{ff}' {
        for place in ["method", "path", "query", "host", "name", "value"] {
            let mut asked = asked();
            match place {
                "method" => asked.method = format!("G{octet}T"),
                "path" => asked.target = format!("/a{octet}b"),
                "query" => asked.target = format!("/a?b{octet}c"),
                "host" => asked.host = format!("a{octet}b.example"),
                "name" => asked.field.0 = format!("x{octet}y"),
                _ => asked.field.1 = format!("y{octet}z"),
            }
            let name = format!("{octet:?} in the {place}");
            let http2 = observed.over_http2(&asked);
            match (place, octet) {
                // In HTTP/1.1 a colon ends the name, and letters have no case.
                ("name", ':') => {
                    assert_eq!(http2.0.as_deref(), Some("400"), "{name}");
                    assert_eq!(http2.1.as_deref(), Some("bad_head"), "{name}");
                }
                ("name", 'A'..='Z') => {
                    assert_eq!(http2.0, None, "{name}");
                    assert_eq!(http2.1.as_deref(), Some("bad_head"), "{name}");
                }
                _ => {
                    let http1 = observed.over_http1(&asked);
                    assert_eq!(http2, http1, "{name}");
                    assert!(http2.0.is_some(), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_target_is_judged_by_the_policy() {
    let mut observed = Observed::new();
    for (path, status, reason) in [
        ("/a?q=\"x\"", "200", None),
        ("/<>{}|^`", "200", None),
        ("//a//b", "200", None),
        ("/a%2Fb?%zz", "200", None),
        ("/a#b", "400", Some("fragment")),
        ("/\u{e9}", "400", Some("octet")),
        ("/a b", "400", Some("bad_head")),
        ("/a\r\nx: y", "400", Some("bad_head")),
        ("/a\\b", "400", Some("backslash")),
        ("/%2e%2e/", "400", Some("dot_segment")),
        ("*", "400", Some("target_form")),
        ("a", "400", Some("target_form")),
        ("?a", "400", Some("target_form")),
        ("http://app.example/", "400", Some("target_form")),
        ("http://app.example/api/healthz", "400", Some("target_form")),
    ] {
        let (got, why, _) = observed.ask(&[&GET[..3], &[(":path", path)]].concat());
        assert_eq!(
            (got.as_deref(), why.as_deref()),
            (Some(status), reason),
            "{path:?}"
        );
    }
    let long = format!("/{}", "a".repeat(9000));
    let (got, why, _) = observed.ask(&[&GET[..3], &[(":path", &long)]].concat());
    assert_eq!(
        (got.as_deref(), why.as_deref()),
        (Some("414"), Some("target_too_long"))
    );
}

#[test]
fn requests_that_only_http2_can_express_are_reset() {
    let mut observed = Observed::new();
    let with = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    for fields in [
        with(("X", "y")),
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("te", "gzip")),
        with((":status", "200")),
        with((":path", "/b")),
        with((":other", "x")),
        with((":protocol", "websocket")),
        GET[1..].to_vec(),
        GET[..3].to_vec(),
        [&GET[..1], &GET[2..]].concat(),
        [&GET[..3], &[(":path", "")]].concat(),
        [&[("x", "y")], &GET[..]].concat(),
        vec![
            (":method", "CONNECT"),
            (":authority", "a:1"),
            (":path", "/"),
        ],
        vec![(":method", "CONNECT")],
    ] {
        let (status, reason, _) = observed.ask(&fields);
        assert_eq!(
            (status, reason.as_deref()),
            (None, Some("bad_head")),
            "{fields:?}"
        );
    }
    let plain = [(":method", "CONNECT"), (":authority", "app.example:443")];
    let (status, reason, _) = observed.ask(&plain);
    assert_eq!(status.as_deref(), Some("405"));
    assert_eq!(reason.as_deref(), Some("method_not_allowed"));
}

#[test]
fn a_scheme_is_checked_and_not_believed() {
    let mut observed = Observed::new();
    for (scheme, status) in [
        ("http", "200"),
        ("https", "200"),
        ("HTTPS", "200"),
        ("a+b-c.1", "200"),
        ("", "400"),
        ("ht~tp", "400"),
        ("1http", "400"),
        ("http:", "400"),
        ("ht tp", "400"),
        ("http\0", "400"),
        ("h\u{e9}", "400"),
    ] {
        let (got, _, received) =
            observed.ask(&[&[(":scheme", scheme)], &GET[..1], &GET[2..]].concat());
        assert_eq!(got.as_deref(), Some(status), "{scheme:?}");
        let believed = received.iter().any(|line| line.contains("https"));
        assert!(!believed, "{received:?}");
    }
}

#[test]
fn a_host_may_repeat_the_authority_in_another_spelling() {
    let mut observed = Observed::new();
    for (scheme, authority, host, status) in [
        ("http", "app.example", "app.example", "200"),
        ("http", "app.example", "APP.Example", "200"),
        ("http", "app.example", "app.example:80", "200"),
        ("https", "app.example:443", "App.example", "200"),
        ("http", "[::1]:80", "[0:0::1]", "200"),
        ("http", "app.example", "app.example:443", "400"),
        ("https", "app.example", "app.example:80", "400"),
        ("http", "app.example", "app.example.", "400"),
        ("http", "app.example", "other.example", "400"),
        ("http", "app.example", "", "400"),
        ("http", "", "app.example", "400"),
        ("http", "", "", "400"),
    ] {
        let fields = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", authority),
            (":path", "/"),
            ("host", host),
        ];
        let (got, _, received) = observed.ask(&fields);
        assert_eq!(got.as_deref(), Some(status), "{authority:?} {host:?}");
        let hosts = received.iter().filter(|line| line.starts_with("host:"));
        assert_eq!(hosts.count(), usize::from(status == "200"));
        let twice = [&fields[..], &[("host", host)]].concat();
        assert_eq!(observed.ask(&twice).0.as_deref(), Some("400"), "two lines");
    }
}

#[test]
fn the_order_of_fields_is_kept() {
    let mut observed = Observed::new();
    let fields = [
        ("b", "1"),
        ("cookie", "x=1"),
        ("a", "2"),
        ("cookie", "y=2"),
        ("b", "3"),
    ];
    let (_, _, received) = observed.ask(&[&GET[..], &fields].concat());
    let sent: Vec<&str> = received
        .iter()
        .map(String::as_str)
        .filter(|line| {
            ["a:", "b:", "cookie:"]
                .iter()
                .any(|name| line.starts_with(name))
        })
        .collect();
    assert_eq!(sent, ["b: 1", "cookie: x=1; y=2", "a: 2", "b: 3"]);
}

/// A chatty client must not end the requests that share its connection.
#[test]
fn many_small_data_frames_at_once_are_accepted() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let body = crate::client::read_body(&received.head, stream);
            let length = body.map_or(0, |(body, _)| body.len());
            let text = length.to_string();
            write(
                stream,
                &format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                ),
            );
            true
        }),
        &[],
    );
    let mut client = Frames::new(gateway.address);
    client.headers(1, 0, &[&[(":method", "POST")][..], &GET[1..]].concat());
    client.send_many(3000, DATA, 0, 1, b"12345678");
    client.send(DATA, END_STREAM, 1, &[]);
    assert_eq!(status_or_reset(&mut client).as_deref(), Some("200"));
    let body = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == DATA);
    assert_eq!(body.expect("a body").payload, b"24000");
}

#[test]
fn many_empty_data_frames_end_the_connection() {
    let (address, _) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    let post = [&[(":method", "POST")][..], &GET[1..]].concat();
    let mut client = Frames::new(gateway.address);
    client.headers(1, 0, &post);
    client.send_many(1000, DATA, 0, 1, &[]);
    client.send(DATA, END_STREAM, 1, &[]);
    assert_eq!(status_or_reset(&mut client).as_deref(), Some("200"));

    let mut client = Frames::new(gateway.address);
    client.headers(1, 0, &post);
    client.send_many(10_000, DATA, 0, 1, &[]);
    let goaway = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
    // ENHANCE_YOUR_CALM, RFC 9113 §7.
    assert_eq!(goaway.expect("GOAWAY").payload[4..8], [0, 0, 0, 11]);
}

/// Each head is decoded from one octet into 4 kB.
#[test]
fn a_block_that_is_decoded_to_too_much_ends_the_connection() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    let large = [("x", "y".repeat(4000))];
    // `x` is added to the table, RFC 7541 §6.2.1, and then repeated.
    let line = [
        &[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..],
        large[0].1.as_bytes(),
    ]
    .concat();
    let mut client = Frames::new(gateway.address);
    client.send(
        1,
        4,
        1,
        &[&[0x82, 0x86, 0x84][..], &line, &[0xbe; 9000]].concat(),
    );
    let goaway = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
    // ENHANCE_YOUR_CALM, RFC 9113 §7.
    assert_eq!(goaway.expect("GOAWAY").payload[4..8], [0, 0, 0, 11]);
    assert_eq!(seen.count(), 0);
}

/// Nothing else can be sent on the connection before the rest of the block, so the running request ends as well.
#[test]
fn a_header_block_that_does_not_end_in_time_ends_the_connection() {
    let (started, has_started) = mpsc::channel();
    let address = upstream(move |_, stream| {
        started.send(()).unwrap();
        // Ends when the gateway gives up the request.
        let _ = stream.get_mut().read(&mut [0]);
        false
    });
    // Long enough for the first bytes of a connection to arrive.
    let limit = ("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "5");
    let (gateway, mut log) = logging(address, &[limit]);
    let mut client = Frames::new(gateway.address);
    client.headers(1, END_STREAM, &GET);
    has_started.recv_timeout(LIMIT).expect("a request runs");
    client.send(1, END_STREAM, 3, &[0x82]);
    let goaway = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
    // ENHANCE_YOUR_CALM, RFC 9113 §7.
    assert_eq!(goaway.expect("GOAWAY").payload[4..8], [0, 0, 0, 11]);
    while client.next().is_some() {}
    let reasons = std::iter::from_fn(|| {
        let mut line = String::new();
        (log.read_line(&mut line).unwrap() > 0).then_some(line)
    });
    let slow = reasons
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap())
        .find(|line| line["reason"] == "head_too_slow")
        .expect("the log ends");
    assert_eq!(
        (&slow["status"], &slow["version"]),
        (&408.into(), &"2".into())
    );
}

#[test]
fn errors_of_a_header_block_end_the_connection_with_their_code() {
    let gateway = address_of_any();
    for (kind, flags, stream, payload, code) in [
        (1, 4, 1, &[0x80][..], 9),
        (1, 4, 1, &[0xff; 9], 9),
        (1, 4, 0, &[0x82], 1),
        (9, 4, 1, &[], 1),
        (5, 4, 1, &[0; 5], 1),
        (1, 4, 1, &[0; 17_000], 6),
        (0, 0, 0, b"x", 1),
    ] {
        let mut client = Frames::new(gateway.address);
        client.send(kind, flags, stream, payload);
        let goaway = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == GOAWAY);
        let payload = goaway.expect("GOAWAY").payload;
        assert_eq!(payload[4..8], [0, 0, 0, code], "{kind} {flags} {stream}");
    }
}

fn address_of_any() -> Gateway {
    let (address, _): (SocketAddr, _) = recording(OK);
    Gateway::in_front_of(address, &[])
}
