//! Which settings is the gateway run with, and where does each come from?
//!
//! Command line before environment before default. A setting has one name: `FLUXLIT_` and upper case in the
//! environment. All faults are reported together, each with the variable, the value and what is accepted; a `FLUXLIT_`
//! variable that nothing reads is a warning, because it is most often a typing error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fluxlit_policy::{ConfigErrors, Defaults, Policy};
use serde_json::{Map, Value};

/// Everything the gateway needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the API is mounted, below the app's mount; begins with a slash.
    pub api_mount_path: String,
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
    /// The rules.
    pub policy: Policy,
    /// Each setting as it was understood, for `fluxlit-gateway config`.
    pub table: Vec<Setting>,
    /// What an operator should know.
    pub warnings: Vec<String>,
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
    /// The value, as text.
    pub value: String,
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
}

/// The Streamlit server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address, as in a URL.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The path Streamlit is configured with (`server.baseUrlPath`), with a leading slash; empty if none.
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
    /// Reads the settings. `flags` are those of the command line, by variable name; `environment` is the process's.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn read(
        app: Option<App>,
        flags: &[(&'static str, String)],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingErrors> {
        let environment: Vec<(String, String)> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let mut source = Source {
            flags,
            environment: &environment,
            table: Vec::new(),
            errors: Vec::new(),
        };
        let host = source.address("FLUXLIT_GATEWAY_HOST", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = source.number("FLUXLIT_GATEWAY_PORT", "8000", "a port from 0 to 65535");
        let workers: usize = source.number(
            "FLUXLIT_GATEWAY_WORKERS",
            &available_cores().to_string(),
            "a number of threads from 1 to 1024",
        );
        let api_mount_path = source.api_mount_path();
        let streamlit_command = source.text("FLUXLIT_STREAMLIT_COMMAND", "streamlit");
        let connect_timeout = source.seconds("FLUXLIT_GATEWAY_UPSTREAM_CONNECT_TIMEOUT_S", "5");
        let read_timeout = source.seconds("FLUXLIT_GATEWAY_UPSTREAM_READ_TIMEOUT_S", "120");
        let handshake_timeout = source.seconds("FLUXLIT_GATEWAY_WS_OPEN_TIMEOUT_S", "30");
        let grace_period = source.seconds("FLUXLIT_GRACE_PERIOD_S", "10");
        let upstream = source.upstream(app.is_some());
        let mut rules = source.rules();

        let root_path = rules
            .get_key_value("root_path")
            .map(|(name, path)| (name.clone(), path.clone()));
        let mount = Policy::from_settings(root_path.into_iter().collect(), Defaults::GATEWAY)
            .map(|policy| policy.mount().to_owned())
            .unwrap_or_default();
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
        if upstream.port != 0
            && let Value::Array(names) = rules
                .entry("upstream_authorities")
                .or_insert_with(|| Value::Array(Vec::new()))
        {
            names.push(upstream.authority().into());
        }
        let warnings = source.unread_variables();
        let Source {
            table, mut errors, ..
        } = source;
        let policy = Policy::from_settings(rules, Defaults::GATEWAY);
        match policy {
            Ok(policy) if errors.is_empty() => {
                let mut warnings = warnings;
                warnings.extend(policy.warnings().iter().map(ToString::to_string));
                Ok(Self {
                    listen: SocketAddr::new(host, port),
                    api_mount_path,
                    upstream,
                    app,
                    streamlit_command,
                    workers: workers.clamp(1, 1024),
                    connect_timeout,
                    read_timeout,
                    handshake_timeout,
                    grace_period,
                    policy,
                    table,
                    warnings,
                })
            }
            Ok(_) => Err(SettingErrors(errors)),
            Err(faults) => {
                errors.push(SettingError::Policy(faults));
                Err(SettingErrors(errors))
            }
        }
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

/// Where values come from, and what was wrong with them.
struct Source<'a> {
    flags: &'a [(&'static str, String)],
    environment: &'a [(String, String)],
    table: Vec<Setting>,
    errors: Vec<SettingError>,
}

