//! Checks the Kustomize base and its overlays.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_policy::{Defaults, Policy};
use fluxlit_system::named;
use serde_json::{Value, json};

use crate::documents::{Documents, difference, items, run};
use crate::{check_custom, check_schemas, check_settings, consistency, deploy, printed, template};

/// Builds a folder.
fn kustomize(folder: &Path) -> Documents {
    let mut command = Command::new(named("FLUXLIT_TEST_KUBECTL"));
    let text = run(command.arg("kustomize").arg(folder));
    Documents::read(&text.unwrap_or_else(|error| panic!("{}: {error}", folder.display())))
}

/// Builds every overlay; returns its name and what was built.
fn overlays(root: &Path) -> Vec<(String, Documents)> {
    let entries = std::fs::read_dir(root.join("overlays")).expect("the overlays");
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    let named = folders.iter().map(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        (name.into_owned(), kustomize(folder))
    });
    named.collect()
}

fn overlay(name: &str) -> Documents {
    kustomize(&deploy("kubernetes/overlays").join(name))
}

/// Returns a file of the package `envoy`.
fn shipped(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../envoy")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_overlay_builds_valid_manifests_that_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = overlays(&deploy("kubernetes"));
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "envoy-gateway",
            "envoy-gateway-module",
            "ingress",
            "istio-gateway",
            "istio-gateway-traffic-extension",
            "istio-sidecar",
            "istio-waypoint",
        ]
    );
    check_schemas(folder.path(), &all);
    for (name, documents) in &all {
        let mut errors = consistency::errors(documents);
        if name == "istio-waypoint" {
            // The port of the mesh, on which connections between pods arrive.
            errors.retain(|error| !error.starts_with("no port 15008"));
        }
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        check_settings(name, documents);
    }
}

/// Shows that the rule about replicas finds an overlay without affinity.
#[test]
fn replicas_without_affinity_are_found() {
    for (name, kind, pointer, value) in [
        (
            "istio-gateway",
            "DestinationRule",
            "/spec/trafficPolicy/loadBalancer",
            json!({"simple": "RANDOM"}),
        ),
        (
            "istio-sidecar",
            "DestinationRule",
            "/spec/trafficPolicy/loadBalancer",
            json!({"simple": "RANDOM"}),
        ),
        ("istio-waypoint", "Deployment", "/spec/replicas", json!(2)),
        (
            "ingress",
            "Ingress",
            "/metadata/annotations/nginx.ingress.kubernetes.io~1affinity",
            json!("none"),
        ),
    ] {
        let errors = consistency::errors(&overlay(name).with(kind, pointer, value));
        assert!(
            errors
                .iter()
                .any(|error| error.contains("nothing keeps a browser on one")),
            "{name}: {errors:?}"
        );
    }
}

