//! Rewrites the path and the domain of the upstream's cookies, so that browsers keep and return them.
//!
//! [RFC 6265 §5]: a cookie with `Path=/` would be sent to every app of the host, and a cookie whose path is not under the
//! mount would never be returned. Each line is edited in place: only its Path and Domain attributes change.
//!
//! [RFC 6265 §5]: https://www.rfc-editor.org/rfc/rfc6265#section-5

use crate::address::trim;
use crate::config::CookiePath;
use crate::exchange::{Exchange, SentPath};
use crate::header::has_control;
use crate::location::public_path;

/// Rewrites the cookies of one exchange.
pub(crate) struct CookieScope<'a>(pub(crate) &'a Exchange);

impl CookieScope<'_> {
    /// Rewrites one `Set-Cookie` line. A line with control octets is left as it is: browsers do not accept it, RFC
    /// 6265bis §5.6.
    pub(crate) fn rewrite(&self, line: &[u8]) -> Vec<u8> {
        if has_control(line) {
            return line.to_vec();
        }
        self.rewrite_attributes(line)
    }

    /// Returns true if the line is a `__Host-` cookie of an app under a mount: such a cookie is left at `Path=/`.
    pub(crate) fn keeps_host_cookie(&self, line: &[u8]) -> bool {
        self.0.sent_path == SentPath::Stripped && has_host_prefix(line)
    }

    fn rewrite_attributes(&self, line: &[u8]) -> Vec<u8> {
        let confine_only = match (self.0.sent_path, self.0.app.cookie_path) {
            (SentPath::Stripped, _) => false,
            (SentPath::Full, CookiePath::Confine) => true,
            (SentPath::Full, CookiePath::Mount) | (SentPath::NoMount, _) => {
                return line.to_vec();
            }
        };
        let mut parts = line.split(|octet| *octet == b';');
        let pair = parts.next().unwrap_or(line);
        // Such a cookie must have `Path=/` and no Domain, otherwise browsers drop it.
        if has_host_prefix(pair) {
            return line.to_vec();
        }
        let mut rewritten = pair.to_vec();
        for attribute in parts {
            if let Some(attribute) = self.rewrite_attribute(attribute, confine_only) {
                rewritten.push(b';');
                rewritten.extend_from_slice(&attribute);
            }
        }
        rewritten
    }

    /// Rewrites one attribute; `None` drops it.
    fn rewrite_attribute(&self, attribute: &[u8], confine_only: bool) -> Option<Vec<u8>> {
        let unchanged = Some(attribute.to_vec());
        let Some(equals) = attribute.iter().position(|octet| *octet == b'=') else {
            return unchanged;
        };
        let Some((name, [_, value @ ..])) = attribute.split_at_checked(equals) else {
            return unchanged;
        };
        let text = trim(value);
        if trim(name).eq_ignore_ascii_case(b"domain") && !confine_only {
            let domain = text.strip_prefix(b".").unwrap_or(text);
            return if self.is_upstream_domain(domain) {
                None
            } else {
                unchanged
            };
        }
        if !trim(name).eq_ignore_ascii_case(b"path") {
            return unchanged;
        }
        let path: Vec<u8> = match text {
            b"/" => {
                let public = self.0.public_mount();
                let public = public.as_str();
                if public.is_empty() {
                    return unchanged;
                }
                public.as_bytes().to_vec()
            }
            [b'/', ..] if !confine_only => match public_path(self.0, text) {
                Some(path) => path,
                None => return unchanged,
            },
            _ => return unchanged,
        };
        let indent = value
            .iter()
            .take_while(|octet| matches!(octet, b' ' | b'\t'))
            .count();
        let lead = equals.saturating_add(1).saturating_add(indent);
        let tail = lead.saturating_add(text.len());
        Some(
            [
                attribute.get(..lead).unwrap_or_default(),
                &path,
                attribute.get(tail..).unwrap_or_default(),
            ]
            .concat(),
        )
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

fn has_host_prefix(line: &[u8]) -> bool {
    trim(line)
        .get(..HOST_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(HOST_PREFIX))
}

/// RFC 6265bis §4.1.3.2.
const HOST_PREFIX: &[u8] = b"__Host-";
