//! Prints the configuration of a proxy in front of the gateway: `fluxlit-gateway config --for nginx`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use fluxlit_gateway::{Configuration, Front, FrontOptions, FrontTls, Settings, configuration};

use crate::exit::{Exit, Unusable};
use crate::output;

/// The front to configure, and what the settings do not say about it.
#[derive(Args)]
#[command(next_help_heading = "Configuration of a proxy in front")]
pub(crate) struct FrontArguments {
    /// Print a configuration for this proxy in front instead, which agrees with the settings
    #[arg(
        long = "for",
        value_name = "FRONT",
        value_parser = PossibleValuesParser::new(Front::ALL.map(Front::name)).try_map(|name| front(&name)),
        conflicts_with = "json",
    )]
    front: Option<Front>,
    /// Write the configuration to this file instead of standard output; a second file is written next to it
    #[arg(long, value_name = "FILE", requires = "front")]
    output: Option<PathBuf>,
    /// Let the front listen on this address [default: the public port, on every address]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "front")]
    listen: Option<SocketAddr>,
    /// Let the front redirect from http to https on this address [default: port 80 if it listens on port 443]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "certificate")]
    listen_http: Option<SocketAddr>,
    /// Terminate TLS at the front with this certificate, followed by those of its issuers, as PEM
    #[arg(long, value_name = "FILE", requires = "front")]
    certificate: Option<String>,
    /// Use this key of the certificate, as PEM [default: beside the certificate; HAProxy: in the same file]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<String>,
    /// Believe the forwarded headers of these proxies in front of the front, such as 10.0.0.0/8
    #[arg(
        long,
        value_name = "NETWORK",
        value_delimiter = ',',
        requires = "front"
    )]
    behind: Vec<String>,
    /// Reach the gateway at this address [default: the address that it listens on]
    #[arg(long, value_name = "HOST:PORT", requires = "front")]
    upstream: Option<String>,
    /// Run this image with the gateway and the app, for kubernetes
    #[arg(long, value_name = "NAME", requires = "front")]
    image: Option<String>,
    /// Load the filter from this file (envoy) or image (istio, envoy-gateway)
    #[arg(long, value_name = "FILE|URL", requires = "front")]
    filter: Option<String>,
}

impl FrontArguments {
    /// Prints the configuration if a front is named; returns `None` if none is.
    pub(crate) fn run(self, settings: &Settings) -> Option<anyhow::Result<Exit>> {
        let front = self.front?;
        let defaults = FrontOptions::default();
        let dynamic_file = self.output.as_deref().map(|output| {
            let path = with_suffix(output, "-dynamic");
            let path = std::path::absolute(&path).unwrap_or(path);
            path.display().to_string()
        });
        let options = FrontOptions {
            listen: self.listen,
            listen_http: self.listen_http,
            tls: self.certificate.map(|certificate| FrontTls {
                certificate,
                key: self.key,
            }),
            behind: self.behind,
            upstream: self.upstream,
            image: self.image.unwrap_or(defaults.image),
            filter: self.filter,
            dynamic_file: dynamic_file.filter(|_| front == Front::Traefik),
        };
        let printed =
            configuration(front, settings, &options).map_err(|error| Unusable(error.into()).into());
        Some(printed.and_then(|printed| {
            for warning in &printed.warnings {
                eprintln!("warning: {warning}");
            }
            print(&printed, self.output.as_deref())?;
            Ok(Exit::Done)
        }))
    }
}

/// Prints the files, separated by `---`, or writes them.
fn print(printed: &Configuration, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(output) = file else {
        let texts: Vec<&str> = printed
            .files
            .iter()
            .map(|file| file.text.as_str())
            .collect();
        return output::write(texts.join("---\n"));
    };
    for file in &printed.files {
        let path = with_suffix(output, file.suffix);
        std::fs::write(&path, &file.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Inserts the suffix before the extension.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    if suffix.is_empty() {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(suffix);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn front(name: &str) -> Result<Front, String> {
    Front::ALL
        .into_iter()
        .find(|front| front.name() == name)
        .ok_or_else(|| format!("{name} is not a front"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_stands_before_the_extension() {
        for (path, suffix, wanted) in [
            ("traefik.yml", "-dynamic", "traefik-dynamic.yml"),
            (
                "/etc/x/traefik.yml",
                "-dynamic",
                "/etc/x/traefik-dynamic.yml",
            ),
            ("traefik", "-dynamic", "traefik-dynamic"),
            ("nginx.conf", "", "nginx.conf"),
        ] {
            assert_eq!(with_suffix(Path::new(path), suffix), Path::new(wanted));
        }
    }
}
