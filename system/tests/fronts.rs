//! Checks each configuration that `fluxlit-gateway config --for` prints: the program in front accepts it as printed, and
//! requests through it reach the app as they should.

#[path = "fronts/manifests.rs"]
mod manifests;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use fluxlit_envoy::Gateway;
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::http1::Response;
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::service::Service;
use fluxlit_support::wait::wait_until;
use fluxlit_system::front::{Front, Program};
use fluxlit_system::printed::{needed_settings, options, print};
use fluxlit_system::published::expect;
use fluxlit_system::visitor::{Visitor, echo};
use fluxlit_system::{app, named};

/// A way to publish the app.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    mount: &'static str,
    /// True if the front removes the mount.
    is_stripped: bool,
    tls: Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// The public URL is http.
    None,
    /// The front terminates it.
    AtFront,
    /// A hop in front of the front terminates it.
    InFront,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "under a mount, with TLS",
        mount: "/apps/my-app",
        is_stripped: false,
        tls: Tls::AtFront,
    },
    Scenario {
        name: "under a mount that the front removes, with TLS",
        mount: "/apps/my-app",
        is_stripped: true,
        tls: Tls::AtFront,
    },
    Scenario {
        name: "under a mount, behind a hop that terminates TLS",
        mount: "/apps/my-app",
        is_stripped: false,
        tls: Tls::InFront,
    },
    Scenario {
        name: "at the root, without TLS",
        mount: "",
        is_stripped: false,
        tls: Tls::None,
    },
];

#[test]
fn apache() {
    verify(Program::Apache);
}

#[test]
fn caddy() {
    verify(Program::Caddy);
}

#[test]
fn envoy() {
    verify(Program::Envoy);
}

#[test]
fn haproxy() {
    verify(Program::Haproxy);
}

#[test]
fn nginx() {
    verify(Program::Nginx);
}

#[test]
fn recent_haproxy() {
    verify(Program::HaproxyRecent);
}

#[test]
fn recent_nginx() {
    verify(Program::NginxRecent);
}

#[test]
fn traefik() {
    verify(Program::Traefik);
}

/// Shows that the checks find an error in a printed file.
#[test]
fn a_wrong_configuration_is_rejected() {
    for program in Program::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(program.file_name());
        let [listen] = free_ports(1).expect("a free port")[..] else {
            panic!("one port");
        };
        let certificate = Certificate::create_files(folder.path(), &[HOST]).expect("a certificate");
        let options = SCENARIOS[3].options(program, &certificate, local(listen), local(listen));
        let settings = SCENARIOS[3].settings(local(8501));
        print(program.front(), &settings, &options, &file);
        if program == Program::Traefik {
            let dynamic = folder.path().join("traefik-dynamic.yml");
            let text = std::fs::read_to_string(&dynamic).expect("the dynamic file");
            let wrong = text.replace("service: gateway", "service: nowhere");
            assert_ne!(wrong, text);
            std::fs::write(&dynamic, wrong).expect("written");
            let is_found = match Front::start(program, &file, || true) {
                Ok(front) => wait_until(Duration::from_secs(60), || {
                    front.errors().contains("nowhere")
                }),
                Err(error) => error.contains("nowhere"),
            };
            assert!(is_found, "Traefik reports no error");
            continue;
        }
        let mut text = std::fs::read_to_string(&file).expect("the printed file");
        text.push_str("\nwrong {\n  nonsense\n}\n");
        std::fs::write(&file, text).expect("written");
        let result = program.check(&file);
        assert!(matches!(result, Some(Err(_))), "{program:?}: {result:?}");
    }
}

