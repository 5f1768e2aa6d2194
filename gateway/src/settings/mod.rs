//! Which settings is the gateway run with, and where does each come from?
//!
//! Command line before environment before file before default. A setting has one name: `FLUXLIT_` and upper case in the
//! environment, without `FLUXLIT_` and in lower case in the file. All faults are reported together, each with the
//! variable, the value and what is accepted. What nothing reads is most often a typing error: in the file it is a fault, and
//! in the environment, where an app finds settings of its own, a `FLUXLIT_` variable is a warning.

mod file;
mod limits;
mod observe;
mod rules;
mod source;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use fluxlit_policy::{AllowedOrigins, ConfigErrors, Defaults, DropCookies, Policy, SubApp};
use serde_json::Value;

pub use crate::settings::file::{SettingsFile, SettingsFileError};
pub use crate::settings::limits::Limits;
use crate::settings::limits::{STREAMLIT_FIELDS, STREAMLIT_LINE};
pub use crate::settings::observe::{LogFormat, Observe};
use crate::settings::source::{PREFIX, Source};

/// Everything the gateway needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether another process may listen at the same place, to take over without a refused connection.
    pub reuse_port: bool,
    /// The certificate and the key, if the gateway terminates TLS.
    pub tls: Option<TlsFiles>,
    /// The part of the app that is an API.
    pub api: Api,
    /// The Streamlit server.
    pub upstream: Upstream,
    /// The Streamlit script to start, if the gateway starts Streamlit itself.
    pub app: Option<App>,
    /// The Streamlit executable.
    pub streamlit_command: String,
    /// Worker threads.
    pub workers: usize,
    /// How long a connection to the upstream may take.
    pub connect_timeout: Duration,
    /// How long the upstream may take to begin its answer.
    pub read_timeout: Duration,
    /// How long the upstream may take to answer a WebSocket handshake.
    pub handshake_timeout: Duration,
    /// How long requests in flight may take to finish once the gateway is told to stop.
    pub grace_period: Duration,
    /// What nobody may exceed.
    pub limits: Limits,
    /// What an operator gets to see.
    pub observe: Observe,
    /// The pages that may open a WebSocket beside the app's own, as written.
    pub origins: Vec<String>,
    /// The same, to be asked.
    pub allowed_origins: AllowedOrigins,
    /// The cookies that Streamlit is not sent.
    pub drop_cookies: DropCookies,
    /// The rules.
    pub policy: Policy,
    /// Each setting as it was understood, for `fluxlit-gateway config`.
    pub table: Vec<Setting>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// The part of the app that is an API.
#[derive(Debug, Clone)]
pub struct Api {
    /// Its path, below the app's mount.
    pub part: SubApp,
    /// Who serves it, if anybody does.
    pub upstream: Option<Upstream>,
    /// The path at which that upstream says that it is alive; none to ask for nothing but a connection.
    pub health_path: Option<String>,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to its issuer.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A Streamlit script that the gateway starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The script.
    pub script: String,
    /// The loopback port Streamlit is told to listen on.
    pub port: u16,
}

/// A setting as it was understood.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The value: a truth value, a number, or text.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// The built-in default.
    Default,
    /// The environment.
    Environment,
    /// The file of settings.
    File,
}

/// An upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address, as in a URL.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path it is configured with (for Streamlit `server.baseUrlPath`), with a leading slash; empty if none.
    pub base: String,
}

/// Settings that cannot be used, with every fault that was found.
#[derive(Debug)]
pub struct SettingErrors(Vec<SettingError>);

