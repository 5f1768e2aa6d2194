//! Where does a message begin and end? What is clear passes to the octet; what is not is refused elsewhere.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::client::{PATIENCE, read_body};
use crate::support::{Gateway, Received, eventually, recording, say, upstream};

/// An answer that goes on.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An upstream that gives this answer and ends the connection.
fn ending(answer: &'static str) -> SocketAddr {
    upstream(move |_, stream| {
        say(stream, answer);
        false
    })
}

/// Answers with what was received: the head, an empty line, the body, an empty line, the trailers.
fn echo(received: &Received, stream: &mut BufReader<TcpStream>) -> bool {
    let Ok((body, trailers)) = read_body(&received.head, stream) else {
        return false;
    };
    let echoed = format!(
        "{}\n\n{body}\n\n{}",
        received.head.join("\n"),
        trailers.join("\n")
    );
    let length = echoed.chars().count();
    say(
        stream,
        &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{echoed}"),
    );
    true
}

#[test]
fn a_target_that_names_its_authority() {
    let gateway = Gateway::before(upstream(echo), &[]);
    let mut client = gateway.client();
    for (request, line, host) in [
        (
            "GET http://portal.example/x?y HTTP/1.1\r\nhost: other.example",
            "GET /x?y HTTP/1.1",
            "portal.example",
        ),
        (
            "GET http://portal.example:8080 HTTP/1.1\r\nhost: portal.example:8080",
            "GET / HTTP/1.1",
            "portal.example:8080",
        ),
    ] {
        client.say(&format!("{request}\r\n\r\n"));
        let echoed = client.answer().body;
        let mut lines = echoed.lines();
        assert_eq!(lines.next(), Some(line), "{request}");
        assert!(
            lines.any(|line| line == format!("host: {host}")),
            "{request}: {echoed}"
        );
    }
    client.say("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(
        !client.answer().body.contains("OPTIONS"),
        "it is for us, not for the app"
    );
}

#[test]
fn requests_in_one_segment_are_answered_one_after_another() {
    let gateway = Gateway::before(upstream(echo), &[]);
    let mut client = gateway.client();
    client.say(
        "\r\nGET /1 HTTP/1.1\r\nhost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
         POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n\
         GET /5 HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    for (request, body) in [
        ("GET /1 ", "\n\n\n\n"),
        ("POST /2 ", "\n\nabc\n\n"),
        ("POST /3 ", "\n\ndef\n\n"),
        ("GET /4 ", "\n\n\n\n"),
    ] {
        let echoed = client.answer().body;
        assert!(
            echoed.starts_with(request) && echoed.ends_with(body),
            "{echoed}"
        );
    }
    assert_eq!(
        client.rest(),
        "",
        "nothing follows what ends the connection"
    );
}

/// Each piece is a segment of its own.
#[test]
fn empty_lines_before_a_request_are_nothing_however_they_come() {
    let gateway = Gateway::before(
        upstream(echo),
        &[("FLUXLIT_GATEWAY_MAX_HEADER_BYTES", "1024")],
    );
    let request = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n";
    let many = "\r\n".repeat(1000);
    for (pieces, status) in [
        (&["\r\n"][..], 200),
        (&["\r\n", "\r\n"], 200),
        (&["\r"], 200),
        (&["\r", "\n\r", "\n"], 200),
        (&["\r", "x"], 400),
        (&["\r", &many], 400),
    ] {
        let mut client = gateway.client();
        for (number, piece) in pieces.iter().enumerate() {
            // What comes next is a segment of its own only once this is read.
            assert!(number == 0 || eventually(|| gateway.has_read(&client)));
            client.say(piece);
        }
        // Whoever is refused may not be read any more.
        assert!(status != 200 || eventually(|| gateway.has_read(&client)));
        let rest = if pieces == ["\r"] { "\n" } else { "" };
        client.say(&format!("{rest}{request}"));
        assert_eq!(client.answer().status, status, "{pieces:?}");
        if status == 200 {
            // Behind a request as well.
            client.say(&format!("\r\n{request}"));
            assert_eq!(client.answer().status, 200, "{pieces:?}");
        }
    }
}

#[test]
fn http_1_0() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for (answer, request, goes_on) in [
        (OK, "GET / HTTP/1.0\r\nhost: a\r\n\r\n", false),
        (
            OK,
            "GET / HTTP/1.0\r\nhost: a\r\nconnection: Keep-Alive\r\n\r\n",
            true,
        ),
        (
            chunked,
            "GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
            false,
        ),
    ] {
        let (address, seen) = recording(answer);
        let gateway = Gateway::before(address, &[]);
        let mut client = gateway.client();
        client.say(request);
        let answer = client.answer();
        let connection = if goes_on { "keep-alive" } else { "close" };
        assert_eq!(answer.lines("connection"), [connection], "{answer:?}");
        assert_eq!(answer.lines("transfer-encoding"), [""; 0], "{answer:?}");
        assert_eq!(answer.body, "ok", "{answer:?}");
        assert_eq!(seen.requests(), ["GET / HTTP/1.1"]);
        if goes_on {
            client.say(request);
            assert_eq!(client.answer().body, "ok");
        } else {
            assert!(client.is_closed(), "{request:?}");
        }
    }
}

