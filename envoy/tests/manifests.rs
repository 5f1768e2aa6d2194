//! Checks that Envoy and Istio accept the shipped configuration, and that its copies are equal.

#[path = "manifests/control_planes.rs"]
mod control_planes;
#[path = "manifests/guard.rs"]
mod guard;

use std::path::{Path, PathBuf};

use fluxlit_cases::CaseFile;
use fluxlit_envoy::{Bootstrap, Place, plugin_config};
use fluxlit_support::certificate::Certificate;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn yaml(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).expect("the file exists");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).expect("the file exists");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn program(name: &str) -> PathBuf {
    std::env::var_os(name)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{name} is not set; run `cargo xtask test`, which sets it up"))
}

/// Returns the connection manager of the shipped listener.
fn connection_manager() -> Value {
    Bootstrap::shipped().value()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
        [1]["typed_config"]
        .clone()
}

#[test]
fn one_plugin_configuration() {
    let wanted: Value = serde_json::from_str(plugin_config()).expect("plugin-config.json is JSON");
    let manager = connection_manager();
    let wasm = &manager["http_filters"][0]["typed_config"]["config"];
    let text = wasm["configuration"]["value"]
        .as_str()
        .expect("a StringValue");
    let in_bootstrap: Value = serde_json::from_str(text).expect("JSON in the bootstrap");
    assert_eq!(in_bootstrap, wanted, "bootstrap.yaml");
    let module = &yaml("module.yaml")["typed_config"]["filter_config"];
    let text = module["value"].as_str().expect("a StringValue");
    let in_module: Value = serde_json::from_str(text).expect("JSON in module.yaml");
    assert_eq!(in_module, wanted, "module.yaml");
    assert_eq!(
        yaml("istio/wasmplugin.yaml")["spec"]["pluginConfig"],
        wanted,
        "istio/wasmplugin.yaml"
    );
    let readme = std::fs::read_to_string(folder().join("../README.md")).expect("the README exists");
    let example = readme
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the README shows the configuration");
    assert_eq!(
        serde_json::from_str::<Value>(example).expect("JSON in the README"),
        wanted,
        "README.md"
    );
}

/// The schema accepts every plugin configuration that users could copy: the shipped ones, those in the documentation, and
/// those of the cases that are served.
#[test]
fn every_example_matches_the_schema() {
    let schema = json("../policy/schema.json");
    let validator = jsonschema::validator_for(&schema).expect("the schema is valid");
    let mut examples = vec![("plugin-config.json".to_owned(), json("plugin-config.json"))];
    for document in ["../README.md", "README.md", "../docs/settings.md"] {
        let text = std::fs::read_to_string(folder().join(document)).expect("the document exists");
        for block in text.split("```json\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let example = serde_json::from_str(block)
                .unwrap_or_else(|error| panic!("{document}: {error} in {block}"));
            examples.push((document.to_owned(), example));
        }
    }
    assert!(examples.len() >= 7, "the documentation shows examples");
    for (path, file) in CaseFile::load_folder(&folder().join("../cases")).expect("the cases") {
        for case in file.into_cases() {
            if case.refused.is_empty() {
                let name = format!("{}: {}", path.display(), case.name);
                let config = serde_json::from_str(&case.config_text()).expect("JSON");
                examples.push((name, config));
            }
        }
    }
    for (name, example) in examples {
        let errors: Vec<String> = validator
            .iter_errors(&example)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    for wrong in [
        serde_json::json!({"root_paht": "/x"}),
        serde_json::json!({"trusted_hops": 33}),
        serde_json::json!({"hsts": {"mode": "sometimes"}}),
        serde_json::json!({"mounts": [{"hosts": ["a.example"]}]}),
        serde_json::json!({"root_path_shape": 1}),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong} was accepted");
    }
}

#[test]
fn the_peer_is_recorded_where_the_filter_reads_it() {
    let wanted = json("plugin-config.json")["peer_filter_state_key"].clone();
    assert!(wanted.is_string());
    let bootstrap = Bootstrap::shipped();
    let first =
        &bootstrap.value()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let patch = &yaml("istio/envoyfilter.yaml")["spec"]["configPatches"][0];
    // The last network filter before the connection manager decides.
    assert_eq!(
        bootstrap.value()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][1]["name"],
        CONNECTION_MANAGER
    );
    assert_eq!(patch["patch"]["operation"], "INSERT_BEFORE");
    assert_eq!(
        patch["match"]["listener"]["filterChain"]["filter"]["name"],
        CONNECTION_MANAGER
    );
    assert_eq!(yaml("istio/envoyfilter.yaml")["spec"]["priority"], 1000);
    assert_eq!(patch["match"]["context"], "GATEWAY");
    for filter in [first, &patch["patch"]["value"]] {
        assert_eq!(filter["name"], "envoy.filters.network.set_filter_state");
        let state = &filter["typed_config"]["on_new_connection"][0];
        assert_eq!(state["object_key"], wanted);
        // Deprecated since Envoy 1.39, which also ignores it.
        assert_eq!(state.get("read_only"), None);
        assert_eq!(
            state["format_string"]["text_format_source"]["inline_string"],
            "%DOWNSTREAM_REMOTE_ADDRESS%"
        );
    }
    let plugin = yaml("istio/wasmplugin.yaml");
    let gateway = yaml("istio/envoyfilter.yaml");
    assert_eq!(
        plugin["metadata"]["namespace"],
        gateway["metadata"]["namespace"]
    );
    assert_eq!(
        plugin["spec"]["selector"]["matchLabels"], gateway["spec"]["workloadSelector"]["labels"],
        "the plugin and the recorded peer must be at the same gateway"
    );
}

