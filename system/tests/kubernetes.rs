//! Checks the Helm chart and the Kustomize overlays: what they render is accepted by the schemas of Kubernetes and of the
//! control planes, agrees with itself and with what the gateway prints, and wrong values are refused.

#[path = "kubernetes/consistency.rs"]
mod consistency;
#[path = "kubernetes/documents.rs"]
mod documents;
#[path = "kubernetes/overlays.rs"]
mod overlays;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_system::named;
use fluxlit_system::printed::print;
use serde_json::{Value, json};

use documents::{Documents, difference, run};

/// Returns a file or folder below `deploy/`.
fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// Returns Helm with folders of its own, so that it reads nothing from the home folder.
fn helm(folder: &Path) -> Command {
    let mut command = Command::new(named("FLUXLIT_TEST_HELM"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, folder.join(name));
    }
    command
}

/// Renders the chart.
fn template(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = helm(folder);
    command
        .args(["template", "fluxlit-gateway"])
        .arg(deploy("helm/fluxlit-edge"))
        .args(["--namespace", "my-team"])
        .args(arguments);
    run(&mut command)
}

fn values_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(deploy("helm/values")).expect("deploy/helm/values");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

/// Renders every values file; returns its name and what was rendered.
fn rendered(folder: &Path) -> Vec<(String, Documents)> {
    let mut all = Vec::new();
    for file in values_files() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = template(folder, &["--values", &file.to_string_lossy()])
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        all.push((name.into_owned(), Documents::read(&text)));
    }
    all
}

/// Has each document checked by the strict schemas of the oldest and the newest supported version of Kubernetes, or by the
/// definition of its kind.
#[track_caller]
fn check_schemas(folder: &Path, all: &[(String, Documents)]) {
    let mut files = Vec::new();
    let mut custom = Vec::new();
    for (name, documents) in all {
        let (of_kubernetes, others) = documents.by_definition();
        let path = folder.join(format!("{name}.yaml"));
        std::fs::write(&path, Documents::print(&of_kubernetes)).expect("written");
        files.push(path);
        custom.extend(others);
    }
    for version in ["1.25", "1.37"] {
        let mut command = Command::new(named("FLUXLIT_TEST_KUBERNETES_VALIDATE"));
        command.args(["--strict", "-k", version]).args(&files);
        let output = run(&mut command).unwrap_or_else(|error| panic!("{version}: {error}"));
        assert!(!output.contains("find schema"), "{version}: {output}");
    }
    let output = check_custom(folder, &custom).unwrap_or_else(|error| panic!("{error}"));
    let errors: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let unknown: BTreeSet<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("not evaluated: "))
        .filter(|line| !NOT_EVALUATED.iter().any(|known| line.starts_with(known)))
        .collect();
    assert!(
        unknown.is_empty(),
        "rules that were not evaluated: {unknown:#?}"
    );
}

/// Rules with functions that only an API server has; the patterns of the same fields are checked.
const NOT_EVALUATED: [&str; 2] = ["WasmPlugin: isURL(self)", "TrafficExtension: isURL(self)"];

fn check_custom(folder: &Path, resources: &[Value]) -> Result<String, String> {
    let file = folder.join("resources.json");
    std::fs::write(&file, Value::from(resources.to_vec()).to_string()).expect("written");
    let mut command = Command::new(named("FLUXLIT_TEST_CRD_PYTHON"));
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    command
        .arg(own.join("tests/kubernetes/check_resources.py"))
        .arg(own.join("../envoy/crds"))
        .arg(file);
    run(&mut command)
}

/// Has the gateway read the settings of a pod, and refuse warnings.
fn check_settings(name: &str, documents: &Documents) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("app.py"), "").expect("an app");
    let settings = documents.gateway_settings();
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    command
        .env_clear()
        .args(["config", "--strict"])
        .args(documents.gateway_arguments())
        .envs(&settings)
        .current_dir(folder.path());
    if let Err(error) = run(&mut command) {
        panic!("{name}: {settings:?}: {error}");
    }
}

