//! Do live requests pass the filter, bodies and tunnels included?

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::guest;

/// Adds `x-one: value` to requests and responses, and answers DELETE with 403.
const FILTER: &str = r#"(data (i32.const 200) ":method")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 200) (i32.const 7) (i32.const 0) (i32.const 4)))
        (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 68)) (then
            (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5)
                (i32.const 0) (i32.const 0) (i32.const -1)))))
        (call $say (i32.const 32) (i32.const 5))
        (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $add (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5)))"#;

/// Holds each request until `auth` has answered, and lets it go with the answer's status.
const ASKING: &str = r#"
    (data (i32.const 280) ":status")
    (data (i32.const 300) "auth")
    (data (i32.const 320) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/check\00:authority\00a\00")
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (i32.store (i32.const 420) (local.get $context))
        (drop (call $call (i32.const 300) (i32.const 4) (i32.const 320) (i32.const 66) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 10000) (i32.const 400)))
        i32.const 1)
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (drop (call $get (i32.const 6) (i32.const 280) (i32.const 7) (i32.const 0) (i32.const 4)))
        (drop (call $effective (i32.load (i32.const 420))))
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 5) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        (drop (call $continue (i32.const 0))))"#;

/// Holds the headers until the body has come.
const WAITING_FOR_THE_BODY: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_request_body") (param i32 i32) (param $end i32) (result i32)
        (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
        (call $replace (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 5))
        drop
        i32.const 0)"#;

/// A running `host-test serve`; ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(upstream: SocketAddr) -> Self {
        Self::start_with(FILTER, upstream, &[])
    }

    /// Starts it with these options, in which `{folder}` is a folder of its own.
    fn start_with(filter: &str, upstream: SocketAddr, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("filter.wasm");
        std::fs::write(&path, guest::module(filter)).unwrap();
        let in_folder = folder.path().display().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_host-test"))
            .args(["serve", "--listen", "127.0.0.1:0", "--filter"])
            .arg(path)
            .args(["--upstream", &format!("http://{upstream}")])
            .args(
                options
                    .iter()
                    .map(|text| text.replace("{folder}", &in_folder)),
            )
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
            .unwrap_or_else(|| panic!("it said `{line}`"));
        Self {
            child,
            address,
            folder,
        }
    }

    /// Sends bytes and reads until the other end closes.
    fn send(&self, bytes: &str) -> String {
        let mut connection = connect(self.address);
        connection.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Stops it by SIGTERM and returns what it said.
    fn stop(self) -> String {
        self.stop_and_keep().0
    }

    /// As [`Self::stop`], with its folder.
    fn stop_and_keep(mut self) -> (String, tempfile::TempDir) {
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(self.child.wait().unwrap().success());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (said, folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An upstream for one connection: reads until `end`, answers, and returns what it read.
fn upstream(end: &'static str, answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut connection = listener.accept().unwrap().0;
        connection.set_read_timeout(Some(BOUND)).unwrap();
        let read = read_until(&mut connection, end);
        connection.write_all(answer.as_bytes()).unwrap();
        if answer.starts_with("HTTP/1.1 101") {
            let ping = read_until(&mut connection, "ping");
            connection
                .write_all(ping.to_uppercase().as_bytes())
                .unwrap();
        }
        read
    });
    (address, thread)
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(BOUND)).unwrap();
    connection
}

