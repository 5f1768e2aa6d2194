//! Tests the filter in Envoy, as a wasm module or as the dynamic module, beyond single exchanges: a request that runs through the filters twice, filter state for later
//! filters and access logs, metrics, and trust by certificate.

#[path = "support/request.rs"]
mod request;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fluxlit_cases::Answer;
use fluxlit_envoy::{Bootstrap, set_plugin_config};
use fluxlit_support::certificate::{Authority, Certificate, CertificateFiles};
use fluxlit_support::client::tls;
use fluxlit_support::envoy::bootstrap::access_log;
use fluxlit_support::envoy::{Envoy, EnvoyError};
use fluxlit_support::port::{free_port, local};
use fluxlit_support::upstream::Upstream;
use fluxlit_support::wait::wait_until;
use request::request;
use serde_json::json;
use support::{connect, exchange, parts, upstream, values};

/// An Envoy with the shipped bootstrap, changed by a test, in front of an upstream.
struct Edge {
    envoy: Envoy,
    upstream: Upstream,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Edge {
    fn start(plugin_config: &str, change: impl FnOnce(Bootstrap, &Path) -> Bootstrap) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let upstream = upstream();
        let address = local(free_port().expect("a free port"));
        let parts = support::parts();
        let bootstrap = Bootstrap::shipped()
            .listening_on(address)
            .forwarding_to(upstream.address)
            .with_module(&parts.module)
            .with_plugin_config(plugin_config);
        let bootstrap = change(bootstrap, folder.path());
        let envoy = bootstrap
            .start(&parts.envoy, folder.path(), &["--concurrency", "1"])
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            envoy,
            upstream,
            address,
            folder,
        }
    }

    /// Sends a GET and returns its status.
    fn get(&self, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut stream = connect(self.address);
        exchange(&mut stream, &request(target, headers), "GET").status
    }
}

const PEER: &str = r#""peer_filter_state_key": "fluxlit.peer""#;

/// Envoy runs the whole chain again on headers that the filter has already rewritten. The second pass must not trust what
/// the first pass did not trust, and must not lose anything.
#[test]
fn an_internal_redirect_changes_nothing_but_the_path() {
    let trusted = r#""trust_proxy": true, "forwarded_allow_ips": "127.0.0.1""#;
    type Lines = &'static [(&'static str, &'static str)];
    let cases: [(&str, String, Lines, &str, &str, &str, Lines); 7] = [
        (
            "a client's own address, mount removed",
            r#""root_path": "/apps/my-app", "outside_mount": "reject""#.to_owned(),
            &[("X-Forwarded-For", "6.6.6.6")],
            "/apps/my-app/x",
            "/next",
            "/next",
            &[
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-prefix", "/apps/my-app"),
                ("x-envoy-original-path", "/apps/my-app/x"),
            ],
        ),
        (
            "a mount that the app knows",
            r#""root_path": "/apps/my-app", "outside_mount": "reject", "upstream_path": "full""#
                .to_owned(),
            &[],
            "/apps/my-app/x",
            "/apps/my-app/next",
            "/apps/my-app/next",
            &[("x-forwarded-prefix", "/apps/my-app")],
        ),
        (
            "one of several mounts",
            r#""mounts": [{"root_path": "/a"}, {"root_path": "/b"}], "outside_mount": "reject""#
                .to_owned(),
            &[],
            "/b/x",
            "/a/next",
            "/a/next",
            &[("x-forwarded-prefix", "/b")],
        ),
        (
            "the other family of fields, which the first pass removes",
            format!(r#"{trusted}, "forwarded_source": "forwarded""#),
            &[(
                "Forwarded",
                "for=198.51.100.7;proto=https;host=public.example",
            )],
            "/x",
            "/next",
            "/next",
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "public.example"),
            ],
        ),
        (
            "a chain, which must not grow",
            format!(r#"{trusted}, "xff_mode": "chain""#),
            &[("X-Forwarded-For", "6.6.6.6, 198.51.100.7, 127.0.0.1")],
            "/x",
            "/next",
            "/next",
            &[
                ("x-forwarded-for", "198.51.100.7, 127.0.0.1, 127.0.0.1"),
                ("x-real-ip", "198.51.100.7"),
            ],
        ),
        (
            "hops, which the first pass shortens",
            r#""trust_proxy": true, "trusted_hops": 2"#.to_owned(),
            &[("X-Forwarded-For", "198.51.100.7, 10.0.0.1")],
            "/x",
            "/next",
            "/next",
            &[("x-forwarded-for", "198.51.100.7")],
        ),
        (
            "a prefix, which must not be added twice",
            format!(r#"{trusted}, "prefix_from_header": true, "root_path": "/app""#),
            &[("X-Forwarded-Prefix", "/portal")],
            "/app/x",
            "/next",
            "/next",
            &[("x-forwarded-prefix", "/portal/app")],
        ),
    ];
    for (name, config, headers, target, location, next, want) in cases {
        let edge = Edge::start(&format!("{{{PEER}, {config}}}"), |bootstrap, _| {
            bootstrap.with_route_action(
                "internal_redirect_policy",
                json!({"max_internal_redirects": 1, "redirect_response_codes": [302]}),
            )
        });
        edge.upstream.answer_in_turn(&[
            Answer {
                status: 302,
                headers: vec![(
                    "location".to_owned(),
                    format!("http://portal.example{location}"),
                )],
                body: String::new(),
                ..Answer::default()
            },
            Answer::default(),
        ]);
        assert_eq!(edge.get(target, headers), 200, "{name}");
        let received = edge.upstream.requests();
        assert_eq!(received.len(), 2, "{name}: {received:?}");
        assert_eq!(received[1].target, next, "{name}");
        for (field, value) in want {
            for (pass, received) in received.iter().enumerate() {
                assert_eq!(
                    values(received, field),
                    [*value],
                    "{name}: {field}, pass {pass}"
                );
            }
        }
        for field in ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"] {
            assert_eq!(
                values(&received[0], field),
                values(&received[1], field),
                "{name}: {field}"
            );
        }
    }
}

