//! Reads the gateway's settings from the command line, the environment, `.env` and a file.
//!
//! [`Sources`] says which place takes precedence. A setting has one name: `FLUXLIT_` and upper case in the environment and in
//! `.env`, without `FLUXLIT_` and in lower case in the file. All errors are reported together, each with the place, the value
//! and what is allowed. A name that is not a setting is usually a typing error: it is an error in the file, and a warning in
//! the environment, where an app may have its own variables.

mod dot_env;
mod error;
mod file;
mod fluxlit_variables;
mod limits;
mod observe;
mod origin;
mod public_base;
mod rules;
mod service_links;
mod source;
mod sources;
mod trusted_user_headers;
mod upstream;
mod values;
mod warning;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fluxlit_policy::{Action, AllowedOrigins, Defaults, DropCookies, Edit, Peer, Policy, Request};
use serde_json::{Map, Value};

use crate::settings::error::LocatedError;
pub use crate::settings::error::{SettingError, SettingErrors};
pub use crate::settings::limits::Limits;
pub(crate) use crate::settings::limits::{STREAMLIT_FIELDS, STREAMLIT_LINE};
pub use crate::settings::observe::{LogFormat, LogLevel, Observe};
pub use crate::settings::origin::{Origin, Setting};
use crate::settings::rules::GENERIC_BASE_URL;
use crate::settings::source::{Source, settings};
pub use crate::settings::sources::{Flag, Sources};
pub(crate) use crate::settings::trusted_user_headers::TRUSTED_USER_HEADERS;
pub use crate::settings::trusted_user_headers::{StreamlitFileError, StreamlitFiles};
pub use crate::settings::upstream::{Api, App, UpstreamUrl};
use crate::settings::upstream::{ApiSettings, Streamlit};
use crate::settings::values::{
    Boolean, Custom, PREFIX, Parsed, Seconds, SecondsOrZero, Text, Whole, read_json_list,
};
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
}

/// The PEM files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates that sign those of clients; `None` if clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

