//! Decides what to do with a request, and how to edit its response.
//!
//! A request passes these steps, each in its own module:
//!
//! 1. decide whether the peer is trusted (`trust`, `peer`);
//! 2. resolve the client, scheme, host and port (`client`, `effective`);
//! 3. reject an ambiguous target (`target`);
//! 4. find the app, and redirect the client if it must use another URL (`route`, `app`, `mount`);
//! 5. build the edits: the headers to remove and to set, and the target for the upstream (`request_edits`).
//!
//! The effective scheme and host are resolved before anything can be rejected, because a rejection is a response too, and
//! gets `Strict-Transport-Security` like any other.

use std::sync::Arc;

use crate::address::AddressText;
use crate::client::{Resolved, Resolver};
use crate::config_error::ConfigWarning;
use crate::decision::{Action, Decision, Forward, Reply, ResponseDecision};
use crate::decision_record::{DecisionRecord, TrustOutcome};
use crate::edit::Edits;
use crate::effective::{Authority, Effective, Scheme};
use crate::exchange::{Exchange, ForwardedPrefix, SentPath};
use crate::fields::{Field, Fields};
use crate::header::{Header, lines};
use crate::host_name::HostName;
use crate::hosts::HostTable;
use crate::message::{Request, Response, UnparsedRequest};
use crate::mount::Mount;
use crate::peer::Peer;
use crate::probe::ProbeKey;
use crate::reason::Reason;
use crate::request_edits::{RequestEditor, RewriteContext};
use crate::response::{ResponseEditor, informational_edits};
use crate::route::{Route, Router};
use crate::target::Target;

/// A validated policy. It cannot contain an invalid value, and its decisions cannot fail.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) resolver: Resolver,
    pub(crate) connection_facts_key: Option<String>,
    pub(crate) peer_filter_state_key: Option<String>,
    pub(crate) allowed_hosts: HostTable<()>,
    pub(crate) router: Router,
    pub(crate) request_editor: RequestEditor,
    pub(crate) response_editor: ResponseEditor,
    pub(crate) report_only: bool,
    /// The secret of those who may ask for a decision record; `None` if nobody may.
    pub(crate) probe_key: Option<ProbeKey>,
    pub(crate) config_hash: String,
    pub(crate) warnings: Vec<ConfigWarning>,
}

impl Policy {
    /// Decides what to do with a request. Every request gets a decision; none can make this fail.
    pub fn request(&self, request: &Request<'_>) -> Decision {
        self.request_with(request, Edits::default())
    }

    /// Decides what to do with a request, and stores its edits in the memory of others, which are no longer needed.
    pub fn request_with(&self, request: &Request<'_>, memory: Edits) -> Decision {
        let mut decision = self.decide(request, memory);
        if self.report_only {
            let mut edits = match decision.action {
                Action::Forward(forward) => forward.edits,
                Action::Reply(_) => Edits::default(),
            };
            edits.clear();
            let stripped_target = edits.store(&[request.target]);
            decision.action = Action::Forward(Forward {
                edits,
                stripped_target,
            });
        }
        decision
    }

    /// Decides as if `report_only` were off.
    pub(crate) fn decide(&self, request: &Request<'_>, mut edits: Edits) -> Decision {
        edits.restart();
        let fields = Fields::of(request.headers);
        let peer_trusted = self.resolver.trust.covers(request.peer, request.identity);
        let target = Target::parse(request.method, request.target);
        // An absolute target names the host, and `Host` must be valid all the same, RFC 9112 §3.2. An empty host is invalid
        // in an http URL, RFC 9110 §4.2.1.
        let target_host = target.ok().and_then(|target| target.authority);
        let named_host = target_host.or(request.host);
        let host = named_host.map(Authority::parse);
        let own_host = target_host.and(request.host).map(Authority::parse);
        let is_host_valid = !matches!(host, Some(None)) && !matches!(own_host, Some(None));
        let Resolved {
            client,
            effective,
            attested,
        } = self
            .resolver
            .resolve(request, fields, peer_trusted, host.clone().flatten());
        let mut record = DecisionRecord::new(match (peer_trusted, request.peer) {
            (true, _) => TrustOutcome::trusted(client.source),
            (false, Peer::Unknown) => TrustOutcome::PeerUnknown,
            (false, _) => TrustOutcome::Untrusted,
        });
        let mut exchange = Exchange {
            client,
            client_text: client.address.map(AddressText::of),
            effective,
            peer_trusted,
            forwarded_ignored: !peer_trusted
                && !request.is_reentry
                && fields.has_any(&NAMES_CLIENT),
            app: Arc::clone(&self.router.outside),
            forwarded_prefix: ForwardedPrefix::None,
            sub_app: Mount::default(),
            sent_path: SentPath::NoMount,
            sent_host: None,
            is_local_reply: false,
            csp_rule: None,
        };
        let routed = target.map_err(Reply::from).and_then(|target| {
            if !is_host_valid {
                return Err(Reason::BadHost.into());
            }
            let route = self.route(request, fields, &target, &mut exchange, &mut record)?;
            Ok((route, target))
        });
        let action = match routed {
            Ok((route, target)) => {
                let context = RewriteContext {
                    fields,
                    route: &route,
                    target: &target,
                    named_host,
                    named_authority: host.flatten(),
                    attested: &attested,
                };
                let editor = &self.request_editor;
                Action::Forward(editor.edit(request, &mut exchange, &mut record, context, edits))
            }
            Err(reply) => {
                exchange.is_local_reply = true;
                record.reply(reply.reason);
                Action::Reply(reply)
            }
        };
        Decision {
            action,
            exchange,
            record,
        }
    }

