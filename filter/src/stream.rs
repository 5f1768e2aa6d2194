//! Applies the decisions of the policy to one request and its response.
//!
//! It makes as few host calls as possible: one read of the header map for each direction, one property for the peer and one
//! for TLS, and a write for each header that really changes, because every write makes Envoy select its route again.
//! Facts that are rarely used are read only when they are needed.
//!
//! If an edit cannot be applied, the request is not forwarded, because a partly applied policy does not protect the app.

use std::rc::Rc;

use fluxlit_policy::{
    Action as Decided, DecisionRecord, Edit, Exchange, Header, PREFIX_IGNORED_WARNING, Peer,
    ProbeAnswer, Reply, Request, Response, warning_network,
};
use log::{Level, debug, error};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::host;
use crate::plugin::Plugin;
use crate::probes;
use crate::warnings::Subject;

/// One HTTP stream.
pub(crate) struct Stream {
    /// `None` if the root context has no valid configuration.
    plugin: Option<Rc<Plugin>>,
    /// The decision about the request, which the response needs.
    exchange: Option<Exchange>,
}

impl Stream {
    pub(crate) fn new(plugin: Option<Rc<Plugin>>) -> Self {
        Self {
            plugin,
            exchange: None,
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(plugin) = &self.plugin else {
            return refuse("no policy");
        };
        let policy = &plugin.policy;
        let map = host::map(MapType::HttpRequestHeaders);
        let message = Message::read(&map);
        let peer = read_peer(policy.peer_filter_state_key());
        let identity = policy.needs_identity().then(read_identity).flatten();
        let request = Request {
            peer,
            identity: identity.as_deref(),
            is_reentry: message.is_redirected && is_rewritten(),
            // Set only by Envoy's own TLS transport socket. The client controls `:scheme` and X-Forwarded-Proto.
            tls: host::property(&["connection", "tls_version"]).is_some(),
            method: message.method,
            target: message.path,
            host: message.authority,
            headers: &message.headers,
        };
        let decision = policy.request(&request);
        plugin.counters.request(&decision.record);
        let exchange = decision.exchange;
        warn_of_settings(plugin, peer, &exchange);
        if decision.record.prefix_ignored {
            plugin.warnings.log(Subject::Prefix, Level::Warn, || {
                PREFIX_IGNORED_WARNING.to_owned()
            });
        }
        if policy.is_report_only() {
            report(plugin, &decision.record);
        }
        let mark = Mark::of(policy.is_report_only(), name_client(&exchange, peer));
        let record = probes::answer(plugin, &request);
        let outcome = match decision.action {
            _ if let Some(answer) = record => {
                mark.store();
                send_record(&answer)
            }
            Decided::Reply(response) => {
                mark.store();
                reply(&response)
            }
            Decided::Forward(forward) if apply(MapType::HttpRequestHeaders, &forward.edits) => {
                // Last, so that a request whose processing ended early has no mark.
                mark.store();
                // Envoy has selected a route before the mark existed. It selects again after each write to the request,
                // because the SDK declares version 0.2.1 of the ABI; without a write, it has to be told.
                if forward.edits.is_empty() {
                    host::clear_route_cache();
                }
                Action::Continue
            }
            Decided::Forward(_) => refuse("an edit of the request failed"),
        };
        self.exchange = Some(exchange);
        outcome
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let Some(plugin) = &self.plugin else {
            return refuse("no policy");
        };
        let map = host::map(MapType::HttpRequestTrailers);
        let trailers: Vec<Header<'_>> = host::pairs(&map).collect();
        let edits = plugin.policy.request_trailers(&trailers);
        if !apply(MapType::HttpRequestTrailers, &edits) {
            return refuse("an edit of the trailers failed");
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // There is no exchange if this filter did not see the request.
        let (Some(plugin), Some(exchange)) = (&self.plugin, &self.exchange) else {
            return Action::Continue;
        };
        let map = host::map(MapType::HttpResponseHeaders);
        let message = Message::read(&map);
        let decision = plugin.policy.response(
            exchange,
            &Response {
                status: message.status,
                headers: &message.headers,
            },
        );
        plugin.counters.response(decision.hsts);
        if decision.host_cookie_kept {
            plugin.warnings.log(Subject::HostCookie, Level::Warn, || {
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
                    .to_owned()
            });
        }
        if !apply(MapType::HttpResponseHeaders, &decision.edits) {
            return refuse("an edit of the response failed");
        }
        Action::Continue
    }
}

/// A header map, split into pseudo-headers and fields.
struct Message<'a> {
    method: &'a [u8],
    path: &'a [u8],
    authority: Option<&'a [u8]>,
    status: u16,
    /// True if Envoy may have redirected the request internally. Envoy then sets `x-envoy-original-url`, but a client can
    /// send it as well, so this only means that the filter state must be read.
    is_redirected: bool,
    headers: Vec<Header<'a>>,
}

impl<'a> Message<'a> {
    fn read(map: &'a [u8]) -> Self {
        let mut message = Self {
            method: b"",
            path: b"",
            authority: None,
            status: 0,
            is_redirected: false,
            headers: Vec::with_capacity(32),
        };
        for (name, value) in host::pairs(map) {
            match name {
                b":method" => message.method = value,
                b":path" => message.path = value,
                b":authority" => message.authority = Some(value),
                b":status" => {
                    message.status = std::str::from_utf8(value)
                        .ok()
                        .and_then(|status| status.parse().ok())
                        .unwrap_or(0);
                }
                [b':', ..] => {}
                _ => {
                    message.is_redirected |= name == b"x-envoy-original-url";
                    message.headers.push((name, value));
                }
            }
        }
        message
    }
}

/// Reads the direct peer from a source that no header can change.
///
/// With a key, only the filter state that the listener's network-level `set_filter_state` recorded is used. It is read
/// by its two-part path, because another plugin could set a bare top-level property. Without a key, Envoy's
/// `source.address` is used if it is provably the direct peer, see [`Peer::from_source_address`].
fn read_peer(filter_state_key: Option<&str>) -> Peer {
    match filter_state_key {
        Some(key) => host::property(&["filter_state", key])
            .map_or(Peer::Unknown, |text| Peer::from_recorded_address(&text)),
        None => host::property(&["source", "address"])
            .map_or(Peer::Unknown, |text| Peer::from_source_address(&text)),
    }
}

/// Reads the URI name of a client certificate that Envoy has verified. Trust by identity must not be configured for an
/// Envoy that accepts certificates it cannot verify (`ACCEPT_UNTRUSTED`).
fn read_identity() -> Option<Vec<u8>> {
    let is_mutual = host::property(&["connection", "mtls"])?.first() == Some(&1);
    is_mutual
        .then(|| host::property(&["connection", "uri_san_peer_certificate"]))
        .flatten()
        .filter(|name| !name.is_empty())
}

/// What the filter stores about a request that it has processed. Routes match it, so that a request that bypassed the
/// filter has no route.
///
/// No header can set it: Envoy prefixes the filter state that wasm filters store, and only they can store under that prefix.
#[derive(Clone, Copy)]
enum Mark<'a> {
    /// The headers are rewritten, and this is the client.
    Rewritten(&'a str),
    /// The headers are unchanged, because of `report_only`.
    ReportOnly,
}

impl<'a> Mark<'a> {
    fn of(is_report_only: bool, client: &'a str) -> Self {
        if is_report_only {
            Self::ReportOnly
        } else {
            Self::Rewritten(client)
        }
    }

