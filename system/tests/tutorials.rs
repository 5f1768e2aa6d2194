//! Follows the tutorials with real programs, and compares what the doctor prints with what their pages show.
//!
//! The settings are those of the pages. Addresses, ports and files are of the test.

#[path = "tutorials/page.rs"]
mod page;
#[path = "tutorials/terminal.rs"]
mod terminal;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fluxlit_envoy::Gateway;
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::wait::wait_until;
use fluxlit_system::front::{Front, Program};
use fluxlit_system::generated::check_page;
use fluxlit_system::named;
use fluxlit_system::printed::{options, print};
use fluxlit_system::visitor::Visitor;
use page::Page;

#[test]
fn the_gateway_alone_passes_the_probe_of_its_tutorial() {
    let page = Page::read("tutorials/gateway-alone.md");
    let site = Site::create();
    let mut settings = site.settings(&page);
    let files = &site.certificate;
    for (name, file) in [
        ("FLUXLIT_TLS_CERTIFICATE", &files.certificate),
        ("FLUXLIT_TLS_KEY", &files.key),
    ] {
        settings.push((name.to_owned(), file.display().to_string()));
    }
    let gateway = site.gateway(&settings);
    site.wait(gateway.address);
    // An address on which nothing listens, and nothing else can.
    let unused = closed_port();
    let printed = site.probe(gateway.address, unused.address, &["--hold", "0"]);
    page.compare(0, &printed.text);
    let is_healthy = |line: &str| line.starts_with("ok ") || line.starts_with("skip ");
    for line in printed.checks() {
        assert!(is_healthy(line), "{line}");
    }
    assert_eq!(printed.exit, Some(0));
}

#[test]
fn nginx_in_front_passes_the_probe_of_its_tutorial() {
    let page = Page::read("tutorials/proxy-in-front.md");
    let site = Site::create();
    let settings = [site.settings(&page), probe_key()].concat();
    let gateway = site.gateway(&settings);
    let front = site.front(Program::Nginx, &settings, gateway.address, str::to_owned);
    let arguments = ["--hold", "0", "--token-file", site.token()];
    let printed = site.probe(front.https, front.http, &arguments);
    page.compare(0, &printed.text);
    page.compare(1, &printed.text);
    assert_eq!(printed.exit, Some(0));
}

#[test]
fn envoy_with_the_filter_passes_the_checks_of_its_tutorial() {
    let page = Page::read("tutorials/envoy.md");
    let site = Site::create();
    let settings = [page.exported(), probe_key()].concat();
    let gateway = site.gateway(&settings);
    // A printed file has no secrets.
    let with_key = format!("\"probe_key\": \"{KEY}\", \"public_base_url\"");
    let add_key = |text: &str| text.replacen("\"public_base_url\"", &with_key, 1);
    let front = site.front(Program::Envoy, &settings, gateway.address, add_key);
    let lint = doctor(site.path()).arg("--lint").arg(&front.file).output();
    let lint = lint.expect("the doctor runs");
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success(), "{said}");
    let arguments = ["--hold", "0", "--token-file", site.token()];
    let printed = site.probe(front.https, front.http, &arguments);
    page.compare(0, &printed.text);
    assert_eq!(printed.exit, Some(0), "{}", printed.text);
}