/// Any user may listen on the ports of these tests, so the printed file must need no privileges for anything else.
#[test]
fn nginx_and_apache_start_as_any_user() {
    for (program, variable, folder_option, foreground) in [
        (
            Program::Nginx,
            "FLUXLIT_TEST_NGINX",
            "-p",
            &["-g", "daemon off;", "-c"][..],
        ),
        (
            Program::Apache,
            "FLUXLIT_TEST_APACHE",
            "-d",
            &["-DFOREGROUND", "-f"],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let writable = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, writable).expect("permissions");
        let file = path.join(program.file_name());
        let [listen] = free_ports(1).expect("a free port")[..] else {
            panic!("one port");
        };
        let certificate = Certificate::create_files(path, &[HOST]).expect("a certificate");
        let options = SCENARIOS[3].options(program, &certificate, local(listen), local(listen));
        let settings = SCENARIOS[3].settings(local(8501));
        print(program.front(), &settings, &options, &file);
        let mut command = Command::new(named(variable));
        command.arg(folder_option).arg(path);
        command.args(foreground).arg(&file);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let visitor = Visitor {
            from: CLIENT,
            front: local(listen),
            host: HOST.to_owned(),
            trusted: None,
            cookie: None,
        };
        let front = Service::start(program.front(), command, &path.join("front.log"), |_| {
            visitor.get("/", "").is_ok()
        });
        drop(front.unwrap_or_else(|error| panic!("{program:?}: {error}")));
    }
}

/// A front with a gateway and an app behind it.
struct Stack {
    program: Program,
    scenario: Scenario,
    front: Front,
    listen_http: SocketAddr,
    visitor: Visitor,
    gateway: Option<Gateway>,
    _folder: tempfile::TempDir,
}

fn verify(program: Program) {
    let mut failures = String::new();
    for scenario in SCENARIOS {
        let mut stack = Stack::start(program, scenario);
        let faults = stack.faults();
        for fault in &faults {
            let _ = writeln!(failures, "{}: {fault}", scenario.name);
        }
        if !faults.is_empty() {
            let _ = writeln!(failures, "{}", stack.front.log());
        }
    }
    assert!(failures.is_empty(), "{program:?}\n{failures}");
}

impl Stack {
    fn start(program: Program, scenario: Scenario) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let certificate = Certificate::create_files(path, &[HOST]).expect("a certificate");
        let [listen, listen_http] = free_ports(2).expect("free ports")[..] else {
            panic!("two ports");
        };
        let (listen, listen_http) = (local(listen), local(listen_http));
        let app = app::start();
        let file = path.join(program.file_name());
        let mut settings = scenario.settings(app);
        let options = scenario.options(program, &certificate, listen, listen_http);

        // The printed file says which settings the gateway needs, and these are the ones that it gets.
        print(program.front(), &settings, &options, &file);
        settings.extend(needed_settings(&file));
        let gateway = Gateway::start(
            &named("FLUXLIT_TEST_GATEWAY"),
            None,
            settings.iter().map(|(name, value)| (*name, value)),
            path,
        )
        .expect("the gateway starts");
        let upstream = ["--upstream".to_owned(), gateway.address.to_string()];
        let options = [options, upstream.to_vec()].concat();
        let warnings = print(program.front(), &settings, &options, &file);
        let expected = match (program, scenario.tls) {
            (Program::Haproxy | Program::HaproxyRecent, Tls::AtFront) => {
                "reads the key from the file of the certificate"
            }
            _ => "",
        };
        assert!(
            warnings.contains(expected) && warnings.is_empty() == expected.is_empty(),
            "{warnings}"
        );

