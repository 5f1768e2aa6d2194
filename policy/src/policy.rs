//! What becomes of a request, and of its response?
//!
//! The request's way through the policy, each step in a module of its own:
//!
//! 1. who is the peer, and is it trusted (`peer`);
//! 2. who is the client, which scheme, host and port did it use (`client`, `effective`);
//! 3. is the target one that every reader understands alike (`target`);
//! 4. is it under the mount (`mount`);
//! 5. which headers go (`governed`), which are set, what is the upstream's target.
//!
//! The effective scheme and host are found before anything can be refused, because a refusal is a response too and
//! carries HSTS like any other.

use std::borrow::Cow;

use crate::address::trim;
use crate::client::{self, Resolved, Trust};
use crate::config::{
    Config, ConfigError, ConfigErrors, ConfigWarning, CookiePath, Defaults, ForwardedSource,
    OutsideMount, Shape, UpstreamHost, UpstreamPath, choose,
};
use crate::edit::Edit;
use crate::effective::Authority;
use crate::exchange::{
    Action, Decision, Exchange, Forward, Header, Reason, Reply, Request, UpstreamSaw,
};
use crate::governed::{Group, group_of, same_name};
use crate::hosts::AllowedHosts;
use crate::hsts::Hsts;
use crate::mount::Mount;
use crate::names::read_names;
use crate::peer::TrustedPeers;
use crate::security_headers::SecurityHeaders;
use crate::target::{Target, collapse_leading_slashes};

/// A validated policy. It cannot hold a wrong value, and deciding by it cannot fail.
#[derive(Debug, Clone)]
pub struct Policy {
    trust: Trust,
    source: ForwardedSource,
    peer_filter_state_key: Option<String>,
    allowed_hosts: AllowedHosts,
    mount: Mount,
    shape: Shape,
    outside_mount: OutsideMount,
    redirect_bare_mount: bool,
    upstream_path: UpstreamPath,
    upstream_host: UpstreamHost,
    strip_headers: Vec<String>,
    trusted_pass_headers: Vec<String>,
    defaults: Defaults,
    pub(crate) own_names: Vec<Authority>,
    pub(crate) cookie_path: CookiePath,
    pub(crate) hsts: Hsts,
    pub(crate) security_headers: SecurityHeaders,
    warnings: Vec<ConfigWarning>,
}

