//! Defines the effective scheme, host and port: those that the client used, after trust was applied.
//!
//! Nothing is taken from an untrusted peer: the scheme is that of our listener, host and port are those of `Host`. The
//! fields of a trusted peer are parsed one by one, and each has its own fallback, so that one invalid field does not
//! affect the others. No scheme header is read other than `X-Forwarded-Proto` (or the `proto` of `Forwarded`).

use std::borrow::Cow;
use std::fmt;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use crate::address::{parse_port, push_number, split_brackets, trim};
use crate::host_name::HostName;
use crate::mount::Mount;

/// The scheme that the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// Returns `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port of URLs that do not name one.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Parses `http`, `https`, `ws` or `wss`, without case.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = trim(text);
        let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
        if is(b"https") || is(b"wss") {
            Some(Self::Https)
        } else if is(b"http") || is(b"ws") {
            Some(Self::Http)
        } else {
            None
        }
    }
}

/// Scheme, host and port that the client used, after trust was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The scheme.
    pub scheme: Scheme,
    /// The host; `None` if the request names none.
    pub host: Option<HostName>,
    /// The port.
    pub port: u16,
}

impl Effective {
    /// Returns the host, with the port unless it is the scheme's default.
    pub fn authority(&self) -> Option<Cow<'_, str>> {
        let host = self.host.as_ref()?;
        Some(if self.port == self.scheme.default_port() {
            Cow::Borrowed(host)
        } else {
            Cow::Owned([host, ":", &port_text(self.port)].concat())
        })
    }

    /// Returns `scheme://authority`.
    pub fn origin(&self) -> Option<String> {
        self.authority()
            .map(|authority| format!("{}://{authority}", self.scheme))
    }
}

/// Formats a port.
pub(crate) fn port_text(port: u16) -> ArrayString<5> {
    let mut text = ArrayString::new();
    push_number(&mut text, port);
    text
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The fixed URL under which browsers know an app, `public_base_url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicBase {
    pub(crate) origin: Effective,
    pub(crate) mount: Mount,
}

impl PublicBase {
    /// Parses `https://host:port/path`.
    ///
    /// The `url` crate would save three lines here, but it makes the filter 209 kB larger (617 instead of 409 kB; the limit
    /// is 410), mostly by tables for international host names, which settings must write in ASCII. It also accepts more
    /// than is documented, such as `https:/host`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        let Authority { host, port } = Authority::parse(authority.as_bytes())?;
        Some(Self {
            origin: Effective {
                scheme,
                host: Some(host),
                port: port.unwrap_or_else(|| scheme.default_port()),
            },
            mount: Mount::parse(path).ok()?,
        })
    }
}

/// A host with an optional port, as in `Host` or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: HostName,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Parses a host name of `[A-Za-z0-9._-]{1,253}` or a bracketed IPv6 address, with an optional port from 1 to 65535.
    /// Everything else is invalid, such as user information and escapes.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (host, rest) = match split_brackets(text) {
            Some((address, rest)) => {
                let address: std::net::Ipv6Addr =
                    std::str::from_utf8(address).ok()?.parse().ok()?;
                (HostName::in_lower_case(&format!("[{address}]")), rest)
            }
            None => {
                let is_end = |octet: &u8| {
                    !octet.is_ascii_alphanumeric() && !matches!(octet, b'.' | b'_' | b'-')
                };
                let end = text.iter().position(is_end).unwrap_or(text.len());
                let (host, rest) = text.split_at_checked(end)?;
                if !(1..=MAX_HOST).contains(&host.len()) {
                    return None;
                }
                (
                    HostName::in_lower_case(std::str::from_utf8(host).ok()?),
                    rest,
                )
            }
        };
        let port = match rest {
            [] => None,
            [b':', port @ ..] => Some(parse_port(port).filter(|port| *port > 0)?),
            _ => return None,
        };
        Some(Self { host, port })
    }
}

/// Returns true if two values of `Host` name the same host and port: compared without case, IPv6 addresses as addresses, and
/// with the default port of `scheme`, RFC 9110 §4.2.3. Values that are equal octet by octet need not be valid.
pub fn is_same_host(scheme: &[u8], one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let default_port = Scheme::parse(scheme).map(Scheme::default_port);
    match (Authority::parse(one), Authority::parse(other)) {
        (Some(one), Some(other)) => {
            one.host == other.host && one.port.or(default_port) == other.port.or(default_port)
        }
        _ => false,
    }
}

