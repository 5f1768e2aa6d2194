//! Reads what to serve, and the settings, from the command line.
//!
//! An app is a Streamlit script, a FluxLit app such as `app:app`, or a Streamlit that is already running. The flags of
//! `fluxlit run` are accepted, or rejected with what to use instead; `docs/fluxlit.md` lists them.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use fluxlit_gateway::{
    ApiApp, ApiProcesses, App, Description, Flag, FluxLitApp, ImportTarget, ReservedPort, Settings,
    Sources, StreamlitFiles, describe,
};

use crate::script;

/// What to serve, and the settings that have flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Target {
    /// Start this Streamlit script, such as app.py, or FluxLit app, such as app:app or ./app.py:app [default: FLUXLIT_APP,
    /// target of the settings file, or the app.py of this folder, unless FLUXLIT_STREAMLIT_UPSTREAM is set]
    pub(crate) app: Option<String>,
    /// Start this ASGI application, such as main:app, under uvicorn as the API of a Streamlit script
    #[arg(long, value_name = "TARGET")]
    api: Option<String>,
    /// Start this number of processes of the API, which share no state [default: 1]
    #[arg(long, value_name = "NUMBER")]
    workers: Option<NonZeroU16>,
    /// Listen on this address [default: 127.0.0.1] [env: FLUXLIT_GATEWAY_HOST]
    #[arg(long)]
    host: Option<String>,
    /// Listen on this port; 0 selects a free one [default: 8000] [env: FLUXLIT_GATEWAY_PORT]
    #[arg(long)]
    port: Option<String>,
    /// Serve the app under this path, such as /apps/my-app [env: FLUXLIT_ROOT_PATH]
    #[arg(long)]
    pub(crate) root_path: Option<String>,
    /// Trust the X-Forwarded-* headers of the peers in --forwarded-allow-ips [env: FLUXLIT_TRUST_PROXY]
    #[arg(long, overrides_with = "no_proxy_headers")]
    proxy_headers: bool,
    /// Trust no X-Forwarded-* header, whatever FLUXLIT_TRUST_PROXY says
    #[arg(long, overrides_with = "proxy_headers")]
    no_proxy_headers: bool,
    /// Trust these peers, as addresses or networks with commas between them [env: FLUXLIT_FORWARDED_ALLOW_IPS]
    #[arg(long, value_name = "ADDRESSES")]
    forwarded_allow_ips: Option<String>,
    /// Log from this level on: error, warning, info, debug or trace [default: info] [env: FLUXLIT_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log requests, and serve the debug page on a loopback port, which the log names; not for production [env: FLUXLIT_DEBUG,
    /// and FLUXLIT_GATEWAY_ADMIN_ADDRESS for the page]
    #[arg(long)]
    debug: bool,
    /// Proxy to this Streamlit, such as http://127.0.0.1:8501 [env: FLUXLIT_STREAMLIT_UPSTREAM]
    #[arg(long, value_name = "URL")]
    pub(crate) streamlit_upstream: Option<String>,
    /// Read settings from this file [default: fluxlit.toml or pyproject.toml, if it exists] [env: FLUXLIT_SETTINGS_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) settings_file: Option<PathBuf>,
    /// Start Streamlit with this executable [default: streamlit] [env: FLUXLIT_STREAMLIT_COMMAND]
    #[arg(long, value_name = "PATH")]
    streamlit_command: Option<String>,
    /// Run FluxLit and uvicorn with this Python [default: the one of the Streamlit executable, or python3] [env:
    /// FLUXLIT_PYTHON]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Accepted for FluxLit's sake, because no PID file is ever written
    #[arg(long, hide = true)]
    no_pidfile: bool,
    /// Rejected, with what to use instead
    #[arg(long, hide = true, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Rejected, with what to use instead
    #[arg(long, hide = true)]
    workbench: bool,
    /// Rejected, with what to use instead
    #[arg(long = "reload", hide = true)]
    reload_of_run: bool,
    /// Read the settings only: no file of the app is read, and nothing of it is started.
    #[arg(skip)]
    pub(crate) settings_only: bool,
    /// How the app follows changes of its files, if it does.
    #[arg(skip)]
    pub(crate) development: Option<Development>,
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
            ("--python", self.python.clone()),
            ("--api", self.api.clone()),
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

/// How an app follows changes of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Development {
    /// True if open pages run again when a file changes.
    pub(crate) reruns_pages: bool,
}

/// What to serve.
enum What {
    /// A Streamlit that runs already.
    Upstream,
    Script(String),
    FluxLit(ImportTarget),
}

/// The ports of the programs that are started. They stay reserved as long as this is kept, while the programs are started
/// and restarted.
pub(crate) type ReservedPorts = Vec<ReservedPort>;

