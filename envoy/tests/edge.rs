//! Runs the shipped files of an edge and of a sidecar, on each version of Envoy in `FLUXLIT_TEST_ENVOYS`: what they log, where
//! they stop, whom they trust, and which app they select.

#[path = "support/request.rs"]
mod request;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;
#[path = "support/version.rs"]
mod version;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use fluxlit_cases::{Answer, UpstreamRequest};
use fluxlit_envoy::{Bootstrap, plugin_config};
use fluxlit_support::certificate::{Authority, Certificate, trusting_file};
use fluxlit_support::client::{self, tls_as};
use fluxlit_support::envoy::Envoy;
use fluxlit_support::http1::Response;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::upstream::Upstream;
use fluxlit_support::wait::wait_until;
use request::request;
use serde_json::{Value, json};
use support::{connect, exchange, named, parts, upstream, values};
use version::version;

/// An Envoy in front of an upstream.
struct Edge {
    envoy: Envoy,
    upstream: Upstream,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Edge {
    fn start(envoy: &Path, bootstrap: Bootstrap) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let upstream = upstream();
        let address = local(free_port().expect("a free port"));
        let envoy = bootstrap
            .listening_on(address)
            .forwarding_to(upstream.address)
            .with_module(&parts().module)
            .start(envoy, folder.path(), ARGUMENTS)
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            envoy,
            upstream,
            address,
            _folder: folder,
        }
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        exchange(&mut connect(self.address), &request(target, headers), "GET")
    }

    /// Returns the first lines of the access log.
    fn logged(&self, count: usize) -> Vec<Value> {
        wait_until(LIMIT, || self.envoy.output().lines().count() >= count);
        let output = self.envoy.output();
        let lines = output.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
        });
        lines.collect()
    }
}

/// A request, and what the access log says about it.
struct Logged {
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    client: Option<&'static str>,
    path: &'static str,
}

const FORGED: &[(&str, &str)] = &[
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Real-IP", "6.6.6.6"),
    ("X-Envoy-Original-Path", "/evil"),
];

const BEHIND_A_PROXY: &[(&str, &str)] = &[
    ("X-Forwarded-For", "6.6.6.6, 198.51.100.7"),
    ("X-Envoy-Original-Path", "/evil"),
];

/// The shipped file's own log, as it writes it to stdout.
#[test]
fn the_access_log_shows_the_client_and_the_path_with_the_mount() {
    let logged = |target, headers, status, client, path| Logged {
        target,
        headers,
        status,
        client,
        path,
    };
    let trusting = plugin_config().replacen(
        '{',
        r#"{"trust_proxy": true, "forwarded_allow_ips": "127.0.0.1","#,
        1,
    );
    #[rustfmt::skip]
    let tables: [(&str, &[Logged]); 2] = [
        (plugin_config(), &[
            logged("/apps/my-app/x?token=secret", FORGED, 200, Some("127.0.0.1"), "/apps/my-app/x"),
            // The filter answers itself.
            logged("/apps/my-app", FORGED, 308, Some("127.0.0.1"), "/apps/my-app"),
            logged("/elsewhere", FORGED, 404, Some("127.0.0.1"), "/elsewhere"),
            // Envoy answers before the filter.
            logged("/apps/my-app/a%2fb", &[], 400, None, "/apps/my-app/a/b"),
        ]),
        (&trusting, &[
            logged("/apps/my-app/x?token=secret", BEHIND_A_PROXY, 200, Some("198.51.100.7"), "/apps/my-app/x"),
        ]),
    ];
    for_each_version(|envoy, version| {
        for (config, table) in tables {
            let edge = Edge::start(envoy, Bootstrap::shipped().with_plugin_config(config));
            for row in table {
                edge.upstream.answer(&Answer::default());
                let status = edge.get(row.target, row.headers).status;
                assert_eq!(status, row.status, "{version}: {}", row.target);
            }
            let lines = edge.logged(table.len());
            assert_eq!(lines.len(), table.len(), "{version}: {lines:#?}");
            for (line, row) in lines.iter().zip(table) {
                for (field, wanted) in [
                    ("client", json!(row.client)),
                    ("path", json!(row.path)),
                    ("status", json!(row.status)),
                    ("method", json!("GET")),
                    ("host", json!("portal.example")),
                ] {
                    assert_eq!(line[field], wanted, "{version}: {field} in {line}");
                }
                let peer = line["peer"].as_str().unwrap_or_default();
                assert!(peer.starts_with("127.0.0.1:"), "{version}: {line}");
                for unwanted in ["secret", "6.6.6.6", "evil"] {
                    assert!(!line.to_string().contains(unwanted), "{version}: {line}");
                }
            }
        }
    });
}

