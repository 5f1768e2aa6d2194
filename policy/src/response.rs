//! Which headers must change on the way back?
//!
//! The rules hold for every final response, our own and the proxy's included, and for 101, whose headers a browser
//! reads as well. Edits are idempotent: applied to their own result they change nothing, so a response that passes
//! twice is not spoiled.

use std::borrow::Cow;

use crate::cookie::CookieScope;
use crate::decision_record::HstsOutcome;
use crate::edit::Edit;
use crate::exchange::{Exchange, Header, Response, ResponseDecision};
use crate::location::{PublicUrl, has_control};
use crate::policy::Policy;

impl Policy {
    /// Decides what becomes of a response.
    pub fn response(&self, exchange: &Exchange, response: &Response<'_>) -> ResponseDecision {
        let mut decision = ResponseDecision {
            edits: Vec::new(),
            hsts: None,
            host_cookie_kept: false,
        };
        let is_informational = (100..200).contains(&response.status) && response.status != 101;
        if is_informational {
            return decision;
        }
        let known = Known::find(response.headers);
        if !exchange.is_local_reply {
            rewrite_urls(exchange, &known, &mut decision.edits);
            rewrite_cookies(exchange, &known, &mut decision);
        }
        self.own_hsts(exchange, &known, &mut decision);
        let csp = exchange
            .csp_rule
            .and_then(|place| self.csp_rules.header(place));
        for (name, value) in self.security_headers.iter().chain(csp) {
            if lines(response.headers, name).next().is_none() {
                decision.edits.push(Edit::set(name, value));
            }
        }
        if self.report_only {
            decision.edits.clear();
        }
        decision
    }

    /// The changes to an informational response, RFC 9110 §15.2: what a client keeps or follows is judged in the final
    /// response, and is not passed on before it.
    pub fn informational_edits() -> &'static [Edit] {
        &NOT_INFORMATIONAL
    }

    fn own_hsts(&self, exchange: &Exchange, known: &Known<'_>, decision: &mut ResponseDecision) {
        let upstream = &known.hsts;
        match self.hsts.line(&exchange.effective, upstream) {
            Some(line) if *upstream == [line] => decision.hsts = Some(HstsOutcome::Kept),
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

/// The lines of the fields that are rewritten, found in one pass.
#[derive(Default)]
struct Known<'a> {
    content_location: Vec<&'a [u8]>,
    cookies: Vec<&'a [u8]>,
    hsts: Vec<&'a [u8]>,
    location: Vec<&'a [u8]>,
    refresh: Vec<&'a [u8]>,
}

impl<'a> Known<'a> {
    fn find(headers: &[Header<'a>]) -> Self {
        let mut known = Self::default();
        for (name, value) in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let lines = match name.len() {
                7 if is(REFRESH) => &mut known.refresh,
                8 if is(LOCATION) => &mut known.location,
                10 if is(SET_COOKIE) => &mut known.cookies,
                16 if is(CONTENT_LOCATION) => &mut known.content_location,
                25 if is(HSTS) => &mut known.hsts,
                _ => continue,
            };
            lines.push(value);
        }
        known
    }
}

fn rewrite_urls(exchange: &Exchange, known: &Known<'_>, edits: &mut Vec<Edit>) {
    if known.location.is_empty() && known.content_location.is_empty() && known.refresh.is_empty() {
        return;
    }
    let public = PublicUrl::of(exchange);
    replace_lines(LOCATION, &known.location, edits, |url| public.rewrite(url));
    replace_lines(CONTENT_LOCATION, &known.content_location, edits, |url| {
        public.rewrite(url)
    });
    replace_lines(REFRESH, &known.refresh, edits, |value| {
        public.rewrite_refresh(value)
    });
}

fn rewrite_cookies(exchange: &Exchange, known: &Known<'_>, decision: &mut ResponseDecision) {
    let scope = CookieScope(exchange);
    decision.host_cookie_kept = known
        .cookies
        .iter()
        .any(|line| scope.keeps_host_cookie(line));
    replace_lines(SET_COOKIE, &known.cookies, &mut decision.edits, |line| {
        Some(scope.rewrite(line))
    });
}

/// Replaces the lines of a field one by one, keeping them apart and in order; `None` drops a line.
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
    // What the app has sent may stand; what we write must be a field value.
    after.retain(|line| !has_control(line));
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

fn lines<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| *value)
}

const CONTENT_LOCATION: &str = "content-location";
const HSTS: &str = "strict-transport-security";
const LOCATION: &str = "location";
const REFRESH: &str = "refresh";
const SET_COOKIE: &str = "set-cookie";
/// ConfigReader of final responses alone.
static NOT_INFORMATIONAL: [Edit; 5] = [
    Edit::Remove(Cow::Borrowed("content-location")),
    Edit::Remove(Cow::Borrowed("location")),
    Edit::Remove(Cow::Borrowed("refresh")),
    Edit::Remove(Cow::Borrowed("set-cookie")),
    Edit::Remove(Cow::Borrowed("strict-transport-security")),
];