/// Reads the settings, and for a FluxLit app what the app says about itself.
pub(crate) fn read_settings(target: &Target) -> anyhow::Result<(Settings, ReservedPorts)> {
    target.reject()?;
    let flags = target.flags();
    let sources = |further: Vec<Flag>| {
        Sources::read(
            [further, flags.clone()].concat(),
            target.settings_file.as_deref(),
            Path::new("."),
            std::env::vars_os(),
        )
    };
    let first = sources(Vec::new());
    let admin: Vec<Flag> = target.admin(&first).into_iter().collect();
    let sources = |further: Vec<Flag>| sources([further, admin.clone()].concat());
    let first = if admin.is_empty() {
        first
    } else {
        sources(Vec::new())
    };
    let what = target.what(&first)?;
    let mut ports = ReservedPorts::new();
    let mut port = || -> anyhow::Result<u16> {
        let reserved = ReservedPort::any().context("cannot reserve a port for the app")?;
        let number = reserved.number();
        ports.push(reserved);
        Ok(number)
    };
    let api = |target: ImportTarget, development, workers: Option<NonZeroU16>, port| ApiApp {
        target,
        port,
        processes: match development {
            Some(Development { .. }) => ApiProcesses::ReloadOnChange,
            None => ApiProcesses::Fixed(workers.unwrap_or(NonZeroU16::MIN)),
        },
    };
    let (development, workers) = (target.development, target.workers);
    let settings = match what {
        What::Upstream => {
            ensure!(
                target.api.is_none() && workers.is_none(),
                "--api and --workers start an API next to a Streamlit script: name the script, or set FLUXLIT_API_UPSTREAM to \
                 an API that is already running"
            );
            Settings::read(None, first)?
        }
        What::Script(script) => {
            ensure!(
                target.settings_only || Path::new(&script).exists(),
                "script `{script}` does not exist; a FluxLit app is named as module:variable, such as app:app"
            );
            ensure!(
                target.api.is_some() || workers.is_none(),
                "--workers is the number of processes of the API, and none is started: add --api module:app. The gateway \
                 itself has FLUXLIT_GATEWAY_WORKERS threads, and Streamlit is always one process"
            );
            let files = StreamlitFiles::read(Path::new(&script))?;
            let warning = match target.settings_only {
                true => None,
                false => script::warning(&script),
            };
            let mut app = App::script(script, port()?, files);
            app.reruns_on_change = reruns(development);
            if let Some(application) = &target.api {
                app.api = Some(api(application.parse()?, development, workers, port()?));
            }
            let mut settings = Settings::read(Some(app), first)?;
            // Added here, so that it is no error in strict mode: a text can only look like an app.
            settings.warnings.extend(warning);
            settings
        }
        What::FluxLit(named) => {
            ensure!(
                target.api.is_none(),
                "--api is for a Streamlit script: the FluxLit app `{}` has an API of its own",
                named.written()
            );
            let mut app = App::script(String::new(), port()?, StreamlitFiles::read(Path::new(""))?);
            app.reruns_on_change = reruns(development);
            app.api = Some(api(named.clone(), development, workers, port()?));
            app.fluxlit = Some(FluxLitApp {
                target: named,
                streamlit_arguments: Vec::new(),
            });
            let settings = Settings::read(Some(app.clone()), first)?;
            if target.settings_only {
                return Ok((settings, ports));
            }
            complete(app, &settings, target, sources)?
        }
    };
    Ok((settings, ports))
}

fn reruns(development: Option<Development>) -> bool {
    development.is_some_and(|development| development.reruns_pages)
}

/// Asks a FluxLit app for the settings in its code, which FluxLit prefers, and reads the settings again with them.
fn complete(
    mut app: App,
    settings: &Settings,
    target: &Target,
    sources: impl Fn(Vec<Flag>) -> Sources,
) -> anyhow::Result<Settings> {
    let Some(fluxlit) = &mut app.fluxlit else {
        bail!("the app is not a FluxLit app");
    };
    let Description {
        entry,
        api_mount_path,
        root_path,
        streamlit_arguments,
    } = describe(settings, fluxlit)?;
    fluxlit.streamlit_arguments = streamlit_arguments;
    app.streamlit_files = StreamlitFiles::read(Path::new(&entry))?;
    app.script = entry;
    let mut further = Vec::new();
    // FluxLit returns what was written, without a slash in front or with one at the end.
    let segments = |path: &str| path.trim().trim_matches('/').to_owned();
    let in_the_code = segments(&root_path);
    if !in_the_code.is_empty() && in_the_code != segments(settings.policy.mount()) {
        ensure!(
            target.root_path.is_none(),
            "the code of the app sets root_path to `{root_path}`, which --root-path does not change: remove one of them"
        );
        further.push(in_code("FLUXLIT_ROOT_PATH", &root_path));
    }
    if api_mount_path != settings.api.sub_app.path() {
        further.push(in_code("FLUXLIT_API_MOUNT_PATH", &api_mount_path));
    }
    Ok(Settings::read(Some(app), sources(further))?)
}

