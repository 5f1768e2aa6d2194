//! Finds the Python of an app, and asks a FluxLit app for its settings.
//!
//! The app is imported once for this, as FluxLit itself does before it starts anything: its code can set its own paths and
//! options for Streamlit, and an app that cannot be imported is reported before the gateway listens.

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::children::advice::advice;
use crate::children::launcher;
use crate::children::program::{Program, find_executable};
use crate::settings::{FluxLitApp, Settings, refused_argument};

/// What a FluxLit app says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Description {
    /// The script with which FluxLit shows the pages.
    pub entry: String,
    /// The path of the API, below the mount.
    pub api_mount_path: String,
    /// The mount; empty if there is none.
    pub root_path: String,
    /// Arguments for `streamlit run`.
    pub streamlit_arguments: Vec<String>,
}

/// The error when a FluxLit app cannot be imported, or cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// An option for Streamlit that is the gateway's to choose.
    #[error(
        "the app asks for the option `{0}` of streamlit run, which the gateway sets itself: remove it; FLUXLIT_ROOT_PATH sets the path"
    )]
    Option(String),
    /// Python ended with an error.
    #[error("`{python}` cannot import `{target}`; its last lines were:\n{last_lines}{}", hint(.advice.as_deref()))]
    Import {
        /// The Python.
        python: String,
        /// The app.
        target: String,
        /// The end of its output.
        last_lines: String,
        /// What to do about it.
        advice: Option<String>,
    },
    /// The module has no such app.
    #[error("{0}")]
    NotAnApp(NotAnApp),
    /// Python does not exist.
    #[error(
        "cannot start `{0}`, because there is no such program: install Python, or set FLUXLIT_PYTHON to one that has FluxLit"
    )]
    NotFound(String),
    /// Python printed something else.
    #[error(
        "`{python}` has not described `{target}`: FLUXLIT_PYTHON must name a Python that has FluxLit 0.13 or newer"
    )]
    Output {
        /// The Python.
        python: String,
        /// The app.
        target: String,
    },
    /// Python cannot be started.
    #[error(
        "cannot start `{python}`: install Python, or set FLUXLIT_PYTHON to one that has FluxLit"
    )]
    Start {
        /// The Python.
        python: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// What a target names instead of a FluxLit app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NotAnApp {
    /// The module or file.
    module: String,
    /// The name that was looked for in it.
    attribute: String,
    /// The class of the object with this name; `None` if there is none.
    kind: Option<String>,
    /// True for what can be an ASGI application.
    is_callable: bool,
    /// The targets of the FluxLit apps in the module.
    apps: Vec<String>,
}

impl fmt::Display for NotAnApp {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            module,
            attribute,
            kind,
            is_callable,
            apps,
        } = self;
        match kind {
            Some(kind) => write!(
                text,
                "`{module}:{attribute}` is no FluxLit app: its class is `{kind}`"
            )?,
            None => write!(text, "the module `{module}` has no `{attribute}`")?,
        }
        let apps: Vec<String> = apps.iter().map(|app| format!("`{app}`")).collect();
        if !apps.is_empty() {
            write!(
                text,
                "\n\nhint: its FluxLit apps: {}; name one of them",
                apps.join(", ")
            )
        } else if *is_callable {
            write!(
                text,
                "\n\nhint: an ASGI application is served as the API of a Streamlit script: `fluxlit-gateway run SCRIPT.py --api \
                 {module}:{attribute}`"
            )
        } else {
            write!(
                text,
                "\n\nhint: it has no FluxLit app: name the module with the line `app = FluxLit(…)`; a Streamlit script is named \
                 by its file, such as app.py"
            )
        }
    }
}

/// What Python prints about the target.
#[derive(Deserialize)]
#[serde(untagged)]
enum Printed {
    App(Description),
    Fault(NotAnApp),
}

fn hint(advice: Option<&str>) -> String {
    advice.map_or(String::new(), |advice| format!("\n\nhint: {advice}"))
}