    /// Returns the exchange of a request that could not be parsed, so that the host's error response gets the headers
    /// that every other response gets. Pass it to [`Policy::response`].
    ///
    /// Client, scheme and host are resolved as for any request. The path is unknown, so headers that depend on it are
    /// those of `/`.
    pub fn unparsed_request(&self, unparsed: &UnparsedRequest<'_>) -> Exchange {
        let decision = self.request(&Request {
            peer: unparsed.peer,
            identity: None,
            is_reentry: false,
            tls: unparsed.tls,
            method: b"GET",
            target: b"/",
            host: unparsed.host,
            headers: unparsed.headers,
        });
        Exchange {
            is_local_reply: true,
            ..decision.exchange
        }
    }

    /// Decides how to edit a response.
    pub fn response(&self, exchange: &Exchange, response: &Response<'_>) -> ResponseDecision {
        self.response_with(exchange, response, Edits::default())
    }

    /// Decides how to edit a response, and stores the edits in the memory of others, which are no longer needed.
    pub fn response_with(
        &self,
        exchange: &Exchange,
        response: &Response<'_>,
        memory: Edits,
    ) -> ResponseDecision {
        let mut decision = self.response_editor.decide(exchange, response, memory);
        if self.report_only {
            decision.edits.clear();
        }
        decision
    }

    /// Returns the edits of request trailers, which remove protected headers.
    pub fn request_trailers(&self, trailers: &[Header<'_>]) -> Edits {
        if self.report_only {
            return Edits::default();
        }
        self.request_editor.trailer_edits(trailers)
    }

    /// Returns the edits of an informational response, RFC 9110 §15.2.
    pub fn informational_edits() -> Edits {
        informational_edits()
    }

    /// Returns warnings about settings that are valid but may be a mistake.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// Returns the mount without trailing slash; empty if there is none, or several.
    pub fn mount(&self) -> &str {
        self.router.outside.mount.as_str()
    }

    /// Returns `public_base_url` in canonical form, without a slash at its end; `None` if it is not set, or set in `mounts`.
    pub fn public_base_url(&self) -> Option<String> {
        let public = self.router.outside.public_base.as_ref()?;
        let origin = public.origin.origin()?;
        Some([origin.as_str(), public.mount.as_str()].concat())
    }

    /// Returns the filter-state key under which the listener records the
    /// [`ConnectionFacts`](crate::ConnectionFacts); for Envoy only.
    pub fn connection_facts_key(&self) -> Option<&str> {
        self.connection_facts_key.as_deref()
    }

    /// Returns the filter-state key under which the listener records the direct peer; for Envoy only.
    pub fn peer_filter_state_key(&self) -> Option<&str> {
        self.peer_filter_state_key.as_deref()
    }

    /// Returns the `Strict-Transport-Security` that a response of this host gets over https if the app sends none; `None`
    /// if it gets none. A proxy that terminates TLS in front sends it with its own errors.
    pub fn hsts_line(&self, host: &str) -> Option<&str> {
        let https = Effective {
            scheme: Scheme::Https,
            host: Some(HostName::in_lower_case(host)),
            port: Scheme::Https.default_port(),
        };
        let line = self.response_editor.hsts.line(&https, &[])?;
        std::str::from_utf8(line).ok()
    }

    /// Returns true if peers can be trusted by the URI name of their certificate, so that the host must read it.
    pub fn needs_identity(&self) -> bool {
        !self.resolver.trust.identities.is_empty()
    }

    /// Returns true if decisions are only counted and logged, see [`Decision::record`].
    pub fn is_report_only(&self) -> bool {
        self.report_only
    }

    /// Returns a hash of the settings, without the probe key, as 32 hexadecimal digits. Equal settings have equal hashes.
    pub fn config_hash(&self) -> &str {
        &self.config_hash
    }

    /// Returns true for a request header that is removed, set or passed depending on who sends it: one that tells of the
    /// client, the user, or the scheme, host or path that the client used.
    pub fn governs(&self, name: &[u8]) -> bool {
        self.request_editor.governs(name)
    }

    /// Returns true if a peer may name the client.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.resolver.trust.covers(peer, None)
    }

