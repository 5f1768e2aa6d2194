//! Prints the URLs under which browsers reach the app: `fluxlit-gateway url`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use fluxlit_gateway::{PublicUrlError, PublicUrlTable, PublicUrls, SettingErrors, Settings};
use serde_json::json;

use crate::exit::{Exit, Unusable};
use crate::output;
use crate::target::{self, Target};

/// Print the URLs under which browsers reach the app, its pages and its API
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print only this URL; without it, print all of them
    kind: Option<Kind>,
    /// Append this path to the URL of the app, of a page or of the API, such as /reports
    path: Option<String>,
    /// Add this parameter to the query; repeat it for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_parameter, requires = "path")]
    query: Vec<(String, String)>,
    /// Take scheme and host, and the path if it has one, from this URL instead of FLUXLIT_PUBLIC_BASE_URL
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Serve the app under this path, such as /apps/my-app [env: FLUXLIT_ROOT_PATH]
    #[arg(long)]
    root_path: Option<String>,
    /// Read settings from this file [default: fluxlit.toml or pyproject.toml, if it exists] [env: FLUXLIT_SETTINGS_FILE]
    #[arg(long, value_name = "FILE")]
    settings_file: Option<PathBuf>,
}

/// What a URL leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The app, or the page PATH
    App,
    /// The API, or PATH below it
    Api,
    /// The page PATH of the app; the first one without PATH
    Page,
    /// Streamlit's WebSocket
    Websocket,
    /// The documentation of the API
    Docs,
}

/// Prints the URLs.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments {
        kind,
        path,
        query,
        base,
        json,
        root_path,
        settings_file,
    } = arguments;
    let settings = read_settings(root_path, settings_file).map_err(Unusable)?;
    let urls = public_urls(&settings, base.as_deref()).map_err(Unusable)?;
    let Some(kind) = kind else {
        let table = urls.table();
        if json {
            output::write_json(&table)?;
        } else {
            print(&table)?;
        }
        return Ok(Exit::Done);
    };
    let url = url(&urls, kind, path.as_deref(), &query).map_err(Unusable)?;
    if json {
        output::write(format!("{}\n", json!({ "url": url })))?;
    } else {
        output::write(format!("{url}\n"))?;
    }
    Ok(Exit::Done)
}

/// Prints one line for each URL: its name and the URL.
fn print(table: &PublicUrlTable) -> anyhow::Result<()> {
    let PublicUrlTable {
        app,
        api,
        docs,
        redoc,
        openapi,
        health,
        ready,
        websocket,
    } = table;
    let rows = [
        ("app", app),
        ("api", api),
        ("docs", docs),
        ("redoc", redoc),
        ("openapi", openapi),
        ("health", health),
        ("ready", ready),
        ("websocket", websocket),
    ];
    let lines = rows.map(|(name, url)| format!("{name:<9} {url}\n"));
    output::write(lines.concat())
}

/// Reads the settings. An upstream need not be named, because no URL depends on it.
fn read_settings(
    root_path: Option<String>,
    settings_file: Option<PathBuf>,
) -> anyhow::Result<Settings> {
    let mut target = Target::default();
    target.root_path = root_path;
    target.settings_file = settings_file;
    target.settings_only = true;
    let mut read = target::read_settings(&target);
    let lacks_upstream = |error: &anyhow::Error| {
        let errors = error.downcast_ref::<SettingErrors>();
        errors.is_some_and(SettingErrors::is_only_that_nothing_is_served)
    };
    if read.as_ref().is_err_and(lacks_upstream) {
        target.streamlit_upstream = Some("http://127.0.0.1:8501".to_owned());
        read = target::read_settings(&target);
    }
    Ok(read?.0)
}

fn public_urls(settings: &Settings, base: Option<&str>) -> anyhow::Result<PublicUrls> {
    let configured = settings.policy.public_base_url();
    let base = base.or(configured.as_deref()).context(
        "FLUXLIT_PUBLIC_BASE_URL is not set, and without a request it is unknown which host browsers use: set it, or pass \
         --base https://portal.example.com. The debug page (FLUXLIT_DEBUG) shows the URLs for the host of its request",
    )?;
    let api_path = settings.api.sub_app.path();
    Ok(PublicUrls::new(base, settings.policy.mount(), api_path)?)
}

fn url(
    urls: &PublicUrls,
    kind: Kind,
    path: Option<&str>,
    query: &[(String, String)],
) -> anyhow::Result<String> {
    let query = query
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let of = |url: Result<String, PublicUrlError>| Ok(url?);
    match (kind, path) {
        (Kind::App, None) => Ok(urls.app().to_owned()),
        (Kind::Api, None) => Ok(urls.api()),
        (Kind::App | Kind::Page, path) => of(urls.page(path.unwrap_or("/"), query)),
        (Kind::Api, Some(path)) => of(urls.api_path(path, query)),
        (Kind::Websocket | Kind::Docs, path) => {
            ensure!(path.is_none(), "this URL has no PATH below it");
            Ok(match kind {
                Kind::Docs => urls.docs(),
                _ => urls.websocket(),
            })
        }
    }
}

fn read_parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "write NAME=VALUE, such as year=2026".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

const EXAMPLES: &str = "\
Examples:
  FLUXLIT_PUBLIC_BASE_URL=https://portal.example.com fluxlit-gateway url --root-path /apps/my-app
  fluxlit-gateway url page /reports --query year=2026
  fluxlit-gateway url api --base https://portal.example.com
  fluxlit-gateway url --json";