/// Returns the Python that runs FluxLit and uvicorn: the one that is set, or the one in the folder of the Streamlit
/// executable, or `python3`.
#[must_use]
pub fn python(settings: &Settings) -> OsString {
    if let Some(python) = &settings.python {
        return python.into();
    }
    let streamlit = find_executable(settings.streamlit_command.as_ref());
    let beside = streamlit.and_then(|streamlit| {
        let candidates = ["python3", "python"].map(|name| streamlit.with_file_name(name));
        candidates.into_iter().find(|python| python.is_file())
    });
    beside.map_or_else(|| "python3".into(), PathBuf::into_os_string)
}

/// Imports the app, and returns what it says about itself.
///
/// # Errors
///
/// If Python cannot be started, or the app cannot be imported, or asks for what the gateway cannot do.
pub fn describe(settings: &Settings, app: &FluxLitApp) -> Result<Description, DescribeError> {
    let python = python(settings);
    let shown = || python.to_string_lossy().into_owned();
    let target = app.target.written();
    if find_executable(&python).is_none() {
        return Err(DescribeError::NotFound(shown()));
    }
    tracing::info!("importing {target} with {}", shown());
    let mark = uuid::Uuid::new_v4().to_string();
    let arguments = ["-c", SCRIPT, target, &mark];
    let environment = Program::environment(settings, Some(app));
    let output = run(&python, &arguments, &environment).map_err(|source| DescribeError::Start {
        python: shown(),
        source,
    })?;
    let description = output
        .text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(&mark));
    let Some(description) = description else {
        let lines: Vec<String> = output.text.lines().map(str::to_owned).collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..);
        let last = last.unwrap_or_default();
        let indented: Vec<String> = last.iter().map(|line| format!("  {line}")).collect();
        return Err(if output.code == Some(0) {
            DescribeError::Output {
                python: shown(),
                target: target.to_owned(),
            }
        } else {
            DescribeError::Import {
                python: shown(),
                target: target.to_owned(),
                last_lines: indented.join("\n"),
                advice: advice(last, output.code, &shown()),
            }
        });
    };
    let printed = serde_json::from_str(description).map_err(|_| DescribeError::Output {
        python: shown(),
        target: target.to_owned(),
    })?;
    let description = match printed {
        Printed::App(description) => description,
        Printed::Fault(fault) => return Err(DescribeError::NotAnApp(fault)),
    };
    let mut arguments = description.streamlit_arguments.iter();
    if let Some(option) = arguments.find(|argument| refused_argument(argument).is_some()) {
        return Err(DescribeError::Option(option.clone()));
    }
    Ok(description)
}

/// What a program has written, to standard output and standard error, and its exit code.
struct Output {
    text: String,
    code: Option<i32>,
}

/// Runs Python to its end, or to that of the gateway.
fn run(
    python: &OsString,
    arguments: &[&str],
    environment: &[(String, OsString)],
) -> std::io::Result<Output> {
    if !launcher::is_available() {
        return Err(std::io::Error::other(launcher::NOT_AVAILABLE));
    }
    let (gateway_ended, _gateway_runs) = std::io::pipe()?;
    let (mut output, written) = std::io::pipe()?;
    let mut command = launcher::command(Duration::ZERO, gateway_ended.into());
    command
        .arg(python)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(OwnedFd::from(written.try_clone()?))
        .stderr(OwnedFd::from(written))
        // A signal from the terminal is for the gateway.
        .process_group(0);
    let mut child = command.spawn()?;
    drop(command);
    let mut text = Vec::new();
    output.read_to_end(&mut text)?;
    let status = child.wait()?;
    Ok(Output {
        text: String::from_utf8_lossy(&text).into_owned(),
        code: status.code(),
    })
}

const SCRIPT: &str = include_str!("describe.py");

/// The number of lines in an error.
const LAST_LINES: usize = 20;
