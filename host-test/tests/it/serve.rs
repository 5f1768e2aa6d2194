//! Tests `host-test serve`: live requests, bodies, tunnels and call-outs through the filter.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use fluxlit_support::client::Client;
use fluxlit_support::http1::{self, Response};
use fluxlit_support::port::{free_port, local};
use fluxlit_support::script::ScriptedResponse;
use fluxlit_support::upstream::{self, Options, Upstream};
use host_test::case_file::{Answer, CaseFile};

use crate::support::program::{Files, command, host_test};

/// Sets `x-one: value` in requests and responses. Replies to DELETE with 403.
const SETS_FIELD: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get @request @":method" @to_result))
        (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) @'D') (then
            (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) @"value"
                (i32.const 0) (i32.const 0) (i32.const -1)))))
        (call $log_text @"value")
        (call $replace @request @"x-one" @"value"))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $add @response @"x-one" @"value"))"#;

/// Holds each request until `auth` has answered, and continues it with the status of that answer in `x-one`.
const CALLS_AND_WAITS: &str = r#"
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (i32.store (i32.const 420) (local.get $context))
        (drop (call $call @"auth" @pairs(":method" "GET" ":path" "/check" ":authority" "a") (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 10000) (i32.const 400)))
        i32.const 1)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $get (i32.const 6) @":status" @to_result))
        (drop (call $effective (i32.load (i32.const 420))))
        (drop (call $add @request @"x-one" @result))
        (drop (call $continue (i32.const 0))))"#;

/// Holds the headers until the whole body has arrived.
const WAITS_FOR_BODY: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_request_body") (param i32 i32) (param $end i32) (result i32)
        (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
        (call $replace @request @"x-one" @"value")
        drop
        i32.const 0)"#;

/// A running `host-test serve`, killed at the end of the test.
struct Server {
    child: Child,
    address: SocketAddr,
    files: Files,
}

impl Server {
    /// Starts it with these options, in which `{folder}` is the test's folder.
    fn start(filter: &str, upstream: SocketAddr, options: &[&str]) -> Self {
        let files = Files::new();
        let filter = files.write_guest("filter.wasm", filter);
        let options = options
            .iter()
            .map(|text| text.replace("{folder}", files.folder()));
        let mut child = command()
            .args(["serve", "--listen", "127.0.0.1:0", "--filter", &filter])
            .args(["--upstream", &format!("http://{upstream}")])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|address| address.trim_end().parse().ok())
            .unwrap_or_else(|| panic!("it printed `{line}`"));
        Self {
            child,
            address,
            files,
        }
    }

    /// Sends a request over a new connection and reads the response.
    fn send(&self, request: &str) -> Response {
        let mut client = Client::connect(self.address).unwrap();
        client.send(request).unwrap();
        let response = client.response("GET").unwrap();
        assert!(response.is_complete, "{response:?}");
        response
    }

    /// Stops it by SIGTERM and returns what it printed to standard error.
    fn stop(&mut self) -> String {
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let mut printed = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut printed).unwrap();
        assert!(self.child.wait().unwrap().success());
        printed
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an upstream that sends this answer as its response to each request.
fn responds(answer: &Answer) -> Upstream {
    let script = vec![ScriptedResponse::of_answer(answer)];
    Upstream::start(Options::default(), script).unwrap()
}

/// An address at which nothing listens.
fn nowhere() -> SocketAddr {
    local(free_port().unwrap())
}

/// The values of the fields with this name.
fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_request_and_its_response_pass_the_filter() {
    let upstream = responds(&Answer {
        frames: vec!["def".to_owned()],
        ..Answer::default()
    });
    let mut server = Server::start(SETS_FIELD, upstream.address, &[]);
    let response = server.send(
        "POST /a?b HTTP/1.1\r\nHost: app.example\r\nX-One: 1\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
         Content-Length: 3\r\n\r\nabc",
    );
    let request = upstream.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/a?b")
    );
    assert_eq!(request.host.as_deref(), Some("app.example"));
    assert_eq!(values(&request.headers, "x-one"), ["value"]);
    assert!(values(&request.headers, "x-hop").is_empty());
    assert_eq!(request.body, "abc");
    assert_eq!(response.status, 200);
    assert_eq!(response.values("x-one"), ["value"]);
    assert_eq!(response.body, b"def");
    let want = "POST /a?b -> /a?b 200  request: ~x-one  response: +x-one\n  info: value\n";
    assert_eq!(server.stop(), want);
}

