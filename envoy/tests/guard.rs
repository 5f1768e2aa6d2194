//! Runs Envoy without the filter, in each way in which it can be missing, and checks that the upstream receives nothing forged.
//!
//! Each row runs on each version of Envoy in `FLUXLIT_TEST_ENVOYS`, with the shipped routes and without their condition on the filter's
//! mark. The second run shows that the row leaves the filter out, and so why the condition exists.

#[path = "support/request.rs"]
mod request;
#[expect(dead_code, reason = "other test binaries use the rest")]
mod support;
#[path = "support/version.rs"]
mod version;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxlit_cases::Answer;
use fluxlit_envoy::{Bootstrap, plugin_config};
use fluxlit_policy::ConnectionFacts;
use fluxlit_support::certificate::{Authority, Certificate};
use fluxlit_support::client::{self, tls};
use fluxlit_support::envoy::{Envoy, EnvoyError};
use fluxlit_support::http1::Response;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::upstream::Upstream;
use fluxlit_support::wait::wait_until;
use request::request;
use serde_json::{Value, json};
use support::{connect, named, parts, upstream, values};
use version::version;

/// A way in which the filter can be missing.
struct Row {
    name: &'static str,
    change: fn(Bootstrap, &Path) -> Bootstrap,
    probe: Probe,
    /// The result without the condition on the routes, and with it.
    without: Seen,
    with: Seen,
}

/// The requests of a row; each has a forged header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Probe {
    Get,
    WebSocket,
    /// The first request makes the filter's VM fail.
    AfterCrash,
    /// The same, and then requests until the filter runs again.
    AfterReload,
    /// Envoy has so little address space that it cannot create the VM of its worker.
    LittleMemory,
    /// The upstream redirects to /off, and Envoy follows.
    Redirected,
}

/// What became of the forged header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The upstream has received it.
    Forged,
    /// The upstream has received the filter's headers instead.
    Replaced,
    /// The upstream has received nothing: the last route has responded with 503 and the reason.
    Guarded,
    /// The upstream has received nothing: Envoy has responded with this status.
    Rejected(u16),
    /// The filter responds to no request, because Envoy does not start.
    NotStarted,
}

impl Probe {
    /// Returns false if it needs a VM.
    fn applies_to_dynamic_modules(self) -> bool {
        !matches!(
            self,
            Self::AfterCrash | Self::AfterReload | Self::LittleMemory
        )
    }
}

use Seen::{Forged, Guarded, NotStarted, Rejected, Replaced};

