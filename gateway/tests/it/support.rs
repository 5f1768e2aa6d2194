//! A gateway process, an upstream that does what a test tells it, and a client that sends what it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Client, lines, octets, read_body};

pub(crate) use crate::client::head;

/// A running gateway; ends with the test.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// Where operators are served, if they are.
    pub(crate) admin: Option<SocketAddr>,
    /// What it has said since it listens.
    said: Arc<Mutex<String>>,
}

impl Gateway {
    /// Starts a gateway with these settings, and waits until it listens.
    pub(crate) fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::run(command(settings, arguments))
    }

    /// The same, with a command that is made already.
    pub(crate) fn run(mut command: Command) -> Self {
        let has_admin = command
            .get_envs()
            .any(|(name, _)| name == "FLUXLIT_GATEWAY_ADMIN_ADDRESS");
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut log = BufReader::new(child.stderr.take().expect("a log"));
        let mut said = String::new();
        let mut wait_for = |start: &str| loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).expect("a log") > 0,
                "the gateway ended: {said}"
            );
            said.push_str(&line);
            if let Some((_, url)) = line.trim().split_once(start) {
                let (_, address) = url.split_once("://").expect("a URL");
                break address.parse::<SocketAddr>().expect("an address");
            }
        };
        let address = wait_for("listening on ");
        let admin = has_admin.then(|| wait_for("listening for operators on "));
        // Whoever writes to a full pipe waits for ever.
        let said = Arc::<Mutex<String>>::default();
        let all = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let mut all = all.lock().expect("no panic");
                all.push_str(&line);
                all.push('\n');
            }
        });
        Self {
            child,
            address,
            admin,
            said,
        }
    }

    /// What it has said since it listens.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
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
        let mut client = self.client();
        client.say(request);
        client.rest()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        self.client().stream.into_inner()
    }

    /// Whether the gateway has read all that a client has said: nothing waits at either end of the connection, proc(5).
    pub(crate) fn has_read(&self, client: &Client) -> bool {
        let client = client.stream.get_ref().local_addr().expect("an address");
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the list of sockets");
        let ends: Vec<bool> = sockets
            .lines()
            .filter_map(|line| {
                let [_, local, remote, _, queues, ..] =
                    line.split_whitespace().collect::<Vec<_>>()[..]
                else {
                    return None;
                };
                let ports = [local, remote].map(|end| {
                    let (_, port) = end.split_once(':')?;
                    u16::from_str_radix(port, 16).ok()
                });
                let is_of_client = ports == [self.address.port(), client.port()].map(Some)
                    || ports == [client.port(), self.address.port()].map(Some);
                is_of_client.then_some(queues == "00000000:00000000")
            })
            .collect();
        ends == [true, true]
    }

    /// Waits until no new connection is let in.
    pub(crate) fn lets_nobody_in(&self) -> bool {
        let moment = Duration::from_millis(50);
        eventually(|| TcpStream::connect_timeout(&self.address, moment).is_err())
    }

    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("an id");
        let id = rustix::process::Pid::from_raw(id).expect("an id");
        rustix::process::kill_process(id, signal).expect("the gateway runs");
    }

    /// What the system says of the process: a line of its status, in KiB.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a size")
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
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) head: Vec<String>,
}

impl Received {
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        lines(&self.head, name)
    }
}

/// What an upstream has received so far, but for health checks.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Received>>>);

impl Seen {
    /// The request lines.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.0.lock().expect("no panic");
        seen.iter()
            .map(|received| received.head[0].clone())
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Received {
        let seen = self.0.lock().expect("no panic");
        seen.last().cloned().expect("a request")
    }
}

/// Starts an upstream that remembers what it was asked, and answers with `answer` each time.
pub(crate) fn recording(answer: &str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let (all, answer) = (seen.clone(), answer.to_owned());
    let address = upstream(move |received, stream| {
        all.0.lock().expect("no panic").push(received.clone());
        // Whoever expects to be told to go on is not told so.
        if received.lines("expect").is_empty() && read_body(&received.head, stream).is_err() {
            return false;
        }
        say(stream, &answer);
        true
    });
    (address, seen)
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
    let _ = stream.get_mut().write_all(&octets(text));
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
