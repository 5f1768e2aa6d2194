//! Carries what the response side of an exchange must know about the request.

use std::borrow::Cow;
use std::sync::Arc;

use crate::address::AddressText;
use crate::app::App;
use crate::client::Client;
use crate::effective::{Authority, Effective};
use crate::mount::Mount;

/// What the response side of an exchange must know about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The client that the request is from.
    pub client: Client,
    /// The client's address in canonical form, RFC 5952 for IPv6.
    pub client_text: Option<AddressText>,
    /// The scheme, host and port that the client used.
    pub effective: Effective,
    /// True if the peer's forwarded headers were trusted.
    pub peer_trusted: bool,
    /// True if an untrusted peer sent forwarded headers, which were ignored.
    pub forwarded_ignored: bool,
    pub(crate) app: Arc<App>,
    pub(crate) forwarded_prefix: ForwardedPrefix,
    /// The path of the sub-app that the request is for, if the path sent upstream includes neither the mount nor this path.
    pub(crate) sub_app: Mount,
    pub(crate) sent_path: SentPath,
    /// The host that was sent upstream, if it differs from the effective one.
    pub(crate) sent_host: Option<Authority>,
    /// True if the response is generated here and not by the app, so that its URLs need no rewriting.
    pub(crate) is_local_reply: bool,
    /// The index of the Content-Security-Policy rule that covers the path.
    pub(crate) csp_rule: Option<usize>,
}

impl Exchange {
    /// Returns the path under which browsers know the app, without trailing slash; empty if there is no mount.
    pub fn mount(&self) -> String {
        self.public_mount().as_str().to_owned()
    }

    /// Returns the scheme and authority under which browsers know the app: those of `public_base_url` if it is set, else the
    /// effective ones. `None` if the request names no host.
    pub fn public_origin(&self) -> Option<String> {
        self.app.origin(&self.effective)
    }

    pub(crate) fn public_mount(&self) -> Cow<'_, Mount> {
        match &self.app.public_base {
            Some(public) if self.sub_app.is_none() => Cow::Borrowed(&public.mount),
            Some(public) => Cow::Owned(public.mount.join(&self.sub_app)),
            None => Cow::Borrowed(self.forwarded_prefix()),
        }
    }

    /// Returns the mount sent to the app in `X-Forwarded-Prefix`; empty if there is no mount or the path is outside it.
    pub(crate) fn forwarded_prefix(&self) -> &Mount {
        self.forwarded_prefix.of(&self.app)
    }

    /// Remembers the host that is sent upstream.
    pub(crate) fn set_sent_host(&mut self, host: Option<Authority>) {
        let effective = &self.effective;
        self.sent_host = host.filter(|host| {
            let port = host.port.unwrap_or(effective.scheme.default_port());
            effective.host.as_ref() != Some(&host.host) || effective.port != port
        });
    }
}

/// The mount that is sent to the app in `X-Forwarded-Prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForwardedPrefix {
    /// The path is outside every mount.
    None,
    /// The app's own mount, which may be empty.
    OfApp,
    /// The app's own mount, with the prefix of a trusted peer before it or the path of a sub-app after it.
    Joined(Mount),
}

impl ForwardedPrefix {
    pub(crate) fn of<'a>(&'a self, app: &'a App) -> &'a Mount {
        match self {
            Self::None => &NO_MOUNT,
            Self::OfApp => &app.mount,
            Self::Joined(mount) => mount,
        }
    }
}

/// The form of the path that was sent upstream. It decides whether the URLs and cookies of the response include the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SentPath {
    /// The public path: URLs and cookies include the mount.
    Full,
    /// No mount applies, or nothing was sent upstream: there is nothing to rewrite.
    NoMount,
    /// The path without the mount: URLs and cookies do not include it.
    Stripped,
}

static NO_MOUNT: Mount = Mount::NONE;
