//! Tests the shutdown: requests in flight finish, and clients are moved to other connections.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fluxlit_support::wait::wait_until;
use rustix::process::Signal;

use crate::client::{Client, LIMIT};
use crate::operators::logging;
use crate::support::{Gateway, command, eventually, held, recording, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn not_ready_at_once_while_requests_in_flight_finish() {
    let (address, arrival, release) = held();
    let mut gateway =
        Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0")]);
    let admin = gateway.admin.unwrap();
    let readiness = || {
        let mut client = Client::try_new(admin).ok()?;
        client
            .try_send("GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n")
            .ok()?;
        client.try_response().ok()
    };
    assert_eq!(readiness().unwrap().status, 200);
    let mut client = gateway.client();
    client.send(GET);
    arrival.recv().unwrap();
    gateway.terminate();
    assert!(eventually(|| readiness().is_some_and(|answer| {
        answer.status == 503 && answer.body.contains("the gateway is stopping")
    })));
    release.send(()).unwrap();
    let answer = client.response();
    assert_eq!(answer.body, "ok");
    assert!(client.is_closed());
    assert_eq!(gateway.exit_code(), Some(0));
}

/// A load balancer opens a new connection for each check.
#[test]
fn connections_are_accepted_during_the_drain_delay() {
    let (address, _) = recording(OK);
    // The second signal ends it.
    let settings = [
        ("FLUXLIT_DRAIN_DELAY_S", "600"),
        ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "true"),
        ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "true"),
    ];
    let mut gateway = Gateway::in_front_of(address, &settings);
    let ask = |path: &str| {
        let mut client = gateway.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        client.response()
    };
    let stopping = "fluxlit_gateway_stopping_seconds";
    assert_eq!(ask("/api/readyz").status, 200);
    assert!(!ask("/__fluxlit/metrics").body.contains(stopping));
    gateway.terminate();
    assert!(eventually(|| ask("/api/readyz").status == 503));
    assert!(eventually(|| ask("/__fluxlit/metrics")
        .body
        .contains(stopping)));
    assert_eq!(ask("/").body, "ok");
    assert_eq!(ask("/api/healthz").status, 200);
    assert_eq!(gateway.exit_code_after(Signal::TERM), Some(1));
}

