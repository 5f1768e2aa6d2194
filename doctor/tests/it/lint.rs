//! Lints the shipped files, and each with one small change.

use std::path::Path;

use fluxlit_doctor::lint::{LintFile, LintOptions, read, run};
use fluxlit_doctor::{CheckSelection, Finding, Status};
use serde_json::{Value, json};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../envoy")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&shipped(name)).expect("YAML")
}

#[track_caller]
pub(crate) fn lint(texts: &[String]) -> Vec<Finding> {
    let files: Vec<LintFile> = texts
        .iter()
        .map(|text| LintFile {
            path: "file.yaml".into(),
            documents: read("file.yaml", text).expect("a document"),
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(run(
        &files,
        &LintOptions::default(),
        &CheckSelection::default(),
        |_| (),
    ))
}

/// Returns the ids of the checks that found something, with the sentences.
pub(crate) fn problems(findings: &[Finding]) -> Vec<(&'static str, Status, String)> {
    findings
        .iter()
        .filter(|finding| finding.status >= Status::Warn)
        .map(|finding| (finding.check.id, finding.status, finding.finding.clone()))
        .collect()
}

pub(crate) fn skipped(findings: &[Finding]) -> Vec<&'static str> {
    findings
        .iter()
        .filter(|finding| finding.status == Status::Skipped)
        .map(|finding| finding.check.id)
        .collect()
}

#[test]
fn the_shipped_bootstrap_is_clean() {
    let findings = lint(&[shipped("bootstrap.yaml")]);
    assert_eq!(problems(&findings), []);
    assert_eq!(skipped(&findings), ["F05"]);
    assert!(
        findings
            .iter()
            .all(|finding| finding.status == Status::Skipped || finding.hint.is_none())
    );
}

#[test]
fn the_shipped_bootstrap_with_tls_is_clean() {
    let findings = lint(&[with_tls(&|_| ())]);
    assert_eq!(problems(&findings), []);
}

/// Joins bootstrap.yaml and tls.yaml, as a comment in the latter says.
fn with_tls(change: &dyn Fn(&mut Value)) -> String {
    let tls = yaml("tls.yaml");
    let mut bootstrap = yaml("bootstrap.yaml");
    let chain = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0];
    chain["transport_socket"] = tls["transport_socket"].clone();
    let manager = &mut chain["filters"][1]["typed_config"];
    manager["local_reply_config"] = tls["local_reply_config"].clone();
    change(chain);
    bootstrap.to_string()
}

#[test]
fn the_shipped_manifests_are_clean_together() {
    let findings = lint(&[
        shipped("istio/envoyfilter.yaml"),
        shipped("istio/wasmplugin.yaml"),
    ]);
    assert_eq!(problems(&findings), []);
}

#[test]
fn a_manifest_alone_says_what_it_needs() {
    let findings = lint(&[shipped("istio/wasmplugin.yaml")]);
    assert_eq!(problems(&findings), []);
    assert_eq!(
        skipped(&findings),
        ["F01", "F02", "F04", "F05", "F06", "F07"]
    );
    let findings = lint(&[shipped("istio/envoyfilter.yaml")]);
    assert_eq!(problems(&findings), []);
    assert_eq!(
        skipped(&findings),
        ["F03", "F04", "F05", "F06", "F07", "F08"]
    );
}

/// A change of a shipped file, the check that must notice it, and a part of its sentence.
struct Row {
    name: &'static str,
    check: &'static str,
    status: Status,
    says: &'static str,
    /// Gets the connection manager, or the manifest.
    change: fn(&mut Value),
}

fn fail(
    check: &'static str,
    name: &'static str,
    says: &'static str,
    change: fn(&mut Value),
) -> Row {
    Row {
        name,
        check,
        status: Status::Fail,
        says,
        change,
    }
}

fn warn(
    check: &'static str,
    name: &'static str,
    says: &'static str,
    change: fn(&mut Value),
) -> Row {
    Row {
        status: Status::Warn,
        ..fail(check, name, says, change)
    }
}

/// Returns the checks that find something in a changed bootstrap.
pub(crate) fn failing() -> Vec<&'static str> {
    let rows = [manager_rows(), chain_rows(), resource_rows()];
    rows.iter().flatten().map(|row| row.check).collect()
}

