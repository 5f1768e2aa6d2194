//! What happens to one request and its response?
//!
//! Facts in, edits out, in as few host calls as possible: one read of the header map for each direction, one property
//! for the peer and one for TLS, and a write for each header that really changes, since every write makes Envoy look
//! its route up again.
//!
//! If an edit cannot be carried out, the request is not forwarded: half a policy is none.

use std::rc::Rc;

use fluxlit_policy::{Action, Edit, Exchange, Header, Peer, Reply, Request, Response};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action as Flow;

use crate::host::{self, Map};
use crate::plugin::Plugin;

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

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Flow {
        let Some(plugin) = &self.plugin else {
            return refuse("no policy");
        };
        let policy = &plugin.policy;
        let map = host::map(Map::RequestHeaders);
        let message = Message::read(&map);
        let peer = read_peer(policy.peer_filter_state_key());
        let decision = policy.request(&Request {
            peer,
            // Set only by Envoy's own TLS transport socket; `:scheme` and X-Forwarded-Proto are the client's words.
            tls: host::property(&["connection", "tls_version"]).is_some(),
            method: message.method,
            target: message.path,
            host: message.authority,
            headers: &message.headers,
        });
        if peer == Peer::Unknown {
            plugin.warn(|| {
                "E17: cannot tell the direct peer on this listener; set use_remote_address: true with \
                 skip_xff_append: true, or peer_filter_state_key"
                    .to_owned()
            });
        } else if decision.exchange.forwarded_ignored {
            plugin.warn(|| {
                let peer = decision
                    .exchange
                    .client
                    .address
                    .map_or("a Unix socket".to_owned(), |address| address.to_string());
                format!(
                    "forwarded headers of {peer} are ignored; if that is your proxy, list it in forwarded_allow_ips"
                )
            });
        }
        self.exchange = Some(decision.exchange);
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

    fn on_http_request_trailers(&mut self, _count: usize) -> Flow {
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

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Flow {
        // Without an exchange, the response answers a request that this filter never saw.
        let (Some(plugin), Some(exchange)) = (&self.plugin, &self.exchange) else {
            return Flow::Continue;
        };
        let map = host::map(Map::ResponseHeaders);
        let message = Message::read(&map);
        let edits = plugin.policy.response(
            exchange,
            &Response {
                status: message.status,
                headers: &message.headers,
            },
        );
        if !apply(Map::ResponseHeaders, &edits) {
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
    headers: Vec<Header<'a>>,
}

impl<'a> Message<'a> {
    fn read(map: &'a [u8]) -> Self {
        let mut message = Self {
            method: b"",
            path: b"",
            authority: None,
            status: 0,
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
                _ => message.headers.push((name, value)),
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
    let body = format!("{}\n", reply.reason.text());
    let location = reply
        .location
        .as_deref()
        .map(|location| ("location", location));
    let headers: &[(&str, &[u8])] = location.as_slice();
    // A refused reply leaves the stream paused, which is still closed to the upstream.
    host::send_local_response(u32::from(reply.status), headers, body.as_bytes());
    Flow::Pause
}

fn refuse(reason: &str) -> Flow {
    host::log(host::Level::Error, &format!("request refused: {reason}"));
    host::send_local_response(500, &[], b"The request could not be processed safely.\n");
    Flow::Pause
}
