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
use crate::edit::Edit;
use crate::exchange::Exchange;
use crate::header::{Header, ends_line, lines};
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
    pub(crate) fn decide(&self, exchange: &Exchange, response: &Response<'_>) -> ResponseDecision {
        let mut decision = ResponseDecision {
            edits: Vec::new(),
            hsts: None,
            host_cookie_kept: false,
        };
        let is_informational = (100..200).contains(&response.status) && response.status != 101;
        if is_informational {
            return decision;
        }
        let fields = RewrittenFields::find(response.headers);
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
                decision.edits.push(Edit::append(name, value));
            }
        }
        decision
    }

    fn edit_hsts(
        &self,
        exchange: &Exchange,
        fields: &RewrittenFields<'_>,
        decision: &mut ResponseDecision,
    ) {
        let upstream = &fields.hsts;
        match self.hsts.line(&exchange.effective, upstream) {
            Some(line) if *upstream == [line] => decision.hsts = Some(HstsOutcome::Kept),
            Some(line) if upstream.is_empty() => {
                decision.hsts = Some(HstsOutcome::Set);
                decision.edits.push(Edit::append(HSTS, line));
            }
            Some(line) => {
                decision.hsts = Some(if upstream.contains(&line) {
                    HstsOutcome::Kept
                } else {
                    HstsOutcome::Set
                });
                decision.edits.push(Edit::set(HSTS, line));
            }
            None if upstream.is_empty() => {}
            None => {
                decision.hsts = Some(HstsOutcome::Removed);
                decision.edits.push(Edit::remove(HSTS));
            }
        }
    }
}

/// The edits of an informational response, RFC 9110 §15.2: fields that a client stores or follows are decided in the
/// final response, so they are removed before it.
pub(crate) static INFORMATIONAL_EDITS: [Edit; 6] = [
    Edit::Remove(Cow::Borrowed(CONTENT_LOCATION)),
    Edit::Remove(Cow::Borrowed(LINK)),
    Edit::Remove(Cow::Borrowed(LOCATION)),
    Edit::Remove(Cow::Borrowed(REFRESH)),
    Edit::Remove(Cow::Borrowed(SET_COOKIE)),
    Edit::Remove(Cow::Borrowed(HSTS)),
];

/// The lines of the fields that are rewritten, found in one pass.
#[derive(Default)]
struct RewrittenFields<'a> {
    allow_origin: Vec<&'a [u8]>,
    content_location: Vec<&'a [u8]>,
    cookies: Vec<&'a [u8]>,
    hsts: Vec<&'a [u8]>,
    link: Vec<&'a [u8]>,
    location: Vec<&'a [u8]>,
    refresh: Vec<&'a [u8]>,
    service_worker_allowed: Vec<&'a [u8]>,
    source_map: Vec<&'a [u8]>,
    timing_allow_origin: Vec<&'a [u8]>,
    x_source_map: Vec<&'a [u8]>,
    /// True if any of them has a URL or an origin.
    has_url: bool,
}

impl<'a> RewrittenFields<'a> {
    fn find(headers: &[Header<'a>]) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            let is = |field: &str| name.eq_ignore_ascii_case(field.as_bytes());
            let lines = match name.len() {
                4 if is(LINK) => &mut fields.link,
                7 if is(REFRESH) => &mut fields.refresh,
                8 if is(LOCATION) => &mut fields.location,
                9 if is(SOURCE_MAP) => &mut fields.source_map,
                10 if is(SET_COOKIE) => {
                    fields.cookies.push(value);
                    continue;
                }
                11 if is(X_SOURCE_MAP) => &mut fields.x_source_map,
                16 if is(CONTENT_LOCATION) => &mut fields.content_location,
                19 if is(TIMING_ALLOW_ORIGIN) => &mut fields.timing_allow_origin,
                22 if is(SERVICE_WORKER_ALLOWED) => &mut fields.service_worker_allowed,
                25 if is(HSTS) => {
                    fields.hsts.push(value);
                    continue;
                }
                27 if is(ALLOW_ORIGIN) => &mut fields.allow_origin,
                _ => continue,
            };
            lines.push(value);
            fields.has_url = true;
        }
        fields
    }
}

fn rewrite_urls(exchange: &Exchange, fields: &RewrittenFields<'_>, edits: &mut Vec<Edit>) {
    if !fields.has_url {
        return;
    }
    let public = PublicUrl::of(exchange);
    for (name, lines) in [
        (LOCATION, &fields.location),
        (CONTENT_LOCATION, &fields.content_location),
        (SERVICE_WORKER_ALLOWED, &fields.service_worker_allowed),
        (SOURCE_MAP, &fields.source_map),
        (X_SOURCE_MAP, &fields.x_source_map),
    ] {
        replace_lines(name, lines, edits, |url| public.rewrite(url));
    }
    replace_lines(REFRESH, &fields.refresh, edits, |value| {
        public.rewrite_refresh(value)
    });
    replace_lines(LINK, &fields.link, edits, |line| {
        rewrite_links(line, &|url| public.rewrite(url))
    });
    for (name, lines) in [
        (ALLOW_ORIGIN, &fields.allow_origin),
        (TIMING_ALLOW_ORIGIN, &fields.timing_allow_origin),
    ] {
        replace_lines(name, lines, edits, |value| public.rewrite_origins(value));
    }
}

fn rewrite_cookies(
    exchange: &Exchange,
    fields: &RewrittenFields<'_>,
    decision: &mut ResponseDecision,
) {
    let scope = CookieScope(exchange);
    decision.host_cookie_kept = fields
        .cookies
        .iter()
        .any(|line| scope.keeps_host_cookie(line));
    replace_lines(SET_COOKIE, &fields.cookies, &mut decision.edits, |line| {
        Some(scope.rewrite(line))
    });
}

/// Replaces the lines of a field one by one, keeping their order; `None` drops a line. Each line is judged alone.
fn replace_lines(
    name: &'static str,
    before: &[&[u8]],
    edits: &mut Vec<Edit>,
    replace: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    if before.is_empty() {
        return;
    }
    let mut after: Vec<Vec<u8>> = before.iter().copied().filter_map(replace).collect();
    if before == after {
        return;
    }
    // A host can only replace all lines of a field, so a line that is left as it is may be written too, even if it is
    // invalid. Only what would end a line must not be written.
    after.retain(|line| !line.iter().any(|octet| ends_line(*octet)));
    match (after.pop(), after.is_empty()) {
        (Some(only), true) => edits.push(Edit::set(name, only)),
        (last, _) => {
            edits.push(Edit::remove(name));
            edits.extend(
                after
                    .into_iter()
                    .chain(last)
                    .map(|line| Edit::Append(Cow::Borrowed(name), line)),
            );
        }
    }
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const CONTENT_LOCATION: &str = "content-location";
const HSTS: &str = "strict-transport-security";
const LINK: &str = "link";
const LOCATION: &str = "location";
const REFRESH: &str = "refresh";
const SERVICE_WORKER_ALLOWED: &str = "service-worker-allowed";
const SET_COOKIE: &str = "set-cookie";
const SOURCE_MAP: &str = "sourcemap";
const TIMING_ALLOW_ORIGIN: &str = "timing-allow-origin";
const X_SOURCE_MAP: &str = "x-sourcemap";
