//! Which headers must change on the way back?
//!
//! The rules hold for every final response, our own and the proxy's included, and for 101, whose headers a browser
//! reads as well. Edits are idempotent: applied to their own result they change nothing, so a response that passes
//! twice is not spoiled.

use std::borrow::Cow;

use crate::cookie::CookieScope;
use crate::edit::Edit;
use crate::effective::Authority;
use crate::exchange::{Exchange, Header, Response};
use crate::location::PublicUrl;
use crate::policy::Policy;

impl Policy {
    /// The changes to make to a response, in order.
    pub fn response(&self, exchange: &Exchange, response: &Response<'_>) -> Vec<Edit> {
        let is_informational = (100..200).contains(&response.status) && response.status != 101;
        if is_informational {
            return Vec::new();
        }
        let mut edits = Vec::new();
        self.rewrite_urls(exchange, response, &mut edits);
        self.rewrite_cookies(exchange, response, &mut edits);
        self.own_hsts(exchange, response, &mut edits);
        for (name, value) in self.security_headers.iter() {
            if lines(response, name).next().is_none() {
                edits.push(Edit::set(name, value));
            }
        }
        edits
    }

    fn rewrite_urls(&self, exchange: &Exchange, response: &Response<'_>, edits: &mut Vec<Edit>) {
        let mut own_names = self.own_names.clone();
        own_names.extend(exchange.host_sent.as_deref().and_then(Authority::read));
        let public = PublicUrl {
            effective: &exchange.effective,
            mount: &exchange.mount,
            upstream_saw: exchange.upstream_saw,
            own_names: &own_names,
        };
        for name in ["location", "content-location"] {
            replace_lines(name, response, edits, |value| public.rewrite(value));
        }
        replace_lines("refresh", response, edits, |value| {
            public.rewrite_refresh(value)
        });
    }

    fn rewrite_cookies(&self, exchange: &Exchange, response: &Response<'_>, edits: &mut Vec<Edit>) {
        let scope = CookieScope {
            mount: &exchange.mount,
            upstream_saw: exchange.upstream_saw,
            cookie_path: self.cookie_path,
            own_names: &self.own_names,
        };
        replace_lines("set-cookie", response, edits, |line| {
            Some(scope.rewrite(line))
        });
    }

    fn own_hsts(&self, exchange: &Exchange, response: &Response<'_>, edits: &mut Vec<Edit>) {
        let upstream: Vec<&[u8]> = lines(response, HSTS).collect();
        match self.hsts.line(&exchange.effective, &upstream) {
            Some(line) if upstream != [line] => edits.push(Edit::set(HSTS, line)),
            None if !upstream.is_empty() => edits.push(Edit::remove(HSTS)),
            _ => {}
        }
    }
}

/// Replaces the lines of a field one by one, keeping them apart and in order; `None` drops a line.
fn replace_lines(
    name: &'static str,
    response: &Response<'_>,
    edits: &mut Vec<Edit>,
    replace: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    let before: Vec<&[u8]> = lines(response, name).collect();
    let after: Vec<Vec<u8>> = before.iter().copied().filter_map(replace).collect();
    if before == after {
        return;
    }
    edits.push(Edit::remove(name));
    edits.extend(
        after
            .into_iter()
            .map(|line| Edit::Append(Cow::Borrowed(name), line)),
    );
}

fn lines<'a>(response: &Response<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    response
        .headers
        .iter()
        .filter(move |(other, _): &&Header<'a>| other.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| *value)
}

const HSTS: &str = "strict-transport-security";
