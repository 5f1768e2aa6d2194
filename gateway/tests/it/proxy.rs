//! Tests what reaches the upstream and the client over HTTP/1.1, and when.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::client::LIMIT;
use crate::support::{Gateway, Received, eventually, head, upstream, write};

/// Responds with 200 and the request's head as the body.
fn echo(received: &Received, stream: &mut BufReader<TcpStream>) -> bool {
    let body = received.head.join("\n");
    write(
        stream,
        &format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    true
}

fn has(answer: &str, line: &str) -> bool {
    answer.lines().any(|other| other.eq_ignore_ascii_case(line))
}

/// FluxLit's defect 14.
#[test]
fn forged_headers_never_arrive() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let answer = gateway.send(
        "GET /x HTTP/1.1\r\nhost: App.Example\r\nconnection: close\r\nx-forwarded-for: 6.6.6.6\r\n\
         x-forwarded-proto: https\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx-remote-user: root\r\n\
         x-forwarded-client-cert: By=x\r\nx_forwarded_for: 6.6.6.6\r\n\r\n",
    );
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-real-ip: 127.0.0.1",
        "host: app.example",
    ] {
        assert!(has(&answer, line), "`{line}` is missing in {answer}");
    }
    for forged in ["6.6.6.6", "root", "By=x", "https"] {
        assert!(!answer.contains(forged), "`{forged}` arrived: {answer}");
    }
}

/// The gateway sends a request id itself, but not the client's if the settings say that it must not pass.
#[test]
fn a_request_id_that_may_not_pass_is_replaced() {
    for (settings, passes) in [
        (&[][..], true),
        (&[("FLUXLIT_IDENTITY_HEADERS", "X-Request-ID")], false),
        (&[("FLUXLIT_STRIP_HEADERS", "x_request_id")], false),
    ] {
        let gateway = Gateway::in_front_of(upstream(echo), settings);
        let answer = gateway
            .send("GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: boss\r\n\r\n");
        assert!(answer.contains("x-request-id: "), "{answer}");
        assert_eq!(answer.contains("boss"), passes, "{settings:?}: {answer}");
    }
}

#[test]
fn a_trusted_peer_determines_the_client() {
    let gateway = Gateway::in_front_of(
        upstream(echo),
        &[
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
        ],
    );
    let answer = gateway.send(
        "GET /x HTTP/1.1\r\nhost: inner\r\nconnection: close\r\nx-forwarded-for: 6.6.6.6, 203.0.113.7\r\n\
         x-forwarded-proto: https\r\nx-forwarded-host: portal.example\r\n\r\n",
    );
    for line in [
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-proto: https",
        "host: portal.example",
    ] {
        assert!(has(&answer, line), "`{line}` is missing in {answer}");
    }
}

/// FluxLit's defect 2.
#[test]
fn the_raw_path_is_forwarded() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    for target in ["/a%2Fb%3Fc%23d%25e", "/x?y=%2F&z=../a", "/caf%C3%A9;v=1"] {
        assert!(
            gateway
                .get(target)
                .contains(&format!("GET {target} HTTP/1.1")),
            "{target}"
        );
    }
    for target in ["/a/../b", "/%2e%2e/b", "/..%2fb", "/%00"] {
        assert!(gateway.get(target).starts_with("HTTP/1.1 400"), "{target}");
    }
}

#[test]
fn an_app_without_a_base_path_is_served_under_a_mount() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let target = received.head[0].clone();
            write(
                stream,
                &format!(
                    "HTTP/1.1 302 Found\r\nlocation: /next\r\nset-cookie: a=b; Path=/\r\nx-target: {target}\r\ncontent-length: 0\r\n\r\n"
                ),
            );
            true
        }),
        &[
            ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
        ],
    );
    let answer = gateway.get("/apps/my-app/x");
    for line in [
        "x-target: GET /x HTTP/1.1",
        "location: /apps/my-app/next",
        "set-cookie: a=b; Path=/apps/my-app",
    ] {
        assert!(has(&answer, line), "`{line}` is missing in {answer}");
    }
    assert!(gateway.get("/elsewhere").starts_with("HTTP/1.1 404"));
    assert!(has(&gateway.get("/apps/my-app"), "location: /apps/my-app/"));
}