#[test]
fn chunk_extensions_end_here_and_trailers_pass_without_what_is_governed() {
    let gateway = Gateway::before(upstream(echo), &[]);
    let mut client = gateway.client();
    client.say(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: Digest\r\n\r\n\
         3;x=\"y\"\r\nabc\r\n2 ; z\r\nde\r\n0;last\r\n\
         Digest: d\r\nX-Forwarded-For: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nX-Remote-User: root\r\n\
         content-length: 3\r\nTransfer-Encoding: gzip\r\nhost: evil\r\ncookie: a=b\r\nauthorization: x\r\n\r\n",
    );
    let answer = client.answer();
    let (_, rest) = answer.body.split_once("\n\n").unwrap();
    assert_eq!(rest, "abcde\n\nDigest: d", "{answer:?}");
}

#[test]
fn expect_is_between_client_and_app() {
    let gateway = Gateway::before(
        upstream(|received, stream| {
            assert_eq!(received.lines("expect"), ["100-continue"]);
            say(stream, "HTTP/1.1 100 Continue\r\n\r\n");
            echo(received, stream)
        }),
        &[],
    );
    let mut client = gateway.client();
    client.say("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.say("abc");
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\n\nabc\n\n"), "{answer:?}");

    // An app that refuses the request gets no body.
    let (address, _) = recording("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    client.say("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    assert_eq!(
        answer.lines("connection"),
        ["close"],
        "whether the body still comes is not known: {answer:?}"
    );
}

/// FluxLit's defects 20 and 21.
#[test]
fn answers_that_have_no_body() {
    for (request, answer, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n",
            &["12345"][..],
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            &[],
        ),
        ("HEAD", "HTTP/1.1 404 Not Found\r\n\r\n", &[]),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            &[],
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", &[]),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            &["7"],
        ),
    ] {
        let (address, _) = recording(answer);
        let gateway = Gateway::before(address, &[]);
        let mut client = gateway.client();
        // On one connection, so that a body that is there all the same would be seen.
        for _ in 0..2 {
            client.say(&format!("{request} / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.head_of_answer().unwrap();
            assert_eq!(head.head[0], answer.lines().next().unwrap());
            assert_eq!(head.lines("content-length"), length, "{answer:?}: {head:?}");
            assert_eq!(head.lines("transfer-encoding"), [""; 0], "{answer:?}");
        }
    }
}

/// FluxLit's defect 32.
#[test]
fn informational_answers_pass() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nconnection: x\r\nx: y\r\n\
         Set-Cookie: a=b\r\nlocation: /x\r\nContent-Location: /x\r\nrefresh: 1\r\ntransfer-encoding: chunked\r\n\
         strict-transport-security: max-age=1\r\nx-request-id: x\r\ncontent-length: 3\r\n\r\n";
    let (address, _) = recording(&format!("{early}{early}{OK}"));
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    for _ in 0..2 {
        let hints = client.answer();
        assert_eq!(
            hints.head,
            ["HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload"]
        );
    }
    assert_eq!(client.answer().status, 200);
    client.say("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer().status, 200, "HTTP/1.0 has none");
}

#[test]
fn trailers_of_an_answer_pass() {
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: Digest\r\n\r\n2;x\r\nok\r\n0\r\n\
         Digest: d\r\nSet-Cookie: a=b\r\ncontent-length: 3\r\nlocation: /x\r\n\r\n",
    );
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.body, "ok");
        assert_eq!(answer.trailers, ["Digest: d"], "{answer:?}");
        assert_eq!(answer.lines("trailer"), ["Digest"]);
    }
}