#[test]
fn a_local_response_does_not_reach_the_upstream() {
    let upstream = responds(&Answer::default());
    let mut server = Server::start(SETS_FIELD, upstream.address, &[]);
    let response = server.send("DELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(
        (response.status, response.body.as_slice()),
        (403, &b"value"[..])
    );
    assert!(upstream.requests().is_empty());
    let printed = server.stop();
    let want = "DELETE / answered by the filter 403";
    assert!(printed.starts_with(want), "{printed}");
}

#[test]
fn an_unreachable_upstream_is_a_503_that_passes_the_filter() {
    let server = Server::start(SETS_FIELD, nowhere(), &[]);
    let response = server.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(response.status, 503);
    assert_eq!(response.values("x-one"), ["value"]);
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let upstream = upstream::serve(|stream| {
        let head = http1::read_head_blocking(stream).unwrap().unwrap();
        let (connection, protocol) = (head.values("connection"), head.values("upgrade"));
        assert_eq!((connection, protocol), (vec!["upgrade"], vec!["websocket"]));
        let response =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.get_mut().write_all(response.as_bytes()).unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        ping.make_ascii_uppercase();
        stream.get_mut().write_all(&ping).unwrap();
    })
    .unwrap();
    let server = Server::start(SETS_FIELD, upstream, &[]);
    let mut client = Client::connect(server.address).unwrap();
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.word(1), "101");
    assert_eq!(head.values("x-one"), ["value"]);
    client.send("ping").unwrap();
    let mut pong = [0; 4];
    client.stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"PING");
}

#[test]
fn a_changed_module_replaces_the_filter_unless_it_does_not_load() {
    let mut server = Server::start(SETS_FIELD, nowhere(), &[]);
    let status = |server: &Server| {
        let response = server.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        response.status
    };
    assert_eq!(status(&server), 503, "no upstream listens");
    let replies_to_get = SETS_FIELD.replace("@'D'", "@'G'");
    server.files.write_guest("filter.wasm", &replies_to_get);
    assert_eq!(status(&server), 403);
    server.files.write("filter.wasm", "not a module");
    assert_eq!(status(&server), 403);
    let printed = server.stop();
    assert!(printed.contains("reloaded the filter"), "{printed}");
    assert!(printed.contains("keeping the old filter"), "{printed}");
}

