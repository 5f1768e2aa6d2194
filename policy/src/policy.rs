//! What becomes of a request, and of its response?
//!
//! The request's way through the policy, each step in a module of its own:
//!
//! 1. who is the peer, and is it trusted (`peer`);
//! 2. who is the client, which scheme, host and port did it use (`client`, `effective`);
//! 3. is the target one that every reader understands alike (`target`);
//! 4. which app is it for, and is it under its mount (`app`, `mount`);
//! 5. which headers go (`governed`), which are set, what is the upstream's target.
//!
//! The effective scheme and host are found before anything can be refused, because a refusal is a response too and
//! carries HSTS like any other.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::address::{push_number, text_of, trim};
use crate::app::{Ambiguity, App, AppTable, Found, read_authorities};
use crate::client::{Resolved, Resolver, Trust};
use crate::config::{
    ClientCertificateHeader, Config, CookiePath, Defaults, ForwardedSource, MountConfig,
    OriginalPathHeader, OutsideMount, UpstreamHost, UpstreamPath, XffMode,
};
use crate::config_error::{ConfigError, ConfigErrors, ConfigWarning};
use crate::config_reader::{ConfigReader, read_object};
use crate::decision_record::{DecisionRecord, MountOutcome, TrustOutcome};
use crate::edit::Edit;
use crate::effective::{Authority, Effective, Scheme};
use crate::exchange::{
    Action, Client, Decision, Exchange, Forward, Header, Reply, Request, SentPath,
};
use crate::header_names::read_names;
use crate::hosts::{HostPattern, HostTable};
use crate::hsts::Hsts;
use crate::mount::Mount;
use crate::peer::{Peer, TrustedPeers};
use crate::protected_headers::{HeaderGroup, group_of, same_name};
use crate::reason::Reason;
use crate::security_headers::{CspRules, SecurityHeaders};
use crate::target::{Target, collapse_leading_slashes};

/// A validated policy. It cannot hold a wrong value, and deciding by it cannot fail.
#[derive(Debug, Clone)]
pub struct Policy {
    resolver: Resolver,
    peer_filter_state_key: Option<String>,
    allowed_hosts: HostTable<()>,
    apps: AppTable,
    /// What holds outside every mount.
    outside: Arc<App>,
    has_mounts: bool,
    outside_mount: OutsideMount,
    prefix_from_header: bool,
    redirect_to_https: bool,
    upstream_host: UpstreamHost,
    emit_forwarded: bool,
    strip_headers: Vec<String>,
    trusted_pass_headers: Vec<String>,
    defaults: Defaults,
    pub(crate) hsts: Hsts,
    pub(crate) security_headers: SecurityHeaders,
    pub(crate) csp_rules: CspRules,
    pub(crate) report_only: bool,
    warnings: Vec<ConfigWarning>,
}

impl Policy {
    /// Reads a policy from a JSON object. Absent settings take the host's `defaults`.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration at once.
    pub fn from_json(text: &[u8], defaults: Defaults) -> Result<Self, ConfigErrors> {
        let members = read_object(text).map_err(|error| ConfigErrors(vec![error]))?;
        Self::from_settings(members, defaults)
    }