/// Requests that no filter has processed are found in the log by the fields that README.md names.
#[test]
fn the_access_log_shows_a_missing_filter() {
    for_each_version(|envoy, version| {
        let bootstrap = Bootstrap::shipped().with_changed_connection_manager(|manager| {
            manager["http_filters"][0]["disabled"] = json!(true);
        });
        let edge = Edge::start(envoy, bootstrap);
        assert_eq!(edge.get("/apps/my-app/x", FORGED).status, 503, "{version}");
        let lines = edge.logged(1);
        assert_eq!(lines[0]["route"], "fluxlit-not-processed", "{version}");
        assert_eq!(lines[0]["client"], Value::Null, "{version}");
    });
}

#[test]
fn further_connections_are_closed_at_once() {
    for_each_version(|envoy, version| {
        let edge = Edge::start(envoy, Bootstrap::shipped().with_limits(2, 1 << 30));
        let is_served = |stream: &mut TcpStream| {
            let wanted = request("/apps/my-app/x", &[]);
            client::exchange(stream, &wanted, "GET").is_ok_and(|response| response.status == 200)
        };
        let mut open = [connect(edge.address), connect(edge.address)];
        assert!(open.iter_mut().all(is_served), "{version}");
        let mut third = connect(edge.address);
        let ended = third.read(&mut [0]);
        assert!(
            ended.as_ref().is_ok_and(|count| *count == 0) || ended.as_ref().is_err_and(is_reset),
            "{version}: {ended:?}"
        );
        // The others are still served, and so is a new one when another has ended.
        assert!(open.iter_mut().all(is_served), "{version}");
        drop(open);
        let is_free = || is_served(&mut connect(edge.address));
        assert!(wait_until(LIMIT, is_free), "{version}");
    });
}

#[test]
fn no_request_is_accepted_when_memory_is_short() {
    for_each_version(|envoy, version| {
        let edge = Edge::start(envoy, Bootstrap::shipped().with_limits(50_000, 1));
        let is_rejected = || {
            let response = edge.get("/apps/my-app/x", &[]);
            response.status == 503 && response.text().contains("overload")
        };
        assert!(wait_until(LIMIT, is_rejected), "{version}");
        edge.upstream.answer(&Answer::default());
        let response = edge.get("/apps/my-app/x", &[]);
        assert_eq!(response.status, 503, "{version}");
        // The client has to connect again, which the limit of connections then counts.
        assert_eq!(response.values("connection"), ["close"], "{version}");
        assert_eq!(edge.upstream.requests(), [], "{version}");
        let stats = edge
            .envoy
            .admin()
            .get("/stats?filter=^overload")
            .expect("statistics");
        for action in [
            "shrink_heap",
            "disable_http_keepalive",
            "stop_accepting_requests",
        ] {
            let active = format!("overload.envoy.overload_actions.{action}.active: 1");
            assert!(stats.contains(&active), "{version}: {active} in {stats}");
        }
    });
}

/// The files of `dynamic/` log and limit what `bootstrap.yaml` does; the test `replicas` starts them.
#[test]
fn the_dynamic_form_logs_and_limits_the_same() {
    let read = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("dynamic")
            .join(name);
        let text = std::fs::read_to_string(path).expect(name);
        serde_saphyr::from_str(&text).expect(name)
    };
    let edge = Bootstrap::shipped();
    assert_eq!(
        read("bootstrap.yaml")["overload_manager"],
        edge.value()["overload_manager"]
    );
    let log = "/filter_chains/0/filters/1/typed_config/access_log";
    let listener = &edge.value()["static_resources"]["listeners"][0];
    assert!(listener.pointer(log).is_some());
    assert_eq!(
        read("lds.yaml")["resources"][0].pointer(log),
        listener.pointer(log)
    );
}

