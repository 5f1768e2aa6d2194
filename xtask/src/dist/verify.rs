//! Uses the files of a release as their users do, with other programs than those that wrote them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use fluxlit_support::certificate::Certificate;
use fluxlit_support::client::get;
use fluxlit_support::port::{free_port, local};
use fluxlit_support::process::Process;
use fluxlit_support::wait::wait_until;

use super::build::Platform;
use super::{CHECKSUMS, GATEWAY, PRODUCTS, PROGRAMS, Part, VERSION, output};
use crate::containers::Containers;
use crate::setup;
use crate::steps::{root, step, target};

/// Checks the files of these parts in a folder.
pub(super) fn verify(folder: &Path, parts: &[Part]) -> anyhow::Result<()> {
    let scratch = target().join("dist-verify");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    output(
        Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", CHECKSUMS])
            .current_dir(folder),
    )?;
    for part in parts {
        match part {
            Part::Chart => step("verifying the chart with Helm", || chart(folder, &scratch))?,
            Part::Filter => step("verifying the image of the filter with skopeo", || {
                let bare = folder.join(format!("fluxlit-filter-{VERSION}.wasm"));
                image(&filter_image(folder), "plugin.wasm", &bare, &scratch)
            })?,
            Part::Programs => step("running the executables", || {
                programs(folder, &scratch, Platform::X86_64)
            })?,
            Part::ProgramsArm64 => step("running the executables for arm64", || {
                programs(folder, &scratch, Platform::Arm64)
            })?,
            Part::Sboms => step("validating the software bills of materials", || {
                sboms(folder)
            })?,
            // The tests of each program compare it with its schema.
            Part::Schemas => {}
        }
    }
    Ok(())
}

/// Each document has the form of its standard.
fn sboms(folder: &Path) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".cdx.json") || name.ends_with(".spdx.json") {
            documents.push(path);
        }
    }
    ensure!(
        documents.len() == 2 * PRODUCTS.len(),
        "{} documents for {} products",
        documents.len(),
        PRODUCTS.len()
    );
    let mut python = Command::new(setup::sbom_python()?);
    output(
        python
            .args(["-c", include_str!("sboms.py")])
            .args(documents),
    )?;
    Ok(())
}

/// The archive is a valid chart, and renders the same manifests as the folder it was made of.
fn chart(folder: &Path, scratch: &Path) -> anyhow::Result<()> {
    let programs = setup::kubernetes()?;
    let helm = programs
        .iter()
        .find(|(variable, _)| *variable == "FLUXLIT_TEST_HELM")
        .context("there is no Helm")?;
    let run = |arguments: &[&str], chart: &Path| {
        let mut command = Command::new(&helm.1);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, scratch.join(name));
        }
        let values = root().join("deploy/helm/values/production.yaml");
        command.args(arguments).arg(chart);
        if arguments != ["show", "chart"] {
            command.arg("--values").arg(values);
        }
        output(&mut command)
    };
    let archive = folder.join(format!("fluxlit-edge-{VERSION}.tgz"));
    run(&["lint", "--strict"], &archive)?;
    let shown = String::from_utf8(run(&["show", "chart"], &archive)?)?;
    ensure!(
        shown
            .lines()
            .any(|line| line == format!("version: {VERSION}")),
        "the chart has another version: {shown}"
    );
    let from_archive = run(&["template", "my-app"], &archive)?;
    let from_folder = run(
        &["template", "my-app"],
        &root().join("deploy/helm/fluxlit-edge"),
    )?;
    ensure!(
        from_archive == from_folder && !from_archive.is_empty(),
        "the archive of the chart renders other manifests than its folder"
    );
    Ok(())
}

fn filter_image(folder: &Path) -> PathBuf {
    folder.join(format!("fluxlit-filter-{VERSION}-oci.tar"))
}

fn gateway_image(folder: &Path, platform: Platform) -> PathBuf {
    let architecture = platform.architecture();
    folder.join(format!("{GATEWAY}-{VERSION}-{architecture}-oci.tar"))
}