    /// Reads a policy from settings by their names. Absent ones take the host's `defaults`.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration at once.
    pub fn from_settings(
        settings: Map<String, Value>,
        defaults: Defaults,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut reader = ConfigReader::new(String::new(), settings, &mut errors);
        let config = Config::read(&mut reader);
        reader.finish();
        let policy = Self::build(config, defaults, &mut errors);
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Puts the policy together. With faults it is not one that anybody may use, but all of them are found.
    fn build(config: Config, defaults: Defaults, errors: &mut Vec<ConfigError>) -> Self {
        let mut warnings = Vec::new();
        let trust = read_trust(&config, errors, &mut warnings);
        if config.peer_filter_state_key.as_deref() == Some("") {
            errors.push(ConfigError::PeerKey);
        }
        let client_ip_header = config.client_ip_header.map(|name| {
            let refuse = |name: &str| {
                matches!(name, "forwarded" | "x-forwarded-for")
                    .then_some("is read as the list of hops already")
            };
            read_names("client_ip_header", vec![name], refuse, errors)
                .pop()
                .unwrap_or_default()
        });
        let mut allowed_hosts = HostTable::default();
        for pattern in HostPattern::read_list(
            "allowed_hosts",
            config.allowed_hosts.unwrap_or_default(),
            errors,
        ) {
            allowed_hosts.insert(pattern, ());
        }

        let top = App {
            mount: Mount::default(),
            shape: config.root_path_shape.unwrap_or(defaults.root_path_shape),
            upstream_path: config.upstream_path.unwrap_or(defaults.upstream_path),
            redirect_bare_mount: config.redirect_bare_mount.unwrap_or(true),
            cookie_path: config.cookie_path.unwrap_or(CookiePath::Mount),
            own_names: read_authorities(
                "upstream_authorities",
                config.upstream_authorities.unwrap_or_default(),
                errors,
            ),
            public: None,
        };
        let mut apps = AppTable::default();
        let outside;
        let has_mounts = config.mounts.is_some() || is_mount(config.root_path.as_deref());
        if let Some(mounts) = config.mounts {
            for (setting, is_set) in [
                ("root_path", config.root_path.is_some()),
                ("public_base_url", config.public_base_url.is_some()),
            ] {
                if is_set {
                    errors.push(ConfigError::MountsAndOne { setting });
                }
            }
            read_mounts(mounts, &top, &mut apps, errors);
            outside = Arc::new(top);
        } else {
            let only = MountConfig {
                root_path: config.root_path,
                public_base_url: config.public_base_url,
                ..MountConfig::default()
            };
            let only = Arc::new(App::read("", only, &top, errors));
            // Alone, it can be confused with nothing.
            let _ = apps.add(&only, &[HostPattern::Any]);
            outside = only;
        }
        if config.report_only == Some(true) {
            warnings.push(ConfigWarning::ReportOnly);
        }
        Self {
            resolver: Resolver {
                trust,
                source: config
                    .forwarded_source
                    .unwrap_or(ForwardedSource::XForwarded),
                client_ip_header,
                xff_mode: config.xff_mode.unwrap_or(XffMode::Client),
            },
            peer_filter_state_key: config.peer_filter_state_key,
            allowed_hosts,
            apps,
            outside,
            has_mounts,
            outside_mount: config.outside_mount.unwrap_or(defaults.outside_mount),
            prefix_from_header: config.prefix_from_header == Some(true),
            redirect_to_https: config.redirect_to_https == Some(true),
            upstream_host: config.upstream_host.unwrap_or(defaults.upstream_host),
            emit_forwarded: config.emit_forwarded == Some(true),
            strip_headers: read_names(
                "strip_headers",
                config.strip_headers.unwrap_or_default(),
                |_| None,
                errors,
            ),
            trusted_pass_headers: read_names(
                "trusted_pass_headers",
                config.trusted_pass_headers.unwrap_or_default(),
                |name| match group_of(name.as_bytes()) {
                    Some(HeaderGroup::Identity | HeaderGroup::ClientCertificate) => None,
                    _ => Some("is not an identity header, so there is nothing to pass"),
                },
                errors,
            ),
            defaults,
            hsts: Hsts::read(config.hsts, errors),
            security_headers: SecurityHeaders::read(config.security_headers, errors),
            csp_rules: CspRules::read(config.content_security_policy.unwrap_or_default(), errors),
            report_only: config.report_only == Some(true),
            warnings,
        }
    }

    /// What an operator should know, though the configuration can be used.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// The mount without trailing slash; empty if there is none, or several.
    pub fn mount(&self) -> &str {
        self.outside.mount.as_str()
    }

    /// Envoy only: the filter-state key under which the listener records the direct peer.
    pub fn peer_filter_state_key(&self) -> Option<&str> {
        self.peer_filter_state_key.as_deref()
    }

    /// Whether peers can be trusted by the URI name of their certificate, so that the host must look at it.
    pub fn needs_identity(&self) -> bool {
        !self.resolver.trust.identities.is_empty()
    }

    /// Whether decisions are only counted and logged, see [`Decision::record`].
    pub fn is_report_only(&self) -> bool {
        self.report_only
    }

    /// Whether a peer may speak for clients.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.resolver.trust.covers(peer, None)
    }