/// The sidecar is made of the same pieces as the edge, and of the shipped facts about a connection.
#[test]
fn the_sidecar_has_the_defences_of_the_edge() {
    let manager = |bootstrap: &Bootstrap| -> Value {
        let chain = &bootstrap.value()["static_resources"]["listeners"][0]["filter_chains"][0];
        chain["filters"][1]["typed_config"].clone()
    };
    let [edge, sidecar] = [Bootstrap::shipped(), Bootstrap::sidecar()];
    assert_eq!(sidecar.value()["admin"], edge.value()["admin"]);
    assert_eq!(
        sidecar.value()["overload_manager"],
        edge.value()["overload_manager"]
    );
    let (edge_manager, sidecar_manager) = (manager(&edge), manager(&sidecar));
    let differing: BTreeSet<&String> = [&edge_manager, &sidecar_manager]
        .into_iter()
        .flat_map(|manager| manager.as_object().expect("an object").keys())
        .filter(|name| edge_manager[*name] != sidecar_manager[*name])
        .collect();
    let differing: Vec<&str> = differing.into_iter().map(String::as_str).collect();
    assert_eq!(
        differing,
        ["http_filters", "stat_prefix", "use_remote_address"]
    );
    let mut with_the_same_settings = sidecar_manager["http_filters"].clone();
    fluxlit_envoy::set_plugin_config(&mut with_the_same_settings[0], "");
    let mut wanted = edge_manager["http_filters"].clone();
    fluxlit_envoy::set_plugin_config(&mut wanted[0], "");
    assert_eq!(with_the_same_settings, wanted);
    let facts = Bootstrap::shipped().with_connection_facts("on_new_connection");
    let first = |bootstrap: &Bootstrap| {
        bootstrap.value()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
            .clone()
    };
    assert_eq!(first(&sidecar), first(&facts));
}

