//! Tests what the doctor prints while a check takes long, and its exit codes when it checks files.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use fluxlit_support::{http1, upstream};

/// Holds responses back until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let is_open = self.is_open.lock().expect("no panic");
        let is_closed = |is_open: &mut bool| !*is_open;
        drop(self.opened.wait_while(is_open, is_closed));
    }

    fn open(&self) {
        *self.is_open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }
}

/// Starts a server that answers 404 to everything. Requests for paths that end like this have to pass the gate.
fn serve(held: &'static str, gate: &Arc<Gate>) -> SocketAddr {
    let gate = Arc::clone(gate);
    upstream::serve(move |reader: &mut BufReader<TcpStream>| {
        let Ok(Some(head)) = http1::read_head_blocking(reader) else {
            return;
        };
        if head.word(1).ends_with(held) {
            gate.pass();
        }
        let response = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = reader.get_mut().write_all(response);
    })
    .expect("a port")
}

/// The server answers when the program has said what it waits for.
#[test]
fn standard_error_names_a_check_that_takes_more_than_two_seconds() {
    let bootstrap = shipped("bootstrap.yaml");
    #[rustfmt::skip]
    let rows = [
        ("/_stcore/metrics", &["--only", "P23", "--probe", "http://ADDRESS/apps/my-app/"][..], "P23 exposure: no internal page is reachable from outside ..."),
        ("/stats", &["--only", "F05", "--admin", "ADDRESS", "--lint", &bootstrap], "F05 live: the filter's counters move with the requests (--admin) ..."),
    ];
    for (held, arguments, line) in rows {
        let gate: Arc<Gate> = Arc::default();
        let address = serve(held, &gate).to_string();
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("ADDRESS", &address));
        let mut program = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .env_clear()
            .arg("doctor")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut errors = BufReader::new(program.stderr.take().expect("a pipe"));
        let mut first = String::new();
        errors.read_line(&mut first).expect("a line");
        gate.open();
        let mut rest = String::new();
        errors.read_to_string(&mut rest).expect("text");
        let output = program.wait_with_output().expect("the program ends");
        assert_eq!((first.trim_end(), &*rest), (line, ""), "{output:?}");
        assert!(
            output.status.code().is_some_and(|code| code < 2),
            "{output:?}"
        );
    }
}

#[test]
fn a_file_that_concerns_no_check_is_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.yaml");
    let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}";
    std::fs::write(&other, text).expect("a file");
    let other = other.to_str().expect("UTF-8").to_owned();
    let bootstrap = shipped("bootstrap.yaml");
    let plugin = shipped("istio/wasmplugin.yaml");
    let nothing = "0 passed, 0 warnings, 0 failed, 8 skipped: nothing could be checked\n";
    #[rustfmt::skip]
    let rows = [
        (&["--lint", &other][..], 1, nothing),
        (&["--strict", "--lint", &other], 1, nothing),
        (&["--warnings-only", "--lint", &other], 0, nothing),
        (&["--lint", &other, &bootstrap], 0, "7 passed, 0 warnings, 0 failed, 1 skipped\n"),
        // Manifests do not tell what Envoy's own responses have.
        (&["--only", "F06", "--lint", &plugin], 1, "0 passed, 0 warnings, 0 failed, 1 skipped: nothing could be checked\n"),
    ];
    for (arguments, code, end) in rows {
        let output = Command::new(env!("CARGO_BIN_EXE_fluxlit-gateway"))
            .env_clear()
            .arg("doctor")
            .args(arguments)
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.ends_with(end), "{arguments:?}: {text}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
}

/// Returns the path of a file in the folder `envoy`.
fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}
