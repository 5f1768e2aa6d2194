//! Has the gateway's program print the configuration of a front.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxlit_support::certificate::CertificateFiles;

use crate::front::Program;
use crate::programs::named;

/// Runs `fluxlit-gateway config --for` with these settings and options, and writes the files to `output`. Returns the warnings.
///
/// # Panics
///
/// If the program fails.
pub fn print(
    front: &str,
    settings: &[(&str, String)],
    options: &[String],
    output: &Path,
) -> String {
    let mut command = Command::new(named("FLUXLIT_TEST_GATEWAY"));
    command
        .args(["config", "--for", front, "--output"])
        .arg(output)
        .args(options)
        .envs(settings.iter().map(|(name, value)| (name, value)));
    let printed = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let messages = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(printed.status.success(), "{command:?}: {messages}");
    messages
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the options for a front on this address. `tls`: the certificate of the front, and where it redirects from http.
///
/// # Panics
///
/// If a file of the certificate cannot be read, or one next to it cannot be written.
#[must_use]
pub fn options(
    program: Program,
    listen: SocketAddr,
    tls: Option<(&CertificateFiles, SocketAddr)>,
) -> Vec<String> {
    let mut options = vec!["--listen".to_owned(), listen.to_string()];
    if let Some((certificate, listen_http)) = tls {
        let file = match program {
            Program::Haproxy | Program::HaproxyRecent => both(certificate),
            _ => certificate.certificate.clone(),
        };
        options.extend([
            "--certificate".to_owned(),
            file.display().to_string(),
            "--key".to_owned(),
            certificate.key.display().to_string(),
            "--listen-http".to_owned(),
            listen_http.to_string(),
        ]);
    }
    if program == Program::Envoy {
        let filter = named("FLUXLIT_TEST_FILTER").display().to_string();
        options.extend(["--filter".to_owned(), filter]);
    }
    options
}

/// Reads the settings that a printed file asks for.
///
/// # Panics
///
/// If the file cannot be read or asks for none.
#[must_use]
pub fn needed_settings(file: &Path) -> Vec<(&'static str, String)> {
    let text = std::fs::read_to_string(file).expect("the file was printed");
    let settings: Vec<(&'static str, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   ")?.split_once('='))
        .filter_map(|(name, value)| {
            let known = [
                "FLUXLIT_ROOT_PATH",
                "FLUXLIT_ROOT_PATH_SHAPE",
                "FLUXLIT_PUBLIC_BASE_URL",
                "FLUXLIT_TRUST_PROXY",
                "FLUXLIT_FORWARDED_ALLOW_IPS",
            ];
            let name = known.into_iter().find(|known| *known == name)?;
            Some((name, value.to_owned()))
        })
        .collect();
    assert!(settings.len() >= 3, "{text}");
    settings
}

/// Writes certificate and key to one file.
fn both(certificate: &CertificateFiles) -> PathBuf {
    let read = |path| std::fs::read_to_string(path).expect("the file can be read");
    let text = [read(&certificate.certificate), read(&certificate.key)].concat();
    let path = certificate.certificate.with_file_name("both.pem");
    std::fs::write(&path, text).expect("the file can be written");
    path
}