impl Policy {
    /// Turns the settings as written into a policy. Absent settings take the host's `defaults`.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration at once.
    pub fn new(config: Config, defaults: Defaults) -> Result<Self, ConfigErrors> {
        let Config {
            allowed_hosts,
            cookie_path,
            forwarded_allow_ips,
            forwarded_source,
            hsts,
            outside_mount,
            peer_filter_state_key,
            redirect_bare_mount,
            root_path,
            root_path_shape,
            security_headers,
            strip_headers,
            trust_any_peer,
            trust_proxy,
            trusted_hops,
            trusted_pass_headers,
            upstream_authorities,
            upstream_host,
            upstream_path,
        } = config;
        let mut errors = Vec::new();
        let mut warnings = Vec::new();

        let list = forwarded_allow_ips.map(|list| list.items());
        let trust = read_trust(
            trust_proxy,
            list,
            trusted_hops,
            trust_any_peer,
            &mut errors,
            &mut warnings,
        );
        if peer_filter_state_key.as_deref() == Some("") {
            errors.push(ConfigError::PeerKey);
        }
        let mount = root_path.map_or_else(|| Ok(Mount::default()), |written| Mount::read(&written));
        let mount = mount.unwrap_or_else(|error| {
            errors.push(error);
            Mount::default()
        });
        let policy = Self {
            trust,
            source: choose(
                "forwarded_source",
                forwarded_source.as_ref(),
                ForwardedSource::XForwarded,
                &[
                    ("x-forwarded", ForwardedSource::XForwarded),
                    ("forwarded", ForwardedSource::Forwarded),
                ],
                &mut errors,
            ),
            peer_filter_state_key,
            allowed_hosts: AllowedHosts::read(allowed_hosts, &mut errors),
            mount,
            shape: choose(
                "root_path_shape",
                root_path_shape.as_ref(),
                defaults.root_path_shape,
                &[
                    ("auto", Shape::Auto),
                    ("full", Shape::Full),
                    ("stripped", Shape::Stripped),
                ],
                &mut errors,
            ),
            outside_mount: choose(
                "outside_mount",
                outside_mount.as_ref(),
                defaults.outside_mount,
                &[
                    ("pass", OutsideMount::Pass),
                    ("reject", OutsideMount::Reject),
                ],
                &mut errors,
            ),
            redirect_bare_mount: redirect_bare_mount.unwrap_or(true),
            upstream_path: choose(
                "upstream_path",
                upstream_path.as_ref(),
                defaults.upstream_path,
                &[
                    ("stripped", UpstreamPath::Stripped),
                    ("full", UpstreamPath::Full),
                ],
                &mut errors,
            ),
            upstream_host: choose(
                "upstream_host",
                upstream_host.as_ref(),
                defaults.upstream_host,
                &[
                    ("effective", UpstreamHost::Effective),
                    ("as_received", UpstreamHost::AsReceived),
                ],
                &mut errors,
            ),
            strip_headers: read_names("strip_headers", strip_headers, |_| None, &mut errors),
            trusted_pass_headers: read_names(
                "trusted_pass_headers",
                trusted_pass_headers,
                |name| match group_of(name.as_bytes()) {
                    Some(Group::Identity | Group::ClientCertificate) => None,
                    _ => Some("is not an identity header, so there is nothing to pass"),
                },
                &mut errors,
            ),
            defaults,
            own_names: read_authorities(upstream_authorities, &mut errors),
            cookie_path: choose(
                "cookie_path",
                cookie_path.as_ref(),
                CookiePath::Mount,
                &[
                    ("mount", CookiePath::Mount),
                    ("confine", CookiePath::Confine),
                ],
                &mut errors,
            ),
            hsts: Hsts::read(hsts, &mut errors),
            security_headers: SecurityHeaders::read(security_headers, &mut errors),
            warnings,
        };
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// What an operator should know, though the configuration can be used.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// The mount without trailing slash; empty if there is none.
    pub fn mount(&self) -> &str {
        self.mount.as_str()
    }

    /// Envoy only: the filter-state key under which the listener records the direct peer.
    pub fn peer_filter_state_key(&self) -> Option<&str> {
        self.peer_filter_state_key.as_deref()
    }

    /// Decides what becomes of a request. Every request has a decision; none can make this fail.
    pub fn request(&self, request: &Request<'_>) -> Decision {
        let peer_trusted = self.trust.covers(request.peer);
        let target = Target::read(request.method, request.target);
        let named = target
            .ok()
            .and_then(|target| target.authority)
            .or(request.host)
            .filter(|host| !host.is_empty());
        let host = named.map(Authority::read);
        let host_is_bad = host == Some(None);
        let host = host.flatten();
        let Resolved { client, effective } = if peer_trusted {
            client::from_headers(
                self.source,
                &self.trust,
                request.peer,
                request.tls,
                host,
                request.headers,
            )
        } else {
            client::from_peer(request.peer, request.tls, host)
        };
        let mut exchange = Exchange {
            client,
            peer_trusted,
            forwarded_ignored: !peer_trusted
                && request
                    .headers
                    .iter()
                    .any(|(name, _)| CLAIMS.iter().any(|claim| name.eq_ignore_ascii_case(claim))),
            mount: Mount::default(),
            upstream_saw: UpstreamSaw::NoMount,
            host_sent: None,
            effective,
        };
        let routed = target.and_then(|target| {
            if host_is_bad {
                return Err(Reason::BadHost);
            }
            if !self.allowed_hosts.allow(exchange.effective.host.as_deref()) {
                return Err(Reason::HostNotAllowed);
            }
            self.route(request, &target)
        });
        let action = match routed {
            Ok(Routed::Forward(way)) => {
                if way.under_mount {
                    exchange.mount = self.mount.clone();
                    exchange.upstream_saw = match self.upstream_path {
                        UpstreamPath::Full => UpstreamSaw::Full,
                        UpstreamPath::Stripped => UpstreamSaw::Stripped,
                    };
                }
                let edits = self.edits(request, &mut exchange, &way, named);
                Action::Forward(Forward {
                    edits,
                    stripped_target: way.stripped,
                })
            }
            Ok(Routed::Redirect(location)) => Action::Reply(Reply {
                status: 308,
                location: Some(location),
                reason: Reason::BareMount,
            }),
            Err(reason) => Action::Reply(Reply {
                status: status_of(reason),
                location: None,
                reason,
            }),
        };
        Decision { action, exchange }
    }

    /// The edits that remove what the policy governs from a request's trailers, where nothing of it may ever stand.
    pub fn request_trailers(&self, trailers: &[Header<'_>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (name, _) in trailers {
            if self.is_removed(name, false) {
                remove_once(&mut edits, name);
            }
        }
        edits
    }

    fn route(&self, request: &Request<'_>, target: &Target<'_>) -> Result<Routed, Reason> {
        let Target { path, query, .. } = *target;
        let forward = |stripped: &[u8], full: Vec<u8>, under_mount| {
            let stripped = collapse_leading_slashes(stripped);
            Ok(Routed::Forward(Way {
                stripped: [stripped, query].concat(),
                full: [&full, query].concat(),
                under_mount,
            }))
        };
        if self.mount.is_none() {
            let path = collapse_leading_slashes(path);
            return forward(path, path.to_vec(), false);
        }
        let rest = match self.shape {
            Shape::Full | Shape::Auto => self.mount.strip(path),
            Shape::Stripped => None,
        };
        match (rest, self.shape) {
            (Some([]), _) if self.redirect_bare_mount && is_plain_read(request) => Ok(
                Routed::Redirect([self.mount.as_str().as_bytes(), b"/", query].concat()),
            ),
            (Some([]), _) => forward(b"/", self.mount.prepend(b""), true),
            (Some(rest), _) => forward(rest, self.mount.prepend(rest), true),
            (None, Shape::Stripped | Shape::Auto) => {
                let path = collapse_leading_slashes(path);
                forward(path, self.mount.prepend(path), true)
            }
            (None, Shape::Full) => match self.outside_mount {
                OutsideMount::Pass => {
                    let path = collapse_leading_slashes(path);
                    forward(path, path.to_vec(), false)
                }
                OutsideMount::Reject => Err(Reason::OutsideMount),
            },
        }
    }

    fn edits(
        &self,
        request: &Request<'_>,
        exchange: &mut Exchange,
        way: &Way,
        named_host: Option<&[u8]>,
    ) -> Vec<Edit> {
        let effective = &exchange.effective;
        let authority = effective.authority();
        let address = exchange.client.address.map(|address| address.to_string());
        let set = [
            ("x-forwarded-for", address.clone()),
            ("x-real-ip", address),
            ("x-forwarded-proto", Some(effective.scheme.to_string())),
            ("x-forwarded-host", authority.clone()),
            ("x-forwarded-port", Some(effective.port.to_string())),
            (
                "x-forwarded-prefix",
                way.under_mount.then(|| self.mount.as_str().to_owned()),
            ),
        ];

        let is_set = |name: &[u8]| {
            set.iter()
                .any(|(ours, value)| value.is_some() && name.eq_ignore_ascii_case(ours.as_bytes()))
        };
        let mut edits = Vec::new();
        for name in nominated(request.headers).filter(|name| !is_set(name)) {
            remove_once(&mut edits, name);
        }
        for (name, _) in request.headers {
            if !is_set(name) && self.is_removed(name, exchange.peer_trusted) {
                remove_once(&mut edits, name);
            }
        }
        for (name, value) in set {
            if let Some(value) = value
                && !is_sole_line(request.headers, name, value.as_bytes())
            {
                edits.push(Edit::set(name, value));
            }
        }

        let target = match self.upstream_path {
            UpstreamPath::Full => &way.full,
            UpstreamPath::Stripped => &way.stripped,
        };
        if *target != request.target {
            edits.push(Edit::Target(target.clone()));
        }
        let host = match (self.upstream_host, authority) {
            (UpstreamHost::Effective, Some(authority)) => Some(authority.into_bytes()),
            (UpstreamHost::Effective, None) => None,
            (UpstreamHost::AsReceived, _) => named_host.map(<[u8]>::to_vec),
        };
        if let Some(host) = host {
            if request.host != Some(&host) {
                edits.push(Edit::Host(host.clone()));
            }
            exchange.host_sent = Some(host);
        }
        edits
    }

    fn is_removed(&self, name: &[u8], peer_trusted: bool) -> bool {
        let listed = |names: &[String]| {
            names
                .iter()
                .any(|listed| same_name(listed.as_bytes(), name))
        };
        let passed = || {
            peer_trusted
                && self
                    .trusted_pass_headers
                    .iter()
                    .any(|listed| listed.as_bytes().eq_ignore_ascii_case(name))
        };
        let governed = match group_of(name) {
            Some(Group::Authority) => true,
            Some(Group::Identity) => !passed(),
            Some(Group::ClientCertificate) => {
                use crate::config::ClientCertificateHeader::{Keep, Remove};
                match self.defaults.client_certificate_header {
                    Keep => false,
                    Remove => !passed(),
                }
            }
            None => false,
        };
        governed || (!self.strip_headers.is_empty() && listed(&self.strip_headers))
    }
}

/// Where a request goes.
enum Routed {
    Forward(Way),
    Redirect(Vec<u8>),
}

struct Way {
    stripped: Vec<u8>,
    full: Vec<u8>,
    under_mount: bool,
}

fn read_trust(
    trust_proxy: bool,
    list: Option<Vec<String>>,
    hops: Option<i64>,
    trust_any_peer: bool,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) -> Trust {
    let is_listed = list.is_some();
    let (peers, broad) = TrustedPeers::read(&list.clone().unwrap_or_default(), errors);
    if let Some(item) = broad.first() {
        if trust_any_peer {
            warnings.push(ConfigWarning::Broad { item: item.clone() });
        } else {
            errors.push(ConfigError::Broad { item: item.clone() });
        }
    }
    if let Some(hops) = hops
        && !(1..=MAX_HOPS).contains(&hops)
    {
        errors.push(ConfigError::HopsRange { hops });
    }
    if hops.is_some() && list.is_some_and(|list| list.len() > broad.len()) {
        errors.push(ConfigError::HopsAndList);
    }
    if !trust_proxy {
        if is_listed {
            warnings.push(ConfigWarning::ListWithoutTrust);
        }
        return Trust::Nobody;
    }
    match hops {
        Some(hops) => Trust::Hops(usize::try_from(hops).unwrap_or_default()),
        None if is_listed => Trust::Peers(peers),
        None => {
            errors.push(ConfigError::TrustsNobody);
            Trust::Nobody
        }
    }
}

fn read_authorities(written: Vec<String>, errors: &mut Vec<ConfigError>) -> Vec<Authority> {
    let mut read = Vec::with_capacity(written.len());
    for value in written {
        match Authority::read(value.as_bytes()) {
            Some(authority) => read.push(authority),
            None => errors.push(ConfigError::Authority {
                setting: "upstream_authorities",
                value,
            }),
        }
    }
    read
}

/// Fields of the request that `Connection` nominates: they are for this hop alone, RFC 9110 §7.6.1. What the connection
/// itself needs is the host's, and nominating what we set has no effect.
fn nominated<'a>(headers: &'a [Header<'a>]) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| value.split(|octet| *octet == b','))
        .map(trim)
        .filter(|name| !TRANSPORT.iter().any(|own| name.eq_ignore_ascii_case(own)))
        .filter(|name| {
            headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        })
}

/// GET or HEAD that is neither an upgrade nor gRPC: what a redirect can answer.
fn is_plain_read(request: &Request<'_>) -> bool {
    let reads = matches!(request.method, b"GET" | b"HEAD");
    let is_special = request.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case(b"upgrade")
            || (name.eq_ignore_ascii_case(b"content-type")
                && value
                    .get(..GRPC.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(GRPC)))
    });
    reads && !is_special
}

