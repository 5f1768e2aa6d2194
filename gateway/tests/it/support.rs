//! A gateway process, an upstream that does what a test tells it, and a client that sends what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A running gateway; ends with the test.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts a gateway with these settings, and waits until it listens.
    pub(crate) fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = command(settings, arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut log = BufReader::new(child.stderr.take().expect("a log"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).expect("a log") > 0,
                "the gateway ended: {said}"
            );
            said.push_str(&line);
            if let Some((_, address)) = line.trim().split_once("listening on http://") {
                break address.parse().expect("an address");
            }
        };
        // Whoever writes to a full pipe waits for ever.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    /// Starts a gateway in front of `upstream` and waits until it is ready.
    pub(crate) fn before(upstream: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let url = format!("http://{upstream}");
        let mut all = vec![("FLUXLIT_STREAMLIT_UPSTREAM", url.as_str())];
        all.extend(settings);
        let gateway = Self::start(&all, &[]);
        let mount = settings
            .iter()
            .find(|(name, _)| *name == "FLUXLIT_ROOT_PATH")
            .map_or("", |(_, mount)| mount);
        let readiness = format!("{mount}/api/readyz");
        assert!(
            eventually(|| gateway.get(&readiness).starts_with("HTTP/1.1 200")),
            "{}",
            gateway.get(&readiness)
        );
        gateway
    }

    /// Asks for a path on a connection of its own, and returns all that came back.
    pub(crate) fn get(&self, path: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n"
        ))
    }

    /// Sends bytes on a connection of their own, and returns all that came back until it was closed.
    pub(crate) fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream
            .write_all(request.as_bytes())
            .expect("the request is sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.iter().copied().map(char::from).collect()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a time limit");
        stream
    }

    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id()).expect("an id");
        let id = rustix::process::Pid::from_raw(id).expect("an id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("the gateway runs");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateway with these settings and nothing else of its environment.
pub(crate) fn command(settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("FLUXLIT_GATEWAY_PORT", "0")
        .env("FLUXLIT_GATEWAY_WORKERS", "1")
        .envs(settings.iter().copied())
        .arg("run")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A request as an upstream received it.
pub(crate) struct Received {
    pub(crate) head: Vec<String>,
}

impl Received {
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        self.head
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

/// Starts an upstream. `answer` is called for each request but the gateway's health checks, which are answered `ok`; it
/// reads and writes the connection as it likes, and says whether the connection goes on.
pub(crate) fn upstream(
    answer: impl Fn(&Received, &mut BufReader<TcpStream>) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                loop {
                    let received = Received {
                        head: head(&mut stream),
                    };
                    if received.head.is_empty() {
                        return;
                    }
                    let goes_on = if received.lines("user-agent") == ["fluxlit-gateway-probe"] {
                        say(
                            &mut stream,
                            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                        );
                        true
                    } else {
                        answer(&received, &mut stream)
                    };
                    if !goes_on {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Writes to the other side, which may have gone.
pub(crate) fn say(stream: &mut BufReader<TcpStream>, text: &str) {
    let _ = stream.get_mut().write_all(text.as_bytes());
}

/// Reads the lines of a head; empty at the end of the connection.
pub(crate) fn head(stream: &mut impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            return lines;
        }
        lines.push(line.trim_end().to_owned());
    }
}

/// Waits until `condition` holds, for ten seconds at most.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    false
}
