//! Reads the gateway's settings from the command line, the environment, `.env` and a file.
//!
//! [`Sources`] says which place takes precedence. A setting has one name: `FLUXLIT_` and upper case in the environment and in
//! `.env`, without `FLUXLIT_` and in lower case in the file. All errors are reported together, each with the place, the value
//! and what is allowed. A name that is not a setting is usually a typing error: it is an error in the file, and a warning in
//! the environment, where an app may have its own variables.

mod checks;
#[cfg(test)]
mod documentation;
mod dot_env;
mod error;
mod file;
mod fluxlit_variables;
mod import_target;
mod limits;
mod located;
mod observe;
mod origin;
mod probe_key;
mod process;
mod public_base;
mod reload;
mod rules;
mod service_links;
mod source;
mod sources;
mod trusted_user_headers;
mod upstream;
mod values;
mod warning;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_policy::{AllowedOrigins, Defaults, DropCookies, Policy};
use serde_json::{Map, Value};

pub(crate) use crate::settings::checks::refused_argument;
use crate::settings::checks::{full_paths, tls_files};
pub use crate::settings::error::{SettingError, SettingErrors};
pub use crate::settings::import_target::{ImportTarget, ImportTargetError};
pub use crate::settings::limits::Limits;
pub(crate) use crate::settings::limits::{STREAMLIT_FIELDS, STREAMLIT_LINE};
use crate::settings::located::located;
pub use crate::settings::observe::{LogFormat, LogLevel, Observe};
pub use crate::settings::origin::{Origin, Setting};
use crate::settings::process::Process;
pub use crate::settings::process::TlsFiles;
pub(crate) use crate::settings::reload::Reloaded;
use crate::settings::source::Source;
pub use crate::settings::sources::{Flag, Sources};
pub(crate) use crate::settings::trusted_user_headers::TRUSTED_USER_HEADERS;
pub use crate::settings::trusted_user_headers::{StreamlitFileError, StreamlitFiles};
pub use crate::settings::upstream::{Api, ApiApp, ApiProcesses, App, FluxLitApp, UpstreamUrl};
use crate::settings::upstream::{ApiSettings, Streamlit};
pub use crate::settings::warning::SettingWarning;