        if let Some(Err(output)) = program.check(&file) {
            panic!(
                "{program:?} rejects\n{}\n{output}",
                std::fs::read_to_string(&file).unwrap_or_default()
            );
        }
        let visitor = Visitor {
            from: CLIENT,
            front: listen,
            host: HOST.to_owned(),
            trusted: (scenario.tls == Tls::AtFront).then_some(certificate),
            cookie: None,
        };
        let readiness = format!("{}/api/readyz", scenario.mount);
        let front = Front::start(program, &file, || {
            visitor
                .get(&readiness, "")
                .is_ok_and(|response| response.status == 200)
        })
        .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        Self {
            program,
            scenario,
            front,
            listen_http,
            visitor,
            gateway: Some(gateway),
            _folder: folder,
        }
    }

    /// Returns what is wrong with the requests that went through the front.
    fn faults(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |what: &str, result: Result<(), String>| {
            if let Err(found) = result {
                faults.push(format!("{what}: {found}"));
            }
        };
        check("page", self.page());
        check("forged headers", self.forged_headers());
        check("WebSocket", self.sockets());
        check("redirect and cookie", self.redirect_and_cookie());
        check("bare mount", self.bare_mount());
        check("other paths", self.other_paths());
        check("path byte for byte", self.path_bytes());
        check("uploads", self.uploads());
        check("large cookie", self.large_cookie());
        check("Strict-Transport-Security", self.hsts());
        check("http", self.redirect_from_http());
        check("hop", self.hop());
        drop(self.gateway.take());
        check("without the gateway", self.own_error());
        faults
    }

    fn path(&self, below: &str) -> String {
        format!("{}{below}", self.scenario.mount)
    }

    fn get(&self, below: &str, fields: &str) -> Result<Response, String> {
        self.visitor
            .get(&self.path(below), fields)
            .map_err(|error| error.to_string())
    }

    /// Returns the scheme that the app should see.
    fn scheme(&self) -> &'static str {
        if self.scenario.tls == Tls::None {
            "http"
        } else {
            "https"
        }
    }

    fn page(&self) -> Result<(), String> {
        let response = self.get("/", "")?;
        expect(
            response.status == 200 && response.text().contains("the page of the app"),
            &response,
        )
    }

    /// Nothing that the client says about itself arrives.
    fn forged_headers(&self) -> Result<(), String> {
        let response = self.get("/received", FORGED)?;
        let received = response.text().to_ascii_lowercase();
        expect(
            response.status == 200
                && !["6.6.6.6", "evil"]
                    .iter()
                    .any(|forged| received.contains(forged)),
            &response,
        )?;
        let address = format!("x-forwarded-for: {CLIENT}");
        let host = format!("host: {HOST}");
        let scheme = format!("x-forwarded-proto: {}", self.scheme());
        // Behind a hop, this client is not the hop, and the front itself serves http.
        let is_scheme_fixed = self.scenario.tls != Tls::InFront;
        for line in [&address, &host, &scheme] {
            let is_expected = received.lines().any(|received| received == line);
            if !is_expected && (is_scheme_fixed || line != &scheme) {
                return Err(format!("`{line}` is missing in\n{received}"));
            }
        }
        Ok(())
    }

    fn sockets(&self) -> Result<(), String> {
        let path = self.path("/_stcore/stream");
        let origin = format!("{}://{HOST}", self.scheme());
        let (response, mut connection) = self
            .visitor
            .socket(&path, &origin)
            .map_err(|error| error.to_string())?;
        expect(response.status == 101, &response)?;
        let reply = echo(&mut connection, "hello").map_err(|error| error.to_string())?;
        if reply != "hello" {
            return Err(format!("the message came back as {reply:?}"));
        }
        let (response, _) = self
            .visitor
            .socket(&path, "https://evil.example")
            .map_err(|error| error.to_string())?;
        expect(response.status == 403, &response)
    }

    fn redirect_and_cookie(&self) -> Result<(), String> {
        let response = self.get("/login", "")?;
        let location = response.values("location").concat();
        let cookie = response.values("set-cookie").concat();
        let path = if self.scenario.mount.is_empty() {
            "/"
        } else {
            self.scenario.mount
        };
        expect(
            response.status == 302
                && self.is_own(&location, &self.path("/next"))
                && cookie
                    .to_ascii_lowercase()
                    .contains(&format!("path={path}")),
            &response,
        )
    }

    /// Returns true if a `Location` names this path, with or without the public origin.
    fn is_own(&self, location: &str, path: &str) -> bool {
        let origin = format!("{}://{HOST}", self.scheme());
        location == path || location == format!("{origin}{path}")
    }

    fn bare_mount(&self) -> Result<(), String> {
        if self.scenario.mount.is_empty() {
            return Ok(());
        }
        for (query, wanted) in [("", "/"), ("?a=b", "/?a=b")] {
            let response = self.get(query, "")?;
            let location = response.values("location").concat();
            expect(
                matches!(response.status, 301 | 307 | 308)
                    && self.is_own(&location, &self.path(wanted)),
                &response,
            )?;
        }
        Ok(())
    }

    /// A path that only begins with the letters of the mount is another app.
    fn other_paths(&self) -> Result<(), String> {
        if self.scenario.mount.is_empty() {
            return Ok(());
        }
        for path in [
            self.path("X/"),
            "/".to_owned(),
            "/_stcore/health".to_owned(),
        ] {
            let response = self
                .visitor
                .get(&path, "")
                .map_err(|error| error.to_string())?;
            expect(response.status == 404, &response)?;
        }
        Ok(())
    }

    fn path_bytes(&self) -> Result<(), String> {
        let response = self.get("/a%2Fb%20c/received?d=%2F", "")?;
        if self.program == Program::Envoy {
            // The shipped listener rejects escaped slashes.
            return expect(response.status == 400, &response);
        }
        expect(
            response
                .text()
                .starts_with("GET /a%2Fb%20c/received?d=%2F "),
            &response,
        )
    }

    fn uploads(&self) -> Result<(), String> {
        let path = self.path("/upload");
        let sent = self.visitor.post(&path, BODY_LIMIT, true);
        let response = sent.map_err(|error| error.to_string())?;
        expect(
            response.status == 200 && response.text() == BODY_LIMIT.to_string(),
            &response,
        )?;
        let refused = self.visitor.post(&path, BODY_LIMIT + 1, false);
        let response = refused.map_err(|error| error.to_string())?;
        expect(response.status == 413, &response)
    }

    /// Logins set cookies that many proxies refuse by default.
    fn large_cookie(&self) -> Result<(), String> {
        let cookie = format!("Cookie: session={}\r\n", "x".repeat(LARGE_COOKIE));
        let response = self.get("/", &cookie)?;
        expect(response.status == 200, &response)
    }

    /// Every response over https has the header once, and no other has it.
    fn hsts(&self) -> Result<(), String> {
        let upload = self
            .visitor
            .post(&self.path("/upload"), BODY_LIMIT + 1, false);
        let upload = upload.map_err(|error| error.to_string())?;
        let outside = self
            .visitor
            .get("/elsewhere", "")
            .map_err(|error| error.to_string())?;
        for (what, response) in [
            ("page", self.get("/", "")?),
            (
                "bare mount",
                self.get("", "").or_else(|_| self.get("/", ""))?,
            ),
            ("413", upload),
            ("404", outside),
        ] {
            let lines = response.values("strict-transport-security");
            let wanted: &[&str] = match (self.scenario.tls, self.program, what) {
                // Traefik answers paths without a router itself, and adds nothing to that.
                (Tls::AtFront, Program::Traefik, "404") => &[],
                (Tls::AtFront, ..) => &["max-age=31536000"],
                // This client is not the hop, so its connection is not known to be https.
                (Tls::InFront | Tls::None, ..) => &[],
            };
            if lines != wanted && self.scenario.tls != Tls::InFront {
                return Err(format!("{what} has {lines:?}"));
            }
        }
        Ok(())
    }

    /// If the gateway is gone, the front's own error has Strict-Transport-Security once.
    fn own_error(&self) -> Result<(), String> {
        let mut last = None;
        wait_until(ERROR_LIMIT, || {
            last = self.get("/", "").ok();
            last.as_ref()
                .is_some_and(|response| (502..=504).contains(&response.status))
        });
        let response = last.ok_or("no response")?;
        let wanted: &[&str] = match self.scenario.tls {
            Tls::AtFront => &["max-age=31536000"],
            Tls::InFront | Tls::None => &[],
        };
        let is_error = (502..=504).contains(&response.status);
        let has_hsts = response.values("strict-transport-security") == wanted;
        // Behind a hop with TLS, that one owns the field.
        expect(
            is_error && (has_hsts || self.scenario.tls == Tls::InFront),
            &response,
        )
    }

    fn redirect_from_http(&self) -> Result<(), String> {
        if self.scenario.tls != Tls::AtFront {
            return Ok(());
        }
        let plain = Visitor {
            front: self.listen_http,
            trusted: None,
            ..self.visitor.clone()
        };
        for host in [HOST, "evil.example"] {
            let plain = Visitor {
                host: host.to_owned(),
                ..plain.clone()
            };
            let response = plain
                .get(&self.path("/?a=b"), "")
                .map_err(|error| error.to_string())?;
            let location = response.values("location").concat();
            let is_redirect = matches!(response.status, 301 | 308)
                && location == format!("https://{HOST}{}", self.path("/?a=b"));
            // Caddy serves no other host.
            let is_refused = host != HOST && location.is_empty();
            expect(is_redirect || is_refused, &response)?;
        }
        Ok(())
    }

    /// The hop in front is believed, and no other sender.
    fn hop(&self) -> Result<(), String> {
        if self.scenario.tls != Tls::InFront {
            return Ok(());
        }
        let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
        for (from, wanted) in [
            (
                HOP,
                vec!["x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https"],
            ),
            (CLIENT, vec!["x-forwarded-for: 127.0.0.7"]),
        ] {
            let visitor = Visitor {
                from,
                ..self.visitor.clone()
            };
            let response = visitor
                .get(&self.path("/received"), fields)
                .map_err(|error| error.to_string())?;
            let received = response.text().to_ascii_lowercase();
            for line in wanted {
                let is_there = received.lines().any(|received| received == line);
                if !is_there {
                    return Err(format!("from {from}: `{line}` is missing in\n{received}"));
                }
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// Returns the settings that do not depend on the front.
    fn settings(self, app: SocketAddr) -> Vec<(&'static str, String)> {
        let scheme = if self.tls == Tls::None {
            "http"
        } else {
            "https"
        };
        let shape = if self.is_stripped { "stripped" } else { "full" };
        vec![
            ("FLUXLIT_STREAMLIT_UPSTREAM", format!("http://{app}")),
            (
                "FLUXLIT_PUBLIC_BASE_URL",
                format!("{scheme}://{HOST}{}", self.mount),
            ),
            ("FLUXLIT_ROOT_PATH", self.mount.to_owned()),
            ("FLUXLIT_ROOT_PATH_SHAPE", shape.to_owned()),
            ("FLUXLIT_HSTS", "true".to_owned()),
            ("FLUXLIT_TRUSTED_PASS_HEADERS", "X-Auth-Email".to_owned()),
            (
                "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
                BODY_LIMIT.to_string(),
            ),
            ("FLUXLIT_GATEWAY_WS_MAX_LINE_BYTES", "65536".to_owned()),
        ]
    }

    fn options(
        self,
        program: Program,
        certificate: &CertificateFiles,
        listen: SocketAddr,
        listen_http: SocketAddr,
    ) -> Vec<String> {
        let tls = (self.tls == Tls::AtFront).then_some((certificate, listen_http));
        let mut options = options(program, listen, tls);
        if self.tls == Tls::InFront {
            options.extend(["--behind".to_owned(), HOP.to_string()]);
        }
        options
    }
}

const HOST: &str = "portal.example.com";

/// The address of the client. The gateway and the fronts do not trust it.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 7));

/// The address of the hop in front of the front.
const HOP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 20));

/// More than the default limit of nginx, 1 MiB.
const BODY_LIMIT: usize = 2 << 20;

/// How long a front may try to reach a gateway that is gone, in all attempts.
const ERROR_LIMIT: Duration = Duration::from_secs(30);

/// More than the default limits of nginx and Apache, 8 KiB.
const LARGE_COOKIE: usize = 20_000;

/// The user `nobody`, and its group.
const NOBODY: u32 = 65534;

/// What a client must not be able to say about itself.
const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\n\
                      X-Real-IP: 6.6.6.6\r\n\
                      Forwarded: for=6.6.6.6;host=evil.example;proto=ftp\r\n\
                      X-Forwarded-Proto: evil\r\n\
                      X-Forwarded-Host: evil.example\r\n\
                      X-Forwarded-Port: 6666\r\n\
                      X-Forwarded-Prefix: /evil\r\n\
                      X-Forwarded-User: evil\r\n\
                      X-Auth-Email: evil@evil.example\r\n";
