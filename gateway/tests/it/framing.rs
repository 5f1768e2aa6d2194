//! Tests where messages begin and end, and that they are forwarded unchanged. `refused.rs` tests ambiguous ones.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::client::{LIMIT, read_body};
use crate::support::{Gateway, Received, eventually, recording, upstream, write};

/// A response after which the connection stays open.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Starts an upstream that sends this response and closes the connection.
fn ending(response: &'static str) -> SocketAddr {
    upstream(move |_, stream| {
        write(stream, response);
        false
    })
}

/// Responds with what was received: the head, an empty line, the body, an empty line, the trailers.
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
    write(
        stream,
        &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{echoed}"),
    );
    true
}

#[test]
fn a_target_in_absolute_form() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
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
        client.send(&format!("{request}\r\n\r\n"));
        let echoed = client.response().body;
        let mut lines = echoed.lines();
        assert_eq!(lines.next(), Some(line), "{request}");
        assert!(
            lines.any(|line| line == format!("host: {host}")),
            "{request}: {echoed}"
        );
    }
    client.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(
        !client.response().body.contains("OPTIONS"),
        "the gateway responds itself"
    );
}

#[test]
fn pipelined_requests_have_responses_in_order() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let mut client = gateway.client();
    client.send(
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
        let echoed = client.response().body;
        assert!(
            echoed.starts_with(request) && echoed.ends_with(body),
            "{echoed}"
        );
    }
    assert_eq!(
        client.rest(),
        "",
        "nothing follows the response that closes the connection"
    );
}

/// Each piece is sent as a separate segment.
#[test]
fn empty_lines_before_a_request_are_ignored() {
    let gateway = Gateway::in_front_of(
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
            // A piece is a separate segment only if the previous one has already been read.
            assert!(number == 0 || eventually(|| gateway.has_read(&client)));
            client.send(piece);
        }
        // The gateway need not read the rest of a rejected request.
        assert!(status != 200 || eventually(|| gateway.has_read(&client)));
        let rest = if pieces == ["\r"] { "\n" } else { "" };
        client.send(&format!("{rest}{request}"));
        assert_eq!(client.response().status, status, "{pieces:?}");
        if status == 200 {
            // An empty line between requests is ignored as well.
            client.send(&format!("\r\n{request}"));
            assert_eq!(client.response().status, 200, "{pieces:?}");
        }
    }
}

#[test]
fn http_1_0_is_supported() {
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
        let gateway = Gateway::in_front_of(address, &[]);
        let mut client = gateway.client();
        client.send(request);
        let answer = client.response();
        let connection = if goes_on { "keep-alive" } else { "close" };
        assert_eq!(answer.values("connection"), [connection], "{answer:?}");
        assert_eq!(answer.values("transfer-encoding"), [""; 0], "{answer:?}");
        assert_eq!(answer.body, "ok", "{answer:?}");
        assert_eq!(seen.requests(), ["GET / HTTP/1.1"]);
        if goes_on {
            client.send(request);
            assert_eq!(client.response().body, "ok");
        } else {
            assert!(client.is_closed(), "{request:?}");
        }
    }
}

#[test]
fn chunk_extensions_and_trailers_of_a_request_are_removed() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: Digest\r\n\r\n\
         3;x=\"y\"\r\nabc\r\n2 ; z\r\nde\r\n0;last\r\n\
         Digest: d\r\nX-Forwarded-For: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nX-Remote-User: root\r\n\
         content-length: 3\r\nTransfer-Encoding: gzip\r\nhost: evil\r\ncookie: a=b\r\nauthorization: x\r\n\r\n",
    );
    let answer = client.response();
    let (_, rest) = answer.body.split_once("\n\n").unwrap();
    assert_eq!(rest, "abcde\n\n", "{answer:?}");
}

#[test]
fn expect_continue_is_forwarded() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            assert_eq!(received.values("expect"), ["100-continue"]);
            write(stream, "HTTP/1.1 100 Continue\r\n\r\n");
            echo(received, stream)
        }),
        &[],
    );
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("abc");
    let answer = client.response();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\n\nabc\n\n"), "{answer:?}");

    // An app that rejects the request receives no body.
    let (address, _) = recording("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    assert_eq!(
        answer.values("connection"),
        ["close"],
        "the client may or may not send the body: {answer:?}"
    );
}

