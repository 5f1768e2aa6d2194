//! What happens to one request and its response?
//!
//! Facts in, edits out, in as few host calls as possible: one read of the header map for each direction, one property
//! for the peer and one for TLS, and a write for each header that really changes, since every write makes Envoy look
//! its route up again. What is rarely needed is asked for only then.
//!
//! If an edit cannot be carried out, the request is not forwarded: half a policy is none.

use std::rc::Rc;

use fluxlit_policy::{
    Action, DecisionRecord, Edit, Exchange, Header, Peer, Reply, Request, Response,
};

use crate::host::{self, Level, Map};
use crate::plugin::Plugin;
use crate::warnings::{Network, Subject};

/// Whether the message goes on, by its number in the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Flow {
    Continue = 0,
    Pause = 1,
}

/// One HTTP stream.
pub(crate) struct Stream {
    plugin: Option<Rc<Plugin>>,
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

impl Stream {
    pub(crate) fn request_headers(&mut self) -> Flow {
        let Some(plugin) = &self.plugin else {
            return refuse("no policy");
        };
        let policy = &plugin.policy;
        let map = host::map(Map::RequestHeaders);
        let message = Message::read(&map);
        let peer = read_peer(policy.peer_filter_state_key());
        let identity = policy.needs_identity().then(read_identity).flatten();
        let decision = policy.request(&Request {
            peer,
            identity: identity.as_deref(),
            is_reentry: message.is_redirected
                && host::property(&["filter_state", CLIENT_KEY]).is_some(),
            // Set only by Envoy's own TLS transport socket; `:scheme` and X-Forwarded-Proto are the client's words.
            tls: host::property(&["connection", "tls_version"]).is_some(),
            method: message.method,
            target: message.path,
            host: message.authority,
            headers: &message.headers,
        });
        plugin.counters.request(&decision.record);
        let exchange = decision.exchange;
        warn(plugin, peer, &exchange);
        if policy.is_report_only() {
            // Nothing is stored: that would say that the headers of this request are ours.
            report(plugin, &decision.record);
        } else {
            host::set_property(CLIENT, name_client(&exchange, peer).as_bytes());
        }
        self.exchange = Some(exchange);
        match decision.action {
            Action::Reply(answer) => reply(&answer),
            Action::Forward(forward) => {
                if !apply(Map::RequestHeaders, &forward.edits) {
                    return refuse("an edit of the request failed");
                }
                let is_rerouted = forward
                    .edits
                    .iter()
                    .any(|edit| matches!(edit, Edit::Target(_) | Edit::Host(_)));
                if is_rerouted {
                    host::clear_route_cache();
                }
                Flow::Continue
            }
        }
    }

    pub(crate) fn request_trailers(&self) -> Flow {
        let Some(plugin) = &self.plugin else {
            return refuse("no policy");
        };
        let map = host::map(Map::RequestTrailers);
        let trailers: Vec<Header<'_>> = host::pairs(&map).collect();
        let edits = plugin.policy.request_trailers(&trailers);
        if !apply(Map::RequestTrailers, &edits) {
            return refuse("an edit of the trailers failed");
        }
        Flow::Continue
    }

    pub(crate) fn response_headers(&self) -> Flow {
        // Without an exchange, the response answers a request that this filter never saw.
        let (Some(plugin), Some(exchange)) = (&self.plugin, &self.exchange) else {
            return Flow::Continue;
        };
        let map = host::map(Map::ResponseHeaders);
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
            plugin.warnings.say(Subject::HostCookie, Level::Warn, || {
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
                    .to_owned()
            });
        }
        if !apply(Map::ResponseHeaders, &decision.edits) {
            return refuse("an edit of the response failed");
        }
        Flow::Continue
    }
}

/// A header map taken apart into pseudo-headers and fields.
struct Message<'a> {
    method: &'a [u8],
    path: &'a [u8],
    authority: Option<&'a [u8]>,
    status: u16,
    /// Whether Envoy may have redirected the request internally: it then sets `x-envoy-original-url`, and so can a
    /// client, so that this only says where to look closer.
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

