//! Describes how the API of the app is started: an ASGI application, under uvicorn.
//!
//! It listens on loopback and believes the forwarded headers of the gateway, which has set them. The gateway removes the
//! path of the API from each request, and uvicorn puts it in front again as the ASGI `root_path`, so that the application
//! makes correct links. FluxLit's own application sets its `root_path` itself when the app has a mount: it is the mount, and
//! the path of a request has to be without it.

use std::ffi::OsString;

use crate::children::program::Program;
use crate::children::python::python;
use crate::observe::upstream::Upstream;
use crate::settings::{ApiApp, ApiProcesses, App, LogLevel, Settings};

/// Returns the program.
pub(super) fn program(settings: &Settings, app: &App, api: &ApiApp) -> Program {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let is_fluxlit = app.fluxlit.is_some();
    let application = api.target.application(is_fluxlit.then_some("api"));
    add(&["-m", "uvicorn", &application]);
    if let Some(folder) = api.target.folder() {
        add(&["--app-dir", &folder.to_string_lossy()]);
    }
    add(&["--host", "127.0.0.1", "--port", &api.port.to_string()]);
    let mount = settings.policy.mount();
    if !is_fluxlit || mount.is_empty() {
        let root_path = format!("{mount}{}", settings.api.sub_app.path());
        add(&["--root-path", &root_path]);
    }
    let log_level = match settings.observe.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    add(&["--proxy-headers", "--forwarded-allow-ips", "127.0.0.1"]);
    add(&["--log-level", log_level]);
    // The gateway logs requests. In debug mode, those of the pages and of health checks are of interest as well.
    add(&[if settings.observe.debug {
        "--access-log"
    } else {
        "--no-access-log"
    }]);
    let grace_period = settings.grace_period.as_secs_f64().ceil();
    add(&["--timeout-graceful-shutdown", &format!("{grace_period:.0}")]);
    match api.processes {
        // Even 1, because uvicorn would take the number from WEB_CONCURRENCY.
        ApiProcesses::Fixed(number) => add(&["--workers", &number.to_string()]),
        ApiProcesses::ReloadOnChange => add(&["--reload"]),
    }

    let mut environment = Program::environment(settings, app.fluxlit.as_ref());
    if is_fluxlit {
        let streamlit = format!("http://127.0.0.1:{}", app.port);
        environment.push(("FLUXLIT_STREAMLIT_UPSTREAM".to_owned(), streamlit.into()));
        // It would take precedence.
        let none = OsString::new();
        environment.push(("FLUXLIT_STREAMLIT_UPSTREAM_FILE".to_owned(), none));
    }
    Program {
        name: "api",
        title: "the API",
        upstream: Upstream::Api,
        executable: python(settings),
        arguments,
        environment,
    }
}
