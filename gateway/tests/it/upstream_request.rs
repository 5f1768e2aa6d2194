//! Tests how a request is framed for the upstream: its length, its trailers and its expectation, for each version of HTTP.

use std::io::{BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::client::{read_body, text};
use crate::http2::{Http2, request, run, whole};
use crate::support::{Gateway, Received, recording, upstream, write};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How a client frames a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Zero,
    Length,
    Chunked,
    EmptyChunked,
}

impl Body {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Zero,
        Self::Length,
        Self::Chunked,
        Self::EmptyChunked,
    ];

    /// Returns the client's field and what follows the head.
    fn written(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("", ""),
            Self::Zero => ("Content-Length: 0\r\n", ""),
            Self::Length => ("Content-Length: 3\r\n", "abc"),
            Self::Chunked => (
                "Transfer-Encoding: chunked\r\n",
                "1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
            ),
            Self::EmptyChunked => ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        }
    }

    /// Returns the values of `Content-Length` and `Transfer-Encoding` that the upstream must receive, and the body.
    fn expected(
        self,
    ) -> (
        &'static [&'static str],
        &'static [&'static str],
        &'static str,
    ) {
        match self {
            Self::None => (&[], &[], ""),
            Self::Zero => (&["0"], &[], ""),
            Self::Length => (&["3"], &[], "abc"),
            Self::Chunked => (&[], &["chunked"], "abc"),
            Self::EmptyChunked => (&[], &["chunked"], ""),
        }
    }
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY",
];

/// The requests that an upstream has received, each with its body.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Received, String)>>>);

impl Seen {
    fn last(&self) -> (Received, String) {
        let seen = self.0.lock().unwrap();
        seen.last().cloned().expect("a request")
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Starts an upstream that records requests with their bodies.
fn recording_bodies() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let all = seen.clone();
    let address = upstream(move |received, stream| {
        let Ok((body, trailers)) = read_body(&received.head, stream) else {
            return false;
        };
        assert_eq!(trailers, [""; 0]);
        all.0.lock().unwrap().push((received.clone(), body));
        let is_head = received.head[0].starts_with("HEAD ");
        let body = if is_head { "" } else { "ok" };
        write(
            stream,
            &format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}"),
        );
        true
    });
    (address, seen)
}

/// FluxLit's defect 33.
#[test]
fn a_body_is_framed_as_the_client_framed_it() {
    let (address, seen) = recording_bodies();
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    for method in METHODS {
        for body in Body::ALL {
            let (field, content) = body.written();
            client.send(&format!(
                "{method} /x HTTP/1.1\r\nHost: a\r\n{field}\r\n{content}"
            ));
            assert_eq!(client.response_head().unwrap().status, 200);
            if method != "HEAD" {
                client.stream.read_exact(&mut [0; 2]).unwrap();
            }
            let (received, content) = seen.last();
            let (lengths, codings, expected) = body.expected();
            let row = format!("{method} {body:?}: {received:?}");
            assert_eq!(received.values("content-length"), lengths, "{row}");
            assert_eq!(received.values("transfer-encoding"), codings, "{row}");
            assert_eq!(content, expected, "{row}");
        }
    }
    assert_eq!(seen.count(), METHODS.len() * Body::ALL.len());
}

/// The end of a stream says in HTTP/2 that there is no body. HTTP/1.1 says it with a length, for methods that expect a body.
#[test]
fn a_body_of_http_2_is_framed_as_the_client_framed_it() {
    let (address, seen) = recording_bodies();
    let gateway = Gateway::in_front_of(address, &[]);
    run(async {
        let mut client = Http2::to(gateway.address).await;
        for method in METHODS {
            let name = Method::from_bytes(method.as_bytes()).unwrap();
            for body in Body::ALL {
                let fields = match body {
                    Body::Zero => &[("content-length", "0")][..],
                    Body::Length => &[("content-length", "3")],
                    Body::None | Body::Chunked | Body::EmptyChunked => &[],
                };
                // A length of zero with a last frame that is empty, and without one.
                let endings = if body == Body::Zero {
                    &[true, false][..]
                } else {
                    &[false]
                };
                for ends_at_once in endings {
                    let ends = body == Body::None || *ends_at_once;
                    let request = request(name.clone(), "/x", fields);
                    let (response, mut sending) = client.send(request, ends).await;
                    let (_, _, content) = body.expected();
                    if !ends {
                        sending.send_data(Bytes::from(content), true).unwrap();
                    }
                    assert_eq!(whole(response).await.0.status(), 200);
                    let (received, content) = seen.last();
                    let (lengths, codings, expected) = body.expected();
                    let lengths = match (body, method) {
                        (Body::None, "POST" | "PUT" | "PATCH") => &["0"],
                        _ => lengths,
                    };
                    let row = format!("{method} {body:?}: {received:?}");
                    assert_eq!(received.values("content-length"), lengths, "{row}");
                    assert_eq!(received.values("transfer-encoding"), codings, "{row}");
                    assert_eq!(content, expected, "{row}");
                }
            }
        }
    });
    assert_eq!(seen.count(), METHODS.len() * (Body::ALL.len() + 1));
}