fn rows() -> Vec<Row> {
    let row = |name, probe, without, with, change| Row {
        name,
        change,
        probe,
        without,
        with,
    };
    use Probe::{AfterCrash, AfterReload, Get, LittleMemory, Redirected, WebSocket};
    #[rustfmt::skip]
    let rows = vec![
        row("nothing is missing", Get, Replaced, Replaced, |bootstrap, _| bootstrap),
        row("the worker has no VM (ulimit -v)", LittleMemory, Forged, Guarded, |bootstrap, _| bootstrap),
        row("the filter is disabled in the chain", Get, Forged, Guarded, |bootstrap, _| {
            bootstrap.with_changed_connection_manager(|manager| manager["http_filters"][0]["disabled"] = json!(true))
        }),
        row("the filter is disabled on the virtual host", Get, Forged, Guarded, |bootstrap, _| {
            bootstrap.with_changed_connection_manager(|manager| {
                manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = off();
            })
        }),
        // Envoy reads this setting from the route that it selects before the mark exists, which is the last one.
        row("the filter is disabled on the route", Get, Forged, Replaced, |bootstrap, _| {
            bootstrap.with_changed_connection_manager(|manager| first_route(manager)["typed_per_filter_config"] = off())
        }),
        row("the filter is enabled on the route only", Get, Replaced, Guarded, |bootstrap, _| {
            bootstrap.with_changed_connection_manager(|manager| {
                manager["http_filters"][0]["disabled"] = json!(true);
                first_route(manager)["typed_per_filter_config"] = on();
            })
        }),
        row("the upgrade has its own filters", WebSocket, Forged, Guarded, |bootstrap, _| {
            bootstrap.with_changed_connection_manager(|manager| {
                manager["upgrade_configs"][0]["filters"] = json!([manager["http_filters"][1]]);
            })
        }),
        row("an internal redirect to a route without the filter", Redirected, Replaced, Replaced, |bootstrap, _| {
            bootstrap
                .with_route_action("internal_redirect_policy", json!({"redirect_response_codes": [302]}))
                .with_changed_connection_manager(|manager| {
                    let mut route = first_route(manager).clone();
                    route["match"]["prefix"] = json!("/off");
                    route["typed_per_filter_config"] = off();
                    let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
                    routes.as_array_mut().expect("routes").insert(0, route);
                })
        }),
        row("ECDS has not delivered the filter", Get, Rejected(500), Rejected(500), |bootstrap, _| {
            discovered(bootstrap, &unreachable_server(), None)
        }),
        row("the same, with a default that allows everything", Get, Forged, Guarded, |bootstrap, _| {
            discovered(bootstrap, &unreachable_server(), Some(allow_all()))
        }),
        row("the first configuration by ECDS is rejected", Get, Rejected(500), Rejected(500), |bootstrap, folder| {
            let file = rejected_file(&bootstrap, folder);
            discovered(bootstrap, &file, None)
        }),
        row("the same, with a default that allows everything", Get, Forged, Guarded, |bootstrap, folder| {
            let file = rejected_file(&bootstrap, folder);
            discovered(bootstrap, &file, Some(allow_all()))
        }),
        row("the configuration is rejected at start", Get, NotStarted, NotStarted, |bootstrap, _| {
            bootstrap.with_plugin_config(INVALID)
        }),
        row("the VM has failed, FAIL_CLOSED", AfterCrash, Rejected(503), Rejected(503), |bootstrap, _| {
            failing(bootstrap, "failure_policy", json!("FAIL_CLOSED"))
        }),
        row("the VM has failed, FAIL_RELOAD", AfterReload, Replaced, Replaced, |bootstrap, _| {
            failing(bootstrap, "failure_policy", json!("FAIL_RELOAD"))
        }),
        row("the VM has failed, FAIL_OPEN", AfterCrash, Forged, Guarded, |bootstrap, _| {
            failing(bootstrap, "failure_policy", json!("FAIL_OPEN"))
        }),
        row("the VM has failed, fail_open: true", AfterCrash, Forged, Guarded, |bootstrap, _| {
            failing(bootstrap, "fail_open", json!(true))
        }),
        // The filter runs, and changes nothing because of its settings.
        row("report_only", Get, Forged, Forged, |bootstrap, _| {
            bootstrap.with_plugin_config(&plugin_config().replacen('{', r#"{"report_only": true,"#, 1))
        }),
    ];
    rows
}

#[test]
fn no_forged_request_reaches_the_upstream_if_the_filter_is_missing() {
    for_each_version(|envoy, version| {
        let mut failures = Vec::new();
        for row in rows() {
            if parts().is_dynamic_module() && !row.probe.applies_to_dynamic_modules() {
                continue;
            }
            let without = try_row(&row, envoy, Bootstrap::shipped().without_guard());
            let with = try_row(&row, envoy, Bootstrap::shipped());
            let shown = format!("{without:?}");
            println!(
                "Envoy {version}: {:<52} without {shown:<13} with {with:?}",
                row.name
            );
            if (without, with) != (row.without, row.with) {
                failures.push(format!(
                    "{}: want {:?} and {:?}, got {without:?} and {with:?}",
                    row.name, row.without, row.with
                ));
            }
        }
        assert!(
            failures.is_empty(),
            "Envoy {version}:\n{}",
            failures.join("\n")
        );
    });
}

/// Where routes enable the filter, a filter after it has to look for the mark.
#[test]
fn an_rbac_filter_guards_routes_that_enable_the_filter() {
    for_each_version(|envoy, version| {
        let text = std::fs::read_to_string(manifest("rbac-guard.yaml")).expect("the file exists");
        let guard: Value = serde_saphyr::from_str(&text).expect("YAML");
        let bootstrap = Bootstrap::shipped()
            .without_guard()
            .with_next_filter(guard)
            .with_changed_connection_manager(|manager| {
                manager["http_filters"][0]["disabled"] = json!(true);
                let mut other = first_route(manager).clone();
                other["match"]["prefix"] = json!("/apps/my-app/other");
                first_route(manager)["typed_per_filter_config"] = on();
                let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
                routes.as_array_mut().expect("routes").insert(0, other);
            });
        let edge = Edge::start(envoy, bootstrap, |bootstrap, _| bootstrap, Probe::Get)
            .expect("Envoy starts");
        assert_eq!(edge.get("/apps/my-app/x", &[]).status, 200, "{version}");
        assert_eq!(edge.seen(200), Replaced, "{version}");
        edge.upstream.answer(&Answer::default());
        assert_eq!(edge.get("/apps/my-app/other", &[]).status, 403, "{version}");
        assert_eq!(edge.upstream.requests(), [], "{version}");
    });
}

/// Neither a header nor another filter can store the mark or the peer.
#[test]
fn no_request_and_no_http_filter_can_store_the_mark_or_the_peer() {
    for_each_version(|envoy, version| {
        for (key, without_filter, want) in [
            ("fluxlit.peer", false, Replaced),
            ("wasm.fluxlit.client", true, Guarded),
        ] {
            // A value of the client's, in an HTTP filter before ours.
            let value = json!({
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": "%REQ(X-PEER)%"}},
            });
            let second = json!({
                "name": "second",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
                    "on_request_headers": [value],
                },
            });
            let has_second = key == "fluxlit.peer";
            let edge = Edge::start(
                envoy,
                Bootstrap::shipped(),
                |bootstrap, _| {
                    let config = plugin_config().replacen(
                        '{',
                        r#"{"trust_proxy": true, "forwarded_allow_ips": "10.9.9.9","#,
                        1,
                    );
                    bootstrap
                        .with_plugin_config(&config)
                        .with_changed_connection_manager(|manager| {
                            manager["http_filters"][0]["disabled"] = json!(without_filter);
                            if has_second {
                                let filters = manager["http_filters"].as_array_mut();
                                filters.expect("filters").insert(0, second);
                            }
                        })
                },
                Probe::Get,
            )
            .expect("Envoy starts");
            // As a header, as the name of the filter state, and over an upgrade.
            let forged = [
                ("X-Peer", "10.9.9.9:1"),
                ("fluxlit.peer", "10.9.9.9:1"),
                ("fluxlit.client", "10.9.9.9"),
                ("wasm.fluxlit.client", "10.9.9.9"),
                ("X-Forwarded-For", "6.6.6.6"),
            ];
            for probe in [Probe::Get, Probe::WebSocket] {
                let response = edge.send(probe, &forged);
                let seen = edge.seen_after(&response);
                assert_eq!(seen, want, "{version}: {key}");
                for received in edge.upstream.requests() {
                    assert_eq!(values(&received, "x-forwarded-for"), ["127.0.0.1"]);
                }
            }
        }
    });
}

/// Envoy 1.36 records before the handshake only; the certificate is then read from the connection.
#[test]
fn the_facts_about_a_connection_are_recorded_in_one_text() {
    const LISTED: &str = "spiffe://cluster.local/ns/istio-system/sa/ingress";
    const OTHER: &str = "spiffe://cluster.local/ns/other/sa/other";
    let config = json!({
        "connection_facts_key": "fluxlit.connection",
        "root_path": "/apps/my-app",
        "trust_proxy": true,
        "trusted_identities": [LISTED],
    });
    let forged = [("X-Forwarded-For", "198.51.100.7")];
    for_each_version(|envoy, version| {
        let authority = Authority::create().expect("an authority");
        let events: &[&str] = if version.starts_with("1.36.") {
            &["on_new_connection"]
        } else {
            &["on_new_connection", "on_downstream_tls_handshake"]
        };
        for event in events {
            let recording = |bootstrap: Bootstrap| {
                bootstrap
                    .with_connection_facts(event)
                    .with_plugin_config(&config.to_string())
            };
            let plain = Edge::start(
                envoy,
                Bootstrap::shipped(),
                |bootstrap, _| recording(bootstrap),
                Probe::Get,
            )
            .expect("Envoy starts");
            assert_eq!(
                plain.get("/apps/my-app/x", &forged).status,
                200,
                "{version}"
            );
            let received = plain.upstream.requests();
            assert_eq!(
                values(&received[0], "x-forwarded-for"),
                ["127.0.0.1"],
                "{version}"
            );
            assert_eq!(
                values(&received[0], "x-forwarded-proto"),
                ["http"],
                "{version}"
            );

            let mut server = None;
            let edge = Edge::start(
                envoy,
                Bootstrap::shipped(),
                |bootstrap, folder| {
                    let certificate =
                        Certificate::create_files(folder, &["localhost"]).expect("a certificate");
                    let root = folder.join("authority.pem");
                    std::fs::write(&root, &authority.pem).expect("a file");
                    let bootstrap = recording(bootstrap)
                        .with_tls(&certificate.certificate, &certificate.key)
                        .with_client_authority(&root);
                    server = Some(certificate);
                    bootstrap
                },
                Probe::Get,
            )
            .expect("Envoy starts");
            let server = server.expect("the bootstrap was changed");
            for (names, client) in [
                (Some(&[LISTED][..]), "198.51.100.7"),
                (Some(&[OTHER]), "127.0.0.1"),
                // Only the first name counts, and a comma or a space in a name does not make it two.
                (Some(&[OTHER, LISTED]), "127.0.0.1"),
                (None, "127.0.0.1"),
            ] {
                edge.upstream.answer(&Answer::default());
                let presented = names.map(|names| authority.sign(names).expect("a certificate"));
                let config = server.client_config(presented.as_ref()).expect("a client");
                let mut stream = tls(connect(edge.address), config).expect("a TLS client");
                let request = request("/apps/my-app/x", &forged);
                let response = client::exchange(&mut stream, &request, "GET");
                let case = format!("{version}, {event}, {names:?}");
                assert_eq!(response.expect("a response").status, 200, "{case}");
                let received = edge.upstream.requests();
                assert_eq!(values(&received[0], "x-forwarded-for"), [client], "{case}");
                assert_eq!(
                    values(&received[0], "x-forwarded-proto"),
                    ["https"],
                    "{case}"
                );
            }
        }
    });
}

#[test]
fn the_shipped_text_is_the_one_that_the_filter_reads() {
    let bootstrap = Bootstrap::shipped().with_connection_facts("on_downstream_tls_handshake");
    let filter =
        &bootstrap.value()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let recorded = &filter["typed_config"]["on_downstream_tls_handshake"][0];
    let format = &recorded["format_string"]["text_format_source"]["inline_string"];
    assert_eq!(*format, ConnectionFacts::FORMAT);
}

/// Envoy has selected a route before the filter runs, and selects again because the filter has written `:path`: it does so for
/// modules of ABI 0.2.1, without being asked.
#[test]
fn routes_are_selected_by_the_path_after_the_filter() {
    for_each_version(|envoy, version| {
        let edge = Edge::start(
            envoy,
            Bootstrap::shipped(),
            |bootstrap, _| {
                bootstrap.with_changed_connection_manager(|manager| {
                    let mut before = first_route(manager).clone();
                    before["match"] = json!({"prefix": "/apps/my-app/"});
                    before["direct_response"] = json!({"status": 409});
                    before.as_object_mut().expect("a route").remove("route");
                    let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
                    routes.as_array_mut().expect("routes").insert(0, before);
                })
            },
            Probe::Get,
        )
        .expect("Envoy starts");
        assert_eq!(edge.get("/apps/my-app/x", &[]).status, 200, "{version}");
        assert_eq!(edge.seen(200), Replaced, "{version}");
    });
}

/// Of two network filters that store the peer, the last one decides, so ours must be directly before the connection manager.
#[test]
fn a_network_filter_before_ours_cannot_store_the_peer() {
    for_each_version(|envoy, version| {
        let config = plugin_config().replacen(
            '{',
            r#"{"trust_proxy": true, "forwarded_allow_ips": "10.9.9.9","#,
            1,
        );
        let bootstrap = Bootstrap::shipped()
            .with_module(&parts().module)
            .with_plugin_config(&config);
        let mut listener = bootstrap.value()["static_resources"]["listeners"][0].clone();
        let filters = listener["filter_chains"][0]["filters"]
            .as_array_mut()
            .expect("filters");
        let mut other = filters[0].clone();
        other["name"] = json!("other");
        other["typed_config"]["on_new_connection"][0]["format_string"]["text_format_source"]["inline_string"] =
            json!("10.9.9.9:1");
        filters.insert(0, other);
        let address = local(free_port().expect("a free port"));
        let upstream = upstream();
        let folder = tempfile::tempdir().expect("a folder");
        listener["address"] = fluxlit_support::envoy::bootstrap::socket(address);
        let _envoy = bootstrap
            .forwarding_to(upstream.address)
            .with_listeners(vec![listener])
            .start(envoy, folder.path(), &["--concurrency", "1"])
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        let edge_request = request("/apps/my-app/x", &[("X-Forwarded-For", "6.6.6.6")]);
        let response = client::exchange(&mut connect(address), &edge_request, "GET");
        assert_eq!(response.expect("a response").status, 200, "{version}");
        let received = upstream.requests();
        assert_eq!(
            values(&received[0], "x-forwarded-for"),
            ["127.0.0.1"],
            "{version}"
        );
    });
}

#[test]
fn the_shipped_listener_starts_without_a_warning() {
    for_each_version(|envoy, version| {
        let edge = Edge::start(
            envoy,
            Bootstrap::shipped(),
            |bootstrap, _| bootstrap,
            Probe::Get,
        )
        .expect("Envoy starts");
        let log = edge.envoy.log();
        // Envoy 1.38 and 1.39 warn about any dynamic module that was not written for exactly their version.
        let warnings: Vec<&str> = log
            .lines()
            .filter(|line| {
                !(parts().is_dynamic_module() && line.contains("Dynamic module ABI version"))
            })
            .collect();
        assert!(warnings.is_empty(), "Envoy {version}: {warnings:#?}");
        // Shows that the log would contain a warning.
        let edge = Edge::start(
            envoy,
            Bootstrap::shipped(),
            |bootstrap, _| bootstrap.with_plugin_config(r#"{"report_only": true}"#),
            Probe::Get,
        )
        .expect("Envoy starts");
        assert!(
            edge.envoy.log().contains("report_only is on"),
            "Envoy {version}"
        );
    });
}

fn try_row(row: &Row, envoy: &Path, bootstrap: Bootstrap) -> Seen {
    let edge = match Edge::start(envoy, bootstrap, row.change, row.probe) {
        Ok(edge) => edge,
        Err(EnvoyError::Ended { .. }) => return NotStarted,
        Err(error) => panic!("{}: {error}", row.name),
    };
    match row.probe {
        Probe::AfterCrash | Probe::AfterReload => {
            edge.send(Probe::Get, &[CRASH]);
        }
        Probe::Redirected => {
            let location = (
                "location".to_owned(),
                "http://portal.example/off".to_owned(),
            );
            edge.upstream.answer_in_turn(&[
                Answer {
                    status: 302,
                    headers: vec![location],
                    ..Answer::default()
                },
                Answer::default(),
            ]);
        }
        _ => {}
    }
    let mut response = edge.send(row.probe, &[]);
    if row.probe == Probe::AfterReload {
        let runs_again = wait_until(Duration::from_secs(60), || {
            response = edge.send(row.probe, &[]);
            response.status == 200
        });
        assert!(runs_again, "{}: the filter does not run again", row.name);
    }
    if row.probe == Probe::Redirected {
        assert_eq!(edge.upstream.requests().len(), 2, "{}", row.name);
    }
    edge.seen_after(&response)
}

/// An Envoy with the shipped listener, in front of an upstream.
struct Edge {
    envoy: Envoy,
    upstream: Upstream,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Edge {
    fn start(
        envoy: &Path,
        bootstrap: Bootstrap,
        change: impl FnOnce(Bootstrap, &Path) -> Bootstrap,
        probe: Probe,
    ) -> Result<Self, EnvoyError> {
        let folder = tempfile::tempdir().expect("a folder");
        let upstream = upstream();
        let address = local(free_port().expect("a free port"));
        let bootstrap = bootstrap
            .listening_on(address)
            .forwarding_to(upstream.address)
            .with_module(&parts().module);
        let bootstrap = change(bootstrap, folder.path());
        let limited = folder.path().join("limited-envoy");
        let executable = if probe == Probe::LittleMemory {
            let script = format!(
                "#!/bin/sh\nulimit -v {ADDRESS_SPACE}\nexec {} \"$@\"\n",
                envoy.display()
            );
            std::fs::write(&limited, script).expect("a file");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&limited, mode).expect("an executable");
            &limited
        } else {
            envoy
        };
        let arguments = [
            "--concurrency",
            "1",
            "--service-node",
            "edge",
            "--service-cluster",
            "edge",
        ];
        let envoy = bootstrap.start(executable, folder.path(), &arguments)?;
        Ok(Self {
            envoy,
            upstream,
            address,
            _folder: folder,
        })
    }

    fn send(&self, probe: Probe, headers: &[(&str, &str)]) -> Response {
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        let upgrade = if probe == Probe::WebSocket {
            &upgrade[..]
        } else {
            &[]
        };
        self.get("/apps/my-app/x", &[headers, upgrade].concat())
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        let forged = [&[("True-Client-IP", FORGED)], headers].concat();
        client::exchange(&mut connect(self.address), &request(target, &forged), "GET")
            .expect("a response")
    }

    fn seen_after(&self, response: &Response) -> Seen {
        if response.status == 503 && response.text().contains("filter is not running") {
            assert_eq!(self.upstream.requests(), []);
            return Guarded;
        }
        self.seen(response.status)
    }

    fn seen(&self, status: u16) -> Seen {
        let received = self.upstream.requests();
        let has = |name, value| {
            received
                .iter()
                .any(|request| values(request, name) == [value])
        };
        match (has("true-client-ip", FORGED), has("x-real-ip", "127.0.0.1")) {
            (true, _) => Forged,
            (false, true) => Replaced,
            (false, false) => {
                assert_eq!(received, []);
                Rejected(status)
            }
        }
    }
}

/// Runs a check on each version of Envoy; the versions run in parallel.
fn for_each_version(check: impl Fn(&Path, &str) + Sync) {
    let list = named("FLUXLIT_TEST_ENVOYS");
    let envoys: Vec<(String, PathBuf)> = std::env::split_paths(&list)
        .map(|envoy| (version(&envoy), envoy))
        .collect();
    assert!(!envoys.is_empty());
    let envoys = envoys.iter().filter(|(version, _)| {
        assert!(SUPPORTED.contains(&version.as_str()), "Envoy {version}");
        !parts().is_dynamic_module() || !WITHOUT_DYNAMIC_MODULES.contains(&version.as_str())
    });
    std::thread::scope(|scope| {
        for (version, envoy) in envoys {
            let check = &check;
            scope.spawn(move || check(envoy, version));
        }
    });
}

fn first_route(manager: &mut Value) -> &mut Value {
    &mut manager["route_config"]["virtual_hosts"][0]["routes"][0]
}

fn off() -> Value {
    json!({"fluxlit": {"@type": FILTER_CONFIG, "disabled": true}})
}

fn on() -> Value {
    json!({"fluxlit": {"@type": FILTER_CONFIG, "config": {}}})
}

/// Makes the VM fail when the filter logs: without the capability to log, the call returns an error that the SDK does not
/// expect. The filter logs a warning about ignored forwarded headers.
fn failing(bootstrap: Bootstrap, key: &str, policy: Value) -> Bootstrap {
    bootstrap.with_changed_connection_manager(|manager| {
        let config = &mut manager["http_filters"][0]["typed_config"]["config"];
        if let Some(config) = config.as_object_mut() {
            config.remove("failure_policy");
        }
        config[key] = policy;
        let allowed: serde_json::Map<String, Value> = CAPABILITIES
            .iter()
            .map(|name| ((*name).to_owned(), json!({})))
            .collect();
        config["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
    })
}

/// Takes the filter from ECDS instead of the listener.
fn discovered(bootstrap: Bootstrap, source: &Value, default: Option<Value>) -> Bootstrap {
    let mut discovery = json!({
        "config_source": source,
        "type_urls": [WASM, DYNAMIC_MODULE, RBAC],
    });
    if let Some(default) = default {
        discovery["default_config"] = default;
        discovery["apply_default_config_without_warming"] = json!(true);
    }
    let server = local(free_port().expect("a free port"));
    bootstrap
        .with_changed_connection_manager(|manager| {
            manager["http_filters"][0] = json!({"name": "fluxlit", "config_discovery": discovery});
        })
        .with_cluster(json!({
            "name": "discovery",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {"cluster_name": "discovery", "endpoints": [{"lb_endpoints": [{
                "endpoint": {"address": fluxlit_support::envoy::bootstrap::socket(server)},
            }]}]},
        }))
}

/// A configuration server that nobody runs.
fn unreachable_server() -> Value {
    json!({
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "discovery"}}],
        },
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0.1s",
    })
}

