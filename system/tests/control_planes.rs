//! Visits the app through Envoy as Istio and Envoy Gateway configure it, and through the gateway behind it: the page, a WebSocket,
//! redirects, cookies and forged headers. The configurations are in `envoy/control-planes/`, the settings those of the overlays.

use std::net::IpAddr;

use fluxlit_envoy::{Gateway, Place, Placed, Surroundings};
use fluxlit_support::http1::Response;
use fluxlit_system::published::expect;
use fluxlit_system::visitor::{Visitor, echo};
use fluxlit_system::{app, named};

#[test]
fn envoy_gateway() {
    visit(Place::EnvoyGateway);
}

#[test]
fn the_ingress_gateway_of_istio() {
    visit(Place::IstioGateway);
}

#[test]
fn the_sidecar_of_istio() {
    visit(Place::IstioSidecar);
}

#[test]
fn the_waypoint_of_istio() {
    visit(Place::IstioWaypoint);
}

/// Envoy at a place, with a gateway and an app behind it.
struct Stack {
    place: Place,
    placed: Placed,
    visitor: Visitor,
    _gateway: Gateway,
    _folder: tempfile::TempDir,
}

#[track_caller]
fn visit(place: Place) {
    let stack = Stack::start(place);
    let mut faults = Vec::new();
    for (what, check) in CHECKS {
        if let Err(found) = check(&stack) {
            faults.push(format!("{what}: {found}"));
        }
    }
    let log = stack.placed.envoy.log();
    assert!(faults.is_empty(), "{place:?}\n{}\n{log}", faults.join("\n"));
}

type Check = fn(&Stack) -> Result<(), String>;

const CHECKS: [(&str, Check); 9] = [
    ("page", Stack::page),
    ("WebSocket", Stack::socket),
    ("redirect and cookie", Stack::redirect_and_cookie),
    ("bare mount", Stack::bare_mount),
    ("upload", Stack::upload),
    ("other paths", Stack::other_paths),
    ("forged headers", Stack::forged_headers),
    ("http", Stack::redirect_from_http),
    ("others in the mesh", Stack::others),
];

