//! Checks an app with its gateway, or configurations of Envoy: `fluxlit-gateway doctor`.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use fluxlit_doctor::app::{self, Depth};
use fluxlit_doctor::lint::{self, LintFile, LintOptions};
use fluxlit_doctor::{Check, CheckSelection, ErrorReport, Finding, Report, Step, checks, progress};
use fluxlit_gateway::{DescribeError, SettingErrors, Settings};

use crate::doctor_probe::{self, ProbeArguments};
use crate::doctor_subject;
use crate::exit::{Exit, Unusable};
use crate::output;
use crate::target::{self, Target};

/// Find what is wrong between a browser and an app: the proxies in front, by its URL (--probe); its settings, Streamlit
/// and the gateway; configurations of Envoy (--lint)
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    probe: Box<ProbeArguments>,
    /// Check configurations of Envoy (bootstrap, resources, /config_dump) and manifests of Istio or Envoy Gateway
    #[arg(long, value_name = "FILE", num_args = 1..)]
    lint: Vec<PathBuf>,
    /// Ask the admin interface of the Envoy whose configuration is checked, such as 127.0.0.1:9901
    #[arg(long, value_name = "ADDRESS", requires = "lint")]
    admin: Option<String>,
    /// Let this executable of Envoy check bootstraps
    #[arg(long, value_name = "PATH", requires = "lint")]
    envoy: Option<PathBuf>,
    /// Start a Streamlit page on a spare port, to see which client address it gets
    #[arg(long)]
    page: bool,
    /// Run the checks that take longer than half a minute as well
    #[arg(long)]
    slow: bool,
    /// Run only these checks, by id or name, separated by commas
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out these checks
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the checks
    #[arg(long)]
    list: bool,
    /// Count a warning as a failure
    #[arg(long)]
    strict: bool,
    /// Exit with 0 whatever was found
    #[arg(long, conflicts_with = "strict")]
    warnings_only: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as JUnit XML to this file as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs the checks and prints what they found.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.list {
        let mut text = String::new();
        for check in checks() {
            let id = if check.id == check.name { "" } else { check.id };
            text += &format!("{id:<5}{:<32} {}\n", check.name, check.purpose);
        }
        output::write(text)?;
        return Ok(Exit::Done);
    }
    let report = check(arguments).or_else(|error| {
        write_error(arguments, &error)?;
        Err(error)
    })?;
    if let Some(file) = &arguments.junit {
        write_file(file, report.junit()?)?;
    }
    if arguments.json {
        output::write_json(&report.json())?;
    } else {
        output::write(report.text(is_colored()))?;
    }
    Ok(if report.has_failed() {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// Tells a script why nothing was checked. A person reads it on standard error.
fn write_error(arguments: &Arguments, error: &anyhow::Error) -> anyhow::Result<()> {
    let files = arguments.lint.iter().map(|path| path.display().to_string());
    let files = files.collect::<Vec<_>>().join(" ");
    let report = ErrorReport {
        target: [&arguments.probe.probe, &arguments.target.app]
            .into_iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or(files),
        error: format!("{error:#}"),
        is_lenient: arguments.warnings_only,
    };
    if let Some(file) = &arguments.junit {
        write_file(file, report.junit()?)?;
    }
    if arguments.json {
        output::write_json(&report.json())?;
    }
    Ok(())
}

fn write_file(file: &Path, text: String) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Runs the checks.
fn check(arguments: &Arguments) -> anyhow::Result<Report> {
    let selection = CheckSelection::new(&arguments.only, &arguments.skip)
        .map_err(|error| Unusable(error.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (target, findings) = if let Some(url) = arguments.probe.probe.as_deref() {
        doctor_probe::check(&arguments.probe, url, &selection, &runtime, || {
            let progress = Progress::start();
            Box::new(move |step| progress.show(step))
        })?
    } else if arguments.lint.is_empty() {
        check_app(arguments, &selection, &runtime)?
    } else {
        check_files(arguments, &selection, &runtime)?
    };
    Ok(Report {
        target,
        findings,
        is_strict: arguments.strict,
        is_lenient: arguments.warnings_only,
    })
}

fn check_app(
    arguments: &Arguments,
    selection: &CheckSelection,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<(String, Vec<Finding>)> {
    let depth = Depth {
        page: arguments.page,
        slow: arguments.slow,
    };
    let app = arguments.target.app.clone();
    // The port that is reserved for Streamlit is not used: a gateway that is started for the checks reserves its own.
    let settings = match read_settings(&arguments.target) {
        Ok(settings) => settings,
        Err(error) => {
            let Some(errors) = error.downcast_ref::<SettingErrors>() else {
                return Err(Unusable(error).into());
            };
            if errors.is_only_that_nothing_is_served() {
                return Err(Unusable(error).into());
            }
            let warnings = errors.warnings().iter().map(ToString::to_string);
            let warnings: Vec<String> = warnings.collect();
            let errors: Vec<String> = errors.errors().collect();
            let facts = doctor_subject::facts_without_settings(app.as_deref());
            let findings = app::invalid_settings(&errors, &warnings, &facts, selection);
            return Ok((app.unwrap_or_else(|| "settings".to_owned()), findings));
        }
    };
    // Without an argument, the settings or the default name the app.
    let of_settings = settings.app.as_ref().map(|app| match &app.fluxlit {
        Some(fluxlit) => fluxlit.target.written().to_owned(),
        None => app.script.clone(),
    });
    let app = app.or(of_settings);
    let name = app.clone().unwrap_or_else(|| settings.upstream.authority());
    let facts = doctor_subject::facts(&settings, app.as_deref());
    let subject = doctor_subject::subject(&settings, &arguments.target)?;
    let findings = runtime.block_on(async {
        let progress = Progress::start();
        app::run(&subject, &facts, depth, selection, |step| {
            progress.show(step);
        })
        .await
    });
    Ok((name, findings))
}

/// Reads the settings. If the app cannot be imported, its code sets none, and the checks find out what is wrong with it.
fn read_settings(target: &Target) -> anyhow::Result<Settings> {
    let read = |target: &Target| target::read_settings(target).map(|(settings, _)| settings);
    read(target).or_else(|error| {
        if !error.is::<DescribeError>() {
            return Err(error);
        }
        let mut target = target.clone();
        target.settings_only = true;
        read(&target)
    })
}

fn check_files(
    arguments: &Arguments,
    selection: &CheckSelection,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<(String, Vec<Finding>)> {
    let read = |path: &PathBuf| {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {place}"))?;
        Ok(LintFile {
            path: path.clone(),
            documents: lint::read(&place, &text)?,
        })
    };
    let files: Vec<LintFile> = arguments
        .lint
        .iter()
        .map(read)
        .collect::<anyhow::Result<_>>()
        .map_err(Unusable)?;
    let admin = arguments.admin.as_deref().map(admin_address).transpose();
    let options = LintOptions {
        admin: admin.map_err(Unusable)?,
        envoy: arguments.envoy.clone(),
    };
    let names: Vec<String> = arguments
        .lint
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if let Some(envoy) = &options.envoy {
        runtime
            .block_on(lint::can_start(envoy))
            .with_context(|| format!("--envoy: `{}` cannot be started", envoy.display()))
            .map_err(Unusable)?;
    }
    let findings = runtime.block_on(async {
        let progress = Progress::start();
        lint::run(&files, &options, selection, |step| progress.show(step)).await
    });
    Ok((names.join(" "), findings))
}

/// Reads `127.0.0.1:9901` or `http://127.0.0.1:9901/`.
fn admin_address(text: &str) -> anyhow::Result<SocketAddr> {
    let authority = text
        .strip_prefix("http://")
        .unwrap_or(text)
        .trim_end_matches('/');
    let mut addresses = authority
        .to_socket_addrs()
        .with_context(|| format!("--admin: `{text}` is not an address such as 127.0.0.1:9901"))?;
    addresses
        .next()
        .with_context(|| format!("--admin: `{text}` has no address"))
}

/// An empty NO_COLOR counts as unset, https://no-color.org/.
fn is_colored() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !no_color
}

/// Names on standard error the check that has been running for more than two seconds, and on a terminal each one that has ended.
struct Progress {
    current: std::sync::Arc<Mutex<Option<(&'static Check, Instant)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Progress {
    fn start() -> Self {
        let current = std::sync::Arc::new(Mutex::new(None::<(&'static Check, Instant)>));
        let shown = std::sync::Arc::clone(&current);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                let Ok(mut current) = shown.lock() else {
                    return;
                };
                if let Some((check, since)) = *current
                    && since.elapsed() > Duration::from_secs(2)
                {
                    eprintln!("{} {}: {} ...", check.id, check.name, check.purpose);
                    *current = None;
                }
            }
        });
        Self { current, task }
    }

    fn show(&self, step: Step<'_>) {
        if let Ok(mut current) = self.current.lock() {
            *current = match step {
                Step::Begins(check) => Some((check, Instant::now())),
                Step::Ended(_) => None,
            };
        }
        if let Step::Ended(findings) = step
            && std::io::stderr().is_terminal()
            && let Some(line) = progress(findings)
        {
            eprintln!("{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway doctor --probe https://portal.example.com/apps/my-app
  fluxlit-gateway doctor --probe https://portal.example.com/apps/my-app --only P08,P15 --cookie-file cookies.txt
  fluxlit-gateway doctor app.py
  fluxlit-gateway doctor --streamlit-upstream http://127.0.0.1:8501 --root-path /apps/my-app
  fluxlit-gateway doctor app.py --only D05,ws-headers --strict
  fluxlit-gateway doctor app.py --page --slow --json
  fluxlit-gateway doctor --lint bootstrap.yaml --envoy /usr/bin/envoy
  fluxlit-gateway doctor --lint dump.json --admin 127.0.0.1:9901

Exit codes: 0 if a check has passed and none has failed, 1 if one has failed or none could run, 2 if the usage is wrong or the URL cannot be reached. docs/doctor.md describes each check.";
