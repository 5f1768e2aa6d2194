//! Tests WebSocket handshakes: which Origins are accepted, and how others are rejected.

use fluxlit_cases::latin1;
use fluxlit_support::http1::Response;

use crate::compare::differences;
use crate::pair::{Generation, HOST, Pair, Shape};
use crate::session::{NEW, STREAM, handshake};
use crate::support::{connect, exchange};

/// A handshake and its expected result.
struct Row {
    what: &'static str,
    host: &'static str,
    origin: Option<&'static str>,
    /// The status of Starlette and of Tornado.
    direct: (u16, u16),
    gateway: Gateway,
}

enum Gateway {
    /// The same response, byte for byte.
    Same,
    /// Another status, and the reason.
    Own(u16, &'static str),
}

use Gateway::{Own, Same};

/// Streamlit rejects it as well.
const REJECTED: Gateway = Own(
    403,
    "decided in the gateway: Streamlit would first query its own address on the internet",
);

const fn row(
    what: &'static str,
    host: &'static str,
    origin: Option<&'static str>,
    direct: (u16, u16),
    gateway: Gateway,
) -> Row {
    Row {
        what,
        host,
        origin,
        direct,
        gateway,
    }
}

#[rustfmt::skip]
const ORIGINS: &[Row] = &[
    //   what                      host                     Origin                                1.67  1.45   the gateway
    row("none",                    HOST,                    None,                                (101, 101), Same),
    row("the app's own",           HOST,                    Some("https://app.example.test"),    (101, 101), Same),
    row("the app's own, over http", HOST,                   Some("http://app.example.test"),     (101, 101), Same),
    row("the app's own, a port",   "app.example.test:8443", Some("https://app.example.test:8443"), (101, 101), Same),
    row("another site",            HOST,                    Some("https://evil.example"),        (403, 403), REJECTED),
    row("a subdomain of the app's", HOST,                    Some("https://x.app.example.test"),  (403, 403), REJECTED),
    row("a site with the same start", HOST,                   Some("https://app.example.test.evil.example"), (403, 403), REJECTED),
    row("another port",            "app.example.test:8443", Some("https://app.example.test"),    (403, 403), REJECTED),
    row("an opaque Origin",        HOST,                    Some("null"),                        (403, 403), REJECTED),
    row("an empty Origin",         HOST,                    Some(""),                            (403, 403), REJECTED),
    row("a default port in Host",  "app.example.test:80",   Some("http://app.example.test"),     (403, 403),
        Own(101, "80 is the default port of http")),
    row("capital letters in Host", "App.Example.Test",      Some("https://app.example.test"),    (403, 101),
        Own(101, "host names are case-insensitive")),
    row("the visitor's own machine", HOST,                  Some("http://localhost:3000"),       (101, 101),
        Own(403, "a page from there is another site")),
];

#[test]
fn origins_are_accepted_as_by_streamlit_1_67() {
    check(Generation::Starlette);
}

#[test]
fn origins_are_accepted_as_by_streamlit_1_45() {
    check(Generation::Tornado);
}

fn check(generation: Generation) {
    let pair = Pair::start(generation, Shape::Root);
    let mut failures = Vec::new();
    for row in ORIGINS {
        let origin = row
            .origin
            .map(|origin| format!("origin: {origin}\r\n"))
            .unwrap_or_default();
        let lines = format!("sec-websocket-protocol: {NEW}\r\n{origin}");
        let (direct, through) = both(&pair, STREAM, row.host, &lines);
        let status = generation.of(row.direct.0, row.direct.1);
        let mut found = Vec::new();
        if direct.status != status {
            found.push(format!("directly {}, not {status}", direct.status));
        }
        match row.gateway {
            Same => found.extend(differences(pair.shape, &direct, &through)),
            Own(status, _) if through.status == status => {}
            Own(status, why) => {
                found.push(format!("{}, not {status}: {why}", through.status));
            }
        }
        failures.extend(
            found.iter().map(|failure| {
                format!("{} ({:?} at {}): {failure}", row.what, row.origin, row.host)
            }),
        );
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Handshakes that are unusual in other ways: the path, further lines, and the status of each generation. The gateway's
/// response is the same.
#[rustfmt::skip]
const UNUSUAL: &[(&str, &str, &str, (u16, u16))] = &[
    ("no protocol",                  "/_stcore/stream", "",                                                                      (101, 101)),
    ("a protocol that is not Streamlit's", "/_stcore/stream", "sec-websocket-protocol: graphql-ws\r\n",                          (101, 101)),
    ("compression is offered",       "/_stcore/stream", "sec-websocket-protocol: streamlit\r\nsec-websocket-extensions: permessage-deflate\r\n", (101, 101)),
    ("7 kB of cookies",              "/_stcore/stream", "sec-websocket-protocol: streamlit\r\ncookie: a={7000}\r\n",              (101, 101)),
    ("a Latin-1 value",              "/_stcore/stream", "sec-websocket-protocol: streamlit\r\nx-name: Zo\u{eb}\r\n",              (101, 101)),
    ("an invented session",          "/_stcore/stream", "sec-websocket-protocol: streamlit, x, no-such-session\r\n",              (101, 101)),
    ("a slash at the end",           "/_stcore/stream/", "sec-websocket-protocol: streamlit\r\n",                (403, 101)),
    ("another path",                 "/x/_stcore/stream", "sec-websocket-protocol: streamlit\r\n",               (403, 200)),
];

#[test]
fn unusual_handshakes_get_the_response_of_streamlit_1_67() {
    unusual(Generation::Starlette);
}

#[test]
fn unusual_handshakes_get_the_response_of_streamlit_1_45() {
    unusual(Generation::Tornado);
}

fn unusual(generation: Generation) {
    let pair = Pair::start(generation, Shape::Full);
    let mut failures = Vec::new();
    for (what, path, lines, status) in UNUSUAL {
        let lines = lines.replace("{7000}", &"x".repeat(7000));
        let (direct, through) = both(&pair, path, HOST, &lines);
        let status = generation.of(status.0, status.1);
        if direct.status != status {
            failures.push(format!("{what}: directly {}, not {status}", direct.status));
        }
        let found = differences(pair.shape, &direct, &through);
        failures.extend(found.iter().map(|failure| format!("{what}: {failure}")));
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Streamlit 1.67 never responds to such a handshake, which a browser with many cookies sends.
#[test]
fn handshakes_that_streamlit_never_responds_to_are_rejected() {
    let pair = Pair::start(Generation::Starlette, Shape::Root);
    let cookie = format!("cookie: a={}\r\n", "x".repeat(9000));
    let many = "x-line: x\r\n".repeat(150);
    for (what, lines) in [("9 kB of cookies", cookie), ("150 lines", many)] {
        let request = handshake(pair.through(), STREAM, HOST, &lines);
        let answer = exchange(
            &mut connect(pair.gateway.address),
            request.as_bytes(),
            "GET",
        );
        assert_eq!(answer.status, 431, "{what}: {answer:?}");
        assert!(!answer.body.is_empty(), "{what}: the response has a reason");
    }
}

/// Sends the same handshake to Streamlit and to the gateway.
fn both(pair: &Pair, path: &str, host: &str, lines: &str) -> (Response, Response) {
    let ask = |server| {
        let request = latin1::bytes(&handshake(server, path, host, lines));
        exchange(&mut connect(server.address), &request, "GET")
    };
    (ask(pair.direct()), ask(pair.through()))
}
