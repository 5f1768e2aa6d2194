//! Builds the edits of a request that is forwarded.
//!
//! Headers are set and removed so that the upstream can trust what it receives; `Connection` is reduced to what the next
//! hop needs; target and `Host` are written as the settings say. A header that is already correct is not touched, because
//! each edit costs a host call in the filter.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::address::AddressText;
use crate::client::Client;
use crate::config::{OriginalPathHeader, UpstreamHost, UpstreamPath, XffMode};
use crate::decision::Forward;
use crate::decision_record::DecisionRecord;
use crate::edit::{Edits, Span};
use crate::effective::{Authority, Effective, port_text};
use crate::exchange::Exchange;
use crate::fields::{Field, Fields};
use crate::header::{Header, is_name, is_same_name, lines};
use crate::header_group::HeaderGroup;
use crate::message::Request;
use crate::peer::Peer;
use crate::protected_headers::{ProtectedHeaders, group_of};
use crate::route::Route;
use crate::target::Target;

/// Edits requests as configured.
#[derive(Debug, Clone)]
pub(crate) struct RequestEditor {
    pub(crate) protected: ProtectedHeaders,
    pub(crate) upstream_host: UpstreamHost,
    pub(crate) xff_mode: XffMode,
    pub(crate) emit_forwarded: bool,
    pub(crate) original_path_header: OriginalPathHeader,
}

/// Further input of the edits, besides the request and its exchange.
pub(crate) struct RewriteContext<'a> {
    pub(crate) fields: Fields<'a>,
    pub(crate) route: &'a Route<'a, 'a>,
    pub(crate) target: &'a Target<'a>,
    /// The host that the request itself names.
    pub(crate) named_host: Option<&'a [u8]>,
    /// The same, parsed.
    pub(crate) named_authority: Option<Authority>,
    pub(crate) attested: &'a [IpAddr],
}

/// The state of a header that is set, in the request as received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderState {
    Absent,
    /// One line, with the correct value.
    Correct,
    Wrong,
}

/// The headers that are set, each with its value; `None` removes it.
type HeadersToSet<'a> = [(&'static str, Option<&'a [u8]>); 8];

impl RequestEditor {
    /// Returns true for a header that may be set in a request.
    pub(crate) fn sets(name: &str) -> bool {
        SET_HEADERS
            .iter()
            .any(|set| is_same_name(set.as_bytes(), name.as_bytes()))
    }

    /// Returns true for a header whose value, or absence, depends on who sends it.
    pub(crate) fn governs(&self, name: &[u8]) -> bool {
        self.protected.removal(name, false).is_some() || group_of(name).is_some()
    }

