//! Tests the reload of the settings on SIGHUP, with requests and a WebSocket in flight.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use fluxlit_support::wait::wait_until;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, Response, head};
use crate::support::{Gateway, command, recording, upstream, write};
use crate::tunnel::{ACCEPT, handshake};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ADMIN: (&str, &str) = ("FLUXLIT_GATEWAY_ADMIN_ADDRESS", "127.0.0.1:0");
const METRICS: (&str, &str) = ("FLUXLIT_ENABLE_GATEWAY_PROMETHEUS_METRICS", "1");

/// A gateway with a settings file.
struct Reloading {
    gateway: Gateway,
    folder: TempDir,
}

impl Reloading {
    fn start(upstream: SocketAddr, file: &str) -> Self {
        Self::with(upstream, file, Stdio::null())
    }

    fn with(upstream: SocketAddr, file: &str, log: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), file);
        let url = format!("http://{upstream}");
        let mut command = command(
            &[
                ("FLUXLIT_STREAMLIT_UPSTREAM", &url),
                ADMIN,
                METRICS,
                ("FLUXLIT_GATEWAY_WORKERS", "2"),
                // A slow machine must not lose what the test keeps open.
                ("FLUXLIT_GATEWAY_HEADER_READ_TIMEOUT_S", "3600"),
                ("FLUXLIT_GATEWAY_KEEPALIVE_TIMEOUT_S", "3600"),
                ("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "3600"),
            ],
            &[],
        );
        command.current_dir(folder.path()).stdout(log);
        let gateway = Gateway::run(command);
        let started = Self { gateway, folder };
        started.until("the gateway is ready", || {
            started
                .gateway
                .get("/api/readyz")
                .starts_with("HTTP/1.1 200")
        });
        started
    }

    /// Writes another settings file, and waits until the gateway has counted `result` for the `count`th time.
    fn reload(&self, file: &str, result: &str, count: u32) {
        put(self.folder.path(), file);
        self.gateway.signal(Signal::HUP);
        let line = format!(r#"fluxlit_gateway_config_reloads_total{{result="{result}"}} {count}"#);
        self.until(&line, || self.metrics().lines().any(|found| found == line));
    }

    fn metrics(&self) -> String {
        let mut client = Client::new(self.gateway.admin.unwrap());
        client.send("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
        client.response().body
    }

    fn metric(&self, name: &str) -> String {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with(name)).expect(name);
        line.to_owned()
    }

    fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        let log = || self.gateway.log();
        assert!(wait_until(LIMIT, condition), "{what}: {}", log());
    }
}

fn put(folder: &Path, text: &str) {
    let new = folder.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join("fluxlit.toml")).unwrap();
}

/// Returns a connection that has had a response.
fn used(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    assert_eq!(get(&mut client, "/").status, 200);
    client
}

fn get(client: &mut Client, path: &str) -> Response {
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client.response()
}

fn is_protected(response: &Response) -> bool {
    response.values("x-frame-options") == ["SAMEORIGIN"]
}

#[test]
fn new_requests_have_the_new_settings_and_those_in_flight_the_old_ones() {
    let (arrived, arrival) = mpsc::channel::<()>();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let address = upstream(move |received, stream| {
        let line = received.head[0].as_str();
        if line.contains("/_stcore/stream") {
            write(
                stream,
                &format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-accept: {ACCEPT}\r\n\r\n"
                ),
            );
            let mut octet = [0];
            while let Ok(1) = stream.read(&mut octet) {
                let _ = stream.get_mut().write_all(&octet);
            }
            return false;
        }
        if line.contains("/slow") {
            arrived.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
        write(stream, OK);
        true
    });
    let started = Reloading::start(address, "");
    let gateway = &started.gateway;
    let hash = started.metric("fluxlit_gateway_config_info{");

    let mut kept = gateway.client();
    assert!(!is_protected(&get(&mut kept, "/")));
    let mut socket = gateway.connect();
    socket.write_all(handshake("").as_bytes()).unwrap();
    let mut from_app = BufReader::new(socket.try_clone().unwrap());
    assert!(head(&mut from_app)[0].contains("101"));
    let mut slow = gateway.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    arrival.recv().unwrap();

    started.reload(
        "security_headers = true\ngateway_max_target_bytes = 64\n",
        "success",
        1,
    );
    // A worker gets the settings a moment later.
    started.until("new connections have the new settings", || {
        // Often enough to reach both workers.
        (0..8).all(|_| is_protected(&get(&mut gateway.client(), "/")))
    });
    started.until("open connections have them too", || {
        is_protected(&get(&mut kept, "/"))
    });
    let long = format!("/{}", "x".repeat(64));
    assert_eq!(get(&mut kept, &long).status, 414);
    assert_ne!(started.metric("fluxlit_gateway_config_info{"), hash);
    let log = gateway.log();
    for text in [
        "the settings were reloaded: ",
        "FLUXLIT_GATEWAY_MAX_TARGET_BYTES",
        "FLUXLIT_SECURITY_HEADERS",
    ] {
        assert!(log.contains(text), "{text} is missing in {log}");
    }

    release.send(()).unwrap();
    let response = slow.response();
    assert_eq!((response.status, response.body.as_str()), (200, "ok"));
    assert!(!is_protected(&response), "it began with the old settings");
    assert!(is_protected(&get(&mut slow, "/")), "the connection stays");
    for octet in *b"still open" {
        socket.write_all(&[octet]).unwrap();
        let mut echoed = [0];
        from_app.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, [octet]);
    }
}