/// Returns a setting that the code of the app makes.
fn in_code(variable: &'static str, value: &str) -> Flag {
    Flag {
        name: "the app's code",
        variable,
        value: value.to_owned(),
    }
}

impl Target {
    /// Returns the target for an app that is being written, in debug mode.
    pub(crate) fn for_development(mut self, development: Development) -> Self {
        self.development = Some(development);
        self.debug = true;
        // It is what the command does.
        self.reload_of_run = false;
        self
    }

    /// Returns the settings that the flags make.
    fn flags(&self) -> Vec<Flag> {
        let proxy_headers = match (self.proxy_headers, self.no_proxy_headers) {
            (true, _) => Some(("--proxy-headers", "true")),
            (false, true) => Some(("--no-proxy-headers", "false")),
            (false, false) => None,
        };
        let debug = self.debug.then(|| "true".to_owned());
        let valued = [
            ("--host", "FLUXLIT_GATEWAY_HOST", &self.host),
            ("--port", "FLUXLIT_GATEWAY_PORT", &self.port),
            ("--root-path", "FLUXLIT_ROOT_PATH", &self.root_path),
            (
                "--forwarded-allow-ips",
                "FLUXLIT_FORWARDED_ALLOW_IPS",
                &self.forwarded_allow_ips,
            ),
            ("--log-level", "FLUXLIT_LOG_LEVEL", &self.log_level),
            ("--debug", "FLUXLIT_DEBUG", &debug),
            (
                "--streamlit-upstream",
                "FLUXLIT_STREAMLIT_UPSTREAM",
                &self.streamlit_upstream,
            ),
            (
                "--streamlit-command",
                "FLUXLIT_STREAMLIT_COMMAND",
                &self.streamlit_command,
            ),
            ("--python", "FLUXLIT_PYTHON", &self.python),
        ];
        let valued = valued.into_iter().filter_map(|(name, variable, value)| {
            let value = value.clone()?;
            Some(Flag {
                name,
                variable,
                value,
            })
        });
        let switch = proxy_headers.map(|(name, value)| Flag {
            name,
            variable: "FLUXLIT_TRUST_PROXY",
            value: value.to_owned(),
        });
        valued.chain(switch).collect()
    }

    /// Returns the setting of a listener that serves the debug page of `--debug`, unless the operator has chosen one.
    ///
    /// It is a listener of its own on the loopback address. The public one could be asked by a proxy on the same machine, which
    /// has the loopback address too, and need not send a forwarded header that tells it from a developer.
    fn admin(&self, sources: &Sources) -> Option<Flag> {
        let is_needed = self.debug && !sources.is_set(ADMIN_ADDRESS);
        is_needed.then(|| Flag {
            name: "--debug",
            variable: ADMIN_ADDRESS,
            value: "127.0.0.1:0".to_owned(),
        })
    }

    /// Rejects the flags of FluxLit that have no meaning here.
    fn reject(&self) -> anyhow::Result<()> {
        ensure!(
            self.pidfile.is_none(),
            "--pidfile is not supported: no PID file is written, which could name another process after a crash. Stop the \
             gateway by SIGTERM, with the process manager that started it"
        );
        ensure!(
            !self.workbench,
            "--workbench is not supported, because it trusts the X-Forwarded-* headers of everyone: use --proxy-headers with \
             --forwarded-allow-ips and the address of the proxy, and --root-path with the path of the app"
        );
        ensure!(
            !self.reload_of_run,
            "--reload is not supported by this command: use `fluxlit-gateway dev`, which always reloads"
        );
        ensure!(
            self.development.is_none() || self.workers.is_none(),
            "--workers is not supported by this command, because an API that is reloaded is one process: use \
             `fluxlit-gateway run`"
        );
        Ok(())
    }

    /// Finds out what to serve. Like FluxLit, it takes the app from the command line, from the settings file, or
    /// `app:app`. An `app.py` without FluxLit is served as a script.
    fn what(&self, sources: &Sources) -> anyhow::Result<What> {
        if let Some(app) = &self.app {
            return what_is(app);
        }
        if sources.is_set("FLUXLIT_STREAMLIT_UPSTREAM") {
            return Ok(What::Upstream);
        }
        if let Some((app, origin)) = sources.target() {
            return what_is(&app).with_context(|| format!("{origin}"));
        }
        if self.api.is_some() || self.settings_only {
            return Ok(What::Upstream);
        }
        match std::fs::read_to_string("app.py") {
            Ok(text) => what_is(default_app(&text)),
            Err(_) => Ok(What::Upstream),
        }
    }
}