/// Reads a chunked body without its trailers, as some servers do, so that they would become the next request.
fn without_trailers(all: &Arc<Mutex<Vec<Received>>>) -> SocketAddr {
    let all = Arc::clone(all);
    upstream(move |received, stream| {
        all.lock().unwrap().push(received.clone());
        if received.values("transfer-encoding") == ["chunked"] {
            let mut end = Vec::new();
            // The last chunk and the empty line, with nothing between them.
            while !end.ends_with(b"\r\n0\r\n") {
                let mut octet = [0];
                if stream.read_exact(&mut octet).is_err() {
                    return false;
                }
                end.push(octet[0]);
            }
            stream.read_exact(&mut [0; 2]).unwrap();
        }
        write(stream, OK);
        true
    })
}

#[test]
fn trailers_of_a_request_are_not_forwarded() {
    let all = Arc::default();
    let gateway = Gateway::in_front_of(without_trailers(&all), &[]);
    let mut client = gateway.client();
    for trailers in [
        "DELETE: /smuggled HTTP/1.1\r\nX-A: b\r\n",
        "Digest: d\r\n",
        "X-Forwarded-For: 6.6.6.6\r\n",
        "",
    ] {
        client.send(&format!(
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: DELETE\r\nTrailer: X-A\r\n\
             TE: trailers\r\nconnection: TE\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n"
        ));
        assert_eq!(client.response().status, 200, "{trailers:?}");
        client.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().status, 200, "after {trailers:?}");
    }
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let fields = [("trailer", "digest"), ("te", "trailers")];
        let (response, mut body) = client
            .send(request(Method::POST, "/a", &fields), false)
            .await;
        body.send_data(Bytes::from("abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", "/smuggled HTTP/1.1".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert_eq!(whole(response).await.0.status(), 200);
        assert_eq!(client.ask(request(Method::GET, "/b", &[])).await.1, "ok");
    });
    let all = all.lock().unwrap();
    let lines: Vec<&str> = all.iter().map(|one| one.head[0].as_str()).collect();
    let pair = ["POST /a HTTP/1.1", "GET /b HTTP/1.1"];
    assert_eq!(lines, pair.repeat(5));
    for received in &*all {
        assert_eq!(received.values("trailer"), [""; 0], "{received:?}");
        assert_eq!(received.values("te"), [""; 0], "{received:?}");
    }
}

/// Requests with an expectation, and whether the upstream must receive it.
const EXPECTATIONS: [(&str, &str, bool); 12] = [
    ("GET / HTTP/1.1", "expect: 100-continue\r\n", false),
    ("POST / HTTP/1.1", "expect: 100-continue\r\n", false),
    (
        "POST / HTTP/1.1",
        "expect: 100-continue\r\ncontent-length: 0\r\n",
        false,
    ),
    (
        "POST / HTTP/1.1",
        "expect: 100-continue\r\ncontent-length: 3\r\n",
        true,
    ),
    (
        "GET / HTTP/1.1",
        "Content-Length: 3\r\nExpect: 100-Continue\r\n",
        true,
    ),
    (
        "POST / HTTP/1.1",
        "expect: 100-continue\r\ntransfer-encoding: chunked\r\n",
        true,
    ),
    // Twice is once.
    (
        "POST / HTTP/1.1",
        "expect: 100-continue, 100-continue\r\ncontent-length: 3\r\n",
        true,
    ),
    (
        "POST / HTTP/1.1",
        "expect: 100-continue\r\nexpect: 100-continue\r\ncontent-length: 3\r\n",
        true,
    ),
    // An empty list expects nothing.
    (
        "POST / HTTP/1.1",
        "expect: \r\ncontent-length: 3\r\n",
        false,
    ),
    ("GET / HTTP/1.1", "expect: ,\r\n", false),
    // HTTP/1.0 has no expectations.
    (
        "POST / HTTP/1.0",
        "expect: 100-continue\r\ncontent-length: 3\r\n",
        false,
    ),
    ("GET / HTTP/1.0", "expect: 100-continue\r\n", false),
];