#[test]
fn connections_are_dropped_after_the_drain_delay() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_DRAIN_DELAY_S", "0.1")]);
    let mut client = gateway.client();
    client.send(GET);
    arrival.recv().unwrap();
    gateway.terminate();
    assert!(gateway.drops_new_connections());
    release.send(()).unwrap();
    assert_eq!(client.response().body, "ok");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn the_next_response_closes_a_connection_that_is_kept() {
    let (address, arrival, release) = held();
    let mut gateway = Gateway::in_front_of(address, &[]);
    let mut busy = gateway.client();
    let mut idle = gateway.client();
    idle.send("GET /api/healthz HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(idle.response().values("connection"), [""; 0]);
    busy.send(GET);
    arrival.recv().unwrap();
    gateway.terminate();
    assert!(gateway.drops_new_connections());
    idle.send("GET /api/readyz HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = idle.response();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.values("connection"), ["close"]);
    assert!(idle.is_closed());
    release.send(()).unwrap();
    assert_eq!(busy.response().status, 200);
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (address, arrival, _release) = held();
    let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_GRACE_PERIOD_S", "600")]);
    let mut client = gateway.client();
    client.send(GET);
    arrival.recv().unwrap();
    gateway.terminate();
    assert!(gateway.drops_new_connections());
    assert_eq!(gateway.exit_code_after(Signal::INT), Some(1));
    assert_eq!(client.rest(), "");
}

/// `timeout` of GNU signals its child and then the process group, to which the child belongs.
#[test]
fn two_signals_at_once_are_one() {
    for second in [Signal::TERM, Signal::INT] {
        let (address, arrival, release) = held();
        let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_GRACE_PERIOD_S", "600")]);
        let mut client = gateway.client();
        client.send(GET);
        arrival.recv().unwrap();
        let sent = Instant::now();
        gateway.terminate();
        assert!(gateway.drops_new_connections());
        let has_ended = wait_until(Duration::from_millis(300), || {
            let ended = gateway.child.try_wait().unwrap();
            // A machine that is too slow for the test proves nothing.
            if ended.is_none() && sent.elapsed() < Duration::from_millis(900) {
                gateway.signal(second);
            }
            ended.is_some()
        });
        assert!(!has_ended, "{}", gateway.log());
        release.send(()).unwrap();
        assert_eq!(client.response().status, 200);
        assert_eq!(gateway.exit_code(), Some(0));
    }
}

#[test]
fn requests_are_cut_off_after_the_grace_period() {
    let (address, arrival, _release) = held();
    let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_GRACE_PERIOD_S", "0.2")]);
    let mut client = gateway.client();
    client.send(GET);
    arrival.recv().unwrap();
    gateway.terminate();
    assert_eq!(client.rest(), "", "the request is cut off");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_request_that_is_cut_off_is_logged() {
    let (arrived, arrival) = mpsc::channel();
    let address = upstream(move |received, stream| {
        let answer = match received.head[0].as_str() {
            "GET /hangs HTTP/1.1" => String::new(),
            "GET /goes-on HTTP/1.1" => {
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned()
            }
            // A frame that never ends, so that the gateway cannot insert a close frame.
            _ => format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {ACCEPT}\r\n\r\n\u{82}\u{7}half"
            ),
        };
        write(stream, &answer);
        arrived.send(()).unwrap();
        let _ = stream.read(&mut [0]);
        false
    });
    let (mut gateway, mut log) = logging(address, &[("FLUXLIT_GRACE_PERIOD_S", "0.5")]);
    let mut clients = Vec::new();
    for (request, sent) in [
        ("GET /hangs HTTP/1.1\r\nhost: a\r\n\r\n", 0),
        ("GET /goes-on HTTP/1.1\r\nhost: a\r\n\r\n", 4),
        (&handshake(""), 6),
    ] {
        let mut client = gateway.client();
        client.send(request);
        arrival.recv().unwrap();
        if sent > 0 {
            client.response_head().unwrap();
            client.stream.read_exact(&mut vec![0; sent]).unwrap();
        }
        clients.push(client);
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).unwrap();
    for (path, status, sent) in [
        ("/hangs", 0, 0),
        ("/goes-on", 200, 4),
        ("/_stcore/stream", 101, 6),
    ] {
        let line = lines.lines().find(|line| line.contains(path));
        let line: serde_json::Value = serde_json::from_str(line.unwrap_or_default()).unwrap();
        assert_eq!(line["ending"], "drained", "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["sent_bytes"], sent, "{line}");
    }
}

/// Clients that send requests continuously, on kept and on new connections, and record failures. Only a refused connection
/// is retried.
struct Clients {
    has_ended: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let has_ended = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let threads = (0..4)
            .map(|number| {
                let (has_ended, answered) = (Arc::clone(&has_ended), Arc::clone(&answered));
                thread::spawn(move || {
                    let mut failures = Vec::new();
                    let mut open = None;
                    while !has_ended.load(Ordering::SeqCst) {
                        match ask(address, open.take()) {
                            Ok(client) => {
                                answered.fetch_add(1, Ordering::SeqCst);
                                // Half of the clients use each connection only once.
                                open = client.filter(|_| number % 2 == 0);
                            }
                            Err(failure) => failures.extend(failure),
                        }
                    }
                    failures
                })
            })
            .collect();
        Self {
            has_ended,
            answered,
            threads,
        }
    }

    fn responses(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits for many more responses.
    fn wait_for_more(&self) {
        let before = self.responses();
        assert!(eventually(|| self.responses() > before + 200));
    }

    fn end(self) -> Vec<String> {
        self.has_ended.store(true, Ordering::SeqCst);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    }
}

/// Sends one request; returns the connection if it stays open, and `None` if the connection was refused.
fn ask(address: SocketAddr, open: Option<Client>) -> Result<Option<Client>, Option<String>> {
    let is_new = open.is_none();
    let failed = |what: &str, error: io::Error| Some(format!("{what}, new: {is_new}: {error}"));
    let mut client = match open.map_or_else(|| Client::try_new(address), Ok) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(None),
        client => client.map_err(|error| failed("connect", error))?,
    };
    client
        .try_send(GET)
        .map_err(|error| failed("write", error))?;
    let answer = client
        .try_response()
        .map_err(|error| failed("read", error))?;
    if answer.status != 200 || answer.body != "ok" {
        return Err(Some(format!("{answer:?}")));
    }
    Ok(Some(client).filter(|_| answer.values("connection") != ["close"]))
}

#[test]
fn no_request_fails_when_the_gateway_stops() {
    let (address, _) = recording(OK);
    let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_GATEWAY_WORKERS", "2")]);
    let clients = Clients::start(gateway.address);
    clients.wait_for_more();
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    assert_eq!(clients.end(), [""; 0]);
}

#[test]
fn another_process_takes_over_and_no_request_fails() {
    let (address, _) = recording(OK);
    let reuse = ("FLUXLIT_GATEWAY_REUSE_PORT", "1");
    let mut first = Gateway::in_front_of(address, &[reuse]);
    let clients = Clients::start(first.address);
    clients.wait_for_more();
    for _ in 0..3 {
        let upstream = format!("http://{address}");
        let port = first.address.port().to_string();
        let second = Gateway::run(command(
            &[
                reuse,
                ("FLUXLIT_GATEWAY_PORT", &port),
                ("FLUXLIT_STREAMLIT_UPSTREAM", &upstream),
            ],
            &[],
        ));
        clients.wait_for_more();
        first.terminate();
        assert_eq!(first.exit_code(), Some(0));
        clients.wait_for_more();
        first = second;
    }
    assert_eq!(clients.end(), [""; 0]);
}

/// A close frame with code 1012, Service Restart (RFC 6455 §5.5.1 and its registry).
const RESTART: &str = "\u{88}\u{2}\u{3}\u{f4}";

#[test]
fn a_websocket_receives_a_close_frame_between_two_frames() {
    const LARGE: usize = 3 << 20;
    // The bytes that the app has sent when the gateway receives the signal, and those that it sends after that.
    let large = |length: usize| {
        let head = "\u{82}\u{7f}\0\0\0\0\0\u{30}\0\0".to_owned();
        head + &"x".repeat(length)
    };
    let text = "\u{81}\u{2}hi".to_owned();
    for (before, after) in [
        (String::new(), String::new()),
        (text.clone(), String::new()),
        (text.clone() + "\u{81}", "\u{2}hi".to_owned()),
        (large(LARGE - 10), "x".repeat(10)),
        (large(10), "x".repeat(LARGE - 10)),
    ] {
        let (go_on, signal) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        let (signal, sent) = (Mutex::new(signal), (before.clone(), after.clone()));
        let address = upstream(move |_, stream| {
            let (before, after) = &sent;
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n{before}"
                ),
            );
            signal.lock().unwrap().recv().unwrap();
            write(stream, after);
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            ended.send(got).unwrap();
            false
        });
        let mut gateway = Gateway::in_front_of(address, &[("FLUXLIT_GRACE_PERIOD_S", "600")]);
        let mut client = gateway.client();
        client.send(&handshake(""));
        assert_eq!(client.response_head().unwrap().status, 101);
        let mut got = vec![0; before.chars().count()];
        client.stream.read_exact(&mut got).unwrap();
        gateway.terminate();
        assert!(gateway.drops_new_connections());
        go_on.send(()).unwrap();
        let mut rest = vec![0; after.chars().count() + RESTART.chars().count()];
        client.stream.read_exact(&mut rest).unwrap();
        let rest = crate::client::text(&rest);
        assert!(
            rest == after.clone() + RESTART,
            "{:?} ends with {:?}",
            &before.chars().take(12).collect::<String>(),
            rest.chars().rev().take(12).collect::<String>()
        );
        // The browser confirms, and both connections end.
        client.send("\u{88}\u{82}\0\0\0\0\u{3}\u{f4}");
        client
            .stream
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
        assert!(client.is_closed());
        let said = end.recv_timeout(LIMIT).unwrap();
        assert_eq!(
            said, b"\x88\x82\0\0\0\0\x03\xf4",
            "the app receives the client's close frame"
        );
        assert_eq!(gateway.exit_code(), Some(0));
    }
}

