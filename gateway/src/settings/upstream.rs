//! Reads the settings of the upstreams: the Streamlit server and the API.

use std::num::NonZeroU16;

use fluxlit_policy::{AllowedOrigins, DropCookies, SubApp, SubAppPath};

use crate::settings::error::SettingError;
use crate::settings::import_target::ImportTarget;
use crate::settings::source::settings;
use crate::settings::trusted_user_headers::StreamlitFiles;
use crate::settings::values::{Custom, read_list};

/// The URL of an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Host name or address, as in a URL.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The base path of the server (for Streamlit `server.baseUrlPath`), with a leading slash; empty if there is none.
    pub base: String,
}

/// The API of the app.
#[derive(Debug, Clone)]
pub struct Api {
    /// Its path, below the app's mount.
    pub sub_app: SubApp,
    /// The server of the API, if there is one.
    pub upstream: Option<UpstreamUrl>,
    /// The path of the API's health check; `None` if a connection is enough.
    pub health_path: Option<String>,
}

/// A Streamlit script that the gateway starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The script.
    pub script: String,
    /// The loopback port that Streamlit listens on.
    pub port: u16,
    /// The configuration files that Streamlit will read.
    pub streamlit_files: StreamlitFiles,
    /// True if open pages run again when the script changes.
    pub reruns_on_change: bool,
    /// The FluxLit app, if the script is the one with which FluxLit shows its pages.
    pub fluxlit: Option<FluxLitApp>,
    /// The application that serves the API, if the gateway starts one.
    pub api: Option<ApiApp>,
}

impl App {
    /// Returns a Streamlit script without an API.
    pub fn script(script: String, port: u16, streamlit_files: StreamlitFiles) -> Self {
        Self {
            script,
            port,
            streamlit_files,
            reruns_on_change: false,
            fluxlit: None,
            api: None,
        }
    }
}

/// An app that is written with FluxLit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FluxLitApp {
    /// The app.
    pub target: ImportTarget,
    /// The arguments for `streamlit run` that the app itself asks for.
    pub streamlit_arguments: Vec<String>,
}

/// An ASGI application that the gateway starts under uvicorn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiApp {
    /// The application. If it is a FluxLit app, its member `api` is served.
    pub target: ImportTarget,
    /// The loopback port that it listens on.
    pub port: u16,
    /// Its processes.
    pub processes: ApiProcesses,
}

/// The processes of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiProcesses {
    /// This number, which share nothing.
    Fixed(NonZeroU16),
    /// One, which is started again when a file changes.
    ReloadOnChange,
}

settings! {
    /// The settings of the Streamlit server.
    pub(super) struct Streamlit {
        /// The pages other than the app's own that may open a WebSocket: as written, and as the policy compares them.
        pub(super) origins: (Vec<String>, AllowedOrigins) = "FLUXLIT_GATEWAY_ALLOWED_ORIGINS",
            or_empty, Custom { read: read_origins, expected: "an origin such as https://portal.example.com, or * alone" };
        /// The cookies that are not forwarded to Streamlit.
        pub(super) drop_cookies: DropCookies = "FLUXLIT_DROP_COOKIES",
            or_empty, Custom {
                read: |text| DropCookies::parse(&read_list(text)),
                expected: "the name of a cookie, with * for any characters",
            };
        /// A Streamlit that runs already.
        pub(super) upstream: Option<UpstreamUrl> = "FLUXLIT_STREAMLIT_UPSTREAM",
            optional, Custom {
                read: UpstreamUrl::read,
                expected: "a URL such as http://127.0.0.1:8501 or http://127.0.0.1:8501/apps/my-app",
            };
    }
}

settings! {
    /// The settings of the API.
    pub(super) struct ApiSettings {
        /// The path of the API, below the app's mount.
        sub_app: SubApp = "FLUXLIT_API_MOUNT_PATH",
            default("/api"), Custom { read: read_sub_app, expected: "a path such as /api" };
        /// The server of the API.
        upstream: Option<UpstreamUrl> = "FLUXLIT_API_UPSTREAM",
            optional, Custom { read: UpstreamUrl::read, expected: "a URL such as http://127.0.0.1:9000" };
        /// The path of the API's health check.
        health_path: Option<String> = "FLUXLIT_API_HEALTH_PATH",
            optional, Custom { read: read_health_path, expected: "a path such as /healthz" };
    }
}

