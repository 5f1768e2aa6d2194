//! Starts the files of `deploy/compose` with podman-compose, and checks each shape from outside.
//!
//! The ports are those of the files, so this runs in a network namespace of its own: `cargo xtask test compose` makes one.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluxlit_support::certificate::CertificateFiles;
use fluxlit_support::container::{output, remove_all};
use fluxlit_support::port::local;
use fluxlit_support::wait::wait_until;
use fluxlit_system::named;
use fluxlit_system::printed::print;
use fluxlit_system::published::Published;
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

/// The shapes that `FLUXLIT_TEST_SHAPES` names, separated by commas.
#[test]
fn every_shape_serves_the_app() {
    let names = named("FLUXLIT_TEST_SHAPES").display().to_string();
    let mut table = format!("{:<14}", "");
    for (check, _) in Published::CHECKS {
        let _ = write!(table, "{check:<17}");
    }
    let mut failures = String::new();
    remove_all();
    for name in names.split(',') {
        let shape = SHAPES.iter().find(|shape| shape.name == name);
        let running = Running::start(shape.unwrap_or_else(|| panic!("there is no shape {name}")));
        let _ = write!(table, "\n{name:<14}");
        for (check, run) in Published::CHECKS {
            let result = run(&running.published);
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
    published: Published,
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
            cookie: None,
        };
        let published = Published {
            visitor,
            mount: shape.mount.to_owned(),
            origin: match shape.is_https {
                true => "https://127.0.0.1".to_owned(),
                false => shape.origin(),
            },
            // The network of the containers replaces the address.
            client: None,
            body_limit: LIMIT_OF_BODIES,
            name: "portal.example.test".to_owned(),
            http: None,
            replaces_request_id: false,
        };
        let running = Self { shape, published };
        let started = running.compose(&["up", "--detach"]);
        let is_ready = wait_until(Duration::from_secs(180), || {
            running.published.readiness().is_ok()
        });
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
}

impl Drop for Running {
    fn drop(&mut self) {
        self.compose(&["down", "--timeout", "30"]);
    }
}

fn compose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose")
}

/// The limit in `deploy/compose/services/app.yaml`.
const LIMIT_OF_BODIES: usize = 10_485_760;
