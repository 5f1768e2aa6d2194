//! Describes how Streamlit is started: with the operator's script, or with the script of FluxLit that shows the app's pages.
//!
//! It listens on loopback, under the mount. Its protections against XSRF and CORS stay on.

use std::ffi::OsString;

use serde_json::Value;

use crate::children::program::Program;
use crate::children::python::python;
use crate::observe::upstream::Upstream;
use crate::settings::{App, STREAMLIT_FIELDS, STREAMLIT_LINE, Settings, TRUSTED_USER_HEADERS};

/// Returns the program.
pub(super) fn program(settings: &Settings, app: &App) -> Program {
    let (executable, mut arguments): (OsString, Vec<OsString>) = match &app.fluxlit {
        Some(_) => (python(settings), vec!["-m".into(), "streamlit".into()]),
        None => (settings.streamlit_command.clone().into(), Vec::new()),
    };
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["run", &app.script]);
    add(&["--server.address", "127.0.0.1"]);
    add(&["--server.port", &app.port.to_string()]);
    add(&["--server.headless", "true"]);
    add(&["--browser.gatherUsageStats", "false"]);
    for origin in settings.origins.iter().filter(|origin| *origin != "*") {
        add(&["--server.corsAllowedOrigins", origin]);
    }
    let base = settings.upstream.base.trim_start_matches('/');
    if !base.is_empty() {
        add(&["--server.baseUrlPath", base]);
    }
    let further = app
        .fluxlit
        .as_ref()
        .map_or(&settings.streamlit_arguments, |fluxlit| {
            &fluxlit.streamlit_arguments
        });
    for argument in further {
        add(&[argument]);
    }

    let mut environment = Program::environment(settings, app.fluxlit.as_ref());
    // Without these, its WebSocket server hangs on a handshake with a long cookie.
    for limit in [STREAMLIT_LINE, STREAMLIT_FIELDS] {
        if std::env::var_os(limit.variable).is_none() {
            environment.push((limit.variable.to_owned(), limit.when_started.into()));
        }
    }
    // Takes precedence over the files, which Streamlit reads again when they change. A variable, because older versions reject
    // an unknown flag.
    let trusted_user_headers = Value::Object(settings.trusted_user_headers.clone());
    let trusted_user_headers = trusted_user_headers.to_string().into();
    environment.push((TRUSTED_USER_HEADERS.to_owned(), trusted_user_headers));
    // Otherwise it prints the URL of its own port, which leads past the gateway.
    if std::env::var_os(HIDE_WELCOME_MESSAGE).is_none() {
        environment.push((HIDE_WELCOME_MESSAGE.to_owned(), "true".into()));
    }
    if app.reruns_on_change {
        environment.push(("STREAMLIT_SERVER_RUN_ON_SAVE".to_owned(), "true".into()));
    }
    if let Some(api) = &app.api {
        // Directly, so that pages reach the API whatever TLS, hosts or limits the gateway has for clients.
        let base = format!("http://127.0.0.1:{}", api.port);
        environment.push(("FLUXLIT_INTERNAL_API_BASE".to_owned(), base.into()));
    }
    Program {
        name: "streamlit",
        title: "Streamlit",
        upstream: Upstream::Streamlit,
        executable,
        arguments,
        environment,
    }
}

const HIDE_WELCOME_MESSAGE: &str = "STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE";