/// A server that says 100 to a request without a body may wait for the body for ever.
#[test]
fn an_expectation_is_forwarded_only_with_a_body() {
    let seen = Arc::<Mutex<Vec<Received>>>::default();
    let all = Arc::clone(&seen);
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            all.lock().unwrap().push(received.clone());
            if !received.values("expect").is_empty() {
                write(stream, "HTTP/1.1 100 Continue\r\n\r\n");
            }
            let is_whole = read_body(&received.head, stream).is_ok();
            write(stream, OK);
            is_whole
        }),
        &[],
    );
    for (line, fields, is_forwarded) in EXPECTATIONS {
        let mut client = gateway.client();
        client.send(&format!("{line}\r\nhost: a\r\n{fields}\r\n"));
        if is_forwarded {
            let interim = client.response();
            assert_eq!(interim.head, ["HTTP/1.1 100 Continue"], "{line} {fields:?}");
        }
        if fields.contains("chunked") {
            client.send("3\r\nabc\r\n0\r\n\r\n");
        } else if fields.contains("ength: 3") {
            client.send("abc");
        }
        assert_eq!(client.response().body, "ok", "{line} {fields:?}");
        let received = seen.lock().unwrap().last().cloned().unwrap();
        let expected = if is_forwarded {
            &["100-continue"][..]
        } else {
            &[]
        };
        assert_eq!(received.values("expect"), expected, "{line} {fields:?}");
    }
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let expecting = |method| request(method, "/", &[("expect", "100-continue")]);
        assert_eq!(client.ask(expecting(Method::GET)).await.1, "ok");
        let last = || seen.lock().unwrap().last().cloned().unwrap();
        assert_eq!(last().values("expect"), [""; 0]);
        let (mut response, mut body) = client.send(expecting(Method::POST), false).await;
        let interim = std::future::poll_fn(|context| response.poll_informational(context)).await;
        assert_eq!(interim.unwrap().unwrap().status(), 100);
        assert_eq!(last().values("expect"), ["100-continue"]);
        body.send_data(Bytes::from("abc"), true).unwrap();
        assert_eq!(whole(response).await.1, "ok");
    });
}

#[test]
fn an_unknown_expectation_is_rejected() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    for fields in [
        "expect: tea\r\n",
        "expect: 100-continue;q=1\r\n",
        "expect: 100-continue, tea\r\ncontent-length: 3\r\n",
        "expect: 100-continue\r\nexpect: tea\r\n",
    ] {
        let answer = gateway.send(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 417 "), "{fields:?}: {answer}");
    }
    run(async {
        let mut client = Http2::to(gateway.address).await;
        let strange = request(Method::GET, "/", &[("expect", "tea")]);
        assert_eq!(client.ask(strange).await.0.status(), 417);
    });
    assert_eq!(seen.requests(), [""; 0]);
}

/// What an upstream does with an expectation: how it begins, whether it then reads the body, and how it ends.
type Answer = (&'static str, bool, &'static str);

/// The client gets what the upstream sends, in its order, whenever it comes.
#[test]
fn an_upstream_answers_an_expectation_as_it_likes() {
    const FINAL: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let answers: [(Answer, bool, &[u16]); 5] = [
        // At once, late, never, twice; the last does not want the body.
        (
            ("HTTP/1.1 100 Continue\r\n\r\n", true, OK),
            false,
            &[100, 200],
        ),
        (
            (
                "",
                true,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            ),
            true,
            &[100, 200],
        ),
        (("", true, OK), true, &[200]),
        (
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
                true,
                OK,
            ),
            false,
            &[100, 100, 200],
        ),
        ((FINAL, false, ""), false, &[403]),
    ];
    for ((before, reads_body, after), sends_at_once, statuses) in answers {
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&bodies);
        let gateway = Gateway::in_front_of(
            upstream(
                move |received: &Received, stream: &mut BufReader<TcpStream>| {
                    write(stream, before);
                    if reads_body {
                        let mut body = [0; 3];
                        stream.read_exact(&mut body).unwrap();
                        all.lock().unwrap().push(text(&body));
                    }
                    assert_eq!(received.values("expect"), ["100-continue"]);
                    write(stream, after);
                    true
                },
            ),
            &[],
        );
        let mut client = gateway.client();
        client
            .send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
        if sends_at_once {
            client.send("abc");
        }
        let mut found = Vec::new();
        loop {
            let response = client.response();
            found.push(response.status);
            if response.status == 100 && !sends_at_once && found.len() == 1 {
                client.send("abc");
            }
            if response.status >= 200 {
                let closes = response.values("connection") == ["close"];
                assert_eq!(closes, !reads_body, "{response:?}");
                break;
            }
        }
        assert_eq!(found, statuses, "{before:?} {after:?}");
        let expected: &[&str] = if reads_body { &["abc"] } else { &[] };
        assert_eq!(*bodies.lock().unwrap(), expected);
    }
}

/// Neither side sends anything: the request does not hold its place among the upstream's requests for ever.
#[test]
fn an_expectation_that_nobody_meets_ends() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            let _ = stream.read(&mut [0]);
            false
        }),
        &[("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "0.2")],
    );
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.response().status, 504);
}