/// FluxLit buffered every response until it was complete (its defect 8).
#[test]
fn a_response_is_streamed() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            write(
                stream,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            );
            // The rest is sent only after the client has received the first part.
            released.lock().unwrap().recv().unwrap();
            write(stream, "4\r\nlast\r\n0\r\n\r\n");
            true
        }),
        &[],
    );
    let mut client = gateway.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("first") {
        let mut buffer = [0; 512];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "the response ended early: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    release.send(()).unwrap();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("last"), "{seen}");
}

/// FluxLit's defects 9 and 21.
#[test]
fn an_upload_is_streamed() {
    let (got, first) = mpsc::channel::<()>();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).unwrap();
            got.send(()).unwrap();
            stream.read_exact(&mut buffer).unwrap();
            write(stream, "HTTP/1.1 204 No Content\r\n\r\n");
            true
        }),
        &[],
    );
    let mut client = gateway.connect();
    client
        .write_all(
            b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nconnection: close\r\n\r\nfirst",
        )
        .unwrap();
    first.recv().unwrap();
    client.write_all(b"after").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("content-length"),
        "a 204 has no length: {answer}"
    );
}

/// An app must not continue to work for a client that has disconnected (FluxLit's defect 8).
#[test]
fn the_upstream_is_cancelled_when_the_client_leaves() {
    let (ended, end) = mpsc::channel::<()>();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            write(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n",
            );
            let block = vec![b'x'; 64 * 1024];
            while stream.get_mut().write_all(&block).is_ok() {}
            ended.send(()).unwrap();
            false
        }),
        &[],
    );
    let mut client = gateway.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut buffer = [0; 1024];
    client.read_exact(&mut buffer).unwrap();
    drop(client);
    end.recv_timeout(crate::client::LIMIT)
        .expect("the upstream's connection ends");
}

/// More requests are pipelined than are read ahead, so that the end of the connection cannot be detected by reading.
#[test]
fn a_client_with_pipelined_requests_is_noticed_to_leave() {
    let (happened, what) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            happened.send("arrived").unwrap();
            let _ = stream.read(&mut [0]);
            happened.send("ended").unwrap();
            false
        }),
        &[("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1")],
    );
    // There is one permit, so the second request is forwarded only if the first has ended.
    for resets in [false, true] {
        let mut client = gateway.connect();
        let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3000);
        client.write_all(requests.as_bytes()).unwrap();
        assert_eq!(what.recv_timeout(LIMIT), Ok("arrived"));
        if resets {
            let socket = socket2::SockRef::from(&client);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        assert_eq!(what.recv_timeout(LIMIT), Ok("ended"), "{resets}");
    }
}

/// FluxLit's defects 20 and 21.
#[test]
fn lengths_of_responses_without_a_body() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let answer = if received.head[0].starts_with("HEAD") {
                "HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n"
            } else {
                "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"
            };
            write(stream, answer);
            true
        }),
        &[],
    );
    let head = gateway.send("HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(has(&head, "content-length: 12345"), "{head}");
    let not_modified = gateway.get("/");
    assert!(
        not_modified.starts_with("HTTP/1.1 304") && has(&not_modified, "etag: \"x\""),
        "{not_modified}"
    );
}