#[test]
fn wrong_settings_change_nothing_and_every_fault_is_logged() {
    let (address, _) = recording(OK);
    let started = Reloading::start(address, "security_headers = true\n");
    let gateway = &started.gateway;
    let successful = "fluxlit_gateway_config_last_reload_successful";
    assert_eq!(started.metric(successful), format!("{successful} 1"));
    let hash = started.metric("fluxlit_gateway_config_info{");
    let mut client = gateway.client();

    let wrong = "security_headers = false\nroot_path = \"/a b\"\nrootpath = \"/a\"\nhsts = =\n";
    started.reload(wrong, "failure", 1);
    assert_eq!(started.metric(successful), format!("{successful} 0"));
    assert_eq!(started.metric("fluxlit_gateway_config_info{"), hash);
    assert!(is_protected(&get(&mut client, "/")));
    for text in [
        "the settings were not reloaded, and the old ones stay in use",
        "E12: root_path",
        "FLUXLIT_ROOT_PATH is from fluxlit.toml:2",
        "fluxlit.toml:3: `rootpath` is not a setting",
        "fluxlit.toml:4: not valid TOML",
    ] {
        started.until(text, || gateway.log().contains(text));
    }

    started.reload("security_headers = false\n", "success", 1);
    assert_eq!(started.metric(successful), format!("{successful} 1"));
    started.until("the settings are mended", || {
        !is_protected(&get(&mut client, "/"))
    });
}

#[test]
fn what_needs_a_restart_is_named() {
    let (address, _) = recording(OK);
    let started = Reloading::start(address, "");
    started.reload(
        "gateway_host = \"127.0.0.2\"\nstreamlit_command = \"other\"\nsecurity_headers = true\n",
        "success",
        1,
    );
    let text = "these changes take effect when the gateway is restarted: FLUXLIT_GATEWAY_HOST, FLUXLIT_STREAMLIT_COMMAND";
    started.until(text, || started.gateway.log().contains(text));
    started.until("the other settings are used", || {
        is_protected(&get(&mut started.gateway.client(), "/"))
    });
}

#[test]
fn the_access_log_is_switched_on_by_a_reload() {
    let (address, _) = recording(OK);
    let log = tempfile::NamedTempFile::new().unwrap();
    let started = Reloading::with(address, "", log.reopen().unwrap().into());
    started.reload(
        "enable_gateway_access_log = true\ngateway_access_log_format = \"text\"\n",
        "success",
        1,
    );
    started.until("requests are logged", || {
        let _ = get(&mut started.gateway.client(), "/logged");
        let lines = std::fs::read_to_string(log.path()).unwrap();
        lines.contains("path=\"/logged\"")
    });
}

#[test]
fn limits_of_connections_change() {
    let (address, _) = recording(OK);
    let started = Reloading::start(address, "");
    // Without a response, a connection may still wait to be accepted, and the new limit would apply to it.
    let held: Vec<Client> = (0..3).map(|_| used(&started.gateway)).collect();
    started.reload("gateway_max_connections_per_peer = 1\n", "success", 1);
    started.until("further connections are rejected", || {
        started.gateway.get("/").starts_with("HTTP/1.1 503")
    });
    started.reload("gateway_max_connections_per_peer = 100\n", "success", 2);
    started.until("further connections are accepted", || {
        started.gateway.get("/").starts_with("HTTP/1.1 200")
    });
    drop(held);
}

const LIMIT: Duration = Duration::from_secs(60);