/// Returns the checks that find nothing in the shipped bootstrap.
pub(crate) fn passing() -> Vec<&'static str> {
    let findings = lint(&[with_tls(&|_| ())]);
    let passed = findings
        .iter()
        .filter(|finding| finding.status == Status::Pass);
    passed.map(|finding| finding.check.id).collect()
}

#[track_caller]
fn check_row(row: &Row, findings: &[Finding]) {
    let found = problems(findings);
    assert!(
        found.iter().any(|(id, status, says)| *id == row.check
            && *status == row.status
            && says.contains(row.says)),
        "{}: {} does not say {:?} in {found:#?}",
        row.name,
        row.check,
        row.says
    );
    let without_hint = findings.iter().find(|finding| {
        finding.status >= Status::Warn && finding.hint.as_ref().is_none_or(String::is_empty)
    });
    assert_eq!(without_hint, None, "{}", row.name);
}

#[rustfmt::skip]
fn manager_rows() -> Vec<Row> {
    vec![
        // F01
        fail("F01", "nothing records the peer", "no filter before the connection manager records `fluxlit.peers`", |manager| set_plugin(manager, "peer_filter_state_key", json!("fluxlit.peers"))),
        fail("F01", "source.address without use_remote_address", "use_remote_address is not true", |manager| { set_plugin(manager, "peer_filter_state_key", Value::Null); manager["use_remote_address"] = json!(false); }),
        fail("F01", "source.address with trusted hops", "xff_num_trusted_hops", |manager| { set_plugin(manager, "peer_filter_state_key", Value::Null); manager["xff_num_trusted_hops"] = json!(1); }),
        fail("F01", "source.address with a detection extension", "original_ip_detection_extensions", |manager| { set_plugin(manager, "peer_filter_state_key", Value::Null); manager["original_ip_detection_extensions"] = json!([{"name": "envoy.http.original_ip_detection.xff"}]); }),
        warn("F01", "a trusted proxy that terminates TLS", "overwrites X-Forwarded-Proto", |manager| { set_plugin(manager, "trust_proxy", json!(true)); set_plugin(manager, "forwarded_allow_ips", json!("10.0.0.0/8")); }),
        warn("F01", "Envoy appends the peer", "appends the peer to X-Forwarded-For", |manager| { set_plugin(manager, "trust_proxy", json!(true)); set_plugin(manager, "forwarded_allow_ips", json!("10.0.0.0/8")); manager["skip_xff_append"] = json!(false); }),
        // F02
        fail("F02", "no filter", "no connection manager has the FluxLit filter", |manager| { remove(&mut manager["http_filters"], 0); }),
        fail("F02", "disabled in the chain", "disabled in the filter chain", |manager| manager["http_filters"][0]["disabled"] = json!(true)),
        fail("F02", "disabled on the virtual host", "virtual host `app` of listener `edge` disables the filter", |manager| host(manager)["typed_per_filter_config"] = off()),
        fail("F02", "disabled on the route", "route 1 of virtual host `app` of listener `edge` disables the filter", |manager| route(manager)["typed_per_filter_config"] = off()),
        fail("F02", "disabled on the route configuration", "the route configuration of listener `edge` disables the filter", |manager| manager["route_config"]["typed_per_filter_config"] = off()),
        fail("F02", "an upgrade with its own filters", "upgrades to `websocket` have their own filters", |manager| manager["upgrade_configs"][0]["filters"] = json!([manager["http_filters"][1]])),
        fail("F02", "a route without the guard", "forwards requests that the filter has not processed", |manager| { route(manager)["match"] = json!({"prefix": "/"}); }),
        fail("F02", "a guard with another key", "forwards requests that the filter has not processed", |manager| route(manager)["match"]["filter_state"][0]["key"] = json!("fluxlit.client")),
        fail("F02", "a guard that is always true", "forwards requests that the filter has not processed", |manager| route(manager)["match"]["filter_state"][0]["string_match"]["safe_regex"]["regex"] = json!(".*")),
        fail("F02", "a guard that is inverted", "forwards requests that the filter has not processed", |manager| route(manager)["match"]["filter_state"][0]["invert_match"] = json!(true)),
        fail("F02", "a second virtual host", "virtual host `other`", |manager| { let mut other = host(manager).clone(); other["name"] = json!("other"); other["domains"] = json!(["other.example.com"]); other["routes"][0]["match"] = json!({"prefix": "/"}); manager["route_config"]["virtual_hosts"].as_array_mut().expect("hosts").push(other); }),
        warn("F02", "no last route", "no last route", |manager| { remove(&mut host(manager)["routes"], 1); }),
        warn("F02", "a matcher", "selects routes by a matcher", |manager| host(manager)["matcher"] = json!({})),
        warn("F02", "another filter before it", "`envoy.filters.http.lua` before the FluxLit filter", |manager| manager["http_filters"].as_array_mut().expect("filters").insert(0, json!({"name": "envoy.filters.http.lua", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}}))),
        warn("F02", "a default for ECDS, with the guard", "the default `RBAC` takes its place; the guard rejects", |manager| manager["http_filters"][0] = discovered()),
        fail("F02", "a default for ECDS, without the guard", "requests pass unfiltered", |manager| { manager["http_filters"][0] = discovered(); route(manager)["match"] = json!({"prefix": "/"}); }),
        // F03
        fail("F03", "fail open", "failure_policy is FAIL_OPEN", |manager| plugin(manager)["failure_policy"] = json!("FAIL_OPEN")),
        fail("F03", "the deprecated field", "fail_open is true", |manager| { plugin(manager)["fail_open"] = json!(true); plugin(manager)["failure_policy"] = Value::Null; }),
        warn("F03", "fail closed", "failure_policy is FAIL_CLOSED, so Envoy responds with 503 for ever", |manager| plugin(manager)["failure_policy"] = json!("FAIL_CLOSED")),
        warn("F03", "no failure policy", "failure_policy is not set", |manager| plugin(manager)["failure_policy"] = Value::Null),
        warn("F03", "a shared VM", "shares its VM (vm_id `fluxlit`) with `other`", |manager| { let mut other = manager["http_filters"][0].clone(); other["name"] = json!("other"); other["typed_config"]["config"]["name"] = json!("other"); manager["http_filters"].as_array_mut().expect("filters").insert(1, other); }),
        fail("F03", "a Struct", "the plugin configuration is a Struct", |manager| plugin(manager)["configuration"] = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"root_path": "/x"}})),
        // F04
        warn("F04", "no normalization", "read differently", |manager| manager["normalize_path"] = json!(false)),
        warn("F04", "slashes are not merged", "read differently", |manager| { manager.as_object_mut().expect("fields").remove("merge_slashes"); }),
        warn("F04", "escaped slashes pass", "read differently", |manager| manager["path_with_escaped_slashes_action"] = json!("KEEP_UNCHANGED")),
        warn("F04", "underscores pass", "read differently", |manager| manager["common_http_protocol_options"]["headers_with_underscores_action"] = json!("ALLOW")),
        fail("F04", "a second rewrite", "has prefix_rewrite, but the filter has already removed the mount `/apps/my-app`", |manager| route(manager)["route"]["prefix_rewrite"] = json!("/")),
        fail("F04", "a rewrite by regular expression", "has regex_rewrite", |manager| route(manager)["route"]["regex_rewrite"] = json!({})),
        fail("F04", "a route that matches the mount", "matches `/apps/my-app`, which the filter has removed", |manager| route(manager)["match"]["prefix"] = json!("/apps/my-app/")),
        // F06
        warn("F06", "HSTS without TLS", "sends HSTS over plain HTTP", |manager| manager["local_reply_config"] = yaml("tls.yaml")["local_reply_config"].clone()),
        // F07
        fail("F07", "no upgrades", "WebSocket upgrades are not enabled", |manager| { manager.as_object_mut().expect("fields").remove("upgrade_configs"); }),
        fail("F07", "upgrades switched off", "WebSocket upgrades are not enabled", |manager| manager["upgrade_configs"][0]["enabled"] = json!(false)),
        fail("F07", "a short idle limit", "stream_idle_timeout is 45s", |manager| manager["stream_idle_timeout"] = json!("45s")),
        fail("F07", "a short idle limit of the route", "idle_timeout is 15s", |manager| route(manager)["route"]["idle_timeout"] = json!("15s")),
        warn("F07", "the default route timeout", "ends responses after 15s (the default)", |manager| { route(manager)["route"].as_object_mut().expect("fields").remove("timeout"); }),
        warn("F07", "a route timeout", "ends responses after 30s", |manager| route(manager)["route"]["timeout"] = json!("30s")),
        warn("F07", "a maximum duration", "max_stream_duration ends every WebSocket after 600s", |manager| manager["common_http_protocol_options"]["max_stream_duration"] = json!("600s")),
        fail("F07", "a buffering filter", "waits for the end of a request", |manager| manager["http_filters"].as_array_mut().expect("filters").insert(1, json!({"name": "envoy.filters.http.buffer", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 1000}}))),
        fail("F07", "extended CONNECT without upgrades", "allow_connect offers WebSockets in HTTP/2", |manager| { manager["http2_protocol_options"] = json!({"allow_connect": true}); manager.as_object_mut().expect("fields").remove("upgrade_configs"); }),
        fail("F07", "HTTP/2 only", "only HTTP/2 is spoken", |manager| manager["codec_type"] = json!("HTTP2")),
        // F08
        fail("F08", "a setting that is misspelt", "E15: unknown key \"hst\"", |manager| set_plugin(manager, "hst", json!(true))),
        fail("F08", "no settings", "there is no plugin configuration", |manager| { plugin(manager)["configuration"] = Value::Null; }),
        fail("F08", "trust in nobody in particular", "E01", |manager| set_plugin(manager, "trust_proxy", json!(true))),
    ]
}

