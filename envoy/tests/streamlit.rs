//! Tests the whole stack: real Envoy with the shipped bootstrap, the filter, the gateway and the real Streamlit.
//!
//! Requests use a public host name, never localhost: Streamlit accepts every local Origin, which hides defects.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fluxlit_cases::{Answer, UpstreamRequest};
use fluxlit_envoy::{Bootstrap, MOUNT, Stack, plugin_config};
use fluxlit_support::certificate::Certificate;
use fluxlit_support::client::get as get_page;
use fluxlit_support::envoy::Envoy;
use fluxlit_support::http1::Response;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::process::Process;
use fluxlit_support::upstream::Upstream;
use fluxlit_support::wait::wait_until;

use support::{connect, connect_from, exchange, parts, upstream, values};

const HOST: &str = "app.example.test";
const UNTRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

fn free_address() -> SocketAddr {
    local(free_port().expect("a free port"))
}

fn send(stack: SocketAddr, request: &str) -> Response {
    let method = request.split(' ').next().unwrap_or_default();
    exchange(&mut connect(stack), request.as_bytes(), method)
}

fn get(stack: SocketAddr, path: &str) -> Response {
    send(
        stack,
        &format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"),
    )
}

fn handshake(origin: &str, protocols: &str) -> String {
    format!(
        "GET {MOUNT}/_stcore/stream HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\norigin: {origin}\r\n\
         sec-websocket-protocol: {protocols}\r\n\r\n"
    )
}