/// Shows that the definition of EnvoyProxy and its rules refuse what Envoy Gateway refuses.
#[test]
fn an_envoy_proxy_with_an_error_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let documents = overlay("envoy-gateway-module");
    let remote = json!({
        "type": "Remote",
        "remote": {"url": "https://registry.example.com/libfluxlit_module.so", "sha256": "0".repeat(64)},
    });
    let module = documents.one("EnvoyProxy")["spec"]["dynamicModules"][0].clone();
    let check = |pointer: &str, value: &Value| {
        let mut proxy = documents.one("EnvoyProxy").clone();
        if !pointer.is_empty() {
            crate::documents::set(&mut proxy, pointer, value.clone());
        }
        let output = check_custom(folder.path(), &[proxy]).expect("the check runs");
        let errors = output.lines().filter(|line| line.starts_with("error: "));
        let unknown = output
            .lines()
            .filter(|line| line.starts_with("not evaluated: "));
        assert_eq!(unknown.collect::<Vec<_>>(), [""; 0]);
        errors.map(str::to_owned).collect::<Vec<_>>()
    };
    for (pointer, value) in [
        ("", Value::Null),
        ("/spec/dynamicModules/0/source", remote.clone()),
        // The default of `type` is Local.
        (
            "/spec/dynamicModules/0/source",
            json!({"local": {"path": "/x.so"}}),
        ),
        ("/spec/provider", json!({"type": "Host"})),
    ] {
        assert_eq!(check(pointer, &value), [""; 0], "{pointer}: {value}");
    }
    for (pointer, value, wanted) in [
        (
            "/spec/dynamicModules/0/name",
            json!("Fluxlit"),
            "does not match",
        ),
        (
            "/spec/dynamicModules/0/name",
            json!("fluxlit_module"),
            "does not match",
        ),
        ("/spec/dynamicModules/0/name", json!(""), "non-empty"),
        (
            "/spec/dynamicModules/0",
            json!({"name": "fluxlit"}),
            "'source' is a required",
        ),
        (
            "/spec/dynamicModules/0/source",
            json!({}),
            "local field needs to be set",
        ),
        (
            "/spec/dynamicModules/0/source",
            json!({"type": "Remote"}),
            "remote field needs to be set",
        ),
        (
            "/spec/dynamicModules/0/source/type",
            json!("Remote"),
            "local field must not be set",
        ),
        (
            "/spec/dynamicModules/0/source/remote",
            remote["remote"].clone(),
            "remote field needs to be set",
        ),
        (
            "/spec/dynamicModules/0/source",
            json!({"type": "Remote", "remote": {"url": "oci://registry.example.com/x", "sha256": "0".repeat(64)}}),
            "does not match",
        ),
        (
            "/spec/dynamicModules/0/source",
            json!({"type": "Remote", "remote": {"url": "https://registry.example.com/x"}}),
            "'sha256' is a required",
        ),
        (
            "/spec/dynamicModules",
            json!([module, module]),
            "two items with the same name",
        ),
        ("/spec/provider/type", json!("Docker"), "is not one of"),
        (
            "/spec/provider/kubernetes/envoyDeployment/container/image",
            json!("registry.example.com/my team/envoy"),
            "Image must include a tag",
        ),
        (
            "/spec/provider/kubernetes/envoyDeployment/container/imageRepository",
            json!("registry.example.com/envoy"),
            "Either image or imageRepository",
        ),
    ] {
        let errors = check(pointer, &value);
        assert!(
            errors.iter().any(|error| error.contains(wanted)),
            "{pointer} {value}: {wanted:?} is not in {errors:?}"
        );
    }
}

/// What `doctor --lint` says of each overlay: the statuses of F01 to F08. The files themselves, and each with a defect, are linted in
/// `doctor/tests/it/shipped.rs`.
#[test]
fn the_doctor_finds_nothing_that_a_control_plane_could_do_better() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("overlay.yaml");
    let wanted = [
        // Envoy Gateway cannot start a failed filter again.
        ("envoy-gateway", "ok ok warn ok skip skip ok ok"),
        ("envoy-gateway-module", "ok ok ok ok skip skip ok ok"),
        // There is no filter.
        ("ingress", "skip skip skip skip skip skip skip skip"),
        ("istio-gateway", "ok ok ok ok skip skip ok ok"),
        (
            "istio-gateway-traffic-extension",
            "ok ok ok ok skip skip ok ok",
        ),
        ("istio-sidecar", "ok ok ok skip skip skip skip ok"),
        ("istio-waypoint", "ok ok ok skip skip skip skip ok"),
    ];
    let mut found = Vec::new();
    for (name, documents) in overlays(&deploy("kubernetes")) {
        let text = Documents::print(&documents.all().iter().collect::<Vec<_>>());
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
        command.env_clear().args(["doctor", "--json", "--lint"]);
        let output = command.arg(&file).output().expect("the program runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let statuses =
            items(&report["checks"])
                .iter()
                .map(|check| match check["status"].as_str() {
                    Some("PASS") => "ok",
                    Some("WARN") => "warn",
                    Some("SKIPPED") => "skip",
                    _ => panic!("{check}"),
                });
        found.push((name, statuses.collect::<Vec<_>>().join(" ")));
    }
    let wanted = wanted.map(|(name, statuses)| (name.to_owned(), statuses.to_owned()));
    assert_eq!(found, wanted);
}

