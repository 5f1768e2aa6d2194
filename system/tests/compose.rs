//! Starts the files of `deploy/compose` with podman-compose, and checks each shape from outside.
//!
//! The ports are those of the files, so this runs in a network namespace of its own: `cargo xtask test compose` makes one.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluxlit_support::certificate::CertificateFiles;
use fluxlit_support::http1::Response;
use fluxlit_support::port::local;
use fluxlit_support::wait::wait_until;
use fluxlit_system::container::output;
use fluxlit_system::named;
use fluxlit_system::printed::print;
use fluxlit_system::visitor::Visitor;

/// A file of `deploy/compose`.
struct Shape {
    name: &'static str,
    port: u16,
    mount: &'static str,
    is_stripped: bool,
    is_https: bool,
    /// The front for `config --for`, and the file of `deploy/compose` that it prints.
    front: (&'static str, &'static str),
}

static SHAPES: [Shape; 7] = [
    nginx("strip-prefix", 8080, "/myapp", true, "strip-prefix.conf"),
    nginx("full-path", 8081, "/myapp", false, "full-path.conf"),
    nginx("root", 8082, "", false, "root.conf"),
    nginx(
        "apps-prefix",
        8083,
        "/apps/my-app",
        true,
        "apps-prefix.conf",
    ),
    Shape {
        front: ("caddy", "Caddyfile"),
        ..nginx("caddy", 8084, "/myapp", true, "")
    },
    Shape {
        front: ("traefik", "traefik.yml"),
        ..nginx("traefik", 8085, "/myapp", true, "")
    },
    Shape {
        is_https: true,
        ..nginx("https", 8444, "/myapp", true, "https.conf")
    },
];

const fn nginx(
    name: &'static str,
    port: u16,
    mount: &'static str,
    is_stripped: bool,
    file: &'static str,
) -> Shape {
    Shape {
        name,
        port,
        mount,
        is_stripped,
        is_https: false,
        front: ("nginx", file),
    }
}

type Check = fn(&Running) -> Result<(), String>;

const CHECKS: [(&str, Check); 10] = [
    ("health", Running::health),
    ("readiness", Running::readiness),
    ("page", Running::page),
    ("WebSocket", Running::socket),
    ("upload", Running::upload),
    ("request id", Running::request_id),
    ("413", Running::too_large),
    ("forged headers", Running::forged_headers),
    ("Location, cookie", Running::redirect_and_cookie),
    ("HSTS", Running::hsts),
];

/// The shapes that `FLUXLIT_TEST_SHAPES` names, separated by commas.
#[test]
fn every_shape_serves_the_app() {
    let names = named("FLUXLIT_TEST_SHAPES").display().to_string();
    let mut table = format!("{:<14}", "");
    for (check, _) in CHECKS {
        let _ = write!(table, "{check:<17}");
    }
    let mut failures = String::new();
    for name in names.split(',') {
        let shape = SHAPES.iter().find(|shape| shape.name == name);
        let running = Running::start(shape.unwrap_or_else(|| panic!("there is no shape {name}")));
        let _ = write!(table, "\n{name:<14}");
        for (check, run) in CHECKS {
            let result = run(&running);
            let _ = write!(
                table,
                "{:<17}",
                if result.is_ok() { "ok" } else { "FAILED" }
            );
            if let Err(found) = result {
                let _ = writeln!(failures, "{name}: {check}: {found}");
            }
        }
    }
    println!("{table}");
    assert!(failures.is_empty(), "{failures}");
}

/// A change of what the gateway prints must reach the files, and a change of the files must come from there.
#[test]
fn the_files_of_the_fronts_are_what_the_gateway_prints() {
    for shape in &SHAPES {
        let (front, file) = shape.front;
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join(file);
        let mut options = vec!["--streamlit-upstream", "http://127.0.0.1:8501"];
        options.extend(["--upstream", "app:8000", "--listen"]);
        if shape.is_https {
            options.extend(["0.0.0.0:8443", "--certificate"]);
            options.extend(["/etc/fluxlit/certificates/certificate.pem", "--key"]);
            options.push("/etc/fluxlit/certificates/key.pem");
        } else {
            options.push("0.0.0.0:8080");
        }
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        print(front, &shape.settings(), &options, &output);
        let mut files = vec![file];
        if front == "traefik" {
            files.push("traefik-dynamic.yml");
        }
        for file in files {
            let printed = std::fs::read_to_string(folder.path().join(file)).expect("printed");
            let shown = folder.path().display().to_string();
            let printed = printed.replace(&shown, "/etc/fluxlit");
            let shipped = std::fs::read_to_string(compose().join(file)).expect("shipped");
            assert!(
                printed == shipped,
                "deploy/compose/{file} should be\n{printed}"
            );
        }
    }
}

impl Shape {
    fn origin(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The settings of the gateway in the file of the shape, as far as they concern the front.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("FLUXLIT_TRUST_PROXY", "1".to_owned()),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "172.30.80.2".to_owned()),
            (
                "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
                LIMIT_OF_BODIES.to_string(),
            ),
        ];
        if self.is_https {
            settings.push(("FLUXLIT_HSTS", "true".to_owned()));
        } else {
            let base = format!("{}{}", self.origin(), self.mount);
            settings.push(("FLUXLIT_PUBLIC_BASE_URL", base));
        }
        if !self.mount.is_empty() {
            let form = if self.is_stripped { "stripped" } else { "full" };
            settings.push(("FLUXLIT_ROOT_PATH", self.mount.to_owned()));
            settings.push(("FLUXLIT_ROOT_PATH_SHAPE", form.to_owned()));
        }
        settings
    }
}