settings! {
    /// The settings of the process, and of its connections to upstreams.
    struct Process {
        /// The address to listen on.
        host: IpAddr = "FLUXLIT_GATEWAY_HOST",
            default("127.0.0.1"), Parsed::new("an IP address, such as 127.0.0.1 or 0.0.0.0");
        /// The port to listen on; 0 takes a free one.
        port: u16 = "FLUXLIT_GATEWAY_PORT",
            default("8000"), Whole { min: 0, max: u16::MAX };
        /// The number of worker threads.
        workers: usize = "FLUXLIT_GATEWAY_WORKERS",
            default_from(|_| available_cores()), Whole { min: 1, max: 1024 };
        /// True if another process may listen on the same address.
        reuse_port: bool = "FLUXLIT_GATEWAY_REUSE_PORT",
            default("false"), Boolean;
        /// The file of the TLS certificate.
        certificate: Option<String> = "FLUXLIT_TLS_CERTIFICATE",
            optional, Text;
        /// The file of its private key.
        key: Option<String> = "FLUXLIT_TLS_KEY",
            optional, Text;
        /// The file of the certificates that sign those of clients.
        client_ca: Option<String> = "FLUXLIT_TLS_CLIENT_CA",
            optional, Text;
        /// Names of headers that FluxLit copies to Streamlit. They pass here without a list.
        forwarded_headers: Vec<String> = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT",
            or_empty, Custom { read: read_json_list, expected: JSON_LIST };
        /// True if a warning about the settings is an error.
        strict_startup: bool = "FLUXLIT_STRICT_STARTUP",
            default("false"), Boolean;
        /// True if two different public base URLs are an error.
        strict_public_base_url: bool = "FLUXLIT_STRICT_PUBLIC_BASE_URL",
            default("false"), Boolean;
        /// Further arguments for `streamlit run`.
        streamlit_arguments: Vec<String> = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS",
            or_empty, Custom { read: read_json_list, expected: JSON_LIST };
        /// The Streamlit executable.
        streamlit_command: String = "FLUXLIT_STREAMLIT_COMMAND",
            default("streamlit"), Text;
        /// Maximum time to connect to an upstream.
        connect_timeout: Duration = "FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S",
            default("5"), Seconds;
        /// Maximum time until an upstream begins its response.
        read_timeout: Duration = "FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S",
            default("120"), Seconds;
        /// Maximum time until an upstream responds to a WebSocket handshake.
        handshake_timeout: Duration = "FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S",
            default("30"), Seconds;
        /// How long connections are still accepted, with readiness 503, after the signal to stop.
        drain_delay: Duration = "FLUXLIT_DRAIN_DELAY_S",
            default("0"), SecondsOrZero;
        /// Maximum time for requests in flight to finish once the gateway stops. The second name is FluxLit's.
        grace_period: Duration = "FLUXLIT_GRACE_PERIOD_S" or "FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S",
            default("10"), Seconds;
    }
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
        let api = api.and_then(|api| Api::new(api, &mount).map_err(&mut keep).ok());
        let mut written_rules = rules.clone();
        written_rules.remove("probe_key");
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
            if let Some(reason) = process.refused_argument() {
                keep(SettingError::Refused {
                    place: STREAMLIT_ARGUMENTS.to_owned(),
                    reason,
                });
            }
            if let (true, Some(reason)) = (process.strict_public_base_url, two_base_urls(&sources))
            {
                keep(SettingError::Refused {
                    place: GENERIC_BASE_URL.to_owned(),
                    reason,
                });
            }
            if let Some(policy) = &policy {
                let removed = process.removed_headers(policy, passed_by_peers.as_ref());
                for (name, is_removed_by_fluxlit) in removed {
                    match is_removed_by_fluxlit {
                        true => other_warnings.push(SettingWarning::new(
                            "gateway_forward_blocked_names",
                            format!(
                                "{FORWARDED_HEADERS} lists {name}, which the gateway sets itself; FluxLit ignores that \
                                 name as well"
                            ),
                        )),
                        false => keep(SettingError::Refused {
                            place: FORWARDED_HEADERS.to_owned(),
                            reason: format!(
                                "with {name}, any client could choose its user, address or path: list it in \
                                 FLUXLIT_TRUSTED_PASS_HEADERS if your proxy sets it, which then may send it alone"
                            ),
                        }),
                    }
                }
            }
        }
        let warnings: Vec<SettingWarning> = observe
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
            errors.extend(warnings.iter().cloned().map(SettingError::Strict));
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
            return Err(located(errors, &table));
        };
        if !errors.is_empty() {
            return Err(located(errors, &table));
        }
        if api.sub_app.strip(observe.metrics_path.as_bytes()).is_some() {
            let error = SettingError::MetricsPath {
                path: observe.metrics_path,
                api: api.sub_app.path().to_owned(),
            };
            return Err(located(vec![error], &table));
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
            client_ca: _,
            forwarded_headers: _,
            strict_startup: _,
            strict_public_base_url: _,
            streamlit_arguments,
            streamlit_command,
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

impl Process {
    /// Returns why an argument for Streamlit cannot be used.
    fn refused_argument(&self) -> Option<String> {
        self.streamlit_arguments.iter().find_map(|argument| {
            let option = argument.split('=').next().unwrap_or_default();
            let (_, reason) = REFUSED_ARGUMENTS.iter().find(|(name, _)| *name == option)?;
            Some(format!("`{option}`: {reason}"))
        })
    }

    /// Returns a warning if Streamlit is told to switch off a protection, as FluxLit does.
    fn warnings(&self) -> Option<SettingWarning> {
        let arguments = self.streamlit_arguments.join(" ").replace('=', " ");
        let is_off = |option: &str| arguments.contains(&format!("{option} false"));
        let option = PROTECTIONS.into_iter().find(|option| is_off(option))?;
        Some(SettingWarning::new(
            "streamlit_protection_off",
            format!(
                "{STREAMLIT_ARGUMENTS} has `{option} false`, which lets pages of other sites upload files in the name of a \
                 user: remove it, because Streamlit's protections work behind the gateway"
            ),
        ))
    }

    /// Returns the headers of FluxLit's list that are removed from the requests of clients, and whether FluxLit does not
    /// forward them either.
    fn removed_headers<'s>(
        &'s self,
        policy: &Policy,
        passed_by_peers: Option<&Value>,
    ) -> impl Iterator<Item = (&'s str, bool)> {
        let passed = passed_by_peers.and_then(Value::as_array);
        let passed: Vec<String> = passed
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        self.forwarded_headers.iter().filter_map(move |name| {
            let is_passed = passed
                .iter()
                .any(|passed| passed.eq_ignore_ascii_case(name));
            (!is_passed && is_removed(policy, name)).then(|| {
                let name = name.as_str();
                let is_blocked = name.to_ascii_lowercase().starts_with("x-forwarded-")
                    && BLOCKED_BY_FLUXLIT.contains(&name.to_ascii_lowercase().as_str());
                (name, is_blocked)
            })
        })
    }
}

/// Returns true if the policy removes a header from the requests of clients.
fn is_removed(policy: &Policy, name: &str) -> bool {
    let decision = policy.request(&Request {
        peer: Peer::Unknown,
        identity: None,
        is_reentry: false,
        tls: false,
        method: b"POST",
        target: b"/",
        host: None,
        headers: &[(name.as_bytes(), b"x")],
    });
    let edits = match decision.action {
        Action::Forward(forward) => forward.edits,
        Action::Reply(_) => return false,
    };
    edits.iter().any(|edit| match edit {
        Edit::Remove(other) | Edit::Set(other, _) => other.eq_ignore_ascii_case(name),
        _ => false,
    })
}

/// Returns the places in `mounts` that ask for a path that Streamlit cannot serve.
fn full_paths(mounts: &Value) -> impl Iterator<Item = String> {
    let entries = mounts.as_array().into_iter().flatten().enumerate();
    entries
        .filter(|(_, entry)| entry.get("upstream_path").and_then(Value::as_str) == Some("full"))
        .map(|(index, _)| format!("mounts[{index}].upstream_path"))
}