/// Has the doctor read the options of its pods; it only lists its checks.
fn check_doctor(name: &str, documents: &Documents) {
    let pods = documents
        .all()
        .iter()
        .filter_map(|document| match document["kind"].as_str() {
            Some("Pod") => document.pointer("/spec"),
            Some("CronJob") => document.pointer("/spec/jobTemplate/spec/template/spec"),
            _ => None,
        });
    let mut checked = 0;
    for pod in pods {
        let arguments = documents::items(&pod["containers"][0]["command"]);
        assert_eq!(arguments[..2], ["fluxlit-gateway", "doctor"], "{name}");
        let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
        command
            .env_clear()
            .arg("doctor")
            .args(arguments[2..].iter().map(documents::text));
        if let Err(error) = run(command.arg("--list")) {
            panic!("{name}: {command:?}: {error}");
        }
        checked += 1;
    }
    assert!(checked > 0, "{name} has no doctor");
}

#[test]
fn every_values_file_renders_valid_manifests_that_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in values_files() {
        let mut lint = helm(folder.path());
        lint.args(["lint", "--strict", "--values"])
            .arg(&file)
            .arg(deploy("helm/fluxlit-edge"));
        if let Err(error) = run(&mut lint) {
            panic!("{}: {error}", file.display());
        }
    }
    let all = rendered(folder.path());
    check_schemas(folder.path(), &all);
    for (name, documents) in &all {
        check_doctor(name, documents);
        let errors = consistency::errors(documents);
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        check_settings(name, documents);
    }
    let kinds: BTreeSet<&str> = all.iter().flat_map(|(_, all)| all.kinds()).collect();
    let wanted = [
        "AuthorizationPolicy",
        "ConfigMap",
        "CronJob",
        "Deployment",
        "DestinationRule",
        "HTTPRoute",
        "HorizontalPodAutoscaler",
        "Ingress",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "PrometheusRule",
        "Service",
        "ServiceMonitor",
        "VirtualService",
    ];
    assert_eq!(
        kinds,
        BTreeSet::from(wanted),
        "kinds that some values file renders"
    );
}

/// Shows that the checks above find what is wrong.
#[test]
fn manifests_that_do_not_agree_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let values = deploy("helm/values/production.yaml");
    let text = template(
        folder.path(),
        &[
            "--values",
            &values.to_string_lossy(),
            "--set",
            "app.image.repository=x",
            "--set",
            "app.image.tag=v1",
        ],
    )
    .expect("the chart renders");
    let good = Documents::read(&text);
    assert_eq!(consistency::errors(&good), Vec::<String>::new());
    for (kind, pointer, value, wanted) in [
        (
            "Service",
            "/spec/selector/app.kubernetes.io~1name",
            json!("other"),
            "Service selects no pod",
        ),
        (
            "NetworkPolicy",
            "/spec/podSelector/matchLabels",
            json!({"a": "b"}),
            "NetworkPolicy selects no pod",
        ),
        (
            "PodDisruptionBudget",
            "/spec/selector/matchLabels/app.kubernetes.io~1name",
            json!("x"),
            "PodDisruptionBudget selects no pod",
        ),
        (
            "ServiceMonitor",
            "/spec/selector/matchLabels/app.kubernetes.io~1name",
            json!("x"),
            "ServiceMonitor selects no Service",
        ),
        (
            "ServiceMonitor",
            "/spec/endpoints/0/port",
            json!("admin"),
            "no port admin",
        ),
        (
            "Service",
            "/spec/ports/0/targetPort",
            json!("web"),
            "no port web",
        ),
        (
            "NetworkPolicy",
            "/spec/ingress/0/ports/0/port",
            json!(8001),
            "no port 8001",
        ),
        (
            "NetworkPolicy",
            "/spec/ingress/0/from",
            json!([]),
            "everybody",
        ),
        (
            "NetworkPolicy",
            "/spec/ingress/0/from/0/namespaceSelector",
            json!({}),
            "everybody",
        ),
        (
            "Ingress",
            "/spec/rules/0/http/paths/0/backend/service/name",
            json!("x"),
            "no Service x",
        ),
        (
            "Ingress",
            "/spec/rules/0/http/paths/0/backend/service/port/name",
            json!("web"),
            "no port web",
        ),
        (
            "HorizontalPodAutoscaler",
            "/spec/scaleTargetRef/name",
            json!("x"),
            "no Deployment x",
        ),
        (
            "Ingress",
            "/metadata/annotations/nginx.ingress.kubernetes.io~1affinity",
            json!("none"),
            "nothing keeps a browser on one",
        ),
        (
            "Deployment",
            "/spec/template/spec/terminationGracePeriodSeconds",
            json!(130),
            "terminationGracePeriodSeconds",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/1/lifecycle/preStop/exec/command/1",
            json!("69"),
            "preStop",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/readinessProbe/exec/command/3",
            json!("http://127.0.0.1:9902/readyz"),
            "readinessProbe",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/livenessProbe/exec/command/3",
            json!("http://127.0.0.1:9901/live"),
            "livenessProbe",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!(8080),
            "FLUXLIT_GATEWAY_PORT",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
            "readOnlyRootFilesystem",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/1/securityContext/capabilities/drop",
            json!(["NET_RAW"]),
            "capabilities",
        ),
        (
            "Deployment",
            "/spec/template/spec/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/volumeMounts/0/name",
            json!("x"),
            "no volume x",
        ),
        (
            "Deployment",
            "/spec/template/spec/containers/0/envFrom/0/configMapRef/name",
            json!("x"),
            "no ConfigMap x",
        ),
        (
            "CronJob",
            "/spec/jobTemplate/spec/template/spec/automountServiceAccountToken",
            json!(true),
            "automountServiceAccountToken",
        ),
    ] {
        let errors = consistency::errors(&good.with(kind, pointer, value));
        assert!(
            errors.iter().any(|error| error.contains(wanted)),
            "{kind} {pointer}: {wanted:?} is not in {errors:?}"
        );
    }
}

