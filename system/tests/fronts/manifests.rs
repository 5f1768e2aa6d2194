//! Checks the printed files that no program here can run, and that those for Envoy guarantee what the shipped ones do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_system::named;
use fluxlit_system::printed::print;
use serde_json::{Value, json};

/// Settings of the gateway, and options of the command.
type Variant = (Vec<(&'static str, String)>, Vec<String>);

/// Returns settings and options that change what is printed.
fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for (public, mount, shape) in [
        (
            "https://portal.example.com/apps/my-app",
            "/apps/my-app",
            "full",
        ),
        (
            "https://portal.example.com/apps/my-app",
            "/apps/my-app",
            "stripped",
        ),
        ("http://portal.example.com", "", "auto"),
    ] {
        for behind in [None, Some("10.0.0.0/8")] {
            let settings = vec![
                (
                    "FLUXLIT_STREAMLIT_UPSTREAM",
                    "http://127.0.0.1:8501".to_owned(),
                ),
                ("FLUXLIT_PUBLIC_BASE_URL", public.to_owned()),
                ("FLUXLIT_ROOT_PATH", mount.to_owned()),
                ("FLUXLIT_ROOT_PATH_SHAPE", shape.to_owned()),
                (
                    "FLUXLIT_HSTS",
                    "{\"mode\": \"gateway\", \"max_age\": 600}".to_owned(),
                ),
                ("FLUXLIT_ALLOWED_HOSTS", "portal.example.com".to_owned()),
                (
                    "FLUXLIT_TRUSTED_PASS_HEADERS",
                    "X-Auth-Email,X-Auth-User".to_owned(),
                ),
            ];
            let options = behind.map(|network| ["--behind".to_owned(), network.to_owned()]);
            variants.push((settings, options.into_iter().flatten().collect()));
        }
    }
    variants
}

/// Prints a front in every variant; returns the path of each file and its documents.
fn printed(front: &str, folder: &Path) -> Vec<(PathBuf, Vec<Value>)> {
    variants()
        .into_iter()
        .enumerate()
        .map(|(number, (settings, options))| {
            let path = folder.join(format!("{front}-{number}.yaml"));
            print(front, &settings, &options, &path);
            let documents = documents(&std::fs::read_to_string(&path).expect("the printed file"));
            (path, documents)
        })
        .collect()
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

/// Returns a file of the package `envoy`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../envoy")
        .join(name)
}

fn shipped_yaml(name: &str) -> Value {
    let text = std::fs::read_to_string(shipped(name)).expect(name);
    serde_saphyr::from_str(&text).expect(name)
}

/// Runs a check that exits with 0 if a file is valid; returns its output otherwise.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&text).into_owned())
    }
}

fn check_kubernetes(version: &str, path: &Path) -> Result<(), String> {
    let mut command = Command::new(named("FLUXLIT_TEST_KUBERNETES_VALIDATE"));
    run(command.args(["--strict", "-k", version]).arg(path))
}

#[test]
fn kubernetes_accepts_its_manifests() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, documents) in printed("kubernetes", folder.path()) {
        let kinds: Vec<&str> = documents
            .iter()
            .filter_map(|document| document["kind"].as_str())
            .collect();
        assert_eq!(kinds, ["Deployment", "Service", "Ingress", "NetworkPolicy"]);
        for version in ["1.25", "1.37"] {
            check_kubernetes(version, &path).unwrap_or_else(|error| panic!("{version}: {error}"));
        }
        let selected = &documents[0]["spec"]["template"]["metadata"]["labels"];
        for selector in [
            &documents[0]["spec"]["selector"]["matchLabels"],
            &documents[1]["spec"]["selector"],
            &documents[3]["spec"]["podSelector"]["matchLabels"],
        ] {
            assert_eq!(selector, selected);
        }
    }
    // Shows that the check rejects what is wrong.
    let wrong = folder.path().join("wrong.yaml");
    let text = std::fs::read_to_string(folder.path().join("kubernetes-0.yaml")).expect("printed");
    std::fs::write(&wrong, text.replace("replicas: 1", "replicas: one")).expect("written");
    assert!(check_kubernetes("1.37", &wrong).is_err());
}