impl Stack {
    fn start(place: Place) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // What the overlay lists: the addresses of the proxy's pods, or that of the sidecar.
        let trusted = if place == Place::IstioSidecar {
            "127.0.0.6"
        } else {
            "127.0.0.1"
        };
        let settings = [
            (
                "FLUXLIT_STREAMLIT_UPSTREAM",
                format!("http://{}", app::start()),
            ),
            ("FLUXLIT_PUBLIC_BASE_URL", format!("https://{HOST}")),
            ("FLUXLIT_ROOT_PATH", MOUNT.to_owned()),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full".to_owned()),
            ("FLUXLIT_COOKIE_PATH", "confine".to_owned()),
            ("FLUXLIT_TRUST_PROXY", "true".to_owned()),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", trusted.to_owned()),
        ];
        let gateway = Gateway::start(
            &named("FLUXLIT_TEST_GATEWAY"),
            None,
            settings,
            folder.path(),
        );
        let gateway = gateway.expect("the gateway starts");
        let placed = place.start(&Surroundings {
            envoy: &named("FLUXLIT_TEST_ENVOY"),
            module: &named("FLUXLIT_TEST_FILTER"),
            host: HOST,
            upstream: gateway.address,
            folder: folder.path(),
        });
        let placed = placed.unwrap_or_else(|error| panic!("{place:?}: {error}"));
        let visitor = Visitor {
            from: CLIENT,
            front: placed.front,
            host: HOST.to_owned(),
            trusted: placed.certificate.clone(),
            cookie: None,
        };
        Self {
            place,
            placed,
            visitor,
            _gateway: gateway,
            _folder: folder,
        }
    }

    /// Requests a path of the app. In a mesh, the ingress gateway has added its fields to those of the client.
    fn get(&self, below: &str, fields: &str) -> Result<Response, String> {
        let added = if self.place.is_in_a_mesh() {
            BY_INGRESS
        } else {
            ""
        };
        self.visitor
            .get(&format!("{MOUNT}{below}"), &format!("{fields}{added}"))
            .map_err(|error| error.to_string())
    }

    fn page(&self) -> Result<(), String> {
        let page = self.get("/", "")?;
        expect(
            page.status == 200 && page.text().contains("the page of the app"),
            &page,
        )?;
        let health = self.get("/_stcore/health", "")?;
        expect(health.text() == "ok", &health)
    }

    fn socket(&self) -> Result<(), String> {
        let added = if self.place.is_in_a_mesh() {
            BY_INGRESS
        } else {
            ""
        };
        let open = |origin: &str| {
            let path = format!("{MOUNT}/_stcore/stream");
            let opened = self.visitor.socket_with(&path, origin, added);
            opened.map_err(|error| error.to_string())
        };
        let (response, mut connection) = open(&format!("https://{HOST}"))?;
        expect(response.status == 101, &response)?;
        let reply = echo(&mut connection, "hello").map_err(|error| error.to_string())?;
        if reply != "hello" {
            return Err(format!("the message came back as {reply:?}"));
        }
        let (response, _) = open("https://evil.example")?;
        expect(response.status == 403, &response)
    }

    fn redirect_and_cookie(&self) -> Result<(), String> {
        let response = self.get("/login", "")?;
        let location = response.values("location").concat();
        let cookie = response.values("set-cookie");
        let is_confined = cookie.iter().any(|cookie| {
            cookie.starts_with("session=") && cookie.contains(&format!("Path={MOUNT}"))
        });
        let is_own = is_own(&location, &format!("{MOUNT}/next"));
        expect(response.status == 302 && is_own && is_confined, &response)
    }

    fn bare_mount(&self) -> Result<(), String> {
        let response = self.get("?a=b", "")?;
        let location = response.values("location").concat();
        let is_own = is_own(&location, &format!("{MOUNT}/?a=b"));
        expect(response.status == 308 && is_own, &response)
    }

    fn upload(&self) -> Result<(), String> {
        let response = self.visitor.post(&format!("{MOUNT}/upload"), UPLOAD, true);
        let response = response.map_err(|error| error.to_string())?;
        expect(
            response.status == 200 && response.text() == UPLOAD.to_string(),
            &response,
        )
    }

    /// What is not below the mount is not the app's.
    fn other_paths(&self) -> Result<(), String> {
        for path in [
            format!("{MOUNT}X/"),
            "/".to_owned(),
            "/_stcore/health".to_owned(),
        ] {
            let response = self.visitor.get(&path, "");
            let response = response.map_err(|error| error.to_string())?;
            expect(response.status == 404, &response)?;
        }
        Ok(())
    }

    fn forged_headers(&self) -> Result<(), String> {
        let response = self.get("/received", FORGED)?;
        let received = response.text().to_ascii_lowercase();
        let is_forged = ["6.6.6.6", "evil"]
            .iter()
            .any(|forged| received.contains(forged));
        expect(response.status == 200 && !is_forged, &response)?;
        let client = match self.place {
            Place::EnvoyGateway | Place::IstioGateway => Some(CLIENT.to_string()),
            Place::IstioSidecar => Some(BY_INGRESS_CLIENT.to_owned()),
            // The filter knows no client there, and the gateway that of the waypoint.
            Place::IstioWaypoint => None,
        };
        // Nor does the filter know the scheme there.
        let scheme = if self.place == Place::IstioWaypoint {
            "http"
        } else {
            "https"
        };
        let mut wanted = vec![
            format!("host: {HOST}"),
            format!("x-forwarded-proto: {scheme}"),
        ];
        wanted.extend(client.map(|client| format!("x-forwarded-for: {client}")));
        for line in wanted {
            if !received.lines().any(|received| received == line) {
                return Err(format!("`{line}` is missing in\n{received}"));
            }
        }
        Ok(())
    }

    fn redirect_from_http(&self) -> Result<(), String> {
        let Some(front) = self.placed.http else {
            return Ok(());
        };
        let plain = Visitor {
            front,
            trusted: None,
            ..self.visitor.clone()
        };
        let response = plain.get(&format!("{MOUNT}/?a=b"), "");
        let response = response.map_err(|error| error.to_string())?;
        let location = response.values("location").concat();
        let is_https = location == format!("https://{HOST}{MOUNT}/?a=b");
        expect(response.status == 301 && is_https, &response)
    }

    /// Who is not the ingress gateway reaches nothing.
    fn others(&self) -> Result<(), String> {
        if !self.place.is_in_a_mesh() {
            return Ok(());
        }
        let other = Visitor {
            front: self.placed.other,
            ..self.visitor.clone()
        };
        let response = other.get(&format!("{MOUNT}/"), BY_INGRESS);
        let response = response.map_err(|error| error.to_string())?;
        expect(response.status == 403, &response)
    }
}

fn is_own(location: &str, path: &str) -> bool {
    location == path || location == format!("https://{HOST}{path}")
}

const HOST: &str = "portal.example.com";
const MOUNT: &str = "/apps/my-app";

/// The address of the client. Nobody trusts it.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

/// What an ingress gateway without the filter adds to each request.
const BY_INGRESS: &str = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n";
const BY_INGRESS_CLIENT: &str = "198.51.100.7";

/// In bytes.
const UPLOAD: usize = 2 << 20;

/// What a client must not be able to say about itself.
const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\n\
                      X-Real-IP: 6.6.6.6\r\n\
                      Forwarded: for=6.6.6.6;host=evil.example;proto=ftp\r\n\
                      X-Forwarded-Prefix: /evil\r\n\
                      X-Forwarded-Client-Cert: URI=spiffe://evil\r\n\
                      X-Forwarded-User: evil\r\n\
                      X-Auth-Request-Email: evil@evil.example\r\n";