/// Returns the reason why the two public base URLs cannot both be right.
fn two_base_urls(sources: &Sources) -> Option<String> {
    let ours = sources.find("FLUXLIT_PUBLIC_BASE_URL")?;
    let generic = sources.in_environment(GENERIC_BASE_URL)?;
    let [ours, generic] = [ours, generic].map(|found| found.text.trim().to_owned());
    let differ = !ours.is_empty() && !generic.is_empty() && ours != generic;
    differ.then(|| {
        format!(
            "`{generic}` differs from FLUXLIT_PUBLIC_BASE_URL, `{ours}`, and FLUXLIT_STRICT_PUBLIC_BASE_URL is on: set both to \
             the same URL, or unset one"
        )
    })
}

/// Adds the origins of the settings that the errors name.
fn located(errors: Vec<SettingError>, table: &[Setting]) -> SettingErrors {
    let locate = |error: SettingError| {
        let origins = match &error {
            SettingError::Policy(of_policy) => origins_of(
                &format!("{} {of_policy}", concerns(of_policy.code())),
                table,
            ),
            SettingError::Value { .. }
            | SettingError::UnknownKey { .. }
            | SettingError::KeyForm { .. }
            | SettingError::TomlSyntax { .. }
            | SettingError::DotEnvSyntax { .. }
            | SettingError::FileRead { .. }
            | SettingError::NotText { .. }
            | SettingError::Strict(_) => Vec::new(),
            other => origins_of(&other.to_string(), table),
        };
        LocatedError { error, origins }
    };
    SettingErrors(errors.into_iter().map(locate).collect())
}

/// Returns the setting that an error of the policy concerns if its text does not name it.
fn concerns(code: &str) -> &'static str {
    match code {
        "E02" | "E03" | "E04" | "E05" | "E06" | "E07" | "E08" | "E09" | "E10" => {
            "forwarded_allow_ips"
        }
        _ => "",
    }
}

/// Returns the origin of each setting that a text names, as the variable or as the key.
fn origins_of(text: &str, table: &[Setting]) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words: Vec<&str> = text.split(|character| !is_part(character)).collect();
    let named = table.iter().filter(|setting| {
        let key = setting.name.strip_prefix(PREFIX).unwrap_or(&setting.name);
        let key = key.to_ascii_lowercase();
        setting.origin != Origin::Default
            && (words.contains(&setting.name.as_str())
                // A key of one word is also an English word.
                || (key.contains('_') || key == "mounts" || key == "hsts") && words.contains(&key.as_str()))
    });
    named
        .map(|setting| match &setting.origin {
            Origin::Environment { variable } => format!("{variable} is from the environment"),
            origin => format!("{} is from {origin}", setting.name),
        })
        .collect()
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

fn tls_files(process: &Process, has_identities: bool) -> Result<Option<TlsFiles>, SettingError> {
    let (certificate_name, key_name) = ("FLUXLIT_TLS_CERTIFICATE", "FLUXLIT_TLS_KEY");
    let client_ca = process.client_ca.as_ref();
    let (set, missing) = match (&process.certificate, &process.key) {
        (Some(_), Some(_)) if has_identities && client_ca.is_none() => {
            return Err(SettingError::IdentitiesWithoutTls);
        }
        (Some(certificate), Some(key)) => {
            return Ok(Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
                client_ca: client_ca.map(Into::into),
            }));
        }
        (None, None) if has_identities => return Err(SettingError::IdentitiesWithoutTls),
        (None, None) if client_ca.is_some() => ("FLUXLIT_TLS_CLIENT_CA", certificate_name),
        (None, None) => return Ok(None),
        (Some(_), None) => (certificate_name, key_name),
        (None, Some(_)) => (key_name, certificate_name),
    };
    Err(SettingError::HalfOfTls { set, missing })
}

fn available_cores() -> String {
    std::thread::available_parallelism()
        .map_or(1, Into::into)
        .to_string()
}

const PORT: &str = "FLUXLIT_GATEWAY_PORT";
const FORWARDED_HEADERS: &str = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT";
const STREAMLIT_ARGUMENTS: &str = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS";

/// The description of a list of texts.
const JSON_LIST: &str = r#"a JSON list of texts, such as ["a", "b"]"#;

/// Options of Streamlit that the gateway sets. FluxLit rejects the first three as well.
const REFUSED_ARGUMENTS: [(&str, &str); 4] = [
    ("--server.port", SET_BY_GATEWAY),
    ("--server.address", SET_BY_GATEWAY),
    (
        "--server.baseUrlPath",
        "it is the mount: set FLUXLIT_ROOT_PATH",
    ),
    (
        "--server.trustedUserHeaders",
        "the gateway must know these headers to protect them: set them in .streamlit/config.toml",
    ),
];
const SET_BY_GATEWAY: &str =
    "the gateway selects where Streamlit listens, so that nothing else can reach it";

/// Options that protect against pages of other sites.
const PROTECTIONS: [&str; 2] = ["--server.enableXsrfProtection", "--server.enableCORS"];

/// Headers that FluxLit sets itself, and does not take from this list.
const BLOCKED_BY_FLUXLIT: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];

#[cfg(test)]
mod tests {
    use fluxlit_policy::{Header, Response};

    use super::*;

    fn read(app: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a folder");
        read_in(folder.path(), app, environment)
    }