    /// Builds the edits, in the order in which they must be applied.
    pub(crate) fn edit(
        &self,
        request: &Request<'_>,
        exchange: &mut Exchange,
        record: &mut DecisionRecord,
        context: RewriteContext<'_>,
        mut edits: Edits,
    ) -> Forward {
        let RewriteContext { fields, target, .. } = context;
        let effective = &exchange.effective;
        let authority = effective.authority();
        let to_send = Path::to_send(exchange, context.route);
        let is_path_changed = !to_send.is(target.path);
        let port = match effective.port {
            443 => None,
            port => Some(port_text(port)),
        };
        let forwarded_for = match self.xff_mode {
            XffMode::Client => None,
            XffMode::Chain => chain(context.attested, request.peer),
        };
        let forwarded = self
            .emit_forwarded
            .then(|| forwarded_element(&exchange.client, effective));
        let original_path = self.original_path(request, &context, is_path_changed);
        let address = exchange.client_text.as_deref().map(str::as_bytes);
        let prefix = exchange.forwarded_prefix().as_str().as_bytes();
        let set: HeadersToSet<'_> = [
            (
                "x-forwarded-for",
                match self.xff_mode {
                    XffMode::Client => address,
                    XffMode::Chain => forwarded_for.as_deref().map(str::as_bytes),
                },
            ),
            ("x-real-ip", address),
            (
                "x-forwarded-proto",
                Some(effective.scheme.as_str().as_bytes()),
            ),
            ("x-forwarded-host", authority.as_deref().map(str::as_bytes)),
            (
                "x-forwarded-port",
                Some(port.as_deref().unwrap_or("443").as_bytes()),
            ),
            (
                "x-forwarded-prefix",
                Some(prefix).filter(|prefix| !prefix.is_empty()),
            ),
            ("forwarded", forwarded.as_deref().map(str::as_bytes)),
            ("x-envoy-original-path", original_path.as_deref()),
        ];
        if fields.has_any(&[Field::Connection]) {
            remove_nominated(fields, &set, record, &mut edits);
            edit_connection(fields, &mut edits);
        }
        self.edit_headers(fields, exchange.peer_trusted, &set, record, &mut edits);
        // The path alone is compared first: a target in absolute form differs from it by the authority as well.
        let sent = to_send.store(target.query, &mut edits);
        if is_path_changed || edits.stored(sent) != request.target {
            edits.stored_target(sent);
        }
        let stripped_target = match exchange.app.upstream_path {
            UpstreamPath::Stripped => sent,
            UpstreamPath::Full => edits.store(&[context.route.stripped, target.query]),
        };
        match self.upstream_host {
            UpstreamHost::Effective => {
                if let Some(host) = &authority
                    && request.host != Some(host.as_bytes())
                {
                    edits.host(host.as_bytes());
                }
            }
            UpstreamHost::AsReceived => {
                if let Some(host) = context.named_host
                    && request.host != Some(host)
                {
                    edits.host(host);
                }
                exchange.set_sent_host(context.named_authority);
            }
        }
        Forward {
            edits,
            stripped_target,
        }
    }

    /// Builds the edits that remove protected headers from trailers. This includes those that a trusted peer may pass in
    /// headers, because proxies do not sanitize trailers.
    pub(crate) fn trailer_edits(&self, trailers: &[Header<'_>]) -> Edits {
        let mut edits = Edits::default();
        for (name, _) in trailers {
            if self.governs(name) {
                edits.remove_received(name);
            }
        }
        edits
    }

    /// Returns the value of `x-envoy-original-path`.
    fn original_path<'a>(
        &self,
        request: &Request<'_>,
        context: &RewriteContext<'a>,
        is_path_changed: bool,
    ) -> Option<Cow<'a, [u8]>> {
        match self.original_path_header {
            OriginalPathHeader::Set if request.is_reentry => {
                let mut lines = context.fields.lines(Field::XEnvoyOriginalPath);
                lines.next().map(Cow::Borrowed)
            }
            OriginalPathHeader::Set if is_path_changed => Some(context.target.path_and_query()),
            OriginalPathHeader::Set | OriginalPathHeader::Remove => None,
        }
    }

    /// Removes protected headers and sets those of `set` that are not correct already.
    fn edit_headers(
        &self,
        fields: Fields<'_>,
        peer_trusted: bool,
        set: &HeadersToSet<'_>,
        record: &mut DecisionRecord,
        edits: &mut Edits,
    ) {
        let mut states = [HeaderState::Absent; 8];
        for (name, value) in fields.all() {
            let Some(group) = self.protected.removal(name, peer_trusted) else {
                continue;
            };
            let to_set = set
                .iter()
                .zip(&mut states)
                .find(|((to_set, _), _)| is_name(name, to_set.as_bytes()));
            match to_set {
                Some(((_, Some(wanted)), state)) => {
                    let is_correct = *state == HeaderState::Absent && wanted == value;
                    *state = if is_correct {
                        HeaderState::Correct
                    } else {
                        HeaderState::Wrong
                    };
                    if !is_correct {
                        record.count_removed(group);
                    }
                }
                _ => {
                    record.count_removed(group);
                    edits.remove_received(name);
                }
            }
        }
        for ((name, value), state) in set.iter().zip(states) {
            let Some(value) = value else { continue };
            match state {
                HeaderState::Correct => {}
                // The protection exempts the field of `client_ip_header`, so that one may be present all the same.
                HeaderState::Absent if !self.is_client_ip_header(name) => {
                    edits.append(name, value);
                }
                HeaderState::Absent | HeaderState::Wrong => edits.set(name, value),
            }
        }
    }

    fn is_client_ip_header(&self, name: &str) -> bool {
        let header = self.protected.client_ip_header.as_deref();
        header.is_some_and(|header| header.eq_ignore_ascii_case(name))
    }
}

