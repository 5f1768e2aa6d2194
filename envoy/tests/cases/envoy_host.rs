//! Runs cases in real Envoy, with the shipped bootstrap and the shipped filter, as a wasm module or as the dynamic module.
//!
//! Each plugin configuration has its own listener. The PROXY protocol sets the peer's address, so a case may name any
//! address; a network-level `set_filter_state` records it, as in the shipped bootstrap. `use_remote_address` is false
//! here: then Envoy keeps the client's X-Forwarded-Proto, and `source.address` is taken from X-Forwarded-For, so a
//! filter that trusted it would fail. Envoy's own path normalisation is off, because the filter's is under test.
//!
//! The client, the upstream and the Envoy process are shared with `host-test diff` (`fluxlit_support`). The bootstrap is
//! not: `diff` runs any filter and builds one that adds and removes nothing; here the shipped one is under test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fluxlit_cases::{Case, ExchangeOutcome, Outcome, Peer, Request, Version};
use fluxlit_envoy::Bootstrap;
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::envoy::Envoy;
use fluxlit_support::envoy::bootstrap::{pipe, proxy_protocol};
use fluxlit_support::player::{Address, Connection, ReceivedResponse, Target, Tls};
use fluxlit_support::port::{free_ports, local};
use fluxlit_support::upstream::Upstream;
use serde_json::{Value, json};

use crate::support::{parts, upstream};

/// A running Envoy with a listener for each kind of connection that the cases need.
pub(crate) struct EnvoyHost {
    module: PathBuf,
    upstream: Upstream,
    targets: BTreeMap<ListenerKey, Target>,
    _envoy: Envoy,
    _folder: tempfile::TempDir,
}

/// Exchanges with the same key share a listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ListenerKey {
    config: String,
    tls: bool,
    peer: PeerKind,
}

/// What Envoy knows about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PeerKind {
    /// Its address is recorded.
    Known,
    /// Nothing is recorded, so the filter must not know the peer.
    Unknown,
    /// It is connected to a Unix socket.
    Unix,
}

impl ListenerKey {
    fn of(case: &Case, request: &Request) -> Self {
        Self {
            config: case.config_text(),
            tls: request.tls,
            peer: match request.peer {
                Peer::Ip(_) => PeerKind::Known,
                Peer::Unknown => PeerKind::Unknown,
                Peer::Unix => PeerKind::Unix,
            },
        }
    }
}

impl EnvoyHost {
    /// Starts Envoy with this filter and all listeners that `cases` need.
    pub(crate) fn start<'a>(module: PathBuf, cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate =
            Certificate::create_files(folder.path(), &["localhost"]).expect("a certificate");
        let upstream = upstream();
        let keys: BTreeSet<ListenerKey> = cases
            .into_iter()
            .flat_map(|case| {
                let exchanges = case.exchanges().into_iter();
                exchanges.map(move |exchange| ListenerKey::of(case, &exchange.request))
            })
            .collect();
        let ports = free_ports(keys.len()).expect("free ports");
        let targets: BTreeMap<ListenerKey, Target> = keys
            .into_iter()
            .zip(ports)
            .map(|(key, port)| {
                let target = target(&key, port, folder.path(), &certificate);
                (key, target)
            })
            .collect();
        let listeners = targets
            .iter()
            .map(|(key, target)| listener(&module, key, target, &certificate))
            .collect();
        let envoy = Bootstrap::shipped()
            .forwarding_to(upstream.address)
            .with_upstream_trailers()
            .with_listeners(listeners)
            .start(&parts().envoy, folder.path(), &["--concurrency", "1"])
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            module,
            upstream,
            targets,
            _envoy: envoy,
            _folder: folder,
        }
    }

    /// Runs one case. A configuration that must be rejected is checked by `envoy --mode validate`.
    pub(crate) fn run(&self, case: &Case) -> Outcome {
        let exchanges = case.exchanges();
        let Some(first) = exchanges.first() else {
            return self.validate(case);
        };
        let is_http2 = first.request.http == Version::Http2;
        // Over HTTP/1, the exchanges of a case share a connection, as long as they come from the same peer.
        let of = |request: &Request| (request.peer, request.tls);
        let mut kept =
            (!is_http2).then(|| (of(&first.request), self.connect(case, &first.request)));
        let served = exchanges.iter().map(|exchange| {
            let request = &exchange.request;
            self.upstream.answer(&exchange.answer);
            if let Some(kept) = &mut kept
                && kept.0 != of(request)
            {
                *kept = (of(request), self.connect(case, request));
            }
            let response = match &mut kept {
                Some((_, connection)) => connection.http1(request, |_| {}),
                None => self.connect(case, request).http2(request),
            };
            let response = response.expect("a response").expect("no reset");
            let ReceivedResponse {
                response,
                is_complete,
            } = response;
            assert!(is_complete, "{}: cut off: {response:?}", case.name);
            ExchangeOutcome {
                upstream: self.upstream.requests().into_iter().next(),
                downstream: response,
            }
        });
        Outcome::Served(served.collect())
    }

    fn validate(&self, case: &Case) -> Outcome {
        let folder = tempfile::tempdir().expect("a folder");
        let (is_accepted, output) = Bootstrap::shipped()
            .with_module(&self.module)
            .with_plugin_config(&case.config_text())
            .validate(&parts().envoy, folder.path())
            .expect("Envoy runs");
        if is_accepted {
            Outcome::Served(Vec::new())
        } else {
            Outcome::Refused(output)
        }
    }

    fn connect(&self, case: &Case, request: &Request) -> Connection {
        let mut target = self.targets[&ListenerKey::of(case, request)].clone();
        if let (Some(peer), Peer::Ip(address)) = (&mut target.peer, request.peer) {
            peer.set_ip(address);
        }
        Connection::open(&target, request.http).expect("a connection")
    }
}

