//! Decides which pages may open a WebSocket, by the `Origin` of the handshake.
//!
//! A browser sends the user's cookies with a WebSocket handshake no matter which page opens it, and names that page in
//! `Origin` ([RFC 6455 §10.2]). So the origin must be the app's own, or one that the operator has listed. A client that
//! sends no `Origin` is not a browser, and has no other user's cookies.
//!
//! The `url` crate is not used: an origin is a scheme and an authority, which are parsed as for `Host`, because the two
//! are compared.
//!
//! [RFC 6455 §10.2]: https://www.rfc-editor.org/rfc/rfc6455#section-10.2

use crate::edit::Edit;
use crate::effective::{Authority, Effective, Scheme};
use crate::exchange::Exchange;

/// The origins, besides the app's own, that may open a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// The result of checking the `Origin` of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginOutcome {
    /// The handshake has no `Origin`.
    Absent,
    /// The operator has listed the origin.
    Listed,
    /// The origin is the app's own.
    SameOrigin,
    /// The origin is another one or invalid; the handshake must be rejected.
    NotAllowed,
}

impl AllowedOrigins {
    /// Parses origins such as `https://portal.example.com`; `*` alone allows every origin. `Err` returns an invalid item.
    pub fn parse(items: &[String]) -> Result<Self, String> {
        if items == ["*"] {
            return Ok(Self {
                any: true,
                listed: Vec::new(),
            });
        }
        let listed = items
            .iter()
            .map(|item| Origin::parse(item.trim().as_bytes()).ok_or_else(|| item.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { any: false, listed })
    }

    /// Checks the `Origin` lines of a handshake.
    pub fn check<'a>(
        &self,
        exchange: &Exchange,
        lines: impl IntoIterator<Item = &'a [u8]>,
    ) -> OriginOutcome {
        let mut lines = lines.into_iter();
        let origin = match (lines.next(), lines.next()) {
            (None, _) => return OriginOutcome::Absent,
            (Some(line), None) => Origin::parse(line),
            (Some(_), Some(_)) => None,
        };
        match origin {
            Some(origin) if origin.is_at(&exchange.effective) => OriginOutcome::SameOrigin,
            Some(origin) if self.any || self.listed.contains(&origin) => OriginOutcome::Listed,
            None if self.any => OriginOutcome::Listed,
            _ => OriginOutcome::NotAllowed,
        }
    }
}

impl Exchange {
    /// Sets the `Host` sent to the upstream to the text of `origin`, for a handshake from the app's own page.
    ///
    /// Streamlit compares `Host` and `Origin` as strings, including case and default port.
    pub fn set_host_to_origin(&mut self, origin: &[u8]) -> Option<Edit> {
        let text = origin.splitn(2, |octet| *octet == b'/').last()?;
        let host = text.strip_prefix(b"/")?.to_vec();
        self.sent_host = Some(host.clone());
        Some(Edit::Host(host))
    }
}

impl Origin {
    /// Parses a serialized origin, RFC 6454 §6.2.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.windows(3).position(|window| window == b"://")?;
        let (scheme, rest) = text.split_at_checked(end)?;
        let scheme = match scheme.to_ascii_lowercase().as_slice() {
            b"http" => Scheme::Http,
            b"https" => Scheme::Https,
            _ => return None,
        };
        let Authority { host, port } = Authority::parse(rest.get(3..)?)?;
        Some(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
        })
    }

    /// Returns true if this is the origin that the client used. Schemes are not compared, because an untrusted proxy may
    /// terminate TLS; a port that is not named is the default of either scheme.
    fn is_at(&self, effective: &Effective) -> bool {
        let is_default = |port: u16| port == 80 || port == 443;
        let same_port = self.port == effective.port
            || (self.port == self.scheme.default_port() && is_default(effective.port));
        effective.host.as_ref() == Some(&self.host) && same_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Defaults;
    use crate::message::Request;
    use crate::peer::Peer;
    use crate::policy::Policy;

    fn exchange(host: &str) -> Exchange {
        let policy = Policy::from_json(b"{}", Defaults::GATEWAY).unwrap();
        policy
            .request(&Request {
                peer: Peer::Unknown,
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: b"/_stcore/stream",
                host: Some(host.as_bytes()),
                headers: &[],
            })
            .exchange
    }

    #[test]
    fn same_and_other_origins() {
        use OriginOutcome::{NotAllowed, SameOrigin};
        let allowed = AllowedOrigins::default();
        for (host, origin, want) in [
            ("app.example", "https://app.example", SameOrigin),
            ("app.example", "http://app.example", SameOrigin),
            ("app.example", "https://app.example:443", SameOrigin),
            ("App.Example", "https://app.example", SameOrigin),
            ("app.example:443", "https://app.example", SameOrigin),
            ("app.example:8443", "https://app.example:8443", SameOrigin),
            ("app.example:8443", "https://app.example", NotAllowed),
            ("app.example", "https://app.example:8443", NotAllowed),
            ("app.example", "https://evil.example", NotAllowed),
            (
                "app.example",
                "https://app.example.evil.example",
                NotAllowed,
            ),
            ("app.example", "https://evil@app.example", NotAllowed),
            ("app.example", "null", NotAllowed),
            ("app.example", "", NotAllowed),
            ("app.example", "app.example", NotAllowed),
            ("127.0.0.1:8000", "http://localhost:8000", NotAllowed),
            ("[::1]:8000", "http://[::1]:8000", SameOrigin),
        ] {
            let got = allowed.check(&exchange(host), [origin.as_bytes()]);
            assert_eq!(got, want, "{origin} at {host}");
        }
        let at = exchange("app.example");
        assert_eq!(allowed.check(&at, []), OriginOutcome::Absent);
        let twice: [&[u8]; 2] = [b"https://app.example", b"https://app.example"];
        assert_eq!(allowed.check(&at, twice), NotAllowed);
    }

    #[test]
    fn listed_origins() {
        let parse = |items: &[&str]| {
            AllowedOrigins::parse(
                &items
                    .iter()
                    .map(|item| (*item).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let at = exchange("app.example");
        let some = parse(&["https://portal.example", "http://x.example:8080"]).unwrap();
        for (origin, want) in [
            ("https://portal.example", OriginOutcome::Listed),
            ("https://portal.example:443", OriginOutcome::Listed),
            ("http://portal.example", OriginOutcome::NotAllowed),
            ("http://x.example:8080", OriginOutcome::Listed),
        ] {
            assert_eq!(some.check(&at, [origin.as_bytes()]), want, "{origin}");
        }
        let any = parse(&["*"]).unwrap();
        assert_eq!(any.check(&at, [&b"null"[..]]), OriginOutcome::Listed);
        assert_eq!(parse(&["portal.example"]), Err("portal.example".to_owned()));
        assert!(parse(&["*", "https://portal.example"]).is_err());
    }

    #[test]
    fn the_host_is_written_as_the_origin() {
        let mut at = exchange("App.Example:443");
        let edit = at.set_host_to_origin(b"https://app.example");
        assert_eq!(edit, Some(Edit::Host(b"app.example".to_vec())));
    }
}