/// Changing the three lines of site.yaml changes every place.
#[test]
fn the_site_is_written_in_one_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("kubernetes");
    copy_folder(&deploy("kubernetes"), &copy);
    let mut sites = 0;
    for entry in std::fs::read_dir(copy.join("overlays")).expect("the overlays") {
        let path = entry.expect("an entry").path().join("site.yaml");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let text = text
            .replace("portal.example.com", "other.example.org")
            .replace("/apps/my-app", "/other/place")
            .replace("10.244.0.0/16", "192.0.2.0/24")
            .replace("127.0.0.6", "192.0.2.0/24");
        std::fs::write(path, text).expect("written");
        sites += 1;
    }
    assert_eq!(sites, 5);
    for (name, documents) in overlays(&copy) {
        let text = Documents::print(&documents.all().iter().collect::<Vec<_>>());
        for old in [
            "portal.example.com",
            "/apps/my-app",
            "10.244.0.0/16",
            "127.0.0.6",
            "replaced",
        ] {
            assert!(!text.contains(old), "{name}: {old} is still in {text}");
        }
        let settings = documents.gateway_settings();
        for (setting, wanted) in [
            ("FLUXLIT_PUBLIC_BASE_URL", "https://other.example.org"),
            ("FLUXLIT_ROOT_PATH", "/other/place"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "192.0.2.0/24"),
        ] {
            assert_eq!(
                settings.get(setting).map(String::as_str),
                Some(wanted),
                "{name}"
            );
        }
        check_settings(&name, &documents);
    }
}

/// Somebody who begins with the overlays and changes to the chart, or the other way round, gets the same pods.
#[test]
fn the_base_is_what_the_chart_renders() {
    let folder = tempfile::tempdir().expect("a folder");
    let values = deploy("helm/values/ingress.yaml");
    let arguments = ["--values", &values.to_string_lossy(), "--set", "replicas=2"];
    let chart = Documents::read(&template(folder.path(), &arguments).expect("rendered"));
    let built = overlay("ingress");
    let mut settings = chart.gateway_settings();
    // The chart writes the same URL with the mount.
    let public = settings
        .get_mut("FLUXLIT_PUBLIC_BASE_URL")
        .expect("a setting");
    *public = public.replace("/apps/my-app", "");
    assert_eq!(built.gateway_settings(), settings);
    for kind in [
        "Deployment",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Ingress",
    ] {
        let (mut chart, mut built) = (chart.one(kind).clone(), built.one(kind).clone());
        for (document, is_chart) in [(&mut chart, true), (&mut built, false)] {
            without_what_tools_add(document, is_chart);
        }
        let missing = difference(&chart, &built);
        assert!(
            missing.is_empty(),
            "{kind}: the overlay does not have {missing:#?}"
        );
        let missing = difference(&built, &chart);
        assert!(
            missing.is_empty(),
            "{kind}: the chart does not have {missing:#?}"
        );
    }
}

/// Removes the labels of Helm, the namespace, and the name of the ConfigMap, to which Kustomize adds a hash.
fn without_what_tools_add(value: &mut Value, is_chart: bool) {
    match value {
        Value::Object(members) => {
            for name in [
                "app.kubernetes.io/instance",
                "app.kubernetes.io/managed-by",
                "app.kubernetes.io/version",
                "helm.sh/chart",
                "checksum/settings",
                "namespace",
                "configMapRef",
            ] {
                members.remove(name);
            }
            if is_chart
                && members.get("annotations").is_some_and(|value| {
                    value
                        .as_object()
                        .is_some_and(|all| all.keys().all(|name| name == "checksum/settings"))
                })
            {
                members.remove("annotations");
            }
            members
                .values_mut()
                .for_each(|value| without_what_tools_add(value, is_chart));
        }
        Value::Array(items) => {
            items
                .iter_mut()
                .for_each(|value| without_what_tools_add(value, is_chart));
        }
        _ => {}
    }
}

