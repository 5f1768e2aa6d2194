//! Builds the edits of a request that is forwarded.
//!
//! Headers are set and removed so that the upstream can trust what it receives; `Connection` is reduced to what the next
//! hop needs; target and `Host` are written as the settings say. A header that is already correct is not touched, because
//! each edit costs a host call in the filter.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::address::{push_number, to_text};
use crate::client::Client;
use crate::config::{OriginalPathHeader, UpstreamHost, UpstreamPath, XffMode};
use crate::decision_record::DecisionRecord;
use crate::edit::Edit;
use crate::effective::Effective;
use crate::exchange::Exchange;
use crate::header::{Header, connection_options, is_same_name, lines};
use crate::header_group::HeaderGroup;
use crate::message::Request;
use crate::peer::Peer;
use crate::protected_headers::{ProtectedHeaders, group_of};
use crate::route::Route;

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
    pub(crate) route: &'a Route<'a, 'a>,
    pub(crate) query: &'a [u8],
    /// The path as received.
    pub(crate) received_path: &'a [u8],
    /// The host that the request itself names.
    pub(crate) named_host: Option<&'a [u8]>,
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
type HeadersToSet<'a> = [(&'static str, Option<Cow<'a, str>>); 8];

impl RequestEditor {
    /// Returns true for a header that may be set in a request.
    pub(crate) fn sets(name: &str) -> bool {
        SET_HEADERS
            .iter()
            .any(|set| is_same_name(set.as_bytes(), name.as_bytes()))
    }

    /// Builds the edits, in the order in which they must be applied.
    pub(crate) fn edits(
        &self,
        request: &Request<'_>,
        exchange: &mut Exchange,
        record: &mut DecisionRecord,
        context: &RewriteContext<'_>,
    ) -> Vec<Edit> {
        let authority = exchange.effective.authority();
        let path = path_to_send(exchange, context.route);
        let target = [path.as_ref(), context.query].concat();
        // The path alone is compared: a target in absolute form differs from it by the authority as well.
        let is_path_changed = path.as_ref() != context.received_path;
        let set = self.headers_to_set(
            request,
            exchange,
            context,
            authority.as_deref(),
            is_path_changed,
        );
        let mut edits = Vec::with_capacity(12);
        remove_nominated(request.headers, &set, record, &mut edits);
        edits.extend(connection_edit(request.headers));
        self.edit_headers(request, exchange.peer_trusted, set, record, &mut edits);
        if target != request.target {
            edits.push(Edit::Target(target));
        }
        let host = match self.upstream_host {
            UpstreamHost::Effective => authority.map(String::into_bytes),
            UpstreamHost::AsReceived => context.named_host.map(<[u8]>::to_vec),
        };
        if let Some(host) = host {
            if request.host != Some(&host) {
                edits.push(Edit::Host(host.clone()));
            }
            exchange.sent_host = Some(host);
        }
        edits
    }

    /// Builds the edits that remove protected headers from trailers. This includes those that a trusted peer may pass in
    /// headers, because proxies do not sanitize trailers.
    pub(crate) fn trailer_edits(&self, trailers: &[Header<'_>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (name, _) in trailers {
            if self.protected.removal(name, false).is_some() || group_of(name).is_some() {
                remove_once(&mut edits, name);
            }
        }
        edits
    }