/// An app that sends frame after frame may never pause between two of them: here each write ends within a frame.
#[test]
fn a_busy_websocket_receives_a_close_frame() {
    for size in [1000u16, 16_384, 60_000] {
        let [high, low] = size.to_be_bytes();
        let header = [0x82, 126, high, low];
        let frame = [&header[..], &vec![b'x'; usize::from(size)]].concat();
        let (start, end) = frame.split_at(100);
        let (go_on, signal) = mpsc::channel::<()>();
        let signal = Mutex::new(signal);
        let (first, next) = (start.to_vec(), [end, start].concat());
        let address = upstream(move |_, stream| {
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n"
                ),
            );
            let mut sent = stream.get_mut().write_all(&first);
            while sent.is_ok() && signal.lock().unwrap().recv().is_ok() {
                sent = stream.get_mut().write_all(&next);
            }
            false
        });
        let gateway = Gateway::in_front_of(address, &[("FLUXLIT_GRACE_PERIOD_S", "600")]);
        let mut client = gateway.client();
        client.send(&handshake(""));
        assert_eq!(client.response_head().unwrap().status, 101);
        let mut got = vec![0; frame.len()];
        client.stream.read_exact(&mut got[..start.len()]).unwrap();
        gateway.terminate();
        let has_ended = eventually(|| {
            go_on.send(()).unwrap();
            client.stream.read_exact(&mut got[start.len()..]).unwrap();
            assert!(got == frame, "a frame of {size} bytes is not interrupted");
            client.stream.read_exact(&mut got[..4]).unwrap();
            if got[..4] == [0x88, 2, 0x03, 0xf4] {
                return true;
            }
            client.stream.read_exact(&mut got[4..start.len()]).unwrap();
            false
        });
        assert!(has_ended, "{size}");
        assert!(client.is_closed(), "nothing follows the close frame");
    }
}
