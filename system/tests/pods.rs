//! Runs the pods that the Helm chart and the Kustomize base describe with `podman kube play`, and checks the app through Envoy
//! in front of them.
//!
//! What podman has no counterpart for is left out: Services, Ingresses, NetworkPolicies and the like. `startupProbe` and
//! `readinessProbe` are run here. This changes the network of the machine, so it runs in a network namespace of its own:
//! `cargo xtask test images` makes one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_support::certificate::Certificate;
use fluxlit_support::container::{Container, output};
use fluxlit_support::port::{free_port, local};
use fluxlit_system::front::{Front, Program};
use fluxlit_system::named;
use fluxlit_system::printed::{options, print};
use fluxlit_system::published::{Check, Published};
use fluxlit_system::visitor::Visitor;
use serde_json::{Value, json};

const HOST: &str = "portal.example.com";
const MOUNT: &str = "/apps/my-app";

#[test]
fn the_pod_of_the_chart_serves_the_app() {
    let script = format!("app.script=\"{SCRIPT}\"");
    let chart = helm(
        "ingress.yaml",
        &[
            &script,
            "settings.FLUXLIT_HSTS=\"true\"",
            "doctor.options=[\"--ca-file=/etc/doctor/certificate.pem\"]",
            "doctor.secret=\"doctor\"",
        ],
        &[("image", &image("APP"))],
    );
    let pod = Pod::start(&chart, None);
    pod.check(|_| true);
    pod.check_doctors(&chart);
    pod.check_probes("gateway");
    pod.check_health("gateway");
    pod.check_confinement("gateway", "1073741824");
    pod.drains();
}

/// The gateway has an image without a shell here, and Streamlit has its own.
#[test]
fn the_pod_with_two_containers_serves_the_app() {
    let chart = helm(
        "two-containers.yaml",
        &["app.env=[]"],
        &[("image", &image("GATEWAY")), ("app.image", &image("APP"))],
    );
    let pod = Pod::start(&chart, None);
    // There is no API.
    pod.check(|name| ["health", "readiness", "page", "WebSocket"].contains(&name));
    pod.check_probes("gateway");
    pod.check_probes("app");
    pod.check_confinement("gateway", "268435456");
    pod.check_confinement("app", "1073741824");
    pod.drains();
}

#[test]
fn the_pod_of_the_overlay_serves_the_app() {
    let mut kubectl = Command::new(named("FLUXLIT_TEST_KUBECTL"));
    let overlay = succeed(
        kubectl
            .arg("kustomize")
            .arg(deploy("kubernetes/overlays/ingress")),
    );
    let pod = Pod::start(&overlay, Some(&image("APP")));
    // The Ingress sends HSTS in this overlay.
    pod.check(|name| name != "HSTS");
    pod.check_probes("gateway");
    pod.check_health("gateway");
    pod.check_confinement("gateway", "1073741824");
    pod.drains();
}

/// A running pod, with Envoy and the filter in front of it. Dropping it removes the pod.
struct Pod {
    name: String,
    containers: Vec<Value>,
    file: PathBuf,
    published: Published,
    _front: Front,
    /// With the certificate of the front.
    folder: tempfile::TempDir,
}

