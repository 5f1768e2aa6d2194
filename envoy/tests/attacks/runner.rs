//! Starts the listener, attacks it, and collects the attacks that succeed.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fluxlit_cases::{Answer, UpstreamRequest};
use fluxlit_envoy::{Bootstrap, Place, Surroundings, plugin_config};
use fluxlit_support::certificate::{Certificate, CertificateFiles};
use fluxlit_support::client::tls_as;
use fluxlit_support::envoy::Envoy;
use fluxlit_support::http1::read_head_blocking;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::upstream::Upstream;
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::http2;
use super::request::{Attack, lines_of};
use super::support::{connect_from, parts, upstream};
use super::table::{HOST, PASSED};

/// A form of the listener in `bootstrap.yaml`, or a listener that a control plane makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Unchanged. No peer is trusted.
    Shipped,
    /// 127.0.0.1 is trusted.
    Trusting,
    /// 127.0.0.1 is trusted, TLS is terminated as in `tls.yaml`.
    Tls,
    /// 127.0.0.1 is trusted, and all of Envoy's own defences are off: it forwards trailers and fields with underscores,
    /// does not change paths, and takes the remote address from X-Forwarded-For.
    FilterAlone,
    /// As in `control-planes/`.
    Made(Place),
}

/// How a listener treats a path before the filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    /// Dot segments are resolved, repeated slashes merged, escaped slashes rejected.
    Strict,
    /// Dot segments are resolved.
    Resolved,
    /// Paths are not changed.
    Unchanged,
}

impl Form {
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Tls
            | Self::Made(Place::EnvoyGateway | Place::IstioGateway | Place::IstioSidecar) => {
                "https"
            }
            _ => "http",
        }
    }

    pub(crate) fn trusts(self, peer: Peer) -> bool {
        match self {
            Self::Shipped => false,
            Self::Trusting | Self::Tls | Self::FilterAlone => peer != Peer::Untrusted,
            // By its identity.
            Self::Made(place) => place == Place::IstioSidecar && peer != Peer::Untrusted,
        }
    }

    /// Returns false if an AuthorizationPolicy rejects every request of this peer.
    pub(crate) fn admits(self, peer: Peer) -> bool {
        !matches!(self, Self::Made(place) if place.is_in_a_mesh()) || peer != Peer::Untrusted
    }

    /// Returns false if the filter does not know the address of each peer: at a waypoint, X-Forwarded-For replaces it.
    pub(crate) fn knows_peers(self) -> bool {
        self != Self::Made(Place::IstioWaypoint)
    }

    /// Returns true if Envoy leaves the X-Forwarded-Proto of a peer to the filter.
    pub(crate) fn reads_scheme(self) -> bool {
        matches!(
            self,
            Self::FilterAlone | Self::Made(Place::IstioSidecar | Place::IstioWaypoint)
        )
    }

    /// Returns true if the configuration of the filter lets a trusted peer send [`PASSED`].
    pub(crate) fn passes_user(self) -> bool {
        matches!(self, Self::Trusting | Self::Tls | Self::FilterAlone)
    }

    /// Returns true if Envoy writes the certificate of the peer into its own field, and this is the value. The filter leaves that
    /// field to Envoy.
    pub(crate) fn names_certificate(self, value: &str) -> bool {
        self.adds_certificate()
            && value.starts_with("By=spiffe://cluster.local/ns/my-team/sa/default;")
            && value
                .ends_with(";URI=spiffe://cluster.local/ns/istio-ingress/sa/istio-ingressgateway")
            && !value.contains(',')
    }

    /// Returns true if Envoy adds the certificate of the peer to those that the peer sends. So the peer must remove those of its
    /// client, as an ingress gateway does.
    pub(crate) fn adds_certificate(self) -> bool {
        self == Self::Made(Place::IstioSidecar)
    }

    pub(crate) fn rejects_underscores(self) -> bool {
        !matches!(
            self,
            Self::FilterAlone
                | Self::Made(Place::IstioGateway | Place::IstioSidecar | Place::IstioWaypoint)
        )
    }

    pub(crate) fn paths(self) -> Paths {
        match self {
            Self::FilterAlone => Paths::Unchanged,
            Self::Made(Place::IstioGateway | Place::IstioSidecar | Place::IstioWaypoint) => {
                Paths::Resolved
            }
            _ => Paths::Strict,
        }
    }

    /// Returns true if there are routes for this host.
    pub(crate) fn serves(self, host: &str) -> bool {
        let (name, _port) = host.split_once(':').unwrap_or((host, ""));
        !matches!(self, Self::Made(Place::EnvoyGateway | Place::IstioGateway)) || name == HOST
    }

    /// Returns true if the app receives paths with the mount.
    pub(crate) fn keeps_mount(self) -> bool {
        matches!(self, Self::Made(_))
    }

    fn plugin_config(self) -> String {
        if self == Self::Shipped {
            return plugin_config().to_owned();
        }
        let mut config: Value =
            serde_json::from_str(plugin_config()).expect("the shipped configuration is JSON");
        config["trust_proxy"] = json!(true);
        config["forwarded_allow_ips"] = json!(Peer::Trusted.address().to_string());
        config["trusted_pass_headers"] = json!([PASSED]);
        config.to_string()
    }

    fn bootstrap(self, certificate: &CertificateFiles) -> Bootstrap {
        let bootstrap = Bootstrap::shipped()
            .with_module(&parts().module)
            .with_plugin_config(&self.plugin_config());
        match self {
            // A control plane makes another bootstrap, see `Listener::start`.
            Self::Shipped | Self::Trusting | Self::Made(_) => bootstrap,
            Self::Tls => bootstrap.with_tls(&certificate.certificate, &certificate.key),
            Self::FilterAlone => {
                let mut listener = bootstrap.value()["static_resources"]["listeners"][0].clone();
                let manager = &mut listener["filter_chains"][0]["filters"][1]["typed_config"];
                manager["http_protocol_options"] = json!({"enable_trailers": true});
                manager["common_http_protocol_options"]["headers_with_underscores_action"] =
                    json!("ALLOW");
                for defence in ["use_remote_address", "normalize_path", "merge_slashes"] {
                    manager[defence] = json!(false);
                }
                manager["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED");
                bootstrap
                    .with_listeners(vec![listener])
                    .with_upstream_trailers()
            }
        }
    }
}

