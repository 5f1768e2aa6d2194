//! Reads what to serve, and the settings, from the command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use fluxlit_gateway::{App, Flag, ReservedPort, Settings, Sources, StreamlitFiles};

/// What to serve, and the settings that have flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Target {
    /// Streamlit script to start; without it, FLUXLIT_STREAMLIT_UPSTREAM names a running Streamlit
    pub(crate) app: Option<String>,
    /// Listen on this address [default: 127.0.0.1] [env: FLUXLIT_GATEWAY_HOST]
    #[arg(long)]
    host: Option<String>,
    /// Listen on this port; 0 selects a free one [default: 8000] [env: FLUXLIT_GATEWAY_PORT]
    #[arg(long)]
    port: Option<String>,
    /// Serve the app under this path, such as /apps/my-app [env: FLUXLIT_ROOT_PATH]
    #[arg(long)]
    pub(crate) root_path: Option<String>,
    /// Proxy to this Streamlit, such as http://127.0.0.1:8501 [env: FLUXLIT_STREAMLIT_UPSTREAM]
    #[arg(long, value_name = "URL")]
    pub(crate) streamlit_upstream: Option<String>,
    /// Read settings from this file [default: fluxlit.toml or pyproject.toml, if it exists] [env: FLUXLIT_SETTINGS_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) settings_file: Option<PathBuf>,
    /// Start Streamlit with this executable [default: streamlit] [env: FLUXLIT_STREAMLIT_COMMAND]
    #[arg(long, value_name = "PATH")]
    streamlit_command: Option<String>,
}

impl Target {
    /// Returns the arguments of `run` that name the app and its settings, without those of the listener.
    pub(crate) fn run_arguments(&self) -> Vec<String> {
        let file = self
            .settings_file
            .as_ref()
            .map(|path| path.display().to_string());
        let flags = [
            ("--root-path", self.root_path.clone()),
            ("--settings-file", file),
            ("--streamlit-command", self.streamlit_command.clone()),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]));
        self.app
            .clone()
            .into_iter()
            .chain(flags.flatten())
            .collect()
    }
}

/// Reads the settings. The port stays reserved as long as it is kept, while Streamlit is started and restarted.
pub(crate) fn read_settings(target: Target) -> anyhow::Result<(Settings, Option<ReservedPort>)> {
    let Target {
        app,
        host,
        port,
        root_path,
        streamlit_upstream,
        settings_file,
        streamlit_command,
    } = target;
    let flags = [
        ("--host", "FLUXLIT_GATEWAY_HOST", host),
        ("--port", "FLUXLIT_GATEWAY_PORT", port),
        ("--root-path", "FLUXLIT_ROOT_PATH", root_path),
        (
            "--streamlit-upstream",
            "FLUXLIT_STREAMLIT_UPSTREAM",
            streamlit_upstream,
        ),
        (
            "--streamlit-command",
            "FLUXLIT_STREAMLIT_COMMAND",
            streamlit_command,
        ),
    ];
    let flags = flags.into_iter().filter_map(|(name, variable, value)| {
        value.map(|value| Flag {
            name,
            variable,
            value,
        })
    });
    let sources = Sources::read(
        flags.collect(),
        settings_file.as_deref(),
        Path::new("."),
        std::env::vars_os(),
    );
    let Some(script) = app else {
        return Ok((Settings::read(None, sources)?, None));
    };
    anyhow::ensure!(
        std::path::Path::new(&script).exists(),
        "script `{script}` does not exist"
    );
    let reserved = ReservedPort::any().context("cannot reserve a port for Streamlit")?;
    let port = reserved.number();
    let streamlit_files = StreamlitFiles::read(Path::new(&script))?;
    let app = Some(App {
        script,
        port,
        streamlit_files,
        reruns_on_change: false,
        fluxlit: None,
        api: None,
    });
    Ok((Settings::read(app, sources)?, Some(reserved)))
}
