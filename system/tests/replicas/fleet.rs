//! Starts Envoy with the files of `envoy/dynamic`, and gateways with a Streamlit each behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_envoy::Gateway;
use fluxlit_support::envoy::Envoy;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::wait::wait_until;
use fluxlit_system::named;
use fluxlit_system::visitor::Visitor;
use serde_json::{Value, json};

/// A running Envoy with the shipped files. Dropping it ends the process.
pub(crate) struct Edge {
    /// A browser without cookies.
    pub(crate) visitor: Visitor,
    envoy: Envoy,
    folder: tempfile::TempDir,
}

/// An edge with two gateways.
pub(crate) struct Fleet {
    pub(crate) edge: Edge,
    pub(crate) gateways: [Replica; 2],
}

/// A gateway with its Streamlit.
pub(crate) struct Replica {
    pub(crate) gateway: Gateway,
    _folder: tempfile::TempDir,
}

impl Edge {
    /// Starts an Envoy in front of gateways at these addresses, which may not run yet.
    pub(crate) fn start(executable: &Path, gateways: [SocketAddr; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let listen = local(free_port().expect("a free port"));
        std::fs::copy(named("FLUXLIT_TEST_FILTER"), path.join(FILTER)).expect("a copy");
        for (name, text) in [("lds.yaml", LDS), ("ecds.yaml", ECDS), ("cds.yaml", CDS)] {
            std::fs::write(path.join(name), placed(text, path, listen, gateways)).expect("a file");
        }
        let bootstrap = placed(BOOTSTRAP, path, listen, gateways);
        let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap).expect("YAML");
        bootstrap["admin"]["address"]["socket_address"]["port_value"] = json!(0);
        let arguments = ["--concurrency", "2"];
        let envoy = Envoy::start(executable, &bootstrap.to_string(), path, &arguments)
            .expect("Envoy starts");
        let visitor = Visitor {
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
            front: listen,
            host: HOST.to_owned(),
            trusted: None,
            cookie: None,
        };
        Self {
            visitor,
            envoy,
            folder,
        }
    }

    /// Copies the module of the filter to another file, with a section more, so that it is another module; returns its path.
    pub(crate) fn new_module(&self) -> PathBuf {
        let mut module = std::fs::read(self.folder.path().join(FILTER)).expect("the module");
        // A custom section: id, length, length of its name, name.
        module.extend(b"\x00\x08\x07version");
        let path = self.folder.path().join("fluxlit_filter-2.wasm");
        std::fs::write(&path, module).expect("a file");
        path
    }

    /// Changes one of the files as its heading says: a changed copy is moved to its place.
    pub(crate) fn change(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        self.replace(name, &text.replace(from, to));
    }

    /// Returns the text of one of the files.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).expect("a file")
    }

    /// Moves a file with this text to the place of one of the files.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let new = self.folder.path().join(format!("new-{name}"));
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(&new, self.folder.path().join(name)).expect("moved");
    }

    /// Returns a counter or gauge of Envoy.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.envoy
            .admin()
            .counter(name)
            .expect("Envoy's admin interface")
    }

    /// Waits until a counter or gauge has at least this value.
    pub(crate) fn wait_for(&self, name: &str, wanted: u64) {
        self.wait(name, || self.stat(name) >= wanted);
    }

    /// Waits until a condition holds.
    pub(crate) fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(wait_until(LIMIT, condition), "{what}\n{}", self.envoy.log());
    }

    pub(crate) fn log(&self) -> String {
        self.envoy.log()
    }
}

impl Fleet {
    /// Starts two gateways and Envoy, and waits until Envoy knows that both are ready.
    pub(crate) fn start() -> Self {
        let gateways = std::thread::scope(|scope| {
            [(); 2]
                .map(|()| scope.spawn(Replica::start))
                .map(|thread| thread.join().expect("a replica"))
        });
        let addresses = [0, 1].map(|place: usize| gateways[place].gateway.address);
        let edge = Edge::start(&named("FLUXLIT_TEST_ENVOY"), addresses);
        edge.wait_for(HEALTHY, 2);
        Self { edge, gateways }
    }
}

impl Replica {
    /// Starts a gateway and its Streamlit, and waits until they are ready.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let app = folder.path().join("app.py");
        std::fs::write(&app, APP).expect("a file");
        let streamlit = named("FLUXLIT_TEST_STREAMLIT").display().to_string();
        let public = format!("http://{HOST}{MOUNT}");
        let settings = [
            ("FLUXLIT_STREAMLIT_COMMAND", streamlit.as_str()),
            ("FLUXLIT_PUBLIC_BASE_URL", &public),
            ("FLUXLIT_ROOT_PATH", MOUNT),
            ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
            ("FLUXLIT_TRUST_PROXY", "true"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "127.0.0.1"),
            // As the heading of cds.yaml says.
            ("FLUXLIT_DRAIN_DELAY_S", "10"),
        ];
        let executable = named("FLUXLIT_TEST_GATEWAY");
        let gateway = Gateway::start(&executable, Some(&app), settings, folder.path())
            .expect("the gateway starts");
        let is_ready = gateway.wait_until_ready(MOUNT, LIMIT);
        assert!(is_ready, "not ready: {}", gateway.service.log());
        Self {
            gateway,
            _folder: folder,
        }
    }
}

/// Puts the folder, the address of the listener and those of the gateways into one of the files.
fn placed(text: &str, folder: &Path, listen: SocketAddr, gateways: [SocketAddr; 2]) -> String {
    let [first, second] = gateways.map(|gateway| format!("port_value: {}", gateway.port()));
    text.replace("/etc/envoy", &folder.display().to_string())
        .replace(
            "port_value: 10000",
            &format!("port_value: {}", listen.port()),
        )
        .replace("port_value: 8000", &first)
        .replace("port_value: 8001", &second)
}

/// Each run of the app offers a file with another content.
const APP: &str = "import uuid
import streamlit as st
st.download_button('Download', str(uuid.uuid4()), file_name='one.txt', mime='text/plain')
";

pub(crate) const BOOTSTRAP: &str = include_str!("../../../envoy/dynamic/bootstrap.yaml");
pub(crate) const LDS: &str = include_str!("../../../envoy/dynamic/lds.yaml");
pub(crate) const ECDS: &str = include_str!("../../../envoy/dynamic/ecds.yaml");
pub(crate) const CDS: &str = include_str!("../../../envoy/dynamic/cds.yaml");

/// The name of the module in `ecds.yaml`.
pub(crate) const FILTER: &str = "fluxlit_filter.wasm";

/// The public host name.
pub(crate) const HOST: &str = "portal.example.com";

/// The path of the app in the shipped files.
pub(crate) const MOUNT: &str = "/apps/my-app";

/// The number of gateways that Envoy sends requests to.
pub(crate) const HEALTHY: &str = "cluster.gateway.membership_healthy";

/// For what must happen, on a machine that does other things as well.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