/// Parses `X-Forwarded-Port`: 1 to 65535, without leading zeros.
pub(crate) fn parse_forwarded_port(text: &[u8]) -> Option<u16> {
    let text = trim(text);
    if text.first() == Some(&b'0') {
        return None;
    }
    parse_port(text)
}

/// The maximum length of a host name in bytes, RFC 1035 §2.3.4.
const MAX_HOST: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_base_urls() {
        for (url, want) in [
            (
                "https://portal.example.com/apps/my-app/",
                Some(("https://portal.example.com", "/apps/my-app")),
            ),
            (
                "HTTP://Portal.example:8080",
                Some(("http://portal.example:8080", "")),
            ),
            (
                "https://portal.example:443/",
                Some(("https://portal.example", "")),
            ),
            ("portal.example", None),
            ("//portal.example", None),
            ("ftp://portal.example", None),
            ("https://", None),
            ("https://user@portal.example/", None),
            ("https://portal.example/?x", None),
            ("https://portal.example/a#b", None),
            ("https://portal.example?x", None),
        ] {
            let got = PublicBase::parse(url);
            let got = got
                .as_ref()
                .map(|got| (got.origin.origin().unwrap_or_default(), got.mount.as_str()));
            assert_eq!(
                got.as_ref()
                    .map(|(origin, mount)| (origin.as_str(), *mount)),
                want,
                "{url}"
            );
        }
    }

    #[test]
    fn hosts_are_compared_by_meaning() {
        let same = |scheme: &str, one: &str, other: &str| {
            let found = is_same_host(scheme.as_bytes(), one.as_bytes(), other.as_bytes());
            let reverse = is_same_host(scheme.as_bytes(), other.as_bytes(), one.as_bytes());
            assert_eq!(found, reverse, "{one} {other}");
            found
        };
        for (scheme, one, other) in [
            ("https", "a.example", "A.Example"),
            ("https", "a.example", "a.example:443"),
            ("http", "a.example", "a.EXAMPLE:80"),
            ("HTTPS", "a.example:443", "a.example"),
            ("http", "[::1]", "[0:0:0:0:0:0:0:1]:80"),
            ("http", "[2001:DB8::1]:8080", "[2001:db8:0::1]:8080"),
            ("ftp", "a.example:21", "A.example:21"),
            ("http", "a b", "a b"),
        ] {
            assert!(same(scheme, one, other), "{scheme} {one} {other}");
        }
        for (scheme, one, other) in [
            ("http", "a.example", "b.example"),
            ("http", "a.example", "a.example."),
            ("http", "a.example", "a.example:443"),
            ("https", "a.example", "a.example:80"),
            ("ftp", "a.example", "a.example:21"),
            ("http", "a.example", ""),
            ("http", "a.example", "a.example/"),
            ("http", "a.example", "user@a.example"),
            ("http", "A B", "a b"),
        ] {
            assert!(!same(scheme, one, other), "{scheme} {one} {other}");
        }
    }

    #[test]
    fn authorities() {
        for (text, want) in [
            ("app.example", Some(("app.example", None))),
            ("ExAmPlE.COM:8443", Some(("example.com", Some(8443)))),
            ("my_app.internal", Some(("my_app.internal", None))),
            ("example.com.", Some(("example.com.", None))),
            ("[2001:DB8::A]", Some(("[2001:db8::a]", None))),
            ("[::1]:8888", Some(("[::1]", Some(8888)))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:0", None),
            ("a:99999", None),
            ("a:1b", None),
            ("user@a", None),
            ("a/b", None),
            ("a?b", None),
            ("a\\b", None),
            ("a,b", None),
            ("a b", None),
            ("[::1", None),
            ("[ghijkl]", None),
            ("::1", None),
            ("bücher.example", None),
        ] {
            let got = Authority::parse(text.as_bytes());
            assert_eq!(
                got.as_ref().map(|got| (&*got.host, got.port)),
                want,
                "{text:?}"
            );
        }
    }
}
