//! Builds the edits of a response: redirects, cookies, HSTS and security headers.
//!
//! The rules apply to every final response, including those of the policy and of the proxy, and to 101, whose headers a
//! browser reads as well. The edits are idempotent: applied to their own result they change nothing, so a response that
//! is processed twice stays correct.
//!
//! URLs of the upstream are rewritten in the fields that browsers follow, or by which they decide about origins: `Location`,
//! `Content-Location`, `Refresh`, `Link`, `SourceMap`, `X-SourceMap`, `Service-Worker-Allowed`,
//! `Access-Control-Allow-Origin` and `Timing-Allow-Origin`. Other fields with URLs are left as they are:
//!
//! - `Content-Security-Policy`, `Permissions-Policy`, `Report-To`, `Reporting-Endpoints` and `NEL` are policies, whose
//!   author names public origins. A wrong name blocks or loses something, and leads no one elsewhere;
//! - `Alt-Svc`: an alternative counts only with a certificate of the public host (RFC 7838 §2.1), and Envoy sets the field
//!   itself, at the route;
//! - `X-Accel-Redirect`, `X-Sendfile` and the like are paths inside the proxy that they are for, not public ones;
//! - `Clear-Site-Data` and `Origin-Agent-Cluster` have no URL; `Destination` is a field of requests.

use std::borrow::Cow;

use crate::cookie::CookieScope;
use crate::decision::ResponseDecision;
use crate::decision_record::HstsOutcome;
use crate::edit::Edits;
use crate::exchange::Exchange;
use crate::header::{Header, ends_line, is_name, lines};
use crate::hsts::Hsts;
use crate::link::rewrite_links;
use crate::location::PublicUrl;
use crate::message::Response;
use crate::security_headers::{CspRules, SecurityHeaders};

/// Edits responses as configured.
#[derive(Debug, Clone)]
pub(crate) struct ResponseEditor {
    pub(crate) hsts: Hsts,
    pub(crate) security_headers: SecurityHeaders,
    pub(crate) csp_rules: CspRules,
}

impl ResponseEditor {
    /// Decides how to edit a response.
    pub(crate) fn decide(
        &self,
        exchange: &Exchange,
        response: &Response<'_>,
        mut edits: Edits,
    ) -> ResponseDecision {
        edits.restart();
        let mut decision = ResponseDecision {
            edits,
            hsts: None,
            host_cookie_kept: false,
        };
        let is_informational = (100..200).contains(&response.status) && response.status != 101;
        if is_informational {
            return decision;
        }
        let fields = Fields::of(response.headers);
        if !exchange.is_local_reply {
            rewrite_urls(exchange, &fields, &mut decision.edits);
            rewrite_cookies(exchange, &fields, &mut decision);
        }
        self.edit_hsts(exchange, &fields, &mut decision);
        let csp = exchange
            .csp_rule
            .and_then(|index| self.csp_rules.header(index));
        for (name, value) in self.security_headers.iter().chain(csp) {
            if lines(response.headers, name.as_bytes()).next().is_none() {
                decision.edits.append(name, value.as_bytes());
            }
        }
        decision
    }

    fn edit_hsts(&self, exchange: &Exchange, fields: &Fields<'_>, decision: &mut ResponseDecision) {
        let upstream: Vec<&[u8]> = fields.lines(Field::Hsts).collect();
        match self.hsts.line(&exchange.effective, &upstream) {
            Some(line) if upstream == [line] => decision.hsts = Some(HstsOutcome::Kept),
            Some(line) if upstream.is_empty() => {
                decision.hsts = Some(HstsOutcome::Set);
                decision.edits.append(HSTS, line);
            }
            Some(line) => {
                decision.hsts = Some(if upstream.contains(&line) {
                    HstsOutcome::Kept
                } else {
                    HstsOutcome::Set
                });
                decision.edits.set(HSTS, line);
            }
            None if upstream.is_empty() => {}
            None => {
                decision.hsts = Some(HstsOutcome::Removed);
                decision.edits.remove(HSTS);
            }
        }
    }
}

/// Returns the edits of an informational response, RFC 9110 §15.2: fields that a client stores or follows are decided in
/// the final response, so they are removed before it.
pub(crate) fn informational_edits() -> Edits {
    let mut edits = Edits::default();
    for name in [CONTENT_LOCATION, LINK, LOCATION, REFRESH, SET_COOKIE, HSTS] {
        edits.remove(name);
    }
    edits
}