    /// Decides what becomes of a request. Every request has a decision; none can make this fail.
    pub fn request(&self, request: &Request<'_>) -> Decision {
        let peer_trusted = self.resolver.trust.covers(request.peer, request.identity);
        let target = Target::read(request.method, request.target);
        let named = target
            .ok()
            .and_then(|target| target.authority)
            .or(request.host)
            .filter(|host| !host.is_empty());
        let host = named.map(Authority::read);
        let host_is_bad = host == Some(None);
        let Resolved {
            client,
            effective,
            attested,
        } = self.resolver.resolve(request, peer_trusted, host.flatten());
        let mut record = DecisionRecord::new(match (peer_trusted, request.peer) {
            (true, _) => TrustOutcome::trusted(client.source),
            (false, Peer::Unknown) => TrustOutcome::PeerUnknown,
            (false, _) => TrustOutcome::Untrusted,
        });
        let mut exchange = Exchange {
            client,
            client_text: client.address.map(text_of),
            peer_trusted,
            forwarded_ignored: !peer_trusted
                && !request.is_reentry
                && request
                    .headers
                    .iter()
                    .any(|(name, _)| CLAIMS.iter().any(|claim| name.eq_ignore_ascii_case(claim))),
            app: Arc::clone(&self.outside),
            forwarded_prefix: Mount::default(),
            sub_app: Mount::default(),
            sent_path: SentPath::NoMount,
            sent_host: None,
            is_local_reply: false,
            effective,
            csp_rule: None,
        };
        let routed = target.map_err(Refusal::of).and_then(|target| {
            if host_is_bad {
                return Err(Refusal::of(Reason::BadHost));
            }
            let host = exchange.effective.host.as_deref();
            if self.allowed_hosts.find(host).is_none() {
                return Err(Refusal::of(Reason::HostNotAllowed));
            }
            let route = self.route(request, peer_trusted, host, &target)?;
            record.mount = route.outcome(self.has_mounts);
            exchange.app = Arc::clone(route.app);
            exchange
                .forwarded_prefix
                .clone_from(&route.forwarded_prefix);
            exchange.csp_rule = self.csp_rules.find(&route.stripped);
            self.redirect(request, &exchange, &route, &target)?;
            Ok((route, target))
        });
        let action = match routed {
            Ok((route, target)) => {
                exchange.sent_path = route.sent_path(&exchange.app);
                let edits = self.edits(
                    request,
                    &mut exchange,
                    &mut record,
                    &RewriteContext {
                        route: &route,
                        query: target.query,
                        received: target.path,
                        named_host: named,
                        attested: &attested,
                    },
                );
                Action::Forward(Forward {
                    edits,
                    stripped_target: [&route.stripped, target.query].concat(),
                })
            }
            Err(Refusal { reason, location }) => {
                record.reply_reason = Some(reason);
                exchange.is_local_reply = true;
                match reason {
                    Reason::BareMount => record.mount = Some(MountOutcome::Redirect),
                    Reason::OutsideMount => record.mount = Some(MountOutcome::Miss),
                    _ => {}
                }
                Action::Reply(Reply { location, reason })
            }
        };
        let action = if self.report_only {
            Action::Forward(Forward {
                edits: Vec::new(),
                stripped_target: request.target.to_vec(),
            })
        } else {
            action
        };
        Decision {
            action,
            exchange,
            record,
        }
    }

