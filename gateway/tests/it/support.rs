//! Runs a gateway process, and scripted upstreams.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use fluxlit_support::wait::{wait_for, wait_until};

use crate::client::{Client, LIMIT, bytes, read_body, values};

pub(crate) use crate::client::head;

/// A running gateway. Dropping it kills the process.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// The address of the admin listener, if there is one.
    pub(crate) admin: Option<SocketAddr>,
    /// The log since the gateway started to listen.
    log: Arc<Mutex<String>>,
}

impl Gateway {
    /// Waits until the process has ended, and returns its exit code; `None` if a signal ended it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        wait_for(LIMIT, || self.child.try_wait().unwrap())
            .unwrap_or_else(|| panic!("the gateway has not ended after {LIMIT:?}"))
            .code()
    }

    /// Sends a signal until the process has ended, because the gateway ignores one that follows another within a second.
    pub(crate) fn exit_code_after(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        wait_for(LIMIT, || {
            let ended = self.child.try_wait().unwrap();
            if ended.is_none() {
                self.signal(signal);
            }
            ended
        })
        .unwrap_or_else(|| panic!("the gateway has not ended after {LIMIT:?}"))
        .code()
    }

    /// Starts a gateway with these settings, and waits until it listens.
    pub(crate) fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::run(command(settings, arguments))
    }

    /// Starts a gateway with this command, and waits until it listens.
    pub(crate) fn run(mut command: Command) -> Self {
        let has_admin = command
            .get_envs()
            .any(|(name, _)| name == "FLUXLIT_GATEWAY_ADMIN_ADDRESS");
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut log = BufReader::new(child.stderr.take().expect("a log"));
        let mut lines = String::new();
        let mut address_after = |start: &str| loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).expect("a log") > 0,
                "the gateway ended: {lines}"
            );
            lines.push_str(&line);
            if let Some((_, url)) = line.trim().split_once(start) {
                let (_, address) = url.split_once("://").expect("a URL");
                break address.parse::<SocketAddr>().expect("an address");
            }
        };
        let address = address_after("listening on ");
        let admin = has_admin.then(|| address_after("listening for operators on "));
        // Read the log continuously, because the gateway would block on a full pipe.
        let kept = Arc::<Mutex<String>>::default();
        let all = Arc::clone(&kept);
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
            log: kept,
        }
    }

    /// Returns the log since the gateway started to listen.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Starts a gateway in front of `upstream` and waits until it is ready.
    pub(crate) fn in_front_of(upstream: SocketAddr, settings: &[(&str, &str)]) -> Self {
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

    /// Requests a path on a new connection, and returns all that was received.
    pub(crate) fn get(&self, path: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n"
        ))
    }

    /// Sends a request on a new connection, and returns all that was received until it was closed.
    pub(crate) fn send(&self, request: &str) -> String {
        let mut client = self.client();
        client.send(request);
        client.rest()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        self.client().stream.into_inner()
    }

    /// Returns true if the gateway has read all that a client has sent: both queues of the connection are empty, proc(5).
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

    /// Waits until new connections are dropped or refused.
    pub(crate) fn drops_new_connections(&self) -> bool {
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

    /// Returns a value in KiB from the status of the process, proc(5).
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

/// Returns the command of a gateway with these settings and no other environment.
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
    /// Returns the values of the field lines with this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

/// The requests that an upstream has received, without health checks.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Vec<Received>>>);

impl Requests {
    /// Returns the request lines.
    pub(crate) fn requests(&self) -> Vec<String> {
        let seen = self.0.lock().expect("no panic");
        seen.iter()
            .map(|received| received.head[0].clone())
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// Returns the last request.
    pub(crate) fn last(&self) -> Received {
        let seen = self.0.lock().expect("no panic");
        seen.last().cloned().expect("a request")
    }
}

/// Starts an upstream that records requests, and sends `response` each time.
pub(crate) fn recording(response: &str) -> (SocketAddr, Requests) {
    let seen = Requests::default();
    let (all, response) = (seen.clone(), response.to_owned());
    let address = upstream(move |received, stream| {
        all.0.lock().expect("no panic").push(received.clone());
        // There is no `100 Continue`, so the body of such a request is not read.
        if received.values("expect").is_empty() && read_body(&received.head, stream).is_err() {
            return false;
        }
        write(stream, &response);
        true
    });
    (address, seen)
}

/// Starts an upstream that responds `ok` to the gateway's health checks. For any other request it calls `respond`, which
/// reads and writes the connection itself, and returns true if the connection stays open.
pub(crate) fn upstream(
    respond: impl Fn(&Received, &mut BufReader<TcpStream>) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let serve = move |stream: &mut BufReader<TcpStream>| {
        loop {
            let received = Received { head: head(stream) };
            if received.head.is_empty() {
                return;
            }
            let stays_open = if received.values("user-agent") == ["fluxlit-gateway-probe"] {
                write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                true
            } else {
                respond(&received, stream)
            };
            if !stays_open {
                return;
            }
        }
    };
    fluxlit_support::upstream::serve(serve).expect("a free port")
}

/// Starts an upstream that reports the first line of each request, and sends `ok` when the test releases the request.
pub(crate) fn held() -> (SocketAddr, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let (arrived, arrival) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let address = upstream(move |received, stream| {
        arrived.send(received.head[0].clone()).unwrap();
        // An error if the test has ended.
        let _ = released.lock().unwrap().recv();
        write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        true
    });
    (address, arrival, release)
}

/// Writes to the other side, which may have closed the connection.
pub(crate) fn write(stream: &mut BufReader<TcpStream>, text: &str) {
    let _ = stream.get_mut().write_all(&bytes(text));
}

/// Waits until `condition` is true, for at most [`LIMIT`].
pub(crate) fn eventually(condition: impl FnMut() -> bool) -> bool {
    wait_until(LIMIT, condition)
}
