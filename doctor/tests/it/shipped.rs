//! Lints every shipped configuration of Envoy, Istio and Envoy Gateway, and each with one defect.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fluxlit_doctor::{Finding, Report, Status};
use serde_json::{Value, json};

use crate::lint::{lint, problems, skipped};

/// Files that belong together.
#[derive(Clone, Copy)]
struct Set {
    name: &'static str,
    files: &'static [&'static str],
    /// The checks that find nothing to look at, or need more than files.
    skipped: &'static [&'static str],
    /// What is found, because the control plane cannot do better.
    found: &'static [(&'static str, &'static str)],
}

#[rustfmt::skip]
const SETS: [Set; 22] = [
    set("bootstrap", &["envoy/bootstrap.yaml"], &["F05"]),
    set("tls", &["envoy/bootstrap.yaml", "envoy/tls.yaml"], &["F05"]),
    set("module", &["envoy/bootstrap.yaml", "envoy/module.yaml"], &["F05"]),
    set("facts", &["envoy/bootstrap.yaml", "envoy/connection-facts.yaml"], &["F05"]),
    set("several apps", &["envoy/bootstrap.yaml", "envoy/several-apps.yaml"], &["F05"]),
    // It has no local_reply_config: which scheme a browser used is known to the filter only.
    set("sidecar", &["envoy/sidecar.yaml"], &["F05"]),
    set("tracing", &["envoy/bootstrap.yaml", "envoy/tracing.yaml"], &["F05"]),
    set("rbac", &["envoy/bootstrap.yaml", "envoy/rbac-guard.yaml"], &["F05"]),
    set("dynamic", &["envoy/dynamic/*"], &["F05"]),
    set("dynamic without its bootstrap", &["envoy/dynamic/lds.yaml", "envoy/dynamic/ecds.yaml", "envoy/dynamic/cds.yaml"], &["F05"]),
    set("dynamic: listener", &["envoy/dynamic/lds.yaml"], &["F01", "F03", "F05", "F06", "F08"]),
    set("dynamic: filter", &["envoy/dynamic/ecds.yaml"], &["F01", "F02", "F04", "F05", "F06", "F07"]),
    set("module by itself", &["envoy/module.yaml"], &["F01", "F02", "F04", "F05", "F06", "F07"]),
    set("istio", &["envoy/istio/*"], &["F04", "F05", "F06", "F07"]),
    Set { found: &[("F03", "failure_policy is not set")], ..set("made by envoy-gateway", &["envoy/control-planes/envoy-gateway.yaml"], &["F05"]) },
    set("made by istio-gateway", &["envoy/control-planes/istio-gateway.yaml"], &["F05"]),
    set("made by istio-sidecar", &["envoy/control-planes/istio-sidecar.yaml"], &["F05"]),
    set("made by istio-waypoint", &["envoy/control-planes/istio-waypoint.yaml"], &["F05"]),
    Set { found: &[("F03", "cannot start a failed filter again")], ..set("envoy-gateway", &["deploy/kubernetes/overlays/envoy-gateway/*", "deploy/kubernetes/base/*"], &["F05", "F06"]) },
    set("istio-gateway", &["deploy/kubernetes/overlays/istio-gateway/*", "deploy/kubernetes/base/*"], &["F05", "F06"]),
    set("istio-sidecar", &["deploy/kubernetes/overlays/istio-sidecar/*", "deploy/kubernetes/base/*"], &["F04", "F05", "F06", "F07"]),
    set("istio-waypoint", &["deploy/kubernetes/overlays/istio-waypoint/*", "deploy/kubernetes/base/*"], &["F04", "F05", "F06", "F07"]),
];

/// Sets that replace a file of another one; their names are those of the overlays.
#[rustfmt::skip]
const FURTHER: [Set; 2] = [
    set("envoy-gateway-module", &[
        "deploy/kubernetes/overlays/envoy-gateway-module/*", "deploy/kubernetes/overlays/envoy-gateway/clienttrafficpolicy.yaml",
        "deploy/kubernetes/overlays/envoy-gateway/gateway.yaml", "deploy/kubernetes/overlays/envoy-gateway/guard.yaml",
    ], &["F05", "F06"]),
    set("istio-gateway-traffic-extension", &[
        "deploy/kubernetes/overlays/istio-gateway-traffic-extension/*", "deploy/kubernetes/overlays/istio-gateway/envoyfilter.yaml",
        "deploy/kubernetes/overlays/istio-gateway/routes.yaml",
    ], &["F05", "F06"]),
];

/// Files without the filter, and without Envoy.
#[rustfmt::skip]
const WITHOUT: [Set; 2] = [
    set("base", &["deploy/kubernetes/base/*"], ALL),
    set("ingress", &["deploy/kubernetes/overlays/ingress/*", "deploy/kubernetes/base/*"], ALL),
];

const ALL: &[&str] = &["F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08"];

const fn set(
    name: &'static str,
    files: &'static [&'static str],
    skipped: &'static [&'static str],
) -> Set {
    Set {
        name,
        files,
        skipped,
        found: &[],
    }
}

fn sets() -> impl Iterator<Item = Set> {
    SETS.into_iter().chain(FURTHER).chain(WITHOUT)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the YAML files of a folder.
fn yaml_files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| format!("{folder}/{}", name.to_string_lossy()))
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    names
}

/// Returns the names of the files of a set.
fn names(set: &Set) -> Vec<String> {
    let names = set.files.iter().map(|file| match file.strip_suffix("/*") {
        Some(folder) => yaml_files(folder),
        None => vec![(*file).to_owned()],
    });
    names.flatten().collect()
}

/// Reads the files of a set, with the documents of each.
fn read(set: &Set) -> Vec<(String, Vec<Value>)> {
    let read = |name: String| {
        let text = std::fs::read_to_string(root().join(&name));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        let documents = serde_saphyr::from_multiple(&text);
        let documents = documents.unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, documents)
    };
    names(set).into_iter().map(read).collect()
}