/// What `config --strict` says about settings of FluxLit, before and after each step of the page.
#[test]
fn the_settings_of_fluxlit_lead_to_the_errors_of_the_page() {
    let page = Page::read("moving-from-fluxlit.md");
    let site = Site::create();
    std::fs::write(site.path().join("app.py"), "").expect("a file");
    let mut settings = page.exported();
    let check = |settings: &[(String, String)]| {
        let output = command("config", site.path())
            .args(["app.py", "--strict"])
            .envs(settings.iter().cloned())
            .output()
            .expect("the gateway runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (exit, said) = check(&settings);
    page.compare(0, &said);
    assert_eq!(exit, Some(2), "{said}");
    settings.push((
        "FLUXLIT_FORWARDED_ALLOW_IPS".to_owned(),
        "127.0.0.1".to_owned(),
    ));
    let (exit, said) = check(&settings);
    page.compare(1, &said);
    assert_eq!(exit, Some(1), "{said}");
    settings.retain(|(name, _)| name != "FLUXLIT_GATEWAY_WS_MAX_MESSAGE_BYTES");
    let (exit, said) = check(&settings);
    assert_eq!(exit, Some(0), "{said}");
    // What the page says about a file that names the upstream, which FluxLit reads.
    settings.push((
        "FLUXLIT_STREAMLIT_UPSTREAM_FILE".to_owned(),
        "upstream".to_owned(),
    ));
    let (exit, said) = check(&settings);
    assert_eq!(exit, Some(2), "{said}");
}

/// The picture of a terminal in the documentation.
#[test]
fn the_picture_shows_what_the_doctor_prints_about_a_lost_upgrade() {
    let page = Page::read("tutorials/proxy-in-front.md");
    let site = Site::create();
    let settings = site.settings(&page);
    let gateway = site.gateway(&settings);
    let lose_upgrade = |text: &str| {
        let line = "proxy_set_header Upgrade $http_upgrade;";
        assert_eq!(text.matches(line).count(), 1, "{text}");
        text.replace(line, "")
    };
    let front = site.front(Program::Nginx, &settings, gateway.address, lose_upgrade);
    let checks = "P01,P02,P03,P04,P05,P08,P10";
    let printed = site.probe(front.https, front.http, &["--only", checks]);
    let command = format!("fluxlit-gateway doctor --probe https://{HOST}{MOUNT}/");
    let picture = terminal::picture(&command, &printed.text);
    check_page("doctor.svg", "system/tests/tutorials.rs", &picture);
    assert_eq!(printed.exit, Some(1));
}

/// A host with the demo app and a certificate.
struct Site {
    folder: tempfile::TempDir,
    certificate: CertificateFiles,
    token: String,
}

/// A running front. Dropping it ends the process.
struct RunningFront {
    https: SocketAddr,
    http: SocketAddr,
    file: PathBuf,
    _front: Front,
}

/// What the doctor has printed.
struct Printed {
    text: String,
    exit: Option<i32>,
}

impl Site {
    fn create() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        // So the pages show 88 days, at any time of the test.
        let end = SystemTime::now() + Duration::from_secs(88 * 86_400 + 43_200);
        let certificate = Certificate::create_until(&[HOST], end)
            .and_then(|certificate| certificate.write(path))
            .expect("a certificate");
        let token = path.join("probe-key");
        std::fs::write(&token, KEY).expect("a file");
        Self {
            certificate,
            token: token.display().to_string(),
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn token(&self) -> &str {
        &self.token
    }

    /// Writes the settings file of a page; returns the settings that name it.
    fn settings(&self, page: &Page) -> Vec<(String, String)> {
        let file = self.path().join("fluxlit.toml");
        std::fs::write(&file, page.settings()).expect("a file");
        let name = "FLUXLIT_SETTINGS_FILE".to_owned();
        vec![(name, file.display().to_string())]
    }

    /// Starts the gateway, which starts the demo.
    fn gateway(&self, settings: &[(String, String)]) -> Gateway {
        let streamlit = named("FLUXLIT_TEST_STREAMLIT").display().to_string();
        let own = ("FLUXLIT_STREAMLIT_COMMAND".to_owned(), streamlit);
        let settings = settings.iter().cloned().chain([own]);
        let executable = named("FLUXLIT_TEST_GATEWAY");
        Gateway::start(&executable, Some(&demo()), settings, self.path())
            .expect("the gateway starts")
    }

    /// Prints the configuration of a front, changes it, and starts the front.
    fn front(
        &self,
        program: Program,
        settings: &[(String, String)],
        gateway: SocketAddr,
        change: impl Fn(&str) -> String,
    ) -> RunningFront {
        let ports = free_ports(2).expect("two ports");
        let [https, http] = ports[..] else {
            panic!("two ports");
        };
        let (https, http) = (local(https), local(http));
        let own = self.path().join("front");
        std::fs::create_dir(&own).expect("a folder");
        let file = own.join(program.file_name());
        let mut options = options(program, https, Some((&self.certificate, http)));
        let app = demo().display().to_string();
        options.extend(["--upstream".to_owned(), gateway.to_string(), app]);
        let settings: Vec<(&str, String)> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        print(program.front(), &settings, &options, &file);
        let text = std::fs::read_to_string(&file).expect("the file was printed");
        std::fs::write(&file, change(&text)).expect("the file can be written");
        let front =
            Front::start(program, &file, || self.has_page(https)).expect("the front starts");
        RunningFront {
            https,
            http,
            file,
            _front: front,
        }
    }

    /// Waits until the app responds at this address.
    fn wait(&self, https: SocketAddr) {
        let responds = wait_until(Duration::from_secs(90), || self.has_page(https));
        assert!(responds, "the app does not respond");
    }

    /// Returns true if the app is ready behind this address.
    fn has_page(&self, https: SocketAddr) -> bool {
        let visitor = Visitor {
            from: Ipv4Addr::LOCALHOST.into(),
            front: https,
            host: HOST.to_owned(),
            trusted: Some(self.certificate.clone()),
            cookie: None,
        };
        let ready = visitor.get(&format!("{MOUNT}/api/readyz"), "");
        ready.is_ok_and(|response| response.status == 200)
    }

    /// Runs the probe of the pages, which connects to these addresses.
    fn probe(&self, https: SocketAddr, http: SocketAddr, arguments: &[&str]) -> Printed {
        let output = doctor(self.path())
            .arg("--probe")
            .arg(format!("https://{HOST}{MOUNT}/"))
            .arg("--connect-to")
            .arg(format!("443={https}"))
            .arg("--connect-to")
            .arg(format!("80={http}"))
            .arg("--ca-file")
            .arg(&self.certificate.certificate)
            .args(arguments)
            .output()
            .expect("the doctor runs");
        let text = String::from_utf8_lossy(&output.stdout);
        // The address and the ports of a public site.
        let text = text
            .replace(&https.to_string(), "203.0.113.10:443")
            .replace(&http.to_string(), "203.0.113.10:80");
        Printed {
            text,
            exit: output.status.code(),
        }
    }
}

impl Printed {
    /// Returns the lines with the result of a check.
    fn checks(&self) -> impl Iterator<Item = &str> {
        let words = ["ok ", "skip ", "warn ", "fail "];
        self.text
            .lines()
            .filter(move |line| words.iter().any(|word| line.starts_with(word)))
    }
}

/// Returns the command of the doctor, without the settings of this test.
fn doctor(folder: &Path) -> Command {
    command("doctor", folder)
}

/// Returns a command of the gateway's program, without the settings of this test.
fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLUXLIT_") {
            command.env_remove(name);
        }
    }
    command.arg(name).current_dir(folder);
    command
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/app.py")
}

fn probe_key() -> Vec<(String, String)> {
    vec![("FLUXLIT_PROBE_KEY".to_owned(), KEY.to_owned())]
}

/// A port that is taken, and refuses connections.
struct ClosedPort {
    address: SocketAddr,
    _socket: rustix::fd::OwnedFd,
}

fn closed_port() -> ClosedPort {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &local(0)).expect("a free port");
    let address = getsockname(&socket).expect("an address");
    ClosedPort {
        address: address.try_into().expect("an internet address"),
        _socket: socket,
    }
}

/// The host and the mount of the pages.
const HOST: &str = "portal.example.com";
const MOUNT: &str = "/apps/my-app";

/// The probe key.
const KEY: &str = "a-key-for-the-probes-of-these-tests-only";