    fn headers_to_set<'a>(
        &self,
        request: &Request<'a>,
        exchange: &'a Exchange,
        context: &RewriteContext<'a>,
        authority: Option<&'a str>,
        is_path_changed: bool,
    ) -> HeadersToSet<'a> {
        let effective = &exchange.effective;
        let address = exchange.client_text.as_deref().map(Cow::Borrowed);
        let forwarded_for = match self.xff_mode {
            XffMode::Client => address.clone(),
            XffMode::Chain => chain(context.attested, request.peer).map(Cow::Owned),
        };
        let port = match effective.port {
            443 => Cow::Borrowed("443"),
            80 => Cow::Borrowed("80"),
            port => {
                let mut text = String::new();
                push_number(&mut text, port);
                Cow::Owned(text)
            }
        };
        let prefix = Some(exchange.forwarded_prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let forwarded = self
            .emit_forwarded
            .then(|| forwarded_element(&exchange.client, effective).into());
        let original_path = match self.original_path_header {
            OriginalPathHeader::Set if request.is_reentry => {
                lines(request.headers, b"x-envoy-original-path")
                    .next()
                    .and_then(as_text)
                    .map(Cow::Borrowed)
            }
            OriginalPathHeader::Set if is_path_changed => {
                as_text(context.received_path).map(|path| match as_text(context.query) {
                    Some(query) if !query.is_empty() => Cow::Owned([path, query].concat()),
                    _ => Cow::Borrowed(path),
                })
            }
            OriginalPathHeader::Set | OriginalPathHeader::Remove => None,
        };
        [
            ("x-forwarded-for", forwarded_for),
            ("x-real-ip", address),
            ("x-forwarded-proto", Some(effective.scheme.as_str().into())),
            ("x-forwarded-host", authority.map(Cow::Borrowed)),
            ("x-forwarded-port", Some(port)),
            ("x-forwarded-prefix", prefix.map(Cow::Borrowed)),
            ("forwarded", forwarded),
            ("x-envoy-original-path", original_path),
        ]
    }

    /// Removes protected headers and sets those of `set` that are not correct already.
    fn edit_headers(
        &self,
        request: &Request<'_>,
        peer_trusted: bool,
        set: HeadersToSet<'_>,
        record: &mut DecisionRecord,
        edits: &mut Vec<Edit>,
    ) {
        let mut states = [HeaderState::Absent; 8];
        for (name, value) in request.headers {
            let Some(group) = self.protected.removal(name, peer_trusted) else {
                continue;
            };
            let to_set = set
                .iter()
                .zip(&mut states)
                .find(|((to_set, _), _)| name.eq_ignore_ascii_case(to_set.as_bytes()));
            match to_set {
                Some(((_, Some(wanted)), state)) => {
                    let is_correct = *state == HeaderState::Absent && wanted.as_bytes() == *value;
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
                    remove_once(edits, name);
                }
            }
        }
        for ((name, value), state) in set.into_iter().zip(states) {
            let Some(value) = value else { continue };
            match state {
                HeaderState::Correct => {}
                // The protection exempts the field of `client_ip_header`, so that one may be present all the same.
                HeaderState::Absent if !self.is_client_ip_header(name) => {
                    edits.push(Edit::append(name, value.into_owned()));
                }
                HeaderState::Absent | HeaderState::Wrong => {
                    edits.push(Edit::set(name, value.into_owned()));
                }
            }
        }
    }

    fn is_client_ip_header(&self, name: &str) -> bool {
        let header = self.protected.client_ip_header.as_deref();
        header.is_some_and(|header| header.eq_ignore_ascii_case(name))
    }
}

fn path_to_send<'a>(exchange: &Exchange, route: &'a Route<'_, '_>) -> Cow<'a, [u8]> {
    match exchange.app.upstream_path {
        UpstreamPath::Full => Cow::Owned(exchange.forwarded_prefix.prepend(route.rest_as_path())),
        UpstreamPath::Stripped => Cow::Borrowed(route.stripped.as_ref()),
    }
}

/// Removes the fields that `Connection` nominates: they are for this hop only, RFC 9110 §7.6.1. Fields of the connection
/// itself are left to the host, and nominating a field that is set has no effect.
fn remove_nominated(
    headers: &[Header<'_>],
    set: &HeadersToSet<'_>,
    record: &mut DecisionRecord,
    edits: &mut Vec<Edit>,
) {
    let nominated = connection_options(headers)
        .filter(|name| !is_connection_field(name))
        .filter(|name| lines(headers, name).next().is_some());
    for name in nominated {
        let is_set = set
            .iter()
            .any(|(to_set, value)| value.is_some() && name.eq_ignore_ascii_case(to_set.as_bytes()));
        if !is_set {
            record.count_removed(HeaderGroup::Nominated);
            remove_once(edits, name);
        }
    }
}

/// Removes nominations from `Connection`: the next hop would act on them and remove what was set here.
fn connection_edit(headers: &[Header<'_>]) -> Option<Edit> {
    let mut kept = Vec::new();
    let mut is_changed = false;
    for option in connection_options(headers) {
        if is_connection_field(option) {
            kept.push(option);
        } else {
            is_changed |= !option.is_empty();
        }
    }
    is_changed.then(|| {
        if kept.is_empty() {
            Edit::remove("connection")
        } else {
            Edit::set("connection", kept.join(b", ".as_slice()))
        }
    })
}

fn is_connection_field(name: &[u8]) -> bool {
    CONNECTION_FIELDS
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field))
}

fn remove_once(edits: &mut Vec<Edit>, name: &[u8]) {
    // Protected and nominated names are ASCII, as all header names are.
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let edit = Edit::Remove(Cow::Owned(name.to_ascii_lowercase()));
    if !edits.contains(&edit) {
        edits.push(edit);
    }
}

/// Returns the client, the trusted hops after it, and the peer, as a list for `X-Forwarded-For`.
fn chain(attested: &[IpAddr], peer: Peer) -> Option<String> {
    let hops: Vec<String> = attested
        .iter()
        .copied()
        .chain(peer.address())
        .map(to_text)
        .collect();
    (!hops.is_empty()).then(|| hops.join(", "))
}

/// Returns one element of `Forwarded`, RFC 7239 §4.
fn forwarded_element(client: &Client, effective: &Effective) -> String {
    let node = match client.address {
        Some(address @ IpAddr::V4(_)) => to_text(address),
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

/// Returns a part of a target as text; a target that was accepted is ASCII.
fn as_text(target: &[u8]) -> Option<&str> {
    std::str::from_utf8(target).ok()
}

/// The headers that requests get, see [`RequestEditor::headers_to_set`].
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
