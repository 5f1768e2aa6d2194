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

/// A running `host-test serve`; ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let filter = folder.path().join("filter.wasm");
        std::fs::write(&filter, guest::module(FILTER)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_host-test"))
            .args(["serve", "--listen", "127.0.0.1:0", "--filter"])
            .arg(filter)
            .args(["--upstream", &format!("http://{upstream}")])
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
    fn stop(mut self) -> String {
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
        said
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
