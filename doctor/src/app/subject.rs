//! Describes the gateway and the Streamlit that are checked, as plain data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

/// What is checked.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The gateway's program, of which the self-tests start further instances.
    pub program: PathBuf,
    /// The arguments after `run` that start the app, such as `app.py`; empty if Streamlit runs already.
    pub app: Vec<String>,
    /// The variables of the settings in effect, without defaults, such as `("FLUXLIT_ROOT_PATH", "/apps/my-app")`.
    pub settings: Vec<(String, String)>,
    /// The policy's settings by name.
    pub policy: Map<String, Value>,
    /// The Streamlit that runs already; `None` if the gateway starts it.
    pub streamlit: Option<SocketAddr>,
    /// The authority of that Streamlit as in the settings, such as `127.0.0.1:8501`.
    pub authority: String,
    /// The base path under which the gateway expects Streamlit, such as `/apps/my-app`; empty for none.
    pub base: String,
    /// The path under which the app is published; empty for none.
    pub mount: String,
    /// The address that browsers use, if the settings say so.
    pub public: Option<Url>,
    /// Limits of the gateway.
    pub limits: Limits,
    /// The command that starts Streamlit.
    pub streamlit_command: String,
    /// Streamlit's options that were found in its files and in the environment.
    pub options: Options,
    /// The path of the API below the mount, such as `/api`, whether there is one or not.
    pub api: String,
    /// Warnings about the settings.
    pub warnings: Vec<String>,
}

/// Limits of the gateway that must agree with those of Streamlit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum bytes of one header line of a WebSocket handshake.
    pub websocket_line_bytes: usize,
    /// Maximum field lines of a WebSocket handshake.
    pub websocket_fields: usize,
    /// Maximum field lines of a request.
    pub fields: usize,
    /// Maximum bytes of a request's body; 0 for no limit.
    pub body_bytes: u64,
    /// Maximum time without a byte on a WebSocket; zero for no limit.
    pub websocket_idle: Duration,
}

/// Options of Streamlit, as found where `streamlit run` looks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `server.maxUploadSize` in megabytes, with its place.
    pub max_upload_size: Option<(u64, String)>,
    /// The headers of `server.trustedUserHeaders`.
    pub trusted_user_headers: Vec<String>,
    /// `server.baseUrlPath`.
    pub base_url_path: Option<String>,
}

/// How far the checks go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Depth {
    /// Start a Streamlit page on a spare port (D10).
    pub page: bool,
    /// Run the checks that take longer than half a minute (D14, D17).
    pub slow: bool,
}

impl Subject {
    /// Returns the host and port that browsers use, or an example.
    pub(crate) fn public_authority(&self) -> String {
        let exact = |value: &Value| {
            value
                .as_array()?
                .iter()
                .filter_map(Value::as_str)
                .find(|host| !host.contains('*'))
                .map(str::to_owned)
        };
        let from_url = self.public.as_ref().and_then(|url| {
            let host = url.host_str()?;
            Some(
                url.port()
                    .map_or(host.to_owned(), |port| format!("{host}:{port}")),
            )
        });
        from_url
            .or_else(|| self.policy.get("allowed_hosts").and_then(exact))
            .unwrap_or_else(|| "portal.example.com".to_owned())
    }

    /// Returns the origin of the page, as a browser sends it.
    pub(crate) fn public_origin(&self) -> String {
        let scheme = self.public.as_ref().map_or("https", Url::scheme);
        format!("{scheme}://{}", self.public_authority())
    }

    /// Returns the policy's setting as text; empty if it is not set.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.policy
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Returns `server.baseUrlPath` as a path.
    pub(crate) fn base_path_option(&self) -> Option<String> {
        let path = self.options.base_url_path.as_deref()?.trim_matches('/');
        Some(if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        })
    }
}
