//! Runs the self-tests of an app (D12, D17) with a program in the place of the gateway that has the fault which they look for.
//!
//! What needs a real Streamlit is in `system/tests/doctor_inside.rs`.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use fluxlit_doctor::app::{self, Depth, Limits, Options, Subject};
use fluxlit_doctor::fluxlit::Facts;
use fluxlit_doctor::{CheckSelection, Finding, Status};
use fluxlit_support::client::Client;
use fluxlit_support::http1;
use fluxlit_support::upstream;

/// The fault of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It sends the cookies that one client has received for all others.
    SharesCookies,
    /// It ends WebSockets with these octets after the response to the handshake.
    EndsSockets(&'static [u8]),
}

/// A program that looks like the gateway from outside. Dropping it ends what it has left.
struct Faulty {
    folder: tempfile::TempDir,
}

impl Faulty {
    /// `child`: what the program starts and leaves.
    fn create(fault: Fault, child: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().to_owned();
        let cookies = Mutex::new(String::new());
        let address = upstream::serve(move |reader: &mut BufReader<TcpStream>| {
            // A client that has gone needs no response.
            let _ = respond(fault, reader, &own, &cookies);
        })
        .expect("a port");
        let faulty = Self { folder };
        let script = format!(
            "#!/bin/sh\necho \"$FLUXLIT_STREAMLIT_UPSTREAM\" > {own}/upstream\n{child}\n\
             echo 'listening on http://{address}' >&2\n\
             exec tail --pid={process} -f /dev/null\n",
            own = faulty.folder.path().display(),
            child = child
                .replace("OWN", &faulty.folder.path().display().to_string())
                .replace("PORT", &address.port().to_string())
                .replace("PROCESS", &std::process::id().to_string()),
            process = std::process::id(),
        );
        std::fs::write(faulty.program(), script).expect("a file");
        std::fs::set_permissions(faulty.program(), std::fs::Permissions::from_mode(0o755))
            .expect("an executable");
        faulty
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("gateway")
    }

    fn children(&self) -> Vec<String> {
        let list = std::fs::read_to_string(self.folder.path().join("children"));
        list.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Runs a check.
    fn findings(&self, checks: &[&str]) -> Vec<Finding> {
        let subject = Subject {
            program: self.program(),
            app: vec!["app.py".to_owned()],
            settings: Vec::new(),
            policy: serde_json::Map::new(),
            streamlit: None,
            authority: String::new(),
            base: String::new(),
            mount: String::new(),
            public: None,
            limits: Limits {
                websocket_line_bytes: 8192,
                websocket_fields: 100,
                fields: 100,
                body_bytes: 0,
                websocket_idle: Duration::ZERO,
            },
            streamlit_command: String::new(),
            options: Options::default(),
            api: "/api".to_owned(),
            warnings: Vec::new(),
        };
        let checks: Vec<String> = checks.iter().map(|check| (*check).to_owned()).collect();
        let selection = CheckSelection::new(&checks, &[]).expect("checks");
        let depth = Depth {
            page: false,
            slow: true,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(app::run(
            &subject,
            &Facts::default(),
            depth,
            &selection,
            |_| {},
        ))
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        for child in self.children() {
            // It may have ended.
            let _ = Command::new("kill").arg(child).status();
        }
    }
}

/// Responds once.
fn respond(
    fault: Fault,
    reader: &mut BufReader<TcpStream>,
    folder: &Path,
    cookies: &Mutex<String>,
) -> std::io::Result<()> {
    let Some(head) = http1::read_head_blocking(reader)? else {
        return Ok(());
    };
    let is_handshake = head.values("upgrade").contains(&"websocket");
    let response = match fault {
        Fault::EndsSockets(end) if is_handshake => [
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            end,
        ]
        .concat(),
        Fault::EndsSockets(_) => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        Fault::SharesCookies => forward(folder, cookies)?.into_bytes(),
    };
    reader.get_mut().write_all(&response)
}

/// Sends the upstream a request with the cookies of all clients; returns the response.
fn forward(folder: &Path, cookies: &Mutex<String>) -> std::io::Result<String> {
    let upstream = std::fs::read_to_string(folder.join("upstream"))?;
    let address = upstream.trim().trim_start_matches("http://");
    let mut client = Client::connect(address.parse().map_err(std::io::Error::other)?)?;
    let mut cookies = cookies.lock().expect("no panic");
    client.send(&format!(
        "GET / HTTP/1.1\r\nHost: upstream\r\n{cookies}\r\n"
    ))?;
    let response = client.response("GET")?;
    let line = response.values("set-cookie").concat();
    let pair = line.split(';').next().unwrap_or_default();
    *cookies = format!("Cookie: {pair}\r\n");
    Ok(format!(
        "HTTP/1.1 200 OK\r\nSet-Cookie: {line}\r\nContent-Length: 0\r\n\r\n"
    ))
}

/// A fault, and what is found.
struct Row {
    fault: Fault,
    /// What the program starts and leaves, and the checks that run.
    child: &'static str,
    checks: &'static [&'static str],
    check: &'static str,
    says: &'static str,
}

/// `tail` ends with this test at the latest, and names a port as the command line of Streamlit does.
const CHILD: &str =
    "tail --pid=PROCESS -f -- /dev/null --server.port=PORT 2> /dev/null &\necho $! >> OWN/children";

#[rustfmt::skip]
const ROWS: [Row; 4] = [
    Row { fault: Fault::SharesCookies, child: "", checks: &["D12"], check: "D12", says: "client B's request carried the cookie `doctor-session`, which only client A received" },
    Row { fault: Fault::EndsSockets(b""), child: "", checks: &["D17"], check: "D17", says: "a WebSocket ended without a close frame instead of with 1012" },
    Row { fault: Fault::EndsSockets(b"\x88\x02\x03\xe8"), child: "", checks: &["D17"], check: "D17", says: "a WebSocket ended with 1000 instead of with 1012" },
    // D02 starts the app.
    Row { fault: Fault::EndsSockets(b""), child: CHILD, checks: &["D02", "D17"], check: "D17", says: "processes are left after the gateway has stopped" },
];

#[test]
fn a_fault_of_the_gateway_is_named() {
    for row in ROWS {
        let faulty = Faulty::create(row.fault, row.child);
        let findings = faulty.findings(row.checks);
        let found = findings.iter().find(|finding| {
            finding.check.id == row.check
                && finding.status == Status::Fail
                && finding.finding.contains(row.says)
        });
        let Some(found) = found else {
            panic!("{:?}: {:?} is not in {findings:#?}", row.fault, row.says);
        };
        let hint = found.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("fault of the gateway"), "{hint}");
    }
}