impl UpstreamUrl {
    /// Reads `http://host:port/base`.
    ///
    /// `http::Uri` keeps host and path as they are written. The `url` crate would rewrite them (dot segments, escapes,
    /// internationalized names), so that the base could differ from the path that the server expects.
    fn read(text: &str) -> Result<Self, String> {
        let read = || {
            let uri: http::Uri = text.trim().parse().ok()?;
            let authority = uri.authority()?;
            let is_plain = uri.scheme_str() == Some("http")
                && uri.query().is_none()
                && !authority.as_str().contains('@');
            is_plain.then(|| Self {
                host: authority.host().to_owned(),
                port: authority.port_u16().unwrap_or(80),
                base: uri.path().trim_end_matches('/').to_owned(),
            })
        };
        read().ok_or_else(|| text.to_owned())
    }

    /// Returns the Streamlit server: the one that is already running, or the one that the gateway starts.
    pub(super) fn streamlit(
        running: Option<Self>,
        app: Option<&App>,
        mount: &str,
    ) -> Result<Self, SettingError> {
        match (running, app) {
            (None, None) => Err(SettingError::NothingToServe),
            (Some(upstream), Some(_)) => Err(SettingError::ScriptAndUpstream {
                upstream: format!("http://{}{}", upstream.authority(), upstream.base),
            }),
            // The mount is the base path of a Streamlit that the gateway starts.
            (None, Some(app)) => Ok(Self {
                host: "127.0.0.1".to_owned(),
                port: app.port,
                base: mount.to_owned(),
            }),
            (Some(upstream), None) if !upstream.base.is_empty() && upstream.base != mount => {
                Err(SettingError::UpstreamPath {
                    base: upstream.base,
                    mount: mount.to_owned(),
                })
            }
            (Some(upstream), None) => Ok(upstream),
        }
    }

    /// Returns `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Api {
    /// Combines the settings of the API. The path of its upstream determines which paths the API receives.
    pub(super) fn new(
        settings: ApiSettings,
        mount: &str,
        app: Option<&App>,
    ) -> Result<Self, SettingError> {
        let ApiSettings {
            sub_app,
            upstream: running,
            health_path,
        } = settings;
        let started = app.and_then(|app| app.api.as_ref());
        let upstream = match (running, started) {
            (Some(running), Some(started)) => {
                return Err(SettingError::ApiTwice {
                    upstream: format!("http://{}{}", running.authority(), running.base),
                    target: started.target.written().to_owned(),
                });
            }
            (running, None) => running,
            (None, Some(started)) => Some(UpstreamUrl {
                host: "127.0.0.1".to_owned(),
                port: started.port,
                base: String::new(),
            }),
        };
        let is_fluxlit = started.is_some() && app.is_some_and(|app| app.fluxlit.is_some());
        // Every FluxLit app has it.
        let health_path = health_path.or_else(|| is_fluxlit.then(|| "/healthz".to_owned()));
        let path = sub_app.path().to_owned();
        let base = upstream.as_ref().map_or("", |upstream| &upstream.base);
        let upstream_path = if base.is_empty() {
            SubAppPath::Stripped
        } else if base == path {
            SubAppPath::MountStripped
        } else if base.strip_prefix(mount) == Some(&path) {
            SubAppPath::Full
        } else {
            return Err(SettingError::ApiUpstreamPath {
                base: base.to_owned(),
                mount: mount.to_owned(),
                sub_app: path,
            });
        };
        Ok(Self {
            sub_app: SubApp::parse(&path, upstream_path).unwrap_or(sub_app),
            upstream,
            health_path,
        })
    }
}

fn read_origins(text: &str) -> Result<(Vec<String>, AllowedOrigins), String> {
    let origins = read_list(text);
    let allowed = AllowedOrigins::parse(&origins)?;
    Ok((origins, allowed))
}

fn read_sub_app(text: &str) -> Result<SubApp, String> {
    SubApp::parse(text, SubAppPath::Stripped).ok_or_else(|| text.to_owned())
}

fn read_health_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|octet| octet.is_ascii_graphic());
    is_path
        .then(|| text.to_owned())
        .ok_or_else(|| text.to_owned())
}