/// What a peer of the sidecar is, and what becomes of what it sends.
#[test]
fn the_sidecar_believes_the_proxy_in_front_and_nobody_else() {
    const PROXY: &str = "spiffe://example.com/ns/edge/sa/proxy";
    // What the app receives: client, scheme, host.
    const BELIEVED: [&str; 3] = ["198.51.100.7", "http", "public.example"];
    const OWN: [&str; 3] = ["127.0.0.1", "https", "portal.example"];
    let sent = [
        ("X-Forwarded-For", "6.6.6.6, 198.51.100.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "public.example"),
        (
            "X-Forwarded-Client-Cert",
            "URI=spiffe://example.com/ns/edge/sa/proxy",
        ),
    ];
    for_each_version(|envoy, version| {
        let certificates = tempfile::tempdir().expect("a folder");
        let file = |name: &str| certificates.path().join(name);
        let [authority, other] = [(); 2].map(|()| Authority::create().expect("an authority"));
        let server = authority
            .sign_server(&["localhost"])
            .expect("a certificate");
        for (name, text) in [
            ("authority.pem", &authority.pem),
            ("certificate.pem", &server.pem),
            ("key.pem", &server.key_pem),
        ] {
            std::fs::write(file(name), text).expect("a file");
        }
        let edge = Edge::start(
            envoy,
            Bootstrap::sidecar().with_certificates_in(certificates.path()),
        );
        assert_eq!(edge.envoy.log(), "", "{version}: it starts with a warning");
        let send = |certificate: Option<&Certificate>| -> Option<UpstreamRequest> {
            edge.upstream.answer(&Answer::default());
            let config = trusting_file(&file("authority.pem"), certificate).expect("a client");
            let name = "localhost".try_into().expect("a host name");
            // In TLS 1.3, the client learns that its certificate is refused when it reads.
            let response = tls_as(connect(edge.address), config, name).and_then(|mut stream| {
                client::exchange(&mut stream, &request("/apps/my-app/x", &sent), "GET")
            });
            let mut received = edge.upstream.requests();
            assert_eq!(
                response.map(|response| response.status).ok(),
                (!received.is_empty()).then_some(200),
                "{version}"
            );
            received.pop()
        };
        let signed =
            |authority: &Authority, names: &[&str]| authority.sign(names).expect("a certificate");
        let upper = PROXY.to_ascii_uppercase();
        for (what, certificate, wanted) in [
            (
                "the proxy",
                Some(signed(&authority, &[PROXY])),
                Some(BELIEVED),
            ),
            (
                "another name",
                Some(signed(
                    &authority,
                    &["spiffe://example.com/ns/edge/sa/proxy2"],
                )),
                Some(OWN),
            ),
            ("upper case", Some(signed(&authority, &[&upper])), Some(OWN)),
            (
                "a second name",
                Some(signed(&authority, &["spiffe://example.com/x", PROXY])),
                Some(OWN),
            ),
            ("another authority", Some(signed(&other, &[PROXY])), None),
            ("no certificate", None, None),
        ] {
            let received = send(certificate.as_ref());
            let got = received.as_ref().map(|received| {
                ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
                    .map(|name| values(received, name).join("; "))
            });
            assert_eq!(
                got,
                wanted.map(|wanted| wanted.map(str::to_owned)),
                "{version}: {what}"
            );
            if let Some(received) = received {
                assert_eq!(
                    values(&received, "x-forwarded-client-cert"),
                    [""; 0],
                    "{version}: {what}"
                );
                assert_eq!(
                    values(&received, "x-forwarded-prefix"),
                    ["/apps/my-app"],
                    "{version}: {what}"
                );
            }
        }
    });
}

#[test]
fn each_of_several_apps_gets_its_own_requests() {
    for_each_version(|envoy, version| {
        let folder = tempfile::tempdir().expect("a folder");
        let address = local(free_port().expect("a free port"));
        let apps = [upstream(), upstream()];
        let running = Bootstrap::shipped()
            .listening_on(address)
            .with_module(&parts().module)
            .with_several_apps([apps[0].address, apps[1].address])
            .start(envoy, folder.path(), ARGUMENTS)
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!(running.log(), "", "{version}: it starts with a warning");
        let sent = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Prefix", "/apps/stock"),
            ("X-Envoy-Original-Path", "/apps/stock/x"),
            ("X-Original-URL", "/apps/stock/x"),
        ];
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        // Target, status, app that receives it, and its prefix.
        for (target, status, app, prefix) in [
            ("/apps/sales/x", 200, Some(0), "/apps/sales"),
            ("/apps/stock/x", 200, Some(1), "/apps/stock"),
            ("/apps/sales/_stcore/stream", 200, Some(0), "/apps/sales"),
            // The filter redirects to the mount with its slash.
            ("/apps/sales", 308, None, ""),
            ("/apps/salesroom/x", 404, None, ""),
            ("/apps/x", 404, None, ""),
            ("/", 404, None, ""),
            // Envoy resolves these before the filter and the routes see them.
            ("/apps/sales/../stock/x", 200, Some(1), "/apps/stock"),
            ("/apps/sales/%2e%2e/stock/x", 200, Some(1), "/apps/stock"),
            ("/apps/sales/..%2fstock/x", 400, None, ""),
        ] {
            for app in &apps {
                app.answer(&Answer::default());
            }
            let is_handshake = target.ends_with("/stream");
            let headers = [&sent[..], if is_handshake { &upgrade } else { &[] }].concat();
            let response = exchange(&mut connect(address), &request(target, &headers), "GET");
            assert_eq!(response.status, status, "{version}: {target}");
            for (number, upstream) in apps.iter().enumerate() {
                let received = upstream.requests();
                if app != Some(number) {
                    assert_eq!(received, [], "{version}: {target}");
                    continue;
                }
                let [received] = &received[..] else {
                    panic!("{version}: {target}: {received:?}");
                };
                assert!(
                    received.target.starts_with(prefix),
                    "{version}: {received:?}"
                );
                for (name, wanted) in [
                    ("x-forwarded-for", &["127.0.0.1"][..]),
                    ("x-forwarded-prefix", &[prefix]),
                    ("x-original-url", &[]),
                ] {
                    assert_eq!(
                        values(received, name),
                        wanted,
                        "{version}: {target}: {name}"
                    );
                }
            }
        }
    });
}

/// Runs a check on each version of Envoy, at the same time.
fn for_each_version(check: impl Fn(&Path, &str) + Sync) {
    let list = named("FLUXLIT_TEST_ENVOYS");
    std::thread::scope(|scope| {
        for envoy in std::env::split_paths(&list) {
            let check = &check;
            scope.spawn(move || check(&envoy, &version(&envoy)));
        }
    });
}

fn is_reset(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionReset
}

/// Envoy writes the access log at once.
const ARGUMENTS: &[&str] = &["--concurrency", "1", "--file-flush-interval-msec", "100"];

const LIMIT: Duration = Duration::from_secs(30);
