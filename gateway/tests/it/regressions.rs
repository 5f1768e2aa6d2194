//! What FluxLit 0.13.2 gets wrong and a gateway must not. Each of its 37 known defects has a test that names it, here or
//! where its subject is: `grep "defect 20"` finds it.
//!
//! Some show themselves in a browser, or with a real Streamlit, as well, and are also tried there, in `envoy/browser` and
//! `envoy/tests/gateway.rs`: 1 (cookies of two clients), 4 (a large message in the page), 5 (a session that goes on after a
//! reconnect), 6 (Streamlit's own comparison of Host and Origin) and 7 (its protections stay on). A login by OIDC is not.

use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::support::{Gateway, Received, command, eventually, recording, say, upstream};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// FluxLit's defect 2.
#[test]
fn nobody_climbs_out_of_the_mount() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::before(address, &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
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
fn asking_whether_we_are_ready_costs_the_app_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = BufReader::new(stream);
            crate::client::head(&mut stream);
            say(&mut stream, OK);
        }
    });
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    let (before, started) = (asked.load(Ordering::SeqCst), Instant::now());
    for _ in 0..500 {
        client.say("GET /api/readyz HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    // The probe goes on by itself, every two seconds.
    let probes = 1 + usize::try_from(started.elapsed().as_secs() / 2).unwrap();
    let asked = asked.load(Ordering::SeqCst) - before;
    assert!(asked <= probes, "{asked} questions for 500 answers");
}

/// FluxLit's defect 13.
#[test]
fn the_scheme_is_not_what_anybody_says() {
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
        let gateway = Gateway::before(address, settings);
        let answer = gateway.send(get).to_ascii_lowercase();
        let found = answer.matches("strict-transport-security").count();
        assert_eq!(found, lines, "{answer}");
        assert_eq!(seen.last().lines("x-forwarded-proto"), [scheme]);
    }
}

/// FluxLit's defect 19.
#[test]
fn a_handshake_is_held_to_the_rules_of_any_request() {
    let (address, seen) = recording("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let gateway = Gateway::before(address, &[("FLUXLIT_ROOT_PATH", "/apps/my-app")]);
    let mut client = gateway.client();
    client.say(&handshake(
        "x-forwarded-prefix: /evil\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: ws\r\nx-remote-user: root\r\n",
    ));
    assert_eq!(client.answer().status, 403);
    let received = seen.last();
    for (name, values) in [
        ("x-forwarded-prefix", &["/apps/my-app"][..]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("x-remote-user", &[]),
    ] {
        assert_eq!(received.lines(name), values, "{name}");
    }
}

/// FluxLit's defects 18 and 34.
#[test]
fn what_a_websocket_speaks_is_between_its_ends() {
    let gateway = Gateway::before(
        upstream(|received, stream| {
            let passed = ["sec-websocket-protocol", "sec-websocket-extensions"]
                .iter()
                .flat_map(|name| {
                    received
                        .lines(name)
                        .into_iter()
                        .map(move |value| format!("{name}: {value}\r\n"))
                })
                .collect::<String>();
            say(
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
        client.say(&format!("{plain}{fields}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.lines("sec-websocket-protocol"), protocol);
        assert_eq!(answer.lines("sec-websocket-extensions"), extensions);
    }
}

/// FluxLit's defects 15 and 35: a close frame with its code and reason, and pings, are bytes like all others.
#[test]
fn control_frames_are_between_browser_and_app() {
    let frames = "\u{89}\u{4}ping\u{88}\u{f}\u{f}\u{a1}custom-reason";
    let answers = "\u{8a}\u{84}\u{1}\u{2}\u{3}\u{4}qkmc\u{88}\u{82}\0\0\0\0\u{f}\u{a1}";
    let (sender, receiver) = std::sync::mpsc::channel();
    let gateway = Gateway::before(
        upstream(move |_, stream| {
            say(
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
    client.say(&handshake(""));
    assert_eq!(client.head_of_answer().unwrap().status, 101);
    let mut got = vec![0; frames.chars().count()];
    client.stream.read_exact(&mut got).unwrap();
    assert_eq!(crate::client::text(&got), frames);
    client.say(answers);
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
fn an_answer_has_one_date_and_one_server() {
    let (address, _) = recording(
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n",
    );
    let gateway = Gateway::before(address, &[]);
    let mut client = gateway.client();
    client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.lines("date"), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert_eq!(answer.lines("server"), ["uvicorn"]);
    client.say("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.lines("date").len(), 1);
    assert_eq!(answer.lines("server").len(), 0);
}

/// FluxLit's defect 27.
#[test]
fn a_redirect_to_the_app_s_own_address_leads_back_here() {
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
            say(
                stream,
                &format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"),
            );
            true
        });
        let app = place.get_or_init(|| address.to_string());
        let gateway = Gateway::before(address, &[("FLUXLIT_ROOT_PATH", mount)]);
        let mut client = gateway.client();
        client.say(&format!(
            "GET {mount}/ HTTP/1.1\r\nhost: app.example\r\n\r\n"
        ));
        let expected = expected.replace("{app}", app);
        assert_eq!(client.answer().lines("location"), [expected], "{location}");
    }
}

/// FluxLit's defect 29.
#[test]
fn an_app_that_is_gone_does_not_take_us_with_it() {
    let gateway = Gateway::start(&[("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:1")], &[]);
    assert!(eventually(|| gateway.get("/").starts_with("HTTP/1.1 503 ")));
    assert!(gateway.get("/api/readyz").starts_with("HTTP/1.1 503 "));
    assert!(gateway.get("/api/healthz").starts_with("HTTP/1.1 200 "));
}

/// FluxLit's defect 36.
#[test]
fn the_version_is_told() {
    let mut command = command(&[], &[]);
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    let output = command.arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        format!("fluxlit-gateway {}", env!("CARGO_PKG_VERSION"))
    );
    assert!(output.stderr.is_empty(), "and nothing else is said");
}

/// FluxLit's defect 37.
#[test]
fn work_is_done_by_as_many_threads_as_are_asked_for() {
    let (address, seen) = recording(OK);
    let gateway = Gateway::before(address, &[("FLUXLIT_GATEWAY_WORKERS", "3")]);
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
