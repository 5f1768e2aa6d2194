//! A certificate for trying TLS out, made on the spot.

use std::path::{Path, PathBuf};

/// A self-signed certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate; also what a client must trust.
    pub certificate: PathBuf,
    /// Its key, readable by its owner alone.
    pub key: PathBuf,
}

impl Certificate {
    /// Writes a certificate for these names and addresses into `folder`.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub fn create(folder: &Path, names: &[&str]) -> std::io::Result<Self> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(std::io::Error::other)?;
        let certificate = folder.join("certificate.pem");
        let key = folder.join("key.pem");
        std::fs::write(&certificate, made.cert.pem())?;
        write_private(&key, &made.signing_key.serialize_pem())?;
        Ok(Self { certificate, key })
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}