/// Shows that schemas and rules refuse what is wrong.
#[test]
fn resources_that_a_control_plane_would_refuse_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let istio = rendered(folder.path());
    let find = |values: &str, kind: &str| {
        let (_, documents) = istio
            .iter()
            .find(|(name, _)| name == values)
            .expect("rendered");
        documents.one(kind).clone()
    };
    for (values, kind, pointer, value, wanted) in [
        (
            "istio",
            "VirtualService",
            "/spec/http/0/timeout",
            json!("0s"),
            "greater than 1ms",
        ),
        (
            "istio",
            "DestinationRule",
            "/spec/trafficPolicy/loadBalancer/simple",
            json!("SOMEHOW"),
            "SOMEHOW",
        ),
        (
            "istio",
            "AuthorizationPolicy",
            "/spec/targetRefs",
            json!([{"kind": "Gateway", "name": "x"}]),
            "only one",
        ),
        (
            "envoy-gateway",
            "HTTPRoute",
            "/spec/rules/0/matches/0/path/value",
            json!("apps"),
            "must be an absolute path",
        ),
        (
            "envoy-gateway",
            "HTTPRoute",
            "/spec/rules/0/timeout",
            json!("0s"),
            "timeout",
        ),
        (
            "production",
            "ServiceMonitor",
            "/spec/endpoints/0/interval",
            json!("soon"),
            "soon",
        ),
    ] {
        let mut resource = find(values, kind);
        documents::set(&mut resource, pointer, value);
        let output = check_custom(folder.path(), &[resource]).expect("the check runs");
        assert!(
            output
                .lines()
                .any(|line| line.starts_with("error: ") && line.contains(wanted)),
            "{kind} {pointer}: {wanted:?} is not in {output}"
        );
    }
}