/// FluxLit's defect 24.
#[test]
fn hop_by_hop_fields_are_removed() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let body = received.head.join("\n");
            write(
                stream,
                &format!(
                    "HTTP/1.1 200 OK\r\nconnection: x-one\r\nconnection: x-two\r\nx-one: 1\r\nx-two: 2\r\nkeep-alive: timeout=5\r\n\
                     x-three: 3\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
            );
            true
        }),
        &[],
    );
    let answer = gateway.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close, x-drop\r\nconnection: x-also\r\nx-drop: d\r\nx-also: e\r\n\
         x-keep: f\r\nproxy-connection: x\r\nte: gzip\r\n\r\n",
    );
    for gone in [
        "x-one: 1",
        "x-two: 2",
        "keep-alive: timeout=5",
        "x-drop: d",
        "x-also: e",
        "proxy-connection: x",
        "te: gzip",
    ] {
        assert!(!has(&answer, gone), "`{gone}` passed: {answer}");
    }
    for kept in ["x-three: 3", "x-keep: f"] {
        assert!(has(&answer, kept), "`{kept}` is missing: {answer}");
    }
}

/// Streamlit's server closes idle connections after five seconds, even if a request is about to be sent.
#[test]
fn a_stale_connection_is_replaced() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            echo(received, stream);
            // Closes without `Connection: close` in the response.
            false
        }),
        &[],
    );
    let mut client = gateway.connect();
    for number in 0..20 {
        let request = format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(&client);
        let lines = head(&mut reader);
        assert!(
            lines[0].starts_with("HTTP/1.1 200"),
            "request {number}: {lines:?}"
        );
        let length = lines
            .iter()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            })
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
    }
    assert_eq!(
        requests.load(Ordering::SeqCst),
        20,
        "each request was forwarded once"
    );
}

/// FluxLit's defects 28 and 32.
#[test]
fn invalid_requests_are_rejected() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    for request in [
        "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@evil/../\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-folded: a\r\n b\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-space : b\r\nconnection: close\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ] {
        let answer = gateway.send(request);
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
    }
    let trace = gateway.send("TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(trace.starts_with("HTTP/1.1 405"), "{trace}");
}

/// FluxLit's defect 26.
#[test]
fn a_request_id_is_kept_if_it_is_safe() {
    let gateway = Gateway::in_front_of(upstream(echo), &[]);
    let with = |id: &str| {
        gateway.send(&format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: {id}\r\n\r\n"
        ))
    };
    assert_eq!(
        with("abc-1.2_3").matches("x-request-id: abc-1.2_3").count(),
        2,
        "the id is sent to the upstream and to the client"
    );
    for bad in ["<script>", "a b", &"x".repeat(129)] {
        let answer = with(bad);
        assert!(!answer.contains(bad), "`{bad}` passed: {answer}");
        assert_eq!(answer.matches("x-request-id: ").count(), 2, "{answer}");
    }
}

/// No cookie of one user may reach another user (FluxLit's defect 1).
#[test]
fn no_cookie_is_kept_between_requests() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let cookies = received.values("cookie").join("|");
            write(
                stream,
                &format!(
                    "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx-cookies: [{cookies}]\r\ncontent-length: 0\r\n\r\n"
                ),
            );
            true
        }),
        &[],
    );
    assert!(gateway.get("/").contains("x-cookies: []"));
    assert!(eventually(|| gateway.get("/").contains("x-cookies: []")));
}

/// The rest of a body must not be read as the beginning of another request.
#[test]
fn a_connection_with_an_incomplete_body_is_not_reused() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            let port = stream.get_ref().peer_addr().unwrap().port();
            write(
                stream,
                &format!("HTTP/1.1 200 OK\r\nx-port: {port}\r\ncontent-length: 0\r\n\r\n"),
            );
            true
        }),
        &[],
    );
    let port = |lines: &[String]| {
        let of = |line: &String| line.strip_prefix("x-port: ").map(str::to_owned);
        lines.iter().find_map(of).expect("a port")
    };
    let mut early = gateway.connect();
    early
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        .unwrap();
    let first = port(&head(&mut BufReader::new(&early)));
    let mut other = gateway.connect();
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let second = port(&head(&mut BufReader::new(&other)));
    assert_ne!(first, second);
}