#[test]
fn istio_and_envoy_gateway_accept_their_resources() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut resources: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for front in ["istio", "envoy-gateway"] {
        for (_, documents) in printed(front, folder.path()) {
            for document in documents {
                let kind = format!("{} {}", document["apiVersion"], document["kind"]);
                resources.entry(kind).or_default().push(document);
            }
        }
    }
    assert_eq!(resources.len(), 9, "{:?}", resources.keys());
    for (kind, resources) in &resources {
        let definition = definition(&resources[0]).unwrap_or_else(|| panic!("{kind}"));
        check_resources(&definition, resources, folder.path())
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        // Shows that the check rejects what is wrong.
        let mut wrong = resources[0].clone();
        wrong["spec"]["unknown"] = true.into();
        assert!(check_resources(&definition, &[wrong], folder.path()).is_err());
    }
}

/// Returns the definition of the kind of a resource.
fn definition(resource: &Value) -> Option<Value> {
    let kind = resource["kind"].as_str()?;
    let group = resource["apiVersion"].as_str()?.split('/').next()?;
    let name = match (group, kind) {
        ("networking.istio.io", "Gateway") => "istio-gateway".to_owned(),
        (_, kind) => kind.to_ascii_lowercase(),
    };
    let text = std::fs::read_to_string(shipped(&format!("crds/{name}.json"))).ok()?;
    let definition: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(definition["kind"], kind);
    assert_eq!(definition["group"], group);
    Some(definition)
}

/// Checks resources of one kind.
fn check_resources(definition: &Value, resources: &[Value], folder: &Path) -> Result<(), String> {
    let mut schema = definition["schema"].clone();
    close(&mut schema);
    for name in ["apiVersion", "kind", "metadata"] {
        schema["properties"][name] = json!({});
    }
    let schema_file = folder.join("schema.json");
    std::fs::write(&schema_file, schema.to_string()).expect("written");
    let mut command = Command::new(named("FLUXLIT_TEST_JSONSCHEMA"));
    for (number, resource) in resources.iter().enumerate() {
        let file = folder.join(format!("resource-{number}.json"));
        std::fs::write(&file, resource.to_string()).expect("written");
        command.arg("-i").arg(file);
    }
    run(command.arg(schema_file))
}

/// Makes unknown fields errors wherever the definition lists the known ones.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_open =
                fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
            let is_listed = fields.get("properties").is_some_and(Value::is_object)
                && fields.contains_key("type");
            if is_listed && !is_open {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The printed EnvoyFilter is the shipped one, and so is the WasmPlugin but for its configuration.
#[test]
fn istio_guards_every_route() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, mut documents) in printed("istio", folder.path()) {
        let find = |documents: &[Value], kind: &str| {
            documents
                .iter()
                .position(|document| document["kind"] == kind)
        };
        let filter = find(&documents, "EnvoyFilter").expect("an EnvoyFilter");
        assert_eq!(
            documents[filter],
            shipped_yaml("istio/envoyfilter.yaml"),
            "{}",
            path.display()
        );
        let plugin = find(&documents, "WasmPlugin").expect("a WasmPlugin");
        let mut wanted = shipped_yaml("istio/wasmplugin.yaml");
        for plugin in [&mut documents[plugin], &mut wanted] {
            let key = plugin["spec"]["pluginConfig"]["peer_filter_state_key"].take();
            assert_eq!(key, "fluxlit.peer");
            plugin["spec"]["pluginConfig"] = Value::Null;
        }
        assert_eq!(documents[plugin], wanted, "{}", path.display());
    }
}

