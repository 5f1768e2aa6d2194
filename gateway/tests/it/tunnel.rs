//! Tests WebSocket over HTTP/1.1: the handshake and the tunnel.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::{Gateway, Received, head, upstream, write};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) fn handshake(extra: &str) -> String {
    format!(
        "GET /_stcore/stream HTTP/1.1\r\nhost: app.example\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n\
         sec-websocket-protocol: streamlit, token, session\r\n{extra}\r\n"
    )
}

/// Accepts the handshake, sends a greeting, and echoes until the other side has closed.
fn accepting(received: &Received, stream: &mut BufReader<TcpStream>) -> bool {
    assert_eq!(received.values("host").len(), 1);
    assert_eq!(
        received.values("sec-websocket-protocol"),
        ["streamlit, token, session"]
    );
    write(
        stream,
        &format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {ACCEPT}\r\nsec-websocket-protocol: streamlit\r\nset-cookie: x=y\r\n\r\nhello "
        ),
    );
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let _ = stream.get_mut().write_all(&got);
    false
}

/// FluxLit's defects 4, 5, 6 and 16: any amount is forwarded, the app receives one `Host` and one line of protocols, and the
/// fields of its 101 arrive.
#[test]
fn bytes_are_forwarded_both_ways_and_each_side_may_close_first() {
    let gateway = Gateway::in_front_of(upstream(accepting), &[]);
    let mut client = gateway.connect();
    // The first frame is in the same segment as the handshake.
    client
        .write_all((handshake("") + "first ").as_bytes())
        .unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let lines = head(&mut reader).join("\n").to_ascii_lowercase();
    assert!(lines.starts_with("http/1.1 101"), "{lines}");
    for line in [
        "sec-websocket-protocol: streamlit",
        "set-cookie: x=y",
        "upgrade: websocket",
    ] {
        assert!(lines.contains(line), "`{line}` is missing in {lines}");
    }
    assert_eq!(lines.matches("sec-websocket-accept").count(), 1, "{lines}");
    let large = vec![b'x'; 4_000_000];
    client.write_all(&large).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(
        rest.starts_with(b"hello first xxx"),
        "{:?}",
        &rest[..rest.len().min(30)]
    );
    assert_eq!(rest.len(), "hello first ".len() + large.len());
}

/// FluxLit's defect 17.
#[test]
fn a_rejected_handshake_is_forwarded() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            write(
                stream,
                "HTTP/1.1 403 Forbidden\r\nx-why: origin\r\ncontent-length: 4\r\n\r\nnope",
            );
            true
        }),
        &[],
    );
    let mut client = gateway.connect();
    client.write_all(handshake("").as_bytes()).unwrap();
    let mut reader = BufReader::new(&client);
    let lines = head(&mut reader).join("\n");
    assert!(
        lines.starts_with("HTTP/1.1 403") && lines.contains("x-why: origin"),
        "{lines}"
    );
    let mut body = [0; 4];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"nope");
}

#[test]
fn a_101_with_a_wrong_key_opens_no_tunnel() {
    for accept in ["sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n", ""] {
        let gateway = Gateway::in_front_of(
            upstream(move |_, stream| {
                write(
                    stream,
                    &format!(
                        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{accept}\r\n"
                    ),
                );
                false
            }),
            &[],
        );
        let mut client = gateway.client();
        client.send(&handshake(""));
        assert_eq!(client.response().status, 502);
    }
}

/// Streamlit never responds to such a handshake (FluxLit's defect 31).
#[test]
fn a_handshake_that_streamlit_cannot_read_is_rejected_at_once() {
    let gateway = Gateway::in_front_of(upstream(accepting), &[]);
    let mut client = gateway.client();
    client.send(&handshake(&format!("cookie: {}\r\n", "a".repeat(9000))));
    let long = client.response();
    assert!(
        long.status == 431 && long.body.contains("cookies"),
        "{long:?}"
    );
}

/// FluxLit's defects 17 and 31.
#[test]
fn an_upstream_without_a_response_is_a_504() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            let _ = stream.read(&mut [0]);
            false
        }),
        &[("FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S", "0.2")],
    );
    let mut client = gateway.client();
    client.send(&handshake(""));
    assert_eq!(client.response().status, 504);
}

/// A trusted proxy says which scheme the client used, and so does the public URL.
#[test]
fn the_scheme_of_an_origin_is_compared_where_it_is_known() {
    let trust = [
        ("FLUXLIT_TRUST_PROXY", "true"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    let public = [("FLUXLIT_PUBLIC_BASE_URL", "https://app.example")];
    for (settings, proto, at_http, at_https) in [
        (&[][..], "https", "101", "101"),
        (&trust, "https", "403", "101"),
        // A proxy in front of the trusted one may have terminated TLS.
        (&trust, "http", "101", "101"),
        (&public, "http", "403", "101"),
    ] {
        let gateway = Gateway::in_front_of(upstream(accepting), settings);
        for (scheme, want) in [("http", at_http), ("https", at_https)] {
            let mut client = gateway.connect();
            let fields =
                format!("origin: {scheme}://app.example\r\nx-forwarded-proto: {proto}\r\n");
            client.write_all(handshake(&fields).as_bytes()).unwrap();
            let lines = head(&mut BufReader::new(&client));
            assert!(
                lines[0].starts_with(&format!("HTTP/1.1 {want}")),
                "{scheme} {settings:?} {proto}: {lines:?}"
            );
        }
    }
}

/// A page of another origin must not use the cookies that a browser has for the app (FluxLit's defect 7).
#[test]
fn a_foreign_origin_opens_no_tunnel() {
    let gateway = Gateway::in_front_of(
        upstream(accepting),
        &[(
            "FLUXLIT_GATEWAY_ALLOWED_ORIGINS",
            "https://portal.example, http://x.example:8080",
        )],
    );
    for (origin, want) in [
        ("https://evil.example", "403"),
        ("https://app.example.evil.example", "403"),
        ("null", "403"),
        ("https://app.example", "101"),
        ("https://App.Example:443", "101"),
        ("https://portal.example", "101"),
        ("http://x.example:8080", "101"),
        ("http://x.example", "403"),
    ] {
        let mut client = gateway.connect();
        client
            .write_all(handshake(&format!("origin: {origin}\r\n")).as_bytes())
            .unwrap();
        let lines = head(&mut BufReader::new(&client));
        assert!(
            lines[0].starts_with(&format!("HTTP/1.1 {want}")),
            "{origin}: {lines:?}"
        );
    }
}
