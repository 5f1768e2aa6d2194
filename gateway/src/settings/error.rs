//! Defines the errors of reading the settings.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use fluxlit_policy::{ConfigError, ConfigErrors};

/// All errors that were found in the settings.
#[derive(Debug)]
pub struct SettingErrors(pub(super) Vec<SettingError>);

impl SettingErrors {
    /// Returns true if the settings are valid except that they name neither an app nor an upstream, so that commands that
    /// serve nothing can use them.
    pub fn is_only_that_nothing_is_served(&self) -> bool {
        matches!(self.0.as_slice(), [SettingError::NothingToServe])
    }
}

/// One error in the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
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
    /// Only one of the two TLS settings is set.
    #[error("{set} is set but {missing} is not: TLS needs a certificate and its key")]
    HalfOfTls {
        /// The variable that is set.
        set: &'static str,
        /// The variable that is not set.
        missing: &'static str,
    },
    /// Neither an app nor an upstream is configured.
    #[error(
        "there is nothing to serve: name a Streamlit script (fluxlit-gateway run app.py) or set FLUXLIT_STREAMLIT_UPSTREAM=http://host:port"
    )]
    NothingToServe,
    /// Settings of the policy are wrong or contradict each other.
    #[error("{0}")]
    Policy(ConfigErrors),
    /// Both an app and an upstream are configured.
    #[error(
        "FLUXLIT_STREAMLIT_UPSTREAM is `{upstream}`, but a script to start is given as well: use one of them"
    )]
    ScriptAndUpstream {
        /// The upstream.
        upstream: String,
    },
    /// The settings file has a key that is not a setting.
    #[error("{}: `{key}` is not a setting of the gateway: correct or remove it", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
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
    #[error("{name}: `{value}` is not {expected}")]
    Value {
        /// The variable.
        name: &'static str,
        /// The value.
        value: String,
        /// The description of the valid values.
        expected: Cow<'static, str>,
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