    /// Finds the app of a request, and stores in the exchange what the response depends on; or returns a reply.
    fn route<'s, 'p>(
        &'s self,
        request: &Request<'_>,
        fields: Fields<'_>,
        target: &Target<'p>,
        exchange: &mut Exchange,
        record: &mut DecisionRecord,
    ) -> Result<Route<'s, 'p>, Reply> {
        let host = exchange.effective.host.as_deref();
        if self.allowed_hosts.find(host).is_none() {
            return Err(Reason::HostNotAllowed.into());
        }
        let router = &self.router;
        let peer_trusted = exchange.peer_trusted;
        record.prefix_ignored = router.ignores_prefix(request, fields, peer_trusted);
        let route = router.find(request, fields, peer_trusted, target.path, host)?;
        record.mount = route.outcome(router.has_mounts);
        record.arrived = route.arrived();
        exchange.app = Arc::clone(route.app);
        exchange
            .forwarded_prefix
            .clone_from(&route.forwarded_prefix);
        exchange.csp_rule = self.response_editor.csp_rules.find(route.stripped);
        if let Some(reply) = router.redirect(request, fields, exchange, &route, target) {
            return Err(reply);
        }
        exchange.sent_path = route.sent_path();
        Ok(route)
    }
}

/// Returns true if a request claims that its client used https. If its peer is not trusted, the claim is ignored.
pub fn claims_https(headers: &[Header<'_>]) -> bool {
    lines(headers, b"x-forwarded-proto").any(|value| {
        Scheme::parse(
            value
                .split(|octet| *octet == b',')
                .next()
                .unwrap_or_default(),
        ) == Some(Scheme::Https)
    })
}

/// The fields that name a client. Others, such as `X-Forwarded-Proto`, are set by Envoy on every request.
const NAMES_CLIENT: [Field; 3] = [Field::Forwarded, Field::XForwardedFor, Field::XRealIp];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::config::Defaults;
    use crate::policy::Policy;

    /// Proxies in front send it with their own errors, so it is the line that the policy would add, for the same hosts.
    #[test]
    fn the_hsts_line_for_proxies_in_front() {
        for (hsts, host, wanted) in [
            (json!(true), "portal.example.com", Some("max-age=31536000")),
            (
                json!({"mode": "gateway", "max_age": 60}),
                "portal.example.com",
                Some("max-age=60"),
            ),
            (json!(false), "portal.example.com", None),
            (json!({"mode": "off"}), "portal.example.com", None),
            (json!({"mode": "upstream"}), "portal.example.com", None),
            (json!(true), "localhost", None),
            (json!(true), "127.0.0.1", None),
            (json!(true), "[::1]", None),
            // A name that ends with a digit is no address by that.
            (json!(true), "portal-2", Some("max-age=31536000")),
            (json!(true), "127.0.0.256", Some("max-age=31536000")),
        ] {
            let mut settings = serde_json::Map::new();
            settings.insert("hsts".to_owned(), hsts.clone());
            let policy = Policy::from_settings(settings, Defaults::GATEWAY).expect("valid");
            assert_eq!(policy.hsts_line(host), wanted, "{hsts} {host}");
        }
    }

    #[test]
    fn the_public_base_url_in_canonical_form() {
        for (settings, wanted) in [
            (json!({}), None),
            (
                json!({"public_base_url": "HTTPS://Portal.Example:443/"}),
                Some("https://portal.example"),
            ),
            (
                json!({"public_base_url": "http://portal.example:8080/apps/my-app/"}),
                Some("http://portal.example:8080/apps/my-app"),
            ),
            (
                json!({"mounts": [{"root_path": "/m", "public_base_url": "https://portal.example"}]}),
                None,
            ),
        ] {
            let policy = policy(&settings, Defaults::GATEWAY);
            assert_eq!(policy.public_base_url().as_deref(), wanted, "{settings}");
        }
    }

    #[test]
    fn headers_that_are_governed() {
        let settings = json!({
            "strip_headers": ["X-Listed"],
            "identity_headers": ["X-Team"],
        });
        let policy = policy(&settings, Defaults::FILTER);
        for (name, wanted) in [
            ("x-forwarded-for", true),
            ("x_forwarded_for", true),
            ("forwarded", true),
            ("x-auth-request-user", true),
            ("x-listed", true),
            ("x-team", true),
            // The filter keeps it, because Envoy has sanitized it.
            ("x-forwarded-client-cert", true),
            ("accept", false),
            ("x-teams", false),
        ] {
            assert_eq!(policy.governs(name.as_bytes()), wanted, "{name}");
        }
    }

    fn policy(settings: &serde_json::Value, defaults: Defaults) -> Policy {
        let settings = settings.as_object().cloned().unwrap_or_default();
        Policy::from_settings(settings, defaults).expect("valid")
    }
}