#[test]
fn a_browser_reaches_the_app() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/app.py");
    let stack = Stack::start(
        &parts(),
        &app,
        Bootstrap::shipped(),
        free_address(),
        folder.path(),
    )
    .expect("the stack starts");
    let log = folder.path().join("gateway.log");
    assert!(
        stack.wait_until_ready(Duration::from_secs(60)),
        "{}",
        std::fs::read_to_string(log).unwrap_or_default()
    );
    let at = stack.address;

    let page = get(at, &format!("{MOUNT}/"));
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("<title>Streamlit</title>"),
        "{}",
        page.text()
    );
    assert_eq!(page.values("x-content-type-options"), ["nosniff"]);
    assert!(
        page.values("strict-transport-security").is_empty(),
        "HSTS was sent over http"
    );

    let script = page
        .text()
        .split("src=\"./")
        .nth(1)
        .and_then(|rest| rest.split('"').next().map(str::to_owned))
        .expect("the page loads a script by a relative URL");
    let file = get(at, &format!("{MOUNT}/{script}"));
    assert_eq!(file.status, 200, "{script}");
    assert!(file.values("content-type")[0].contains("javascript"));

    let bare = get(at, MOUNT);
    assert_eq!(
        (bare.status, bare.values("location")),
        (308, vec!["/apps/my-app/"])
    );
    let deep = get(at, &format!("{MOUNT}/second/"));
    assert_eq!(
        (deep.status, deep.values("location")),
        (301, vec!["/apps/my-app/second"])
    );
    assert_eq!(get(at, "/").status, 404, "outside the mount");
    assert_eq!(
        get(at, "/apps/my-application").status,
        404,
        "outside the mount"
    );

    let health = get(at, &format!("{MOUNT}/_stcore/health"));
    assert_eq!((health.status, health.text().as_str()), (200, "ok"));
    let cookie = health.values("set-cookie")[0];
    assert!(
        cookie.contains("Path=/apps/my-app;"),
        "the cookie is valid for the whole host: {cookie}"
    );
    let token = cookie
        .strip_prefix("_streamlit_xsrf=")
        .and_then(|rest| rest.split(';').next())
        .expect("a token");

    let mut socket = connect(at);
    let opened = exchange(
        &mut socket,
        handshake(&format!("http://{HOST}"), &format!("streamlit, {token}")).as_bytes(),
        "GET",
    );
    assert_eq!(opened.status, 101, "{opened:?}");
    assert_eq!(opened.values("sec-websocket-protocol"), ["streamlit"]);
    assert_eq!(
        opened.values("sec-websocket-accept"),
        ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    );
    let foreign = send(
        at,
        &handshake("https://evil.example", "streamlit, PLACEHOLDER_AUTH_TOKEN"),
    );
    assert_eq!(foreign.status, 403, "another site can open the WebSocket");

    let body = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--b--\r\n";
    let upload = |with_token: bool| {
        let xsrf = if with_token {
            format!("cookie: _streamlit_xsrf={token}\r\nx-xsrftoken: {token}\r\n")
        } else {
            String::new()
        };
        send(
            at,
            &format!(
                "PUT {MOUNT}/_stcore/upload_file/no-such-session/file HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\
                 {xsrf}content-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    };
    assert_eq!(upload(false).status, 403, "an upload without the token");
    // Streamlit checks the token before it looks for the session.
    assert_eq!(
        upload(true).status,
        400,
        "an upload with the token, for an unknown session"
    );
}

/// A gateway in front of an upstream that records what it received, and Envoy in front of both.
struct Echo {
    upstream: Upstream,
    envoy: SocketAddr,
    _processes: (Envoy, Process),
    _folder: tempfile::TempDir,
}

fn echo(plugin: &str, tls: bool) -> Echo {
    let parts = parts();
    let upstream = upstream();
    let gateway_address = free_address();
    let mut gateway = Command::new(&parts.gateway);
    gateway
        .arg("run")
        .env("FLUXLIT_GATEWAY_PORT", gateway_address.port().to_string())
        .env(
            "FLUXLIT_STREAMLIT_UPSTREAM",
            format!("http://{}{MOUNT}", upstream.address),
        )
        .env("FLUXLIT_ROOT_PATH", MOUNT)
        .env("FLUXLIT_ROOT_PATH_SHAPE", "stripped")
        .env("FLUXLIT_TRUST_PROXY", "1")
        .env("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
        .stderr(Stdio::null());
    let gateway = Process::start(gateway).expect("the gateway starts");
    let folder = tempfile::tempdir().expect("a folder");
    let listen = free_address();
    let mut bootstrap = Bootstrap::shipped();
    if tls {
        let made = Certificate::create_files(folder.path(), &["127.0.0.1"]).expect("a certificate");
        bootstrap = bootstrap.with_tls(&made.certificate, &made.key);
    }
    let bootstrap = bootstrap
        .listening_on(listen)
        .forwarding_to(gateway_address)
        .with_module(&parts.module)
        .with_plugin_config(plugin);
    let envoy = bootstrap
        .start(&parts.envoy, folder.path(), &["--concurrency", "1"])
        .expect("Envoy starts");
    assert!(wait_until(Duration::from_secs(60), || {
        get_page(gateway_address, "/api/readyz", None).is_ok_and(|response| response.status == 200)
    }));
    upstream.answer(&Answer::default());
    Echo {
        upstream,
        envoy: listen,
        _processes: (envoy, gateway),
        _folder: folder,
    }
}

const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 444\r\nX-Forwarded-Prefix: /evil\r\n\
    Forwarded: for=6.6.6.6;host=evil.example;proto=https\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n\
    X-Remote-User: root\r\nX-Auth-Request-User: root\r\nX-Original-URL: /evil\r\n";

#[test]
fn forged_headers_of_an_untrusted_peer_never_arrive() {
    let echo = echo(plugin_config(), false);
    let request =
        format!("GET {MOUNT}/x HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{FORGED}\r\n");
    let response = exchange(
        &mut connect_from(UNTRUSTED, echo.envoy),
        request.as_bytes(),
        "GET",
    );
    assert_eq!(response.status, 200);
    let received = echo.upstream.requests();
    let [received] = received.as_slice() else {
        panic!("want one request, got {received:?}");
    };
    assert_eq!(
        (received.target.as_str(), received.host.as_deref()),
        ("/apps/my-app/x", Some(HOST))
    );
    let lines = |name| values(received, name);
    assert_eq!(lines("x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(lines("x-real-ip"), ["127.0.0.9"]);
    assert_eq!(lines("x-forwarded-proto"), ["http"]);
    assert_eq!(lines("x-forwarded-host"), [HOST]);
    assert_eq!(lines("x-forwarded-port"), ["80"]);
    assert_eq!(lines("x-forwarded-prefix"), [MOUNT]);
    assert_nothing_forged_arrived(received);

    // The same rules hold for a WebSocket handshake.
    let upgrade = handshake(&format!("http://{HOST}"), "streamlit").replacen(
        "\r\n\r\n",
        &format!("\r\n{FORGED}\r\n"),
        1,
    );
    echo.upstream.answer(&Answer {
        status: 403,
        ..Answer::default()
    });
    let response = exchange(
        &mut connect_from(UNTRUSTED, echo.envoy),
        upgrade.as_bytes(),
        "GET",
    );
    assert_eq!(
        response.status, 403,
        "the upstream's rejection is forwarded"
    );
    let received = echo.upstream.requests();
    let [handshake] = received.as_slice() else {
        panic!("want one request, got {received:?}");
    };
    assert_eq!(values(handshake, "x-forwarded-for"), ["127.0.0.9"]);
    assert_nothing_forged_arrived(handshake);
}

/// Fails if a value of [`FORGED`] is in `received`. `x-request-id` is random, so it may contain any of them.
#[track_caller]
fn assert_nothing_forged_arrived(received: &UpstreamRequest) {
    let text = std::iter::once(("target", received.target.as_str()))
        .chain(received.host.as_deref().map(|host| ("host", host)))
        .chain(
            received
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .filter(|(name, _)| *name != "x-request-id"),
        );
    for (name, value) in text {
        for forged in ["6.6.6.6", "evil", "root", "444", "https"] {
            assert!(
                !value.contains(forged),
                "`{forged}` arrived in {name}: {received:?}"
            );
        }
    }
}

#[test]
fn headers_of_a_trusted_peer_resolve_to_the_client() {
    let config = r#"{"root_path": "/apps/my-app", "peer_filter_state_key": "fluxlit.peer",
        "trust_proxy": true, "forwarded_allow_ips": "127.0.0.9"}"#;
    let echo = echo(config, false);
    let request = format!(
        "GET {MOUNT}/x HTTP/1.1\r\nHost: inner.example\r\nConnection: close\r\n\
         X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Host: {HOST}\r\n\r\n"
    );
    for (peer, client, host) in [
        (UNTRUSTED, "203.0.113.7", HOST),
        (
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10)),
            "127.0.0.10",
            "inner.example",
        ),
    ] {
        echo.upstream.answer(&Answer::default());
        let response = exchange(
            &mut connect_from(peer, echo.envoy),
            request.as_bytes(),
            "GET",
        );
        assert_eq!(response.status, 200);
        let received = echo.upstream.requests();
        let got = received[0]
            .headers
            .iter()
            .find(|(name, _)| name == "x-forwarded-for");
        assert_eq!(
            got.map(|(_, value)| value.as_str()),
            Some(client),
            "from {peer}"
        );
        assert_eq!(received[0].host.as_deref(), Some(host), "from {peer}");
    }
}

#[test]
fn hsts_is_sent_once_and_over_tls_only() {
    let echo = echo(plugin_config(), true);
    echo.upstream.answer(&Answer {
        headers: vec![(
            "Strict-Transport-Security".to_owned(),
            "max-age=5".to_owned(),
        )],
        ..Answer::default()
    });
    let ask = |path: &str| {
        let certificate = echo._folder.path().join("certificate.pem");
        get_page(echo.envoy, path, Some(&certificate)).expect("a response over TLS")
    };
    // The host is an address, for which browsers store no HSTS: the filter sends none, and removes the upstream's.
    let served = ask(&format!("{MOUNT}/x"));
    assert!(served.values("strict-transport-security").is_empty());
    // A response that Envoy sends before any filter runs gets HSTS from the local reply configuration.
    let refused = ask("/apps%2fmy-app/");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(
        refused.values("strict-transport-security").len(),
        1,
        "{refused:?}"
    );
}