impl Source<'_> {
    fn get(&mut self, name: &'static str) -> Option<String> {
        let flag = self.flags.iter().find(|(flag, _)| *flag == name);
        let (value, origin) = match flag {
            Some((_, value)) => (value, Origin::CommandLine),
            None => {
                let variable = self
                    .environment
                    .iter()
                    .find(|(variable, _)| variable == name);
                (&variable?.1, Origin::Environment)
            }
        };
        self.table.push(Setting {
            name: name.to_owned(),
            value: value.clone(),
            origin,
        });
        Some(value.clone())
    }

    fn text(&mut self, name: &'static str, default: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.table.push(Setting {
                name: name.to_owned(),
                value: default.to_owned(),
                origin: Origin::Default,
            });
            default.to_owned()
        })
    }

    fn wrong(&mut self, name: &'static str, value: String, expected: &'static str) {
        self.errors.push(SettingError::Value {
            name,
            value,
            expected,
        });
    }

    fn number<N: std::str::FromStr + Default>(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &'static str,
    ) -> N {
        let value = self.text(name, default);
        value.trim().parse().unwrap_or_else(|_| {
            self.wrong(name, value, expected);
            N::default()
        })
    }

    fn seconds(&mut self, name: &'static str, default: &str) -> Duration {
        let value = self.text(name, default);
        let seconds = value.trim().parse::<f64>().ok();
        match seconds.filter(|seconds| (0.001..=86_400.0).contains(seconds)) {
            Some(seconds) => Duration::from_secs_f64(seconds),
            None => {
                self.wrong(name, value, "a number of seconds from 0.001 to 86400");
                Duration::ZERO
            }
        }
    }

    fn address(&mut self, name: &'static str, default: IpAddr) -> IpAddr {
        let value = self.text(name, &default.to_string());
        value.trim().parse().unwrap_or_else(|_| {
            self.wrong(name, value, "an IP address, such as 127.0.0.1 or 0.0.0.0");
            default
        })
    }

    fn api_mount_path(&mut self) -> String {
        let name = "FLUXLIT_API_MOUNT_PATH";
        let value = self.text(name, "/api");
        let path = format!("/{}", value.trim().trim_matches('/'));
        let is_path = path.len() > 1
            && path.split('/').skip(1).all(|segment| {
                !matches!(segment, "" | "." | "..")
                    && segment
                        .bytes()
                        .all(|octet| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet))
            });
        if !is_path {
            self.wrong(name, value, "a path such as /api");
        }
        path
    }

    fn upstream(&mut self, starts_app: bool) -> Option<Upstream> {
        let name = "FLUXLIT_STREAMLIT_UPSTREAM";
        let Some(url) = self.get(name) else {
            if !starts_app {
                self.errors.push(SettingError::NothingToServe);
            }
            return None;
        };
        if starts_app {
            self.wrong(
                name,
                url,
                "used together with a script to start: give one of them",
            );
            return None;
        }
        let read = Upstream::read(url.trim());
        if read.is_none() {
            self.wrong(
                name,
                url,
                "a URL such as http://127.0.0.1:8501 or http://127.0.0.1:8501/apps/my-app",
            );
        }
        read
    }

    /// The settings of the policy, by their names there. What their values mean is the policy's to judge; here they are
    /// only given their type.
    fn rules(&mut self) -> Map<String, Value> {
        let mut rules = Map::new();
        for (name, kind) in RULES {
            let Some(text) = self.get(name) else {
                continue;
            };
            let Some(setting) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match kind.read(&text) {
                Some(value) => {
                    rules.insert(setting.to_ascii_lowercase(), value);
                }
                None => self.wrong(name, text, kind.expected()),
            }
        }
        rules
    }

    fn unread_variables(&self) -> Vec<String> {
        let is_read = |name: &str| {
            self.table.iter().any(|setting| setting.name == name) || KNOWN.contains(&name)
        };
        self.environment
            .iter()
            .filter(|(name, _)| !is_read(name))
            .map(|(name, _)| format!("{name} is not a setting of the gateway and has no effect"))
            .collect()
    }
}