#[test]
fn the_defences_are_on() {
    let manager = connection_manager();
    for (pointer, wanted) in [
        ("/use_remote_address", Value::Bool(true)),
        ("/skip_xff_append", Value::Bool(true)),
        ("/normalize_path", Value::Bool(true)),
        ("/merge_slashes", Value::Bool(true)),
        ("/path_with_escaped_slashes_action", "REJECT_REQUEST".into()),
        (
            "/common_http_protocol_options/headers_with_underscores_action",
            "REJECT_REQUEST".into(),
        ),
        ("/http_filters/0/name", "fluxlit".into()),
        (
            "/http_filters/0/typed_config/config/failure_policy",
            "FAIL_RELOAD".into(),
        ),
        (
            "/http_filters/0/typed_config/config/vm_config/vm_id",
            "fluxlit".into(),
        ),
    ] {
        assert_eq!(manager.pointer(pointer), Some(&wanted), "{pointer}");
    }
    assert_eq!(manager.get("xff_num_trusted_hops"), None);
    let shipped = Bootstrap::shipped();
    let overload = &shipped.value()["overload_manager"];
    for (pointer, wanted) in [
        (
            "/resource_monitors/0/name",
            "envoy.resource_monitors.global_downstream_max_connections",
        ),
        (
            "/resource_monitors/1/name",
            "envoy.resource_monitors.fixed_heap",
        ),
        (
            "/actions/2/name",
            "envoy.overload_actions.stop_accepting_requests",
        ),
    ] {
        let found = overload.pointer(pointer).and_then(Value::as_str);
        assert_eq!(found, Some(wanted), "{pointer}");
    }
    for upgrade in manager["upgrade_configs"].as_array().expect("upgrades") {
        assert_eq!(
            upgrade.get("filters"),
            None,
            "an upgrade with its own filters bypasses ours"
        );
    }
    assert_eq!(
        yaml("istio/wasmplugin.yaml")["spec"]["failStrategy"],
        "FAIL_RELOAD"
    );
    assert_eq!(yaml("istio/wasmplugin.yaml")["spec"]["phase"], "AUTHN");
}

/// Every shipped configuration that forwards requests does so only for requests that the filter has processed. A new file is
/// found by its content.
#[test]
fn every_shipped_route_is_guarded() {
    let mut checked = Vec::new();
    for (name, document) in documents() {
        let (errors, guards) = guard::check(&document);
        assert!(errors.is_empty(), "{name}: {errors:?}");
        checked.extend((0..guards).map(|_| name.clone()));
    }
    checked.dedup();
    assert_eq!(
        checked,
        [
            "bootstrap.yaml",
            "control-planes/envoy-gateway.yaml",
            "control-planes/istio-gateway.yaml",
            "control-planes/istio-sidecar.yaml",
            "control-planes/istio-waypoint.yaml",
            "dynamic/lds.yaml",
            "istio/envoyfilter.yaml",
            "istio/wasmplugin.yaml",
            "several-apps.yaml",
            "sidecar.yaml"
        ],
        "files with routes or with the filter"
    );
}