/// The EnvoyFilters of the overlays are the shipped one, which is tested in Envoy, for another place in the mesh.
#[test]
fn the_guard_of_istio_is_the_shipped_one() {
    let shipped = shipped("istio/envoyfilter.yaml");
    let patches = |documents: &Documents| {
        items(&documents.one("EnvoyFilter")["spec"]["configPatches"]).to_vec()
    };
    assert_eq!(overlay("istio-gateway").one("EnvoyFilter"), &shipped);
    let in_context = |context: &str| {
        let mut patches = items(&shipped["spec"]["configPatches"]).to_vec();
        for patch in &mut patches {
            patch["match"]["context"] = context.into();
            if context == "WAYPOINT" {
                // The definition of this context needs the field.
                patch["match"]["waypoint"] = json!({});
            }
        }
        patches
    };
    assert_eq!(
        patches(&overlay("istio-sidecar")),
        in_context("SIDECAR_INBOUND")
    );
    // A waypoint has no peer to record.
    assert_eq!(
        patches(&overlay("istio-waypoint")),
        in_context("WAYPOINT")[1..]
    );
}

#[test]
fn every_filter_is_configured_and_placed_as_shipped() {
    let shipped = shipped("istio/wasmplugin.yaml");
    for (name, kind) in [
        ("istio-gateway", "WasmPlugin"),
        ("istio-gateway-traffic-extension", "TrafficExtension"),
        ("istio-sidecar", "WasmPlugin"),
        ("istio-waypoint", "WasmPlugin"),
        ("envoy-gateway", "EnvoyExtensionPolicy"),
        ("envoy-gateway-module", "EnvoyExtensionPolicy"),
    ] {
        let documents = overlay(name);
        let spec = &documents.one(kind)["spec"];
        let plugin = match kind {
            "WasmPlugin" => {
                for field in [
                    "url",
                    "imagePullPolicy",
                    "phase",
                    "priority",
                    "failStrategy",
                ] {
                    assert_eq!(spec[field], shipped["spec"][field], "{name}: {field}");
                }
                assert_digest(name, &spec["sha256"]);
                &spec["pluginConfig"]
            }
            "TrafficExtension" => {
                let plugin = overlay("istio-gateway");
                let plugin = &plugin.one("WasmPlugin")["spec"];
                let wasm = spec["wasm"].as_object().expect("the extension");
                let own = spec
                    .as_object()
                    .expect("a spec")
                    .iter()
                    .filter(|(name, _)| *name != "wasm");
                let fields: serde_json::Map<_, _> = own
                    .chain(wasm)
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                assert_eq!(Value::from(fields), *plugin, "the two kinds say the same");
                assert_eq!(
                    documents.of("WasmPlugin"),
                    Vec::<&Value>::new(),
                    "only one filter"
                );
                &spec["wasm"]["pluginConfig"]
            }
            _ if name == "envoy-gateway-module" => {
                assert_eq!(spec.get("wasm"), None, "only one filter");
                let (module, proxy) = (&spec["dynamicModule"][0], documents.one("EnvoyProxy"));
                let library = &proxy["spec"]["dynamicModules"][0];
                assert_eq!(module["name"], library["name"]);
                let path = library["source"]["local"]["path"].as_str();
                assert!(path.is_some_and(|path| path.ends_with("/libfluxlit_module.so")));
                // As in envoy/module.yaml.
                assert_eq!(library["doNotClose"], true);
                assert_eq!(module["filterName"], "fluxlit");
                let gateways = documents.of("Gateway");
                let [gateway] = gateways[..] else {
                    panic!("{gateways:?}");
                };
                assert_eq!(
                    gateway["spec"]["infrastructure"]["parametersRef"],
                    json!({
                        "group": "gateway.envoyproxy.io",
                        "kind": "EnvoyProxy",
                        "name": proxy["metadata"]["name"],
                    })
                );
                let wasm = overlay("envoy-gateway");
                let wasm = &wasm.one("EnvoyExtensionPolicy")["spec"];
                assert_eq!(module["config"], wasm["wasm"][0]["config"]);
                assert_eq!(spec["targetRefs"], wasm["targetRefs"]);
                &module["config"]
            }
            _ => {
                let wasm = &spec["wasm"][0];
                assert_eq!(wasm["failOpen"], false);
                assert_digest(name, &wasm["code"]["image"]["sha256"]);
                &wasm["config"]
            }
        };
        if let Err(errors) = Policy::from_json(plugin.to_string().as_bytes(), Defaults::FILTER) {
            panic!("{name}: {plugin}: {errors}");
        }
        let settings = documents.gateway_settings();
        assert_eq!(
            plugin["root_path"],
            settings["FLUXLIT_ROOT_PATH"].as_str(),
            "{name}"
        );
        // The gateway expects the mount in the path.
        assert_eq!(settings["FLUXLIT_ROOT_PATH_SHAPE"], "full", "{name}");
        assert_eq!(plugin["upstream_path"], "full", "{name}");
        assert_eq!(plugin["outside_mount"], "reject", "{name}");
        let records_peer = documents.of("EnvoyFilter").iter().any(|filter| {
            items(&filter["spec"]["configPatches"])
                .iter()
                .any(|patch| patch["applyTo"] == "NETWORK_FILTER")
        });
        assert_eq!(
            plugin.get("peer_filter_state_key").is_some(),
            records_peer,
            "{name}"
        );
    }
}

