//! Starts Envoy as a control plane configures it, from the files of `control-planes/`.
//!
//! Where connections come from other proxies of a mesh, two further listeners stand for these: one has the identity of the
//! ingress gateway, the other a different one. They pass on every byte of a connection, in mutual TLS or in a tunnel.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fluxlit_support::certificate::{Authority, Certificate, CertificateFiles};
use fluxlit_support::envoy::bootstrap::socket;
use fluxlit_support::envoy::{Envoy, EnvoyError};
use fluxlit_support::port::{free_ports, local};
use serde_json::{Value, json};

use crate::bootstrap::Bootstrap;

/// Where a control plane puts the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The Envoy of a Gateway of Envoy Gateway.
    EnvoyGateway,
    /// Istio's ingress gateway.
    IstioGateway,
    /// Istio's sidecar in the pod of the app.
    IstioSidecar,
    /// Istio's waypoint in an ambient mesh.
    IstioWaypoint,
}

/// What replaces the parts of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The Envoy executable.
    pub envoy: &'a Path,
    /// The filter, as a wasm module or, with Envoy Gateway, as the dynamic module.
    pub module: &'a Path,
    /// The public host name, in place of that of the files.
    pub host: &'a str,
    /// The address of the app.
    pub upstream: SocketAddr,
    /// An empty folder for certificates, configuration and log.
    pub folder: &'a Path,
}

/// A running Envoy. Dropping it ends the process.
#[derive(Debug)]
pub struct Placed {
    /// The process.
    pub envoy: Envoy,
    /// Where clients connect; in a mesh, those that have the identity of the ingress gateway.
    pub front: SocketAddr,
    /// Where clients with another identity connect; the same as `front` if clients have none.
    pub other: SocketAddr,
    /// Where the proxy serves http to redirect it, if it does.
    pub http: Option<SocketAddr>,
    /// The certificate for the host name, if clients connect with TLS.
    pub certificate: Option<CertificateFiles>,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 4] = [
        Self::EnvoyGateway,
        Self::IstioGateway,
        Self::IstioSidecar,
        Self::IstioWaypoint,
    ];

    /// Returns the name of the overlay in `deploy/kubernetes/overlays`, which is also that of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EnvoyGateway => "envoy-gateway",
            Self::IstioGateway => "istio-gateway",
            Self::IstioSidecar => "istio-sidecar",
            Self::IstioWaypoint => "istio-waypoint",
        }
    }

    /// Returns true if only proxies of the mesh connect, which have an identity.
    #[must_use]
    pub fn is_in_a_mesh(self) -> bool {
        matches!(self, Self::IstioSidecar | Self::IstioWaypoint)
    }

    /// Reads the file.
    #[must_use]
    pub fn as_written(self) -> Bootstrap {
        let text = match self {
            Self::EnvoyGateway => include_str!("../control-planes/envoy-gateway.yaml"),
            Self::IstioGateway => include_str!("../control-planes/istio-gateway.yaml"),
            Self::IstioSidecar => include_str!("../control-planes/istio-sidecar.yaml"),
            Self::IstioWaypoint => include_str!("../control-planes/istio-waypoint.yaml"),
        };
        Bootstrap::read(self.name(), text)
    }

    /// Starts Envoy with the file, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or Envoy does not start.
    pub fn start(self, surroundings: &Surroundings<'_>) -> Result<Placed, EnvoyError> {
        let run = |source| EnvoyError::Run {
            executable: surroundings.envoy.to_owned(),
            source,
        };
        let ports = free_ports(3).map_err(run)?;
        let [front, second, third] = [ports[0], ports[1], ports[2]].map(local);
        let bootstrap = self
            .as_written()
            .with_address(APP, surroundings.upstream)
            .with_text(HOST, surroundings.host)
            .with_filter(surroundings.module);
        let folder = surroundings.folder;
        if !self.is_in_a_mesh() {
            let (https, http) = match self {
                Self::EnvoyGateway => (10_443, 10_080),
                _ => (443, 80),
            };
            let files = Certificate::create_files(folder, &[surroundings.host]).map_err(run)?;
            let bootstrap = bootstrap
                .with_address((EVERY_ADDRESS, https), front)
                .with_address((EVERY_ADDRESS, http), second)
                .with_text(CERTIFICATE, &shown(&files.certificate))
                .with_text(KEY, &shown(&files.key));
            return Ok(Placed {
                envoy: bootstrap.start(surroundings.envoy, folder, ARGUMENTS)?,
                front,
                other: front,
                http: Some(second),
                certificate: Some(files),
            });
        }
        let mesh = Mesh::create(folder).map_err(run)?;
        let tunnelled = (self == Self::IstioWaypoint).then_some("10.96.0.10:8000");
        let port = if tunnelled.is_some() { 15_008 } else { 8000 };
        let [gateway, other] = [("gateway", front), ("other", second)]
            .map(|(name, address)| mesh.neighbour(name, address, third, tunnelled));
        let bootstrap = bootstrap
            .with_address((EVERY_ADDRESS, port), third)
            .with_destination_port(third.port())
            .with_text(CERTIFICATE, &shown(&mesh.file("app", "certificate")))
            .with_text(KEY, &shown(&mesh.file("app", "key")))
            .with_text(AUTHORITY, &shown(&folder.join("authority.pem")))
            .with(vec![gateway.0, other.0], vec![gateway.1, other.1]);
        Ok(Placed {
            envoy: bootstrap.start(surroundings.envoy, folder, ARGUMENTS)?,
            front,
            other: second,
            http: None,
            certificate: None,
        })
    }
}