/// The gateway's validated settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// True if another process may listen on the same address, to take over without a refused connection.
    pub reuse_port: bool,
    /// The files of TLS, if the gateway terminates it.
    pub tls: Option<TlsFiles>,
    /// The API of the app.
    pub api: Api,
    /// The Streamlit server.
    pub upstream: UpstreamUrl,
    /// The Streamlit script to start, if the gateway starts Streamlit itself.
    pub app: Option<App>,
    /// The Streamlit executable.
    pub streamlit_command: String,
    /// The Python that runs FluxLit and uvicorn, if it is set.
    pub python: Option<String>,
    /// The `server.trustedUserHeaders` of a Streamlit that the gateway starts: names of headers and keys of `st.user`.
    pub trusted_user_headers: Map<String, Value>,
    /// The number of worker threads.
    pub workers: usize,
    /// Maximum time to connect to an upstream.
    pub connect_timeout: Duration,
    /// Maximum time until an upstream begins its response.
    pub read_timeout: Duration,
    /// Maximum time until an upstream responds to a WebSocket handshake.
    pub handshake_timeout: Duration,
    /// How long connections are still accepted, with readiness 503, after the signal to stop.
    pub drain_delay: Duration,
    /// Maximum time for requests in flight to finish once the gateway stops.
    pub grace_period: Duration,
    /// Limits on what one client, request or connection may use.
    pub limits: Limits,
    /// Logs, metrics and traces.
    pub observe: Observe,
    /// The pages other than the app's own that may open a WebSocket, as written.
    pub origins: Vec<String>,
    /// The same pages, as the policy compares them.
    pub allowed_origins: AllowedOrigins,
    /// The cookies that are not forwarded to Streamlit.
    pub drop_cookies: DropCookies,
    /// The rules.
    pub policy: Policy,
    /// The settings of the policy as the operator wrote them, by their names in the policy, without the probe key.
    pub rules: Map<String, Value>,
    /// Further arguments for `streamlit run`.
    pub streamlit_arguments: Vec<String>,
    /// The variables that an app needs in addition to the environment of the gateway, which it inherits: FluxLit's settings
    /// from the command line, from `.env` and from the settings file, as FluxLit reads them.
    pub child_environment: Vec<(String, String)>,
    /// The places that these settings were read from.
    pub sources: Arc<Sources>,
    /// Each setting with its value and origin, for `fluxlit-gateway config`.
    pub table: Vec<Setting>,
    /// Warnings for the operator.
    pub warnings: Vec<SettingWarning>,
    /// Settings that are recommended for what is set. The settings are right without them, so no strictness concerns them.
    pub advice: Vec<SettingWarning>,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// Returns every error that was found, in the sources and in the settings.
    pub fn read(app: Option<App>, mut sources: Sources) -> Result<Self, SettingErrors> {
        let mut errors = std::mem::take(&mut sources.errors);
        let mut source = Source::new(&sources, app.is_some());
        let process = Process::read(&mut source);
        let limits = Limits::read(&mut source);
        Limits::read_alias(&mut source);
        let observe = Observe::read(&mut source);
        let streamlit = Streamlit::read(&mut source);
        let mut rules = source.rules();
        let api = ApiSettings::read(&mut source);
        source.judge_others();
        let Source {
            table,
            errors: found,
            warnings: mut other_warnings,
            ..
        } = source;
        errors.extend(found);

        let mount = mount(&rules);
        public_base::complete(&mut rules, &mount);
        let mut keep = |error| errors.push(error);
        let key_file = process
            .as_ref()
            .and_then(|process| process.probe_key_file.as_deref());
        let _ = probe_key::read(&mut rules, key_file).map_err(&mut keep);
        let tls = process.as_ref().and_then(|process| {
            tls_files(process, rules.contains_key("trusted_identities"))
                .map_err(&mut keep)
                .ok()
        });
        let upstream = streamlit.as_ref().and_then(|streamlit| {
            UpstreamUrl::streamlit(streamlit.upstream.clone(), app.as_ref(), &mount)
                .map_err(&mut keep)
                .ok()
        });
        let api = api.and_then(|api| Api::new(api, &mount, app.as_ref()).map_err(&mut keep).ok());
        let mut written_rules = rules.clone();
        written_rules.remove(probe_key::PROBE_KEY);
        let rules = rules_for_upstreams(rules, upstream.as_ref(), api.as_ref());
        let trusted_user_headers = app.as_ref().map_or(Ok(Map::new()), |app| {
            app.streamlit_files
                .trusted_user_headers(&sources.whole_environment)
        });
        let trusted_user_headers = trusted_user_headers.map_err(&mut keep).ok();
        let passes_none = rules.get("trusted_pass_headers").is_none();
        let passed_by_peers = rules.get("trusted_pass_headers").cloned();
        if let Some(mounts) = rules.get("mounts") {
            full_paths(mounts)
                .map(SettingError::MountPath)
                .for_each(&mut keep);
        }
        let advice = upstream
            .iter()
            .find_map(|upstream| shared_cookies(&rules, upstream))
            .into_iter()
            .collect();
        let policy = Policy::from_settings(rules, Defaults::GATEWAY);
        let policy = policy.map_err(|all| {
            let all = all.errors().iter().cloned();
            all.map(SettingError::Policy).for_each(&mut keep);
        });
        let mut policy = policy.ok();
        if let (Some(policy), Some(mapping)) = (&mut policy, &trusted_user_headers) {
            for name in mapping.keys() {
                let added = policy.add_identity_header("server.trustedUserHeaders", name);
                let _ = added
                    .map_err(SettingError::TrustedUserHeader)
                    .map_err(&mut keep);
            }
        }

        if let Some(process) = &process {
            process.check_arguments(&mut keep);
            process.check_base_urls(&sources, &mut keep);
            if let Some(policy) = &policy {
                let blocked = process.check_headers(policy, passed_by_peers.as_ref(), &mut keep);
                other_warnings.extend(blocked);
            }
        }
        let mut warnings: Vec<SettingWarning> = observe
            .as_ref()
            .and_then(Observe::warning)
            .into_iter()
            .chain(sources.warnings.iter().cloned())
            .chain(other_warnings)
            .chain(process.iter().flat_map(Process::warnings))
            .chain(
                trusted_user_headers
                    .as_ref()
                    .and_then(|names| unpassed_user(names, passes_none)),
            )
            .chain(
                policy
                    .iter()
                    .flat_map(|policy| policy.warnings().iter().map(Into::into)),
            )
            .collect();
        if process
            .as_ref()
            .is_some_and(|process| process.strict_startup)
        {
            errors.extend(warnings.drain(..).map(SettingError::Strict));
        }
        let complete = (
            process,
            limits,
            observe,
            streamlit,
            tls,
            upstream,
            api,
            trusted_user_headers,
            policy,
        );
        let (
            Some(process),
            Some(limits),
            Some(observe),
            Some(streamlit),
            Some(tls),
            Some(upstream),
            Some(api),
            Some(trusted_user_headers),
            Some(policy),
        ) = complete
        else {
            return Err(located(errors, warnings, &table));
        };
        if !errors.is_empty() {
            return Err(located(errors, warnings, &table));
        }
        if api.sub_app.strip(observe.metrics_path.as_bytes()).is_some() {
            let error = SettingError::MetricsPath {
                path: observe.metrics_path,
                api: api.sub_app.path().to_owned(),
            };
            return Err(located(vec![error], warnings, &table));
        }
        let mut child_environment = sources.for_app();
        // FluxLit would not start with the value that Kubernetes sets.
        let is_named = child_environment.iter().any(|(name, _)| name == PORT);
        if sources.has_service_links && !is_named {
            child_environment.push((PORT.to_owned(), process.port.to_string()));
        }
        let Process {
            host,
            port,
            workers,
            reuse_port,
            certificate: _,
            key: _,
            probe_key_file: _,
            client_ca: _,
            forwarded_headers: _,
            strict_startup: _,
            strict_public_base_url: _,
            streamlit_arguments,
            streamlit_command,
            python,
            connect_timeout,
            read_timeout,
            handshake_timeout,
            drain_delay,
            grace_period,
        } = process;
        let Streamlit {
            origins: (origins, allowed_origins),
            drop_cookies,
            upstream: _,
        } = streamlit;
        Ok(Self {
            listen: SocketAddr::new(host, port),
            reuse_port,
            tls,
            api,
            upstream,
            app,
            streamlit_command,
            python,
            trusted_user_headers,
            workers,
            connect_timeout,
            read_timeout,
            handshake_timeout,
            drain_delay,
            grace_period,
            limits,
            observe,
            origins,
            allowed_origins,
            drop_cookies,
            policy,
            rules: written_rules,
            streamlit_arguments,
            child_environment,
            sources: Arc::new(sources),
            table,
            warnings,
            advice,
        })
    }
}

