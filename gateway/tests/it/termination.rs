//! Tests that the log and the metrics say who ended a request or a WebSocket, and in which phase.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, LIMIT};
use crate::operators::{line_about, logging, scrape};
use crate::support::{Gateway, Received, command, eventually, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

/// An app whose response depends on the path. Tells the path of each request that it has received.
fn app() -> (SocketAddr, Receiver<String>) {
    let (arrived, arrivals) = mpsc::channel();
    let address = upstream(move |received, stream| {
        let path = received.head[0].split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let next = respond(&path, received, stream, || {
            arrived.send(path.clone()).expect("the test waits");
        });
        if next == Next::Hold {
            // Until the gateway closes the connection.
            let _ = stream.read_to_end(&mut Vec::new());
        }
        next == Next::Request
    });
    (address, arrivals)
}

/// What the app does with a connection after its response.
#[derive(PartialEq, Eq)]
enum Next {
    /// It reads the next request.
    Request,
    /// It neither closes the connection nor sends more.
    Hold,
    Close,
}

/// Responds to a request, or not.
fn respond(
    path: &str,
    received: &Received,
    stream: &mut BufReader<TcpStream>,
    arrived: impl FnOnce(),
) -> Next {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nok";
    let begun = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart";
    match path {
        "/ok" => {
            write(stream, ok);
            return Next::Request;
        }
        "/breaks" => return Next::Close,
        "/breaks-within" => {
            write(stream, begun);
            return Next::Close;
        }
        "/begins" => {
            write(stream, begun);
            arrived();
        }
        "/_stcore/stream" => {
            let upgraded = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {ACCEPT}\r\n\r\n"
            );
            if received.values("upgrade").is_empty() {
                write(stream, page);
                return Next::Request;
            }
            write(stream, &upgraded);
            // A close frame with code 1001.
            if received.head[0].contains("?closes") {
                write(stream, "\u{88}\u{2}\u{3}\u{e9}");
            }
        }
        "/static/old.js" => {
            write(stream, page);
            return Next::Request;
        }
        _ => arrived(),
    }
    Next::Hold
}

/// A server that accepts no connection: its queue is full, so the system does not respond to further ones.
struct Full {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Full {
    fn new() -> Self {
        let socket = |_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = socket(0);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut sockets: Vec<Socket> = (0..8).map(socket).collect();
        for socket in &sockets {
            socket.set_nonblocking(true).expect("a setting");
            // In progress, or waiting for the queue.
            let _ = socket.connect(&address);
        }
        sockets.push(listener);
        Self {
            address: address.as_socket().expect("an address"),
            _sockets: sockets,
        }
    }
}

/// Sends a request and reads nothing.
fn begin(gateway: &Gateway, request: &str) -> Client {
    let mut client = gateway.client();
    client.send(request);
    client
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Returns the code in the line about a path.
fn code(log: &mut impl BufRead, path: &str) -> String {
    let line: Value = serde_json::from_str(&line_about(log, path)).expect("JSON");
    line["termination"].as_str().expect("a code").to_owned()
}

/// Sends a request, reads until the connection ends, and returns the code.
fn complete(
    gateway: &Gateway,
    log: &mut BufReader<ChildStdout>,
    path: &str,
    request: &str,
) -> String {
    begin(gateway, request).rest();
    code(log, path)
}

/// Requests that the gateway, the upstream or nobody ends.
fn without_a_client_that_leaves(codes: &mut BTreeSet<String>) {
    let (address, _arrivals) = app();
    let max = ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "4");
    let (gateway, mut log) = logging(address, &[max]);
    let chunked = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")
    };
    for (path, request, expected) in [
        (
            "/ok",
            "GET /ok HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "--",
        ),
        (
            "/gr",
            "TRACE /gr HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "GR",
        ),
        (
            "/lr",
            "POST /lr HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n".to_owned(),
            "LR",
        ),
        ("/gs", chunked("/gs", "ZZ\r\n"), "GS"),
        ("/ls", chunked("/ls", "5\r\nabcde\r\n"), "LS"),
        (
            "/breaks",
            "GET /breaks HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "UH",
        ),
        (
            "/breaks-within",
            "GET /breaks-within HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "UB",
        ),
        (
            "/static/old.js",
            "GET /static/old.js HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "GH",
        ),
    ] {
        let found = complete(&gateway, &mut log, path, &request);
        assert_eq!(found, expected, "{path}");
        codes.insert(found);
    }
    // A head that cannot be read has no path.
    begin(&gateway, "NONSENSE\r\n\r\n").rest();
    assert_eq!(code(&mut log, "bad_head"), "GR");
}