/// Returns what an `app.py` with this text is if nothing names an app. One that imports Streamlit and not FluxLit is a script.
fn default_app(text: &str) -> &'static str {
    if text.contains("streamlit") && !text.contains("fluxlit") {
        "app.py"
    } else {
        "app:app"
    }
}

/// The setting of the listener for operators.
const ADMIN_ADDRESS: &str = "FLUXLIT_GATEWAY_ADMIN_ADDRESS";

/// Distinguishes a script from an app.
fn what_is(app: &str) -> anyhow::Result<What> {
    if !app.contains(':') || Path::new(app).is_file() {
        return Ok(What::Script(app.to_owned()));
    }
    Ok(What::FluxLit(app.parse()?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        target: Target,
    }

    /// `docs/fluxlit.md` says the same of each option of `fluxlit run`.
    #[test]
    fn every_option_of_fluxlit_run_is_accepted_or_rejected_with_a_cure() {
        let document = include_str!("../../../../docs/fluxlit.md");
        let (_, options) = document.split_once("## Command line").expect("the section");
        let (options, _) = options.split_once("\n## ").expect("the next section");
        let command = Line::command();
        for option in include_str!("fluxlit-0.13.2-options.txt").lines() {
            let name = option.trim_start_matches('-');
            let row = options
                .lines()
                .find(|line| line.starts_with(&format!("| `{option}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/fluxlit.md has no row for {option}"));
            let argument = command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(name));
            let Some(argument) = argument else {
                assert_eq!(option, "--help");
                continue;
            };
            let value = argument.get_action().takes_values().then_some("1");
            let words = ["fluxlit-gateway", "app:app", option]
                .into_iter()
                .chain(value);
            let line = <Line as clap::Parser>::try_parse_from(words).expect(option);
            match line.target.reject() {
                Ok(()) => assert!(!row.contains("rejected"), "{row}"),
                Err(error) => {
                    assert!(row.contains("rejected"), "{row}");
                    let text = error.to_string();
                    assert!(
                        text.starts_with(option) && text.contains(": use ")
                            || text.contains("Stop the gateway by"),
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn flags_are_settings_and_the_last_one_counts() {
        let flags = |words: &str| {
            let words = ["fluxlit-gateway"]
                .into_iter()
                .chain(words.split_whitespace());
            let line = <Line as clap::Parser>::try_parse_from(words).expect("flags");
            let flags = line.target.flags().into_iter();
            flags
                .map(|flag| format!("{}={}", flag.variable, flag.value))
                .collect::<Vec<_>>()
        };
        for (words, expected) in [
            ("", &[][..]),
            ("app:app --debug", &["FLUXLIT_DEBUG=true"]),
            ("--proxy-headers", &["FLUXLIT_TRUST_PROXY=true"]),
            ("--no-proxy-headers", &["FLUXLIT_TRUST_PROXY=false"]),
            (
                "--no-proxy-headers --proxy-headers",
                &["FLUXLIT_TRUST_PROXY=true"],
            ),
            (
                "--proxy-headers --no-proxy-headers",
                &["FLUXLIT_TRUST_PROXY=false"],
            ),
            (
                "--forwarded-allow-ips 10.0.0.0/8 --log-level debug --no-pidfile",
                &[
                    "FLUXLIT_FORWARDED_ALLOW_IPS=10.0.0.0/8",
                    "FLUXLIT_LOG_LEVEL=debug",
                ],
            ),
        ] {
            assert_eq!(flags(words), expected, "{words}");
        }
    }

    #[test]
    fn the_app_py_of_a_folder_is_a_script_unless_it_can_be_a_fluxlit_app() {
        for (text, expected) in [
            ("import streamlit as st\n", "app.py"),
            ("from fluxlit import FluxLit\napp = FluxLit()\n", "app:app"),
            ("import streamlit\nfrom fluxlit import FluxLit\n", "app:app"),
            ("from package import app\n", "app:app"),
        ] {
            assert_eq!(default_app(text), expected, "{text}");
        }
    }

    #[test]
    fn an_app_is_a_script_or_an_import_target() {
        for (app, is_script) in [
            ("app.py", true),
            ("pages/app.py", true),
            ("app:app", false),
            ("./app.py:app", false),
        ] {
            let what = what_is(app).expect(app);
            assert_eq!(matches!(what, What::Script(_)), is_script, "{app}");
        }
        assert!(what_is("app:").is_err());
    }
}