/// Puts files that are a part of a bootstrap to the place that their comments name, unless they are read by themselves.
fn assemble(mut files: Vec<(String, Vec<Value>)>) -> Vec<String> {
    let mut parts = Vec::new();
    let is_alone = files.len() == 1;
    files.retain(|(name, documents)| {
        let is_part = !is_alone && PARTS.contains(&name.as_str());
        if is_part {
            parts.push((name.clone(), documents[0].clone()));
        }
        !is_part
    });
    for (name, part) in parts {
        let bootstrap = &mut files[0].1[0];
        let chain = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0];
        let filters = chain["filters"].as_array_mut().expect("filters");
        match name.as_str() {
            "envoy/connection-facts.yaml" => {
                let settings = json!({"root_path": "/apps/my-app", "connection_facts_key": "fluxlit.connection"});
                let plugin = &mut filters[1]["typed_config"]["http_filters"][0]["typed_config"];
                plugin["config"]["configuration"]["value"] = settings.to_string().into();
                filters[0] = part;
            }
            "envoy/module.yaml" => filters[1]["typed_config"]["http_filters"][0] = part,
            "envoy/rbac-guard.yaml" => {
                let manager = &mut filters[1]["typed_config"];
                manager["route_config"]["virtual_hosts"][0]["routes"][0]["match"] =
                    json!({"prefix": "/"});
                let filters = manager["http_filters"].as_array_mut();
                filters.expect("filters").insert(1, part);
            }
            "envoy/several-apps.yaml" => {
                let manager = &mut filters[1]["typed_config"];
                manager["route_config"]["virtual_hosts"] = part["virtual_hosts"].clone();
                let plugin = &mut manager["http_filters"][0]["typed_config"]["config"];
                plugin["configuration"] = part["configuration"].clone();
                bootstrap["static_resources"]["clusters"] = part["clusters"].clone();
            }
            "envoy/tls.yaml" => {
                filters[1]["typed_config"]["local_reply_config"] =
                    part["local_reply_config"].clone();
                chain["transport_socket"] = part["transport_socket"].clone();
            }
            _ => filters[1]["typed_config"]["tracing"] = part["tracing"].clone(),
        }
    }
    files
        .iter()
        .map(|(_, documents)| documents.iter().map(Value::to_string).collect::<Vec<_>>())
        .map(|documents| documents.join("\n---\n"))
        .filter(|text| !text.is_empty())
        .collect()
}

const PARTS: [&str; 6] = [
    "envoy/connection-facts.yaml",
    "envoy/module.yaml",
    "envoy/rbac-guard.yaml",
    "envoy/several-apps.yaml",
    "envoy/tls.yaml",
    "envoy/tracing.yaml",
];

fn has_failed(findings: &[Finding]) -> bool {
    let report = Report {
        target: String::new(),
        findings: findings.to_vec(),
        is_strict: false,
        is_lenient: false,
    };
    report.has_failed()
}

#[test]
fn every_shipped_configuration_is_clean() {
    for set in sets() {
        let findings = lint(&assemble(read(&set)));
        let found = problems(&findings);
        let is_expected = found.len() == set.found.len()
            && found
                .iter()
                .zip(set.found)
                .all(|((id, _, says), (wanted, part))| id == wanted && says.contains(part));
        assert!(is_expected, "{}: {found:#?}", set.name);
        assert_eq!(skipped(&findings), set.skipped, "{}", set.name);
        // Nothing of the filter is there, so nothing has passed.
        assert_eq!(has_failed(&findings), set.skipped == ALL, "{}", set.name);
    }
}

#[test]
fn every_shipped_file_is_in_a_set() {
    let known: BTreeSet<String> = sets().flat_map(|set| names(&set)).collect();
    let overlays =
        std::fs::read_dir(root().join("deploy/kubernetes/overlays")).expect("the overlays");
    let overlays = overlays.map(|entry| entry.expect("an entry").file_name());
    let mut folders: Vec<String> = overlays
        .map(|name| format!("deploy/kubernetes/overlays/{}", name.to_string_lossy()))
        .collect();
    let others = [
        "envoy",
        "envoy/dynamic",
        "envoy/istio",
        "envoy/control-planes",
    ];
    folders.extend(others.map(str::to_owned));
    for file in folders.iter().flat_map(|folder| yaml_files(folder)) {
        assert!(known.contains(&file), "{file} is not linted");
    }
}

/// A change of one document of a set, the check that must notice it, and parts of its sentence and its hint.
struct Defect {
    set: &'static str,
    /// The end of the name of the file.
    file: &'static str,
    /// The kind of the object, in a file with several.
    kind: Option<&'static str>,
    check: &'static str,
    status: Status,
    says: &'static str,
    hint: &'static str,
    change: fn(&mut Value),
}