#[test]
fn wrong_values_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (values, wanted) in [
        (r#"{}"#, "/host"),
        (r#"{"host": "https://portal.example.com"}"#, "/host"),
        (r#"{"host": "a.example:443"}"#, "/host"),
        (r#"{"host": "a.example", "mount": "/apps/"}"#, "/mount"),
        (r#"{"host": "a.example", "mount": "apps"}"#, "/mount"),
        (r#"{"host": "a.example", "mount": "/a/../b"}"#, "/mount"),
        // Trust without a list, or with one that covers everybody, or that is not used.
        (
            r#"{"host": "a.example", "trust": {"proxy": true}}"#,
            "/trust/networks': minItems",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": []}}"#,
            "/trust/networks': minItems",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": ["*"]}}"#,
            "/trust/networks/0",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": ["0.0.0.0/0"]}}"#,
            "/trust/networks/0",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": ["::/0"]}}"#,
            "/trust/networks/0",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": ["10.0.0.0/33"]}}"#,
            "/trust/networks/0",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": true, "networks": ["proxy"]}}"#,
            "/trust/networks/0",
        ),
        (
            r#"{"host": "a.example", "trust": {"networks": ["10.0.0.0/8"]}}"#,
            "/trust/networks': maxItems",
        ),
        (
            r#"{"host": "a.example", "trust": {"proxy": "true", "networks": ["10.0.0.0/8"]}}"#,
            "/trust/proxy",
        ),
        // What the chart sets itself.
        (
            r#"{"host": "a.example", "settings": {"FLUXLIT_TRUST_PROXY": "true"}}"#,
            "invalid propertyName 'FLUXLIT_TRUST_PROXY'",
        ),
        (
            r#"{"host": "a.example", "settings": {"FLUXLIT_FORWARDED_ALLOW_IPS": "*"}}"#,
            "invalid propertyName 'FLUXLIT_FORWARDED_ALLOW_IPS'",
        ),
        (
            r#"{"host": "a.example", "settings": {"FLUXLIT_TRUSTED_HOPS": 1}}"#,
            "invalid propertyName 'FLUXLIT_TRUSTED_HOPS'",
        ),
        (
            r#"{"host": "a.example", "settings": {"FLUXLIT_GATEWAY_PORT": 80}}"#,
            "invalid propertyName 'FLUXLIT_GATEWAY_PORT'",
        ),
        (
            r#"{"host": "a.example", "settings": {"HSTS": "true"}}"#,
            "invalid propertyName 'HSTS'",
        ),
        // A secret belongs into a Secret.
        (
            r#"{"host": "a.example", "settings": {"FLUXLIT_PROBE_KEY": "0123456789abcdef"}}"#,
            "invalid propertyName 'FLUXLIT_PROBE_KEY'",
        ),
        (
            r#"{"host": "a.example", "app": {"env": [{"name": "FLUXLIT_TRUST_PROXY", "value": "1"}]}}"#,
            "/app/env/0/name",
        ),
        // Unknown names and wrong types.
        (
            r#"{"host": "a.example", "cookiePath": "host"}"#,
            "/cookiePath",
        ),
        (r#"{"host": "a.example", "replica": 2}"#, "replica"),
        (r#"{"host": "a.example", "replicas": "2"}"#, "/replicas"),
        (
            r#"{"host": "a.example", "image": {"repositry": "x"}}"#,
            "repositry",
        ),
        (r#"{"host": "a.example", "image": {"tag": ""}}"#, "/image"),
        (
            r#"{"host": "a.example", "image": {"digest": "sha256:12"}}"#,
            "/image/digest",
        ),
        (
            r#"{"host": "a.example", "app": {"image": {"repository": "x"}}}"#,
            "/app/image",
        ),
        (
            r#"{"host": "a.example", "front": {"kind": "nginx"}}"#,
            "/front/kind",
        ),
        (
            r#"{"host": "a.example", "front": {"namespace": ""}}"#,
            "/front/namespace",
        ),
        (
            r#"{"host": "a.example", "front": {"istio": {"principals": ["*"]}}}"#,
            "/front/istio/principals/0",
        ),
        (r#"{"host": "a.example", "runAsUser": 0}"#, "/runAsUser"),
        (
            r#"{"host": "a.example", "resources": {"limits": {"memory": "64MiB"}}}"#,
            "/resources/limits/memory",
        ),
        (r#"{"host": "a.example", "tmpSize": "1 GB"}"#, "/tmpSize"),
        (
            r#"{"host": "a.example", "stop": {"graceSeconds": 0}}"#,
            "/stop/graceSeconds",
        ),
        (
            r#"{"host": "a.example", "idleTimeoutSeconds": 30}"#,
            "/idleTimeoutSeconds",
        ),
        (
            r#"{"host": "a.example", "doctor": {"schedule": "often"}}"#,
            "/doctor/schedule",
        ),
        (
            r#"{"host": "a.example", "doctor": {"options": ["rm -r /"]}}"#,
            "/doctor/options/0",
        ),
        // What needs metrics, without metrics.
        (
            r#"{"host": "a.example", "autoscaling": {"enabled": true}}"#,
            "/monitoring/enabled",
        ),
        (
            r#"{"host": "a.example", "monitoring": {"serviceMonitor": {"enabled": true}}}"#,
            "/monitoring/serviceMonitor",
        ),
        (
            r#"{"host": "a.example", "monitoring": {"prometheusRule": {"enabled": true}}}"#,
            "/monitoring/prometheusRule",
        ),
    ] {
        let file = folder.path().join("values.json");
        std::fs::write(&file, values).expect("written");
        match template(folder.path(), &["--values", &file.to_string_lossy()]) {
            Ok(_) => panic!("{values} was accepted"),
            Err(error) => assert!(
                error.contains(wanted),
                "{values}: {wanted:?} is not in {error}"
            ),
        }
    }
}

/// Returns what `fluxlit-gateway config --for` this front prints for the app of the overlays, with more settings.
fn printed(front: &str, more: &[(&'static str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("printed.yaml");
    let settings = [
        ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501"),
        (
            "FLUXLIT_PUBLIC_BASE_URL",
            "https://portal.example.com/apps/my-app",
        ),
        ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
        ("FLUXLIT_ROOT_PATH_SHAPE", "full"),
    ];
    let settings: Vec<(&str, String)> = settings
        .iter()
        .chain(more)
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    print(front, &settings, &[], &path);
    std::fs::read_to_string(&path).expect("the printed file")
}

/// `fluxlit-gateway config --for kubernetes` and the chart deploy the same thing.
#[test]
fn the_chart_contains_what_the_gateway_prints() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = printed(
        "kubernetes",
        &[
            ("FLUXLIT_TRUST_PROXY", "true"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "10.244.0.0/16"),
            ("FLUXLIT_GRACE_PERIOD_S", "30"),
        ],
    );
    let values = deploy("helm/values/ingress.yaml");
    let chart =
        template(folder.path(), &["--values", &values.to_string_lossy()]).expect("rendered");
    let (printed, chart) = (Documents::read(&text), Documents::read(&chart));
    assert_eq!(
        printed.kinds(),
        ["Deployment", "Service", "Ingress", "NetworkPolicy"]
    );
    let own = printed.gateway_settings();
    let in_chart = chart.gateway_settings();
    for (name, value) in &own {
        assert_eq!(in_chart.get(name), Some(value), "{name}");
    }
    for kind in printed.kinds() {
        let mut printed = printed.one(kind).clone();
        if kind == "Deployment" {
            // The chart has the settings, compared above, in a ConfigMap.
            let container = "/spec/template/spec/containers/0";
            let container = printed
                .pointer_mut(container)
                .and_then(Value::as_object_mut);
            container.expect("a container").remove("env");
        }
        let missing = difference(&printed, chart.one(kind));
        assert!(
            missing.is_empty(),
            "{kind}: the chart does not have {missing:#?}"
        );
    }
}

/// The notes after an installation warn about what is missing.
#[test]
fn notes_name_the_url_and_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let notes = |values: &str| {
        let file = folder.path().join("values.json");
        std::fs::write(&file, values).expect("written");
        let mut command = helm(folder.path());
        command
            .args(["install", "my-app"])
            .arg(deploy("helm/fluxlit-edge"))
            .args(["--dry-run=client", "--namespace", "my-team", "--values"])
            .arg(&file);
        let text = run(&mut command).unwrap_or_else(|error| panic!("{values}: {error}"));
        let (_, notes) = text
            .split_once("NOTES:")
            .unwrap_or_else(|| panic!("no notes in {text}"));
        notes.to_owned()
    };
    let trust = r#""trust": {"proxy": true, "networks": ["10.0.0.1"]}"#;
    for (values, wanted, warnings) in [
        (
            format!(r#"{{"host": "a.example", "mount": "/x", {trust}}}"#),
            "doctor --probe https://a.example/x/",
            0,
        ),
        (
            format!(r#"{{"host": "a.example", {trust}}}"#),
            "helm test my-app --namespace my-team",
            0,
        ),
        (
            r#"{"host": "a.example"}"#.to_owned(),
            "trust.proxy is false",
            1,
        ),
        (
            format!(r#"{{"host": "a.example", {trust}, "networkPolicy": {{"enabled": false}}}}"#),
            "every pod of the cluster",
            1,
        ),
        (
            format!(
                r#"{{"host": "a.example", {trust}, "replicas": 2, "front": {{"kind": "none"}}}}"#
            ),
            "the same replica",
            1,
        ),
    ] {
        let notes = notes(&values);
        assert!(
            notes.contains(wanted),
            "{values}: {wanted:?} is not in {notes}"
        );
        assert_eq!(
            notes.matches("WARNING").count(),
            warnings,
            "{values}: {notes}"
        );
    }
}