    /// Returns the exchange of a request that could not be parsed, so that the host's error response gets the headers
    /// that every other response gets. Hand it to [`Policy::response`].
    ///
    /// `host` and `headers`: the part that was readable; `None` and empty if nothing was. Client, scheme and host are
    /// resolved from them as for any request. There is no path, so the response gets the headers of one to `/`.
    pub fn unparsed_request(
        &self,
        peer: Peer,
        tls: bool,
        host: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Exchange {
        let decision = self.request(&Request {
            peer,
            identity: None,
            is_reentry: false,
            tls,
            method: b"GET",
            target: b"/",
            host,
            headers,
        });
        Exchange {
            is_local_reply: true,
            ..decision.exchange
        }
    }

    /// The edits that remove what the policy governs from a request's trailers, where nothing of it may ever stand.
    pub fn request_trailers(&self, trailers: &[Header<'_>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        if self.report_only {
            return edits;
        }
        for (name, _) in trailers {
            // No proxy sanitises trailers.
            if self.removal(name, false).is_some() || group_of(name).is_some() {
                remove_once(&mut edits, name);
            }
        }
        edits
    }

    /// Finds the app, and the path as it sees it.
    fn route<'s, 'p>(
        &'s self,
        request: &Request<'_>,
        peer_trusted: bool,
        host: Option<&str>,
        target: &Target<'p>,
    ) -> Result<Route<'s, 'p>, Refusal> {
        let path = target.path;
        let route = |app: &'s Arc<App>, prefix: &Mount, rest: &'p [u8], is_under: bool| Route {
            forwarded_prefix: prefix.join(&app.mount),
            app,
            rest,
            stripped: match rest {
                [] => Cow::Borrowed(b"/".as_slice()),
                rest => Cow::Borrowed(collapse_leading_slashes(rest)),
            },
            is_under,
        };
        if request.is_reentry
            && let Some((app, prefix)) = self.app_of_first_pass(request.headers, host)
        {
            // The upstream names its own paths: with the mount if it is sent it, else without.
            let rest = match app.upstream_path {
                UpstreamPath::Full => prefix.join(&app.mount).strip(path).unwrap_or(path),
                UpstreamPath::Stripped => path,
            };
            return Ok(route(app, &prefix, rest, true));
        }
        let prefix = if peer_trusted && self.prefix_from_header {
            read_prefix(request.headers)
        } else {
            Mount::default()
        };
        match self.apps.find(host, path) {
            Found::Under(app, rest) => Ok(route(app, &prefix, rest, true)),
            Found::Bare(app) => {
                let path = collapse_leading_slashes(path);
                Ok(route(app, &prefix, path, true))
            }
            Found::Outside => match self.outside_mount {
                OutsideMount::Pass => Ok(Route {
                    app: &self.outside,
                    forwarded_prefix: Mount::default(),
                    rest: path,
                    stripped: Cow::Borrowed(collapse_leading_slashes(path)),
                    is_under: false,
                }),
                OutsideMount::Reject => Err(Refusal::of(Reason::OutsideMount)),
            },
        }
    }

    /// On re-entry: the app that was found the first time, by the X-Forwarded-Prefix that was set then, and the prefix
    /// that a header had put in front of its mount.
    fn app_of_first_pass(
        &self,
        headers: &[Header<'_>],
        host: Option<&str>,
    ) -> Option<(&Arc<App>, Mount)> {
        let told = read_prefix(headers);
        let told = told.as_str();
        told.match_indices('/').find_map(|(start, _)| {
            let (prefix, mount) = told.split_at_checked(start)?;
            match self.apps.find(host, mount.as_bytes()) {
                Found::Under(app, []) => Some((app, Mount::read(prefix).ok()?)),
                Found::Bare(app) if app.mount.as_str() == mount => {
                    Some((app, Mount::read(prefix).ok()?))
                }
                _ => None,
            }
        })
    }

    /// Whether the client must come again elsewhere.
    fn redirect(
        &self,
        request: &Request<'_>,
        exchange: &Exchange,
        route: &Route<'_, '_>,
        target: &Target<'_>,
    ) -> Result<(), Refusal> {
        if request.is_reentry || !is_plain_read(request) {
            return Ok(());
        }
        let public = exchange.public_mount();
        let public = public.as_str();
        if self.redirect_to_https
            && exchange.effective.scheme == Scheme::Http
            && !HEALTH_PATHS.contains(&route.stripped.as_ref())
        {
            // Where there is no host, no URL can be written.
            let origin = https_origin(exchange).ok_or(Refusal::of(Reason::BadHost))?;
            let path = match route.is_under {
                true => [public.as_bytes(), route.rest].concat(),
                false => route.stripped.to_vec(),
            };
            let slash: &[u8] = if path.is_empty() { b"/" } else { b"" };
            return Err(Refusal {
                reason: Reason::PlainHttp,
                location: Some([origin.as_bytes(), &path, slash, target.query].concat()),
            });
        }
        if route.rest.is_empty() && exchange.app.redirect_bare_mount {
            return Err(Refusal {
                reason: Reason::BareMount,
                location: Some([public.as_bytes(), b"/", target.query].concat()),
            });
        }
        Ok(())
    }

    fn edits(
        &self,
        request: &Request<'_>,
        exchange: &mut Exchange,
        record: &mut DecisionRecord,
        context: &RewriteContext<'_>,
    ) -> Vec<Edit> {
        let effective = &exchange.effective;
        let authority = effective.authority();
        let address = exchange.client_text.as_deref().map(Cow::Borrowed);
        let sent = match exchange.app.upstream_path {
            UpstreamPath::Full if context.route.is_under => Cow::Owned(
                exchange
                    .forwarded_prefix
                    .prepend(context.route.rest_as_path()),
            ),
            UpstreamPath::Full => Cow::Borrowed(context.route.rest_as_path()),
            UpstreamPath::Stripped => Cow::Borrowed(context.route.stripped.as_ref()),
        };
        let target = [sent.as_ref(), context.query].concat();
        let is_rewritten = target != request.target;
        // Without what absolute form says of the authority.
        let is_moved = sent.as_ref() != context.received;
        let set = [
            (
                "x-forwarded-for",
                match self.resolver.xff_mode {
                    XffMode::Client => address.clone(),
                    XffMode::Chain => chain(context.attested, request.peer).map(Cow::Owned),
                },
            ),
            ("x-real-ip", address),
            ("x-forwarded-proto", Some(effective.scheme.as_str().into())),
            ("x-forwarded-host", authority.as_deref().map(Cow::Borrowed)),
            (
                "x-forwarded-port",
                Some(match effective.port {
                    443 => Cow::Borrowed("443"),
                    80 => Cow::Borrowed("80"),
                    port => {
                        let mut text = String::new();
                        push_number(&mut text, port);
                        Cow::Owned(text)
                    }
                }),
            ),
            (
                "x-forwarded-prefix",
                Some(exchange.forwarded_prefix.as_str())
                    .filter(|told| !told.is_empty())
                    .map(Cow::Borrowed),
            ),
            (
                "forwarded",
                self.emit_forwarded
                    .then(|| forwarded_element(&exchange.client, effective).into()),
            ),
            (
                "x-envoy-original-path",
                match self.defaults.original_path_header {
                    OriginalPathHeader::Set if request.is_reentry => {
                        original_path(request.headers).map(Cow::Borrowed)
                    }
                    OriginalPathHeader::Set if is_moved => {
                        to_text(context.received).map(|path| match to_text(context.query) {
                            Some(query) if !query.is_empty() => Cow::Owned([path, query].concat()),
                            _ => Cow::Borrowed(path),
                        })
                    }
                    OriginalPathHeader::Set | OriginalPathHeader::Remove => None,
                },
            ),
        ];

        let mut edits = Vec::with_capacity(12);
        for name in nominated(request.headers) {
            let is_ours = set
                .iter()
                .any(|(ours, value)| value.is_some() && name.eq_ignore_ascii_case(ours.as_bytes()));
            if !is_ours {
                record.count_removed(HeaderGroup::Nominated);
                remove_once(&mut edits, name);
            }
        }
        edits.extend(own_connection(request.headers));
        let mut state = [HeaderState::Absent; 8];
        for (name, value) in request.headers {
            let Some(group) = self.removal(name, exchange.peer_trusted) else {
                continue;
            };
            let ours = set
                .iter()
                .zip(&mut state)
                .find(|((ours, _), _)| name.eq_ignore_ascii_case(ours.as_bytes()));
            match ours {
                Some(((_, Some(ours)), state)) => {
                    let is_right = *state == HeaderState::Absent && ours.as_bytes() == *value;
                    *state = if is_right {
                        HeaderState::Correct
                    } else {
                        HeaderState::Wrong
                    };
                    if !is_right {
                        record.count_removed(group);
                    }
                }
                _ => {
                    record.count_removed(group);
                    remove_once(&mut edits, name);
                }
            }
        }
        for ((name, value), state) in set.into_iter().zip(state) {
            if let Some(value) = value
                && state != HeaderState::Correct
            {
                edits.push(Edit::set(name, value.into_owned()));
            }
        }

        if is_rewritten {
            edits.push(Edit::Target(target));
        }
        let host = match (self.upstream_host, &authority) {
            (UpstreamHost::Effective, Some(authority)) => Some(authority.clone().into_bytes()),
            (UpstreamHost::Effective, None) => None,
            (UpstreamHost::AsReceived, _) => context.named_host.map(<[u8]>::to_vec),
        };
        if let Some(host) = host {
            if request.host != Some(&host) {
                edits.push(Edit::Host(host.clone()));
            }
            exchange.sent_host = Some(host);
        }
        edits
    }

    /// Why a header may not pass, if it may not.
    fn removal(&self, name: &[u8], peer_trusted: bool) -> Option<HeaderGroup> {
        if self
            .strip_headers
            .iter()
            .any(|listed| same_name(listed.as_bytes(), name))
        {
            return Some(group_of(name).unwrap_or(HeaderGroup::Listed));
        }
        if let Some(client_ip_header) = &self.resolver.client_ip_header
            && same_name(client_ip_header.as_bytes(), name)
        {
            let is_read = peer_trusted && client_ip_header.as_bytes().eq_ignore_ascii_case(name);
            let is_ours = matches!(group_of(name), Some(HeaderGroup::Forwarding));
            return (!is_read || is_ours).then_some(HeaderGroup::ClientAddress);
        }
        let group = group_of(name)?;
        let may_pass = match group {
            HeaderGroup::Identity => true,
            // Envoy answers for the field alone, not for what others read as the same.
            HeaderGroup::ClientCertificate if name.contains(&b'_') => false,
            HeaderGroup::ClientCertificate => match self.defaults.client_certificate_header {
                ClientCertificateHeader::Keep => return None,
                ClientCertificateHeader::Remove => true,
            },
            _ => false,
        };
        let passes = may_pass
            && peer_trusted
            && self
                .trusted_pass_headers
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(name));
        (!passes).then_some(group)
    }
}

/// Where a request goes.
struct Route<'s, 'p> {
    app: &'s Arc<App>,
    /// The mount that the app is told; the prefix of a trusted peer included.
    forwarded_prefix: Mount,
    /// What follows the mount in the path; empty for the mount itself.
    rest: &'p [u8],
    /// The path as an app sees it that knows no mount.
    stripped: Cow<'p, [u8]>,
    is_under: bool,
}

impl Route<'_, '_> {
    fn outcome(&self, has_mounts: bool) -> Option<MountOutcome> {
        match (has_mounts, self.is_under) {
            (false, _) => None,
            (true, true) => Some(MountOutcome::Hit),
            (true, false) => Some(MountOutcome::Miss),
        }
    }

