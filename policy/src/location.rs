//! Rewrites the upstream's redirects to the URLs that browsers must use.
//!
//! The upstream may not know its public name or its mount. A reference is rewritten only if it certainly points to the
//! upstream itself: a path, or a URL whose whole authority is one of its names. References to other hosts and relative
//! references are left as they are.
//!
//! The `url` crate is not used: values are edited as the raw bytes that the upstream sent, which need not be valid URLs,
//! and what is not rewritten must not change.

use crate::address::trim;
use crate::effective::{Authority, Effective, Scheme};
use crate::exchange::{Exchange, SentPath};
use crate::header::has_control;
use crate::mount::Mount;
use crate::target::collapse_leading_slashes;

/// Rewrites the URLs of one exchange.
pub(crate) struct PublicUrl<'a> {
    exchange: &'a Exchange,
}

impl<'a> PublicUrl<'a> {
    pub(crate) fn of(exchange: &'a Exchange) -> Self {
        Self { exchange }
    }
}

/// Converts a path of the upstream to the path that browsers must use; `None` if it is the same.
///
/// A path under the public mount is left as it is. In a path under the mount of `X-Forwarded-Prefix`, the public mount
/// replaces that mount. A path under both is treated by the longer one, or as public if they are equally long. If the
/// request path was sent upstream without the mount, the public mount is prepended to every other path.
pub(crate) fn public_path(exchange: &Exchange, path: &[u8]) -> Option<Vec<u8>> {
    if exchange.sent_path == SentPath::NoMount {
        return None;
    }
    let public = exchange.public_mount();
    let sent = exchange.forwarded_prefix();
    let strip = |mount: &Mount| mount.strip(path).filter(|_| !mount.is_none());
    let after_sent = strip(sent);
    let is_public = strip(&public).is_some();
    match after_sent {
        _ if is_public
            && (after_sent.is_none() || public.as_str().len() >= sent.as_str().len()) =>
        {
            None
        }
        Some([]) if public.is_none() => Some(b"/".to_vec()),
        // Without a public mount in front, two slashes would begin an authority.
        Some(rest) => Some(public.prepend(collapse_leading_slashes(rest))),
        None if exchange.sent_path == SentPath::Stripped => Some(public.prepend(path)),
        None => None,
    }
}