/// A shape whose containers run. Dropping it removes them.
struct Running {
    shape: &'static Shape,
    visitor: Visitor,
}

impl Running {
    fn start(shape: &'static Shape) -> Self {
        let certificates = compose().join("certificates");
        let trusted = shape.is_https.then(|| CertificateFiles {
            certificate: certificates.join("certificate.pem"),
            key: certificates.join("key.pem"),
        });
        let host = match shape.is_https {
            true => "127.0.0.1".to_owned(),
            false => format!("127.0.0.1:{}", shape.port),
        };
        let visitor = Visitor {
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
            front: local(shape.port),
            host,
            trusted,
        };
        let running = Self { shape, visitor };
        let started = running.compose(&["up", "--detach"]);
        let is_ready = wait_until(Duration::from_secs(180), || running.readiness().is_ok());
        if !is_ready {
            let logs = running.compose(&["logs"]);
            panic!("{} is not ready: {started}\n{logs}", shape.name);
        }
        running
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let output = output(
            Command::new(named("FLUXLIT_TEST_PODMAN_COMPOSE"))
                .arg("--file")
                .arg(compose().join(format!("{}.yaml", self.shape.name)))
                .args(arguments),
        );
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn path(&self, below: &str) -> String {
        format!("{}{below}", self.shape.mount)
    }

    fn get(&self, below: &str, fields: &str) -> Result<Response, String> {
        let response = self.visitor.get(&self.path(below), fields);
        response.map_err(|error| error.to_string())
    }

    fn health(&self) -> Result<(), String> {
        let response = self.get("/api/healthz", "")?;
        expect(response.text() == r#"{"status":"ok"}"#, &response)
    }

    fn readiness(&self) -> Result<(), String> {
        let response = self.get("/api/readyz", "")?;
        expect(response.status == 200, &response)
    }

    fn page(&self) -> Result<(), String> {
        let response = self.get("/", "")?;
        let is_page = response.text().contains("<title>Streamlit</title>");
        expect(response.status == 200 && is_page, &response)
    }

    /// The page of the app may open a WebSocket, and the page of another site may not.
    fn socket(&self) -> Result<(), String> {
        let own = match self.shape.is_https {
            true => "https://127.0.0.1".to_owned(),
            false => self.shape.origin(),
        };
        for (origin, status) in [(own.as_str(), 101), ("https://evil.example", 403)] {
            let path = self.path("/_stcore/stream");
            let (response, _) = self
                .visitor
                .socket(&path, origin)
                .map_err(|error| error.to_string())?;
            expect(response.status == status, &response)?;
        }
        Ok(())
    }

    fn upload(&self) -> Result<(), String> {
        let response = self
            .visitor
            .post(&self.path("/api/upload"), 1_000_000, true)
            .map_err(|error| error.to_string())?;
        expect(response.text().contains(r#""size":1000000"#), &response)
    }

    fn request_id(&self) -> Result<(), String> {
        let id = "a-request-of-this-test";
        let response = self.get("/api/request-id", &format!("X-Request-ID: {id}\r\n"))?;
        let is_returned = response.values("x-request-id") == [id];
        expect(is_returned && response.text().contains(id), &response)
    }

    fn too_large(&self) -> Result<(), String> {
        let response = self
            .visitor
            .post(&self.path("/api/upload"), LIMIT_OF_BODIES + 1, false)
            .map_err(|error| error.to_string())?;
        expect(response.status == 413, &response)
    }

    fn forged_headers(&self) -> Result<(), String> {
        let response = self.get("/api/received", FORGED)?;
        let text = response.text();
        let is_forged = ["6.6.6.6", "evil"].iter().any(|word| text.contains(word));
        let scheme = if self.shape.is_https { "https" } else { "http" };
        let is_true = text.contains(&format!(r#"["x-forwarded-proto","{scheme}"]"#));
        expect(response.status == 200 && is_true && !is_forged, &response)
    }

    fn redirect_and_cookie(&self) -> Result<(), String> {
        let response = self.get("/api/login", "")?;
        let location = response.values("location").concat();
        let cookie = response.values("set-cookie").concat();
        let is_below = location.ends_with(&self.path("/api/smoke"))
            && cookie.contains(&format!("Path={}", self.path("/api")));
        expect(response.status == 302 && is_below, &response)
    }

    /// Once over https, and never for an address or over http.
    fn hsts(&self) -> Result<(), String> {
        let response = self.get("/api/readyz", "")?;
        expect(response.values(HSTS).is_empty(), &response)?;
        if self.shape.is_https {
            let mut visitor = self.visitor.clone();
            "portal.example.test".clone_into(&mut visitor.host);
            let path = self.path("/api/readyz");
            let response = visitor.get(&path, "").map_err(|error| error.to_string())?;
            expect(response.values(HSTS).len() == 1, &response)?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.compose(&["down", "--timeout", "30"]);
    }
}

fn expect(holds: bool, response: &Response) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    let head = response.head.lines.join("\n");
    let text = response.text();
    Err(format!("{head}\n\n{}", text.get(..500).unwrap_or(&text)))
}

fn compose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose")
}

/// The limit in `deploy/compose/services/app.yaml`.
const LIMIT_OF_BODIES: usize = 10_485_760;

const HSTS: &str = "strict-transport-security";

const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: evil\r\n\
    Forwarded: for=6.6.6.6;host=evil.example\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nX-Remote-User: evil\r\n";