/// Any client can send the header with which Envoy marks a redirected request.
#[test]
fn a_client_cannot_claim_to_be_redirected() {
    let edge = Edge::start(&format!("{{{PEER}}}"), |bootstrap, _| bootstrap);
    edge.upstream.answer(&Answer::default());
    let forged = [
        ("X-Envoy-Original-Url", "https://portal.example/x"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
    ];
    assert_eq!(edge.get("/x", &forged), 200);
    let received = edge.upstream.requests();
    for (field, want) in [
        ("x-forwarded-for", &["127.0.0.1"][..]),
        ("x-real-ip", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["portal.example"]),
        ("x-forwarded-prefix", &[]),
    ] {
        assert_eq!(values(&received[0], field), want, "{field}");
    }
}

/// Later filters can use the resolved client, and access logs show the path of the client's request.
#[test]
fn access_logs_and_rbac_know_the_client() {
    let config = format!(
        r#"{{{PEER}, "root_path": "/apps/my-app", "trust_proxy": true, "forwarded_allow_ips": "127.0.0.1"}}"#
    );
    let edge = Edge::start(&config, |bootstrap, folder| {
        bootstrap
            .with_connection_manager(
                "access_log",
                access_log(
                    &folder.join("access.log"),
                    "%FILTER_STATE(wasm.fluxlit.client:PLAIN)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE%\n",
                ),
            )
            .with_next_filter(json!({
                "name": "rbac",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                    "rules": {"action": "DENY", "policies": {"one client": {
                        "permissions": [{"any": true}],
                        "principals": [{"filter_state": {
                            "key": "wasm.fluxlit.client",
                            "string_match": {"exact": "198.51.100.7"},
                        }}],
                    }}},
                },
            }))
    });
    edge.upstream.answer(&Answer::default());
    let ask = |client| edge.get("/apps/my-app/x?q=1", &[("X-Forwarded-For", client)]);
    assert_eq!(ask("198.51.100.7"), 403);
    assert_eq!(ask("198.51.100.8"), 200);
    let log = edge.folder.path().join("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let want = "198.51.100.7 /apps/my-app/x?q=1 403\n198.51.100.8 /apps/my-app/x?q=1 200\n";
    wait_until(Duration::from_secs(30), || read().len() >= want.len());
    assert_eq!(read(), want);
}

/// Whoever reads a log knows which build wrote it, also if the configuration is refused.
#[test]
fn the_log_begins_with_version_and_commit() {
    let parts = parts();
    let name = if parts.is_dynamic_module() {
        "fluxlit-module"
    } else {
        "fluxlit-filter"
    };
    let version = env!("CARGO_PKG_VERSION");
    let arguments = [
        "--component-log-level",
        "wasm:info,dynamic_modules:info",
        "--concurrency",
        "1",
    ];
    for config in ["{}", r#"{"root_paht": "/x"}"#] {
        let folder = tempfile::tempdir().expect("a folder");
        let started = Bootstrap::shipped()
            .listening_on(local(free_port().expect("a free port")))
            .with_module(&parts.module)
            .with_plugin_config(config)
            .start(&parts.envoy, folder.path(), &arguments);
        let log = match started {
            Ok(envoy) => envoy.log(),
            Err(EnvoyError::Ended { log, .. }) => log,
            Err(error) => panic!("{error}"),
        };
        let commit = log
            .split_once(&format!("{name} {version}, commit "))
            .map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default());
        // Without git, the build does not know its commit.
        let given = std::env::var("FLUXLIT_COMMIT").ok();
        let wanted = given.or_else(head).unwrap_or_else(|| "unknown".to_owned());
        let commit = commit.unwrap_or_else(|| panic!("no version in {log}"));
        assert!(
            commit.starts_with(&wanted),
            "{config}: the commit is {commit:?}, not {wanted:?}"
        );
    }
}