/// The peer that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The attacker.
    Untrusted,
    /// A trusted proxy that forwards what the attacker forged, and adds the attacker's address to X-Forwarded-For.
    Proxy,
    /// A trusted proxy that sends only fields of its own making.
    Trusted,
}

impl Peer {
    pub(crate) fn address(self) -> IpAddr {
        let last = if self == Self::Untrusted { 9 } else { 1 };
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }
}

/// The protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A plain request over HTTP/1.1.
    Http1,
    /// A handshake over HTTP/1.1.
    WebSocket,
    /// A plain request over HTTP/2, with prior knowledge or negotiated by TLS.
    Http2,
}

/// The expected result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A 4xx, or an end of the stream or connection. The upstream receives nothing.
    Rejected,
    /// The upstream receives it with the true values.
    Forwarded,
}

/// A running listener under attack, and its upstream.
pub(crate) struct AttackRunner {
    pub(crate) form: Form,
    listener: Listener,
    upstream: Upstream,
    runs: usize,
    open: Vec<PendingRejection>,
    failures: Vec<String>,
}

/// An attack that must be rejected. Its result is read later, because Envoy closes a broken HTTP/2 connection only after a
/// second.
struct PendingRejection {
    label: String,
    status: Option<u16>,
    stream: Box<dyn Stream>,
}

