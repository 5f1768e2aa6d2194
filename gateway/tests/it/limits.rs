//! Tests the limits, and the responses to requests that exceed them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket};

use crate::client::{Client, LIMIT};
use crate::support::{Gateway, eventually, held, recording, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request that is rejected for its size does not reach the app.
#[test]
fn sizes_of_a_request_are_limited() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_GATEWAY_MAX_HEADER_BYTES", "2048"),
            ("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "600"),
            ("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "10"),
            ("FLUXLIT_GATEWAY_MAX_TARGET_BYTES", "64"),
            ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "10"),
        ],
    );
    let get = |fields: String| format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(length));
    let body =
        |fields: &str, body: &str| format!("PUT / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n{body}");
    for (status, request) in [
        (200, get(format!("x: {}\r\n", "y".repeat(1900)))),
        (431, get(format!("x: {}\r\n", "y".repeat(2100)))),
        (431, get(format!("x: {}\r\n", "y".repeat(70_000)))),
        (431, format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(70_000))),
        // The gateway does not wait for the end of the head.
        (431, format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(2048))),
        (200, get("x: y\r\n".repeat(9))),
        (431, get("x: y\r\n".repeat(10))),
        (200, target(63)),
        (414, target(64)),
        (200, body("content-length: 10", "0123456789")),
        (413, body("content-length: 11", "")),
        (413, body("content-length: 11\r\nexpect: 100-continue", "")),
        (413, body("content-length: 18446744073709551615", "")),
        (
            200,
            body("transfer-encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"),
        ),
    ] {
        let before = seen.count();
        let mut client = gateway.client();
        client.send(&request);
        let answer = client.response();
        let start = &request[..request.len().min(80)];
        assert_eq!(answer.status, status, "{start:?}: {answer:?}");
        assert_eq!(
            seen.count() - before,
            usize::from(status == 200),
            "{start:?}"
        );
    }
    // A chunked body is found to be too large only while it is read.
    let mut client = gateway.client();
    client.send(&body("transfer-encoding: chunked", "b\r\n0123456789a\r\n"));
    assert_eq!(client.response().status, 413);
    assert!(client.is_closed());
}

/// FluxLit's defect 12.
#[test]
fn slow_clients_are_disconnected() {
    let (address, _) = recording("");
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "4"),
            ("FLUXLIT_GATEWAY_KEEPALIVE_TIMEOUT_S", "4"),
            ("FLUXLIT_GATEWAY_BODY_IDLE_TIMEOUT_S", "4"),
        ],
    );
    at_once(
        [
            ("", None),
            ("GET / HT", Some(408)),
            ("GET / HTTP/1.1\r\nhost: a\r\n", Some(408)),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n",
                Some(408),
            ),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf",
                Some(408),
            ),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                Some(408),
            ),
            // Idle after a response.
            ("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n", Some(200)),
        ],
        |(sent, status)| {
            let mut client = gateway.client();
            client.send(sent);
            let answer = status.map(|_| client.response().status);
            assert_eq!(answer, status, "{sent:?}");
            assert!(client.is_closed(), "{sent:?}");
        },
    );
}

/// Runs `test` for each row at the same time. The limits of such tests can be long, so that no pause of the machine exceeds
/// them.
fn at_once<T: Send, const COUNT: usize>(rows: [T; COUNT], test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(|| test(row));
        }
    });
}

/// A head that arrives byte by byte has the same deadline as any other.
#[test]
fn a_slow_head_has_one_deadline() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "3")]);
    let mut client = gateway.client();
    client
        .stream
        .get_ref()
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    client.send("GET / HTTP/1.1\r\nx: ");
    let mut first = [0; 12];
    let answered = eventually(|| {
        let _ = client.try_send("y");
        client.stream.read_exact(&mut first).is_ok()
    });
    assert!(answered && &first == b"HTTP/1.1 408", "{first:?}");
    assert_eq!(seen.count(), 0);
}