/// A file with the filter and a configuration that the filter rejects.
fn rejected_file(bootstrap: &Bootstrap, folder: &Path) -> Value {
    let filter = bootstrap
        .clone()
        .with_plugin_config(INVALID)
        .value()
        .pointer("/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/http_filters/0/typed_config")
        .expect("the filter")
        .clone();
    let file = folder.join("ecds.json");
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "fluxlit",
        "typed_config": filter,
    });
    std::fs::write(&file, json!({"resources": [resource]}).to_string()).expect("a file");
    json!({
        "path_config_source": {"path": file},
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0.1s",
    })
}

/// An HTTP filter that allows every request.
fn allow_all() -> Value {
    json!({"@type": RBAC})
}

fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The versions that the shipped files support.
const SUPPORTED: [&str; 5] = ["1.36.4", "1.37.0", "1.38.2", "1.39.3", "1.40.0"];

/// The versions that have not all functions which the dynamic module needs.
const WITHOUT_DYNAMIC_MODULES: [&str; 2] = ["1.36.4", "1.37.0"];

const FORGED: &str = "6.6.6.6";

/// Makes the filter log a warning.
const CRASH: (&str, &str) = ("X-Forwarded-For", FORGED);

/// In KiB: enough to start, and too little for the second VM, because V8 reserves about 9 GiB for each.
const ADDRESS_SPACE: u32 = 25_000_000;

/// A plugin configuration that the filter rejects.
const INVALID: &str = r#"{"root_paht": "/x"}"#;

const FILTER_CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const DYNAMIC_MODULE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Everything that the filter uses except `proxy_log`.
const CAPABILITIES: [&str; 25] = [
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_log_level",
    "proxy_get_property",
    "proxy_increment_metric",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_property",
    "proxy_set_tick_period_milliseconds",
];