/// One fault of the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Neither an app nor an upstream.
    #[error(
        "there is nothing to serve: name a Streamlit script (fluxlit-gateway run app.py) or set FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"
    )]
    NothingToServe,
    /// The policy's settings contradict each other or are wrong.
    #[error("{0}")]
    Policy(ConfigErrors),
    /// The upstream's path is not the mount.
    #[error(
        "FLUXLIT_STREAMLIT_UPSTREAM has the path `{base}`, but FLUXLIT_ROOT_PATH is `{mount}`: they must be the same, or the upstream must have none"
    )]
    UpstreamPath {
        /// The upstream's path.
        base: String,
        /// The mount.
        mount: String,
    },
    /// The API upstream's path is none that the app's paths can be turned into.
    #[error(
        "FLUXLIT_API_UPSTREAM has the path `{base}`: it must have none (the API is sent `/items`), `{part}` (it is sent `{part}/items`) or `{mount}{part}` (it is sent the whole path)"
    )]
    ApiUpstreamPath {
        /// The upstream's path.
        base: String,
        /// The mount.
        mount: String,
        /// The API's path.
        part: String,
    },
    /// A number out of bounds.
    #[error("{name}: `{value}` is not a whole number from {least} to {most}")]
    Range {
        /// The variable.
        name: &'static str,
        /// The value.
        value: String,
        /// The least that is accepted.
        least: String,
        /// The most.
        most: String,
    },
    /// One of two settings that go together.
    #[error("{set} is set but {missing} is not: TLS needs a certificate and its key")]
    HalfOfTls {
        /// The one.
        set: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// A key of the file that is no setting.
    #[error("{}: `{key}` is not a setting of the gateway: correct it, or take it out", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value that is none.
    #[error("{name}: `{value}` is not {expected}")]
    Value {
        /// The variable.
        name: &'static str,
        /// The value.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingErrors {}

impl Settings {
    /// Reads the settings. `flags` are those of the command line, by variable name; `environment` is the process's. The
    /// command line counts before the environment, and that before the file.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn read(
        app: Option<App>,
        flags: &[(&'static str, String)],
        file: &SettingsFile,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingErrors> {
        let environment: Vec<(String, String)> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX) || name.starts_with(STREAMLIT_SERVER))
            .collect();
        let mut source = Source {
            flags,
            environment: &environment,
            file,
            table: Vec::new(),
            errors: Vec::new(),
        };
        let mut warnings = Vec::new();
        let host = source.address("FLUXLIT_GATEWAY_HOST", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = source.whole("FLUXLIT_GATEWAY_PORT", "8000", 0, u16::MAX);
        let cores = available_cores().to_string();
        let workers = source.whole("FLUXLIT_GATEWAY_WORKERS", &cores, 1, 1024);
        let reuse_port = source.flag("FLUXLIT_GATEWAY_REUSE_PORT", "false");
        let tls = source.tls();
        let streamlit_command = source.text("FLUXLIT_STREAMLIT_COMMAND", "streamlit");
        let connect_timeout = source.seconds("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "5");
        let read_timeout = source.seconds("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "120");
        let handshake_timeout = source.seconds("FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S", "30");
        // FluxLit's own name for it counts where ours is not set.
        let grace_period = source
            .value("FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S")
            .filter(|_| source.value("FLUXLIT_GRACE_PERIOD_S").is_none())
            .map_or(
                "FLUXLIT_GRACE_PERIOD_S",
                |_| "FLUXLIT_UVICORN_GRACEFUL_SHUTDOWN_TIMEOUT_S",
            );
        let grace_period = source.seconds(grace_period, "10");
        // A Streamlit that the gateway starts is told to read as much as it is sent.
        let taken = |variable: &str, started: &str, otherwise: &str| {
            let told = app.as_ref().map(|_| source.value(variable));
            told.map_or_else(
                || otherwise.to_owned(),
                |told| told.unwrap_or_else(|| started.to_owned()),
            )
        };
        let line = taken(LINE_VARIABLE, STARTED_LINE, STREAMLIT_LINE);
        let fields = taken(FIELDS_VARIABLE, STARTED_FIELDS, STREAMLIT_FIELDS);
        let limits = Limits::read(&mut source, &line, &fields);
        let observe = Observe::read(&mut source, &mut warnings);
        let origins = source.list("FLUXLIT_GATEWAY_ALLOWED_ORIGINS");
        let allowed_origins = AllowedOrigins::parse(&origins).unwrap_or_else(|value| {
            let expected = "an origin such as https://portal.example.com, or * alone";
            source.wrong("FLUXLIT_GATEWAY_ALLOWED_ORIGINS", value, expected);
            AllowedOrigins::default()
        });
        let drop_cookies = source.list("FLUXLIT_DROP_COOKIES");
        let drop_cookies = DropCookies::parse(&drop_cookies).unwrap_or_else(|value| {
            let expected = "the name of a cookie, with * for any characters";
            source.wrong("FLUXLIT_DROP_COOKIES", value, expected);
            DropCookies::default()
        });
        let upstream = source.upstream(app.is_some());
        let mut rules = source.rules();

        let root_path = rules
            .get_key_value("root_path")
            .map(|(name, path)| (name.clone(), path.clone()));
        let mount = Policy::from_settings(root_path.into_iter().collect(), Defaults::GATEWAY)
            .map(|policy| policy.mount().to_owned())
            .unwrap_or_default();
        let api = source.api(&mount);
        let upstream = match upstream {
            // We start Streamlit with the mount as its base path.
            None => Upstream {
                host: "127.0.0.1".to_owned(),
                port: app.as_ref().map_or(0, |app| app.port),
                base: mount.clone(),
            },
            Some(upstream) => upstream,
        };
        if !upstream.base.is_empty() && upstream.base != mount {
            source.errors.push(SettingError::UpstreamPath {
                base: upstream.base.clone(),
                mount: mount.clone(),
            });
        }
        if upstream.base.is_empty() {
            rules
                .entry("upstream_path")
                .or_insert_with(|| "stripped".into());
        }
        if let Value::Array(names) = rules
            .entry("upstream_authorities")
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            let api = api.as_ref().and_then(|api| api.upstream.as_ref());
            let own = std::iter::once(&upstream).chain(api);
            names.extend(
                own.filter(|own| own.port != 0)
                    .map(|own| Value::from(own.authority())),
            );
        }
        warnings.extend(source.unread_variables());
        source.refuse_unread_keys();
        let Source {
            table, mut errors, ..
        } = source;
        let policy = match Policy::from_settings(rules, Defaults::GATEWAY) {
            Ok(policy) => policy,
            Err(faults) => {
                errors.push(SettingError::Policy(faults));
                return Err(SettingErrors(errors));
            }
        };
        let Some(api) = api.filter(|_| errors.is_empty()) else {
            return Err(SettingErrors(errors));
        };
        warnings.extend(policy.warnings().iter().map(ToString::to_string));
        Ok(Self {
            listen: SocketAddr::new(host, port),
            reuse_port,
            tls,
            api,
            upstream,
            app,
            streamlit_command,
            workers,
            connect_timeout,
            read_timeout,
            handshake_timeout,
            grace_period,
            limits,
            observe,
            origins,
            allowed_origins,
            drop_cookies,
            policy,
            table,
            warnings,
        })
    }
}

impl Upstream {
    /// Reads `http://host:port/base`.
    fn read(url: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let plain = uri.scheme_str() == Some("http")
            && uri.query().is_none()
            && !authority.as_str().contains('@');
        plain.then(|| Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// What the variables of Streamlit's WebSocket server begin with.
const STREAMLIT_SERVER: &str = "WEBSOCKETS_";

/// How long a header line that server reads.
pub(crate) const LINE_VARIABLE: &str = "WEBSOCKETS_MAX_LINE_LENGTH";

/// How many header lines it reads.
pub(crate) const FIELDS_VARIABLE: &str = "WEBSOCKETS_MAX_NUM_HEADERS";

/// What a Streamlit that the gateway starts is told of the two.
pub(crate) const STARTED_LINE: &str = "65536";
pub(crate) const STARTED_FIELDS: &str = "256";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(app: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(
            app.map(|script| App {
                script: script.to_owned(),
                port: 8501,
            }),
            &[],
            &SettingsFile::default(),
            environment,
        )
        .map_err(|errors| errors.to_string())
    }

    const UP: (&str, &str) = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");

    #[test]
    fn nothing_to_serve_says_what_to_do() {
        let error = read(None, &[]).unwrap_err();
        assert!(
            error.contains("FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"),
            "{error}"
        );
    }

    #[test]
    fn all_faults_come_together() {
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
    fn trust_without_a_list_is_refused() {
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
    fn a_variable_nobody_reads_is_a_warning() {
        let settings = read(None, &[UP, ("FLUXLIT_ROOTPATH", "/x")]).unwrap();
        assert_eq!(
            settings.warnings,
            ["FLUXLIT_ROOTPATH is not a setting of the gateway and has no effect"]
        );
    }

    /// What nobody can read about does not exist.
    #[test]
    fn every_variable_is_documented() {
        let sources = [
            include_str!("mod.rs"),
            include_str!("limits.rs"),
            include_str!("observe.rs"),
            include_str!("source.rs"),
        ];
        let documented = include_str!("../../../docs/gateway.md");
        let policy = include_str!("../../../docs/settings.md");
        let mut count = 0;
        for name in sources.iter().flat_map(|source| source.split('"')) {
            let is_variable = name.starts_with(PREFIX)
                && name.len() > PREFIX.len()
                && name
                    .bytes()
                    .all(|octet| octet.is_ascii_uppercase() || octet == b'_');
            if !is_variable || ["FLUXLIT_ROOTPATH", "FLUXLIT_APP"].contains(&name) {
                continue;
            }
            let setting = name.trim_start_matches(PREFIX).to_ascii_lowercase();
            let is_documented = documented.contains(&format!("`{name}`"))
                || policy.contains(&format!("`{setting}`"));
            assert!(is_documented, "{name} is not in docs/gateway.md");
            count += 1;
        }
        assert!(count > 30, "{count} variables were found");
    }
}