/// A path that consists of a mount and what follows it.
struct Path<'a> {
    mount: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Path<'a> {
    /// Returns the path that is sent upstream.
    fn to_send(exchange: &'a Exchange, route: &Route<'_, 'a>) -> Self {
        match exchange.app.upstream_path {
            UpstreamPath::Full => Self {
                mount: exchange.forwarded_prefix().as_str().as_bytes(),
                rest: route.rest_as_path(),
            },
            UpstreamPath::Stripped => Self {
                mount: b"",
                rest: route.stripped,
            },
        }
    }

    fn is(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.mount) == Some(self.rest)
    }

    /// Stores the target with this path and this query.
    fn store(&self, query: &[u8], edits: &mut Edits) -> Span {
        edits.store(&[self.mount, self.rest, query])
    }
}

/// Removes the fields that `Connection` nominates: they are for this hop only, RFC 9110 §7.6.1. Fields of the connection
/// itself are left to the host, and nominating a field that is set has no effect.
fn remove_nominated(
    fields: Fields<'_>,
    set: &HeadersToSet<'_>,
    record: &mut DecisionRecord,
    edits: &mut Edits,
) {
    let nominated = fields
        .connection_options()
        .filter(|name| !is_connection_field(name))
        .filter(|name| lines(fields.all(), name).next().is_some());
    for name in nominated {
        let is_set = set
            .iter()
            .any(|(to_set, value)| value.is_some() && name.eq_ignore_ascii_case(to_set.as_bytes()));
        if !is_set {
            record.count_removed(HeaderGroup::Nominated);
            edits.remove_received(name);
        }
    }
}

/// Removes nominations from `Connection`: the next hop would act on them and remove what was set here.
fn edit_connection(fields: Fields<'_>, edits: &mut Edits) {
    let is_nomination = |option: &[u8]| !option.is_empty() && !is_connection_field(option);
    if !fields.connection_options().any(is_nomination) {
        return;
    }
    let kept: Vec<&[u8]> = fields
        .connection_options()
        .filter(|option| is_connection_field(option))
        .collect();
    if kept.is_empty() {
        edits.remove("connection");
    } else {
        edits.set("connection", &kept.join(b", ".as_slice()));
    }
}

fn is_connection_field(name: &[u8]) -> bool {
    CONNECTION_FIELDS
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field))
}

/// Returns the client, the trusted hops after it, and the peer, as a list for `X-Forwarded-For`.
fn chain(attested: &[IpAddr], peer: Peer) -> Option<String> {
    let mut text = String::new();
    for address in attested.iter().copied().chain(peer.address()) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&AddressText::of(address));
    }
    (!text.is_empty()).then_some(text)
}

/// Returns one element of `Forwarded`, RFC 7239 §4.
fn forwarded_element(client: &Client, effective: &Effective) -> String {
    let node = match client.address {
        Some(address @ IpAddr::V4(_)) => AddressText::of(address).to_string(),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    let host = effective.authority().map_or(String::new(), |authority| {
        // A colon is not a token character.
        if authority.contains(':') {
            format!(";host=\"{authority}\"")
        } else {
            format!(";host={authority}")
        }
    });
    format!("for={node}{host};proto={}", effective.scheme)
}

/// The headers that requests get, see [`RequestEditor::edit`].
const SET_HEADERS: [&str; 8] = [
    "forwarded",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Options and fields that belong to the connection, so that the host handles them.
const CONNECTION_FIELDS: [&[u8]; 9] = [
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
