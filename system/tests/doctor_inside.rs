//! Runs `fluxlit-gateway doctor` on a real Streamlit, healthy and with one thing broken, and on configurations of a real Envoy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fluxlit_doctor::APP;
use fluxlit_envoy::{Bootstrap, Streamlit};
use fluxlit_support::certificate::Certificate;
use fluxlit_support::client::get;
use fluxlit_support::envoy::Envoy;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::service::Service;
use fluxlit_support::upstream::serve;
use fluxlit_system::{app, named};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use serde_json::{Value, json};

/// The result of a run: the exit code, and the status and sentence of each finding by the id of its check.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    findings: Vec<(String, String, String)>,
}

impl Run {
    /// Returns the findings that are not `PASS` or `SKIPPED`.
    fn problems(&self) -> Vec<&(String, String, String)> {
        let is_problem = |status: &str| status == "WARN" || status == "FAIL";
        self.findings
            .iter()
            .filter(|(_, status, _)| is_problem(status))
            .collect()
    }

    fn status(&self, check: &str) -> Vec<&str> {
        let of_check = self.findings.iter().filter(|(id, ..)| id == check);
        of_check.map(|(_, status, _)| status.as_str()).collect()
    }

    #[track_caller]
    fn check(&self, name: &str, check: &str, status: &str, says: &str) {
        assert!(
            self.findings.iter().any(|(id, found, sentence)| id == check
                && found == status
                && sentence.contains(says)),
            "{name}: {check} {status} {says:?} is not in {self:#?}"
        );
    }
}

/// Runs the doctor in this folder, with these variables as the only settings.
#[track_caller]
fn doctor(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Run {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    // The variables of the tests look like misspelt settings.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLUXLIT_") {
            command.env_remove(name);
        }
    }
    let output = command
        .arg("doctor")
        .args(arguments)
        .arg("--json")
        .current_dir(folder)
        // Streamlit reads a configuration file there.
        .env("HOME", folder)
        .env("FLUXLIT_STREAMLIT_COMMAND", named("FLUXLIT_TEST_STREAMLIT"))
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the program runs");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("a list");
    Run {
        code: output.status.code(),
        findings: checks
            .iter()
            .map(|check| {
                (
                    text(&check["id"]),
                    text(&check["status"]),
                    text(&check["detail"]),
                )
            })
            .collect(),
    }
}

fn folder_with_app() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let app = folder.path().join("app.py");
    std::fs::write(&app, "import streamlit as st\nst.write('hello')\n").expect("a file");
    (folder, app)
}

/// Starts the app under a Streamlit with these options.
fn streamlit(app: &Path, folder: &Path, base: &str, options: &[&str]) -> Streamlit {
    Streamlit::start(&named("FLUXLIT_TEST_STREAMLIT"), app, base, options, folder)
        .expect("Streamlit")
}

#[test]
fn a_healthy_app_gives_no_finding() {
    let (folder, app) = folder_with_app();
    let app = app.to_str().expect("a path");
    let run = doctor(folder.path(), &[app, "--page"], &[]);
    assert_eq!(run.problems(), Vec::<&(String, String, String)>::new());
    assert_eq!(run.code, Some(0));
    for check in HEALTHY {
        assert_eq!(run.status(check), ["PASS"], "{check}: {run:#?}");
    }
    for check in ["D09", "D14", "D17"] {
        assert_eq!(run.status(check), ["SKIPPED"], "{check}");
    }
}

#[test]
fn a_healthy_app_under_a_mount_gives_no_finding() {
    let (folder, app) = folder_with_app();
    let streamlit = streamlit(&app, folder.path(), "/apps/my-app", &[]);
    let settings = [
        ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
        ("FLUXLIT_STREAMLIT_UPSTREAM", &streamlit.url()),
        ("FLUXLIT_TRUST_PROXY", "true"),
        ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
        (
            "FLUXLIT_PUBLIC_BASE_URL",
            "https://portal.example.com/apps/my-app",
        ),
        ("FLUXLIT_COOKIE_PATH", "confine"),
    ];
    let run = doctor(folder.path(), &[], &settings);
    assert_eq!(run.problems(), Vec::<&(String, String, String)>::new());
    for check in HEALTHY_UNDER_A_MOUNT {
        assert_eq!(run.status(check), ["PASS"], "{check}: {run:#?}");
    }
}