/// Returns the path under which the app is published; empty if the policy's settings do not name one or are invalid.
fn mount(rules: &Map<String, Value>) -> String {
    let root_path = rules.get_key_value("root_path");
    let root_path = root_path.map(|(name, path)| (name.clone(), path.clone()));
    Policy::from_settings(root_path.into_iter().collect(), Defaults::GATEWAY)
        .map(|policy| policy.mount().to_owned())
        .unwrap_or_default()
}

/// Adds the settings that follow from the upstreams to those of the policy.
fn rules_for_upstreams(
    mut rules: Map<String, Value>,
    streamlit: Option<&UpstreamUrl>,
    api: Option<&Api>,
) -> Map<String, Value> {
    if streamlit.is_some_and(|streamlit| streamlit.base.is_empty()) {
        rules
            .entry("upstream_path")
            .or_insert_with(|| "stripped".into());
    }
    let authorities = rules
        .entry("upstream_authorities")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(authorities) = authorities {
        let upstreams = streamlit
            .into_iter()
            .chain(api.and_then(|api| api.upstream.as_ref()));
        authorities.extend(upstreams.map(|upstream| Value::from(upstream.authority())));
        // Streamlit calls itself localhost, whatever its address is.
        let own_name = streamlit.map(|streamlit| format!("localhost:{}", streamlit.port));
        authorities.extend(own_name.map(Value::from));
    }
    rules
}

/// Returns advice if Streamlit knows its mount and still sets cookies for the whole host. Without the mount in its paths,
/// the policy restricts them anyway.
fn shared_cookies(rules: &Map<String, Value>, upstream: &UpstreamUrl) -> Option<SettingWarning> {
    let mount = &upstream.base;
    let is_stripped = rules.get("upstream_path").and_then(Value::as_str) == Some("stripped");
    (!mount.is_empty() && !is_stripped && !rules.contains_key("cookie_path")).then(|| {
        SettingWarning::new(
            "cookies_shared",
            format!(
                "Streamlit sets its cookies for the whole host, so apps on this host share them: set \
                 FLUXLIT_COOKIE_PATH=confine in each of them, which restricts these to {mount}, or FLUXLIT_COOKIE_PATH=mount \
                 if no other app needs this host"
            ),
        )
    })
}

/// Returns a warning if Streamlit takes its user from headers that no peer may pass.
fn unpassed_user(
    trusted_user_headers: &Map<String, Value>,
    passes_none: bool,
) -> Option<SettingWarning> {
    let names: Vec<&str> = trusted_user_headers.keys().map(String::as_str).collect();
    (passes_none && !names.is_empty()).then(|| {
        SettingWarning::new(
            "user_headers_not_passed",
            format!(
                "Streamlit takes st.user from {} (server.trustedUserHeaders), which no peer may send: list it in \
                 FLUXLIT_TRUSTED_PASS_HEADERS if your proxy sets it",
                names.join(", ")
            ),
        )
    })
}

const PORT: &str = "FLUXLIT_GATEWAY_PORT";

#[cfg(test)]
mod tests;
