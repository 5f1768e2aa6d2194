//! Starts a shape: the front, and what is between it and the gateway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use fluxlit_support::certificate::Certificate;
use fluxlit_support::port::{free_ports, local};
use fluxlit_system::front::{Front as Running, Program, Varnish};
use fluxlit_system::printed::{needed_settings, options, print};
use fluxlit_system::published::Published;
use fluxlit_system::visitor::Visitor;

use crate::login;
use crate::parts::{BODY_LIMIT, HOST, Parts};
use crate::shape::{Front, Shape};

/// A shape that runs. Dropping it ends the front.
pub(crate) struct Edge {
    pub(crate) published: Published,
    shape: Shape,
    gateway: SocketAddr,
    front: Option<Running>,
    varnish: Option<Varnish>,
    _folder: tempfile::TempDir,
}

impl Edge {
    /// Starts a shape, waits until requests get through it, and logs in if it has a login.
    pub(crate) fn start(shape: Shape, parts: &Parts) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path();
        let certificate =
            Certificate::create_files(path, &[HOST]).map_err(|error| error.to_string())?;
        let ports = free_ports(3).map_err(|error| error.to_string())?;
        let [listen, listen_http, inner] = ports[..] else {
            return Err("three ports".to_owned());
        };
        let (listen, listen_http, inner) = (local(listen), local(listen_http), local(inner));
        let gateway = parts.gateway(shape);
        let mut visitor = Visitor {
            from: CLIENT,
            front: listen,
            host: HOST.to_owned(),
            trusted: shape.is_https.then(|| certificate.clone()),
            cookie: None,
        };
        let mount = shape.form.mount();
        let page = format!("{mount}/");
        let responds = |visitor: &Visitor| {
            let response = visitor.get(&page, "");
            // A front with a login sends strangers to it.
            response.is_ok_and(|response| matches!(response.status, 200 | 302 | 401))
        };

        let varnish = (shape.front == Front::Varnish)
            .then(|| {
                let address = if shape.is_https { inner } else { listen };
                let plain = Visitor {
                    front: address,
                    trusted: None,
                    ..visitor.clone()
                };
                start_varnish(path, address, gateway, || responds(&plain))
            })
            .transpose()?;
        let front = printed(shape)
            .map(|program| {
                let file = path.join(program.file_name());
                let tls = shape.is_https.then_some((&certificate, listen_http));
                let mut options = options(program, listen, tls);
                let upstream = if varnish.is_some() { inner } else { gateway };
                options.extend(["--upstream".to_owned(), upstream.to_string()]);
                let settings = parts.settings(shape);
                print(program.front(), &settings, &options, &file);
                for needed in needed_settings(&file) {
                    if !settings.contains(&needed) {
                        return Err(format!("the file asks for {needed:?}"));
                    }
                }
                login::add_to(&file, shape.front, parts)?;
                if let Some(Err(output)) = program.check(&file) {
                    return Err(format!("{program:?} rejects the file: {output}"));
                }
                Running::start(program, &file, || responds(&visitor))
            })
            .transpose()?;
        visitor.cookie = login::log_in(shape.front, &visitor, mount, || parts.provider())?;
        let scheme = if shape.is_https { "https" } else { "http" };
        Ok(Self {
            published: Published {
                visitor,
                mount: mount.to_owned(),
                origin: format!("{scheme}://{HOST}"),
                client: Some(CLIENT),
                body_limit: BODY_LIMIT,
                name: HOST.to_owned(),
                http: shape.is_https.then_some(listen_http),
                replaces_request_id: shape.front == Front::Printed(Program::Envoy),
            },
            shape,
            gateway,
            front,
            varnish,
            _folder: folder,
        })
    }

    /// Checks that only the login names the user.
    pub(crate) fn check_login(&self) -> Result<(), String> {
        login::check(&self.published, self.shape.front, self.gateway)
    }

    /// Returns what the front has logged.
    pub(crate) fn log(&self) -> String {
        let front = self.front.as_ref().map(Running::log);
        let varnish = self.varnish.as_ref().map(Varnish::log);
        [front, varnish].into_iter().flatten().collect()
    }
}

/// Returns the program whose configuration is printed.
fn printed(shape: Shape) -> Option<Program> {
    match shape.front {
        Front::Printed(program) => Some(program),
        Front::ApacheLogin => Some(Program::Apache),
        Front::NginxLogin => Some(Program::Nginx),
        Front::Varnish => shape.is_https.then_some(Program::Nginx),
    }
}

/// Starts Varnish with the shipped file, whose gateway and limit are those of this test.
fn start_varnish(
    folder: &Path,
    listen: SocketAddr,
    gateway: SocketAddr,
    is_ready: impl FnMut() -> bool,
) -> Result<Varnish, String> {
    let mut text = VARNISH.to_owned();
    for (from, to) in [
        (
            ".port = \"8000\";",
            format!(".port = \"{}\";", gateway.port()),
        ),
        ("268435456", BODY_LIMIT.to_string()),
    ] {
        if text.matches(from).count() != 1 {
            return Err(format!("{from} is not once in varnish.vcl"));
        }
        text = text.replace(from, &to);
    }
    let own = folder.join("varnish");
    std::fs::create_dir(&own).map_err(|error| error.to_string())?;
    let file = folder.join("varnish.vcl");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    Varnish::start(&file, listen, &own, is_ready)
}

/// The file that `docs/fronts.md` describes.
pub(crate) const VARNISH: &str = include_str!("../../../envoy/fronts/varnish.vcl");

/// The address of the browser. Neither the fronts nor the gateway trust it.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