/// The type that a setting of the policy has, and how it is written in a variable.
#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Json,
    List,
    Number,
    /// A boolean, or JSON with the values of the group.
    Switch,
    Text,
}

impl Kind {
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Boolean => read_boolean(text).map(Value::Bool),
            Self::Json => serde_json::from_str(text).ok(),
            Self::List if text.trim().is_empty() => Some(Value::Array(Vec::new())),
            Self::List => Some(
                text.split(',')
                    .map(|item| Value::from(item.trim()))
                    .collect(),
            ),
            Self::Number => text.trim().parse::<i64>().ok().map(Value::from),
            Self::Switch => read_boolean(text)
                .map(Value::Bool)
                .or_else(|| serde_json::from_str(text).ok()),
            Self::Text => Some(text.into()),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "1, true, yes, on, 0, false, no or off",
            Self::Json => "JSON",
            Self::List | Self::Text => "a text",
            Self::Number => "a whole number",
            Self::Switch => "a boolean or a JSON object with the settings of the group",
        }
    }
}

/// The settings of the policy, but for those that only Envoy has facts for.
const RULES: [(&str, Kind); 26] = [
    ("FLUXLIT_ALLOWED_HOSTS", Kind::List),
    ("FLUXLIT_CLIENT_IP_HEADER", Kind::Text),
    ("FLUXLIT_CONTENT_SECURITY_POLICY", Kind::Json),
    ("FLUXLIT_COOKIE_PATH", Kind::Text),
    ("FLUXLIT_EMIT_FORWARDED", Kind::Boolean),
    ("FLUXLIT_FORWARDED_ALLOW_IPS", Kind::Text),
    ("FLUXLIT_FORWARDED_SOURCE", Kind::Text),
    ("FLUXLIT_HSTS", Kind::Switch),
    ("FLUXLIT_OUTSIDE_MOUNT", Kind::Text),
    ("FLUXLIT_PREFIX_FROM_HEADER", Kind::Boolean),
    ("FLUXLIT_PUBLIC_BASE_URL", Kind::Text),
    ("FLUXLIT_REDIRECT_BARE_MOUNT", Kind::Boolean),
    ("FLUXLIT_REDIRECT_TO_HTTPS", Kind::Boolean),
    ("FLUXLIT_REPORT_ONLY", Kind::Boolean),
    ("FLUXLIT_ROOT_PATH", Kind::Text),
    ("FLUXLIT_ROOT_PATH_SHAPE", Kind::Text),
    ("FLUXLIT_SECURITY_HEADERS", Kind::Switch),
    ("FLUXLIT_STRIP_HEADERS", Kind::List),
    ("FLUXLIT_TRUST_ANY_PEER", Kind::Boolean),
    ("FLUXLIT_TRUST_PROXY", Kind::Boolean),
    ("FLUXLIT_TRUSTED_HOPS", Kind::Number),
    ("FLUXLIT_TRUSTED_PASS_HEADERS", Kind::List),
    ("FLUXLIT_UPSTREAM_AUTHORITIES", Kind::List),
    ("FLUXLIT_UPSTREAM_HOST", Kind::Text),
    ("FLUXLIT_UPSTREAM_PATH", Kind::Text),
    ("FLUXLIT_XFF_MODE", Kind::Text),
];

fn read_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

const PREFIX: &str = "FLUXLIT_";

/// Variables that FluxLit itself reads in the app's process, which the gateway passes on.
const KNOWN: [&str; 1] = ["FLUXLIT_APP"];

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
}