impl PublicUrl<'_> {
    /// Rewrites a `Location` or `Content-Location`; `None` if the value must not be sent.
    ///
    /// The origin that a URL names is found as browsers find it: they drop tabs and read backslashes as slashes. A URL of
    /// another origin is left as it is, because the upstream has chosen it. What only browsers read as an authority, as
    /// in `/\evil.example`, is a path, and is escaped so that browsers read it as one.
    pub(crate) fn rewrite(&self, received: &[u8]) -> Option<Vec<u8>> {
        if has_control(received) {
            return None;
        }
        let value = trim(received);
        if let Some((scheme, reference)) = split_scheme(value) {
            let rewritten = scheme.and_then(|scheme| {
                let reference = strip_slashes(reference, 2)?;
                self.rewrite_absolute(scheme, reference)
            });
            return Some(rewritten.unwrap_or_else(|| received.to_vec()));
        }
        Some(match value {
            [b'/', b'/', reference @ ..] => match strip_slashes(reference, 1) {
                Some(path) => self.add_mount(&escape(&[b"/", path].concat())),
                None => self
                    .rewrite_absolute(self.exchange.effective.scheme, reference)
                    .unwrap_or_else(|| received.to_vec()),
            },
            [b'/' | b'\\', path @ ..] => {
                let path = [b"/", escape(path).as_slice()].concat();
                self.add_mount(collapse_leading_slashes(&path))
            }
            _ => escape(value),
        })
    }

    /// Rewrites the URL of a `Refresh` value such as `5; url=/next`.
    pub(crate) fn rewrite_refresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        if has_control(value) {
            return None;
        }
        let Some(start) = find_refresh_url(value) else {
            return Some(value.to_vec());
        };
        let (before, url) = value.split_at_checked(start)?;
        let (quote, url, after): (&[u8], &[u8], &[u8]) = match url {
            [quote @ (b'"' | b'\''), inner @ ..] => {
                let end = inner
                    .iter()
                    .position(|octet| octet == quote)
                    .unwrap_or(inner.len());
                let (url, after) = inner.split_at_checked(end)?;
                (std::slice::from_ref(quote), url, after)
            }
            _ => (b"", url, b""),
        };
        Some([before, quote, &self.rewrite(url)?, after].concat())
    }

    /// Rewrites a list of origins, as in `Access-Control-Allow-Origin`: an origin of the upstream becomes the public one,
    /// without a path if it has one. `None` if the value must not be sent.
    pub(crate) fn rewrite_origins(&self, received: &[u8]) -> Option<Vec<u8>> {
        if has_control(received) {
            return None;
        }
        let origins = received.split(|octet| *octet == b',');
        let rewritten: Vec<Vec<u8>> = origins
            .filter_map(|origin| {
                if self.is_own_url(trim(origin)) {
                    self.origin().map(String::into_bytes)
                } else {
                    Some(origin.to_vec())
                }
            })
            .collect();
        (!rewritten.is_empty()).then(|| rewritten.join(b",".as_slice()))
    }

    /// Returns true for an absolute URL of the upstream.
    fn is_own_url(&self, url: &[u8]) -> bool {
        let Some((Some(scheme), reference)) = split_scheme(url) else {
            return false;
        };
        strip_slashes(reference, 2)
            .is_some_and(|reference| self.is_own(scheme, split_authority(reference).0))
    }

    /// Returns the public origin; `None` if the request named no host.
    fn origin(&self) -> Option<String> {
        self.exchange.app.origin(&self.exchange.effective)
    }

    /// Rewrites a URL of the upstream, given without its scheme and its slashes; `None` if the authority belongs to another
    /// host.
    fn rewrite_absolute(&self, scheme: Scheme, reference: &[u8]) -> Option<Vec<u8>> {
        let (authority, rest) = split_authority(reference);
        if !self.is_own(scheme, authority) {
            return None;
        }
        let origin = self.origin()?;
        let path = match rest {
            [b'/' | b'\\', path @ ..] => path,
            rest => rest,
        };
        let path = [b"/", escape(path).as_slice()].concat();
        let path = self.add_mount(collapse_leading_slashes(&path));
        Some([origin.as_bytes(), &path].concat())
    }

    /// Returns true if an authority, in a URL of this scheme, is one of the upstream's names or the public one.
    fn is_own(&self, scheme: Scheme, authority: &[u8]) -> bool {
        let authority = without_tabs(authority);
        // An empty port is the default port, RFC 3986 §3.2.3.
        let authority = authority.strip_suffix(b":").unwrap_or(&authority);
        let Some(authority) = Authority::parse(authority) else {
            return false;
        };
        // The upstream may refer to itself by the host that it was sent.
        self.is_public(&authority, scheme)
            || self
                .exchange
                .app
                .upstream_authorities
                .iter()
                .chain(&self.exchange.sent_host)
                .any(|own| is_same_authority(own, &authority, scheme))
    }

    fn is_public(&self, authority: &Authority, scheme: Scheme) -> bool {
        let base = self.exchange.app.public_base.as_ref();
        is_at(&self.exchange.effective, authority, scheme)
            || base.is_some_and(|base| is_at(&base.origin, authority, scheme))
    }

    fn add_mount(&self, reference: &[u8]) -> Vec<u8> {
        let path_end = reference
            .iter()
            .position(|octet| matches!(octet, b'?' | b'#'))
            .unwrap_or(reference.len());
        let (path, rest) = reference
            .split_at_checked(path_end)
            .unwrap_or((reference, b""));
        match public_path(self.exchange, path) {
            Some(path) => [&path, rest].concat(),
            None => reference.to_vec(),
        }
    }
}

/// Returns true if `authority`, in a URL of this `scheme`, is the public one.
fn is_at(public: &Effective, authority: &Authority, scheme: Scheme) -> bool {
    let named_port = authority.port.filter(|port| *port != scheme.default_port());
    let port = public.port;
    public.host.as_ref() == Some(&authority.host)
        && match named_port {
            Some(named) => named == port,
            // This includes `http://public/x` from an upstream that does not know about TLS.
            None => port == scheme.default_port() || port == public.scheme.default_port(),
        }
}