#[test]
fn an_app_that_is_too_slow_is_a_504() {
    let settings = [
        ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "4"),
        ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1"),
    ];
    at_once(
        [
            ("", "HTTP/1.1 504 "),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 504 "),
            ("HTTP/1.1 200 OK\r\nx: y", "HTTP/1.1 504 "),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
                "HTTP/1.1 200 ",
            ),
        ],
        |(answer, head)| {
            let (ended, end) = mpsc::channel();
            let address = upstream(move |_, stream| {
                write(stream, answer);
                ended.send(stream.read(&mut [0]).unwrap_or(0)).unwrap();
                false
            });
            let gateway = Gateway::in_front_of(address, &settings);
            // There is one permit, so the second request is forwarded only after the first has ended.
            for _ in 0..2 {
                let mut client = gateway.client();
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                let mut said = client.response_head().unwrap();
                if said.status == 103 {
                    said = client.response();
                }
                assert!(said.head[0].starts_with(head), "{answer:?}: {said:?}");
                if said.status == 200 {
                    assert_eq!(client.rest(), "half", "only the received part is forwarded");
                }
                assert_eq!(
                    end.recv_timeout(LIMIT),
                    Ok(0),
                    "the gateway no longer waits for the app"
                );
            }
        },
    );
}

/// A slow app is a 504, and not the 408 for a slow client.
#[test]
fn an_app_that_does_not_read_the_body_is_a_504() {
    let put = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    at_once(
        [
            ("", "", 504),
            // The client has received `100 Continue`, or has not waited for it.
            ("HTTP/1.1 100 Continue\r\n\r\n", "", 408),
            ("", "a", 408),
            ("", "abc", 504),
            ("HTTP/1.1 100 Continue\r\n\r\n", "abc", 504),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", "", 504),
        ],
        |(answer, sent, status)| {
            let address = upstream(move |_, stream| {
                write(stream, answer);
                while stream.read(&mut [0]).is_ok_and(|count| count > 0) {}
                false
            });
            let gateway = Gateway::in_front_of(
                address,
                &[
                    ("FLUXLIT_GATEWAY_BODY_IDLE_TIMEOUT_S", "4"),
                    ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "12"),
                ],
            );
            let mut client = gateway.client();
            client.send(put);
            if !answer.is_empty() {
                assert!(client.response_head().unwrap().status < 200);
            }
            client.send(sent);
            let got = client.response();
            assert_eq!(got.status, status, "{answer:?}, {sent:?}: {got:?}");
        },
    );
}

/// The app has its time from the end of the upload, neither less nor twice as much.
#[test]
fn the_time_of_an_app_begins_when_the_upload_ends() {
    let limit = Duration::from_secs(6);
    let address = upstream(move |_, stream| {
        while stream.read(&mut [0]).is_ok_and(|count| count > 0) {}
        false
    });
    let limits = [
        ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "6"),
        ("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "2"),
    ];
    let gateway = Gateway::in_front_of(address, &limits);
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na");
    // The upload takes as long as a client with half a head is waited for.
    let mut slow = gateway.client();
    slow.send("GET / HTTP/1.1\r\n");
    assert_eq!(slow.response().status, 408);
    client.send("b");
    let sent = Instant::now();
    let got = client.response();
    assert_eq!(got.status, 504, "{got:?}");
    let waited = sent.elapsed();
    assert!(limit <= waited && waited < limit * 3 / 2, "{waited:?}");
}

/// Interim responses do not count as the response, however many there are.
#[test]
fn an_app_that_sends_only_interim_responses_is_a_504() {
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let handshake = handshake("");
    let (http, websocket) = (
        ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", get),
        ("FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S", handshake.as_str()),
    );
    at_once(
        [(http, 1), (http, 50), (websocket, 1), (websocket, 50)],
        |((limit, request), pause)| {
            let address = upstream(move |_, stream| {
                let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n";
                stream
                    .get_ref()
                    .set_read_timeout(Some(Duration::from_millis(pause)))
                    .unwrap();
                // Until the gateway closes the connection.
                while stream.get_mut().write_all(hints).is_ok()
                    && stream
                        .read(&mut [0])
                        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
                {}
                false
            });
            let gateway = Gateway::in_front_of(address, &[(limit, "4")]);
            let mut client = gateway.client();
            client.send(request);
            let mut hints = 0;
            let answered = eventually(|| {
                let status = client.response_head().unwrap().status;
                hints += usize::from(status == 103);
                status == 504
            });
            assert!(answered && hints > 1, "{limit}: {hints}");
        },
    );
}