#[rustfmt::skip]
fn defects() -> Vec<Defect> {
    let fail = |set, file, check, says, hint, change| Defect { set, file, kind: None, check, status: Status::Fail, says, hint, change };
    let warn = |set, file, check, says, hint, change| Defect { set, file, kind: None, check, status: Status::Warn, says, hint, change };
    let of_kind = |kind, defect| Defect { kind: Some(kind), ..defect };
    vec![
        // The dynamic module.
        fail("module", "module.yaml", "F08", "E15: unknown key \"root_paht\"", "plugin configuration", |filter| filter["typed_config"]["filter_config"]["value"] = json!("{\"root_paht\": \"/x\"}")),
        fail("module", "module.yaml", "F08", "there is no plugin configuration", "as JSON", |filter| filter["typed_config"]["filter_config"] = Value::Null),
        fail("module", "module.yaml", "F08", "E15: unknown key \"root_paht\"", "plugin configuration", |filter| filter["typed_config"]["filter_config"] = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"root_paht": "/x"}})),
        fail("module", "module.yaml", "F01", "records `peer`", "set_filter_state", |filter| filter["typed_config"]["filter_config"]["value"] = json!("{\"peer_filter_state_key\": \"peer\"}")),
        fail("module", "module.yaml", "F02", "disabled in the filter chain", "rbac-guard", |filter| filter["disabled"] = json!(true)),
        warn("module", "module.yaml", "F03", "do_not_close is not true", "set do_not_close: true", |filter| { remove(&mut filter["typed_config"]["dynamic_module_config"], "do_not_close"); }),
        fail("several apps", "several-apps.yaml", "F02", "route 2 of virtual host `apps`", "filter_state", |part| { remove(&mut part["virtual_hosts"][0]["routes"][1]["match"], "filter_state"); }),
        fail("several apps", "several-apps.yaml", "F04", "has prefix_rewrite" , "remove", |part| { part["configuration"]["value"] = json!("{\"mounts\": [{\"root_path\": \"/apps/sales\"}], \"peer_filter_state_key\": \"fluxlit.peer\"}"); part["virtual_hosts"][0]["routes"][0]["route"]["prefix_rewrite"] = json!("/"); }),
        fail("sidecar", "sidecar.yaml", "F01", "no filter before the connection manager records `fluxlit.connection`", "set_filter_state", |made| { remove_first(&mut made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]); }),
        fail("sidecar", "sidecar.yaml", "F02", "forwards requests that the filter has not processed", "filter_state", |made| without_mark(made_manager(made, 0))),
        // Resources in files.
        fail("dynamic", "dynamic/lds.yaml", "F01", "no filter before the connection manager records `fluxlit.peer`", "set_filter_state", |lds| { remove_first(&mut lds["resources"][0]["filter_chains"][0]["filters"]); }),
        fail("dynamic", "dynamic/lds.yaml", "F02", "forwards requests that the filter has not processed", "filter_state", |lds| without_mark(manager(&mut lds["resources"][0]))),
        fail("dynamic", "dynamic/lds.yaml", "F02", "no connection manager has the FluxLit filter", "bootstrap.yaml", |lds| { remove_first(&mut manager(&mut lds["resources"][0])["http_filters"]); }),
        fail("dynamic", "dynamic/ecds.yaml", "F03", "FAIL_OPEN", "FAIL_RELOAD", |ecds| ecds["resources"][0]["typed_config"]["config"]["failure_policy"] = json!("FAIL_OPEN")),
        fail("dynamic", "dynamic/cds.yaml", "F07", "cluster `gateway` over HTTP/2", "http2_protocol_options", |cds| cds["resources"][0]["http2_protocol_options"] = json!({})),
        fail("dynamic", "dynamic/ecds.yaml", "F08", "root_paht", "plugin configuration", |ecds| ecds["resources"][0]["typed_config"]["config"]["configuration"]["value"] = json!("{\"root_paht\": \"/x\"}")),
        fail("dynamic: filter", "dynamic/ecds.yaml", "F08", "root_paht", "plugin configuration", |ecds| ecds["resources"][0]["typed_config"]["config"]["configuration"]["value"] = json!("{\"root_paht\": \"/x\"}")),
        fail("dynamic without its bootstrap", "dynamic/lds.yaml", "F02", "forwards requests that the filter has not processed", "filter_state", |lds| without_mark(manager(&mut lds["resources"][0]))),
        // What Envoy Gateway makes.
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F01", "use_remote_address is not true", "peer_filter_state_key", |made| made_manager(made, 0)["use_remote_address"] = json!(false)),
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F02", "disabled in the filter chain", "rbac-guard.yaml", |made| { list(&mut made_manager(made, 0)["http_filters"]).remove(2); }),
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F02", "listener `my-team/fluxlit/http` forwards to cluster `httproute/my-team/fluxlit/rule/0`", "add the filter", |made| made_manager(made, 1)["route_config"]["virtual_hosts"][0]["routes"] = json!([{"match": {"prefix": "/"}, "route": {"cluster": "httproute/my-team/fluxlit/rule/0"}}])),
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F03", "fail_open is true", "FAIL_RELOAD", |made| made_manager(made, 0)["http_filters"][1]["typed_config"]["config"]["fail_open"] = json!(true)),
        warn("made by envoy-gateway", "envoy-gateway.yaml", "F04", "may read differently", "merge_slashes: true", |made| made_manager(made, 0)["merge_slashes"] = json!(false)),
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F07", "WebSocket upgrades are not enabled", "upgrade_configs", |made| { remove(&mut made_manager(made, 0)["route_config"]["virtual_hosts"][0]["routes"][0]["route"], "upgrade_configs"); }),
        fail("made by envoy-gateway", "envoy-gateway.yaml", "F08", "root_paht", "plugin configuration", |made| misspell(&mut made_manager(made, 0)["http_filters"][1])),
        // What Istio makes of an ingress gateway.
        fail("made by istio-gateway", "istio-gateway.yaml", "F01", "records `fluxlit.peer`", "set_filter_state", |made| { remove_first(&mut made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]); }),
        fail("made by istio-gateway", "istio-gateway.yaml", "F02", "route `fluxlit` of virtual host `portal.example.com:443`", "filter_state", |made| without_mark(made_manager(made, 0))),
        fail("made by istio-gateway", "istio-gateway.yaml", "F02", "listener `0.0.0.0_80` forwards", "add the filter", |made| { let http = made_manager(made, 1); without_mark(http); remove(&mut http["route_config"]["virtual_hosts"][0], "require_tls"); }),
        // Envoy takes https from a header then.
        fail("made by istio-gateway", "istio-gateway.yaml", "F02", "listener `0.0.0.0_80` forwards", "add the filter", |made| { let http = made_manager(made, 1); without_mark(http); http["xff_num_trusted_hops"] = json!(1); }),
        fail("made by istio-gateway", "istio-gateway.yaml", "F02", "listener `0.0.0.0_80` forwards", "add the filter", |made| { let http = made_manager(made, 1); without_mark(http); http["use_remote_address"] = json!(false); }),
        warn("made by istio-gateway", "istio-gateway.yaml", "F03", "FAIL_CLOSED", "failStrategy: FAIL_RELOAD", |made| made_manager(made, 0)["http_filters"][0]["typed_config"]["config"]["failure_policy"] = json!("FAIL_CLOSED")),
        warn("made by istio-gateway", "istio-gateway.yaml", "F04", "may read differently", "meshConfig.pathNormalization", |made| made_manager(made, 0)["route_config"]["virtual_hosts"][0]["routes"][0]["match"]["prefix"] = json!("/apps/my-app/admin")),
        warn("made by istio-gateway", "istio-gateway.yaml", "F06", "have no HSTS", "local_reply_config", |made| made_manager(made, 0)["http_filters"][0]["typed_config"]["config"]["configuration"]["value"] = json!("{\"root_path\": \"/apps/my-app\", \"hsts\": true, \"peer_filter_state_key\": \"fluxlit.peer\"}")),
        fail("made by istio-gateway", "istio-gateway.yaml", "F07", "stream_idle_timeout is 30s", "90s", |made| made_manager(made, 0)["stream_idle_timeout"] = json!("30s")),
        fail("made by istio-gateway", "istio-gateway.yaml", "F08", "root_paht", "plugin configuration", |made| misspell(&mut made_manager(made, 0)["http_filters"][0])),
        // A sidecar, and a waypoint.
        fail("made by istio-sidecar", "istio-sidecar.yaml", "F01", "records `fluxlit.peer`", "set_filter_state", |made| { remove_first(&mut made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]); }),
        fail("made by istio-sidecar", "istio-sidecar.yaml", "F02", "route `default` of virtual host `inbound|http|8000`", "filter_state", |made| without_mark(made_manager(made, 0))),
        fail("made by istio-sidecar", "istio-sidecar.yaml", "F03", "FAIL_OPEN", "FAIL_RELOAD", |made| made_manager(made, 0)["http_filters"][0]["typed_config"]["config"]["failure_policy"] = json!("FAIL_OPEN")),
        warn("made by istio-sidecar", "istio-sidecar.yaml", "F04", "may read differently", "meshConfig.pathNormalization", |made| made_manager(made, 0)["http_filters"][1]["typed_config"]["rules"]["policies"]["ns[my-team]-policy[fluxlit-gateway]-rule[0]"]["permissions"] = json!([{"url_path": {"path": {"prefix": "/apps/my-app"}}}])),
        fail("made by istio-sidecar", "istio-sidecar.yaml", "F08", "root_paht", "plugin configuration", |made| misspell(&mut made_manager(made, 0)["http_filters"][0])),
        fail("made by istio-waypoint", "istio-waypoint.yaml", "F01", "use_remote_address is not true", "peer_filter_state_key", |made| made_manager(made, 1)["http_filters"][0]["typed_config"]["config"]["configuration"]["value"] = json!("{\"root_path\": \"/apps/my-app\", \"trust_proxy\": true, \"forwarded_allow_ips\": \"10.0.0.0/8\"}")),
        fail("made by istio-waypoint", "istio-waypoint.yaml", "F02", "route `default` of virtual host `inbound|http|8000`", "filter_state", |made| without_mark(made_manager(made, 1))),
        fail("made by istio-waypoint", "istio-waypoint.yaml", "F08", "root_paht", "plugin configuration", |made| misspell(&mut made_manager(made, 1)["http_filters"][0])),
        // Manifests for a sidecar, and for a waypoint.
        fail("istio-sidecar", "istio-sidecar/envoyfilter.yaml", "F02", "no patch adds the filter's mark", "match: {context: SIDECAR_INBOUND}", |filter| { list(&mut filter["spec"]["configPatches"]).remove(1); }),
        fail("istio-sidecar", "istio-sidecar/envoyfilter.yaml", "F02", "it runs in the sidecar, but the patch of EnvoyFilter fluxlit that requires the filter's mark is for the gateway (context GATEWAY)", "match: {context: SIDECAR_INBOUND}", |filter| filter["spec"]["configPatches"][1]["match"]["context"] = json!("GATEWAY")),
        fail("istio-sidecar", "istio-sidecar/envoyfilter.yaml", "F01", "the patch of EnvoyFilter fluxlit that records `fluxlit.peer` is for the gateway", "context: SIDECAR_INBOUND", |filter| filter["spec"]["configPatches"][0]["match"]["context"] = json!("GATEWAY")),
        fail("istio-sidecar", "istio-sidecar/wasmplugin.yaml", "F02", "phase is AUTHZ", "phase: AUTHN", |plugin| plugin["spec"]["phase"] = json!("AUTHZ")),
        fail("istio-waypoint", "istio-waypoint/envoyfilter.yaml", "F02", "no patch adds the filter's mark", "match: {context: WAYPOINT, waypoint: {}}", |filter| { list(&mut filter["spec"]["configPatches"]).remove(0); }),
        fail("istio-waypoint", "istio-waypoint/envoyfilter.yaml", "F02", "it runs in the waypoint, but the patch of EnvoyFilter fluxlit that requires the filter's mark is for the gateway", "match: {context: WAYPOINT, waypoint: {}}", |filter| filter["spec"]["configPatches"][0]["match"] = json!({"context": "GATEWAY"})),
        warn("istio-waypoint", "istio-waypoint/wasmplugin.yaml", "F01", "without peer_filter_state_key", "peer_filter_state_key", |plugin| { remove(&mut plugin["spec"]["pluginConfig"], "trust_proxy"); }),
        fail("istio-sidecar", "istio-sidecar/envoyfilter.yaml", "F02", "WasmPlugin fluxlit: it runs in workloads with `app.kubernetes.io/name: fluxlit-gateway`, but EnvoyFilter fluxlit, which requires the filter's mark, is for workloads with `app.kubernetes.io/name: app`", "workloadSelector: {labels: {app.kubernetes.io/name: fluxlit-gateway}}", |filter| filter["spec"]["workloadSelector"]["labels"] = json!({"app.kubernetes.io/name": "app"})),
        warn("istio-sidecar", "istio-sidecar/envoyfilter.yaml", "F01", "is only for workloads with `app.kubernetes.io/name: fluxlit-gateway, tier: web`", "workloadSelector: {labels: {app.kubernetes.io/name: fluxlit-gateway}}", |filter| filter["spec"]["workloadSelector"]["labels"]["tier"] = json!("web")),
        fail("istio-waypoint", "istio-waypoint/envoyfilter.yaml", "F02", "WasmPlugin fluxlit: it runs in the proxy of Gateway fluxlit-waypoint, but EnvoyFilter fluxlit, which requires the filter's mark, is for the proxy of Gateway other", "set in EnvoyFilter fluxlit: targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit-waypoint}]", |filter| filter["spec"]["targetRefs"][0]["name"] = json!("other")),
        fail("istio-waypoint", "istio-waypoint/wasmplugin.yaml", "F02", "WasmPlugin fluxlit: it is for Gateway other, so it does not apply to Gateway fluxlit-waypoint", "name: fluxlit-waypoint}]", |plugin| plugin["spec"]["targetRefs"][0]["name"] = json!("other")),
        // Manifests for the ingress gateway of Istio.
        fail("istio-gateway", "envoyfilter.yaml", "F02", "WasmPlugin fluxlit: it runs in workloads with `istio: ingressgateway`, but EnvoyFilter fluxlit, which requires the filter's mark, is for workloads with `istio: ingress`, so requests pass whenever the filter is missing", "set in EnvoyFilter fluxlit: workloadSelector: {labels: {istio: ingressgateway}}", |filter| filter["spec"]["workloadSelector"]["labels"]["istio"] = json!("ingress")),
        fail("istio-gateway", "envoyfilter.yaml", "F01", "EnvoyFilter fluxlit, which records `fluxlit.peer`, is for workloads with `istio: ingress`, so every peer is unknown", "workloadSelector: {labels: {istio: ingressgateway}}", |filter| filter["spec"]["workloadSelector"]["labels"]["istio"] = json!("ingress")),
        fail("istio-gateway", "envoyfilter.yaml", "F02", "WasmPlugin fluxlit: it is in the namespace `istio-ingress`, but EnvoyFilter fluxlit, which requires the filter's mark, is in `default` and applies to no other namespace", "set metadata.namespace: istio-ingress in EnvoyFilter fluxlit", |filter| filter["metadata"]["namespace"] = json!("default")),
        fail("istio-gateway", "envoyfilter.yaml", "F01", "EnvoyFilter fluxlit, which records `fluxlit.peer`, is in `default`", "set metadata.namespace: istio-ingress in EnvoyFilter fluxlit", |filter| filter["metadata"]["namespace"] = json!("default")),
        fail("istio-gateway", "envoyfilter.yaml", "F01", "WasmPlugin fluxlit: it runs in the gateway, but the patch of EnvoyFilter fluxlit that records `fluxlit.peer` is for the sidecar (context SIDECAR_INBOUND)", "set context: GATEWAY in the patch that records `fluxlit.peer`", |filter| set_context(&mut filter["spec"]["configPatches"][0], "SIDECAR_INBOUND")),
        fail("istio-gateway", "envoyfilter.yaml", "F01", "is for outbound listeners of sidecars (context SIDECAR_OUTBOUND)", "set context: GATEWAY", |filter| set_context(&mut filter["spec"]["configPatches"][0], "SIDECAR_OUTBOUND")),
        fail("istio-gateway", "envoyfilter.yaml", "F01", "is for the sidecar (context SIDECAR_INBOUND)", "set context: GATEWAY", |filter| list(&mut filter["spec"]["configPatches"]).iter_mut().for_each(|patch| set_context(patch, "SIDECAR_INBOUND"))),
        fail("istio-gateway", "envoyfilter.yaml", "F02", "the patch of EnvoyFilter fluxlit that requires the filter's mark is for the sidecar (context SIDECAR_INBOUND)", "match: {context: GATEWAY}", |filter| list(&mut filter["spec"]["configPatches"]).iter_mut().for_each(|patch| set_context(patch, "SIDECAR_INBOUND"))),
        warn("istio-gateway", "envoyfilter.yaml", "F02", "no last route", "fluxlit-not-processed", |filter| set_context(&mut filter["spec"]["configPatches"][3], "SIDECAR_INBOUND")),
        fail("istio-gateway", "wasmplugin.yaml", "F02", "WasmPlugin fluxlit: it is for workloads with `istio: ingress`, so it does not apply to Gateway fluxlit in workloads with `istio: ingressgateway`, whose requests bypass the filter", "set in WasmPlugin fluxlit: selector: {matchLabels: {istio: ingressgateway}}", |plugin| plugin["spec"]["selector"]["matchLabels"]["istio"] = json!("ingress")),
        fail("istio-gateway", "wasmplugin.yaml", "F02", "it is in the namespace `default`, but EnvoyFilter fluxlit, which requires the filter's mark, is in `istio-ingress`", "set metadata.namespace: default", |plugin| plugin["metadata"]["namespace"] = json!("default")),
        warn("istio-gateway", "wasmplugin.yaml", "F02", "it runs in every namespace (it is in the root namespace `istio-system`), but EnvoyFilter fluxlit, which requires the filter's mark, is in `istio-ingress`", "set metadata.namespace: istio-system", |plugin| plugin["metadata"]["namespace"] = json!("istio-system")),
        of_kind("Gateway", fail("istio-gateway", "routes.yaml", "F02", "it does not apply to Gateway fluxlit in workloads with `istio: ingress`", "correct the selector of Gateway fluxlit", |gateway| gateway["spec"]["selector"]["istio"] = json!("ingress"))),
        fail("istio-gateway-traffic-extension", "trafficextension.yaml", "F02", "TrafficExtension fluxlit: it is for workloads with `istio: ingress`, so it does not apply to Gateway fluxlit", "set in TrafficExtension fluxlit: selector: {matchLabels: {istio: ingressgateway}}", |plugin| plugin["spec"]["selector"]["matchLabels"]["istio"] = json!("ingress")),
        fail("istio-gateway-traffic-extension", "istio-gateway/envoyfilter.yaml", "F02", "is for workloads with `istio: ingress`", "workloadSelector", |filter| filter["spec"]["workloadSelector"]["labels"]["istio"] = json!("ingress")),
        // Without the Gateway, the policies are compared with each other.
        fail("istio", "istio/envoyfilter.yaml", "F02", "is for workloads with `istio: ingress`", "workloadSelector", |filter| filter["spec"]["workloadSelector"]["labels"]["istio"] = json!("ingress")),
        fail("istio", "istio/wasmplugin.yaml", "F01", "it runs in workloads with `istio: ingress`, but EnvoyFilter fluxlit, which records `fluxlit.peer`, is for workloads with `istio: ingressgateway`", "workloadSelector: {labels: {istio: ingress}}", |plugin| plugin["spec"]["selector"]["matchLabels"]["istio"] = json!("ingress")),
        fail("istio", "istio/envoyfilter.yaml", "F02", "is in `default` and applies to no other namespace", "metadata.namespace: istio-ingress", |filter| filter["metadata"]["namespace"] = json!("default")),
        // Manifests for Envoy Gateway.
        fail("envoy-gateway", "guard.yaml", "F02", "EnvoyExtensionPolicy fluxlit: it runs in Gateway fluxlit, listener `https`, but EnvoyPatchPolicy fluxlit-guard, which requires the filter's mark, is for Gateway other", "set in EnvoyPatchPolicy fluxlit-guard: targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}", |guard| guard["spec"]["targetRef"]["name"] = json!("other")),
        fail("envoy-gateway", "guard.yaml", "F02", "in the namespace `my-team`, but EnvoyPatchPolicy fluxlit-guard, which requires the filter's mark, is in `default` and applies to no Gateway of another namespace", "set metadata.namespace: my-team in EnvoyPatchPolicy fluxlit-guard", |guard| guard["metadata"]["namespace"] = json!("default")),
        fail("envoy-gateway", "guard.yaml", "F02", "EnvoyPatchPolicy fluxlit-guard, which requires the filter's mark, patches the listener `default/fluxlit/https`", "set name: my-team/fluxlit/https", |guard| guard["spec"]["jsonPatches"][0]["name"] = json!("default/fluxlit/https")),
        fail("envoy-gateway", "guard.yaml", "F02", "patches the listener `my-team/fluxlit/http`", "set name: my-team/fluxlit/https", |guard| guard["spec"]["jsonPatches"][0]["name"] = json!("my-team/fluxlit/http")),
        fail("envoy-gateway", "envoyextensionpolicy.yaml", "F02", "EnvoyExtensionPolicy fluxlit: it is for Gateway other, so it does not apply to Gateway fluxlit, whose requests bypass the filter", "set in EnvoyExtensionPolicy fluxlit: targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}]", |policy| policy["spec"]["targetRefs"][0]["name"] = json!("other")),
        fail("envoy-gateway", "envoyextensionpolicy.yaml", "F02", "it is in the namespace `default`, so it does not apply to Gateway fluxlit in `my-team`", "set metadata.namespace: my-team in EnvoyExtensionPolicy fluxlit", |policy| policy["metadata"]["namespace"] = json!("default")),
        fail("envoy-gateway", "envoyextensionpolicy.yaml", "F02", "it is for the listener `tls`, so it does not apply to the listeners of Gateway fluxlit (`https`, `http`)", "set sectionName", |policy| policy["spec"]["targetRefs"][0]["sectionName"] = json!("tls")),
        fail("envoy-gateway", "envoyextensionpolicy.yaml", "F02", "it is for HTTPRoute other, so it does not apply to HTTPRoute fluxlit, whose", "kind: HTTPRoute, name: fluxlit}]", |policy| policy["spec"]["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "other"}])),
        warn("envoy-gateway", "clienttrafficpolicy.yaml", "F01", "EnvoyExtensionPolicy fluxlit: it runs in Gateway fluxlit, listener `https`, but ClientTrafficPolicy fluxlit, which says where addresses come from and which paths are rejected, is for Gateway other", "set in ClientTrafficPolicy fluxlit: targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: fluxlit}]", |policy| policy["spec"]["targetRefs"][0]["name"] = json!("other")),
        warn("envoy-gateway", "clienttrafficpolicy.yaml", "F01", "is in `default` and applies to no Gateway of another namespace", "set metadata.namespace: my-team in ClientTrafficPolicy fluxlit", |policy| policy["metadata"]["namespace"] = json!("default")),
        warn("envoy-gateway", "clienttrafficpolicy.yaml", "F01", "is for the listener `http`", "remove sectionName", |policy| policy["spec"]["targetRefs"][0]["sectionName"] = json!("http")),
        fail("envoy-gateway-module", "envoyextensionpolicy.yaml", "F02", "EnvoyExtensionPolicy fluxlit-module: it is for Gateway other", "name: fluxlit}]", |policy| policy["spec"]["targetRefs"][0]["name"] = json!("other")),
        fail("envoy-gateway-module", "envoy-gateway/guard.yaml", "F02", "is for Gateway other", "targetRef: {", |guard| guard["spec"]["targetRef"]["name"] = json!("other")),
        // Manifests for gateways.
        of_kind("VirtualService", fail("istio-gateway", "routes.yaml", "F04", "VirtualService fluxlit rewrites the path to `/apps/my-app`, but the filter leaves the mount `/apps/my-app` in it", "remove the rewrite", |route| route["spec"]["http"][0]["rewrite"] = json!({"uri": "/apps/my-app"}))),
        fail("istio-gateway-traffic-extension", "trafficextension.yaml", "F03", "FAIL_OPEN", "FAIL_RELOAD", |plugin| plugin["spec"]["wasm"]["failStrategy"] = json!("FAIL_OPEN")),
        fail("envoy-gateway-module", "envoyextensionpolicy.yaml", "F08", "root_paht", "plugin configuration", |policy| policy["spec"]["dynamicModule"][0]["config"] = json!({"root_paht": "/x"})),
        fail("envoy-gateway-module", "envoyextensionpolicy.yaml", "F08", "there is no plugin configuration", "as JSON", |policy| { remove(&mut policy["spec"]["dynamicModule"][0], "config"); }),
        fail("envoy-gateway-module", "envoyproxy.yaml", "F03", "no EnvoyProxy of these files registers the module `fluxlit`", "spec.dynamicModules", |proxy| proxy["spec"]["dynamicModules"][0]["name"] = json!("other")),
        warn("envoy-gateway-module", "envoyproxy.yaml", "F03", "doNotClose is not true", "set doNotClose: true", |proxy| { remove(&mut proxy["spec"]["dynamicModules"][0], "doNotClose"); }),
        fail("envoy-gateway-module", "envoy-gateway/guard.yaml", "F02", "404s and other routes bypass it", "rbac-guard.yaml", |guard| guard["spec"]["jsonPatches"] = json!([])),
        fail("envoy-gateway-module", "clienttrafficpolicy.yaml", "F01", "clientIPDetection turns use_remote_address off", "remove it", |policy| policy["spec"]["clientIPDetection"] = json!({"xForwardedFor": {"numTrustedHops": 1}})),
    ]
}

