//! What does a host tell the policy, and what does the policy answer?

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::app::App;
use crate::decision_record::{DecisionRecord, HstsOutcome};
use crate::edit::Edit;
use crate::effective::Effective;
use crate::mount::Mount;
use crate::peer::Peer;
use crate::reason::Reason;

/// A field line: name and value as received. Names are compared without case.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// The facts about a request that a host has read from its own connection and from the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// The URI name (SPIFFE id) of the peer's client certificate, if the host itself has verified it.
    pub identity: Option<&'a [u8]>,
    /// Whether this policy has decided this request once already, so that its headers are ours: true after an internal
    /// redirect of the proxy, and never by anything that a client can say.
    pub is_reentry: bool,
    /// Whether the connection to our listener is TLS, as the host itself knows it; never from a header.
    pub tls: bool,
    /// The method.
    pub method: &'a [u8],
    /// The request target as received, or `:path`.
    pub target: &'a [u8],
    /// The `Host` field, or `:authority`.
    pub host: Option<&'a [u8]>,
    /// The field lines in wire order, without `Host` and pseudo-headers.
    pub headers: &'a [Header<'a>],
}

/// The facts about a request that the host could not parse, such as one without a valid head.
#[derive(Debug, Clone, Copy)]
pub struct UnparsedRequest<'a> {
    /// The other end of the connection.
    pub peer: Peer,
    /// True if the connection to our listener is TLS.
    pub tls: bool,
    /// The host, if it could be read.
    pub host: Option<&'a [u8]>,
    /// The field lines that could be read, without `Host` and pseudo-headers.
    pub headers: &'a [Header<'a>],
}

/// The facts about a response.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The field lines in wire order, without pseudo-headers.
    pub headers: &'a [Header<'a>],
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Forward it, or answer it here.
    pub action: Action,
    /// What the rest of the exchange must know; hand it to [`Policy::response`](crate::Policy::response).
    pub exchange: Exchange,
    /// What was decided, for logs and metrics. With `report_only` it says what would have been done, while the action
    /// is to forward the request unchanged.
    pub record: DecisionRecord,
}

/// What becomes of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseDecision {
    /// The changes to make, in order.
    pub edits: Vec<Edit>,
    /// What became of Strict-Transport-Security.
    pub hsts: Option<HstsOutcome>,
    /// Whether a `__Host-` cookie was left at `Path=/`, which is the only one that browsers accept for it, though the
    /// app is published below a mount: it reaches every app of the host.
    pub host_cookie_kept: bool,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Apply the edits and forward it.
    Forward(Forward),
    /// Answer it without asking the upstream.
    Reply(Reply),
}

/// A request that goes upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The changes to make, in order.
    pub edits: Vec<Edit>,
    /// The target without the mount, whatever the upstream is sent: what to route by.
    pub stripped_target: Vec<u8>,
}

/// An answer of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where a redirect leads.
    pub location: Option<Vec<u8>>,
    /// Why, for the body, the log and the metrics.
    pub reason: Reason,
}

impl Reply {
    /// The status. It depends on the version of HTTP alone where HTTP/1.0 does not have the right one.
    pub fn status(&self, is_http_1_0: impl FnOnce() -> bool) -> u16 {
        match self.reason {
            // HTTP/1.0 does not define 421.
            Reason::HostNotAllowed if is_http_1_0() => 400,
            reason => reason.status(),
        }
    }
}

/// What the response's side of an exchange must know of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Who the request is from.
    pub client: Client,
    /// The client's address in canonical form, RFC 5952 for IPv6.
    pub client_text: Option<String>,
    /// Scheme, host and port that the client used.
    pub effective: Effective,
    /// Whether the peer's forwarded headers were believed.
    pub peer_trusted: bool,
    /// Whether forwarded headers came from a peer that is not trusted, and were ignored.
    pub forwarded_ignored: bool,
    pub(crate) app: Arc<App>,
    /// What the app is told to be its mount; empty if it has none or the request is outside of it.
    pub(crate) forwarded_prefix: Mount,
    /// The path of the part of the app that the request is for, if it is for one that knows neither.
    pub(crate) sub_app: Mount,
    pub(crate) sent_path: SentPath,
    pub(crate) sent_host: Option<Vec<u8>>,
    /// Whether the answer is our own: then its URLs are what they must be.
    pub(crate) is_local_reply: bool,
    /// The rule for Content-Security-Policy that covers the path.
    pub(crate) csp_rule: Option<usize>,
}

impl Exchange {
    /// Where browsers know the app: a path without trailing slash, empty if it has no mount.
    pub fn mount(&self) -> String {
        self.public_mount().as_str().to_owned()
    }

    pub(crate) fn public_mount(&self) -> Cow<'_, Mount> {
        match &self.app.public {
            Some(public) if self.sub_app.is_none() => Cow::Borrowed(&public.mount),
            Some(public) => Cow::Owned(public.mount.join(&self.sub_app)),
            None => Cow::Borrowed(&self.forwarded_prefix),
        }
    }
}

/// Whether URLs and cookies of the response know the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SentPath {
    /// The public path: they do.
    Full,
    /// Nothing: the answer is ours, or no mount applies.
    NoMount,
    /// The path without the mount: they don't.
    Stripped,
}

/// Who a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address; none if the peer has none and nobody attested one.
    pub address: Option<IpAddr>,
    /// How the address was found.
    pub source: ClientSource,
}

/// How a client's address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSource {
    /// It is the first untrusted address from the right.
    Header,
    /// Every address is trusted, so it is the leftmost; possibly a proxy's.
    HeaderAllTrusted,
    /// It is the peer's: no header was used.
    Peer,
    /// The chain has an unreadable element, so it is the last attested address; possibly a proxy's.
    Stopped,
}
