//! Asks an Envoy for its version.

use std::path::Path;
use std::process::Command;

/// Returns the version that an Envoy says it is.
pub(crate) fn version(envoy: &Path) -> String {
    let output = Command::new(envoy)
        .arg("--version")
        .output()
        .expect("Envoy runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // PATH  version: HASH/VERSION/Clean/RELEASE/BoringSSL
    let version = text
        .split_once("version: ")
        .and_then(|(_, build)| build.split('/').nth(1));
    version
        .unwrap_or_else(|| panic!("no version in {text}"))
        .to_owned()
}
