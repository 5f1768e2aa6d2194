//! Tests that nobody but a trusted proxy chooses `st.user`, with a Streamlit that the gateway starts.
//!
//! Streamlit 1.67 takes the user from the headers in `server.trustedUserHeaders`, on a WebSocket and in its agent API.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_envoy::Gateway;
use fluxlit_support::wait::wait_until;

use crate::pair::{HOST, Server};
use crate::session::{NEW, Session};
use crate::support::{connect_from, exchange, parts};

/// The proxy, which is trusted in some tests, and another peer.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.9";

const TRUST: [(&str, &str); 2] = [
    ("FLUXLIT_TRUST_PROXY", "1"),
    ("FLUXLIT_FORWARDED_ALLOW_IPS", PROXY),
];
const PASS: (&str, &str) = ("FLUXLIT_TRUSTED_PASS_HEADERS", "X-Acme-Login");

/// `server.trustedUserHeaders` as the operator of this app sets it: a name that no list of known headers has.
const OPTION: &str = "X-Acme-Login = \"email\"\n";
const AS_JSON: &str = r#"{"X-Acme-Login": "email"}"#;

/// A gateway that has started an app.
struct App {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl App {
    /// Starts an app whose folder has a configuration with these lines in the table of the option.
    fn start(option: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("user.py");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/user.py");
        std::fs::copy(source, &script).expect("a script");
        write(&configuration(folder.path()), 200, option);
        Self::run(folder, &script, settings)
    }

    fn run(folder: tempfile::TempDir, script: &Path, settings: &[(&str, &str)]) -> Self {
        let streamlit = parts().streamlit;
        let home = folder.path().join("home");
        let mut all = vec![
            ("FLUXLIT_STREAMLIT_COMMAND", streamlit.as_os_str()),
            ("HOME", home.as_os_str()),
        ];
        all.extend(settings.iter().map(|(name, value)| (*name, value.as_ref())));
        let gateway = Gateway::start(&parts().gateway, Some(script), all, folder.path())
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(
            gateway.wait_until_ready("", Duration::from_secs(60)),
            "{}",
            gateway.service.log()
        );
        Self { gateway, folder }
    }

    /// Returns what the app says to a peer that sends these lines: over its WebSocket, and over HTTP.
    #[track_caller]
    fn check(&self, peer: &str, lines: &str, expected: &str) {
        let own: IpAddr = peer.parse().expect("an address");
        let server = Server {
            address: self.gateway.address,
            base: "",
        };
        let session = Session::open_from(own, server, NEW, lines);
        assert!(
            session.shows(expected),
            "WebSocket from {peer} with {lines:?}: not {expected}, {:?}",
            session.find("email=")
        );
        let request = format!(
            "POST /_stcore/agent/interact HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n{lines}\r\n{{}}"
        );
        let mut stream = connect_from(own, self.gateway.address);
        let response = exchange(&mut stream, request.as_bytes(), "POST");
        assert!(
            response.text().contains(expected),
            "HTTP from {peer} with {lines:?}: not {expected}, {}",
            response.text()
        );
    }
}

/// Returns the path of the configuration in a folder.
fn configuration(folder: &Path) -> PathBuf {
    folder.join(".streamlit/config.toml")
}

/// Writes a configuration with this limit of uploads, and these lines in the table of the option.
fn write(path: &Path, limit: u32, option: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let text = format!(
        "[server]\nenableAgentApi = true\nmaxUploadSize = {limit}\n[server.trustedUserHeaders]\n{option}"
    );
    std::fs::write(path, text).expect("a configuration");
}

#[test]
fn a_stranger_is_no_user_by_any_spelling() {
    let app = App::start(OPTION, &[&TRUST[..], &[PASS]].concat());
    for lines in [
        "",
        "X-Acme-Login: boss@example.com\r\n",
        "x-acme-login: boss@example.com\r\n",
        "X_ACME_LOGIN: boss@example.com\r\n",
        "X-Acme_Login: boss@example.com\r\n",
        "x-acme-login: \r\nX-ACME-LOGIN: boss@example.com\r\n",
        "x-acme-login: boss@example.com\r\nx-acme-login: boss@example.com\r\n",
        "x-acme-login:boss@example.com\r\nx-forwarded-for: 127.0.0.1\r\n",
    ] {
        app.check(STRANGER, lines, "email=None.");
    }
    // The user of the trusted proxy arrives. A twin of its header, which the proxy does not know, does not.
    app.check(
        PROXY,
        "X-Acme-Login: ann@example.com\r\n",
        "email=ann@example.com.",
    );
    app.check(PROXY, "X_Acme_Login: boss@example.com\r\n", "email=None.");
    app.check(PROXY, "", "email=None.");
}

#[test]
fn a_header_that_no_setting_passes_names_no_user() {
    let app = App::start(OPTION, &TRUST);
    for peer in [PROXY, STRANGER] {
        app.check(peer, "X-Acme-Login: boss@example.com\r\n", "email=None.");
    }
    let log = app.gateway.service.log();
    assert!(
        log.contains("X-Acme-Login") && log.contains("FLUXLIT_TRUSTED_PASS_HEADERS"),
        "{log}"
    );
}

#[test]
fn the_option_of_any_place_is_read() {
    // The second variable is the one that Streamlit's command line parser derives from the option's name.
    for variable in [
        "STREAMLIT_SERVER_TRUSTED_USER_HEADERS",
        "STREAMLIT_RUN_SERVER_TRUSTEDUSERHEADERS",
    ] {
        let settings = [&TRUST[..], &[PASS, (variable, AS_JSON)]].concat();
        let app = App::start("X-Other = \"email\"\n", &settings);
        let lines = "X-Acme-Login: ann@example.com\r\nX-Other: boss@example.com\r\n";
        app.check(PROXY, lines, "email=ann@example.com.");
        app.check(STRANGER, lines, "email=None.");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/user.py");
    write(&configuration(&folder.path().join("home")), 200, OPTION);
    let app = App::run(folder, &script, &[&TRUST[..], &[PASS]].concat());
    let lines = "X-Acme-Login: ann@example.com\r\n";
    app.check(PROXY, lines, "email=ann@example.com.");
    app.check(STRANGER, lines, "email=None.");
}

/// Streamlit reads its files again when they change. The gateway does not, so it has told Streamlit what it protects.
#[test]
fn a_file_that_changes_names_no_other_header() {
    let app = App::start(OPTION, &[&TRUST[..], &[PASS]].concat());
    let file = configuration(app.folder.path());
    write(&file, 201, "X-Acme-Login = \"email\"\nX-Late = \"name\"\n");
    let noticed = || {
        let log = app.gateway.service.log();
        log.contains("An update to the [server] config option section was detected")
    };
    assert!(
        wait_until(Duration::from_secs(30), noticed),
        "{}",
        app.gateway.service.log()
    );
    let lines = "X-Late: boss\r\nX-Acme-Login: ann@example.com\r\n";
    app.check(STRANGER, lines, "name=None.");
    app.check(PROXY, lines, "name=None.");
    app.check(PROXY, lines, "email=ann@example.com.");
}
