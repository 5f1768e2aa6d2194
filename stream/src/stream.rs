//! Applies the decisions of the policy to one request and its response.
//!
//! It makes as few host calls as possible: one read of the header map for each direction, one of what the listener has
//! recorded about the connection, and a write for each header that really changes, because every write can make Envoy
//! select its route again. Facts that are rarely used are read only when they are needed.
//!
//! If an edit cannot be applied, the request is not forwarded, because a partly applied policy does not protect the app.

use fluxlit_policy::{
    Action, ConnectionFacts, Decision, DecisionRecord, Exchange, Hop, PREFIX_IGNORED_WARNING, Peer,
    ProbeAnswer, Request, Response, ResponseDecision, warning_network,
};
use log::Level;

use crate::edit_memory;
use crate::edits::apply;
use crate::facts::Recorded;
use crate::host::{Fields, Host, Map};
use crate::mark::{Mark, is_rewritten};
use crate::message::Message;
use crate::plugin::Plugin;
use crate::reply::{refuse, send, send_record};
use crate::warnings::Subject;

/// One HTTP stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// The decision about the request, which the response needs.
    exchange: Option<Exchange>,
    has_original_url: bool,
}

/// What Envoy must do with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Hand it to the next filter.
    Continue,
    /// Nothing more: a response was sent in its place.
    Stop,
}

impl Stream {
    /// Processes the headers of a request.
    pub fn request_headers<H: Host>(&mut self, host: &mut H, plugin: &Plugin<H>) -> Flow {
        let Decided {
            peer,
            action,
            exchange,
            answer,
            has_original_url,
        } = decide(host, plugin);
        self.has_original_url = has_original_url;
        let exchange = self.exchange.insert(exchange);
        let mark = Mark::of(plugin.policy.is_report_only(), exchange, peer);
        match action {
            _ if let Some(answer) = answer => {
                mark.store(host);
                send_record(host, plugin, exchange, &answer);
                Flow::Stop
            }
            Action::Reply(reply) => {
                mark.store(host);
                send(host, plugin, exchange, &reply);
                Flow::Stop
            }
            Action::Forward(forward) if apply(host, Map::RequestHeaders, &forward.edits) => {
                let is_unchanged = forward.edits.is_empty();
                edit_memory::keep(forward.edits);
                // Last, so that a request whose processing ended early has no mark.
                mark.store(host);
                // Envoy has selected a route before the mark existed.
                if !H::WRITES_SELECT_ROUTE || is_unchanged {
                    host.select_route_again();
                }
                Flow::Continue
            }
            Action::Forward(_) => {
                refuse(
                    host,
                    Some((plugin, exchange)),
                    "an edit of the request failed",
                );
                Flow::Stop
            }
        }
    }

    /// Processes the trailers of a request.
    pub fn request_trailers<H: Host>(&mut self, host: &mut H, plugin: &Plugin<H>) -> Flow {
        let edits = {
            let map = host.fields(Map::RequestTrailers);
            let trailers: Vec<_> = map.iter().collect();
            plugin.policy.request_trailers(&trailers)
        };
        if apply(host, Map::RequestTrailers, &edits) {
            return Flow::Continue;
        }
        let decided = self.exchange.as_ref().map(|exchange| (plugin, exchange));
        refuse(host, decided, "an edit of the trailers failed");
        Flow::Stop
    }

    /// Processes the headers of a response.
    pub fn response_headers<H: Host>(&mut self, host: &mut H, plugin: &Plugin<H>) -> Flow {
        // There is no exchange if this filter did not see the request.
        let Some(exchange) = &self.exchange else {
            return Flow::Continue;
        };
        let decision = decide_response(host, plugin, exchange);
        plugin.counters.response(host, decision.hsts);
        if decision.host_cookie_kept {
            plugin.warnings.log(Subject::HostCookie, Level::Warn, || {
                "the app sets a __Host- cookie, which browsers accept with Path=/ only: every app of this host gets it"
                    .to_owned()
            });
        }
        if apply(host, Map::ResponseHeaders, &decision.edits) {
            edit_memory::keep(decision.edits);
            return Flow::Continue;
        }
        refuse(
            host,
            Some((plugin, exchange)),
            "an edit of the response failed",
        );
        Flow::Stop
    }