/// Requests and WebSockets whose client leaves.
fn with_a_client_that_leaves(codes: &mut BTreeSet<String>) {
    let (address, arrivals) = app();
    let full = Full::new();
    let api = format!("http://{}", full.address);
    let settings = [
        ("FLUXLIT_API_UPSTREAM", api.as_str()),
        ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1"),
        ("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "600"),
        ("FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S", "600"),
    ];
    let (gateway, mut log) = logging_at_once(address, &settings);
    let mut leave = |client: Client, path: &str, expected: &str| {
        drop(client);
        let found = code(&mut log, path);
        assert_eq!(found, expected, "{path}");
        codes.insert(found);
    };
    let waiting = begin(&gateway, &get("/ch"));
    arrivals.recv_timeout(LIMIT).expect("it arrives");
    // The first request has the only place.
    leave(begin(&gateway, &get("/cq")), "/cq", "CQ");
    leave(waiting, "/ch", "CH");
    leave(begin(&gateway, &get("/api/cc")), "/api/cc", "CC");
    let post = "POST /cs HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nab";
    let client = begin(&gateway, post);
    arrivals.recv_timeout(LIMIT).expect("it arrives");
    leave(client, "/cs", "CS");
    let mut client = begin(&gateway, &get("/begins"));
    arrivals.recv_timeout(LIMIT).expect("it arrives");
    client.response_head().expect("a response");
    leave(client, "/begins", "CB");
    let mut client = begin(&gateway, &handshake(""));
    client.response_head().expect("a response");
    leave(client, "/_stcore/stream", "CT");
}

/// What exceeds a limit, or that the upstream ends.
fn with_limits(codes: &mut BTreeSet<String>) {
    let (address, arrivals) = app();
    let short = [
        ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "0.3"),
        ("FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S", "0.3"),
    ];
    let (gateway, mut log) = logging(address, &short);
    for (path, request, expected) in [
        (
            "/lh",
            "GET /lh HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(),
            "LH",
        ),
        ("/begins", get("/begins"), "LB"),
        ("/_stcore/stream", handshake(""), "LT"),
    ] {
        let found = complete(&gateway, &mut log, path, &request);
        assert_eq!(found, expected, "{path}");
        codes.insert(found);
    }
    let closes = handshake("").replace("/stream ", "/stream?closes ");
    let found = complete(&gateway, &mut log, "closes", &closes);
    assert_eq!(found, "UT");
    codes.insert(found);

    let full = Full::new();
    let api = format!("http://{}", full.address);
    let settings = [
        ("FLUXLIT_API_UPSTREAM", api.as_str()),
        ("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "0.3"),
        ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "1"),
        ("FLUXLIT_GATEWAY_MAX_QUEUED_UPSTREAM_HTTP", "0"),
    ];
    let (gateway, mut log) = logging_at_once(address, &settings);
    let mut client = begin(&gateway, &get("/api/lc"));
    assert_eq!(client.response().status, 503);
    let found = code(&mut log, "/api/lc");
    assert_eq!(found, "LC");
    codes.insert(found);
    let _waiting = begin(&gateway, &get("/waits"));
    while arrivals.recv_timeout(LIMIT).expect("it arrives") != "/waits" {}
    let mut client = begin(&gateway, &get("/lq"));
    assert_eq!(client.response().status, 503);
    let found = code(&mut log, "/lq");
    assert_eq!(found, "LQ");
    codes.insert(found);

    // Port 1 is reserved, and nothing listens on it.
    let refused = ("FLUXLIT_API_UPSTREAM", "http://127.0.0.1:1");
    let (gateway, mut log) = logging_at_once(address, &[refused]);
    let mut client = begin(&gateway, &get("/api/uc"));
    assert_eq!(client.response().status, 503);
    let found = code(&mut log, "/api/uc");
    assert_eq!(found, "UC");
    codes.insert(found);
}