#[test]
fn an_answer_that_lasts_until_its_connection_ends() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\n",
    ] {
        let gateway = Gateway::before(
            upstream(move |_, stream| {
                say(stream, &format!("{head}all of it"));
                false
            }),
            &[],
        );
        let mut client = gateway.client();
        for _ in 0..2 {
            client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            let answer = client.answer();
            assert_eq!(answer.lines("transfer-encoding"), ["chunked"], "{answer:?}");
            assert_eq!(answer.body, "all of it");
        }
    }
}

/// In HTTP/1.0 the end of the connection is the end of the body, so one that is cut off must not end in order.
#[test]
fn a_client_of_http_1_0_notices_that_an_answer_is_not_whole() {
    for (answer, is_whole) in [
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
    ] {
        let gateway = Gateway::before(ending(answer), &[]);
        let mut client = gateway.client();
        client.say("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        let end = client.stream.read_to_end(&mut Vec::new());
        let end = end.map(drop).map_err(|error| error.kind());
        let expected = if is_whole {
            Ok(())
        } else {
            Err(ErrorKind::ConnectionReset)
        };
        assert_eq!(end, expected, "{answer}");
    }
}

#[test]
fn a_client_notices_that_an_answer_is_not_whole() {
    for (answer, is_whole) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            "\r\n\r\nhalf\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "0\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            "0\r\n\r\n",
        ),
    ] {
        let gateway = Gateway::before(ending(answer), &[]);
        let all = gateway.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(all.contains("half"), "what came is passed on: {all}");
        assert!(!all.ends_with(is_whole), "{answer:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "{all}");
    }
    let (address, _) =
        recording("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n");
    let all = Gateway::before(address, &[]).send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!all.ends_with("0\r\n\r\n"), "malformed: {all}");
}

#[test]
fn an_answer_that_comes_before_the_body_was_sent() {
    let gateway = Gateway::before(
        upstream(|_, stream| {
            say(
                stream,
                "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge",
            );
            let _ = stream.get_mut().shutdown(Shutdown::Write);
            false
        }),
        &[],
    );
    let mut client = gateway.client();
    client.say("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
    let block = "x".repeat(100_000);
    let sent = (0..1000).find(|_| client.try_say(&block).is_err());
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "large"));
    assert_eq!(answer.lines("connection"), ["close"], "{answer:?}");
    assert!(
        sent.is_some(),
        "nobody reads all of a body that is not wanted"
    );
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "",
        // Nothing of these was passed on when it was seen what they are.
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r",
    ] {
        let gateway = Gateway::before(ending(answer), &[]);
        let mut client = gateway.client();
        client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.answer().status, 502, "{answer:?}");
    }
}