    /// Returns true if the request came with `x-envoy-original-url`, which Envoy sets when it redirects internally, and which a
    /// client can send as well.
    pub fn has_original_url(&self) -> bool {
        self.has_original_url
    }

    /// Returns the decision about the request; `None` if there is none yet.
    pub fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_ref()
    }
}

/// What was decided about a request.
struct Decided {
    peer: Peer,
    action: Action,
    exchange: Exchange,
    /// The decision record, if the request asks for it and gets it.
    answer: Option<ProbeAnswer>,
    has_original_url: bool,
}

/// Collects the facts about a request, decides, counts and warns.
fn decide<H: Host>(host: &H, plugin: &Plugin<H>) -> Decided {
    let policy = &plugin.policy;
    let map = host.fields(Map::RequestHeaders);
    let message = Message::read(&map);
    let recorded = Recorded::read(host, policy);
    let mut attribute = None;
    let ConnectionFacts {
        peer,
        tls,
        identity,
    } = recorded.facts(host, policy, &mut attribute);
    let request = Request {
        peer,
        identity,
        is_reentry: message.has_original_url && is_rewritten(host),
        tls,
        method: message.method,
        target: message.path,
        host: message.authority,
        headers: &message.headers,
    };
    let Decision {
        action,
        exchange,
        record,
    } = policy.request_with(&request, edit_memory::take());
    plugin.counters.request(host, &record);
    warn_of_settings(plugin, peer, &exchange);
    if record.prefix_ignored {
        plugin.warnings.log(Subject::Prefix, Level::Warn, || {
            PREFIX_IGNORED_WARNING.to_owned()
        });
    }
    if policy.is_report_only() {
        report(plugin, &record);
    }
    Decided {
        peer,
        action,
        exchange,
        answer: answer_probe(host, plugin, &request),
        has_original_url: message.has_original_url,
    }
}

fn decide_response<H: Host>(host: &H, plugin: &Plugin<H>, exchange: &Exchange) -> ResponseDecision {
    let map = host.fields(Map::ResponseHeaders);
    let message = Message::read(&map);
    let response = Response {
        status: message.status,
        headers: &message.headers,
    };
    let memory = edit_memory::take();
    plugin.policy.response_with(exchange, &response, memory)
}

/// Returns the answer to a request for the decision record, which the holder of the probe key can ask for; `None` for every
/// other request and for one that must be treated like any other.
fn answer_probe<H: Host>(
    host: &H,
    plugin: &Plugin<H>,
    request: &Request<'_>,
) -> Option<ProbeAnswer> {
    let probe = match plugin.policy.probe(request, Hop::Filter)? {
        Ok(probe) => probe,
        Err(outcome) => {
            plugin.counters.probe(host, outcome);
            return None;
        }
    };
    let outcome = host.admit(&probe);
    plugin.counters.probe(host, outcome);
    plugin.policy.answer_probe(request, &probe, outcome)
}

/// Warns about a listener or a peer that is probably not configured as intended.
fn warn_of_settings<H: Host>(plugin: &Plugin<H>, peer: Peer, exchange: &Exchange) {
    if peer == Peer::Unknown && !exchange.peer_trusted {
        plugin.warnings.log(Subject::UnknownPeer, Level::Warn, || {
            "E17: cannot tell the direct peer on this listener; set use_remote_address: true with \
                 skip_xff_append: true, or connection_facts_key"
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
fn report<H: Host>(plugin: &Plugin<H>, record: &DecisionRecord) {
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
