//! Starts what the shapes share: the app, a gateway for each form of the path, a login service and an OpenID provider.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use fluxlit_envoy::Gateway;
use fluxlit_support::client::get;
use fluxlit_support::http1;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::service::Service;
use fluxlit_support::upstream::serve;
use fluxlit_system::{Mark, named};

use crate::shape::{Form, Shape};

/// What the shapes share. Dropping it ends the processes.
pub(crate) struct Parts {
    folder: tempfile::TempDir,
    app: App,
    gateways: [OnceLock<Gateway>; 2 * Form::ALL.len()],
    login_service: OnceLock<SocketAddr>,
    provider: OnceLock<(SocketAddr, Service)>,
}

/// The app of `deploy/images/app`, started by a gateway of its own. The other gateways use its Streamlit and its API.
struct App {
    streamlit: String,
    api: String,
    _gateway: Gateway,
}

impl Parts {
    /// Starts the app.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let app = App::start(folder.path());
        Self {
            folder,
            app,
            gateways: Default::default(),
            login_service: OnceLock::new(),
            provider: OnceLock::new(),
        }
    }

    /// Returns the settings of the gateway behind a shape.
    pub(crate) fn settings(&self, shape: Shape) -> Vec<(&'static str, String)> {
        let scheme = if shape.is_https { "https" } else { "http" };
        let mount = shape.form.mount();
        let path = if shape.form.is_stripped() {
            "stripped"
        } else {
            "full"
        };
        vec![
            ("FLUXLIT_STREAMLIT_UPSTREAM", self.app.streamlit.clone()),
            ("FLUXLIT_API_UPSTREAM", self.app.api.clone()),
            (
                "FLUXLIT_PUBLIC_BASE_URL",
                format!("{scheme}://{HOST}{mount}"),
            ),
            ("FLUXLIT_ROOT_PATH", mount.to_owned()),
            ("FLUXLIT_ROOT_PATH_SHAPE", path.to_owned()),
            ("FLUXLIT_TRUST_PROXY", "true".to_owned()),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1".to_owned()),
            ("FLUXLIT_HSTS", "true".to_owned()),
            ("FLUXLIT_TRUSTED_PASS_HEADERS", IDENTITY.join(",")),
            (
                "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES",
                BODY_LIMIT.to_string(),
            ),
        ]
    }

    /// Returns the address of the gateway behind a shape.
    pub(crate) fn gateway(&self, shape: Shape) -> SocketAddr {
        let form = Form::ALL.iter().position(|form| *form == shape.form);
        let place = 2 * form.unwrap_or_default() + usize::from(shape.is_https);
        let gateway = self.gateways[place].get_or_init(|| {
            let folder = self.folder.path().join(place.to_string());
            std::fs::create_dir(&folder).expect("a folder");
            start_gateway(None, &self.settings(shape), &folder)
        });
        gateway.address
    }

    /// Returns the address of a service that knows one user by a cookie: it responds with 204 and the user, or with 401.
    pub(crate) fn login_service(&self) -> SocketAddr {
        *self.login_service.get_or_init(|| {
            serve(|stream| {
                while let Ok(Some(head)) = http1::read_head_blocking(stream) {
                    let response = if head.values("cookie").contains(&LOGIN_COOKIE) {
                        format!("HTTP/1.1 204 No Content\r\nX-Auth-Email: {USER}\r\n\r\n")
                    } else {
                        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
                    };
                    if stream.get_mut().write_all(response.as_bytes()).is_err() {
                        break;
                    }
                }
            })
            .expect("a free port")
        })
    }

    /// Returns the address of an OpenID provider with one user.
    pub(crate) fn provider(&self) -> SocketAddr {
        let (address, _) = self.provider.get_or_init(|| {
            let address = local(free_port().expect("a free port"));
            let mut command = Command::new(named("FLUXLIT_TEST_OPENID_PROVIDER"));
            command
                .args(["--port", &address.port().to_string(), "--user-claims"])
                .arg(format!(r#"{{"sub": "{SUBJECT}", "email": "{USER}"}}"#));
            let log = self.folder.path().join("provider.log");
            let service = Service::start("the OpenID provider", command, &log, |_| {
                get(address, "/.well-known/openid-configuration", None)
                    .is_ok_and(|response| response.status == 200)
            });
            (address, service.expect("the OpenID provider starts"))
        });
        *address
    }
}

impl App {
    fn start(folder: &Path) -> Self {
        let programs = named("FLUXLIT_TEST_FLUXLIT_BIN");
        let mark = Mark::new("app");
        let settings = [
            (
                "FLUXLIT_PYTHON",
                programs.join("python").display().to_string(),
            ),
            (Mark::VARIABLE, mark.value().to_owned()),
            // The folder of the app stays as it is.
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        let app = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../deploy/images/app/app/app.py:app"
        );
        let gateway = start_gateway(Some(Path::new(app)), &settings, folder);
        let commands: Vec<String> = mark
            .processes()
            .into_iter()
            .map(|process| process.command)
            .collect();
        let url = |program: &str, option: &str| {
            let port = commands
                .iter()
                .filter(|command| command.contains(program))
                .find_map(|command| command.split_once(option)?.1.split(' ').next());
            let port = port.unwrap_or_else(|| panic!("no {program} in {commands:#?}"));
            format!("http://127.0.0.1:{port}")
        };
        Self {
            streamlit: url("streamlit run", "--server.port "),
            api: url("-m uvicorn", "--port "),
            _gateway: gateway,
        }
    }
}

/// Starts a gateway, and waits until it and the app are ready.
fn start_gateway(
    app: Option<&Path>,
    settings: &[(&'static str, String)],
    folder: &Path,
) -> Gateway {
    let executable = named("FLUXLIT_TEST_GATEWAY");
    let pairs = settings.iter().map(|(name, value)| (*name, value));
    let gateway = Gateway::start(&executable, app, pairs, folder).expect("the gateway starts");
    let mount = settings
        .iter()
        .find(|(name, _)| *name == "FLUXLIT_ROOT_PATH")
        .map_or("", |(_, value)| value);
    let is_ready = gateway.wait_until_ready(mount, Duration::from_secs(120));
    assert!(is_ready, "not ready: {}", gateway.service.log());
    gateway
}

/// The public host name.
pub(crate) const HOST: &str = "portal.example.com";

/// The maximum length of a request's body.
pub(crate) const BODY_LIMIT: usize = 2 << 20;

/// The headers in which a login tells the app who the user is: of nginx, and of Apache's OpenID Connect.
pub(crate) const IDENTITY: [&str; 2] = ["X-Auth-Email", "OIDC_CLAIM_email"];

/// The user of the login service and of the provider.
pub(crate) const USER: &str = "alice@example.com";

/// The user's name at the provider.
pub(crate) const SUBJECT: &str = "alice";

/// The cookie of a user who has logged in at the login service.
pub(crate) const LOGIN_COOKIE: &str = "login=alice";