#[test]
fn an_app_that_cannot_be_reached_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The accept queue is full, so further connections are never established.
    listen(&listener, 0).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = std::io::BufReader::new(stream);
        crate::client::head(&mut stream);
        write(&mut stream, OK);
        sender.send(listener).unwrap();
    });
    let gateway = Gateway::in_front_of(
        address,
        &[("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "0.2")],
    );
    let listener = receiver.recv_timeout(LIMIT).unwrap();
    let mut queue = Vec::new();
    let moment = Duration::from_millis(50);
    assert!(eventually(|| {
        let next = TcpStream::connect_timeout(&address, moment);
        next.map(|stream| queue.push(stream)).is_err()
    }));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(
        answer.body.contains("The app cannot be reached."),
        "{answer:?}"
    );
    drop(listener);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(
        matches!(client.response().status, 502 | 503),
        "the connection is refused"
    );
}

#[test]
fn requests_wait_for_a_permit_and_their_number_is_limited() {
    let (address, arrival, release) = held();
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1"),
            ("FLUXLIT_GATEWAY_MAX_QUEUED_UPSTREAM_HTTP", "1"),
            ("FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S", "600"),
        ],
    );
    let ask = |path: &str| {
        let mut client = gateway.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        client
    };
    let is_refused = |mut client: Client| {
        let answer = client.response();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.values("retry-after"), ["1"], "{answer:?}");
    };
    let mut first = ask("/first");
    assert_eq!(arrival.recv().unwrap(), "GET /first HTTP/1.1");
    // One of these two waits, and the queue is full for the other.
    let (mut second, mut third) = (ask("/second"), ask("/third"));
    for client in [&second, &third] {
        client
            .stream
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
    }
    let mut waits = None;
    assert!(eventually(|| {
        for (number, client) in [&mut second, &mut third].into_iter().enumerate() {
            if client.stream.get_ref().peek(&mut [0]).is_ok() {
                waits = Some(1 - number);
            }
        }
        waits.is_some()
    }));
    let (mut waiting, refused) = if waits == Some(0) {
        (second, third)
    } else {
        (third, second)
    };
    is_refused(refused);
    waiting
        .stream
        .get_ref()
        .set_read_timeout(Some(LIMIT))
        .unwrap();
    // The queue is still full.
    is_refused(ask("/fourth"));
    assert!(
        gateway.get("/api/healthz").starts_with("HTTP/1.1 200 "),
        "the gateway's own endpoints need no permit"
    );
    release.send(()).unwrap();
    assert_eq!(first.response().body, "ok");
    arrival.recv().unwrap();
    release.send(()).unwrap();
    assert_eq!(waiting.response().body, "ok");
}

#[test]
fn the_wait_for_a_permit_has_a_limit() {
    let (arrived, arrival) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            arrived.send(()).unwrap();
            let _ = stream.read(&mut [0]);
            false
        }),
        &[
            ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1"),
            ("FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S", "0.1"),
        ],
    );
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    arrival.recv().unwrap();
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = second.response();
    assert_eq!(
        (answer.status, answer.values("retry-after")),
        (503, vec!["1"])
    );
    // The request of a client that leaves is removed from the queue.
    drop(first);
    second.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(eventually(|| arrival.try_recv().is_ok() || {
        let mut other = gateway.client();
        other.try_send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_err()
    }));
}

#[test]
fn connections_are_limited_in_total_and_by_peer() {
    let (address, _) = recording(OK);
    let trusting = [
        ("FLUXLIT_GATEWAY_MAX_CONNECTIONS_PER_PEER", "2"),
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    for (settings, places, of_another) in [
        (
            &[("FLUXLIT_GATEWAY_MAX_CONNECTIONS", "3")][..],
            Some(3),
            503,
        ),
        (&trusting[..1], Some(2), 200),
        (&trusting[..], None, 200),
    ] {
        let gateway = Gateway::in_front_of(address, settings);
        let ask = |client: &mut Client| {
            client.try_send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
            client.try_response().map(|answer| answer.status)
        };
        let mut open: Vec<Client> = Vec::new();
        // The connections that waited for readiness may not have ended yet.
        assert!(eventually(|| {
            let mut client = gateway.client();
            let is_open = ask(&mut client).is_ok_and(|status| status == 200);
            if is_open {
                open.push(client);
            }
            open.len() == places.unwrap_or(5)
        }));
        if places.is_some() {
            let mut client = gateway.client();
            let answer = client.response();
            assert_eq!(answer.status, 503, "{settings:?}");
            assert_eq!(answer.values("retry-after"), ["1"]);
            let [id] = answer.values("x-request-id")[..] else {
                panic!("{answer:?}");
            };
            assert!(answer.body.contains(id), "{answer:?}");
            assert!(client.is_closed());
        }
        let mut other = from(Ipv4Addr::new(127, 0, 0, 2), gateway.address);
        assert!(
            eventually(|| ask(&mut other).unwrap_or(503) == of_another),
            "{settings:?}"
        );
        if places.is_some() {
            drop(open.pop());
            assert!(eventually(|| {
                ask(&mut gateway.client()).is_ok_and(|status| status == 200)
            }));
        }
    }
}

/// Connects from the local address `own`.
fn from(own: Ipv4Addr, to: SocketAddr) -> Client {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((own, 0))).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    Client {
        stream: std::io::BufReader::new(stream),
    }
}