/// Compares whole authorities; an absent port is the default of the URL's scheme.
fn is_same_authority(own: &Authority, other: &Authority, scheme: Scheme) -> bool {
    let port = |authority: &Authority| authority.port.unwrap_or_else(|| scheme.default_port());
    own.host == other.host && port(own) == port(other)
}

/// Escapes tabs, which browsers drop, and backslashes in the path, which browsers read as slashes.
fn escape(reference: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(reference.len());
    let mut in_path = true;
    for octet in reference {
        in_path &= !matches!(octet, b'?' | b'#');
        match octet {
            b'\t' => escaped.extend_from_slice(b"%09"),
            b'\\' if in_path => escaped.extend_from_slice(b"%5C"),
            octet => escaped.push(*octet),
        }
    }
    escaped
}

/// Removes tabs, which browsers drop from URLs.
fn without_tabs(text: &[u8]) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(|octet| *octet != b'\t')
        .collect()
}

/// Strips the leading slashes as browsers read them, with backslashes and tabs; `None` if there are fewer than `min`.
fn strip_slashes(reference: &[u8], min: usize) -> Option<&[u8]> {
    let end = reference
        .iter()
        .position(|octet| !matches!(octet, b'/' | b'\\' | b'\t'))
        .unwrap_or(reference.len());
    let (slashes, rest) = reference.split_at_checked(end)?;
    let count = slashes.iter().filter(|octet| **octet != b'\t').count();
    (count >= min).then_some(rest)
}

/// Splits a reference that has a scheme (RFC 3986 §3.1) after the colon; the scheme is `None` unless it is http or https.
fn split_scheme(value: &[u8]) -> Option<(Option<Scheme>, &[u8])> {
    let colon = value.iter().position(|octet| *octet == b':')?;
    let (name, reference) = value.split_at_checked(colon)?;
    let name = without_tabs(name);
    let is_scheme = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'));
    let scheme = if name.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else if name.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else {
        None
    };
    is_scheme.then_some((scheme, reference.get(1..)?))
}

/// Splits after the authority; browsers also end it at a backslash.
fn split_authority(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|octet| matches!(octet, b'/' | b'\\' | b'?' | b'#'))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, b""))
}

/// Returns the start of the URL in a `Refresh` value, with its quote if it has one, by the [shared declarative refresh
/// steps]; `None` if it has no URL.
///
/// [shared declarative refresh steps]: https://html.spec.whatwg.org/multipage/semantics.html#shared-declarative-refresh-steps
fn find_refresh_url(value: &[u8]) -> Option<usize> {
    let time = skip(value, is_space);
    let after_seconds = skip(time, |octet| octet.is_ascii_digit());
    if after_seconds.len() == time.len() && !time.starts_with(b".") {
        return None;
    }
    let after_time = skip(after_seconds, |octet| {
        octet.is_ascii_digit() || octet == b'.'
    });
    if !matches!(after_time, [b' ' | b'\t' | b';' | b',', ..]) {
        return None;
    }
    let rest = match skip(after_time, is_space) {
        [b';' | b',', rest @ ..] => rest,
        rest => rest,
    };
    let rest = skip(rest, is_space);
    let url = after_url_name(rest).unwrap_or(rest);
    value.len().checked_sub(url.len())
}

/// Returns what follows `url=`; `None` if the text begins in another way, so that it is the URL itself.
fn after_url_name(text: &[u8]) -> Option<&[u8]> {
    let (name, rest) = text.split_at_checked(3)?;
    let rest = skip(rest, is_space).strip_prefix(b"=")?;
    name.eq_ignore_ascii_case(b"url")
        .then(|| skip(rest, is_space))
}

fn skip(text: &[u8], is_skipped: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|octet| !is_skipped(*octet));
    text.get(start.unwrap_or(text.len())..).unwrap_or_default()
}

/// Other ASCII white space is a control octet, with which the field is dropped.
fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}
