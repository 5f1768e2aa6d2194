//! Warns operators about requests, at most once a minute for each subject.
//!
//! The number of subjects is limited too, so that clients cannot fill the disk with warnings.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fluxlit_policy::{ArrivedPath, PREFIX_IGNORED_WARNING, WarningLimiter, warning_network};

/// The subject of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Forwarded headers of this network are ignored.
    Ignored(IpAddr),
    /// A cookie that the mount cannot confine.
    HostCookie,
    /// An ignored `X-Forwarded-Prefix`.
    Prefix,
    /// A WebSocket handshake near Streamlit's limit.
    HeaderLine,
    /// A handshake from this network without its upgrade.
    PlainGet(IpAddr),
}

/// Limits the warnings of all workers together.
#[derive(Debug)]
pub(crate) struct Warnings {
    limiter: Mutex<WarningLimiter<Subject>>,
    started: Instant,
    /// Whether paths with the mount and without it have arrived.
    arrived: [AtomicBool; 2],
    has_seen_both: AtomicBool,
}

impl Warnings {
    /// Warns that forwarded headers of an untrusted peer are ignored, and how to trust it. `claims_https`: true if they say
    /// that the client uses https, but the request counts as http.
    pub(crate) fn forwarded_ignored(&self, peer: IpAddr, claims_https: impl FnOnce() -> bool) {
        if self.is_due(Subject::Ignored(warning_network(peer))) {
            let effect = if claims_https() {
                format!(": the scheme is taken as http, because {peer} is not listed")
            } else {
                String::new()
            };
            tracing::warn!(
                "forwarded headers of {peer} are ignored{effect}; if that is your proxy, set FLUXLIT_TRUST_PROXY=1 and \
                 list {peer} in FLUXLIT_FORWARDED_ALLOW_IPS"
            );
        }
    }

    /// Warns that a GET without an upgrade has arrived on the path of Streamlit's WebSocket.
    pub(crate) fn plain_get_on_stream(&self, peer: IpAddr) {
        if self.is_due(Subject::PlainGet(warning_network(peer))) {
            tracing::warn!(
                "{peer} has sent a GET without an upgrade to the path of the WebSocket, /_stcore/stream; if that is your \
                 proxy, it does not pass WebSocket handshakes on, and the page will wait for ever: let it forward Upgrade \
                 and Connection, over HTTP/1.1"
            );
        }
    }

    /// Warns that a WebSocket handshake is near the limit of Streamlit. `bytes`: its longest header line.
    pub(crate) fn header_line(&self, bytes: usize, max: usize) {
        if bytes > max / 4 * 3 && self.is_due(Subject::HeaderLine) {
            tracing::warn!(
                "a header line of a WebSocket handshake has {bytes} bytes, more than three quarters of the {max} that \
                 Streamlit accepts; with more cookies, the page will no longer load: FLUXLIT_DROP_COOKIES removes those \
                 of an auth proxy"
            );
        }
    }

    /// Warns once if paths arrive with the mount and without it.
    pub(crate) fn arrived(&self, arrived: ArrivedPath, mount: &str) {
        let [full, stripped] = &self.arrived;
        let (own, other) = match arrived {
            ArrivedPath::Full => (full, stripped),
            ArrivedPath::Stripped => (stripped, full),
        };
        // Usually only a load.
        if !own.load(Ordering::Relaxed) {
            own.store(true, Ordering::SeqCst);
            if other.load(Ordering::SeqCst) && !self.has_seen_both.swap(true, Ordering::SeqCst) {
                tracing::warn!(
                    "paths arrive both with the mount {mount} and without it: two proxies in front disagree, or one URL \
                     bypasses the proxy. FLUXLIT_ROOT_PATH_SHAPE=auto accepts both; set it to full or stripped to reject \
                     the other"
                );
            }
        }
    }

    /// Warns that the app sets a cookie that every app of the host receives.
    pub(crate) fn host_cookie_kept(&self) {
        if self.is_due(Subject::HostCookie) {
            tracing::warn!(
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
            );
        }
    }

    /// Warns that an `X-Forwarded-Prefix` of a trusted peer is ignored.
    pub(crate) fn prefix_ignored(&self) {
        if self.is_due(Subject::Prefix) {
            tracing::warn!("{PREFIX_IGNORED_WARNING}");
        }
    }

    /// Returns true unless the subject was logged within the last minute.
    fn is_due(&self, subject: Subject) -> bool {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.is_due(subject, self.started.elapsed())
    }
}

impl Default for Warnings {
    fn default() -> Self {
        Self {
            limiter: Mutex::default(),
            started: Instant::now(),
            arrived: [AtomicBool::new(false), AtomicBool::new(false)],
            has_seen_both: AtomicBool::new(false),
        }
    }
}