/// What passes for a healthy app, for one under a mount, and with `--slow`.
const HEALTHY: [&str; 15] = [
    "D01", "D02", "D03", "D04", "D05", "D06", "D07", "D08", "D10", "D11", "D12", "D13", "D15",
    "D16", "D18",
];
const HEALTHY_UNDER_A_MOUNT: [&str; 10] = [
    "D03",
    "D04",
    "D05",
    "D07",
    "D09",
    "D11",
    "D15",
    "proxy_headers",
    "forwarded_allow_ips",
    "public_base_url",
];
const HEALTHY_IF_SLOW: [&str; 3] = ["D02", "D14", "D17"];

/// Checks that find faults of the gateway itself, with the test that has one.
const FAILING_ELSEWHERE: [(&str, &str); 2] = [
    ("D12", "doctor: a_fault_of_the_gateway_is_named"),
    ("D17", "doctor: a_fault_of_the_gateway_is_named"),
];

#[test]
fn each_check_of_an_app_fails_in_a_test_and_passes_in_one() {
    let elsewhere = FAILING_ELSEWHERE.iter().map(|(id, _)| *id);
    let failing: Vec<&str> = BROKEN
        .iter()
        .map(|row| row.check)
        .chain(elsewhere)
        .collect();
    let passing = [&HEALTHY[..], &HEALTHY_UNDER_A_MOUNT, &HEALTHY_IF_SLOW].concat();
    for check in &APP {
        assert!(
            failing.contains(&check.id),
            "{} has no failing case",
            check.id
        );
        assert!(
            passing.contains(&check.id),
            "{} has no passing case",
            check.id
        );
    }
}

/// A set-up with one thing broken.
struct Row {
    name: &'static str,
    upstream: Upstream,
    /// Options and base path of Streamlit.
    options: &'static [&'static str],
    base: &'static str,
    /// Settings of the gateway; `UPSTREAM` stands for the address of Streamlit.
    settings: &'static [(&'static str, &'static str)],
    /// What must be found, by which check.
    check: &'static str,
    status: &'static str,
    says: &'static str,
}

/// How Streamlit is reached, and whom it believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Upstream {
    Streamlit,
    /// Behind an nginx that removes the protocol line of the WebSocket.
    WithoutProtocol,
    /// It believes the forwarded headers of another peer than the gateway.
    OfAnotherPeer,
}

const PLAIN: (&str, &str) = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://UPSTREAM");
const UNDER_MOUNT: (&str, &str) = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://UPSTREAM/apps/my-app");
const MOUNT: (&str, &str) = ("FLUXLIT_ROOT_PATH", "/apps/my-app");