/// Shows that the check above finds routes without the guard.
#[test]
fn a_route_without_the_guard_is_found() {
    let bootstrap = || Bootstrap::shipped().value().clone();
    let with = |change: fn(&mut Value)| {
        let mut bootstrap = bootstrap();
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";
        change(bootstrap.pointer_mut(manager).expect("the manager"));
        bootstrap
    };
    let istio = |change: fn(&mut Vec<Value>)| {
        let mut filter = yaml("istio/envoyfilter.yaml");
        let patches = filter["spec"]["configPatches"].as_array_mut();
        change(patches.expect("patches"));
        filter
    };
    for (name, document) in [
        (
            "no guard at all",
            Bootstrap::shipped().without_guard().value().clone(),
        ),
        (
            "a second virtual host",
            with(|manager| {
                let hosts = manager["route_config"]["virtual_hosts"]
                    .as_array_mut()
                    .expect("hosts");
                let mut host = hosts[0].clone();
                host["routes"][0]["match"] = serde_json::json!({"prefix": "/"});
                hosts.push(host);
            }),
        ),
        (
            "another key",
            with(|manager| {
                manager["route_config"]["virtual_hosts"][0]["routes"][0]["match"]["filter_state"]
                    [0]["key"] = "fluxlit.client".into();
            }),
        ),
        (
            "a value that is always true",
            with(|manager| {
                manager["route_config"]["virtual_hosts"][0]["routes"][0]["match"]["filter_state"]
                    [0]["string_match"]["safe_regex"]["regex"] = ".*".into();
            }),
        ),
        (
            "no reason",
            with(|manager| {
                manager["route_config"]["virtual_hosts"][0]["routes"]
                    .as_array_mut()
                    .expect("routes")
                    .pop();
            }),
        ),
        (
            "routes from elsewhere",
            with(|manager| {
                let manager = manager.as_object_mut().expect("an object");
                manager.remove("route_config");
                manager.insert(
                    "rds".to_owned(),
                    serde_json::json!({"route_config_name": "x"}),
                );
            }),
        ),
        (
            "a matcher",
            with(|manager| {
                manager["route_config"]["virtual_hosts"][0]["matcher"] = serde_json::json!({});
            }),
        ),
        (
            "upgrades with their own filters",
            with(|manager| {
                manager["upgrade_configs"][0]["filters"] = serde_json::json!([]);
            }),
        ),
        (
            "Istio without the condition",
            istio(|patches| {
                patches.retain(|patch| patch["patch"]["operation"] != "MERGE");
            }),
        ),
        (
            "Istio, some routes only",
            istio(|patches| {
                for patch in patches {
                    patch["match"]["routeConfiguration"] = serde_json::json!({"name": "http.8080"});
                }
            }),
        ),
        (
            "Envoy Gateway",
            serde_json::json!({"kind": "EnvoyExtensionPolicy", "spec": {"wasm": []}}),
        ),
        (
            "Envoy Gateway, a filter after the guard",
            made(Place::EnvoyGateway, |manager| {
                let filters = manager["http_filters"].as_array_mut();
                filters.expect("filters").swap(1, 2);
            }),
        ),
        (
            "Envoy Gateway, upgrades with their own filters",
            made(Place::EnvoyGateway, |manager| {
                manager["upgrade_configs"] =
                    serde_json::json!([{"upgrade_type": "websocket", "filters": []}]);
            }),
        ),
        (
            "a tunnel to elsewhere",
            made(Place::IstioWaypoint, |manager| {
                manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] =
                    "inbound-vip|8000|http|fluxlit-gateway.my-team.svc.cluster.local".into();
            }),
        ),
    ] {
        let (errors, _) = guard::check(&document);
        assert!(!errors.is_empty(), "{name} was accepted");
    }
}

/// Returns what a control plane makes, with a change in its first connection manager.
fn made(place: Place, change: fn(&mut Value)) -> Value {
    let mut bootstrap = place.as_written().value().clone();
    let filters = bootstrap.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters");
    let manager = filters
        .and_then(Value::as_array_mut)
        .and_then(|all| all.last_mut());
    change(&mut manager.expect("a connection manager")["typed_config"]);
    bootstrap
}

/// Returns all configurations that users could copy: the YAML and JSON files, and the YAML in the documentation.
fn documents() -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    let mut folders = vec![folder(), folder().join("../demo"), folder().join("../docs")];
    while let Some(current) = folders.pop() {
        let entries = std::fs::read_dir(&current).expect("the folder exists");
        for entry in entries.map(|entry| entry.expect("an entry").path()) {
            let name = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if entry.is_dir() && !["node_modules", "crds"].contains(&name.as_str()) {
                folders.push(entry);
            } else if entry.is_file() {
                documents.extend(read_documents(&entry));
            }
        }
    }
    documents.extend(read_documents(&folder().join("../README.md")));
    documents.sort_by(|(one, _), (other, _)| one.cmp(other));
    documents
}

fn read_documents(path: &Path) -> Vec<(String, Value)> {
    let name = path
        .strip_prefix(folder())
        .unwrap_or(path)
        .display()
        .to_string();
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let text = || std::fs::read_to_string(path).expect("the file can be read");
    let texts: Vec<String> = match extension.as_str() {
        "yaml" | "yml" | "json" => text().split("\n---\n").map(str::to_owned).collect(),
        "md" => text()
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    texts
        .iter()
        .map(|text| {
            let value =
                serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), value)
        })
        .collect()
}