impl Pod {
    /// Starts the pod of the Deployment among these manifests. `image`: that of the app, in place of the published one.
    fn start(manifests: &str, image: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port().expect("a free port");
        let mut documents = documents(manifests);
        for map in documents
            .iter_mut()
            .filter(|found| found["kind"] == "ConfigMap")
        {
            if let Some(trusted) = map.pointer_mut("/data/FLUXLIT_FORWARDED_ALLOW_IPS") {
                *trusted = json!(BRIDGE);
            }
        }
        let of = |kind: &'static str| documents.iter().filter(move |found| found["kind"] == kind);
        let mut deployment = of("Deployment").next().expect("a Deployment").clone();
        // The only changes: the trusted network, one replica, a port of this machine, and the name of the image.
        deployment["spec"]["replicas"] = json!(1);
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array_mut();
        let containers = containers.expect("containers");
        let of_gateway = &mut containers[0];
        of_gateway["ports"][0]["hostPort"] = json!(port);
        of_gateway["ports"][0]["hostIP"] = json!("127.0.0.1");
        if let Some(image) = image {
            of_gateway["image"] = json!(image);
            of_gateway["command"][2] = json!(SCRIPT);
        }
        let containers = containers.clone();
        let settings: Vec<(String, String)> = of("ConfigMap")
            .filter(|map| {
                containers[0]["envFrom"][0]["configMapRef"]["name"] == map["metadata"]["name"]
            })
            .flat_map(|map| map["data"].as_object().expect("data").clone())
            .map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let file = folder.path().join("pod.yaml");
        let parts: Vec<String> = of("ConfigMap")
            .chain([&deployment])
            .map(Value::to_string)
            .collect();
        std::fs::write(&file, parts.join("\n---\n")).expect("written");
        // A pod of a run that was interrupted may be left.
        succeed(podman(&["kube", "play", "--replace"]).arg(&file));
        let name = deployment["metadata"]["name"].as_str().expect("a name");
        let name = format!("{name}-pod-0");

        let gateway = local(port);
        let (front, published) = front(folder.path(), gateway, [443, 80], &settings);
        let pod = Self {
            name,
            containers,
            file,
            published,
            _front: front,
            folder,
        };
        pod.container("gateway")
            .wait_until("ready", || pod.published.readiness().is_ok());
        pod
    }

    /// Runs the checks with these names.
    fn check(&self, is_wanted: impl Fn(&str) -> bool) {
        let wanted = |(name, _): &(&str, Check)| is_wanted(name);
        let mut failures = String::new();
        for (name, check) in Published::CHECKS.into_iter().filter(wanted) {
            if let Err(found) = check(&self.published) {
                failures.push_str(&format!("{name}: {found}\n"));
            }
        }
        let log = self.container("gateway").log();
        assert!(failures.is_empty(), "{failures}\n{log}");
    }

    /// Runs each probe of a container as a kubelet does: in the container, by its own program.
    fn check_probes(&self, name: &str) {
        let spec = self.containers.iter().find(|spec| spec["name"] == name);
        let spec = spec.expect("a container");
        let mut count = 0;
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let Some(command) = spec[probe]["exec"]["command"].as_array() else {
                continue;
            };
            let words = command.iter().map(|word| word.as_str().expect("a word"));
            succeed(podman(&["exec", &format!("{}-{name}", self.name)]).args(words));
            count += 1;
        }
        assert!(count >= 2, "{name} has {count} probes");
    }

    /// Runs the doctors that the manifests start from time to time. The pod of `helm test` has the same template, with fewer
    /// options.
    fn check_doctors(&self, manifests: &str) {
        let documents = documents(manifests);
        let of_kind = documents.iter().filter(|found| found["kind"] == "CronJob");
        let mut count = 0;
        for job in of_kind {
            let container =
                &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
            let words = container["command"].as_array().expect("a command");
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            let ["fluxlit-gateway", arguments @ ..] = &words[..] else {
                panic!("{words:?}");
            };
            let options = [
                format!("--add-host={HOST}:127.0.0.1"),
                format!(
                    "--volume={}/certificate.pem:/etc/doctor/certificate.pem:ro",
                    self.folder.path().display()
                ),
            ];
            let image = container["image"].as_str().expect("an image");
            let doctor = Container::start(image, &options, arguments);
            assert_eq!(doctor.exit_code(), "0", "{words:?}: {}", doctor.log());
            count += 1;
        }
        assert_eq!(count, 3);
    }

    /// Checks the container by podman's own health check, which it makes of the liveness probe. It needs a shell in the image,
    /// and a command that the shell does not change.
    fn check_health(&self, name: &str) {
        assert!(self.container(name).is_healthy(), "{name}");
    }

    /// Checks in the kernel what the manifest asks for. `memory`: the limit, in bytes.
    fn check_confinement(&self, name: &str, memory: &str) {
        let container = self.container(name);
        container.check_confinement();
        assert_eq!(container.inspect("{{.HostConfig.Memory}}"), memory);
    }

    /// Stops the gateway as a kubelet does, and checks that it has ended by itself.
    fn drains(&self) {
        let container = self.container("gateway");
        container.stop();
        assert_eq!(container.exit_code(), "0", "{}", container.log());
    }

    fn container(&self, name: &str) -> Container {
        Container::existing(&format!("{}-{name}", self.name))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = output(podman(&["kube", "down"]).arg(&self.file));
    }
}