#[rustfmt::skip]
const BROKEN: [Row; 22] = {
    use Upstream::{OfAnotherPeer, Streamlit, WithoutProtocol};
    [
        Row { name: "CORS protection off", upstream: Streamlit, options: &["--server.enableCORS", "false", "--server.enableXsrfProtection", "false"], base: "", settings: &[PLAIN], check: "D05", status: "WARN", says: "CORS protection is off" },
        Row { name: "XSRF protection off", upstream: Streamlit, options: &["--server.enableXsrfProtection", "false"], base: "", settings: &[PLAIN], check: "D08", status: "FAIL", says: "XSRF protection is off" },
        Row { name: "a host that Streamlit does not allow", upstream: Streamlit, options: &["--server.allowedHosts", "other.example.com"], base: "", settings: &[PLAIN], check: "D05", status: "FAIL", says: "because of the Host `portal.example.com`" },
        Row { name: "a base path that the gateway does not know", upstream: Streamlit, options: &[], base: "/apps/my-app", settings: &[PLAIN], check: "D02", status: "FAIL", says: "is not Streamlit" },
        Row { name: "a mount, but not in the upstream", upstream: Streamlit, options: &[], base: "/apps/my-app", settings: &[MOUNT, PLAIN], check: "D03", status: "FAIL", says: "only at `/apps/my-app/_stcore/health`" },
        Row { name: "a base path that Streamlit does not have", upstream: Streamlit, options: &[], base: "", settings: &[MOUNT, UNDER_MOUNT], check: "D04", status: "FAIL", says: "Streamlit has no base path, the gateway the mount `/apps/my-app`" },
        Row { name: "a longer line than Streamlit answers", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES", "65536")], check: "D07", status: "FAIL", says: "never answers a handshake with a header line over" },
        Row { name: "more lines than Streamlit answers", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT", "256"), ("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "256")], check: "D07", status: "FAIL", says: "never answers a handshake with more than" },
        Row { name: "a policy that only reports", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_REPORT_ONLY", "true")], check: "D11", status: "FAIL", says: "forged headers arrive at the app" },
        Row { name: "a body limit below Streamlit's", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES", "10485760")], check: "D13", status: "WARN", says: "below Streamlit's server.maxUploadSize of 200 MB" },
        Row { name: "an upload limit in the environment", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("STREAMLIT_SERVER_MAX_UPLOAD_SIZE", "1000")], check: "D13", status: "WARN", says: "1000 MB (environment)" },
        Row { name: "a short idle limit", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_GATEWAY_WS_IDLE_TIMEOUT_S", "45")], check: "D14", status: "FAIL", says: "45s without a byte" },
        Row { name: "open internal pages", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_DEBUG", "true"), ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "true")], check: "D15", status: "WARN", says: "/__fluxlit/debug" },
        Row { name: "cookies for the whole host", upstream: Streamlit, options: &[], base: "/apps/my-app", settings: &[MOUNT, UNDER_MOUNT], check: "D01", status: "WARN", says: "FLUXLIT_COOKIE_PATH=confine" },
        Row { name: "Streamlit's metrics open to everybody", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_GATEWAY_PUBLIC_INTERNALS", "true")], check: "D15", status: "WARN", says: "/_stcore/metrics" },
        Row { name: "a user from a header that nobody may send", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("STREAMLIT_SERVER_TRUSTED_USER_HEADERS", "{\"X-Login\": \"name\"}")], check: "D16", status: "WARN", says: "passes from nobody" },
        Row { name: "HSTS for other hosts", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_HSTS", "{\"include_sub_domains\": true}")], check: "D18", status: "WARN", says: "includeSubDomains" },
        Row { name: "trust in nobody in particular", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_TRUST_PROXY", "true")], check: "D01", status: "FAIL", says: "E01" },
        Row { name: "trust in everybody", upstream: Streamlit, options: &[], base: "", settings: &[PLAIN, ("FLUXLIT_TRUST_PROXY", "true"), ("FLUXLIT_FORWARDED_ALLOW_IPS", "*"), ("FLUXLIT_TRUST_ANY_PEER", "true")], check: "forwarded_allow_ips", status: "WARN", says: "broad" },
        Row { name: "a proxy before Streamlit that removes the protocol line", upstream: WithoutProtocol, options: &[], base: "", settings: &[PLAIN], check: "D06", status: "FAIL", says: "does not answer with the protocol `streamlit`" },
        Row { name: "a Streamlit that believes another peer", upstream: OfAnotherPeer, options: &[], base: "/apps/my-app", settings: &[MOUNT, UNDER_MOUNT], check: "D09", status: "FAIL", says: "ignores the gateway's forwarded headers" },
        Row { name: "a page of that Streamlit", upstream: OfAnotherPeer, options: &[], base: "/apps/my-app", settings: &[MOUNT, UNDER_MOUNT], check: "D10", status: "FAIL", says: "expected 203.0.113.7" },
    ]
};

#[test]
fn each_broken_set_up_is_named() {
    // Rows with the same Streamlit share it.
    let mut running: BTreeMap<(Upstream, &[&str], &str), Running> = BTreeMap::new();
    for row in BROKEN {
        let running = running
            .entry((row.upstream, row.options, row.base))
            .or_insert_with(|| Running::start(&row));
        let upstream = running.address.to_string();
        let settings: Vec<(&str, String)> = row
            .settings
            .iter()
            .map(|(name, value)| (*name, value.replace("UPSTREAM", &upstream)))
            .collect();
        let command = running.command.to_str().expect("a path");
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([("FLUXLIT_STREAMLIT_COMMAND", command)])
            .collect();
        let arguments = ["--only", row.check, "--page"];
        let run = doctor(running.folder.path(), &arguments, &settings);
        run.check(row.name, row.check, row.status, row.says);
        assert_eq!(
            run.code,
            Some(i32::from(row.status == "FAIL")),
            "{}",
            row.name
        );
    }
}

/// The upstream of a set-up.
struct Running {
    folder: tempfile::TempDir,
    /// Where the gateway reaches it.
    address: SocketAddr,
    /// The command that starts another one like it.
    command: PathBuf,
    _streamlit: Streamlit,
    _nginx: Option<Service>,
}

impl Running {
    fn start(row: &Row) -> Self {
        let (folder, app) = folder_with_app();
        let command = match row.upstream {
            Upstream::OfAnotherPeer => believing_another_peer(folder.path()),
            Upstream::Streamlit | Upstream::WithoutProtocol => named("FLUXLIT_TEST_STREAMLIT"),
        };
        let streamlit = Streamlit::start(&command, &app, row.base, row.options, folder.path())
            .expect("Streamlit");
        let nginx = (row.upstream == Upstream::WithoutProtocol)
            .then(|| without_protocol(streamlit.address, folder.path()));
        let (address, nginx) = nginx.map_or((streamlit.address, None), |(address, nginx)| {
            (address, Some(nginx))
        });
        Self {
            folder,
            address,
            command,
            _streamlit: streamlit,
            _nginx: nginx,
        }
    }
}

/// Writes a command that starts a Streamlit which believes another peer.
fn believing_another_peer(folder: &Path) -> PathBuf {
    streamlit_with(folder, "FORWARDED_ALLOW_IPS=10.9.9.9")
}

/// Writes a command that starts a Streamlit with these variables.
fn streamlit_with(folder: &Path, variables: &str) -> PathBuf {
    let executable = folder.join("streamlit");
    let script = format!(
        "#!/bin/sh\n{variables} exec {} \"$@\"\n",
        named("FLUXLIT_TEST_STREAMLIT").display()
    );
    std::fs::write(&executable, script).expect("a file");
    std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755))
        .expect("an executable");
    executable
}