/// What is cut off because the gateway stops.
fn with_a_gateway_that_stops(codes: &mut BTreeSet<String>) {
    let (address, arrivals) = app();
    let full = Full::new();
    let api = format!("http://{}", full.address);
    let settings = [
        ("FLUXLIT_API_UPSTREAM", api.as_str()),
        ("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "600"),
        ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "4"),
        ("FLUXLIT_GATEWAY_QUEUE_TIMEOUT_S", "600"),
        ("FLUXLIT_GRACE_PERIOD_S", "1"),
    ];
    let (mut gateway, mut log) = logging_at_once(address, &settings);
    let mut clients = Vec::new();
    for request in [
        "POST /ds HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nab".to_owned(),
        get("/dh"),
        get("/begins"),
    ] {
        clients.push(begin(&gateway, &request));
        arrivals.recv_timeout(LIMIT).expect("it arrives");
    }
    clients[2].response_head().expect("a response");
    let mut tunnel = begin(&gateway, &handshake(""));
    tunnel.response_head().expect("a response");
    clients.push(tunnel);
    // They do not arrive, but the gateway has one worker, and takes one after the other.
    for path in ["/api/dc", "/dq"] {
        let client = begin(&gateway, &get(path));
        assert!(eventually(|| gateway.has_read(&client)), "{path}");
        clients.push(client);
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).expect("text");
    for (path, expected) in [
        ("/ds", "DS"),
        ("/dh", "DH"),
        ("/begins", "DB"),
        ("/_stcore/stream", "DT"),
        ("/api/dc", "DC"),
        ("/dq", "DQ"),
    ] {
        let found = code(&mut lines.as_bytes(), path);
        assert_eq!(found, expected, "{path}");
        codes.insert(found);
    }
}

/// Starts a gateway with an access log, and does not wait until its upstreams are ready.
fn logging_at_once(
    address: SocketAddr,
    settings: &[(&str, &str)],
) -> (Gateway, BufReader<ChildStdout>) {
    let upstream = format!("http://{address}");
    let mut command = command(
        &[
            ("FLUXLIT_STREAMLIT_UPSTREAM", upstream.as_str()),
            ("FLUXLIT_ENABLE_GATEWAY_ACCESS_LOG", "1"),
        ],
        &[],
    );
    command
        .envs(settings.iter().copied())
        .stdout(Stdio::piped());
    let mut gateway = Gateway::run(command);
    let log = BufReader::new(gateway.child.stdout.take().expect("a log"));
    (gateway, log)
}

#[test]
fn every_documented_code_occurs_and_no_other() {
    let mut codes = BTreeSet::new();
    without_a_client_that_leaves(&mut codes);
    with_a_client_that_leaves(&mut codes);
    with_limits(&mut codes);
    with_a_gateway_that_stops(&mut codes);
    let documentation = include_str!("../../../docs/observability.md");
    let (_, table) = documentation
        .split_once("| code | meaning | look at |")
        .expect("a table");
    let (table, _) = table.split_once("\n\n").expect("the end of the table");
    let documented: BTreeSet<String> = table
        .lines()
        .filter_map(|row| row.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| !cell.starts_with("---"))
        .flat_map(|cell| cell.split(", "))
        .map(str::to_owned)
        .collect();
    assert_eq!(codes, documented);
}

#[test]
fn the_page_instead_of_a_script_is_a_404_that_is_not_cached() {
    let (address, _arrivals) = app();
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", "/m")]);
    for path in ["/m/static/old.js", "/m/static/old.js?v=1"] {
        let mut client = gateway.client();
        client.send(&get(path));
        let response = client.response();
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.values("cache-control"), ["no-store"]);
        assert!(response.body.contains("Reload the page"), "{response:?}");
    }
}

const ADMIN: (&str, &str) = ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0");
const METRICS: (&str, &str) = ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1");