impl Bootstrap {
    /// Loads the filter from this file; a dynamic module (`.so`) in the form that Envoy Gateway makes of `dynamicModule`.
    fn with_filter(self, module: &Path) -> Self {
        let is_dynamic = module
            .extension()
            .is_some_and(|extension| extension == "so");
        if !is_dynamic {
            return self.with_text("/etc/envoy/fluxlit_filter.wasm", &shown(module));
        }
        let renamed = self.to_json().replace(
            "envoy.filters.http.wasm/envoyextensionpolicy/my-team/fluxlit/wasm/0",
            "envoy.filters.http.dynamic_modules/envoyextensionpolicy/my-team/fluxlit/dynamic-module/0",
        );
        let mut bootstrap = Self::read("envoy-gateway", &renamed);
        bootstrap.change_every("type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", &|filter| {
            *filter = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
                "dynamic_module_config": {
                    "do_not_close": true,
                    "module": {"local": {"filename": module}},
                },
                "filter_name": "fluxlit",
                "filter_config": filter["config"]["configuration"],
            });
        });
        bootstrap
    }

    /// Changes the port in the conditions of RBAC to the one that Envoy listens on.
    fn with_destination_port(self, port: u16) -> Self {
        self.with_value(
            &json!({"destination_port": 8000}),
            &json!({"destination_port": port}),
        )
    }
}

/// The certificates of a mesh, in a folder.
struct Mesh {
    folder: PathBuf,
}

impl Mesh {
    fn create(folder: &Path) -> std::io::Result<Self> {
        let authority = Authority::create()?;
        std::fs::write(folder.join("authority.pem"), &authority.pem)?;
        let mesh = Self {
            folder: folder.to_owned(),
        };
        for (name, identity) in [
            ("app", "spiffe://cluster.local/ns/my-team/sa/default"),
            ("gateway", GATEWAY),
            ("other", "spiffe://cluster.local/ns/other/sa/other"),
        ] {
            let certificate = authority.sign(&[identity])?;
            std::fs::write(mesh.file(name, "certificate"), &certificate.pem)?;
            std::fs::write(mesh.file(name, "key"), &certificate.key_pem)?;
        }
        Ok(mesh)
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.folder.join(format!("{name}-{what}.pem"))
    }

    /// Returns a listener that passes on connections with this identity, and its cluster. With `destination`, each is the
    /// content of a tunnel to it.
    fn neighbour(
        &self,
        name: &str,
        address: SocketAddr,
        to: SocketAddr,
        destination: Option<&str>,
    ) -> (Value, Value) {
        let mut proxy = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": name,
        });
        let mut cluster = json!({
            "name": name,
            "connect_timeout": "10s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{
                "endpoint": {"address": socket(to)},
            }]}]},
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {
                        // The default is TLS 1.2.
                        "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                        "tls_certificates": [{
                            "certificate_chain": {"filename": self.file(name, "certificate")},
                            "private_key": {"filename": self.file(name, "key")},
                        }],
                    },
                },
            },
        });
        if let Some(destination) = destination {
            proxy["tunneling_config"] = json!({"hostname": destination});
            cluster["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] =
                json!(["h2"]);
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}},
                },
            });
        }
        let listener = json!({
            "name": name,
            "address": socket(address),
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy},
            ]}],
        });
        (listener, cluster)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The identity of the ingress gateway in the overlays.
const GATEWAY: &str = "spiffe://cluster.local/ns/istio-ingress/sa/istio-ingressgateway";

const HOST: &str = "portal.example.com";

/// The address of the app in the files.
const APP: (&str, u16) = ("10.244.1.7", 8000);

const EVERY_ADDRESS: &str = "0.0.0.0";

const AUTHORITY: &str = "/etc/envoy/authority.pem";
const CERTIFICATE: &str = "/etc/envoy/certificate.pem";
const KEY: &str = "/etc/envoy/key.pem";

const ARGUMENTS: &[&str] = &["--concurrency", "1"];
