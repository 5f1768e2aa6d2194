//! Runs cases in real Envoy.
//!
//! Each plugin configuration has a listener of its own. The PROXY protocol plays the peer, so that a case may name any
//! address; a network-level `set_filter_state` records it, as in the shipped bootstrap. `use_remote_address` is false
//! here: then Envoy keeps the client's X-Forwarded-Proto, and `source.address` is whatever X-Forwarded-For says, so a
//! filter that believed it would fail. Envoy's own path normalisation is off: the filter's is what is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_cases::{
    Case, DownstreamResponse, Exchange, ExchangeOutcome, Outcome, Peer, Request, Version,
};
use fluxlit_envoy::{Bootstrap, Certificate, Envoy, free_ports};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::support::client::{Response, exchange};
use crate::support::upstream::Upstream;
use crate::support::{latin1, parts, text};

/// A running Envoy with a listener for each kind of connection that the cases need.
pub(crate) struct EnvoyHost {
    upstream: Upstream,
    listeners: BTreeMap<Listener, SocketAddr>,
    certificate: Certificate,
    folder: tempfile::TempDir,
    _envoy: Envoy,
}

/// What cases can share a listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listener {
    config: String,
    tls: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The peer is recorded.
    Known,
    /// Nothing is recorded, so the filter must not know the peer.
    Unknown,
    /// A Unix socket.
    Unix,
}

impl Listener {
    fn of(case: &Case, request: &Request) -> Self {
        Self {
            config: case.config_text(),
            tls: request.tls,
            kind: match request.peer {
                Peer::Ip(_) => Kind::Known,
                Peer::Unknown => Kind::Unknown,
                Peer::Unix => Kind::Unix,
            },
        }
    }
}

impl EnvoyHost {
    /// Starts Envoy with all listeners that `cases` need.
    pub(crate) fn start<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate =
            Certificate::create(folder.path(), &["localhost"]).expect("a certificate");
        let upstream = Upstream::start();
        let kinds: BTreeSet<Listener> = cases
            .into_iter()
            .flat_map(|case| {
                let exchanges = case.exchanges().into_iter();
                exchanges.map(move |exchange| Listener::of(case, &exchange.request))
            })
            .collect();
        let ports = free_ports(kinds.len()).expect("free ports");
        let listeners: BTreeMap<Listener, SocketAddr> = kinds
            .into_iter()
            .zip(ports)
            .map(|(listener, port)| (listener, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            .collect();
        let parts = parts();
        Self {
            _envoy: Envoy::start(
                &parts.envoy,
                bootstrap(
                    &listeners,
                    &certificate,
                    &folder.path().join("sockets"),
                    upstream.address,
                ),
                folder.path(),
                &["--concurrency", "1"],
            )
            .unwrap_or_else(|error| panic!("{error}")),
            upstream,
            listeners,
            certificate,
            folder,
        }
    }

    /// Runs one case. A configuration that must be refused is judged by `envoy --mode validate`.
    pub(crate) fn run(&self, case: &Case) -> Outcome {
        let exchanges = case.exchanges();
        let Some(first) = exchanges.first() else {
            return refused(case);
        };
        if first.request.http == Version::Http2 {
            let served = exchanges.iter();
            return Outcome::Served(served.map(|one| self.serve_http2(case, one)).collect());
        }
        let mut connection = self.connect(case, &first.request);
        let served = exchanges.iter().map(|one| {
            self.upstream.answer(&one.answer);
            let response = connection.exchange(&to_bytes(&one.request), &one.request.method);
            self.served(response)
        });
        Outcome::Served(served.collect())
    }

    fn served(&self, response: Response) -> ExchangeOutcome {
        ExchangeOutcome {
            upstream: self.upstream.received().into_iter().next(),
            downstream: DownstreamResponse {
                status: response.status,
                headers: response.headers,
                body: text(&response.body),
                trailers: Vec::new(),
            },
        }
    }

    fn connect(&self, case: &Case, request: &Request) -> Connection {
        let listener = Listener::of(case, request);
        let address = self.listeners[&listener];
        if listener.kind == Kind::Unix {
            let path = socket_path(&self.folder.path().join("sockets"), address);
            return Connection::Unix(UnixStream::connect(path).expect("a connection"));
        }
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time limit");
        std::io::Write::write_all(&mut stream, proxy_line(request.peer).as_bytes())
            .expect("the PROXY line is sent");
        if !request.tls {
            return Connection::Plain(stream);
        }
        let mut roots = RootCertStore::empty();
        let trusted =
            CertificateDer::from_pem_file(&self.certificate.certificate).expect("a certificate");
        roots.add(trusted).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        Connection::Tls(Box::new(StreamOwned::new(tls, stream)))
    }

    /// HTTP/2 with prior knowledge, by hyper.
    fn serve_http2(&self, case: &Case, one: &Exchange) -> ExchangeOutcome {
        let request = &one.request;
        let address = self.listeners[&Listener::of(case, request)];
        self.upstream.answer(&one.answer);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let response = runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(address)
                .await
                .expect("a connection");
            let line = proxy_line(request.peer);
            tokio::io::AsyncWriteExt::write_all(&mut stream, line.as_bytes())
                .await
                .expect("the PROXY line is sent");
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
                .await
                .expect("an HTTP/2 connection");
            tokio::spawn(connection);
            let host = request.host.as_deref().unwrap_or_default();
            let mut head = http::Request::builder()
                .method(request.method.as_str())
                .uri(format!("http://{host}{}", request.target));
            for (name, value) in &request.headers {
                head = head.header(name, latin1(value));
            }
            let body = http_body_util::Full::new(bytes::Bytes::from(latin1(&request.body)));
            let response = sender
                .send_request(head.body(body).expect("a request"))
                .await
                .expect("a response");
            Response {
                status: response.status().as_u16(),
                headers: response
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                    .collect(),
                body: Vec::new(),
            }
        });
        self.served(response)
    }
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Connection {
    fn exchange(&mut self, request: &[u8], method: &str) -> Response {
        match self {
            Self::Plain(stream) => exchange(stream, request, method),
            Self::Tls(stream) => exchange(stream, request, method),
            Self::Unix(stream) => exchange(stream, request, method),
        }
    }
}