/// Returns the commit that is checked out.
fn head() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Metrics keep the project's name in the Prometheus format, and warnings say what to do.
#[test]
fn decisions_are_counted_and_logged() {
    let config =
        format!(r#"{{{PEER}, "root_path": "/app", "outside_mount": "reject", "hsts": "fluxlit"}}"#);
    let edge = Edge::start(&config, |bootstrap, _| bootstrap);
    edge.upstream.answer(&Answer {
        headers: vec![(
            "strict-transport-security".to_owned(),
            "max-age=1".to_owned(),
        )],
        ..Answer::default()
    });
    for (target, status) in [
        ("/app/x", 200),
        ("/app", 308),
        ("/elsewhere", 404),
        ("/app/%252e%252e/x", 400),
    ] {
        let forged = [("X-Forwarded-For", "6.6.6.6"), ("X-Real-IP", "6.6.6.6")];
        assert_eq!(edge.get(target, &forged), status, "{target}");
    }
    let stats = || {
        edge.envoy
            .admin()
            .get("/stats/prometheus")
            .unwrap_or_default()
    };
    for want in [
        "fluxlit_requests_untrusted{} 4",
        "fluxlit_mount_hit{} 1",
        "fluxlit_mount_redirect{} 1",
        "fluxlit_mount_miss{} 1",
        "fluxlit_answered_bare_mount{} 1",
        "fluxlit_answered_outside_mount{} 1",
        "fluxlit_answered_dot_segment{} 1",
        "fluxlit_headers_removed_forwarding{} 2",
        "fluxlit_hsts_removed{} 1",
    ] {
        wait_until(Duration::from_secs(30), || stats().contains(want));
        let stats = stats();
        let ours: Vec<&str> = stats
            .lines()
            .filter_map(|line| {
                line.strip_prefix(if parts().is_dynamic_module() {
                    "envoy_dynamicmodulescustom_"
                } else {
                    ""
                })
            })
            .filter(|line| line.starts_with("fluxlit_"))
            .collect();
        assert!(ours.contains(&want), "{want} is not among {ours:#?}");
    }
    wait_until(Duration::from_secs(30), || {
        edge.envoy.log().contains("forwarded headers of")
    });
    let log = edge.envoy.log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("forwarded headers of"))
        .collect();
    let [warning] = warnings[..] else {
        panic!("want one warning, got {warnings:?}");
    };
    assert!(
        warning.contains(r#"of 127.0.0.1 are ignored"#) && warning.contains(r#"list "127.0.0.1""#),
        "{warning}"
    );
    assert!(!log.contains("6.6.6.6"), "a header's value is in the log");
}

/// A proxy that sends a prefix which is ignored is probably not configured as intended.
#[test]
fn an_ignored_prefix_of_a_trusted_peer_is_counted_and_logged_once() {
    let config = format!(
        r#"{{{PEER}, "trust_proxy": true, "forwarded_allow_ips": "127.0.0.1", "prefix_from_header": true}}"#
    );
    let edge = Edge::start(&config, |bootstrap, _| bootstrap);
    for prefix in ["/apps/my-app/", "apps", "/a/../b"] {
        assert_eq!(edge.get("/x", &[("X-Forwarded-Prefix", prefix)]), 200);
    }
    let is_counted = || {
        let stats = edge.envoy.admin().get("/stats/prometheus");
        stats
            .unwrap_or_default()
            .contains("fluxlit_prefix_ignored{} 2")
    };
    assert!(wait_until(Duration::from_secs(30), is_counted));
    let warning = "an X-Forwarded-Prefix of a trusted peer is ignored";
    wait_until(Duration::from_secs(30), || {
        edge.envoy.log().contains(warning)
    });
    assert_eq!(edge.envoy.log().matches(warning).count(), 1);
}

/// In `report_only` mode the filter decides, counts and logs, but changes nothing that is sent.
#[test]
fn report_only_changes_nothing() {
    let config = format!(
        r#"{{{PEER}, "root_path": "/app", "outside_mount": "reject", "security_headers": true, "report_only": true}}"#
    );
    let edge = Edge::start(&config, |bootstrap, folder| {
        bootstrap.with_connection_manager(
            "access_log",
            access_log(
                &folder.join("access.log"),
                "%FILTER_STATE(wasm.fluxlit.client:PLAIN)%\n",
            ),
        )
    });
    edge.upstream.answer(&Answer::default());
    let mut stream = connect(edge.address);
    let response = exchange(
        &mut stream,
        &request("/elsewhere", &[("X-Real-IP", "6.6.6.6")]),
        "GET",
    );
    assert_eq!(response.status, 200);
    assert!(response.values("x-frame-options").is_empty());
    let received = edge.upstream.requests();
    assert_eq!(values(&received[0], "x-real-ip"), ["6.6.6.6"]);
    assert_eq!(received[0].target, "/elsewhere");
    // Routes accept the request although no client is recorded.
    let redirected = [
        ("X-Envoy-Original-Url", "https://portal.example/x"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    assert_eq!(edge.get("/elsewhere", &redirected), 200);
    let log = edge.folder.path().join("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let want = "report_only\nreport_only\n";
    wait_until(Duration::from_secs(30), || read().len() >= want.len());
    assert_eq!(read(), want);
    assert!(
        wait_until(Duration::from_secs(30), || {
            edge.envoy.log().contains("report_only is on")
        }),
        "{}",
        edge.envoy.log()
    );
    let stats = || edge.envoy.admin().get("/stats").unwrap_or_default();
    let prefix = if parts().is_dynamic_module() {
        "dynamicmodulescustom"
    } else {
        "wasmcustom"
    };
    let want = format!("{prefix}.fluxlit.answered.outside_mount: 2");
    assert!(
        wait_until(Duration::from_secs(30), || stats().contains(&want)),
        "{}",
        stats()
    );
}

/// A plugin that only reports marks a request, but not as rewritten: a plugin after it removes what is forged, even if the
/// client claims that Envoy has redirected the request. In the other order, the recorded client stays.
#[test]
fn a_plugin_that_only_reports_does_not_vouch_for_a_request() {
    for first_reports in [true, false] {
        let config = |report_only| format!(r#"{{{PEER}, "report_only": {report_only}}}"#);
        let edge = Edge::start(&config(first_reports), |bootstrap, folder| {
            let first = bootstrap.clone().value()["static_resources"]["listeners"][0]["filter_chains"]
                [0]["filters"][1]["typed_config"]["http_filters"][0]
                .clone();
            let mut second = first;
            if !parts().is_dynamic_module() {
                let plugin = &mut second["typed_config"]["config"];
                plugin["name"] = json!("second");
                plugin["vm_config"]["vm_id"] = json!("second");
            }
            set_plugin_config(&mut second, &config(!first_reports));
            bootstrap.with_next_filter(second).with_connection_manager(
                "access_log",
                access_log(
                    &folder.join("access.log"),
                    "%FILTER_STATE(wasm.fluxlit.client:PLAIN)%\n",
                ),
            )
        });
        edge.upstream.answer(&Answer::default());
        let forged = [
            ("X-Envoy-Original-Url", "https://portal.example/x"),
            ("X-Real-IP", "6.6.6.6"),
        ];
        assert_eq!(edge.get("/x", &forged), 200);
        let received = edge.upstream.requests();
        assert_eq!(values(&received[0], "x-real-ip"), ["127.0.0.1"]);
        let log = edge.folder.path().join("access.log");
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until(Duration::from_secs(30), || read().ends_with('\n'));
        // Envoy does not let a dynamic module replace what it has stored.
        let want = if parts().is_dynamic_module() && first_reports {
            "report_only\n"
        } else {
            "127.0.0.1\n"
        };
        assert_eq!(read(), want, "first reports: {first_reports}");
    }
}

/// A WebSocket over HTTP/2 (RFC 8441) is a CONNECT on the wire and a handshake for the filter, which removes the mount and
/// forged fields.
#[test]
fn a_websocket_over_http2_is_treated_as_any_other() {
    let config = format!(r#"{{{PEER}, "root_path": "/app", "outside_mount": "reject"}}"#);
    let edge = Edge::start(&config, |bootstrap, _| {
        bootstrap.with_connection_manager("http2_protocol_options", json!({"allow_connect": true}))
    });
    edge.upstream.answer(&Answer {
        status: 403,
        ..Answer::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let status = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(edge.address)
            .await
            .expect("a connection");
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .expect("an HTTP/2 connection");
        tokio::spawn(connection);
        // After a first request, the server's settings, which allow the second, have arrived.
        let request = |method: &str, target: &str| {
            http::Request::builder()
                .method(method)
                .uri(format!("http://portal.example{target}"))
                .header("x-forwarded-for", "6.6.6.6")
                .header("x-real-ip", "6.6.6.6")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .expect("a request")
        };
        sender
            .send_request(request("GET", "/app/first"))
            .await
            .expect("a response");
        let mut handshake = request("CONNECT", "/app/_stcore/stream");
        handshake
            .extensions_mut()
            .insert(hyper::ext::Protocol::from_static("websocket"));
        sender
            .send_request(handshake)
            .await
            .expect("a response")
            .status()
    });
    assert_eq!(status, 403);
    let received = edge.upstream.requests();
    let [_, handshake] = &received[..] else {
        panic!("want two requests, got {received:?}");
    };
    assert_eq!(handshake.method, "GET");
    assert_eq!(handshake.target, "/_stcore/stream");
    for (field, want) in [
        ("upgrade", "websocket"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-prefix", "/app"),
    ] {
        assert_eq!(values(handshake, field), [want], "{field}");
    }
}

/// If no address can be trusted, a peer is trusted by the exact identity in its verified certificate.
#[test]
fn a_peer_is_trusted_by_its_certificate() {
    const LISTED: &str = "spiffe://cluster.local/ns/istio-system/sa/ingress";
    let authority = Authority::create().expect("an authority");
    let config = format!(r#"{{{PEER}, "trust_proxy": true, "trusted_identities": ["{LISTED}"]}}"#);
    let mut server = None;
    let edge = Edge::start(&config, |bootstrap, folder| {
        let certificate = Certificate::create_files(folder, &["localhost"]).expect("a certificate");
        let root = folder.join("authority.pem");
        std::fs::write(&root, &authority.pem).expect("a file");
        let bootstrap = bootstrap
            .with_tls(&certificate.certificate, &certificate.key)
            .with_client_authority(&root);
        server = Some(certificate);
        bootstrap
    });
    let server: CertificateFiles = server.expect("the bootstrap was changed");
    edge.upstream.answer(&Answer::default());
    for (identity, client) in [
        (Some(LISTED), "198.51.100.7"),
        (
            Some("spiffe://cluster.local/ns/istio-system/sa/ingress2"),
            "127.0.0.1",
        ),
        (
            Some("spiffe://CLUSTER.local/ns/istio-system/sa/ingress"),
            "127.0.0.1",
        ),
        (None, "127.0.0.1"),
    ] {
        edge.upstream.answer(&Answer::default());
        let presented =
            identity.map(|identity| authority.sign(&[identity]).expect("a certificate"));
        let config = server.client_config(presented.as_ref()).expect("a client");
        let mut stream = tls(connect(edge.address), config).expect("a TLS client");
        let response = exchange(
            &mut stream,
            &request("/x", &[("X-Forwarded-For", "198.51.100.7")]),
            "GET",
        );
        assert_eq!(response.status, 200, "{identity:?}");
        let received = edge.upstream.requests();
        assert_eq!(
            values(&received[0], "x-forwarded-for"),
            [client],
            "{identity:?}"
        );
    }
}

/// Envoy selects the route again after a write to the request headers, by the path that the filter has written. The filter
/// need not request that, because Envoy does it for modules of ABI 0.2.1.
#[test]
fn routes_are_selected_by_the_path_after_the_filter() {
    let routes = json!({
        "virtual_hosts": [{
            "name": "app",
            "domains": ["*"],
            "routes": [
                {"match": {"prefix": "/apps/my-app/"}, "direct_response": {"status": 409}},
                {"match": {"prefix": "/"}, "route": {"cluster": "gateway"}},
            ],
        }],
    });
    for (upstream_path, status) in [("stripped", 200), ("full", 409)] {
        let config = format!(
            r#"{{{PEER}, "root_path": "/apps/my-app", "upstream_path": "{upstream_path}"}}"#
        );
        let edge = Edge::start(&config, |bootstrap, _| {
            bootstrap.with_connection_manager("route_config", routes.clone())
        });
        edge.upstream.answer(&Answer::default());
        assert_eq!(edge.get("/apps/my-app/x", &[]), status, "{upstream_path}");
    }
}
