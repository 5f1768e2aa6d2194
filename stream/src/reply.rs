//! Sends responses in place of the upstream's.
//!
//! They get the edits of every other response, such as `Strict-Transport-Security`: in the response callback if the host
//! calls it for them, and otherwise before they are sent.

use fluxlit_policy::{Edits, Exchange, ProbeAnswer, Reply};
use log::{debug, error};

use crate::edits::{apply_to_fields, is_sendable};
use crate::host::{Attribute, Host, Response};
use crate::plugin::Plugin;

/// Sends the policy's reply to a request.
pub(crate) fn send<H: Host>(host: &mut H, plugin: &Plugin<H>, exchange: &Exchange, reply: &Reply) {
    let status = reply.status(|| {
        host.attribute(Attribute::Protocol)
            .is_some_and(|version| version.as_ref() == b"HTTP/1.0")
    });
    debug!("answered {status} here: {}", reply.reason.label());
    let body = format!("{}\n", reply.reason.text());
    let location = reply.location.as_deref();
    let location = location.map(|location| ("location", location));
    respond(
        host,
        Some((plugin, exchange)),
        status,
        location.into_iter().collect(),
        body.as_bytes(),
    );
}

/// Sends the decision record that the request asks for.
pub(crate) fn send_record<H: Host>(
    host: &mut H,
    plugin: &Plugin<H>,
    exchange: &Exchange,
    answer: &ProbeAnswer,
) {
    let mut fields = vec![("content-type", ProbeAnswer::CONTENT_TYPE.as_bytes())];
    let further = answer.fields.iter();
    fields.extend(further.map(|(name, value)| (*name, value.as_bytes())));
    respond(
        host,
        Some((plugin, exchange)),
        answer.status,
        fields,
        answer.body.as_bytes(),
    );
}

/// Refuses to go on, because a partly applied policy does not protect the app. `decided`: the decision about the request, if
/// there is one.
pub fn refuse<H: Host>(host: &mut H, decided: Option<(&Plugin<H>, &Exchange)>, reason: &str) {
    error!("request refused: {reason}");
    let body = b"The request could not be processed safely.\n";
    respond(host, decided, 500, Vec::new(), body);
}

/// A response that the host rejects leaves the stream stopped, so the request does not reach the upstream either.
fn respond<H: Host>(
    host: &mut H,
    decided: Option<(&Plugin<H>, &Exchange)>,
    status: u16,
    fields: Vec<(&str, &[u8])>,
    body: &[u8],
) {
    let edits = match decided {
        Some((plugin, exchange)) if !H::SEES_OWN_REPLIES => {
            let headers: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.as_bytes(), *value))
                .collect();
            let response = fluxlit_policy::Response {
                status,
                headers: &headers,
            };
            let decision = plugin.policy.response(exchange, &response);
            plugin.counters.response(host, decision.hsts);
            decision.edits
        }
        _ => Edits::new(),
    };
    let mut fields = fields;
    apply_to_fields(&mut fields, &edits);
    if fields.iter().all(|(name, value)| is_sendable(name, value)) {
        host.send_reply(&Response {
            status,
            fields: &fields,
            body,
        });
    }
}