fn read_until(connection: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

const BOUND: Duration = Duration::from_secs(20);

#[test]
fn a_request_and_its_response_pass_the_filter() {
    let (address, upstream) = upstream(
        "\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n",
    );
    let server = Server::start(address);
    let answer = server.send(
        "POST /a?b HTTP/1.1\r\nHost: app.example\r\nX-One: 1\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
         Content-Length: 3\r\n\r\nabc",
    );
    let received = upstream.join().unwrap();
    assert!(received.starts_with("POST /a?b HTTP/1.1\r\n"), "{received}");
    assert!(received.contains("x-one: value\r\n"), "{received}");
    assert!(received.contains("host: app.example\r\n"), "{received}");
    assert!(!received.contains("x-hop"), "{received}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("x-one: value\r\n"), "{answer}");
    assert!(answer.contains("def"), "{answer}");
    let said = server.stop();
    let want = "POST /a?b -> /a?b 200  request: ~x-one  response: +x-one\n  info: value\n";
    assert_eq!(said, want);
}

#[test]
fn an_answer_of_the_filter_asks_no_upstream() {
    let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 9)));
    let answer = server.send("DELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nvalue"), "{answer}");
    assert!(
        server
            .stop()
            .starts_with("DELETE / answered by the filter 403")
    );
}

#[test]
fn an_upstream_that_is_not_there_is_503_through_the_filter() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::start(address);
    let answer = server.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("x-one: value\r\n"), "{answer}");
}

#[test]
fn an_upgrade_is_tunnelled() {
    let (address, upstream) = upstream(
        "\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let server = Server::start(address);
    let mut connection = connect(server.address);
    connection
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    let head = read_until(&mut connection, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("x-one: value\r\n"), "{head}");
    connection.write_all(b"ping").unwrap();
    assert_eq!(read_until(&mut connection, "PING"), "PING");
    let received = upstream.join().unwrap();
    assert!(received.contains("upgrade: websocket\r\n"), "{received}");
    assert!(received.contains("connection: upgrade\r\n"), "{received}");
}

#[test]
fn a_changed_module_is_loaded_and_one_that_does_not_load_is_not() {
    let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 9)));
    let get = || server.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(get().starts_with("HTTP/1.1 503 "), "nobody listens there");
    let path = server.folder.path().join("filter.wasm");
    // `G` in place of `D`: now it is GET that is answered.
    let answering = FILTER.replace("i32.const 68", "i32.const 71");
    std::fs::write(&path, guest::module(&answering)).unwrap();
    assert!(get().starts_with("HTTP/1.1 403 "));
    std::fs::write(&path, "no module").unwrap();
    assert!(get().starts_with("HTTP/1.1 403 "));
    let said = server.stop();
    assert!(said.contains("the filter was loaded anew"), "{said}");
    assert!(said.contains("the old filter stays"), "{said}");
}

#[test]
fn a_request_waits_for_a_call_out_and_the_recording_replays() {
    for (auth, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "204"),
        // Broken off before an answer.
        ("", "503"),
    ] {
        let (auth, asked) = upstream("\r\n\r\n", auth);
        let (app, received) = upstream("abc", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        let cluster = format!("auth=http://{auth}");
        let options = ["--cluster", &cluster, "--record", "{folder}/recording.json"];
        let server = Server::start_with(ASKING, app, &options);
        let answer = server.send(
            "POST /a HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        );
        assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("GET /check HTTP/1.1\r\n"), "{asked}");
        let received = received.join().unwrap();
        let want = format!("x-one: {status}\r\n");
        assert!(received.contains(&want), "{received}");
        let (said, folder) = server.stop_and_keep();
        assert!(said.contains("called auth: GET /check"), "{said}");
        assert!(said.contains("1 requests recorded"), "{said}");
        let recording = folder.path().join("recording.json");
        let text = std::fs::read_to_string(&recording).unwrap();
        for part in ["POST", "abc", "hi", "/check", status] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let replay = Command::new(env!("CARGO_BIN_EXE_host-test"))
            .args(["replay", "--filter"])
            .arg(folder.path().join("filter.wasm"))
            .arg(recording)
            .output()
            .unwrap();
        assert!(replay.status.success(), "{replay:?}");
    }
}

#[test]
fn headers_wait_for_the_body() {
    let (app, received) = upstream("abc", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let options = ["--allow-on-headers-stop-iteration"];
    let server = Server::start_with(WAITING_FOR_THE_BODY, app, &options);
    let answer = server.send(
        "POST /a HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let received = received.join().unwrap();
    assert!(received.contains("x-one: value\r\n"), "{received}");
}