    fn sent_path(&self, app: &App) -> SentPath {
        if !self.is_under || (self.forwarded_prefix.is_none() && app.public.is_none()) {
            return SentPath::NoMount;
        }
        match app.upstream_path {
            UpstreamPath::Full => SentPath::Full,
            UpstreamPath::Stripped => SentPath::Stripped,
        }
    }

    /// What follows the mount in the path of an app that knows it.
    fn rest_as_path(&self) -> &[u8] {
        // Without a mount in front, a double slash would begin an authority.
        if self.forwarded_prefix.is_none() {
            collapse_leading_slashes(self.rest)
        } else {
            self.rest
        }
    }
}

/// What the edits need to know of a request's context.
struct RewriteContext<'a> {
    route: &'a Route<'a, 'a>,
    query: &'a [u8],
    /// The path as received.
    received: &'a [u8],
    named_host: Option<&'a [u8]>,
    attested: &'a [std::net::IpAddr],
}

/// Why a request goes nowhere.
struct Refusal {
    reason: Reason,
    location: Option<Vec<u8>>,
}

impl Refusal {
    fn of(reason: Reason) -> Self {
        Self {
            reason,
            location: None,
        }
    }
}

/// How a field that we set stands in the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderState {
    Absent,
    /// One line, with the right value.
    Correct,
    Wrong,
}