fn refused(case: &Case) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = parts();
    let bootstrap = Bootstrap::shipped()
        .with_module(&parts.module)
        .with_plugin_config(&case.config_text());
    let (is_accepted, said) =
        Envoy::validate(&parts.envoy, &bootstrap, folder.path()).expect("Envoy runs");
    if is_accepted {
        Outcome::Served(Vec::new())
    } else {
        Outcome::Refused(said)
    }
}

fn proxy_line(peer: Peer) -> String {
    match peer {
        Peer::Ip(IpAddr::V4(address)) => format!("PROXY TCP4 {address} 127.0.0.1 40000 10000\r\n"),
        Peer::Ip(IpAddr::V6(address)) => format!("PROXY TCP6 {address} ::1 40000 10000\r\n"),
        Peer::Unknown | Peer::Unix => "PROXY TCP4 203.0.113.1 127.0.0.1 40000 10000\r\n".to_owned(),
    }
}

/// The request as the case writes it, byte for byte.
fn to_bytes(request: &Request) -> Vec<u8> {
    let version = match request.http {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 | Version::Http2 => "HTTP/1.1",
    };
    let mut bytes = latin1(&format!(
        "{} {} {version}\r\n",
        request.method, request.target
    ));
    let mut field = |name: &str, value: &str| bytes.extend(latin1(&format!("{name}: {value}\r\n")));
    if let Some(host) = &request.host {
        field("Host", host);
    }
    for (name, value) in &request.headers {
        field(name, value);
    }
    if !request.trailers.is_empty() {
        field("Transfer-Encoding", "chunked");
    } else if !request.body.is_empty() {
        field("Content-Length", &request.body.len().to_string());
    }
    bytes.extend(b"\r\n");
    let body = latin1(&request.body);
    if request.trailers.is_empty() {
        bytes.extend(body);
    } else {
        bytes.extend(format!("{:x}\r\n", body.len()).bytes());
        bytes.extend(body);
        bytes.extend(b"\r\n0\r\n");
        for (name, value) in &request.trailers {
            bytes.extend(latin1(&format!("{name}: {value}\r\n")));
        }
        bytes.extend(b"\r\n");
    }
    bytes
}

/// The shipped bootstrap with one listener for each kind of connection.
fn bootstrap(
    listeners: &BTreeMap<Listener, SocketAddr>,
    certificate: &Certificate,
    sockets: &std::path::Path,
    upstream: SocketAddr,
) -> Bootstrap {
    std::fs::create_dir_all(sockets).expect("a folder");
    let parts = parts();
    let listeners = listeners
        .iter()
        .map(|(listener, address)| {
            let mut config: Value =
                serde_json::from_str(&listener.config).expect("a configuration");
            if listener.kind != Kind::Unix && config.get("peer_filter_state_key").is_none() {
                config["peer_filter_state_key"] = json!("fluxlit.peer");
            }
            let mut bootstrap = Bootstrap::shipped()
                .with_module(&parts.module)
                .with_plugin_config(&config.to_string());
            if listener.tls {
                bootstrap = bootstrap.with_tls(&certificate.certificate, &certificate.key);
            }
            let mut value =
                bootstrap.listening_on(*address).value()["static_resources"]["listeners"][0]
                    .clone();
            relax(&mut value, listener, &socket_path(sockets, *address));
            value
        })
        .collect();
    Bootstrap::shipped()
        .forwarding_to(upstream)
        .with_upstream_trailers()
        .with_listeners(listeners)
}

fn relax(value: &mut Value, listener: &Listener, socket: &std::path::Path) {
    value["name"] = json!(
        socket
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
    );
    let chain = &mut value["filter_chains"][0];
    let manager = &mut chain["filters"][1]["typed_config"];
    manager["use_remote_address"] = json!(listener.kind == Kind::Unix);
    manager["normalize_path"] = json!(false);
    manager["merge_slashes"] = json!(false);
    manager["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED");
    manager["common_http_protocol_options"]["headers_with_underscores_action"] = json!("ALLOW");
    manager["http_protocol_options"] = json!({"enable_trailers": true, "accept_http_10": true});
    if listener.kind != Kind::Known {
        chain["filters"].as_array_mut().expect("filters").remove(0);
    }
    if listener.kind == Kind::Unix {
        value["address"] = json!({"pipe": {"path": socket}});
    } else {
        value["listener_filters"] = json!([{
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
        }]);
    }
}

fn socket_path(sockets: &std::path::Path, address: SocketAddr) -> PathBuf {
    sockets.join(format!("{}.sock", address.port()))
}
