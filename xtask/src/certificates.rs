//! Writes a certificate and its key for tests on this machine.
//!
//! The certificate is self-signed, so clients verify it against itself: `curl --cacert FOLDER/certificate.pem`. It is not for
//! servers that others use.

use std::path::Path;

use anyhow::Context as _;
use fluxlit_support::certificate::Certificate;

/// Writes `certificate.pem` and `key.pem` to a folder; the key is readable by its owner alone.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| Certificate::create_files(folder, &NAMES))
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    eprintln!(
        "wrote {} for {}",
        folder.join("certificate.pem").display(),
        NAMES.join(", ")
    );
    Ok(())
}

/// The names in the certificate.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "portal.example.test"];