/// The image has the digest that its index names, and `name` in its only layer is the same as the file `bare`.
fn image(archive: &Path, name: &str, bare: &Path, scratch: &Path) -> anyhow::Result<()> {
    let skopeo = setup::debian("skopeo", "skopeo")?;
    let image = format!("oci-archive:{}", archive.display());
    let inspected = output(Command::new(&skopeo).arg("inspect").arg(&image))?;
    let inspected: serde_json::Value = serde_json::from_slice(&inspected)?;
    let index = output(
        Command::new("tar")
            .arg("xOf")
            .arg(archive)
            .arg("index.json"),
    )?;
    let index: serde_json::Value = serde_json::from_slice(&index)?;
    ensure!(
        inspected["Digest"] == index["manifests"][0]["digest"] && inspected["Digest"].is_string(),
        "the image has the digest {}, and its index names {}",
        inspected["Digest"],
        index["manifests"][0]["digest"]
    );
    let fetched = scratch.join("image").join(name);
    std::fs::create_dir_all(&fetched)?;
    // It compares every part with its digest.
    output(
        Command::new(&skopeo)
            .args(["copy", "--quiet"])
            .arg(&image)
            .arg(format!("dir:{}", fetched.display())),
    )?;
    let layer = inspected["Layers"][0].as_str().context("no layer")?;
    let layer = fetched.join(layer.trim_start_matches("sha256:"));
    let found = output(Command::new("tar").arg("xzOf").arg(layer).arg(name))?;
    ensure!(found == std::fs::read(bare)?, "the image has another file");
    Ok(())
}

/// Each executable says what it is; the gateway serves HTTPS, and the test host runs the filter.
fn programs(folder: &Path, scratch: &Path, platform: Platform) -> anyhow::Result<()> {
    let triple = platform.triple();
    let scratch = scratch.join(triple);
    std::fs::create_dir_all(&scratch)?;
    for (_, name) in PROGRAMS {
        let program = unpack(folder, &scratch, name, triple)?;
        let run = || platform.run(&program);
        let version = String::from_utf8(output(run()?.arg("--version"))?)?;
        let is_right = version.contains(VERSION)
            && version.contains(&format!("target: {triple}"))
            && !version.contains("commit: unknown");
        ensure!(is_right, "{name} says {version}");
        if name == "host-test" {
            output(
                run()?
                    .arg("run")
                    .arg("--filter")
                    .arg(setup::filter()?)
                    .arg("--cases")
                    .arg(root().join("cases/hsts.json")),
            )?;
        } else {
            serves(run()?, &scratch).context(name)?;
            image(&gateway_image(folder, platform), name, &program, &scratch)?;
        }
    }
    Ok(())
}

/// Unpacks an archive; returns the executable in it.
fn unpack(folder: &Path, scratch: &Path, name: &str, triple: &str) -> anyhow::Result<PathBuf> {
    let archive = folder.join(format!("{name}-{VERSION}-{triple}.tar.gz"));
    output(
        Command::new("tar")
            .arg("xzf")
            .arg(&archive)
            .arg("-C")
            .arg(scratch),
    )?;
    let unpacked = scratch.join(format!("{name}-{VERSION}"));
    for file in ["LICENSE", "licences.txt", "completions", "man/man1"] {
        ensure!(
            unpacked.join(file).exists(),
            "{file} is not in {}",
            archive.display()
        );
    }
    Ok(unpacked.join(name))
}

fn serves(mut gateway: Command, scratch: &Path) -> anyhow::Result<()> {
    let certificate = Certificate::create_files(scratch, &["127.0.0.1"])?;
    let listen = local(free_port()?);
    gateway
        .args(["run", "--streamlit-upstream", "http://127.0.0.1:9"])
        .env("FLUXLIT_GATEWAY_PORT", listen.port().to_string())
        .env("FLUXLIT_TLS_CERTIFICATE", &certificate.certificate)
        .env("FLUXLIT_TLS_KEY", &certificate.key);
    let mut gateway = Process::start(gateway)?;
    let is_alive = wait_until(Duration::from_secs(120), || {
        get(listen, "/api/healthz", Some(&certificate.certificate))
            .is_ok_and(|response| response.status == 200)
            || !matches!(gateway.ended(), Ok(None))
    });
    ensure!(
        is_alive && matches!(gateway.ended(), Ok(None)),
        "it does not serve HTTPS"
    );
    Ok(())
}

/// Loads the images into podman, as the storage of an engine.
pub(super) fn load_images(folder: &Path) -> anyhow::Result<()> {
    let containers = Containers::find()?;
    for archive in [
        filter_image(folder),
        gateway_image(folder, Platform::X86_64),
        gateway_image(folder, Platform::Arm64),
    ] {
        let loaded = output(
            Command::new("podman")
                .envs(containers.variables())
                .args(["load", "--quiet", "--input"])
                .arg(&archive),
        )?;
        let loaded = String::from_utf8(loaded)?;
        ensure!(loaded.contains("Loaded image"), "podman says: {loaded}");
    }
    Ok(())
}
