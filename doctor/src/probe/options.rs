//! The options of a probe.

use std::time::Duration;

use fluxlit_policy::ProbeKey;

use crate::client::{Credentials, Site, Tls};

/// How a site is probed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Cookies and fields for each request.
    pub credentials: Credentials,
    /// The certificates that are trusted.
    pub tls: Tls,
    /// The probe key of the filter and the gateway.
    pub key: Option<ProbeKey>,
    /// How long P13 holds a silent WebSocket.
    pub hold: Duration,
    /// Send uploads and large messages to the app.
    pub may_write: bool,
    /// The same app without the front.
    pub direct: Option<Site>,
    /// The site of a page that embeds the app.
    pub embed: Option<Site>,
}