/// Routes of Envoy Gateway cannot have the condition, so the shipped RBAC filter is before the router.
#[test]
fn envoy_gateway_guards_every_request() {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, documents) in printed("envoy-gateway", folder.path()) {
        let of = |kind: &str| {
            let found = documents.iter().find(|document| document["kind"] == kind);
            found.unwrap_or_else(|| panic!("{}: no {kind}", path.display()))
        };
        let patch = &of("EnvoyPatchPolicy")["spec"];
        let patches = patch["jsonPatches"].as_array().expect("patches");
        assert_eq!(patches.len(), 1);
        assert_eq!(patches[0]["operation"]["op"], "add");
        assert_eq!(
            patches[0]["operation"]["jsonPath"],
            "$..http_filters[?@.name == 'envoy.filters.http.router']"
        );
        assert_eq!(
            patches[0]["operation"]["value"],
            shipped_yaml("rbac-guard.yaml")
        );
        // The name of a listener in Envoy: namespace, Gateway, listener.
        let listener = patches[0]["name"].as_str().unwrap_or_default();
        let route = documents
            .iter()
            .find(|document| {
                document["kind"] == "HTTPRoute" && document["metadata"]["name"] == "fluxlit"
            })
            .expect("the route");
        let section = route["spec"]["parentRefs"][0]["sectionName"].as_str();
        assert_eq!(
            Some(listener),
            section
                .map(|section| format!("default/fluxlit/{section}"))
                .as_deref()
        );
        let wasm = &of("EnvoyExtensionPolicy")["spec"]["wasm"][0];
        assert_eq!(wasm["failOpen"], false);
        // The listener does not record the peer there.
        assert_eq!(wasm["config"].get("peer_filter_state_key"), None);
        assert_eq!(
            of("ClientTrafficPolicy")["spec"].get("clientIPDetection"),
            None
        );
    }
}

/// The printed bootstrap is the shipped one but for these values; the guard, the filter's place and the defences are the same.
#[test]
fn envoy_has_the_guarantees_of_the_shipped_bootstrap() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = shipped_yaml("bootstrap.yaml");
    for (path, documents) in printed("envoy", folder.path()) {
        let mut differences = Vec::new();
        compare("", &shipped, &documents[0], &mut differences);
        let unexpected: Vec<&String> = differences
            .iter()
            .filter(|difference| !MAY_DIFFER.iter().any(|known| difference.starts_with(known)))
            .collect();
        assert!(unexpected.is_empty(), "{}: {unexpected:?}", path.display());
        let plugin = documents[0]
            .pointer(&format!(
                "{MANAGER}/http_filters/0/typed_config/config/configuration/value"
            ))
            .and_then(Value::as_str)
            .expect("a configuration");
        let plugin: Value = serde_json::from_str(plugin).expect("JSON");
        assert_eq!(plugin["peer_filter_state_key"], "fluxlit.peer");
    }
}

/// Collects the places in which two values differ.
fn compare(place: &str, one: &Value, other: &Value, differences: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => {
            let names = fields
                .keys()
                .chain(others.keys().filter(|name| !fields.contains_key(*name)));
            for name in names {
                compare(
                    &format!("{place}/{name}"),
                    &one[name],
                    &other[name],
                    differences,
                );
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            for index in 0..items.len().max(others.len()) {
                let item = |array: &[Value]| array.get(index).cloned().unwrap_or_default();
                compare(
                    &format!("{place}/{index}"),
                    &item(items),
                    &item(others),
                    differences,
                );
            }
        }
        _ if one == other => {}
        _ => differences.push(place.to_owned()),
    }
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";

/// Addresses, limits that follow the gateway's, health checks, and the configuration of the filter. `use_remote_address` is
/// false only behind a hop that terminates TLS.
const MAY_DIFFER: [&str; 8] = [
    "/static_resources/listeners/0/address/socket_address/",
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/use_remote_address",
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/max_request_headers_kb",
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/request_headers_timeout",
    "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/http_filters/0/typed_config/config/configuration/value",
    "/static_resources/clusters/0/health_checks",
    "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/",
    "/static_resources/clusters/0/type",
];