#[test]
fn each_change_of_the_connection_manager_is_found() {
    for row in manager_rows() {
        let mut bootstrap = yaml("bootstrap.yaml");
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";
        (row.change)(bootstrap.pointer_mut(manager).expect("the manager"));
        check_row(&row, &lint(&[bootstrap.to_string()]));
    }
}

#[rustfmt::skip]
fn chain_rows() -> Vec<Row> {
    vec![
        fail("F01", "the recorded peer is removed", "no filter before the connection manager records", |chain| { remove(&mut chain["filters"], 0); }),
        fail("F01", "it is recorded after", "no filter before the connection manager records", |chain| { let recorder = remove(&mut chain["filters"], 0); chain["filters"].as_array_mut().expect("filters").push(recorder); }),
        fail("F01", "something else is recorded", "which is not the address of the connection", |chain| chain["filters"][0]["typed_config"]["on_new_connection"][0]["format_string"]["text_format_source"]["inline_string"] = json!("%REQ(X-FORWARDED-FOR)%")),
        fail("F01", "the facts have another format", "records `%DOWNSTREAM_REMOTE_ADDRESS%`", |chain| { set_plugin(&mut chain["filters"][1]["typed_config"], "peer_filter_state_key", Value::Null); set_plugin(&mut chain["filters"][1]["typed_config"], "connection_facts_key", json!("fluxlit.peer")); }),
        fail("F01", "it is recorded in another form", "has the factory `envoy.hashable_string`", |chain| chain["filters"][0]["typed_config"]["on_new_connection"][0]["factory_key"] = json!("envoy.hashable_string")),
        warn("F01", "another filter between", "could overwrite it", |chain| chain["filters"].as_array_mut().expect("filters").insert(1, json!({"name": "other", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm"}}))),
        warn("F06", "no HSTS on own responses", "have no HSTS", |chain| { chain["filters"][1]["typed_config"].as_object_mut().expect("fields").remove("local_reply_config"); }),
        fail("F07", "HTTP/2 only, by ALPN", "only HTTP/2 is spoken", |chain| chain["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] = json!(["h2"])),
    ]
}

#[test]
fn each_change_of_the_filter_chain_is_found() {
    for row in chain_rows() {
        check_row(&row, &lint(&[with_tls(&row.change)]));
    }
}

#[rustfmt::skip]
fn resource_rows() -> Vec<Row> {
    vec![
        warn("F01", "an optional PROXY protocol", "allow_requests_without_proxy_protocol", |resources| resources["listeners"][0]["listener_filters"] = json!([{"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", "allow_requests_without_proxy_protocol": true}}])),
        fail("F02", "a second listener to the same cluster", "listener `side door` forwards to cluster `gateway` without the FluxLit filter", |resources| { let mut other = resources["listeners"][0].clone(); other["name"] = json!("side door"); let manager = &mut other["filter_chains"][0]["filters"][1]["typed_config"]; remove(&mut manager["http_filters"], 0); route(manager)["match"] = json!({"prefix": "/"}); resources["listeners"].as_array_mut().expect("listeners").push(other); }),
        fail("F08", "a cluster that does not exist", "route 1 of virtual host `app` of listener `edge` forwards to cluster `gatewy`, which does not exist", |resources| route(first_manager(resources))["route"]["cluster"] = json!("gatewy")),
        fail("F08", "one of several clusters does not exist", "forwards to cluster `gatewy`", |resources| { let action = &mut route(first_manager(resources))["route"]; action.as_object_mut().expect("fields").remove("cluster"); action["weighted_clusters"] = json!({"clusters": [{"name": "gateway", "weight": 1}, {"name": "gatewy", "weight": 1}]}); }),
        fail("F07", "HTTP/2 to the app", "forwards to cluster `gateway` over HTTP/2", |resources| resources["clusters"][0]["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"explicit_http_config": {"http2_protocol_options": {}}}})),
    ]
}

#[test]
fn each_change_of_the_listener_or_cluster_is_found() {
    for row in resource_rows() {
        let mut bootstrap = yaml("bootstrap.yaml");
        (row.change)(&mut bootstrap["static_resources"]);
        check_row(&row, &lint(&[bootstrap.to_string()]));
    }
}

/// Clusters that come from elsewhere are not known.
#[test]
fn a_cluster_that_a_server_can_add_is_not_missed() {
    type Change = fn(&mut Value);
    #[rustfmt::skip]
    let rows: [Change; 3] = [
        |bootstrap| bootstrap["dynamic_resources"] = json!({"cds_config": {"path_config_source": {"path": "cds.yaml"}}}),
        |bootstrap| bootstrap["dynamic_resources"] = json!({"ads_config": {"api_type": "GRPC"}}),
        |bootstrap| { let filters = &mut first_manager(&mut bootstrap["static_resources"])["http_filters"]; filters.as_array_mut().expect("filters").insert(1, json!({"name": "on-demand", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand", "odcds": {"source": {"ads": {}}}}})); },
    ];
    for change in rows {
        let mut bootstrap = yaml("bootstrap.yaml");
        route(first_manager(&mut bootstrap["static_resources"]))["route"]["cluster"] =
            json!("gatewy");
        change(&mut bootstrap);
        let found = problems(&lint(&[bootstrap.to_string()]));
        assert!(found.iter().all(|(id, _, _)| *id != "F08"), "{found:?}");
    }
}

/// A route must not be guarded where the filter is enabled by routes; the RBAC filter guards there.
#[test]
fn the_rbac_guard_stands_in_for_the_condition() {
    let mut bootstrap = yaml("bootstrap.yaml");
    let manager = bootstrap
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/1/typed_config")
        .expect("the manager");
    manager["http_filters"][0]["disabled"] = json!(true);
    route(manager)["match"] = json!({"prefix": "/"});
    let guard = yaml("rbac-guard.yaml");
    manager["http_filters"]
        .as_array_mut()
        .expect("filters")
        .insert(1, guard);
    assert_eq!(problems(&lint(&[bootstrap.to_string()])), []);
}

#[test]
fn each_change_of_a_manifest_of_istio_is_found() {
    #[rustfmt::skip]
    let plugin_rows = [
        fail("F01", "another key", "no EnvoyFilter records `peer`", |plugin| plugin["spec"]["pluginConfig"]["peer_filter_state_key"] = json!("peer")),
        warn("F01", "no key", "without peer_filter_state_key", |plugin| { plugin["spec"]["pluginConfig"].as_object_mut().expect("settings").remove("peer_filter_state_key"); }),
        fail("F02", "a late phase", "phase is STATS", |plugin| plugin["spec"]["phase"] = json!("STATS")),
        fail("F02", "no phase", "phase is UNSPECIFIED_PHASE", |plugin| { plugin["spec"].as_object_mut().expect("fields").remove("phase"); }),
        warn("F02", "some ports only", "`match` leaves out", |plugin| plugin["spec"]["match"] = json!([{"ports": [{"number": 8080}]}])),
        fail("F03", "fail open", "failStrategy is FAIL_OPEN", |plugin| plugin["spec"]["failStrategy"] = json!("FAIL_OPEN")),
        warn("F03", "no strategy", "failStrategy is FAIL_CLOSE", |plugin| { plugin["spec"].as_object_mut().expect("fields").remove("failStrategy"); }),
        fail("F08", "a setting that is misspelt", "E15", |plugin| plugin["spec"]["pluginConfig"]["root_paht"] = json!("/x")),
        fail("F08", "no settings", "there is no plugin configuration", |plugin| plugin["spec"]["pluginConfig"] = json!({})),
    ];
    for row in plugin_rows {
        let mut plugin = yaml("istio/wasmplugin.yaml");
        (row.change)(&mut plugin);
        check_row(
            &row,
            &lint(&[plugin.to_string(), shipped("istio/envoyfilter.yaml")]),
        );
    }
    #[rustfmt::skip]
    let filter_rows = [
        fail("F01", "recorded after the connection manager", "does not insert it before", |filter| filter["spec"]["configPatches"][0]["patch"]["operation"] = json!("INSERT_AFTER")),
        fail("F01", "something else is recorded", "does not record the address", |filter| filter["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["on_new_connection"][0]["format_string"]["text_format_source"]["inline_string"] = json!("%REQ(X)%")),
        fail("F02", "no guard", "no patch adds the filter's mark", |filter| { remove(&mut filter["spec"]["configPatches"], 1); }),
        fail("F02", "some routes only", "no patch adds the filter's mark", |filter| filter["spec"]["configPatches"][1]["match"]["routeConfiguration"] = json!({"name": "http.8080"})),
        fail("F02", "a route that is added", "the route `extra` that it adds", |filter| { let extra = json!({"applyTo": "HTTP_ROUTE", "match": {"context": "GATEWAY"}, "patch": {"operation": "ADD", "value": {"name": "extra", "match": {"prefix": "/x"}, "route": {"cluster": "x"}}}}); filter["spec"]["configPatches"].as_array_mut().expect("patches").insert(2, extra); }),
        warn("F02", "no last route", "no last route", |filter| { remove(&mut filter["spec"]["configPatches"], 3); remove(&mut filter["spec"]["configPatches"], 2); }),
    ];
    for row in filter_rows {
        let mut filter = yaml("istio/envoyfilter.yaml");
        (row.change)(&mut filter);
        check_row(
            &row,
            &lint(&[shipped("istio/wasmplugin.yaml"), filter.to_string()]),
        );
    }
}

#[test]
fn other_resources_of_istio_are_read_with_the_plugin() {
    let route = |rule: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "app"}, "spec": {"http": [rule]}}).to_string()
    };
    let mesh = json!({"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "metadata": {"name": "mesh"},
        "spec": {"meshConfig": {"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 1}}}}});
    let mut plugin = yaml("istio/wasmplugin.yaml");
    plugin["spec"]["pluginConfig"]
        .as_object_mut()
        .expect("settings")
        .remove("peer_filter_state_key");
    let mut full = yaml("istio/wasmplugin.yaml");
    full["spec"]["pluginConfig"]["upstream_path"] = json!("full");
    let full = full.to_string();
    for (row, text, plugin) in [
        (
            fail("F04", "a rewrite", "rewrites the path to `/`", |_| ()),
            route(json!({"rewrite": {"uri": "/"}})),
            shipped("istio/wasmplugin.yaml"),
        ),
        (
            fail("F04", "back", "the route adds it again", |_| ()),
            route(json!({"rewrite": {"uri": "/apps/my-app/"}})),
            shipped("istio/wasmplugin.yaml"),
        ),
        (
            fail("F04", "twice", "so the upstream gets it twice", |_| ()),
            route(json!({"rewrite": {"uri": "/apps/my-app"}})),
            full.clone(),
        ),
        (
            warn("F04", "removed", "that the upstream expects the", |_| ()),
            route(json!({"match": [{"uri": {"prefix": "/apps/my-app"}}], "rewrite": {"uri": "/"}})),
            full.clone(),
        ),
        (
            warn("F04", "a regular expression", "upstream_path: full", |_| ()),
            route(
                json!({"rewrite": {"uriRegexRewrite": {"match": "^/apps/(.*)$", "rewrite": "/\\1"}}}),
            ),
            full,
        ),
        (
            warn("F07", "a timeout", "ends responses after 30s", |_| ()),
            route(json!({"timeout": "30s"})),
            shipped("istio/wasmplugin.yaml"),
        ),
        (
            fail("F01", "trusted proxies", "numTrustedProxies", |_| ()),
            mesh.to_string(),
            plugin.to_string(),
        ),
    ] {
        check_row(&row, &lint(&[text, plugin]));
    }
    let mut full = yaml("istio/wasmplugin.yaml");
    full["spec"]["pluginConfig"]["upstream_path"] = json!("full");
    let condition = json!([{"uri": {"prefix": "/apps/my-app"}}]);
    let same = route(json!({"match": condition, "rewrite": {"uri": "/apps/my-app"}}));
    assert_eq!(problems(&lint(&[same, full.to_string()])), []);
}

#[test]
fn each_trap_of_envoy_gateway_is_found() {
    let policy = |plugin: Value| {
        json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyExtensionPolicy", "metadata": {"name": "fluxlit"},
            "spec": {"wasm": [plugin]}})
        .to_string()
    };
    let client = |spec: Value| {
        json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "edge"}, "spec": spec})
            .to_string()
    };
    let plugin = || policy(json!({"name": "fluxlit", "config": {"root_path": "/apps/my-app"}}));
    #[rustfmt::skip]
    let rows = [
        (fail("F02", "other routes", "404s and other routes bypass it", |_| ()), vec![plugin()]),
        (fail("F03", "fail open", "failOpen is true", |_| ()), vec![policy(json!({"name": "fluxlit", "failOpen": true, "config": {"root_path": "/x"}}))]),
        (warn("F03", "no reload", "cannot start a failed filter again", |_| ()), vec![plugin()]),
        (fail("F08", "no settings", "there is no plugin configuration", |_| ()), vec![policy(json!({"name": "fluxlit"}))]),
        (fail("F01", "an address from a header", "clientIPDetection turns use_remote_address off", |_| ()), vec![plugin(), client(json!({"clientIPDetection": {"xForwardedFor": {"numTrustedHops": 1}}}))]),
        (warn("F01", "an optional PROXY protocol", "optional PROXY protocol", |_| ()), vec![plugin(), client(json!({"proxyProtocol": {"optional": true}}))]),
        (warn("F04", "escaped slashes", "KeepUnchanged", |_| ()), vec![client(json!({"path": {"escapedSlashesAction": "KeepUnchanged"}}))]),
        (warn("F04", "merged slashes", "disableMergeSlashes", |_| ()), vec![client(json!({"path": {"disableMergeSlashes": true}}))]),
        (warn("F04", "underscores", "headers with underscores pass", |_| ()), vec![client(json!({"headers": {"withUnderscoresAction": "Allow"}}))]),
        (fail("F07", "a short idle limit", "streamIdleTimeout is shorter", |_| ()), vec![client(json!({"timeout": {"http": {"streamIdleTimeout": "15s"}}}))]),
        (fail("F04", "a rewrite", "rewrites the path", |_| ()), vec![plugin(), json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "app"}, "spec": {"rules": [{"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]}]}}).to_string()]),
    ];
    for (row, texts) in rows {
        check_row(&row, &lint(&texts));
    }
    let guard = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyPatchPolicy", "metadata": {"name": "guard"},
        "spec": {"jsonPatches": [{"operation": {"op": "add", "value": yaml("rbac-guard.yaml")}}]}});
    let found = problems(&lint(&[plugin(), guard.to_string()]));
    assert!(found.iter().all(|(id, _, _)| *id != "F02"), "{found:?}");
}

fn first_manager(resources: &mut Value) -> &mut Value {
    &mut resources["listeners"][0]["filter_chains"][0]["filters"][1]["typed_config"]
}

fn set_plugin(manager: &mut Value, name: &str, value: Value) {
    let text = &mut plugin(manager)["configuration"]["value"];
    let mut settings: Value = serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
    let fields = settings.as_object_mut().expect("settings");
    if value.is_null() {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
    *text = settings.to_string().into();
}

fn plugin(manager: &mut Value) -> &mut Value {
    &mut manager["http_filters"][0]["typed_config"]["config"]
}

fn host(manager: &mut Value) -> &mut Value {
    &mut manager["route_config"]["virtual_hosts"][0]
}

fn route(manager: &mut Value) -> &mut Value {
    &mut host(manager)["routes"][0]
}

fn remove(list: &mut Value, index: usize) -> Value {
    list.as_array_mut().expect("a list").remove(index)
}

fn off() -> Value {
    json!({"fluxlit": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}})
}

fn discovered() -> Value {
    json!({
        "name": "fluxlit",
        "config_discovery": {
            "config_source": {"ads": {}},
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
            "default_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"},
        },
    })
}