/// FluxLit's defect 23.
#[test]
fn octets_pass_as_they_are() {
    // Latin-1, UTF-8, white space within, and what looks like a list.
    let values = [
        "caf\u{e9}",
        "caf\u{c3}\u{a9}",
        "a \t b",
        "\"x, y\", z",
        ";=",
        "",
    ];
    let fields: String = values
        .iter()
        .map(|value| format!("X-Value: {value}\r\n"))
        .collect();
    let (address, seen) = recording(&format!(
        "HTTP/1.1 200 \u{e9}tat\r\n{fields}content-length: 0\r\n\r\n"
    ));
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    client.say(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    let answer = client.answer();
    assert_eq!(answer.lines("x-value"), values);
    assert_eq!(answer.head[0], "HTTP/1.1 200 \u{e9}tat");
    assert_eq!(seen.last().lines("x-value"), values);
}

#[test]
fn names_keep_their_spelling_and_lines_their_order() {
    let fields =
        "X-B: 1\r\nx-a: 2\r\nX-b: 3\r\nCOOKIE: d=e\r\nSec-Fetch-Mode: navigate\r\nx_c: 4\r\n";
    let (address, seen) = recording(&format!(
        "HTTP/1.1 200 OK\r\nDATE: today\r\n{fields}Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    ));
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    client.say(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let answer = client.answer().head.join("\r\n");
    let received = seen.last().head.join("\r\n");
    assert!(received.contains(fields), "{received}");
    let all = format!("DATE: today\r\n{fields}Set-Cookie: a=1\r\nset-cookie: b=2\r\n");
    assert!(answer.contains(&all), "{answer}");
}

/// FluxLit's defect 22.
#[test]
fn what_a_body_is_encoded_in_is_none_of_our_business() {
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-3/9\r\n\
                  ETag: \"x\"\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\nContent-Length: 4\r\n\r\n\u{1f}\u{8b}\u{8}\0";
    let (address, seen) = recording(answer);
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    for (fields, encoding) in [
        ("", &[][..]),
        ("Accept-Encoding: gzip;q=0, br\r\n", &["gzip;q=0, br"]),
    ] {
        client.say(&format!(
            "GET / HTTP/1.1\r\nhost: a\r\nRange: bytes=0-3\r\nIf-Range: \"x\"\r\nIf-None-Match: *\r\n{fields}\r\n"
        ));
        let got = client.answer();
        assert_eq!(got.body, "\u{1f}\u{8b}\u{8}\0");
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-3/9"),
            ("etag", "\"x\""),
            ("vary", "Accept-Encoding"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(got.lines(name), [value]);
        }
        let received = seen.last();
        assert_eq!(received.lines("accept-encoding"), encoding);
        for (name, value) in [
            ("range", "bytes=0-3"),
            ("if-range", "\"x\""),
            ("if-none-match", "*"),
        ] {
            assert_eq!(received.lines(name), [value]);
        }
    }
}

/// A body is framed for the app as it was for us (FluxLit's defect 33).
#[test]
fn a_request_keeps_its_framing() {
    let gateway = Gateway::before(upstream(echo), &[]);
    let mut client = gateway.client();
    for (request, lines, absent) in [
        (
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            &[][..],
            &["content-length", "transfer-encoding"][..],
        ),
        (
            "DELETE / HTTP/1.1\r\nhost: a\r\n\r\n",
            &[],
            &["content-length", "transfer-encoding"],
        ),
        (
            "OPTIONS / HTTP/1.1\r\nhost: a\r\n\r\n",
            &[],
            &["content-length", "transfer-encoding"],
        ),
        (
            "PUT / HTTP/1.1\r\nhost: a\r\n\r\n",
            &["content-length: 0"],
            &["transfer-encoding"],
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            &["content-length: 0"],
            &["transfer-encoding"],
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            &["content-length: 3"],
            &["transfer-encoding"],
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            &["content-length: 3"],
            &["transfer-encoding"],
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            &["transfer-encoding: chunked"],
            &["content-length"],
        ),
    ] {
        client.say(request);
        let echoed = client.answer().body;
        for line in lines {
            assert!(
                echoed.lines().any(|other| other == *line),
                "{request:?}: {echoed}"
            );
        }
        for name in absent {
            assert!(!echoed.contains(name), "{request:?}: {echoed}");
        }
    }
}

/// A client that ends its side in the midst of a body has left: half of it is passed on to nobody.
#[test]
fn a_half_closed_client() {
    let gateway = Gateway::before(upstream(echo), &[]);
    let mut client = gateway.client();
    client.say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab");
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "half of a body is no request");
}

/// Closing a connection with bytes that nobody has read resets it, and what is still on its way to the client is lost.
#[test]
fn an_answer_arrives_although_more_was_asked() {
    let body = "x".repeat(3_000_000);
    let (address, seen) = recording(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let more = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(12_000);
    for drains in [false, true] {
        let gateway = Gateway::before(address, &[]);
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(8192).unwrap();
        socket.connect(&gateway.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = if drains { "" } else { "connection: close\r\n" };
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{connection}\r\n");
        if drains {
            gateway.terminate();
            assert!(gateway.lets_nobody_in());
        }
        let mut sending = stream.try_clone().unwrap();
        let more = more.clone();
        let sender = std::thread::spawn(move || {
            // Not all of it may be taken.
            let _ = sending.write_all((request + &more).as_bytes());
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(body.as_bytes()) && all.starts_with(b"HTTP/1.1 200 "));
        sender.join().unwrap();
    }
    assert_eq!(seen.count(), 2, "only what was answered");
}