#[test]
fn each_defect_of_a_shipped_configuration_is_found() {
    for defect in defects() {
        let row = format!("{} {}: {}", defect.set, defect.check, defect.says);
        let set = sets().find(|set| set.name == defect.set).expect("a set");
        let mut files = read(&set);
        let file = files
            .iter_mut()
            .find(|(name, _)| name.ends_with(defect.file));
        let (_, documents) = file.unwrap_or_else(|| panic!("{row}: no such file"));
        let document = match defect.kind {
            Some(kind) => documents
                .iter_mut()
                .find(|document| document["kind"] == kind),
            None => {
                assert_eq!(documents.len(), 1, "{row}");
                documents.first_mut()
            }
        };
        (defect.change)(document.unwrap_or_else(|| panic!("{row}: no such document")));
        let findings = lint(&assemble(files));
        let is_it = |finding: &&Finding| {
            finding.check.id == defect.check
                && finding.status == defect.status
                && finding.finding.contains(defect.says)
        };
        let found = findings.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("{row}: {:#?}", problems(&findings)));
        let hint = found.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(defect.hint), "{row}: {hint}");
    }
}

/// Changes that are no defects.
#[test]
fn what_is_as_good_is_clean_too() {
    type Row = (&'static str, &'static str, fn(&mut Value));
    #[rustfmt::skip]
    let rows: [Row; 16] = [
        ("module", "module.yaml", |filter| filter["typed_config"]["filter_config"] = json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"root_path": "/x", "peer_filter_state_key": "fluxlit.peer"}})),
        // The redirect to https, or the condition on the route: either is enough.
        ("made by istio-gateway", "istio-gateway.yaml", |made| without_mark(made_manager(made, 1))),
        ("made by istio-gateway", "istio-gateway.yaml", |made| { remove(&mut made_manager(made, 1)["route_config"]["virtual_hosts"][0], "require_tls"); }),
        ("istio-sidecar", "istio-sidecar/wasmplugin.yaml", |plugin| { remove(&mut plugin["spec"], "match"); }),
        // An EnvoyFilter can be for more than the filter.
        ("istio-gateway", "envoyfilter.yaml", |filter| filter["metadata"]["namespace"] = json!("istio-system")),
        ("istio-gateway", "envoyfilter.yaml", |filter| { remove(&mut filter["spec"], "workloadSelector"); }),
        ("istio-waypoint", "istio-waypoint/envoyfilter.yaml", |filter| { remove(&mut filter["spec"], "targetRefs"); }),
        ("istio-waypoint", "istio-waypoint/envoyfilter.yaml", |filter| { remove(&mut filter["spec"], "targetRefs"); filter["spec"]["workloadSelector"] = json!({"labels": {"istio.io/waypoint-for": "service"}}); }),
        // The Gateway of the files has this label.
        ("istio-gateway", "wasmplugin.yaml", |plugin| { remove(&mut plugin["spec"], "selector"); }),
        // It is given when the manifest is applied.
        ("istio-gateway", "envoyfilter.yaml", |filter| { remove(&mut filter["metadata"], "namespace"); }),
        ("istio-gateway", "wasmplugin.yaml", |plugin| { remove(&mut plugin["metadata"], "namespace"); }),
        ("envoy-gateway-module", "envoy-gateway/guard.yaml", |guard| { remove(&mut guard["metadata"], "namespace"); }),
        // Not in the filter's chain, or in all.
        ("envoy-gateway-module", "clienttrafficpolicy.yaml", |policy| policy["spec"]["targetRefs"][0]["sectionName"] = json!("https")),
        ("envoy-gateway-module", "envoyextensionpolicy.yaml", |policy| { remove(&mut policy["spec"]["targetRefs"][0], "sectionName"); }),
        ("envoy-gateway-module", "envoyextensionpolicy.yaml", |policy| policy["spec"]["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "fluxlit"}])),
        ("envoy-gateway-module", "envoy-gateway/guard.yaml", |guard| guard["spec"]["jsonPatches"][0]["name"] = json!("tcp-443")),
    ];
    for (number, (name, file, change)) in rows.into_iter().enumerate() {
        let set = sets().find(|set| set.name == name).expect("a set");
        let mut files = read(&set);
        let document = files.iter_mut().find(|(name, _)| name.ends_with(file));
        change(&mut document.expect("the file").1[0]);
        assert_eq!(problems(&lint(&assemble(files))), [], "row {number}");
    }
}