/// A field that is rewritten.
#[derive(Clone, Copy)]
enum Field {
    AllowOrigin,
    ContentLocation,
    Cookie,
    Hsts,
    Link,
    Location,
    Refresh,
    ServiceWorkerAllowed,
    SourceMap,
    TimingAllowOrigin,
    XSourceMap,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::AllowOrigin => "access-control-allow-origin",
            Self::ContentLocation => CONTENT_LOCATION,
            Self::Cookie => SET_COOKIE,
            Self::Hsts => HSTS,
            Self::Link => LINK,
            Self::Location => LOCATION,
            Self::Refresh => REFRESH,
            Self::ServiceWorkerAllowed => "service-worker-allowed",
            Self::SourceMap => "sourcemap",
            Self::TimingAllowOrigin => "timing-allow-origin",
            Self::XSourceMap => "x-sourcemap",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    fn find(name: &[u8]) -> Option<Self> {
        let field = match name.len() {
            4 => Self::Link,
            7 => Self::Refresh,
            8 => Self::Location,
            9 => Self::SourceMap,
            10 => Self::Cookie,
            11 => Self::XSourceMap,
            16 => Self::ContentLocation,
            19 => Self::TimingAllowOrigin,
            22 => Self::ServiceWorkerAllowed,
            25 => Self::Hsts,
            27 => Self::AllowOrigin,
            _ => return None,
        };
        is_name(name, field.name().as_bytes()).then_some(field)
    }
}

/// The lines of a response, and which of the rewritten fields are among them.
struct Fields<'a> {
    lines: &'a [Header<'a>],
    /// A bit for each [`Field`].
    present: u16,
}

impl<'a> Fields<'a> {
    fn of(lines: &'a [Header<'a>]) -> Self {
        let present = lines
            .iter()
            .filter_map(|(name, _)| Field::find(name))
            .fold(0, |present, field| present | field.bit());
        Self { lines, present }
    }

    fn has(&self, field: Field) -> bool {
        self.present & field.bit() != 0
    }

    /// Returns the values of all lines of a field, in wire order.
    fn lines(&self, field: Field) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let lines = if self.has(field) { self.lines } else { &[] };
        let name = field.name().as_bytes();
        lines
            .iter()
            .filter(move |(other, _)| is_name(other, name))
            .map(|(_, value)| *value)
    }
}

fn rewrite_urls(exchange: &Exchange, fields: &Fields<'_>, edits: &mut Edits) {
    let public = PublicUrl::of(exchange);
    for field in [
        Field::Location,
        Field::ContentLocation,
        Field::ServiceWorkerAllowed,
        Field::SourceMap,
        Field::XSourceMap,
    ] {
        replace_lines(fields, field, edits, |url| {
            public.rewrite(url).map(Cow::Owned)
        });
    }
    replace_lines(fields, Field::Refresh, edits, |value| {
        public.rewrite_refresh(value).map(Cow::Owned)
    });
    replace_lines(fields, Field::Link, edits, |line| {
        rewrite_links(line, &|url| public.rewrite(url)).map(Cow::Owned)
    });
    for field in [Field::AllowOrigin, Field::TimingAllowOrigin] {
        replace_lines(fields, field, edits, |value| {
            public.rewrite_origins(value).map(Cow::Owned)
        });
    }
}

fn rewrite_cookies(exchange: &Exchange, fields: &Fields<'_>, decision: &mut ResponseDecision) {
    let scope = CookieScope(exchange);
    if !scope.has_effect() {
        return;
    }
    let mut cookies = fields.lines(Field::Cookie);
    decision.host_cookie_kept = cookies.any(|line| scope.keeps_host_cookie(line));
    replace_lines(fields, Field::Cookie, &mut decision.edits, |line| {
        Some(scope.rewrite(line))
    });
}

/// Replaces the lines of a field one by one, keeping their order; `None` drops a line. Each line is judged alone.
fn replace_lines<'a>(
    fields: &Fields<'a>,
    field: Field,
    edits: &mut Edits,
    replace: impl Fn(&'a [u8]) -> Option<Cow<'a, [u8]>>,
) {
    if !fields.has(field) {
        return;
    }
    let before = fields.lines(field);
    let mut after: Vec<Cow<'a, [u8]>> = before.clone().filter_map(replace).collect();
    if before.eq(after.iter().map(|line| &**line)) {
        return;
    }
    // A host can only replace all lines of a field, so a line that is left as it is may be written too, even if it is
    // invalid. Only what would end a line must not be written.
    after.retain(|line| !line.iter().any(|octet| ends_line(*octet)));
    let name = field.name();
    if let [only] = after.as_slice() {
        edits.set(name, only);
        return;
    }
    edits.remove(name);
    for line in after {
        edits.append(name, &line);
    }
}

const CONTENT_LOCATION: &str = "content-location";
const HSTS: &str = "strict-transport-security";
const LINK: &str = "link";
const LOCATION: &str = "location";
const REFRESH: &str = "refresh";
const SET_COOKIE: &str = "set-cookie";