#[test]
fn handshakes_are_limited_to_what_streamlit_reads() {
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    let (address, seen) = recording(&accepted);
    let gateway = Gateway::in_front_of(
        address,
        &[
            ("FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES", "300"),
            ("FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT", "30"),
            ("FLUXLIT_DROP_COOKIES", "_oauth2_proxy*, session"),
        ],
    );
    let long = "x".repeat(300);
    for (fields, status, cookies) in [
        ("cookie: a=b\r\n".to_owned(), 101, &["a=b"][..]),
        (format!("cookie: a={long}\r\n"), 431, &[]),
        (
            format!("cookie: _oauth2_proxy_0={long}; a=b; session=x\r\n"),
            101,
            &["a=b"],
        ),
        (format!("cookie: _oauth2_proxy={long}\r\n"), 101, &[]),
        (format!("x: {long}\r\n"), 431, &[]),
        ("x: y\r\n".repeat(30), 431, &[]),
    ] {
        let before = seen.count();
        let mut client = gateway.client();
        client.send(&handshake(&fields));
        let answer = client.response_head().unwrap();
        assert_eq!(answer.status, status, "{fields:?}");
        assert_eq!(seen.count() - before, usize::from(status == 101));
        if status == 101 {
            assert_eq!(seen.last().values("cookie"), cookies, "{fields:?}");
        }
    }
    // Other requests may have longer lines.
    let mut client = gateway.client();
    client.send(&format!(
        "GET / HTTP/1.1\r\nhost: a\r\ncookie: a={long}\r\n\r\n"
    ));
    assert_ne!(client.response_head().unwrap().status, 431);
}

#[test]
fn a_silent_websocket_is_closed() {
    let gateway = Gateway::in_front_of(
        upstream(|_, stream| {
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n"
                ),
            );
            let _ = stream.read(&mut [0]);
            false
        }),
        &[("FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S", "1")],
    );
    let mut client = gateway.client();
    client.send(&handshake(""));
    assert_eq!(client.response_head().unwrap().status, 101);
    assert!(client.is_closed());
}

/// FluxLit's defects 8 and 9.
#[test]
fn memory_does_not_grow_with_a_body() {
    const SIZE: usize = 256 << 20;
    let (sent, blocked) = mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |received, stream| {
            if received.head[0].starts_with("PUT") {
                let mut block = vec![0; 1 << 20];
                for _ in 0..SIZE >> 20 {
                    stream.read_exact(&mut block).unwrap();
                }
                write(stream, OK);
                return true;
            }
            let stream = stream.get_mut();
            write_head(stream, SIZE);
            // A write times out when the gateway no longer reads.
            stream
                .set_write_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let block = vec![b'x'; 1 << 20];
            let mut left = SIZE;
            let mut has_told = false;
            while left > 0 {
                match stream.write(&block[..left.min(1 << 20)]) {
                    Ok(count) => left -= count,
                    Err(_) if !has_told => {
                        has_told = true;
                        sent.send(SIZE - left).unwrap();
                    }
                    Err(_) => {}
                }
            }
            true
        }),
        &[],
    );
    let mut client = gateway.client();
    // Send one request first, so that memory that every request needs is already allocated.
    client.send("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let before = gateway.memory("VmRSS");
    let mut block = vec![0; 1 << 20];

    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let passed = blocked.recv_timeout(LIMIT).unwrap();
    assert!(
        passed < SIZE / 2,
        "the upstream could send {passed} bytes although the client does not read"
    );
    assert_eq!(client.response_head().unwrap().status, 200);
    for _ in 0..SIZE >> 20 {
        client.stream.read_exact(&mut block).unwrap();
    }

    client.send(&format!(
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"
    ));
    for _ in 0..SIZE >> 20 {
        client.stream.get_mut().write_all(&block).unwrap();
    }
    assert_eq!(client.response().body, "ok");
    let grown = gateway.memory("VmHWM") - before;
    assert!(
        grown < 4096,
        "memory grew by {grown} KiB for {SIZE} bytes in each direction"
    );
}

fn write_head(stream: &mut impl Write, length: usize) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
}