impl AttackRunner {
    pub(crate) fn start(form: Form) -> Self {
        let upstream = upstream();
        Self {
            form,
            listener: Listener::start(form, upstream.address),
            upstream,
            runs: 0,
            open: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Runs an attack over each of these protocols, from each of these peers.
    pub(crate) fn run(&mut self, attack: &Attack, protocols: &[Protocol], peers: &[Peer]) {
        for &peer in peers {
            for &protocol in protocols {
                self.run_one(attack, protocol, peer);
            }
        }
    }

    fn run_one(&mut self, attack: &Attack, protocol: Protocol, peer: Peer) {
        self.runs += 1;
        let label = format!("{protocol:?}, {peer:?}, run {}: {}", self.runs, attack.what);
        let refused;
        let attack = if self.form.admits(peer) {
            attack
        } else {
            refused = attack.clone().refused();
            &refused
        };
        let mut stream = self.listener.connect(peer, protocol);
        let status = match protocol {
            Protocol::Http1 | Protocol::WebSocket => {
                let request = attack.http1(self.runs, peer, protocol == Protocol::WebSocket);
                exchange(&mut stream, &request)
            }
            Protocol::Http2 => {
                let (head, trailers) = attack.http2(self.form, self.runs, peer);
                http2::send(&mut stream, &head, &trailers);
                if attack.expected == Expected::Rejected {
                    let status = attack.status;
                    self.open.push(PendingRejection {
                        label,
                        status,
                        stream,
                    });
                    return;
                }
                http2::status(&mut stream)
            }
        };
        let received = self.received();
        let mismatches = match (attack.expected, received.as_slice()) {
            (Expected::Rejected, []) => rejection_mismatches(status, attack.status),
            (Expected::Rejected, _) => vec![format!("it was not rejected: {received:?}")],
            (Expected::Forwarded, [received]) => {
                let mut mismatches = attack.mismatches(self.form, protocol, peer, received);
                if status != Some(200) {
                    mismatches.push(format!("the status was {status:?}"));
                }
                mismatches
            }
            (Expected::Forwarded, _) => vec![format!(
                "status {status:?}, and not one request: {received:?}"
            )],
        };
        self.record(&label, &mismatches);
    }

    /// Returns the requests of this run that the upstream received. A request of an earlier run is recorded as a failure: it
    /// had to be rejected, because the runner waits for every request that must be forwarded.
    fn received(&mut self) -> Vec<UpstreamRequest> {
        let received = self.upstream.requests();
        if !received.is_empty() {
            self.upstream.answer(&Answer::default());
        }
        let run = self.runs.to_string();
        let (mine, late) = received
            .into_iter()
            .partition(|one| lines_of(&one.headers, "x-run").eq([run.as_str()]));
        self.record_late(late);
        mine
    }

    /// Ends Envoy, and fails if an attack succeeded.
    #[track_caller]
    pub(crate) fn end(mut self) {
        for mut open in std::mem::take(&mut self.open) {
            let mismatches = rejection_mismatches(http2::status(&mut open.stream), open.status);
            self.record(&open.label, &mismatches);
        }
        // After Envoy has ended, no further request can arrive.
        drop(self.listener.envoy.take());
        self.record_late(self.upstream.requests());
        println!("{:?}: {} attacks", self.form, self.runs);
        assert!(
            self.failures.is_empty(),
            "{:?}: {} of {} attacks succeed\n{}",
            self.form,
            self.failures.len(),
            self.runs,
            self.failures.join("\n")
        );
    }

    fn record_late(&mut self, late: Vec<UpstreamRequest>) {
        for one in late {
            let mismatch = format!("a request that must not have come: {one:?}");
            self.record("late", &[mismatch]);
        }
    }

    fn record(&mut self, label: &str, mismatches: &[String]) {
        if !mismatches.is_empty() {
            let mismatches = mismatches.join("\n    ");
            self.failures.push(format!("{label}\n    {mismatches}"));
        }
    }
}

fn rejection_mismatches(status: Option<u16>, only: Option<u16>) -> Vec<String> {
    let is_refusal = status.is_none_or(|status| match only {
        Some(only) => status == only,
        None => (400..500).contains(&status),
    });
    if is_refusal {
        return Vec::new();
    }
    let want = only.map_or("a 4xx".to_owned(), |only| only.to_string());
    vec![format!("the status was {status:?}, not {want}")]
}

/// Envoy in front of an upstream.
pub(crate) struct Listener {
    envoy: Option<Envoy>,
    /// Where the proxy connects, and where the attacker does.
    addresses: [SocketAddr; 2],
    tls: Option<ClientConfig>,
    _folder: tempfile::TempDir,
}

impl Listener {
    pub(crate) fn start(form: Form, upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if let Form::Made(place) = form {
            let placed = place.start(&Surroundings {
                envoy: &parts().envoy,
                module: &parts().module,
                host: HOST,
                upstream,
                folder: folder.path(),
            });
            let placed = placed.unwrap_or_else(|error| panic!("{form:?}: {error}"));
            let tls = placed
                .certificate
                .map(|files| files.client_config(None).expect("a client"));
            return Self {
                envoy: Some(placed.envoy),
                addresses: [placed.front, placed.other],
                tls,
                _folder: folder,
            };
        }
        let certificate = Certificate::create_files(folder.path(), &[HOST]).expect("a certificate");
        let address = local(free_port().expect("a free port"));
        let bootstrap = form
            .bootstrap(&certificate)
            .listening_on(address)
            .forwarding_to(upstream);
        let envoy = bootstrap
            .start(&parts().envoy, folder.path(), &["--concurrency", "1"])
            .unwrap_or_else(|error| panic!("{form:?}: {error}"));
        Self {
            envoy: Some(envoy),
            addresses: [address; 2],
            tls: (form == Form::Tls).then(|| certificate.client_config(None).expect("a client")),
            _folder: folder,
        }
    }

    pub(crate) fn connect(&self, peer: Peer, protocol: Protocol) -> Box<dyn Stream> {
        let [proxy, attacker] = self.addresses;
        let address = if peer == Peer::Untrusted {
            attacker
        } else {
            proxy
        };
        let stream = connect_from(peer.address(), address);
        stream.set_nodelay(true).expect("a TCP option");
        let Some(mut config) = self.tls.clone() else {
            return Box::new(stream);
        };
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 | Protocol::WebSocket => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let name = HOST.try_into().expect("a host name");
        Box::new(tls_as(stream, config, name).expect("a TLS client"))
    }
}

/// A connection, with or without TLS.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Sends bytes and returns the status of the first response; `None` if the connection was closed instead.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> Option<u16> {
    // A listener that rejects the request early does not read it to its end.
    let _ = stream.write_all(request).and_then(|()| stream.flush());
    let mut reader = BufReader::new(stream);
    match reader.fill_buf() {
        Ok([]) => return None,
        Ok(_) => {}
        Err(error) => {
            expect_closed(&error);
            return None;
        }
    }
    let head = read_head_blocking(&mut reader).expect("a head");
    let head = head.expect("the end of the head");
    let status = head.word(1).parse();
    Some(status.unwrap_or_else(|_| panic!("no status in {head:?}")))
}

/// Panics unless the error means that the connection was closed; a timeout does not.
pub(crate) fn expect_closed(error: &std::io::Error) {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    assert!(
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ),
        "no response: {error}"
    );
}