#[test]
fn a_request_waits_for_a_call_out_and_its_recording_can_be_replayed() {
    let no_content = Answer {
        status: 204,
        ..Answer::default()
    };
    for (auth, status) in [
        (ScriptedResponse::of_answer(&no_content), "204"),
        (ScriptedResponse::Close, "503"),
    ] {
        let auth = Upstream::start(Options::default(), vec![auth]).unwrap();
        let app = responds(&Answer {
            body: "hi".to_owned(),
            ..Answer::default()
        });
        let cluster = format!("auth=http://{}", auth.address);
        let options = ["--cluster", &cluster, "--record", "{folder}/recording.json"];
        let mut server = Server::start(CALLS_AND_WAITS, app.address, &options);
        let response = server.send(
            "POST /a HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        );
        assert_eq!(response.body, b"hi");
        let call = auth.requests().remove(0);
        assert_eq!(
            (call.method.as_str(), call.target.as_str()),
            ("GET", "/check")
        );
        let request = app.requests().remove(0);
        assert_eq!(values(&request.headers, "x-one"), [status]);
        let printed = server.stop();
        assert!(printed.contains("called auth: GET /check"), "{printed}");
        assert!(printed.contains("recorded 1 requests"), "{printed}");
        let text = server.files.read("recording.json");
        for part in ["POST", "abc", "hi", "/check", status] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let filter = server.files.path("filter.wasm");
        let recording = server.files.path("recording.json");
        let replay = host_test(&["replay", "--filter", &filter, &recording]);
        assert_eq!(replay.code, Some(0), "{}{}", replay.stdout, replay.stderr);
    }
}

#[test]
fn held_headers_wait_for_the_body() {
    let app = responds(&Answer::default());
    let options = ["--allow-on-headers-stop-iteration"];
    let server = Server::start(WAITS_FOR_BODY, app.address, &options);
    let response = server.send(
        "POST /a HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(response.status, 200);
    let request = app.requests().remove(0);
    assert_eq!(values(&request.headers, "x-one"), ["value"]);
    assert_eq!(request.body, "abc");
}

/// Replies with 429 from the fourth request on.
const LIMITS: &str = r#"
    (global $count (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (call $log_text @"value") (i32.eqz (call $define (i32.const 0) @"limited" (i32.const 500))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (if (i32.gt_u (global.get $count) (i32.const 3)) (then
            (drop (call $increment (i32.load (i32.const 500)) (i64.const 1)))
            (drop (call $reply (i32.const 429) (i32.const 0) (i32.const 0) @"value" (i32.const 0) (i32.const 0) (i32.const -1)))))
        i32.const 0)"#;

/// Sends five requests through a filter that limits them, and returns the stopped server with what it printed.
fn record_limited(before_stop: impl FnOnce(&Server)) -> (Server, String) {
    let app = responds(&Answer {
        body: "hi".to_owned(),
        ..Answer::default()
    });
    let options = ["--record", "{folder}/recording.json"];
    let mut server = Server::start(LIMITS, app.address, &options);
    let statuses: Vec<u16> = (0..5)
        .map(|_| {
            let response = server.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            response.status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    before_stop(&server);
    let printed = server.stop();
    (server, printed)
}

/// The statuses that a recording of one VM expects.
fn expected_statuses(recording: &str) -> Vec<u16> {
    let file = CaseFile::parse(std::path::Path::new("recording.json"), recording).unwrap();
    let [case] = file.cases.as_slice() else {
        panic!("one case for the VM: {recording}");
    };
    let exchanges = case.exchanges();
    exchanges
        .iter()
        .map(|exchange| exchange.downstream.status.unwrap())
        .collect()
}

#[test]
fn a_recording_has_what_happened_in_one_vm() {
    let (server, printed) = record_limited(|_| {});
    assert!(printed.contains("recorded 5 requests"), "{printed}");
    assert!(!printed.contains("a replay differs"), "{printed}");
    let recording = server.files.read("recording.json");
    assert_eq!(expected_statuses(&recording), [200, 200, 200, 429, 429]);
    assert!(recording.contains("\"limited\""), "{recording}");
    let (filter, recording) = (
        server.files.path("filter.wasm"),
        server.files.path("recording.json"),
    );
    let replay = host_test(&["replay", "--filter", &filter, &recording]);
    assert_eq!(replay.code, Some(0), "{}{}", replay.stdout, replay.stderr);
    let other = server
        .files
        .write_guest("other.wasm", &LIMITS.replace("i32.const 3", "i32.const 2"));
    let replay = host_test(&["replay", "--filter", &other, &recording]);
    assert!(replay.stdout.contains("exchange 3"), "{}", replay.stdout);
}

#[test]
fn a_recording_does_not_need_the_module_at_the_end() {
    let (server, printed) = record_limited(|server| {
        server.files.write("filter.wasm", "\0asm half");
    });
    assert!(printed.contains("recorded 5 requests"), "{printed}");
    assert!(
        printed.contains("the recording was not replayed"),
        "{printed}"
    );
    let recording = server.files.read("recording.json");
    assert_eq!(expected_statuses(&recording), [200, 200, 200, 429, 429]);
}