    fn store(self) {
        match self {
            Self::Rewritten(client) => host::set_property(CLIENT, client.as_bytes()),
            // Another plugin of this chain, which does rewrite, may have stored the client.
            Self::ReportOnly if is_rewritten() => {}
            Self::ReportOnly => host::set_property(CLIENT, REPORT_ONLY),
        }
    }
}

/// Returns true if this filter has already rewritten the headers of the request.
fn is_rewritten() -> bool {
    host::property(&["filter_state", CLIENT_KEY]).is_some_and(|mark| mark != REPORT_ONLY)
}

/// Returns the client as access logs, RBAC and rate limits read it in the filter state.
fn name_client(exchange: &Exchange, peer: Peer) -> &str {
    match (&exchange.client_text, peer) {
        (Some(address), _) => address,
        (None, Peer::Unix) => "unix",
        (None, _) => "unknown",
    }
}

/// Warns about a listener or a peer that is probably not configured as intended.
fn warn_of_settings(plugin: &Plugin, peer: Peer, exchange: &Exchange) {
    if peer == Peer::Unknown && !exchange.peer_trusted {
        plugin.warnings.log(Subject::UnknownPeer, Level::Warn, || {
            "E17: cannot tell the direct peer on this listener; set use_remote_address: true with \
                 skip_xff_append: true, or peer_filter_state_key"
                .to_owned()
        });
    } else if exchange.forwarded_ignored {
        let address = exchange.client.address;
        let subject = Subject::Ignored(address.map(warning_network));
        plugin.warnings.log(subject, Level::Warn, || {
            let (peer, item) = match address {
                Some(address) => (address.to_string(), address.to_string()),
                None => ("a Unix socket".to_owned(), "unix:".to_owned()),
            };
            format!(
                "forwarded headers of {peer} are ignored; if that is your proxy, list \"{item}\" in forwarded_allow_ips"
            )
        });
    }
}

/// Logs what would be done without `report_only`.
fn report(plugin: &Plugin, record: &DecisionRecord) {
    if let Some(reason) = record.reply_reason {
        let label = reason.label();
        plugin
            .warnings
            .log(Subject::Withheld(label), Level::Info, || {
                format!("report only: this request would be answered here ({label})")
            });
    }
    for (group, _) in record.removed() {
        let label = group.label();
        plugin
            .warnings
            .log(Subject::Withheld(label), Level::Info, || {
                format!("report only: headers of the group {label} would be removed or replaced")
            });
    }
}

/// Applies edits in order until one fails. Returns true if all succeeded.
fn apply(map: MapType, edits: &[Edit]) -> bool {
    edits.iter().all(|edit| match edit {
        Edit::Append(name, value) => host::add(map, name, value),
        Edit::Host(host) => host::replace(map, ":authority", host),
        Edit::Remove(name) => host::remove(map, name),
        Edit::Set(name, value) => host::replace(map, name, value),
        Edit::Target(target) => host::replace(map, ":path", target),
    })
}

fn reply(reply: &Reply) -> Action {
    let status = reply.status(|| {
        host::property(&["request", "protocol"]).is_some_and(|version| version == b"HTTP/1.0")
    });
    debug!("answered {status} here: {}", reply.reason.label());
    let body = format!("{}\n", reply.reason.text());
    // A rejected response leaves the stream paused, so the request does not reach the upstream either.
    let location = reply.location.as_deref();
    let location = location.map(|location| ("location", location));
    host::send_local_response(status, location.as_slice(), body.as_bytes());
    Action::Pause
}

/// Responds with the decision record that the request asks for.
fn send_record(answer: &ProbeAnswer) -> Action {
    let mut fields = vec![("content-type", ProbeAnswer::CONTENT_TYPE.as_bytes())];
    let further = answer.fields.iter();
    fields.extend(further.map(|(name, value)| (*name, value.as_bytes())));
    host::send_local_response(answer.status, &fields, answer.body.as_bytes());
    Action::Pause
}

fn refuse(reason: &str) -> Action {
    error!("request refused: {reason}");
    host::send_local_response(500, &[], b"The request could not be processed safely.\n");
    Action::Pause
}

/// The name under which the client's address is stored.
pub(crate) const CLIENT: &str = "fluxlit.client";

/// The name under which it is read: Envoy prefixes the filter state that wasm filters store.
const CLIENT_KEY: &str = "wasm.fluxlit.client";

/// What is stored instead of the client with `report_only`. It must not be empty, and is not an address.
const REPORT_ONLY: &[u8] = b"report_only";
