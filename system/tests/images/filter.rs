//! Publishes the filter in a real registry, and fetches it as Istio's agent and Envoy Gateway do.
//!
//! They accept an image whose last layer is a gzip-compressed tar archive with a file `plugin.wasm`, of at most 256 MiB
//! (Istio, `pkg/wasm/imagefetcher.go`).

use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_support::client::get;
use fluxlit_support::container::output;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::service::Service;
use fluxlit_system::named;
use serde_json::Value;

/// The name and the digest under which the image is fetched come from the registry, not from the files.
#[test]
fn the_filter_comes_back_from_a_registry_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_registry, registry) = registry(folder.path());
    let layout = layout();
    let pushed = format!("docker://{registry}/fluxlit/filter:1");
    skopeo(
        &["copy", "--dest-tls-verify=false"],
        &[&oci(&layout), &pushed],
    );

    let digest = skopeo(
        &["inspect", "--tls-verify=false", "--format", "{{.Digest}}"],
        &[&pushed],
    );
    let index = json(&layout.join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], digest.trim());

    let by_digest = format!("docker://{registry}/fluxlit/filter@{}", digest.trim());
    let fetched = folder.path().join("fetched");
    // It compares every part with its digest.
    skopeo(
        &["copy", "--src-tls-verify=false"],
        &[&by_digest, &format!("dir:{}", fetched.display())],
    );
    let manifest = json(&fetched.join("manifest.json"));
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    let layer = manifest["layers"]
        .as_array()
        .and_then(|layers| layers.last());
    let layer = layer.expect("a layer");
    assert_eq!(
        layer["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let digest = layer["digest"].as_str().expect("a digest");
    let archive = fetched.join(digest.trim_start_matches("sha256:"));
    let listed = output(Command::new("tar").arg("tzf").arg(&archive));
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "plugin.wasm\n");
    let module = output(
        Command::new("tar")
            .arg("xzOf")
            .arg(&archive)
            .arg("plugin.wasm"),
    );
    assert!(
        module.stdout == built(),
        "the module has changed on its way"
    );
}

/// For Envoy without an agent, and for the field `sha256` of WasmPlugin and EnvoyExtensionPolicy.
#[test]
fn the_bare_module_has_a_checksum() {
    let folder = layout();
    let folder = folder.parent().expect("a folder");
    let module = std::fs::read(folder.join("plugin.wasm")).expect("the module");
    assert!(module == built(), "the module is another one");
    // `sha256sum` checks the file, as a user would.
    let mut check = Command::new("sha256sum");
    let checked = output(
        check
            .args(["--check", "--strict", "plugin.wasm.sha256"])
            .current_dir(folder),
    );
    assert!(checked.status.success(), "{checked:?}");
}

fn layout() -> PathBuf {
    named("FLUXLIT_TEST_FILTER_LAYOUT")
}

fn built() -> Vec<u8> {
    std::fs::read(named("FLUXLIT_TEST_FILTER")).expect("the filter")
}

fn oci(layout: &Path) -> String {
    format!("oci:{}", layout.display())
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

fn skopeo(options: &[&str], places: &[&str]) -> String {
    let output = output(Command::new("skopeo").args(options).args(places));
    assert!(
        output.status.success(),
        "{options:?} {places:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts a registry with an empty storage; returns its address.
fn registry(folder: &Path) -> (Service, String) {
    let address = local(free_port().expect("a port"));
    let storage = folder.join("registry");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    let file = folder.join("registry.yml");
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&file);
    let service = Service::start(
        "the registry",
        command,
        &folder.join("registry.log"),
        |_| get(address, "/v2/", None).is_ok_and(|response| response.status == 200),
    );
    (service.expect("the registry starts"), address.to_string())
}