fn target(key: &ListenerKey, port: u16, folder: &Path, certificate: &CertificateFiles) -> Target {
    let is_unix = key.peer == PeerKind::Unix;
    Target {
        address: if is_unix {
            Address::Unix(socket_path(folder, port))
        } else {
            Address::Tcp(local(port))
        },
        peer: (!is_unix).then_some(SocketAddr::from((UNKNOWN_PEER, PEER_PORT))),
        tls: key.tls.then(|| Tls {
            config: certificate.client_config(None).expect("a client"),
            server_name: "localhost".to_owned(),
        }),
    }
}

/// Returns the shipped listener for this kind of connection, without Envoy's own defences.
fn listener(
    module: &Path,
    key: &ListenerKey,
    target: &Target,
    certificate: &CertificateFiles,
) -> Value {
    let mut config: Value = serde_json::from_str(&key.config).expect("a configuration");
    if key.peer != PeerKind::Unix && config.get("peer_filter_state_key").is_none() {
        config["peer_filter_state_key"] = json!("fluxlit.peer");
    }
    let mut bootstrap = Bootstrap::shipped()
        .with_module(module)
        .with_plugin_config(&config.to_string());
    if key.tls {
        bootstrap = bootstrap.with_tls(&certificate.certificate, &certificate.key);
    }
    if let Address::Tcp(address) = target.address {
        bootstrap = bootstrap.listening_on(address);
    }
    let mut value = bootstrap.value()["static_resources"]["listeners"][0].clone();
    value["name"] = json!(format!("{:?}", target.address));
    let chain = &mut value["filter_chains"][0];
    let manager = &mut chain["filters"][1]["typed_config"];
    manager["use_remote_address"] = json!(key.peer == PeerKind::Unix);
    manager["normalize_path"] = json!(false);
    manager["merge_slashes"] = json!(false);
    manager["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED");
    manager["common_http_protocol_options"]["headers_with_underscores_action"] = json!("ALLOW");
    manager["http_protocol_options"] = json!({"enable_trailers": true, "accept_http_10": true});
    if key.peer != PeerKind::Known {
        // The filter that records the peer.
        chain["filters"].as_array_mut().expect("filters").remove(0);
    }
    match &target.address {
        Address::Unix(path) => value["address"] = pipe(path),
        Address::Tcp(_) => value["listener_filters"] = json!([proxy_protocol()]),
    }
    value
}

fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("{port}.sock"))
}

/// The peer of a case that does not name one.
const UNKNOWN_PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

const PEER_PORT: u16 = 40_000;