#[test]
fn envoy_accepts_the_bootstrap() {
    let own = tempfile::tempdir().expect("a folder");
    let made = Certificate::create_files(own.path(), &["localhost"]).expect("a certificate");
    let module = program("FLUXLIT_TEST_FILTER");
    let plain = Bootstrap::shipped().with_module(&module);
    let tls = plain.clone().with_tls(&made.certificate, &made.key);
    for bootstrap in [plain, tls] {
        let (is_accepted, output) = bootstrap
            .validate(&program("FLUXLIT_TEST_ENVOY"), own.path())
            .expect("Envoy runs");
        assert!(is_accepted, "{output}");
    }
}

#[test]
fn envoy_rejects_what_the_filter_rejects() {
    let own = tempfile::tempdir().expect("a folder");
    let envoy = program("FLUXLIT_TEST_ENVOY");
    let module = program("FLUXLIT_TEST_FILTER");
    for (config, reason) in [
        ("", "there is no plugin configuration"),
        ("\n\u{b}\n\troot_path", "StringValue"),
        (
            "{\"root_paht\": \"/x\"}",
            "E15: unknown key \"root_paht\"; did you mean \"root_path\"?",
        ),
        ("{\"trust_proxy\": true}", "E01: trust_proxy is on"),
    ] {
        let bootstrap = Bootstrap::shipped()
            .with_module(&module)
            .with_plugin_config(config);
        let (is_accepted, output) = bootstrap.validate(&envoy, own.path()).expect("Envoy runs");
        assert!(!is_accepted, "{config:?} was accepted");
        assert!(
            output.contains(reason),
            "{config:?}: `{reason}` is missing in {output}"
        );
    }
}

#[test]
fn istio_accepts_the_manifests() {
    for (manifest, definition) in [
        ("istio/wasmplugin.yaml", "crds/wasmplugin.json"),
        ("istio/envoyfilter.yaml", "crds/envoyfilter.json"),
    ] {
        let errors = errors(&json(definition), &yaml(manifest));
        assert!(errors.is_empty(), "{manifest}: {errors:?}");
    }
}

/// Shows that the check above rejects wrong manifests.
#[test]
fn a_manifest_with_an_error_is_rejected() {
    let definition = json("crds/wasmplugin.json");
    let break_at = |change: fn(&mut Value)| {
        let mut manifest = yaml("istio/wasmplugin.yaml");
        change(&mut manifest);
        errors(&definition, &manifest)
    };
    let breaks: [fn(&mut Value); 6] = [
        |manifest| manifest["spec"]["failStrategy"] = "FAIL_SOMEHOW".into(),
        |manifest| manifest["spec"]["pluginconfig"] = Value::Null,
        |manifest| manifest["spec"]["url"] = "ftp://registry.example.com/x".into(),
        |manifest| manifest["spec"]["priority"] = "high".into(),
        |manifest| manifest["kind"] = "WasmPlugins".into(),
        |manifest| {
            manifest["spec"]["targetRefs"] = serde_json::json!([{"kind": "Gateway", "name": "x"}]);
        },
    ];
    for (number, change) in breaks.into_iter().enumerate() {
        assert!(!break_at(change).is_empty(), "error {number} was not found");
    }
}

/// Validates a manifest against its definition and returns the errors. Unknown fields are errors, although the API server
/// drops them silently, and so are violations of the rules that a schema cannot express.
fn errors(definition: &Value, manifest: &Value) -> Vec<String> {
    let mut schema = definition["schema"].clone();
    close(&mut schema);
    for (name, kind) in [
        ("apiVersion", "string"),
        ("kind", "string"),
        ("metadata", "object"),
    ] {
        schema["properties"][name] = serde_json::json!({"type": kind});
    }
    let validator = jsonschema::validator_for(&schema).expect("the definition is a schema");
    let mut errors: Vec<String> = validator
        .iter_errors(manifest)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    let group = definition["group"].as_str().unwrap_or_default();
    let version = definition["version"].as_str().unwrap_or_default();
    if manifest["kind"] != definition["kind"] {
        errors.push(format!("kind: {}", manifest["kind"]));
    }
    if manifest["apiVersion"] != format!("{group}/{version}") {
        errors.push(format!("apiVersion: {}", manifest["apiVersion"]));
    }
    let spec = &manifest["spec"];
    if spec.get("selector").is_some() && spec.get("targetRefs").is_some() {
        errors.push("spec: selector and targetRefs exclude each other".to_owned());
    }
    if let Some(url) = spec.get("url").and_then(Value::as_str) {
        let is_known = ["http://", "https://", "file://", "oci://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !is_known {
            errors.push(format!("spec.url: {url}"));
        }
    }
    errors
}

/// Makes unknown fields errors wherever the definition lists the known ones.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_open =
                fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
            if fields.get("properties").is_some_and(Value::is_object)
                && fields.get("type").is_some()
                && !is_open
            {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