/// Starts Envoy with the configuration that the gateway's program prints for the settings of the pod.
fn front(
    folder: &Path,
    gateway: SocketAddr,
    ports: [u16; 2],
    settings: &[(String, String)],
) -> (Front, Published) {
    let [listen, listen_http] = ports.map(local);
    let certificate = Certificate::create_files(folder, &[HOST]).expect("a certificate");
    let program = Program::Envoy;
    let mut options = options(program, listen, Some((&certificate, listen_http)));
    options.extend(["--upstream".to_owned(), gateway.to_string()]);
    const STREAMLIT: &str = "FLUXLIT_STREAMLIT_UPSTREAM";
    let streamlit = (STREAMLIT, "http://127.0.0.1:8501".to_owned());
    let settings = settings
        .iter()
        .filter(|(name, _)| name.starts_with("FLUXLIT_") && name != STREAMLIT)
        .map(|(name, value)| (name.as_str(), value.clone()));
    let settings: Vec<(&str, String)> = settings.chain([streamlit]).collect();
    let limit = settings
        .iter()
        .find(|(name, _)| *name == "FLUXLIT_GATEWAY_MAX_PROXY_REQUEST_BODY_BYTES");
    let body_limit = limit.expect("a limit").1.parse().expect("a number");
    let file = folder.join(program.file_name());
    print(program.front(), &settings, &options, &file);
    let visitor = Visitor {
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        front: listen,
        host: HOST.to_owned(),
        trusted: Some(certificate),
        cookie: None,
    };
    let front = Front::start(program, &file, || {
        visitor.get(&format!("{MOUNT}/api/healthz"), "").is_ok()
    });
    let published = Published {
        visitor,
        mount: MOUNT.to_owned(),
        origin: format!("https://{HOST}"),
        client: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        body_limit,
        name: HOST.to_owned(),
        http: Some(listen_http),
        replaces_request_id: true,
    };
    (front.unwrap_or_else(|error| panic!("{error}")), published)
}

/// Renders the chart with a file of `deploy/helm/values`, these values, and these images.
fn helm(values: &str, set: &[&str], images: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut helm = Command::new(named("FLUXLIT_TEST_HELM"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(name, folder.path().join(name));
    }
    helm.args(["template", "my-app"])
        .arg(deploy("helm/fluxlit-edge"))
        .arg("--values")
        .arg(deploy("helm/values").join(values));
    for value in set {
        helm.args(["--set-json", value]);
    }
    for (place, image) in images {
        let (repository, tag) = image.rsplit_once(':').expect("a tag");
        helm.args(["--set", &format!("{place}.repository={repository}")])
            .args(["--set", &format!("{place}.tag={tag}")]);
    }
    succeed(&mut helm)
}

/// Reads a stream of YAML documents.
fn documents(text: &str) -> Vec<Value> {
    let parts = format!("\n{text}");
    let parts = parts.split("\n---").map(|part| {
        serde_saphyr::from_str::<Value>(part).unwrap_or_else(|error| panic!("{error}\n{part}"))
    });
    parts.filter(|document| !document.is_null()).collect()
}

fn podman(arguments: &[&str]) -> Command {
    let mut podman = Command::new("podman");
    podman.args(arguments);
    podman
}

/// Runs a program; returns its output.
fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn image(name: &str) -> String {
    named(&format!("FLUXLIT_TEST_{name}_IMAGE"))
        .display()
        .to_string()
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// The network of podman's bridges, from which Envoy's requests come.
const BRIDGE: &str = "10.89.0.0/16";

/// What the example image starts.
const SCRIPT: &str = "app:app";