/// FluxLit's defects 20 and 21.
#[test]
fn responses_without_a_body() {
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
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            &["0"],
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            &["0"],
        ),
        (
            "DELETE",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            &["0"],
        ),
        ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", &[]),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
            &[],
        ),
        (
            "GET",
            "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
            &["0"],
        ),
        (
            "HEAD",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            &["7"],
        ),
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
        let gateway = Gateway::in_front_of(address, &[]);
        let mut client = gateway.client();
        // Use one connection, so that an unexpected body is detected.
        for _ in 0..2 {
            client.send(&format!("{request} / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let head = client.response_head().unwrap();
            assert_eq!(head.head[0], answer.lines().next().unwrap());
            assert_eq!(
                head.values("content-length"),
                length,
                "{answer:?}: {head:?}"
            );
            assert_eq!(head.values("transfer-encoding"), [""; 0], "{answer:?}");
        }
    }
}

/// FluxLit's defect 32.
#[test]
fn interim_responses_are_forwarded() {
    let early = "HTTP/1.1 103 Early Hints\r\nX-Hint: a\r\nLink: </a.css>; rel=preload\r\nconnection: x\r\nx: y\r\n\
         Set-Cookie: a=b\r\nlocation: /x\r\nContent-Location: /x\r\nrefresh: 1\r\ntransfer-encoding: chunked\r\n\
         strict-transport-security: max-age=1\r\nx-request-id: x\r\ncontent-length: 3\r\n\r\n";
    let (address, _) = recording(&format!("{early}{early}{OK}"));
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    for _ in 0..2 {
        let hints = client.response();
        assert_eq!(hints.head, ["HTTP/1.1 103 Early Hints", "X-Hint: a"]);
    }
    assert_eq!(client.response().status, 200);
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!(
        client.response().status,
        200,
        "HTTP/1.0 has no interim responses"
    );
}

/// A recipient with a clock adds the field that is missing, RFC 9110 §6.6.1.
#[test]
fn a_response_without_a_date_gets_one() {
    let own = "Thu, 01 Jan 1970 00:00:00 GMT";
    for (head, expected) in [
        ("200 OK\r\n", None),
        ("404 Not Found\r\n", None),
        ("500 Error\r\n", None),
        ("304 Not Modified\r\n", None),
        (
            "200 OK\r\nDATE: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
            Some(own),
        ),
        // One for another hop does not count.
        ("200 OK\r\ndate: x\r\nconnection: date\r\n", None),
        ("200 OK\r\nx-date: x\r\n", None),
    ] {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        let (address, _) = recording(&format!("{early}HTTP/1.1 {head}content-length: 0\r\n\r\n"));
        let gateway = Gateway::in_front_of(address, &[]);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().values("date"), [""; 0], "not on 103");
        let answer = client.response();
        let dates = answer.values("date");
        assert_eq!(dates.len(), 1, "{answer:?}");
        match expected {
            Some(date) => assert_eq!(dates, [date]),
            None => assert!(
                dates[0].ends_with(" GMT") && dates[0].len() == 29,
                "{dates:?}"
            ),
        }
    }
}

#[test]
fn trailers_of_a_response_are_forwarded() {
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: Digest\r\n\r\n2;x\r\nok\r\n0\r\n\
         Digest: d\r\nSet-Cookie: a=b\r\ncontent-length: 3\r\nlocation: /x\r\n\r\n",
    );
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.body, "ok");
        assert_eq!(answer.trailers, ["Digest: d"], "{answer:?}");
        assert_eq!(answer.values("trailer"), ["Digest"]);
    }
}

#[test]
fn a_response_that_ends_with_its_connection() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\n",
    ] {
        let gateway = Gateway::in_front_of(
            upstream(move |_, stream| {
                write(stream, &format!("{head}all of it"));
                false
            }),
            &[],
        );
        let mut client = gateway.client();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            let answer = client.response();
            assert_eq!(
                answer.values("transfer-encoding"),
                ["chunked"],
                "{answer:?}"
            );
            assert_eq!(answer.body, "all of it");
        }
    }
}

/// In HTTP/1.0 a body ends with the connection, so an incomplete one must end with a reset.
#[test]
fn a_client_of_http_1_0_notices_an_incomplete_response() {
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
        let gateway = Gateway::in_front_of(ending(answer), &[]);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
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
fn a_client_notices_an_incomplete_response() {
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
        let gateway = Gateway::in_front_of(ending(answer), &[]);
        let all = gateway.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(
            all.contains("half"),
            "the received part is forwarded: {all}"
        );
        assert!(!all.ends_with(is_whole), "{answer:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "{all}");
    }
    let (address, _) =
        recording("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n");
    let all = Gateway::in_front_of(address, &[]).send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!all.ends_with("0\r\n\r\n"), "malformed: {all}");
}

