//! Tests that the gateway does not have the defects of FluxLit 0.13.2. Each of the 37 known defects has a test that names
//! it, here or in the file of its subject: `grep "defect 20"` finds it.
//!
//! Defects that are visible in a browser or with a real Streamlit are also tested in `envoy/browser` and
//! `envoy/tests/gateway.rs`: 1 (cookies of two clients), 4 (a large message in the page), 5 (a session that continues after a
//! reconnect), 6 (Streamlit's own comparison of Host and Origin) and 7 (its protections stay on). A login with OIDC is not
//! tested.

use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Gateway, Received, command, eventually, recording, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// FluxLit's defect 2.
#[test]
fn no_path_leaves_the_mount() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    for target in [
        "/apps/my-app/../../secret",
        "/apps/my-app/%2e%2e/%2e%2e/secret",
        "/apps/my-app/..%2f..%2fsecret",
        "/apps/my-app/..%5csecret",
        "/apps/my-app/%252e%252e/secret",
        "/apps/my-app/..;/secret",
        "/static/%2e%2e/_stcore/metrics",
        "/apps/my-app/./x",
        "/apps/my-app/..",
    ] {
        let answer = gateway.get(target);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert_eq!(seen.requests(), [""; 0]);
    for (target, forwarded) in [
        ("/apps/my-app/p%3Fa%23b?x=1", "/p%3Fa%23b?x=1"),
        ("/apps/my-app/x%2Fy", "/x%2Fy"),
        ("/apps/my-app//x", "/x"),
    ] {
        gateway.get(target);
        let received = seen.last();
        assert_eq!(received.head[0], format!("GET {forwarded} HTTP/1.1"));
    }
}

/// FluxLit's defect 10.
#[test]
fn readiness_checks_do_not_reach_the_app() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = BufReader::new(stream);
            crate::client::head(&mut stream);
            write(&mut stream, OK);
        }
    });
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..500 {
        client.send("GET /api/readyz HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    // The gateway's own probe runs every two seconds.
    let asked = asked.load(Ordering::SeqCst) - before;
    assert!(asked < 250, "{asked} requests for 500 readiness checks");
}

/// FluxLit's defect 13.
#[test]
fn an_untrusted_client_cannot_set_the_scheme() {
    let (address, seen) = recording(
        "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\ncontent-length: 0\r\n\r\n",
    );
    let get = "GET / HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\nx-forwarded-proto: https\r\n\
               x-forwarded-ssl: on\r\nfront-end-https: on\r\nx-forwarded-scheme: https\r\n\r\n";
    let trusting = [
        ("FLUXLIT_HSTS", "true"),
        ("FLUXLIT_TRUST_PROXY", "1"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
    ];
    for (settings, scheme, lines) in [(&trusting[..1], "http", 0), (&trusting[..], "https", 1)] {
        let gateway = Gateway::in_front_of(address, settings);
        let answer = gateway.send(get).to_ascii_lowercase();
        let found = answer.matches("strict-transport-security").count();
        assert_eq!(found, lines, "{answer}");
        assert_eq!(seen.last().values("x-forwarded-proto"), [scheme]);
    }
}

/// FluxLit's defect 19.
#[test]
fn a_handshake_is_subject_to_the_rules_of_any_request() {
    let (address, seen) = recording("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    let mut client = gateway.client();
    client.send(&handshake(
        "x-forwarded-prefix: /evil\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: ws\r\nx-remote-user: root\r\n",
    ));
    assert_eq!(client.response().status, 403);
    let received = seen.last();
    for (name, values) in [
        ("x-forwarded-prefix", &["/apps/my-app"][..]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("x-remote-user", &[]),
    ] {
        assert_eq!(received.values(name), values, "{name}");
    }
}

/// FluxLit's defects 18 and 34.
#[test]
fn protocols_and_extensions_are_negotiated_end_to_end() {
    let gateway = Gateway::in_front_of(
        upstream(|received, stream| {
            let passed = ["sec-websocket-protocol", "sec-websocket-extensions"]
                .iter()
                .flat_map(|name| {
                    received
                        .values(name)
                        .into_iter()
                        .map(move |value| format!("{name}: {value}\r\n"))
                })
                .collect::<String>();
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n{passed}\r\n"
                ),
            );
            false
        }),
        &[],
    );
    let plain = "GET /_stcore/stream HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    for (fields, protocol, extensions) in [
        ("", &[][..], &[][..]),
        (
            "sec-websocket-protocol: graphql-ws\r\n",
            &["graphql-ws"],
            &[],
        ),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            &[],
            &["permessage-deflate; client_max_window_bits"],
        ),
    ] {
        let mut client = gateway.client();
        client.send(&format!("{plain}{fields}\r\n"));
        let answer = client.response();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.values("sec-websocket-protocol"), protocol);
        assert_eq!(answer.values("sec-websocket-extensions"), extensions);
    }
}