fn read_mounts(
    mounts: Vec<MountConfig>,
    top: &App,
    apps: &mut AppTable,
    errors: &mut Vec<ConfigError>,
) {
    let mut read: Vec<Arc<App>> = Vec::with_capacity(mounts.len());
    for (index, mut written) in mounts.into_iter().enumerate() {
        let at = format!("mounts[{index}].");
        let hosts = HostPattern::read_list(
            &format!("{at}hosts"),
            written.hosts.take().unwrap_or_default(),
            errors,
        );
        if written.root_path.is_none() {
            errors.push(ConfigError::Missing {
                setting: format!("{at}root_path"),
            });
        }
        let app = Arc::new(App::read(&at, written, top, errors));
        if let Err(ambiguity) = apps.add(&app, &hosts) {
            let (is_twin, problem): (fn(&App, &App) -> bool, _) = match ambiguity {
                Ambiguity::SameMount => (
                    |one, other| one.mount == other.mount,
                    format!("both publish \"{}/\" on the same host", app.mount.as_str()),
                ),
                Ambiguity::SameHost => (
                    |one, _| one.shape != crate::config::PathShape::Full,
                    "both take paths without their mount on the same host, so that nothing tells them apart; set \
                     root_path_shape to full, or give them different hosts"
                        .to_owned(),
                ),
            };
            let twin = read.iter().position(|other| is_twin(other, &app));
            errors.push(ConfigError::DoubleMount {
                one: format!("mounts[{}]", twin.unwrap_or_default()),
                other: format!("mounts[{index}]"),
                problem,
            });
        }
        read.push(app);
    }
}