    /// Reads the settings in a folder that may have files.
    fn read_in(
        folder: &std::path::Path,
        app: Option<&str>,
        environment: &[(&str, &str)],
    ) -> Result<Settings, String> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let app = app.map(|script| App {
            script: script.to_owned(),
            port: 8501,
            streamlit_files: StreamlitFiles::default(),
        });
        let sources = Sources::read(Vec::new(), None, folder, environment);
        Settings::read(app, sources).map_err(|errors| errors.to_string())
    }

    fn texts(settings: &Settings) -> Vec<String> {
        settings.warnings.iter().map(ToString::to_string).collect()
    }

    const UP: (&str, &str) = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");

    /// Its upload response allows `http://localhost:PORT` as an origin, whatever its address is.
    #[test]
    fn streamlit_calls_itself_localhost() {
        let policy = read(None, &[UP]).unwrap().policy;
        let exchange = policy
            .request(&Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: true,
                method: b"PUT",
                target: b"/_stcore/upload_file/a/b",
                host: Some(b"app.example"),
                headers: &[],
            })
            .exchange;
        let allowed: Header<'_> = (
            b"access-control-allow-origin",
            b"http://localhost:8501/apps/my-app",
        );
        let response = Response {
            status: 204,
            headers: &[allowed],
        };
        let edits = policy.response(&exchange, &response).edits;
        let public = b"https://app.example".to_vec();
        let want = Edit::Set("access-control-allow-origin".into(), public);
        assert_eq!(edits, [want]);
    }

    #[test]
    fn nothing_to_serve_is_an_error_with_a_hint() {
        let error = read(None, &[]).unwrap_err();
        assert!(
            error.contains("FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"),
            "{error}"
        );
    }

    #[test]
    fn all_errors_are_reported_together() {
        let error = read(
            None,
            &[
                UP,
                ("FLUXLIT_GATEWAY_PORT", "http"),
                ("FLUXLIT_TRUST_PROXY", "maybe"),
                ("FLUXLIT_ROOT_PATH", "/a/../b"),
                ("FLUXLIT_GRACE_PERIOD_S", "-1"),
            ],
        )
        .unwrap_err();
        for text in [
            "FLUXLIT_GATEWAY_PORT: `http`",
            "FLUXLIT_TRUST_PROXY: `maybe`",
            "E12",
            "FLUXLIT_GRACE_PERIOD_S: `-1`",
        ] {
            assert!(error.contains(text), "{text} is missing in {error}");
        }
    }

    #[test]
    fn trust_without_a_list_is_an_error() {
        let error = read(None, &[UP, ("FLUXLIT_TRUST_PROXY", "1")]).unwrap_err();
        assert!(error.contains("E01"), "{error}");
    }

    #[test]
    fn an_upstream_path_must_be_the_mount() {
        let error = read(
            None,
            &[
                ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501/other"),
                ("FLUXLIT_ROOT_PATH", "/apps/my-app"),
            ],
        )
        .unwrap_err();
        assert!(
            error.contains("`/other`") && error.contains("`/apps/my-app`"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_variable_is_a_warning() {
        let settings = read(None, &[UP, ("FLUXLIT_ROOTPATH", "/x")]).unwrap();
        assert_eq!(
            texts(&settings),
            [
                "FLUXLIT_ROOTPATH is not a variable of the gateway or of FluxLit 0.13.2, so it has no effect on them: did you \
                 mean FLUXLIT_ROOT_PATH?"
            ]
        );
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_not_settings() {
        let settings = read(
            None,
            &[
                UP,
                ("FLUXLIT_GATEWAY_PORT", "tcp://10.0.0.11:80"),
                ("FLUXLIT_GATEWAY_PORT_80_TCP", "tcp://10.0.0.11:80"),
                ("FLUXLIT_GATEWAY_PORT_80_TCP_ADDR", "10.0.0.11"),
                ("FLUXLIT_GATEWAY_PORT_80_TCP_PORT", "80"),
                ("FLUXLIT_GATEWAY_PORT_80_TCP_PROTO", "tcp"),
                ("FLUXLIT_GATEWAY_SERVICE_HOST", "10.0.0.11"),
                ("FLUXLIT_GATEWAY_SERVICE_PORT", "80"),
                ("FLUXLIT_GATEWAY_SERVICE_PORT_HTTP", "80"),
                ("FLUXLIT_GATEWAY_HOST", "::1"),
            ],
        )
        .unwrap();
        assert_eq!(settings.listen, "[::1]:8000".parse().unwrap());
        let warnings = texts(&settings);
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert!(
            warning.contains("`fluxlit-gateway`") && warning.contains("enableServiceLinks: false"),
            "{warning}"
        );
        // Other values are still errors.
        let error = read(None, &[UP, ("FLUXLIT_GATEWAY_PORT", "http://a:80")]).unwrap_err();
        assert!(error.contains("FLUXLIT_GATEWAY_PORT"), "{error}");
    }

    #[test]
    fn every_setting_is_documented() {
        let documentation = include_str!("../../../docs/gateway.md");
        let groups = [
            Process::NAMES,
            Limits::NAMES,
            Observe::NAMES,
            Streamlit::NAMES,
            ApiSettings::NAMES,
        ];
        for name in groups.concat() {
            let is_documented = documentation.contains(&format!("`{name}`"));
            assert!(is_documented, "{name} is not in docs/gateway.md");
        }
    }

    #[test]
    fn fluxlit_s_name_of_the_grace_period_counts_if_ours_is_not_set() {
        const OURS: (&str, &str) = ("FLUXLIT_GRACE_PERIOD_S", "1");
        const FLUXLIT: (&str, &str) = ("FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S", "2");
        let table = [
            (&[UP][..], 10, 0),
            (&[UP, FLUXLIT], 2, 0),
            (&[UP, FLUXLIT, OURS], 1, 1),
        ];
        for (environment, seconds, warnings) in table {
            let settings = read(None, environment).unwrap();
            assert_eq!(settings.grace_period, Duration::from_secs(seconds));
            assert_eq!(settings.warnings.len(), warnings);
        }
    }

    #[test]
    fn the_headers_of_streamlit_s_user_are_protected() {
        const OPTION: &str = TRUSTED_USER_HEADERS;
        let mapping = (OPTION, r#"{"X-Login": "email"}"#);
        let pass = ("FLUXLIT_TRUSTED_PASS_HEADERS", "x-login");
        for (environment, count, warnings) in [
            (&[][..], 0, 0),
            (&[mapping], 1, 1),
            (&[mapping, pass], 1, 0),
        ] {
            let settings = read(Some("app.py"), environment).unwrap();
            assert_eq!(settings.trusted_user_headers.len(), count);
            assert_eq!(settings.warnings.len(), warnings, "{:?}", settings.warnings);
        }
        // A Streamlit that runs already has settings of its own.
        let settings = read(None, &[UP, mapping]).unwrap();
        assert_eq!(settings.trusted_user_headers.len(), 0);
        for (value, text) in [
            (r#"{"Host": "email"}"#, "\"Host\""),
            (r#"{"X-Real-IP": "email"}"#, "\"X-Real-IP\""),
            (r#"{"a b": "email"}"#, "\"a b\""),
            (r#"{"": "email"}"#, "server.trustedUserHeaders"),
            ("x", "`x`"),
        ] {
            let error = read(Some("app.py"), &[(OPTION, value)]).unwrap_err();
            assert!(error.contains(text), "{text} is missing in {error}");
        }
    }

    /// Writes files into a new folder.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn the_documented_file_is_valid() {
        let text = include_str!("../../../docs/gateway.md");
        let (_, text) = text.split_once("```toml\n").expect("an example");
        let (text, _) = text.split_once("```").expect("its end");
        let folder = folder(&[("fluxlit.toml", text)]);
        let settings = read_in(folder.path(), None, &[UP]).expect("settings");
        assert_eq!(settings.policy.mount(), "/apps/my-app");
        assert!(settings.rules.len() > 3);
    }

    #[test]
    fn the_place_that_takes_precedence_is_the_origin() {
        const NAME: &str = "FLUXLIT_ROOT_PATH";
        let folder = folder(&[
            (".env", "# settings\nFLUXLIT_ROOT_PATH=/dot-env\n"),
            ("fluxlit.toml", "\nroot_path = \"/file\"\n"),
        ]);
        let without = tempfile::tempdir().expect("a folder");
        let flag = Flag {
            name: "--root-path",
            variable: NAME,
            value: "/flag".to_owned(),
        };
        let variable = (NAME, "/environment");
        for (flags, environment, place, mount, origin) in [
            (
                vec![flag],
                &[UP, variable][..],
                &folder,
                "/flag",
                "--root-path",
            ),
            (
                vec![],
                &[UP, variable],
                &folder,
                "/environment",
                "environment",
            ),
            (vec![], &[UP], &folder, "/dot-env", ".env:2"),
            (vec![], &[UP], &without, "", "default"),
        ] {
            let environment = environment
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            let sources = Sources::read(flags, None, place.path(), environment);
            let settings = Settings::read(None, sources).expect("settings");
            assert_eq!(settings.policy.mount(), mount);
            let setting = settings.table.iter().find(|setting| setting.name == NAME);
            let found = setting.expect("it is listed").origin.to_string();
            assert!(found.ends_with(origin), "{found} instead of {origin}");
        }
        std::fs::remove_file(folder.path().join(".env")).expect("a file");
        let settings = read_in(folder.path(), None, &[UP]).expect("settings");
        assert_eq!(settings.policy.mount(), "/file");
        // FluxLit's names have no case.
        let lower = ("fluxlit_root_path", "/lower");
        let settings = read_in(folder.path(), None, &[UP, lower]).expect("settings");
        assert_eq!(settings.policy.mount(), "/lower");
        let settings = read_in(folder.path(), None, &[UP, lower, variable]).expect("settings");
        assert_eq!(settings.policy.mount(), "/environment");
    }

    #[test]
    fn faults_of_all_places_are_reported_together_with_their_lines() {
        let folder = folder(&[
            (".env", "FLUXLIT_GRACE_PERIOD_S=x\nno statement\n"),
            (
                "fluxlit.toml",
                "gateway_port = \"x\"\nroot_path = \"/a b\"\nrootpath = \"/a\"\nhsts = =\n",
            ),
        ]);
        let variables = [
            UP,
            ("FLUXLIT_TRUST_PROXY", "1"),
            ("FLUXLIT_FORWARDED_ALLOW_IPS", "localhost"),
            ("FLUXLIT_STREAMLIT_UPSTREAM_FILE", "/tmp/x"),
        ];
        let errors = read_in(folder.path(), None, &variables).unwrap_err();
        let errors = errors.replace(&format!("{}/", folder.path().display()), "");
        for expected in [
            ".env:1: FLUXLIT_GRACE_PERIOD_S: `x` is not",
            ".env:2: not `NAME=value`",
            "fluxlit.toml:1: gateway_port: `x` is not",
            "(FLUXLIT_ROOT_PATH is from fluxlit.toml:2)",
            "fluxlit.toml:3: `rootpath` is not a setting of the gateway or of FluxLit: did you mean `root_path`?",
            "fluxlit.toml:4: not valid TOML",
            "(FLUXLIT_FORWARDED_ALLOW_IPS is from the environment)",
            "FLUXLIT_STREAMLIT_UPSTREAM_FILE: the upstream is not read from a file",
        ] {
            assert!(
                errors.contains(expected),
                "{expected} is missing in {errors}"
            );
        }
    }

    #[test]
    fn variables_of_fluxlit_have_their_meaning() {
        let read = |environment: &[(&str, &str)]| {
            let environment = [&[UP], environment].concat();
            read(None, &environment)
        };
        let settings = read(&[("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p")]).unwrap();
        assert_eq!(settings.policy.mount(), "/p");
        let settings = read(&[
            ("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p"),
            ("FLUXLIT_ROOT_PATH", " "),
        ]);
        assert_eq!(settings.unwrap().policy.mount(), "/p");
        let settings = read(&[
            ("FLUXLIT_STREAMLIT_PUBLIC_PATH", "/p"),
            ("FLUXLIT_ROOT_PATH", "/r"),
        ])
        .unwrap();
        assert_eq!(settings.policy.mount(), "/r");
        assert_eq!(
            texts(&settings),
            ["FLUXLIT_STREAMLIT_PUBLIC_PATH is not used, because FLUXLIT_ROOT_PATH is set"]
        );

        // FluxLit adds the mount to an origin.
        for (url, want) in [
            ("https://a.example", "https://a.example/m"),
            ("https://a.example/", "https://a.example/m"),
            ("https://a.example/p", "https://a.example/p"),
        ] {
            for name in ["FLUXLIT_PUBLIC_BASE_URL", "PUBLIC_BASE_URL"] {
                let settings = read(&[(name, url), ("FLUXLIT_ROOT_PATH", "/m/")]).unwrap();
                assert_eq!(settings.rules["public_base_url"], want, "{name}={url}");
            }
        }
        let both = [
            ("FLUXLIT_PUBLIC_BASE_URL", "https://a.example"),
            ("PUBLIC_BASE_URL", "https://b.example"),
        ];
        let settings = read(&both).unwrap();
        assert_eq!(settings.rules["public_base_url"], "https://a.example");
        assert_eq!(settings.warnings.len(), 1);
        let strict = [&both[..], &[("FLUXLIT_STRICT_PUBLIC_BASE_URL", "1")]].concat();
        let error = read(&strict).unwrap_err();
        assert!(
            error.starts_with("PUBLIC_BASE_URL: `https://b.example`"),
            "{error}"
        );
        let blank = read(&[("FLUXLIT_PUBLIC_BASE_URL", "")]).unwrap();
        assert_eq!(blank.rules.get("public_base_url"), None);

        let settings = read(&[("FLUXLIT_ENABLE_SECURITY_HEADERS", "1")]).unwrap();
        assert_eq!(settings.rules["security_headers"], true);
        assert_eq!(settings.rules["hsts"], "fluxlit");
        let settings = read(&[
            ("FLUXLIT_ENABLE_SECURITY_HEADERS", "1"),
            ("FLUXLIT_HSTS", "false"),
        ]);
        assert_eq!(settings.unwrap().rules["hsts"], false);

        let connections = ("FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS", "7");
        assert_eq!(read(&[connections]).unwrap().limits.concurrent, 7);
        let requests = ("FLUXLIT_GATEWAY_MAX_CONCURRENT_UPSTREAM_HTTP", "9");
        assert_eq!(read(&[connections, requests]).unwrap().limits.concurrent, 9);
        let none = ("FLUXLIT_GATEWAY_HTTPX_MAX_CONNECTIONS", "0");
        assert_eq!(read(&[none]).unwrap().limits.concurrent, 1024);

        let settings = read(&[("FLUXLIT_DEBUG", "1")]).unwrap();
        assert!(settings.observe.access_log && settings.observe.debug);
        assert_eq!(
            settings.observe.log_directives(),
            "info,fluxlit_gateway=debug"
        );
        let settings = read(&[("FLUXLIT_LOG_LEVEL", "CRITICAL"), ("FLUXLIT_DEBUG", "1")]).unwrap();
        assert_eq!(settings.observe.log_directives(), "error");
        let settings = read(&[("FLUXLIT_URL_SESSION_QUERY_PARAM", "sid")]).unwrap();
        assert_eq!(settings.observe.redacted_parameters(), ["sid"]);

        let path = "FLUXLIT_GATEWAY_PROMETHEUS_METRICS_PATH";
        let settings = read(&[(path, "/metrics")]).unwrap();
        assert_eq!(settings.observe.metrics_path, "/metrics");
        for (value, text) in [
            ("metrics", "is not a path"),
            ("/api/metrics", "choose one that is not below"),
        ] {
            let error = read(&[(path, value)]).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_variable_without_effect_has_a_warning_with_the_reason() {
        for name in [
            "FLUXLIT_GATEWAY_HTTPX_MAX_KEEPALIVE_CONNECTIONS",
            "FLUXLIT_GATEWAY_WS_CLOSE_TIMEOUT_S",
            "FLUXLIT_GATEWAY_WS_MAX_MESSAGE_BYTES",
            "FLUXLIT_GATEWAY_WS_PING_INTERVAL_S",
            "FLUXLIT_GATEWAY_WS_PING_TIMEOUT_S",
            "FLUXLIT_INTERNAL_API_BASE",
            "FLUXLIT_PEER_FILTER_STATE_KEY",
            "FLUXLIT_PIDFILE",
            "FLUXLIT_STREAMLIT_HOST",
            "FLUXLIT_STREAMLIT_PORT",
        ] {
            let settings = read(None, &[UP, (name, "1")]).unwrap();
            let warnings = texts(&settings);
            let start = format!("{name} has no effect: ");
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(&start),
                "{warnings:?}"
            );
        }
        let quiet = [
            UP,
            ("FLUXLIT_NO_PIDFILE", "1"),
            ("FLUXLIT_APP", "app:app"),
            ("FLUXLIT_TITLE", "x"),
            ("FLUXLIT_JWT_HS256_SECRET", "hunter2"),
            ("OTHER", "1"),
        ];
        let settings = read(None, &quiet).unwrap();
        assert_eq!(texts(&settings), [""; 0]);
        let secret = settings
            .table
            .iter()
            .find(|setting| setting.name.ends_with("SECRET"));
        assert_eq!(secret.unwrap().value, "[REDACTED]");
    }

    #[test]
    fn with_strict_startup_a_warning_is_an_error() {
        let strict = ("FLUXLIT_STRICT_STARTUP", "1");
        assert!(read(None, &[UP, strict]).is_ok());
        let error = read(None, &[UP, strict, ("FLUXLIT_PIDFILE", "x")]).unwrap_err();
        assert!(
            error.starts_with("FLUXLIT_PIDFILE has no effect"),
            "{error}"
        );
    }

    #[test]
    fn headers_that_name_the_user_are_not_forwarded_from_anyone() {
        let name = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT";
        for value in [
            "traceparent, X-Request-ID",
            "[\"authorization\", \"cookie\"]",
            "",
        ] {
            let settings = read(None, &[UP, (name, value)]).unwrap();
            assert_eq!(texts(&settings), [""; 0], "{value}");
        }
        for value in ["x-forwarded-user", "[\"X-Real-IP\"]", "a, Remote_User"] {
            let error = read(None, &[UP, (name, value)]).unwrap_err();
            assert!(error.contains("any client could choose"), "{error}");
        }
        let pass = ("FLUXLIT_TRUSTED_PASS_HEADERS", "X-Forwarded-User");
        assert!(read(None, &[UP, pass, (name, "x-forwarded-user")]).is_ok());
        let settings = read(None, &[UP, (name, "x-forwarded-for")]).unwrap();
        assert_eq!(settings.warnings[0].code, "gateway_forward_blocked_names");
        assert!(read(None, &[UP, (name, "[1]")]).is_err());
    }

    #[test]
    fn arguments_for_streamlit_cannot_undo_what_the_gateway_sets() {
        let name = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS";
        let settings = read(Some("app.py"), &[(name, r#"["--theme.base", "light"]"#)]).unwrap();
        assert_eq!(settings.streamlit_arguments, ["--theme.base", "light"]);
        for option in [
            "--server.port",
            "--server.address=::",
            "--server.baseUrlPath",
            "--server.trustedUserHeaders",
        ] {
            let error =
                read(Some("app.py"), &[(name, &format!("[\"{option}\", \"1\"]"))]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        for value in [
            r#"["--server.enableXsrfProtection", "false"]"#,
            r#"["--server.enableCORS=false"]"#,
        ] {
            let settings = read(Some("app.py"), &[(name, value)]).unwrap();
            assert_eq!(settings.warnings[0].code, "streamlit_protection_off");
        }
    }

    #[test]
    fn the_app_gets_what_it_does_not_inherit() {
        let folder = folder(&[
            (
                ".env",
                "FLUXLIT_TITLE=My App\nFLUXLIT_JWT_AUDIENCE=env\nFLUXLIT_HSTS=true\nDATABASE=x\n",
            ),
            (
                "fluxlit.toml",
                "root_path = \"/m\"\ndebug = true\ncors_allow_origins = [\"https://a\"]\njwt_audience = \"file\"\n\
                 title = \"file\"\ntrusted_pass_headers = [\"x-login\"]\n",
            ),
        ]);
        let settings = read_in(
            folder.path(),
            Some("app.py"),
            &[
                ("FLUXLIT_JWT_ISSUER", "inherited"),
                ("fluxlit_jwt_audience", "other case"),
                ("FLUXLIT_GATEWAY_PORT", "tcp://10.0.0.11:80"),
                ("FLUXLIT_GATEWAY_SERVICE_HOST", "10.0.0.11"),
            ],
        )
        .unwrap();
        let mut environment = settings.child_environment;
        environment.sort();
        let expected = [
            ("FLUXLIT_CORS_ALLOW_ORIGINS", r#"["https://a"]"#),
            ("FLUXLIT_DEBUG", "true"),
            // FluxLit would not start with what Kubernetes sets.
            ("FLUXLIT_GATEWAY_PORT", "8000"),
            ("FLUXLIT_JWT_AUDIENCE", "other case"),
            ("FLUXLIT_ROOT_PATH", "/m"),
            ("FLUXLIT_TITLE", "My App"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment, expected);
    }

    #[test]
    fn the_target_is_named_by_a_variable_or_by_the_file() {
        let with = folder(&[("pyproject.toml", "[tool.fluxlit]\ntarget = \"main:app\"\n")]);
        let without = folder(&[]);
        let variable = ("FLUXLIT_APP", "other:app");
        for (place, environment, expected) in [
            (&with, &[][..], Some("main:app")),
            (&with, &[variable], Some("other:app")),
            (&without, &[], None),
        ] {
            let environment = environment
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            let sources = Sources::read(Vec::new(), None, place.path(), environment);
            let target = sources.target().map(|(target, _)| target);
            assert_eq!(target.as_deref(), expected);
        }
    }

    #[test]
    fn several_mounts_have_one_streamlit() {
        let mounts = r#"[{"root_path": "/a"}, {"root_path": "/b", "hosts": ["b.example"]}]"#;
        assert!(read(None, &[UP, ("FLUXLIT_MOUNTS", mounts)]).is_ok());
        let same_host = r#"[{"root_path": "/a"}, {"root_path": "/b"}]"#;
        let error = read(None, &[UP, ("FLUXLIT_MOUNTS", same_host)]).unwrap_err();
        assert!(error.contains("root_path_shape"), "{error}");
        let full = mounts.replace(r#""/a""#, r#""/a", "root_path_shape": "full""#);
        let full = full.replace(r#""/b""#, r#""/b", "root_path_shape": "full""#);
        let settings = read(None, &[UP, ("FLUXLIT_MOUNTS", &full)]).unwrap();
        let sent = |host: &str, target: &str| {
            let decision = settings.policy.request(&Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: true,
                method: b"GET",
                target: target.as_bytes(),
                host: Some(host.as_bytes()),
                headers: &[],
            });
            match decision.action {
                Action::Forward(forward) => Ok(String::from_utf8(forward.stripped_target).unwrap()),
                Action::Reply(reply) => Err(reply.reason),
            }
        };
        assert_eq!(sent("x.example", "/a/page"), Ok("/page".to_owned()));
        assert_eq!(sent("b.example", "/b/page"), Ok("/page".to_owned()));
        assert!(sent("x.example", "/b/page").is_err());
        for (value, text) in [
            (
                r#"[{"root_path": "/a", "upstream_path": "full"}]"#,
                "mounts[0].upstream_path",
            ),
            (r#"[{"root_path": "/a", "no": 1}]"#, "E15"),
        ] {
            let error = read(None, &[UP, ("FLUXLIT_MOUNTS", value)]).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        let with_path = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501/a");
        assert!(read(None, &[with_path, ("FLUXLIT_MOUNTS", &full)]).is_err());
    }

    #[test]
    fn trusted_identities_need_certificates_that_can_be_verified() {
        let identity = ("FLUXLIT_TRUSTED_IDENTITIES", "spiffe://a/b");
        let trust = ("FLUXLIT_TRUST_PROXY", "1");
        let certificate = ("FLUXLIT_TLS_CERTIFICATE", "c.pem");
        let key = ("FLUXLIT_TLS_KEY", "k.pem");
        let ca = ("FLUXLIT_TLS_CLIENT_CA", "ca.pem");
        let settings = read(None, &[UP, trust, identity, certificate, key, ca]).unwrap();
        assert!(settings.policy.needs_identity());
        assert_eq!(settings.tls.unwrap().client_ca, Some("ca.pem".into()));
        for environment in [
            &[UP, trust, identity][..],
            &[UP, trust, identity, certificate, key],
        ] {
            let error = read(None, environment).unwrap_err();
            assert!(error.contains("FLUXLIT_TLS_CLIENT_CA"), "{error}");
        }
        let error = read(None, &[UP, ca]).unwrap_err();
        assert!(error.contains("FLUXLIT_TLS_CERTIFICATE is not"), "{error}");
    }

    #[test]
    fn a_script_and_an_upstream_exclude_each_other() {
        let error = read(Some("app.py"), &[UP]).unwrap_err();
        assert!(error.contains("`http://127.0.0.1:8501`"), "{error}");
    }
}
