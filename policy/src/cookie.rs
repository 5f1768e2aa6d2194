//! Rewrites the path and the domain of the upstream's cookies, so that browsers keep and return them.
//!
//! [RFC 6265 §5]: a cookie with `Path=/` would be sent to every app of the host, and a cookie whose path is not under the
//! mount would never be returned. Each line is edited in place: only its Path and Domain attributes change.
//!
//! [RFC 6265 §5]: https://www.rfc-editor.org/rfc/rfc6265#section-5

use std::borrow::Cow;

use crate::address::trim;
use crate::config::CookiePath;
use crate::exchange::{Exchange, SentPath};
use crate::header::has_control;
use crate::location::public_path;
use crate::mount::MAX_MOUNT;

/// Rewrites the cookies of one exchange.
pub(crate) struct CookieScope<'a>(pub(crate) &'a Exchange);

impl CookieScope<'_> {
    /// Returns false if every cookie is left as it is.
    pub(crate) fn has_effect(&self) -> bool {
        match (self.0.sent_path, self.0.app.cookie_path) {
            (SentPath::Stripped, _) | (SentPath::Full, CookiePath::Confine) => true,
            (SentPath::Full, CookiePath::Mount) | (SentPath::NoMount, _) => false,
        }
    }

    /// Rewrites one `Set-Cookie` line. A line with control octets is left as it is: browsers do not accept it, RFC
    /// 6265bis §5.6.
    pub(crate) fn rewrite<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        // A `__Host-` cookie must have `Path=/` and no Domain, otherwise browsers drop it.
        if !self.has_effect() || has_control(line) || has_host_prefix(line) {
            return Cow::Borrowed(line);
        }
        self.rewrite_attributes(line)
    }

    /// Returns true if the line is a `__Host-` cookie of an app under a mount: such a cookie is left at `Path=/`.
    pub(crate) fn keeps_host_cookie(&self, line: &[u8]) -> bool {
        self.0.sent_path == SentPath::Stripped && has_host_prefix(line)
    }

    fn rewrite_attributes<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let mut rewritten = Cow::Borrowed(line);
        let mut end = line
            .iter()
            .position(|octet| *octet == b';')
            .unwrap_or(line.len());
        // What precedes this part is rewritten already.
        while let Some((before, [_, rest @ ..])) = line.split_at_checked(end) {
            let length = rest.iter().position(|octet| *octet == b';');
            let (attribute, after) = rest
                .split_at_checked(length.unwrap_or(rest.len()))
                .unwrap_or((rest, b""));
            end = line.len().saturating_sub(after.len());
            match self.rewrite_attribute(attribute) {
                Attribute::Unchanged => {
                    if let Cow::Owned(rewritten) = &mut rewritten {
                        rewritten.push(b';');
                        rewritten.extend_from_slice(attribute);
                    }
                }
                Attribute::Dropped => {
                    if let Cow::Borrowed(_) = &rewritten {
                        rewritten = Cow::Owned(before.to_vec());
                    }
                }
                Attribute::Path { lead, path, tail } => {
                    if let Cow::Borrowed(_) = &rewritten {
                        let mut start = Vec::with_capacity(line.len().saturating_add(MAX_MOUNT));
                        start.extend_from_slice(before);
                        rewritten = Cow::Owned(start);
                    }
                    let rewritten = rewritten.to_mut();
                    for part in [b";", lead, &path, tail] {
                        rewritten.extend_from_slice(part);
                    }
                }
            }
        }
        rewritten
    }

    fn rewrite_attribute<'a>(&self, attribute: &'a [u8]) -> Attribute<'a> {
        // What the upstream saw decides: with the public path, only a cookie for all apps of the host is confined.
        let confine_only = self.0.sent_path == SentPath::Full;
        let Some(equals) = attribute.iter().position(|octet| *octet == b'=') else {
            return Attribute::Unchanged;
        };
        let Some((name, [_, value @ ..])) = attribute.split_at_checked(equals) else {
            return Attribute::Unchanged;
        };
        let (name, text) = (trim(name), trim(value));
        if name.eq_ignore_ascii_case(b"domain") && !confine_only {
            let domain = text.strip_prefix(b".").unwrap_or(text);
            return if self.is_upstream_domain(domain) {
                Attribute::Dropped
            } else {
                Attribute::Unchanged
            };
        }
        if !name.eq_ignore_ascii_case(b"path") {
            return Attribute::Unchanged;
        }
        let path: Vec<u8> = match text {
            b"/" => {
                let public = self.0.public_mount();
                if public.is_none() {
                    return Attribute::Unchanged;
                }
                public.as_str().as_bytes().to_vec()
            }
            [b'/', ..] if !confine_only => match public_path(self.0, text) {
                Some(path) => path,
                None => return Attribute::Unchanged,
            },
            _ => return Attribute::Unchanged,
        };
        let indent = value
            .iter()
            .take_while(|octet| matches!(octet, b' ' | b'\t'))
            .count();
        let lead = equals.saturating_add(1).saturating_add(indent);
        let tail = lead.saturating_add(text.len());
        Attribute::Path {
            lead: attribute.get(..lead).unwrap_or_default(),
            path,
            tail: attribute.get(tail..).unwrap_or_default(),
        }
    }

    fn is_upstream_domain(&self, domain: &[u8]) -> bool {
        domain.eq_ignore_ascii_case(b"localhost")
            || self
                .0
                .app
                .upstream_authorities
                .iter()
                .any(|own| own.host.as_bytes().eq_ignore_ascii_case(domain))
    }
}

/// What becomes of an attribute.
enum Attribute<'a> {
    Dropped,
    /// It has another path.
    Path {
        /// What precedes the path.
        lead: &'a [u8],
        path: Vec<u8>,
        /// What follows it.
        tail: &'a [u8],
    },
    Unchanged,
}

fn has_host_prefix(line: &[u8]) -> bool {
    trim(line)
        .get(..HOST_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(HOST_PREFIX))
}

/// RFC 6265bis §4.1.3.2.
const HOST_PREFIX: &[u8] = b"__Host-";