fn is_mount(root_path: Option<&str>) -> bool {
    root_path.is_some_and(|path| !path.trim().trim_matches('/').is_empty())
}

fn read_trust(
    config: &Config,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) -> Trust {
    let list = config.forwarded_allow_ips.as_ref().map(|list| list.items());
    let (peers, broad) = TrustedPeers::read(list.as_deref().unwrap_or_default(), errors);
    if let Some(item) = broad.first() {
        if config.trust_any_peer == Some(true) {
            warnings.push(ConfigWarning::Broad { item: item.clone() });
        } else {
            errors.push(ConfigError::Broad { item: item.clone() });
        }
    }
    let hops = config.trusted_hops;
    if let Some(hops) = hops
        && !(1..=MAX_HOPS).contains(&hops)
    {
        errors.push(ConfigError::HopsRange { hops });
    }
    if hops.is_some() && list.as_ref().is_some_and(|list| list.len() > broad.len()) {
        errors.push(ConfigError::HopsAndList);
    }
    let mut identities = Vec::new();
    for value in config.trusted_identities.iter().flatten() {
        if is_uri(value) {
            identities.push(value.clone());
        } else {
            errors.push(ConfigError::Identity {
                value: value.clone(),
            });
        }
    }
    identities.sort_unstable();
    let is_on = config.trust_proxy == Some(true);
    for (setting, is_set) in [
        ("forwarded_allow_ips", list.is_some()),
        ("trusted_hops", hops.is_some()),
        ("trusted_identities", !identities.is_empty()),
    ] {
        if is_set && !is_on {
            warnings.push(ConfigWarning::ListWithoutTrust { setting });
        }
    }
    if is_on && list.is_none() && hops.is_none() && config.trusted_identities.is_none() {
        errors.push(ConfigError::TrustsNobody);
    }
    Trust {
        is_on,
        peers,
        identities,
        hops: hops.map(|hops| usize::try_from(hops).unwrap_or_default()),
    }
}

