//! Reads the gateway's settings from the command line, the environment and a file.
//!
//! The command line takes precedence over the environment, the environment over the file, and the file over the default. A
//! setting has one name: `FLUXLIT_` and upper case in the environment, without `FLUXLIT_` and in lower case in the file.
//! All errors are reported together, each with the variable, the value and what is allowed. A name that is not a setting is
//! usually a typing error: it is an error in the file, and a warning in the environment, where an app may have its own
//! variables.

mod error;
mod file;
mod limits;
mod observe;
mod public_base;
mod rules;
mod service_links;
mod source;
mod trusted_user_headers;
mod upstream;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use fluxlit_policy::{AllowedOrigins, Defaults, DropCookies, Policy};
use serde_json::{Map, Value};

pub use crate::settings::error::{SettingError, SettingErrors};
pub use crate::settings::file::{SettingsFile, SettingsFileError};
pub use crate::settings::limits::Limits;
pub(crate) use crate::settings::limits::{STREAMLIT_FIELDS, STREAMLIT_LINE};
pub use crate::settings::observe::{LogFormat, Observe};
use crate::settings::service_links::without_service_links;
pub use crate::settings::source::{Origin, Setting};
use crate::settings::source::{Source, settings};
pub(crate) use crate::settings::trusted_user_headers::TRUSTED_USER_HEADERS;
pub use crate::settings::trusted_user_headers::{StreamlitFileError, StreamlitFiles};
pub use crate::settings::upstream::{Api, App, UpstreamUrl};
use crate::settings::upstream::{ApiSettings, Streamlit};
use crate::settings::values::{Boolean, Parsed, Seconds, SecondsOrZero, Text, Whole};

/// The gateway's validated settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// True if another process may listen on the same address, to take over without a refused connection.
    pub reuse_port: bool,
    /// The certificate and the key, if the gateway terminates TLS.
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
    /// The settings of the policy as the operator wrote them, by their names in the policy.
    pub rules: Map<String, Value>,
    /// Each setting with its value and origin, for `fluxlit-gateway config`.
    pub table: Vec<Setting>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// The PEM files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
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
    /// Reads the settings. `flags` are those of the command line, by variable; `environment` is that of the process.
    ///
    /// # Errors
    ///
    /// Returns every error that was found.
    pub fn read(
        app: Option<App>,
        flags: &[(&'static str, String)],
        file: &SettingsFile,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingErrors> {
        let (environment, service_links) = without_service_links(environment);
        let mut source = Source {
            flags,
            environment: &environment,
            file,
            starts_streamlit: app.is_some(),
            table: Vec::new(),
            errors: Vec::new(),
        };
        let process = Process::read(&mut source);
        let limits = Limits::read(&mut source);
        let observe = Observe::read(&mut source);
        let streamlit = Streamlit::read(&mut source);
        let mut rules = source.rules();
        let api = ApiSettings::read(&mut source);
        source.reject_unread_keys();
        let unread_variables = source.unread_variables();
        let Source {
            table, mut errors, ..
        } = source;

        let mount = mount(&rules);
        public_base::complete(&mut rules, &mount);
        let mut keep = |error| errors.push(error);
        let tls = process.as_ref().and_then(|process| {
            tls_files(process.certificate.as_deref(), process.key.as_deref())
                .map_err(&mut keep)
                .ok()
        });
        let upstream = streamlit.as_ref().and_then(|streamlit| {
            UpstreamUrl::streamlit(streamlit.upstream.clone(), app.as_ref(), &mount)
                .map_err(&mut keep)
                .ok()
        });
        let api = api.and_then(|api| Api::new(api, &mount).map_err(&mut keep).ok());
        let written_rules = rules.clone();
        let rules = rules_for_upstreams(rules, upstream.as_ref(), api.as_ref());
        let trusted_user_headers = app.as_ref().map_or(Ok(Map::new()), |app| {
            app.streamlit_files.trusted_user_headers(&environment)
        });
        let trusted_user_headers = trusted_user_headers.map_err(&mut keep).ok();
        let passes_none = rules.get("trusted_pass_headers").is_none();
        let policy = Policy::from_settings(rules, Defaults::GATEWAY).map_err(SettingError::Policy);
        let mut policy = policy.map_err(&mut keep).ok();
        if let (Some(policy), Some(mapping)) = (&mut policy, &trusted_user_headers) {
            for name in mapping.keys() {
                let added = policy.add_identity_header("server.trustedUserHeaders", name);
                let _ = added
                    .map_err(SettingError::TrustedUserHeader)
                    .map_err(&mut keep);
            }
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
            return Err(SettingErrors(errors));
        };
        if !errors.is_empty() {
            return Err(SettingErrors(errors));
        }
        let warnings = observe
            .warning()
            .into_iter()
            .chain(service_links)
            .chain(unread_variables)
            .chain(unpassed_user(&trusted_user_headers, passes_none))
            .chain(policy.warnings().iter().map(ToString::to_string))
            .collect();
        let Process {
            host,
            port,
            workers,
            reuse_port,
            certificate: _,
            key: _,
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

/// Returns a warning if Streamlit takes its user from headers that no peer may pass.
fn unpassed_user(trusted_user_headers: &Map<String, Value>, passes_none: bool) -> Option<String> {
    let names: Vec<&str> = trusted_user_headers.keys().map(String::as_str).collect();
    (passes_none && !names.is_empty()).then(|| {
        format!(
            "Streamlit takes st.user from {} (server.trustedUserHeaders), which no peer may send: list it in \
             FLUXLIT_TRUSTED_PASS_HEADERS if your proxy sets it",
            names.join(", ")
        )
    })
}

fn tls_files(
    certificate: Option<&str>,
    key: Option<&str>,
) -> Result<Option<TlsFiles>, SettingError> {
    let (certificate_name, key_name) = ("FLUXLIT_TLS_CERTIFICATE", "FLUXLIT_TLS_KEY");
    let (set, missing) = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            return Ok(Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
            }));
        }
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

#[cfg(test)]
mod tests {
    use fluxlit_policy::{Edit, Header, Peer, Request, Response};

    use super::*;

    fn read(app: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(
            app.map(|script| App {
                script: script.to_owned(),
                port: 8501,
                streamlit_files: StreamlitFiles::default(),
            }),
            &[],
            &SettingsFile::default(),
            environment,
        )
        .map_err(|errors| errors.to_string())
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
            settings.warnings,
            ["FLUXLIT_ROOTPATH is not a setting of the gateway and has no effect"]
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
        let [warning] = settings.warnings.as_slice() else {
            panic!("{:?}", settings.warnings);
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

    #[test]
    fn a_script_and_an_upstream_exclude_each_other() {
        let error = read(Some("app.py"), &[UP]).unwrap_err();
        assert!(error.contains("`http://127.0.0.1:8501`"), "{error}");
    }
}
