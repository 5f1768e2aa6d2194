//! Probes a deployed edge from outside: `fluxlit-gateway doctor --probe`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use fluxlit_doctor::client::{ConnectTo, Credentials, Site, Tls};
use fluxlit_doctor::probe::{self, Options};
use fluxlit_doctor::{CheckSelection, Finding, Step};
use fluxlit_policy::ProbeKey;

use crate::exit::Unusable;

/// What concerns a deployed edge.
#[derive(Debug, Args)]
pub(crate) struct ProbeArguments {
    /// Check a deployed edge from outside, whatever it consists of, by the URL that browsers use
    #[arg(long, value_name = "URL", conflicts_with_all = ["lint", "page"])]
    pub(crate) probe: Option<String>,
    /// Hold a silent WebSocket for this many seconds; 0 leaves it out
    #[arg(long, value_name = "SECONDS", default_value_t = 75, requires = "probe")]
    hold: u64,
    /// Send large messages and uploads to the app as well
    #[arg(long, requires = "probe")]
    write: bool,
    /// Read cookies from this file: a Cookie line, or the format of curl and browsers
    #[arg(long, value_name = "FILE", requires = "probe")]
    cookie_file: Option<PathBuf>,
    /// Read header fields from this file, one `Name: value` a line
    #[arg(long, value_name = "FILE", requires = "probe")]
    header_file: Option<PathBuf>,
    /// Read the probe key of filter and gateway (FLUXLIT_PROBE_KEY) from this file
    #[arg(long, value_name = "FILE", requires = "probe")]
    token_file: Option<PathBuf>,
    /// Trust the certificates in this PEM file as well
    #[arg(long, value_name = "FILE", requires = "probe")]
    ca_file: Option<PathBuf>,
    /// Connect to this address instead of those of the URL's host, as for a front that DNS does not point to yet; with the
    /// port of a URL in front, only for it: 80=192.0.2.1:8080. Can be given several times, as for an address of each family
    #[arg(long, value_name = "[PORT=]ADDRESS:PORT", requires = "probe")]
    connect_to: Vec<ConnectTo>,
    /// Compare with the app without the front, at this URL
    #[arg(long, value_name = "URL", requires = "probe")]
    direct: Option<String>,
    /// Check whether a page of this origin may embed the app
    #[arg(long, value_name = "ORIGIN", requires = "probe")]
    embed: Option<String>,
}

/// Probes `url` and returns it with what was found.
pub(crate) fn check(
    arguments: &ProbeArguments,
    url: &str,
    selection: &CheckSelection,
    runtime: &tokio::runtime::Runtime,
    progress: impl FnOnce() -> Box<dyn FnMut(Step<'_>)>,
) -> anyhow::Result<(String, Vec<Finding>)> {
    let mut site = Site::parse(url).map_err(unusable)?;
    site.connect_to.clone_from(&arguments.connect_to);
    let options = options(arguments).map_err(Unusable)?;
    let target = site.url();
    let findings = runtime.block_on(async {
        let progress = progress();
        probe::run(site, options, selection, progress).await
    });
    Ok((target, findings.map_err(unusable)?))
}

fn options(arguments: &ProbeArguments) -> anyhow::Result<Options> {
    let mut credentials = Credentials::default();
    if let Some(path) = &arguments.cookie_file {
        credentials.add_cookies(&read(path, "--cookie-file")?)?;
    }
    if let Some(path) = &arguments.header_file {
        credentials.add_fields(&read(path, "--header-file")?)?;
    }
    let key = match &arguments.token_file {
        Some(path) => Some(ProbeKey::new(&read(path, "--token-file")?)?),
        None => None,
    };
    let site = |url: &Option<String>| url.as_deref().map(Site::parse).transpose();
    Ok(Options {
        credentials,
        tls: Tls::new(arguments.ca_file.as_deref())?,
        key,
        hold: Duration::from_secs(arguments.hold),
        may_write: arguments.write,
        direct: site(&arguments.direct).context("--direct")?,
        embed: site(&arguments.embed).context("--embed")?,
    })
}

fn read(path: &Path, flag: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{flag}: cannot read {}", path.display()))
}

/// A site that cannot be reached counts as wrong usage, as in FluxLit's doctor.
fn unusable(error: impl Into<anyhow::Error>) -> Unusable {
    Unusable(error.into())
}
