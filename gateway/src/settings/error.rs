//! Defines the errors of reading the settings.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use fluxlit_policy::ConfigError;

use crate::settings::warning::SettingWarning;

/// All errors that were found in the settings, and the warnings about what was read nevertheless. As text, one line for each.
#[derive(Debug)]
pub struct SettingErrors {
    pub(super) errors: Vec<LocatedError>,
    /// The warnings. Each is an error already if warnings count as errors.
    pub(super) warnings: Vec<SettingWarning>,
}

/// An error with the origins of the settings that it names.
#[derive(Debug)]
pub(super) struct LocatedError {
    pub(super) error: SettingError,
    /// Such as `root_path is from fluxlit.toml:3`; empty if the error names the place itself.
    pub(super) origins: Vec<String>,
}

impl SettingErrors {
    /// Returns true if the settings are valid except that they name neither an app nor an upstream, so that commands that
    /// serve nothing can use them.
    pub fn is_only_that_nothing_is_served(&self) -> bool {
        matches!(
            self.errors.as_slice(),
            [LocatedError {
                error: SettingError::NothingToServe,
                ..
            }]
        )
    }

    /// Returns the warnings.
    pub fn warnings(&self) -> &[SettingWarning] {
        &self.warnings
    }

    /// Returns the text of each error.
    pub fn errors(&self) -> impl Iterator<Item = String> {
        self.errors.iter().map(ToString::to_string)
    }
}

/// One error in the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Both an application for the API and an API upstream are configured.
    #[error(
        "FLUXLIT_API_UPSTREAM is `{upstream}`, but `{target}` is to be started as the API as well: use one of them"
    )]
    ApiTwice {
        /// The upstream.
        upstream: String,
        /// The application.
        target: String,
    },
    /// The API upstream has a path that the API's paths cannot be mapped to.
    #[error(
        "FLUXLIT_API_UPSTREAM has the path `{base}`: remove the path (the API receives `/items`), or use `{sub_app}` (it \
         receives `{sub_app}/items`) or `{mount}{sub_app}` (it receives the whole path)"
    )]
    ApiUpstreamPath {
        /// The upstream's path.
        base: String,
        /// The mount.
        mount: String,
        /// The API's path.
        sub_app: String,
    },
    /// A line of `.env` that is not a statement.
    #[error("{}:{line}: not `NAME=value`: {cure}", path.display())]
    DotEnvSyntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, or what to do.
        cure: &'static str,
    },
    /// A file that was read before does not exist any more.
    #[error(
        "{} was read before and is gone: put it back, or restart the gateway if it is to run without these settings",
        path.display()
    )]
    FileGone {
        /// The file.
        path: PathBuf,
    },
    /// A file of settings cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    FileRead {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Only one of the two TLS settings is set.
    #[error("{set} is set but {missing} is not: TLS needs a certificate and its key")]
    HalfOfTls {
        /// The variable that is set.
        set: &'static str,
        /// The variable that is not set.
        missing: &'static str,
    },
    /// Client certificates are to be trusted, but none can be verified.
    #[error(
        "trusted_identities is set, but no client certificate can be verified: set FLUXLIT_TLS_CERTIFICATE, FLUXLIT_TLS_KEY and \
         FLUXLIT_TLS_CLIENT_CA, the certificates that sign those of your proxies"
    )]
    IdentitiesWithoutTls,
    /// The path of the metrics is one of the API.
    #[error(
        "FLUXLIT_GATEWAY_PROMETHEUS_METRICS_PATH is `{path}`, which would hide a path of the API: choose one that is not below \
         `{api}`"
    )]
    MetricsPath {
        /// The path.
        path: String,
        /// The path of the API.
        api: String,
    },
    /// An entry of `mounts` asks for paths that Streamlit cannot serve.
    #[error(
        "{0} is \"full\", but one Streamlit serves one path, and with several mounts it is none of them: remove the line, so \
         that paths are sent without the mount"
    )]
    MountPath(String),
    /// A key of the settings file does not have the form of a setting's name.
    #[error(
        "{}:{line}: unknown setting `{key}`: names are in lower case, such as root_path", path.display()
    )]
    KeyForm {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// The value of a variable is not text.
    #[error("{name}: the value is not valid UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
    /// Neither an app nor an upstream is configured.
    #[error(
        "there is nothing to serve: name a Streamlit script (fluxlit-gateway run app.py) or set FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"
    )]
    NothingToServe,
    /// Settings of the policy are wrong or contradict each other.
    #[error("{code}: {0}", code = .0.code())]
    Policy(ConfigError),
    /// A setting of FluxLit that would be unsafe, or cannot be honored.
    #[error("{place}: {reason}")]
    Refused {
        /// The origin and the name.
        place: String,
        /// The reason, and what to use.
        reason: String,
    },
    /// Both an app and an upstream are configured.
    #[error(
        "FLUXLIT_STREAMLIT_UPSTREAM is `{upstream}`, but a script to start is given as well: use one of them"
    )]
    ScriptAndUpstream {
        /// The upstream.
        upstream: String,
    },
    /// The settings file has a key that is not a setting.
    #[error("{place} is not a setting of the gateway or of FluxLit: {cure}")]
    UnknownKey {
        /// The file, the line and the key.
        place: String,
        /// What to do.
        cure: String,
    },
    /// `FLUXLIT_STRICT_STARTUP` is on, and there is a warning.
    #[error("{0} (an error, because FLUXLIT_STRICT_STARTUP is on)")]
    Strict(SettingWarning),
    /// A configuration file of Streamlit is not valid TOML.
    #[error(
        "{path} is not valid TOML: {message}. The gateway reads it for server.trustedUserHeaders, whose headers it protects"
    )]
    StreamlitFile {
        /// The file.
        path: String,
        /// The position, and what was expected there.
        message: String,
    },
    /// Streamlit's `server.trustedUserHeaders` names a header that cannot be protected.
    #[error(
        "{0}. Without that name in Streamlit's server.trustedUserHeaders, the gateway starts: otherwise any client could choose \
         its user"
    )]
    TrustedUserHeader(ConfigError),
    /// Streamlit's `server.trustedUserHeaders` has another form than expected.
    #[error(
        "{place}: Streamlit's server.trustedUserHeaders is `{value}`, which is not a table (in a variable, a JSON object) of \
         names of headers and keys of st.user, such as {{\"X-User\": \"email\"}}"
    )]
    TrustedUserHeaders {
        /// The file or variable.
        place: String,
        /// The value.
        value: String,
    },
    /// A settings file is not valid TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    TomlSyntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// The Streamlit upstream's path differs from the mount.
    #[error(
        "FLUXLIT_STREAMLIT_UPSTREAM has the path `{base}`, but FLUXLIT_ROOT_PATH is `{mount}`: use the same path, or remove \
         it from the upstream"
    )]
    UpstreamPath {
        /// The upstream's path.
        base: String,
        /// The mount.
        mount: String,
    },
    /// A value is invalid.
    #[error("{place}: `{value}` is not {expected}")]
    Value {
        /// The origin and the name.
        place: String,
        /// The value.
        value: String,
        /// The description of the valid values.
        expected: Cow<'static, str>,
    },
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LocatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, origins } = self;
        write!(f, "{error}")?;
        if !origins.is_empty() {
            write!(f, " ({})", origins.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingErrors {}