/// Starts an nginx that forwards the handshake, and removes the protocol line.
fn without_protocol(upstream: SocketAddr, folder: &Path) -> (SocketAddr, Service) {
    let address = local(free_port().expect("a free port"));
    let own = folder.display();
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid {own}/pid; error_log {own}/error.log;\n\
         events {{}}\n\
         http {{\n\
           access_log off; client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
           fastcgi_temp_path {own}/f; uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;\n\
           server {{\n\
             listen {address};\n\
             location / {{\n\
               proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $http_host;\n\
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;\n\
               proxy_set_header Sec-WebSocket-Protocol \"\";\n\
             }}\n\
           }}\n\
         }}\n"
    );
    std::fs::write(&config, text).expect("a file");
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(folder).arg("-c").arg(&config);
    let log = folder.join("nginx.log");
    let nginx = Service::start("nginx", nginx, &log, |_| {
        get(address, "/_stcore/health", None).is_ok_and(|response| response.body == b"ok")
    });
    (address, nginx.expect("nginx"))
}

#[test]
fn an_older_streamlit_is_recognized() {
    let (folder, app) = folder_with_app();
    let older = named("FLUXLIT_TEST_STREAMLIT_OLDER");
    let streamlit = Streamlit::start(&older, &app, "", &[], folder.path()).expect("Streamlit");
    let settings = [("FLUXLIT_STREAMLIT_UPSTREAM", streamlit.url())];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let run = doctor(
        folder.path(),
        &["--only", "D02,D03,D05,D06,D07,D08"],
        &settings,
    );
    run.check("the generation", "D02", "WARN", "Tornado generation");
    assert_eq!(run.problems().len(), 1, "{run:#?}");
}

/// Returns a port that refuses connections, and that nobody can take while the socket is kept.
fn closed_port() -> (rustix::fd::OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &local(0)).expect("a free port");
    let address = getsockname(&socket).expect("an address");
    (socket, address.try_into().expect("an IP address"))
}

/// The gateway's limits are below those of a Streamlit that it does not start, so what is above gets 431.
#[test]
fn the_limits_of_streamlit_itself_are_named() {
    for (variables, settings, says) in [
        (
            "",
            &[][..],
            "lines of 8190 bytes, the gateway's limit; its own is between 8190 and 8500. If pages with long cookies get 431, set \
             WEBSOCKETS_MAX_LINE_LENGTH=65536 in Streamlit's environment together with FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES=65536; \
             Streamlit answers handshakes with 100 header lines, the gateway's limit; its own is between 100 and 135. \
             WEBSOCKETS_MAX_NUM_HEADERS=256",
        ),
        (
            "WEBSOCKETS_MAX_LINE_LENGTH=20000 WEBSOCKETS_MAX_NUM_HEADERS=256",
            &[],
            "its own is between 1",
        ),
        (
            "WEBSOCKETS_MAX_LINE_LENGTH=65536 WEBSOCKETS_MAX_NUM_HEADERS=256",
            &[],
            "the gateway's limit, and of 65536: if pages with long cookies get 431, set FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES=65536",
        ),
        (
            "WEBSOCKETS_MAX_LINE_LENGTH=65536 WEBSOCKETS_MAX_NUM_HEADERS=256",
            &[
                ("FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES", "65536"),
                ("FLUXLIT_GATEWAY_WS_MAX_HEADER_COUNT", "256"),
                ("FLUXLIT_GATEWAY_MAX_HEADER_COUNT", "256"),
            ],
            "lines of 65536 bytes, the gateway's limit; Streamlit answers handshakes with 256 header lines, the gateway's limit",
        ),
    ] {
        let (folder, app) = folder_with_app();
        let command = streamlit_with(folder.path(), variables);
        let streamlit =
            Streamlit::start(&command, &app, "", &[], folder.path()).expect("Streamlit");
        let url = streamlit.url();
        let upstream = ("FLUXLIT_STREAMLIT_UPSTREAM", url.as_str());
        let settings = [&[upstream][..], settings].concat();
        let run = doctor(folder.path(), &["--only", "D07"], &settings);
        run.check(variables, "D07", "PASS", says);
    }
}

/// Whether everybody may read it is the choice of the app, so it is no warning, but the app is not called closed either.
#[test]
fn the_documentation_of_an_api_is_named() {
    let (folder, app) = folder_with_app();
    let streamlit = streamlit(&app, folder.path(), "/apps/my-app", &[]);
    let api = serve(|stream| {
        use std::io::Write as _;
        let mut lines = std::io::BufRead::lines(&mut *stream).map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        lines.find(String::is_empty);
        let body = match request.split(' ').nth(1) {
            Some("/openapi.json") => r#"{"openapi":"3.1.0","paths":{}}"#,
            Some("/docs") => "<script src=\"swagger-ui-bundle.js\"></script>",
            _ => "no",
        };
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n");
        // The client may have gone.
        let _ = write!(stream.get_mut(), "{head}\r\n{body}");
    })
    .expect("a free port");
    let api = format!("http://{api}");
    let settings = [
        MOUNT,
        ("FLUXLIT_STREAMLIT_UPSTREAM", &streamlit.url()),
        ("FLUXLIT_API_UPSTREAM", &api),
    ];
    let run = doctor(folder.path(), &["--only", "D15"], &settings);
    let says = "to everybody at `/apps/my-app/api/openapi.json`, `/apps/my-app/api/docs`; the app";
    run.check("an API", "D15", "PASS", says);
    let run = doctor(folder.path(), &["--only", "D15"], &settings[..2]);
    run.check("no API", "D15", "PASS", "no internal page is reachable");
}

#[test]
fn what_is_not_streamlit_is_named() {
    let (folder, _) = folder_with_app();
    let (_reserved, closed) = closed_port();
    let page = serve(|stream| {
        use std::io::Write as _;
        let mut head = String::new();
        while std::io::BufRead::read_line(stream, &mut head).is_ok_and(|read| read > 2) {}
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
        // The client may have gone.
        let _ = stream.get_mut().write_all(answer);
    })
    .expect("a free port");
    for (address, says) in [
        (closed, "cannot be reached"),
        (page, "responds with a page instead of `ok`"),
        // It answers `ok`, and is another app.
        (app::start(), "has no /_stcore/host-config"),
    ] {
        let url = format!("http://{address}");
        let run = doctor(folder.path(), &[], &[("FLUXLIT_STREAMLIT_UPSTREAM", &url)]);
        run.check("the upstream", "D02", "FAIL", says);
        // What needs a Streamlit is skipped, and the rest is checked.
        assert_eq!(run.status("D05"), ["SKIPPED"]);
        assert_eq!(run.status("D11"), ["PASS"]);
        assert_eq!(run.code, Some(1));
    }
}

#[test]
fn pings_and_the_end_of_a_gateway_are_observed() {
    let (folder, app) = folder_with_app();
    let app = app.to_str().expect("a path");
    let checks = HEALTHY_IF_SLOW.join(",");
    let run = doctor(folder.path(), &[app, "--slow", "--only", &checks], &[]);
    for check in HEALTHY_IF_SLOW {
        assert_eq!(run.status(check), ["PASS"], "{check}: {run:#?}");
    }
}

#[test]
fn wrong_usage_is_told_from_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, says) in [
        (&["doctor"][..], "FLUXLIT_STREAMLIT_UPSTREAM"),
        (&["doctor", "--only", "D99"], "`D99` is no check"),
        (
            &["doctor", "--lint", "absent.yaml"],
            "cannot read absent.yaml",
        ),
        (&["doctor", "--lint", "notes.txt"], "neither YAML nor JSON"),
    ] {
        std::fs::write(folder.path().join("notes.txt"), "a: [").expect("a file");
        let output = Command::new(named("FLUXLIT_TEST_GATEWAY"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

/// A terminal gets colors unless NO_COLOR is set to something (<https://no-color.org>), and a line for each check that has ended.
#[test]
fn colors_are_for_terminals_without_no_color() {
    let python = named("FLUXLIT_TEST_STREAMLIT").with_file_name("python");
    let gateway = named("FLUXLIT_TEST_GATEWAY");
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/bootstrap.yaml");
    for (is_terminal, no_color, is_colored) in [
        (true, None, true),
        (true, Some(""), true),
        (true, Some("1"), false),
        (false, None, false),
    ] {
        let mut command = if is_terminal {
            let mut command = Command::new(&python);
            command.args(["-c", IN_TERMINAL]).arg(&gateway);
            command
        } else {
            Command::new(&gateway)
        };
        command.args(["doctor", "--lint"]).arg(&bootstrap);
        command.env_clear().stdin(Stdio::null());
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let row = format!("terminal: {is_terminal}, NO_COLOR: {no_color:?}: {output:?}");
        assert_eq!(output.status.code(), Some(0), "{row}");
        assert_eq!(
            text.contains("\u{1b}[32mok  \u{1b}[0m  F02 presence"),
            is_colored,
            "{row}"
        );
        assert_eq!(text.contains('\u{1b}'), is_colored, "{row}");
        assert_eq!(
            text.starts_with("ok    F01 peer-source\r\n"),
            is_terminal,
            "{row}"
        );
    }
}

/// Runs a program in a terminal of its own.
const IN_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// Starts an Envoy whose configuration is in `bootstrap.json`, and writes what it says of itself to `dump.json`.
fn linted(folder: &Path, bootstrap: Bootstrap) -> Envoy {
    let envoy = bootstrap
        .listening_on(local(free_port().expect("a free port")))
        .forwarding_to(app::start())
        .with_module(&named("FLUXLIT_TEST_FILTER"))
        .start(
            &named("FLUXLIT_TEST_ENVOY"),
            folder,
            &["--concurrency", "1"],
        )
        .expect("Envoy");
    let dump = envoy.admin().get("/config_dump").expect("a dump");
    std::fs::write(folder.join("dump.json"), dump).expect("a file");
    envoy
}

/// Returns the shipped bootstrap with TLS.
fn with_tls(folder: &Path) -> Bootstrap {
    let files = Certificate::create_files(folder, &["portal.example.com"]);
    let files = files.expect("a certificate");
    Bootstrap::shipped().with_tls(&files.certificate, &files.key)
}

#[test]
fn the_counters_of_a_listener_with_tls_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let envoy = linted(folder.path(), with_tls(folder.path()));
    let admin = envoy.admin().address.to_string();
    let arguments = ["--lint", "dump.json", "--admin", &admin];
    let run = doctor(folder.path(), &arguments, &[]);
    assert_eq!(run.problems(), Vec::<&(String, String, String)>::new());
    assert_eq!(run.status("F05"), ["PASS"], "{run:#?}");
}

#[test]
fn the_counters_of_another_envoy_do_not_move() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let _envoy = linted(folder.path(), Bootstrap::shipped());
    let other = linted(other.path(), Bootstrap::shipped());
    let admin = other.admin().address.to_string();
    let arguments = ["--lint", "dump.json", "--admin", &admin, "--only", "F05"];
    let run = doctor(folder.path(), &arguments, &[]);
    run.check(
        "another Envoy",
        "F05",
        "FAIL",
        "no counter of the filter moved",
    );
}

/// Lints what a running Envoy says of itself: the shipped bootstrap, and two changes of it.
#[test]
fn the_dump_of_a_running_envoy_is_linted() {
    let filter = |manager: &mut Value| {
        manager["http_filters"][0]["typed_config"]["config"]["failure_policy"] = json!("FAIL_OPEN");
    };
    let route = |manager: &mut Value| {
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["match"] = json!({"prefix": "/"});
    };
    type Row = (
        &'static str,
        fn(&mut Value),
        Option<(&'static str, &'static str)>,
    );
    let rows: [Row; 3] = [
        ("as shipped", |_| (), None),
        ("fail open", filter, Some(("F03", "FAIL_OPEN"))),
        ("no guard", route, Some(("F02", "has not processed"))),
    ];
    for (name, change, wanted) in rows {
        let folder = tempfile::tempdir().expect("a folder");
        let bootstrap = Bootstrap::shipped().with_changed_connection_manager(change);
        let envoy = linted(folder.path(), bootstrap);
        let admin = envoy.admin().address.to_string();
        let run = doctor(
            folder.path(),
            &["--lint", "dump.json", "--admin", &admin],
            &[],
        );
        match wanted {
            None => assert_eq!(
                run.problems(),
                Vec::<&(String, String, String)>::new(),
                "{name}"
            ),
            Some((check, says)) => run.check(name, check, "FAIL", says),
        }
        assert_eq!(run.status("F05"), ["PASS"], "{name}: {run:#?}");
    }
}

#[test]
fn envoy_itself_checks_a_bootstrap() {
    let folder = tempfile::tempdir().expect("a folder");
    let envoy = named("FLUXLIT_TEST_ENVOY");
    let envoy = envoy.to_str().expect("a path");
    let check = |bootstrap: &Bootstrap| {
        std::fs::write(folder.path().join("bootstrap.json"), bootstrap.to_json()).expect("a file");
        doctor(
            folder.path(),
            &[
                "--lint",
                "bootstrap.json",
                "--envoy",
                envoy,
                "--only",
                "F08",
            ],
            &[],
        )
    };
    let bootstrap = Bootstrap::shipped().with_module(&named("FLUXLIT_TEST_FILTER"));
    assert_eq!(check(&bootstrap).status("F08"), ["PASS"]);
    let misspelt = bootstrap.with_plugin_config("{\"root_paht\": \"/x\"}");
    let run = check(&misspelt);
    run.check(
        "the own reading",
        "F08",
        "FAIL",
        "did you mean \"root_path\"",
    );
    run.check("Envoy", "F08", "FAIL", "bootstrap.json: Envoy rejects it");
}