/// A change of the first object of a kind.
type Change = (&'static str, fn(&mut Value));

/// Lints a set with several changes, without the kinds of `removed`.
fn lint_changed(set: &str, changes: &[Change], removed: &[&str]) -> Vec<Finding> {
    let set = sets().find(|known| known.name == set).expect("a set");
    let mut files = read(&set);
    for (_, documents) in &mut files {
        documents.retain(|document| !removed.iter().any(|kind| document["kind"] == *kind));
    }
    for (kind, change) in changes {
        let mut documents = files.iter_mut().flat_map(|(_, documents)| documents);
        change(
            documents
                .find(|document| document["kind"] == *kind)
                .unwrap_or_else(|| panic!("no {kind}")),
        );
    }
    lint(&assemble(files))
}

#[rustfmt::skip]
#[test]
fn labels_of_other_objects_count() {
    let component: Change = ("EnvoyFilter", |filter| filter["spec"]["workloadSelector"]["labels"]["component"] = json!("gateway"));
    let pods: Change = ("Deployment", |deployment| deployment["spec"]["template"]["metadata"]["labels"]["component"] = json!("gateway"));
    assert_eq!(problems(&lint_changed("istio-sidecar", &[component, pods], &[])), []);
    let gateway: Change = ("Gateway", |gateway| gateway["spec"]["selector"]["component"] = json!("gateway"));
    assert_eq!(problems(&lint_changed("istio-gateway", &[component, gateway], &[])), []);
    for set in ["istio-sidecar", "istio-gateway"] {
        let found = problems(&lint_changed(set, &[component], &[]));
        assert!(found.iter().all(|(_, status, says)| *status == Status::Warn && says.contains("so where it does not apply, ")), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

/// Without a Gateway in the files, the policies are compared with each other only.
#[rustfmt::skip]
#[test]
fn a_gateway_that_is_not_in_the_files_is_not_judged() {
    let other = |policy: &mut Value| policy["spec"]["targetRefs"][0]["name"] = json!("other");
    let guard: Change = ("EnvoyPatchPolicy", |guard| { guard["spec"]["targetRef"]["name"] = json!("other"); guard["spec"]["jsonPatches"][0]["name"] = json!("my-team/other/https"); });
    let changes = [("EnvoyExtensionPolicy", other as fn(&mut Value)), ("ClientTrafficPolicy", other), guard];
    assert_eq!(problems(&lint_changed("envoy-gateway-module", &changes, &["Gateway", "HTTPRoute"])), []);
    let found = problems(&lint_changed("envoy-gateway-module", &changes[..2], &["Gateway", "HTTPRoute"]));
    assert!(matches!(&found[..], [("F02", Status::Fail, says)] if says.contains("is for Gateway fluxlit,")), "{found:?}");
    let ingress = |plugin: &mut Value| plugin["spec"]["selector"]["matchLabels"] = json!({"istio": "ingress"});
    let filter: Change = ("EnvoyFilter", |filter| filter["spec"]["workloadSelector"]["labels"] = json!({"istio": "ingress"}));
    assert_eq!(problems(&lint_changed("istio-gateway", &[("WasmPlugin", ingress), filter], &["Gateway"])), []);
}

/// A policy for the whole Gateway needs the guard in each listener that forwards.
#[rustfmt::skip]
#[test]
fn each_listener_that_forwards_needs_the_guard() {
    let policy: Change = ("EnvoyExtensionPolicy", |policy| { remove(&mut policy["spec"]["targetRefs"][0], "sectionName"); });
    // The first route redirects, the second one forwards.
    let route: Change = ("HTTPRoute", |route| { remove(&mut route["spec"]["parentRefs"][0], "sectionName"); route["spec"]["rules"] = json!([{"backendRefs": [{"name": "fluxlit-gateway", "port": 8000}]}]); });
    let found = problems(&lint_changed("envoy-gateway-module", &[policy, route], &[]));
    assert!(matches!(&found[..], [("F02", Status::Fail, says)] if says.contains("it runs in Gateway fluxlit, listener `http`, but EnvoyPatchPolicy fluxlit-guard, which requires the filter's mark, patches the listener `my-team/fluxlit/https`")), "{found:?}");
}

#[rustfmt::skip]
#[test]
fn the_root_namespace_is_that_of_the_mesh() {
    let root: Change = ("EnvoyFilter", |filter| filter["metadata"]["namespace"] = json!("mesh"));
    let found = problems(&lint_changed("istio-gateway", &[root], &[]));
    assert_eq!(found.len(), 2, "{found:?}");
    for mesh in [json!({"spec": {"meshConfig": {"rootNamespace": "mesh"}}}), json!({"data": {"mesh": "accessLogFile: /dev/stdout\nrootNamespace: mesh\n"}})] {
        let set = sets().find(|set| set.name == "istio-gateway").expect("a set");
        let mut files = read(&set);
        let mut of_mesh = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}});
        of_mesh.as_object_mut().expect("fields").extend(mesh.as_object().cloned().expect("fields"));
        files.push((String::new(), vec![of_mesh]));
        let mut documents = files.iter_mut().flat_map(|(_, documents)| documents);
        (root.1)(documents.find(|document| document["kind"] == root.0).expect("an EnvoyFilter"));
        assert_eq!(problems(&lint(&assemble(files))), []);
    }
}

/// A class of Gateways is a target in the root namespace, and one Gateway in its own.
#[rustfmt::skip]
#[test]
fn the_targets_of_the_root_namespace_are_classes() {
    let plugin: Change = ("WasmPlugin", |plugin| plugin["metadata"]["namespace"] = json!("my-team"));
    let class: Change = ("EnvoyFilter", |filter| { filter["metadata"]["namespace"] = json!("istio-system"); filter["spec"]["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint"}]); });
    assert_eq!(problems(&lint_changed("istio-waypoint", &[plugin, class], &[])), []);
    let gateway: Change = ("EnvoyFilter", |filter| filter["metadata"]["namespace"] = json!("istio-system"));
    let found = problems(&lint_changed("istio-waypoint", &[plugin, gateway], &[]));
    assert!(matches!(&found[..], [("F02", Status::Fail, says)] if says.contains("is in `istio-system` and applies to no other namespace")), "{found:?}");
}