/// FluxLit's defects 15 and 35: close frames with code and reason, and pings, are forwarded like all other bytes.
#[test]
fn control_frames_are_forwarded() {
    let frames = "\u{89}\u{4}ping\u{88}\u{f}\u{f}\u{a1}custom-reason";
    let answers = "\u{8a}\u{84}\u{1}\u{2}\u{3}\u{4}qkmc\u{88}\u{82}\0\0\0\0\u{f}\u{a1}";
    let (sender, receiver) = std::sync::mpsc::channel();
    let gateway = Gateway::in_front_of(
        upstream(move |_, stream| {
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n{frames}"
                ),
            );
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            sender.send(crate::client::text(&got)).unwrap();
            false
        }),
        &[],
    );
    let mut client = gateway.client();
    client.send(&handshake(""));
    assert_eq!(client.response_head().unwrap().status, 101);
    let mut got = vec![0; frames.chars().count()];
    client.stream.read_exact(&mut got).unwrap();
    assert_eq!(crate::client::text(&got), frames);
    client.send(answers);
    client
        .stream
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    assert_eq!(receiver.recv().unwrap(), answers);
    assert!(client.is_closed(), "nothing was added");
}

/// FluxLit's defect 25.
#[test]
fn a_response_has_one_date_and_one_server() {
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n",
    );
    let gateway = Gateway::in_front_of(address, &[]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.values("date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(answer.values("server"), ["uvicorn"]);
    client.send("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.values("date").len(), 1);
    assert_eq!(answer.values("server").len(), 0);
}

/// FluxLit's defect 27.
#[test]
fn a_redirect_to_the_app_s_own_address_is_rewritten() {
    for (mount, location, expected) in [
        ("", "http://{app}/there?x#y", "http://app.example/there?x#y"),
        ("", "//{app}/there", "http://app.example/there"),
        (
            "",
            "https://elsewhere.example/{app}",
            "https://elsewhere.example/{app}",
        ),
        ("/m", "http://{app}/there", "http://app.example/m/there"),
        ("/m", "/there", "/m/there"),
    ] {
        let place = Arc::new(std::sync::OnceLock::<String>::new());
        let own = Arc::clone(&place);
        let address = upstream(move |_: &Received, stream: &mut BufReader<TcpStream>| {
            let location = location.replace("{app}", own.get().unwrap());
            write(
                stream,
                &format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"),
            );
            true
        });
        let app = place.get_or_init(|| address.to_string());
        let gateway = Gateway::in_front_of(address, &[("FLUXLIT_ROOT_PATH", mount)]);
        let mut client = gateway.client();
        client.send(&format!(
            "GET {mount}/ HTTP/1.1\r\nhost: app.example\r\n\r\n"
        ));
        let expected = expected.replace("{app}", app);
        assert_eq!(
            client.response().values("location"),
            [expected],
            "{location}"
        );
    }
}

/// FluxLit's defect 29.
#[test]
fn the_gateway_survives_the_end_of_the_app() {
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")], &[]);
    assert!(eventually(|| gateway.get("/").starts_with("HTTP/1.1 503 ")));
    assert!(gateway.get("/api/readyz").starts_with("HTTP/1.1 503 "));
    assert!(gateway.get("/api/healthz").starts_with("HTTP/1.1 200 "));
}

/// FluxLit's defect 36.
#[test]
fn the_version_is_printed() {
    let mut command = command(&[], &[]);
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    let output = command.arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().next(),
        Some(concat!("fluxlit-gateway ", env!("CARGO_PKG_VERSION")))
    );
    assert!(output.stderr.is_empty(), "nothing else is printed");
}

/// FluxLit's defect 37.
#[test]
fn the_number_of_workers_is_configurable() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_WORKERS", "3")]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.child.id())).unwrap();
    let workers = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("worker-"))
        .count();
    assert_eq!(workers, 3);
    for _ in 0..20 {
        assert!(gateway.get("/").ends_with("ok"));
    }
    assert_eq!(seen.count(), 20);
}