#[test]
fn metrics_tell_how_websockets_begin_and_end() {
    let (address, _arrivals) = app();
    let gateway = Gateway::in_front_of(address, &[ADMIN, METRICS]);
    let admin = gateway.admin.expect("a listener");
    let open = |request: &str| {
        let mut client = begin(&gateway, request);
        let status = client.response_head().expect("a response").status;
        assert_eq!(status, 101);
        client
    };
    // A masked close frame with code 1000 and mask 1, 2, 3, 4.
    let mut client = open(&handshake(""));
    client.send("\u{88}\u{82}\u{1}\u{2}\u{3}\u{4}\u{2}\u{ea}");
    drop(client);
    drop(open(&handshake("")));
    let closes = handshake("").replace("/stream ", "/stream?closes ");
    let mut client = open(&closes);
    // The close frame, so that it is the app that has ended the WebSocket.
    client.stream.read_exact(&mut [0; 4]).expect("a frame");
    drop(client);
    // Rejected by the gateway.
    let foreign = handshake("origin: https://other.example\r\n");
    assert_eq!(
        begin(&gateway, &foreign)
            .response_head()
            .expect("a response")
            .status,
        403
    );
    let long = handshake(&format!("cookie: {}\r\n", "x".repeat(7000)));
    drop(open(&long));
    let expected = [
        (r#"websocket_closes_total{code="1000",by="client"}"#, 1.0),
        (r#"websocket_closes_total{code="1006",by="client"}"#, 2.0),
        (r#"websocket_closes_total{code="1001",by="upstream"}"#, 1.0),
        (r#"websocket_closes_total{code="1001",by="client"}"#, 0.0),
        (r#"websocket_handshakes_total{result="opened"}"#, 4.0),
        (r#"websocket_handshakes_total{result="rejected"}"#, 1.0),
        ("websocket_lifetime_seconds_count", 4.0),
        (r#"websocket_header_bytes_bucket{le="6142.0"}"#, 3.0),
        (r#"websocket_header_bytes_bucket{le="8190.0"}"#, 4.0),
        ("websocket_header_limit_bytes", 8190.0),
        (
            r#"endings_total{dispatch="streamlit",status_class="1xx",ended_by="client"}"#,
            3.0,
        ),
        (
            r#"endings_total{dispatch="streamlit",status_class="1xx",ended_by="upstream"}"#,
            1.0,
        ),
    ];
    let mut found = Vec::new();
    let is_counted = eventually(|| {
        let metrics = scrape(admin);
        found = expected
            .iter()
            .map(|(name, _)| metrics.get(&format!("fluxlit_gateway_{name}")).copied())
            .collect();
        found
            .iter()
            .zip(&expected)
            .all(|(found, (_, value))| *found == Some(*value))
    });
    assert!(is_counted, "{found:?} instead of {expected:?}");
    let warning = "more than three quarters of the 8190";
    assert!(
        eventually(|| gateway.log().contains(warning)),
        "{}",
        gateway.log()
    );
}

#[test]
fn a_handshake_without_its_upgrade_is_counted_and_logged() {
    let (address, _arrivals) = app();
    let gateway = Gateway::in_front_of(address, &[ADMIN, METRICS]);
    let admin = gateway.admin.expect("a listener");
    for request in [
        get("/_stcore/stream"),
        // As nginx sends it by default.
        handshake("").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        assert_eq!(begin(&gateway, &request).response().status, 200);
    }
    let metrics = scrape(admin);
    assert_eq!(metrics["fluxlit_gateway_plain_get_on_stream_total"], 2.0);
    let warning = "127.0.0.1 has sent a GET without an upgrade";
    assert!(eventually(|| gateway.log().contains(warning)));
    assert_eq!(gateway.log().matches(warning).count(), 1);
}

#[test]
fn ignored_headers_are_counted_by_family_and_the_effect_is_named() {
    let (address, _arrivals) = app();
    let gateway = Gateway::in_front_of(address, &[ADMIN, METRICS]);
    let admin = gateway.admin.expect("a listener");
    let request = "GET /ok HTTP/1.0\r\nhost: a\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\
                   cf-connecting-ip: 192.0.2.7\r\n\r\n";
    begin(&gateway, request).rest();
    let metrics = scrape(admin);
    for (family, count) in [
        ("forwarding", 1.0),
        ("client_address", 1.0),
        ("identity", 0.0),
    ] {
        let name = format!("fluxlit_gateway_forwarded_ignored_total{{family=\"{family}\"}}");
        assert_eq!(metrics[&name], count, "{family}");
    }
    let effect = "the scheme is taken as http, because 127.0.0.1 is not listed";
    assert!(
        eventually(|| gateway.log().contains(effect)),
        "{}",
        gateway.log()
    );
}

#[test]
fn paths_with_and_without_the_mount_are_a_warning_once() {
    let (address, _arrivals) = app();
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", "/m")]);
    let warning = "paths arrive both with the mount /m and without it";
    begin(&gateway, &get("/m/ok")).response();
    // Probes use the gateway's own paths without the mount.
    begin(&gateway, &get("/api/healthz")).response();
    for _ in 0..2 {
        begin(&gateway, &get("/ok")).response();
    }
    assert!(
        eventually(|| gateway.log().contains(warning)),
        "{}",
        gateway.log()
    );
    assert_eq!(gateway.log().matches(warning).count(), 1);
}