/// An EnvoyFilter of somebody else says nothing about the guard.
#[test]
fn a_plugin_with_a_foreign_envoy_filter_is_not_guarded() {
    let plugin =
        std::fs::read_to_string(root().join("envoy/istio/wasmplugin.yaml")).expect("a file");
    let foreign = json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": {"name": "other"},
        "spec": {"configPatches": [{"applyTo": "HTTP_ROUTE", "match": {"context": "GATEWAY"}, "patch": {"operation": "MERGE", "value": {}}}]}});
    let findings = lint(&[plugin, foreign.to_string()]);
    assert_eq!(problems(&findings), []);
    let skipped = skipped(&findings);
    assert!(
        skipped.contains(&"F01") && skipped.contains(&"F02"),
        "{skipped:?}"
    );
}

/// Returns a connection manager of a bootstrap.
fn made_manager(bootstrap: &mut Value, listener: usize) -> &mut Value {
    manager(&mut bootstrap["static_resources"]["listeners"][listener])
}

/// Returns the connection manager of a listener, which is its last network filter.
fn manager(listener: &mut Value) -> &mut Value {
    let filters = list(&mut listener["filter_chains"][0]["filters"]);
    &mut filters.last_mut().expect("a filter")["typed_config"]
}

fn set_context(patch: &mut Value, context: &str) {
    patch["match"]["context"] = json!(context);
}

fn without_mark(manager: &mut Value) {
    let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
    remove(&mut routes[0]["match"], "filter_state");
}

fn misspell(filter: &mut Value) {
    let text = &mut filter["typed_config"]["config"]["configuration"]["value"];
    *text = text
        .as_str()
        .expect("a text")
        .replace("root_path", "root_paht")
        .into();
}

fn remove(object: &mut Value, name: &str) {
    let removed = object.as_object_mut().expect("fields").remove(name);
    assert!(removed.is_some(), "{name} is not there");
}

fn remove_first(array: &mut Value) {
    list(array).remove(0);
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}