/// A URI with a scheme and something behind it, RFC 3986 §3; without the wildcards that some would expect to work.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
            && !rest.is_empty()
            && rest
                .bytes()
                .all(|octet| octet.is_ascii_graphic() && octet != b'*')
    })
}

/// X-Forwarded-Prefix, if it stands there once and is one.
fn read_prefix(headers: &[Header<'_>]) -> Mount {
    let mut lines = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-prefix"));
    match (lines.next(), lines.next()) {
        (Some((_, value)), None) => Mount::read_prefix(value).unwrap_or_default(),
        _ => Mount::default(),
    }
}

fn original_path<'a>(headers: &[Header<'a>]) -> Option<&'a str> {
    headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"x-envoy-original-path"))
        .and_then(|(_, value)| to_text(value))
}

/// The text of a target that has passed its checks.
fn to_text(target: &[u8]) -> Option<&str> {
    std::str::from_utf8(target).ok()
}

/// The client, the trusted hops after it, and the peer.
fn chain(attested: &[std::net::IpAddr], peer: Peer) -> Option<String> {
    let hops: Vec<String> = attested
        .iter()
        .copied()
        .chain(peer.address())
        .map(text_of)
        .collect();
    (!hops.is_empty()).then(|| hops.join(", "))
}

/// One element of `Forwarded`, RFC 7239 §4.
fn forwarded_element(client: &Client, effective: &Effective) -> String {
    let node = match client.address {
        Some(address @ std::net::IpAddr::V4(_)) => text_of(address),
        Some(std::net::IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    let host = effective.authority().map_or(String::new(), |authority| {
        // A colon is no token character.
        if authority.contains(':') {
            format!(";host=\"{authority}\"")
        } else {
            format!(";host={authority}")
        }
    });
    format!("for={node}{host};proto={}", effective.scheme)
}

/// Where the app is served over https: at its fixed address, else at the same host's default port, since the port of
/// the plain listener does not speak TLS.
fn https_origin(exchange: &Exchange) -> Option<String> {
    if let Some(public) = &exchange.app.public
        && public.origin.scheme == Scheme::Https
    {
        return public.origin.origin();
    }
    let host = exchange.effective.host.as_ref()?;
    Some(format!("https://{host}"))
}

/// ConfigReader of the request that `Connection` nominates: they are for this hop alone, RFC 9110 §7.6.1. What the connection
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

/// Drops nominations from `Connection`: they were for us. The next hop would carry out what is left of them, and remove
/// what we have set.
fn own_connection(headers: &[Header<'_>]) -> Option<Edit> {
    let mut kept = Vec::new();
    let mut is_dropped = false;
    let values = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .map(|(_, value)| *value);
    for option in values.flat_map(|value| value.split(|octet| *octet == b',')) {
        let option = trim(option);
        if TRANSPORT.iter().any(|own| option.eq_ignore_ascii_case(own)) {
            kept.push(option);
        } else {
            is_dropped |= !option.is_empty();
        }
    }
    is_dropped.then(|| {
        if kept.is_empty() {
            Edit::remove("connection")
        } else {
            Edit::set("connection", kept.join(b", ".as_slice()))
        }
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

/// ConfigReader by which a request claims a client. Others, such as `X-Forwarded-Proto`, Envoy sets on every request itself.
const CLAIMS: [&[u8]; 3] = [b"forwarded", b"x-forwarded-for", b"x-real-ip"];

const GRPC: &[u8] = b"application/grpc";

/// Most proxies that may be in front.
const MAX_HOPS: i64 = 32;

/// Paths by which load balancers ask whether the app is alive: they speak plain http and follow no redirect.
const HEALTH_PATHS: [&[u8]; 6] = [
    b"/_stcore/health",
    b"/_stcore/script-health-check",
    b"/api/healthz",
    b"/api/readyz",
    b"/healthz",
    b"/readyz",
];