fn is_sole_line(headers: &[Header<'_>], name: &str, value: &[u8]) -> bool {
    let mut lines = headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    matches!((lines.next(), lines.next()), (Some((_, line)), None) if *line == value)
}

fn remove_once(edits: &mut Vec<Edit>, name: &[u8]) {
    // Governed and nominated names are ASCII: a header field name cannot be anything else.
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let edit = Edit::Remove(Cow::Owned(name.to_ascii_lowercase()));
    if !edits.contains(&edit) {
        edits.push(edit);
    }
}

fn status_of(reason: Reason) -> u16 {
    match reason {
        Reason::BadHost | Reason::BadTarget(_) => 400,
        Reason::BareMount => 308,
        Reason::HostNotAllowed => 421,
        Reason::MethodNotAllowed => 405,
        Reason::OutsideMount => 404,
        Reason::TargetTooLong => 414,
    }
}

/// Names that belong to the connection; nominating them is how they are used, so the host deals with them.
const TRANSPORT: [&[u8]; 9] = [
    b"close",
    b"connection",
    b"content-length",
    b"host",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// Fields by which a request claims a client. Others, such as `X-Forwarded-Proto`, Envoy sets on every request itself.
const CLAIMS: [&[u8]; 3] = [b"forwarded", b"x-forwarded-for", b"x-real-ip"];

const GRPC: &[u8] = b"application/grpc";

/// Most proxies that may be in front.
const MAX_HOPS: i64 = 32;
