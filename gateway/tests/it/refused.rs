//! Tests that ambiguous and malformed messages are rejected.

use crate::support::{Gateway, recording};

/// A response after which the connection stays open.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Checks the status of each request. Another request follows in the same segment, and must not be forwarded.
#[track_caller]
fn refused(table: &[(u16, &str)]) {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    for (status, request) in table {
        let answer = gateway.send(&format!(
            "{request}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?} ends the connection: {answer}"
        );
        assert!(
            answer.contains("connection: close"),
            "{request:?}: {answer}"
        );
        let id = answer.split_once("x-request-id: ").unwrap().1;
        let id = id.lines().next().unwrap();
        assert!(
            answer.ends_with(&format!("\nRequest {id}\n")),
            "{request:?}: {answer}"
        );
        assert_eq!(seen.requests(), [""; 0], "{request:?} arrived");
    }
}

/// A response to HEAD has no body, regardless of its fields.
#[test]
fn a_rejected_head_request_gets_no_body() {
    let (address, _) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    for (status, request) in [
        (
            501,
            "HEAD / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        ),
        (400, "HEAD / HTTP/1.1\r\nhost : a\r\n\r\n"),
        (505, "HEAD / HTTP/3.0\r\n\r\n"),
    ] {
        let answer = gateway.send(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"),
            "{request:?}: {answer}"
        );
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
        assert!(answer.contains("content-length: "), "{answer}");
    }
}

#[test]
fn ambiguous_lengths_of_a_body_are_rejected() {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n0\r\n\r\n");
    let table = [
        (400, "content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        (400, "content-length: 0\r\ntransfer-encoding: chunked\r\n"),
        (400, "content-length: 5\r\ncontent-length: 6\r\n"),
        (400, "content-length: 5\r\ncontent-length: 5\r\n"),
        (400, "content-length: 5, 5\r\n"),
        (400, "content-length: +5\r\n"),
        (400, "content-length: -5\r\n"),
        (400, "content-length: 0x5\r\n"),
        (400, "content-length: 5 5\r\n"),
        (400, "content-length: 5;\r\n"),
        (400, "content-length: \r\n"),
        (400, "content-length: five\r\n"),
        (400, "content-length: \u{b2}\r\n"),
        (400, "content-length: 18446744073709551616\r\n"),
        (400, "transfer-encoding: gzip\r\n"),
        (501, "transfer-encoding: gzip, chunked\r\n"),
        (400, "transfer-encoding: chunked, gzip\r\n"),
        (400, "transfer-encoding: chunked, chunked\r\n"),
        (400, "transfer-encoding: chunked;q=1\r\n"),
        (400, "transfer-encoding: xchunked\r\n"),
        (400, "transfer-encoding: \"chunked\"\r\n"),
        (400, "transfer-encoding: identity\r\n"),
        (
            400,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ),
        (
            400,
            "transfer-encoding: chunked\r\nTransfer-Encoding: x\r\n",
        ),
        (
            400,
            "transfer-encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        ),
        (400, "transfer-encoding: chunked, identity\r\n"),
        (400, "transfer-encoding: chunked, gzip, chunked\r\n"),
        (400, "transfer-encoding: chunked,\r\n"),
        (400, "transfer-encoding: , chunked\r\n"),
        (400, "transfer-encoding: gzip;q=1, chunked\r\n"),
        (501, "transfer-encoding: identity, chunked\r\n"),
        (501, "transfer-encoding: gzip, deflate, chunked\r\n"),
        (400, "transfer-encoding: \r\n"),
        (400, "transfer-encoding: \u{b}chunked\r\n"),
        (400, "transfer-encoding:\n chunked\r\n"),
    ];
    let requests: Vec<(u16, String)> = table
        .iter()
        .map(|(status, fields)| (*status, post(fields)))
        .chain([(
            400,
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        )])
        .collect();
    let requests: Vec<(u16, &str)> = requests
        .iter()
        .map(|(status, request)| (*status, request.as_str()))
        .collect();
    refused(&requests);
}

#[test]
fn malformed_heads_are_rejected() {
    refused(&[
        // A bare line feed, and a bare carriage return.
        (400, "GET / HTTP/1.1\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\n\n"),
        (400, "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: w\r\n\r\n"),
        (400, "GET / HTTP/1.1\rhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\r\n\r\n"),
        // A folded line, RFC 9112 §5.2.
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\tz\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n \r\n\r\n"),
        // Invalid names.
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx\t: y\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx(y): z\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\n\u{e9}: z\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 4\r\n\r\nabcd",
        ),
        // Control characters.
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\0\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: \u{7f}\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: \u{1b}[2J\r\n\r\n"),
        // Invalid request lines.
        (400, "GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1 \r\nhost: a\r\n\r\n"),
        (400, "GET / x HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, " GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /\r\nhost: a\r\n\r\n"),
        (400, "GET / http/1.1\r\nhost: a\r\n\r\n"),
        (400, "G=T / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "\u{16}\u{3}\u{1} / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
        (505, "GET / HTTP/0.9\r\nhost: a\r\n\r\n"),
        (505, "GET / HTTP/3.0\r\nhost: a\r\n\r\n"),
        (505, "GET / HTTP/9.9\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.10\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/2\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/ 1.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/01.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1,1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/+1.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/\r\nhost: a\r\n\r\n"),
        (400, "GET / \r\nhost: a\r\n\r\n"),
        // Control octets in a target.
        (400, "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /a\tb HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /\u{7f} HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /?\u{1b} HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET /a\rb HTTP/1.1\r\nhost: a\r\n\r\n"),
    ]);
}

/// The policy rejects these, which are malformed, or which another program may read differently. Whatever follows them is
/// not read.
#[test]
fn malformed_targets_and_hosts_are_rejected() {
    let (address, seen) = recording(OK);
    let gateway =
        Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0")]);
    let hosts = [
        "",
        "a, b",
        "a b",
        "a/x",
        "a?x",
        "a#x",
        "user@a",
        "user@evil/../",
        "a:port",
        "a:",
        "a:0",
        "a:65536",
        ":80",
        "[::1",
        "::1",
        "[a]",
        "a\\b",
        "a%41",
        "\u{e9}",
        "http://a",
    ];
    let mut requests: Vec<String> = Vec::new();
    for host in hosts {
        for target in ["/", "http://a.example/", "/api/healthz", "*"] {
            requests.push(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
        requests.push(format!(
            "GET / HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\r\n"
        ));
        if !host.is_empty() && !host.contains([' ', '/', '?', '#']) {
            requests.push(format!("GET http://{host}/ HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
    }
    let targets = [
        "http:///",
        "http://",
        "http://user@a/",
        "a",
        "a#b",
        "/a#b",
        "/a\\b",
        "/\u{e9}",
        "/%zz",
        "/%0d%0a",
        "/../x",
        "ftp://a/",
        "?x",
    ];
    requests.extend(targets.map(|target| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")));
    requests.extend(
        [
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
        ]
        .map(str::to_owned),
    );
    let next = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for request in &requests {
        let answer = gateway.send(&format!("{request}{next}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer}"
        );
        assert!(
            answer.contains("connection: close"),
            "{request:?}: {answer}"
        );
        assert_eq!(seen.requests(), [""; 0], "{request:?} arrived");
    }
    // The listener for operators has other paths, not other rules.
    for request in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a/x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: \r\n\r\n",
    ] {
        let mut client = crate::client::Client::new(gateway.admin.unwrap());
        client.send(&format!("{request}{next}"));
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer}"
        );
    }
}

/// These are well-formed, so the connection stays open, but they are not forwarded (FluxLit's defects 28 and 32).
#[test]
fn unwanted_requests_are_rejected() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[]);
    for (status, request) in [
        (405, "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (417, "GET / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\n\r\n"),
    ] {
        let mut client = gateway.client();
        client.send(request);
        assert_eq!(client.response().status, status, "{request:?}");
        assert_eq!(seen.requests(), [""; 0], "{request:?} arrived");
        client.send("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().status, 200, "after {request:?}");
    }
    // The client may have sent the first bytes of its tunnel, which are no request.
    let answer = gateway.send(
        "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(seen.requests(), [""; 0]);
}

#[test]
fn malformed_chunked_bodies_are_rejected() {
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3;x\n\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: a\0b\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n",
        "3\r\nabc\r\n0\r\nnocolon\r\n\r\n",
        "3\r\nabc\r\n0\r\nx : y\r\n\r\n",
    ] {
        let (address, seen) = recording("");
        let gateway = Gateway::in_front_of(address, &[]);
        let answer = gateway.send(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
        assert!(answer.contains("connection: close"), "{body:?}: {answer}");
        assert!(
            !seen.requests().iter().any(|line| line.contains("smuggled")),
            "{body:?}"
        );
    }
}