#[test]
fn a_response_before_the_end_of_the_request() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            write(
                stream,
                "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge",
            );
            let _ = stream.get_mut().shutdown(Shutdown::Write);
            false
        }),
        &[],
    );
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
    let block = "x".repeat(100_000);
    let sent = (0..1000).find(|_| client.try_send(&block).is_err());
    let answer = client.response();
    assert_eq!((answer.status, answer.body.as_str()), (413, "large"));
    assert_eq!(answer.values("connection"), ["close"], "{answer:?}");
    // At most 16 MiB are discarded; the sockets buffer some more.
    assert!(
        sent.is_some_and(|blocks| blocks < 500),
        "too much of an unwanted body was read: {sent:?} blocks of 100 kB"
    );
}

#[test]
fn an_ambiguous_response_is_a_502() {
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
        // These are found to be invalid before any part of them is forwarded.
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r",
    ] {
        let gateway = Gateway::in_front_of(ending(answer), &[]);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().status, 502, "{answer:?}");
    }
}

/// FluxLit's defect 23.
#[test]
fn bytes_are_forwarded_unchanged() {
    // Latin-1, UTF-8, inner white space, and a value that looks like a list.
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
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    let answer = client.response();
    assert_eq!(answer.values("x-value"), values);
    assert_eq!(answer.head[0], "HTTP/1.1 200 \u{e9}tat");
    assert_eq!(seen.last().values("x-value"), values);
}

#[test]
fn names_keep_their_case_and_lines_their_order() {
    let fields =
        "X-B: 1\r\nx-a: 2\r\nX-b: 3\r\nCOOKIE: d=e\r\nSec-Fetch-Mode: navigate\r\nx_c: 4\r\n";
    let (address, seen) = recording(&format!(
        "HTTP/1.1 200 OK\r\nDATE: today\r\n{fields}Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    ));
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let answer = client.response().head.join("\r\n");
    let received = seen.last().head.join("\r\n");
    assert!(received.contains(fields), "{received}");
    let all = format!("DATE: today\r\n{fields}Set-Cookie: a=1\r\nset-cookie: b=2\r\n");
    assert!(answer.contains(&all), "{answer}");
}

/// FluxLit's defect 22.
#[test]
fn content_codings_are_forwarded_unchanged() {
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-3/9\r\n\
                  ETag: \"x\"\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\nContent-Length: 4\r\n\r\n\u{1f}\u{8b}\u{8}\0";
    let (address, seen) = recording(answer);
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    for (fields, encoding) in [
        ("", &[][..]),
        ("Accept-Encoding: gzip;q=0, br\r\n", &["gzip;q=0, br"]),
    ] {
        client.send(&format!(
            "GET / HTTP/1.1\r\nhost: a\r\nRange: bytes=0-3\r\nIf-Range: \"x\"\r\nIf-None-Match: *\r\n{fields}\r\n"
        ));
        let got = client.response();
        assert_eq!(got.body, "\u{1f}\u{8b}\u{8}\0");
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-3/9"),
            ("etag", "\"x\""),
            ("vary", "Accept-Encoding"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(got.values(name), [value]);
        }
        let received = seen.last();
        assert_eq!(received.values("accept-encoding"), encoding);
        for (name, value) in [
            ("range", "bytes=0-3"),
            ("if-range", "\"x\""),
            ("if-none-match", "*"),
        ] {
            assert_eq!(received.values(name), [value]);
        }
    }
}

/// A client that closes its side in the middle of a body has left: the incomplete body is not forwarded as a request.
#[test]
fn a_half_closed_connection_ends_the_request() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab");
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "an incomplete body is not a request");
}

/// Closing a connection with unread bytes resets it, and a response that is still on its way is lost.
#[test]
fn a_response_arrives_although_unread_bytes_follow_the_request() {
    let body = "x".repeat(3_000_000);
    let (address, seen) = recording(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let more = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(12_000);
    for drains in [false, true] {
        let gateway = Gateway::in_front_of(address, &[]);
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(8192).unwrap();
        socket.connect(&gateway.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let connection = if drains { "" } else { "connection: close\r\n" };
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{connection}\r\n");
        if drains {
            gateway.terminate();
            assert!(gateway.drops_new_connections());
        }
        let mut sending = stream.try_clone().unwrap();
        let more = more.clone();
        let sender = std::thread::spawn(move || {
            // The gateway may not read all of it.
            let _ = sending.write_all((request + &more).as_bytes());
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(body.as_bytes()) && all.starts_with(b"HTTP/1.1 200 "));
        sender.join().unwrap();
    }
    assert_eq!(
        seen.count(),
        2,
        "only the first request of each connection is forwarded"
    );
}