/// Reads the direct peer from a source that no header can move, or says that it is unknown.
///
/// With a key, only the filter state that the listener's network-level `set_filter_state` recorded counts. It is read
/// by its two-part path: a bare top-level property could be planted by another plugin. Without a key, Envoy's
/// `source.address` counts when it is provably the direct peer, see [`Peer::from_source_address`].
fn read_peer(filter_state_key: Option<&str>) -> Peer {
    match filter_state_key {
        Some(key) => host::property(&["filter_state", key])
            .map_or(Peer::Unknown, |text| Peer::from_recorded_address(&text)),
        None => host::property(&["source", "address"])
            .map_or(Peer::Unknown, |text| Peer::from_source_address(&text)),
    }
}

/// Reads the URI name of a client certificate that Envoy has verified. An Envoy that is told to accept certificates it
/// cannot verify (`ACCEPT_UNTRUSTED`) must not be asked to trust by identity.
fn read_identity() -> Option<Vec<u8>> {
    let is_mutual = host::property(&["connection", "mtls"])?.first() == Some(&1);
    is_mutual
        .then(|| host::property(&["connection", "uri_san_peer_certificate"]))
        .flatten()
        .filter(|name| !name.is_empty())
}

/// The client as access logs, RBAC and rate limits find it in the filter state.
fn name_client(exchange: &Exchange, peer: Peer) -> &str {
    match (&exchange.client_text, peer) {
        (Some(address), _) => address,
        (None, Peer::Unix) => "unix",
        (None, _) => "unknown",
    }
}

fn warn(plugin: &Plugin, peer: Peer, exchange: &Exchange) {
    if peer == Peer::Unknown && !exchange.peer_trusted {
        plugin.warnings.say(Subject::UnknownPeer, Level::Warn, || {
            "E17: cannot tell the direct peer on this listener; set use_remote_address: true with \
                 skip_xff_append: true, or peer_filter_state_key"
                .to_owned()
        });
    } else if exchange.forwarded_ignored {
        let address = exchange.client.address;
        let subject = Subject::Ignored(Network::of(address));
        plugin.warnings.say(subject, Level::Warn, || {
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

/// Says what would have been done.
fn report(plugin: &Plugin, account: &DecisionRecord) {
    if let Some(reason) = account.reply_reason {
        let label = reason.label();
        plugin
            .warnings
            .say(Subject::Withheld(label), Level::Info, || {
                format!("report only: this request would be answered here ({label})")
            });
    }
    for (group, _) in account.removed() {
        let label = group.label();
        plugin
            .warnings
            .say(Subject::Withheld(label), Level::Info, || {
                format!("report only: headers of the group {label} would be removed or replaced")
            });
    }
}

fn apply(map: Map, edits: &[Edit]) -> bool {
    edits.iter().all(|edit| match edit {
        Edit::Append(name, value) => host::add(map, name, value),
        Edit::Host(host) => host::replace(map, ":authority", host),
        Edit::Remove(name) => host::remove(map, name),
        Edit::Set(name, value) => host::replace(map, name, value),
        Edit::Target(target) => host::replace(map, ":path", target),
    })
}

fn reply(reply: &Reply) -> Flow {
    let status = reply.status(|| {
        host::property(&["request", "protocol"]).is_some_and(|version| version == b"HTTP/1.0")
    });
    host::log(
        Level::Debug,
        &format!("answered {status} here: {}", reply.reason.label()),
    );
    let body = format!("{}\n", reply.reason.text());
    let location = reply
        .location
        .as_deref()
        .map(|location| ("location", location));
    let headers: &[(&str, &[u8])] = location.as_slice();
    // A refused reply leaves the stream paused, which is still closed to the upstream.
    host::send_local_response(u32::from(status), headers, body.as_bytes());
    Flow::Pause
}

pub(crate) fn refuse(reason: &str) -> Flow {
    host::log(host::Level::Error, &format!("request refused: {reason}"));
    host::send_local_response(500, &[], b"The request could not be processed safely.\n");
    Flow::Pause
}

/// The name under which the client's address is stored.
pub(crate) const CLIENT: &str = "fluxlit.client";

/// The name under which it is read back: Envoy puts what filters store apart from its own.
const CLIENT_KEY: &str = "wasm.fluxlit.client";