fn assert_digest(name: &str, digest: &Value) {
    let digest = digest.as_str().unwrap_or_default();
    assert_eq!(
        digest.len(),
        64,
        "{name}: the module is not pinned by a digest"
    );
}

/// The overlay for Envoy Gateway is what `fluxlit-gateway config --for envoy-gateway` prints, in another namespace.
#[test]
fn envoy_gateway_gets_what_the_gateway_prints() {
    let text = printed("envoy-gateway", &[])
        .replace("namespace: default", "namespace: my-team")
        .replace("name: default/", "name: my-team/");
    let built = overlay("envoy-gateway");
    for printed in Documents::read(&text).all() {
        let mut printed = printed.clone();
        if printed["kind"] == "EnvoyExtensionPolicy" {
            // The filter takes scheme and host from the connection, so that the site is written once.
            let config = printed["spec"]["wasm"][0]["config"].as_object_mut();
            config.expect("a configuration").remove("public_base_url");
        }
        let same = |one: &&Value| {
            one["kind"] == printed["kind"] && one["metadata"]["name"] == printed["metadata"]["name"]
        };
        let found = built.all().iter().find(same);
        let found = found.unwrap_or_else(|| panic!("{} is missing", printed["kind"]));
        let missing = difference(&printed, found);
        assert!(missing.is_empty(), "{}: {missing:#?}", printed["kind"]);
    }
}

/// The sidecar serves as long as the gateway drains.
#[test]
fn the_sidecar_does_not_end_before_the_gateway() {
    let documents = overlay("istio-sidecar");
    let pod = &documents.one("Deployment")["spec"]["template"]["metadata"];
    let config = pod["annotations"]["proxy.istio.io/config"]
        .as_str()
        .unwrap_or_default();
    let config: Value = serde_saphyr::from_str(config).expect("YAML");
    let settings = documents.gateway_settings();
    let seconds = |name: &str| settings[name].parse::<u64>().expect(name);
    let wanted = seconds("FLUXLIT_DRAIN_DELAY_S") + seconds("FLUXLIT_GRACE_PERIOD_S");
    assert_eq!(
        config["terminationDrainDuration"],
        json!(format!("{wanted}s"))
    );
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
