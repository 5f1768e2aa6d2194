//! Writes the filter and the gateway as OCI image layouts; beside the filter, the bare module and its SHA-256.
//!
//! Each image has one layer, a tar archive with one file. For the filter, that is `plugin.wasm`: of the forms that Istio and
//! Envoy Gateway fetch, the only one that every registry and engine accepts. The images are written here and not by an engine,
//! so that a release needs no engine, and equal files give equal digests: no file has a time, an owner or a name of the machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Subcommand;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::setup;
use crate::steps::target;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the filter as an OCI image layout for Istio and Envoy Gateway, and as bare module with its SHA-256
    Filter {
        /// Write to this folder
        #[arg(long, value_name = "FOLDER", default_value_os_t = target().join("image"))]
        output: PathBuf,
        /// Tag of the image
        #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
        tag: String,
    },
}

/// Builds the filter, and writes its files.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Filter { output, tag } = command;
    let written = filter(&setup::filter()?, output, tag)?;
    println!("{}", written.layout.display());
    println!("{}", written.digest);
    Ok(())
}

/// What was written.
pub(crate) struct Written {
    /// The folder of the image.
    pub(crate) layout: PathBuf,
    /// The digest by which the image is fetched.
    pub(crate) digest: String,
}

/// Writes the folder `filter` with the image, `plugin.wasm` and `plugin.wasm.sha256` below `output`.
pub(crate) fn filter(module: &Path, output: &Path, tag: &str) -> anyhow::Result<Written> {
    let module = std::fs::read(module).context("cannot read the filter")?;
    ensure!(
        module.len() < MAX_MODULE,
        "the filter is too large: Istio fetches at most 256 MiB"
    );
    let written = write(
        &output.join("filter"),
        tag,
        &Image {
            title: "fluxlit-filter",
            // Istio and Envoy Gateway do not read it; engines and registries want one.
            platform: ("wasip1", "wasm"),
            config: json!({}),
            file: ("plugin.wasm", 0o644, &module),
        },
    )?;
    std::fs::write(output.join("plugin.wasm"), &module)?;
    let checksum = digest(&module);
    let checksum = checksum.trim_start_matches("sha256:");
    // The form that `sha256sum --check` reads.
    std::fs::write(
        output.join("plugin.wasm.sha256"),
        format!("{checksum}  plugin.wasm\n"),
    )?;
    Ok(written)
}

/// Writes the folder `gateway` below `output`, with the image of a static executable for Linux on this architecture, such as
/// `amd64`. It is the image that `deploy/images/gateway/Containerfile` describes, without the health check, which OCI images do
/// not have.
pub(crate) fn gateway(
    executable: &Path,
    architecture: &str,
    output: &Path,
    tag: &str,
) -> anyhow::Result<Written> {
    let executable = std::fs::read(executable).context("cannot read the gateway")?;
    write(
        &output.join("gateway"),
        tag,
        &Image {
            title: "fluxlit-gateway",
            platform: ("linux", architecture),
            config: json!({
                "User": "65532:65532",
                "ExposedPorts": { "8000/tcp": {} },
                "Env": ["FLUXLIT_GATEWAY_HOST=0.0.0.0", "PATH=/"],
                "Entrypoint": ["/fluxlit-gateway"],
                "Cmd": ["run"],
                "StopSignal": "SIGTERM",
            }),
            file: ("fluxlit-gateway", 0o755, &executable),
        },
    )
}

/// An image with one file.
struct Image<'a> {
    title: &'a str,
    /// Operating system and architecture.
    platform: (&'a str, &'a str),
    /// What an engine does with it.
    config: Value,
    /// Its name, mode and content.
    file: (&'a str, u32, &'a [u8]),
}

/// Writes the layout of an image.
fn write(layout: &Path, tag: &str, image: &Image<'_>) -> anyhow::Result<Written> {
    let Image {
        title,
        platform: (system, architecture),
        config,
        file: (name, mode, content),
    } = image;
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)
        .with_context(|| format!("cannot write to {}", layout.display()))?;
    let archive = archive(name, *mode, content)?;
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(&archive)?;
    let layer = blob(
        &blobs,
        "application/vnd.oci.image.layer.v1.tar+gzip",
        &gzip.finish()?,
    )?;
    let config = json!({
        "architecture": architecture,
        "os": system,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [digest(&archive)] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": title }],
    });
    let config = blob(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config,
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.title": title,
            "org.opencontainers.image.version": tag,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    });
    let mut manifest = blob(&blobs, manifest_type, manifest.to_string().as_bytes())?;
    let digest_of_image = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    std::fs::write(layout.join("index.json"), index.to_string())?;
    std::fs::write(
        layout.join("oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
    )?;
    Ok(Written {
        layout: layout.to_owned(),
        digest: digest_of_image,
    })
}

/// Returns a tar archive with one file.
fn archive(name: &str, mode: u32, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(content.len())?);
    header.set_mode(mode);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content)?;
    Ok(archive.into_inner()?)
}

/// Writes a blob under its digest, and returns its descriptor.
fn blob(folder: &Path, media_type: &str, content: &[u8]) -> anyhow::Result<Value> {
    let digest = digest(content);
    std::fs::write(folder.join(digest.trim_start_matches("sha256:")), content)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
}

fn digest(content: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for octet in Sha256::digest(content) {
        text.push_str(&format!("{octet:02x}"));
    }
    text
}

/// The maximum of Istio's agent, unless it is configured otherwise.
const MAX_MODULE: usize = 256 * 1024 * 1024;
