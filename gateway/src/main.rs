//! Parses the command line of `fluxlit-gateway` and runs it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fluxlit_gateway::{App, Gateway, ReservedPort, Settings, SettingsFile, StreamlitFiles};
use tokio::signal::unix::{SignalKind, signal};

/// Put a Streamlit app on the web: health, forwarded headers, path prefix, WebSocket
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve an app: start Streamlit with a script, or proxy to one that is running
    Run(Run),
    /// Print the effective settings and where each comes from
    Config {
        #[command(flatten)]
        run: Run,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Run {
    /// Streamlit script to start; without it, FLUXLIT_STREAMLIT_UPSTREAM names a running Streamlit
    app: Option<String>,
    /// Listen on this address [default: 127.0.0.1] [env: FLUXLIT_GATEWAY_HOST]
    #[arg(long)]
    host: Option<String>,
    /// Listen on this port; 0 selects a free one [default: 8000] [env: FLUXLIT_GATEWAY_PORT]
    #[arg(long)]
    port: Option<String>,
    /// Serve the app under this path, such as /apps/my-app [env: FLUXLIT_ROOT_PATH]
    #[arg(long)]
    root_path: Option<String>,
    /// Proxy to this Streamlit, such as http://127.0.0.1:8501 [env: FLUXLIT_STREAMLIT_UPSTREAM]
    #[arg(long, value_name = "URL")]
    streamlit_upstream: Option<String>,
    /// Read settings from this file [default: fluxlit.toml, if it exists] [env: FLUXLIT_SETTINGS_FILE]
    #[arg(long, value_name = "FILE")]
    settings_file: Option<PathBuf>,
    /// Start Streamlit with this executable [default: streamlit] [env: FLUXLIT_STREAMLIT_COMMAND]
    #[arg(long, value_name = "PATH")]
    streamlit_command: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let (run, print) = match arguments.command {
        Command::Run(run) => (run, None),
        Command::Config { run, json } => (run, Some(json)),
    };
    // The port stays reserved while Streamlit is started and restarted.
    let (settings, _port) = match read_settings(run) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let result = match print {
        Some(json) => print_settings(&settings, json),
        None => serve(settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_settings(run: Run) -> anyhow::Result<(Settings, Option<ReservedPort>)> {
    let Run {
        app,
        host,
        port,
        root_path,
        streamlit_upstream,
        settings_file,
        streamlit_command,
    } = run;
    let file = read_settings_file(settings_file)?;
    let flags: Vec<(&'static str, String)> = [
        ("FLUXLIT_GATEWAY_HOST", host),
        ("FLUXLIT_GATEWAY_PORT", port),
        ("FLUXLIT_ROOT_PATH", root_path),
        ("FLUXLIT_STREAMLIT_UPSTREAM", streamlit_upstream),
        ("FLUXLIT_STREAMLIT_COMMAND", streamlit_command),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
    .collect();
    let Some(script) = app else {
        let settings = Settings::read(None, &flags, &file, std::env::vars())?;
        return Ok((settings, None));
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
    });
    let settings = Settings::read(app, &flags, &file, std::env::vars())?;
    Ok((settings, Some(reserved)))
}

/// Reads the file that is named, or `fluxlit.toml` in the current folder if it exists.
fn read_settings_file(named: Option<PathBuf>) -> anyhow::Result<SettingsFile> {
    let named = named.or_else(|| std::env::var_os("FLUXLIT_SETTINGS_FILE").map(PathBuf::from));
    let default = Path::new("fluxlit.toml");
    Ok(match named {
        Some(path) => SettingsFile::read(&path)?,
        None if default.exists() => SettingsFile::read(default)?,
        None => SettingsFile::default(),
    })
}

fn print_settings(settings: &Settings, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&settings.table)?);
    } else {
        for setting in &settings.table {
            let origin = serde_json::to_value(setting.origin)?;
            let value = setting.value.to_string();
            println!(
                "{}={}  # {}",
                setting.name,
                setting.value.as_str().unwrap_or(&value),
                origin.as_str().unwrap_or_default()
            );
        }
    }
    Ok(())
}

fn serve(settings: Settings) -> anyhow::Result<()> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let gateway = Gateway::bind(settings)?;
        let scheme = if gateway.is_tls() { "https" } else { "http" };
        tracing::info!("listening on {scheme}://{}", gateway.local_address()?);
        if let Some(address) = gateway.admin_address()? {
            tracing::info!("listening for operators on http://{address}");
        }
        let mut wait = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let (first, stopped) = tokio::sync::oneshot::channel();
        let run = gateway.run(async {
            let _ = stopped.await;
        });
        let mut run = std::pin::pin!(run);
        tokio::select! {
            result = &mut run => return Ok(result?),
            () = wait() => {}
        }
        let _ = first.send(());
        tokio::select! {
            result = run => Ok(result?),
            () = wait() => anyhow::bail!("stopped by a second signal"),
        }
    })
}

/// Exit code for wrong usage or settings.
const WRONG_USAGE: u8 = 2;
