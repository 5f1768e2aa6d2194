//! Decides which pages may open a WebSocket, by the `Origin` of the handshake.
//!
//! A browser sends the user's cookies with a WebSocket handshake no matter which page opens it, and names that page in
//! `Origin` ([RFC 6455 §10.2]). So the origin must be the app's own, or one that the operator has listed. A client that
//! sends no `Origin` is not a browser, and has no other user's cookies.
//!
//! An origin is a scheme, a host and a port ([RFC 6454 §4]), and all three are compared: a page that was loaded over http
//! may come from an attacker on the network, who must not use the cookies of the https page. Hosts are compared as
//! browsers do, so `app.example.` with a trailing dot is another host than `app.example`. `null` and an origin with user
//! information are never the app's own.
//!
//! An effective scheme of http is not certain: a proxy in front may have terminated TLS without saying so. So an https
//! origin of the same host is the app's own there; the page that it comes from is safer than the app's own would be.
//!
//! The `url` crate is not used: an origin is a scheme and an authority, which are parsed as for `Host`, because the two
//! are compared.
//!
//! [RFC 6454 §4]: https://www.rfc-editor.org/rfc/rfc6454#section-4
//! [RFC 6455 §10.2]: https://www.rfc-editor.org/rfc/rfc6455#section-10.2

use crate::edit::{Edit, Edits};
use crate::effective::{Authority, Scheme};
use crate::exchange::Exchange;
use crate::host_name::HostName;

/// The origins, besides the app's own, that may open a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: Scheme,
    host: HostName,
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
            Some(origin) if origin.is_public(exchange) => OriginOutcome::SameOrigin,
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
    pub fn set_host_to_origin(&mut self, origin: &[u8], edits: &mut Edits) {
        let text = origin.splitn(2, |octet| *octet == b'/').last();
        let Some(host) = text.and_then(|text| text.strip_prefix(b"/")) else {
            return;
        };
        self.set_sent_host(Authority::parse(host));
        edits.retain(|edit| !matches!(edit, Edit::Host(_)));
        edits.host(host);
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

    /// Returns true if this is the origin under which browsers know the app.
    fn is_public(&self, exchange: &Exchange) -> bool {
        let base = exchange.app.public_base.as_ref();
        let public = base.map_or(&exchange.effective, |base| &base.origin);
        let is_same_scheme =
            self.scheme == public.scheme || (base.is_none() && self.scheme == Scheme::Https);
        // A port that is not named is the default of either scheme.
        let is_same_port = self.port == public.port
            || (self.port == self.scheme.default_port()
                && public.port == public.scheme.default_port());
        public.host.as_ref() == Some(&self.host) && is_same_scheme && is_same_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Defaults;
    use crate::header::Header;
    use crate::message::Request;
    use crate::peer::Peer;
    use crate::policy::Policy;

    /// A handshake that arrives at a listener without TLS from a peer that is not trusted.
    fn exchange(host: &str) -> Exchange {
        exchange_with("{}", false, host, &[])
    }

    fn exchange_with(settings: &str, tls: bool, host: &str, headers: &[Header<'_>]) -> Exchange {
        let policy = Policy::from_json(settings.as_bytes(), Defaults::GATEWAY).unwrap();
        policy
            .request(&Request {
                peer: Peer::Ip("10.0.0.1".parse().unwrap()),
                identity: None,
                is_reentry: false,
                tls,
                method: b"GET",
                target: b"/_stcore/stream",
                host: Some(host.as_bytes()),
                headers,
            })
            .exchange
    }

    #[test]
    fn any_scheme_may_be_in_front_of_a_plain_listener() {
        use OriginOutcome::{NotAllowed, SameOrigin};
        let allowed = AllowedOrigins::default();
        for (host, origin, want) in [
            ("app.example", "https://app.example", SameOrigin),
            ("app.example", "http://app.example", SameOrigin),
            ("app.example", "https://app.example:443", SameOrigin),
            ("App.Example", "https://app.example", SameOrigin),
            ("app.example", "HTTPS://APP.EXAMPLE", SameOrigin),
            ("app.example:443", "https://app.example", SameOrigin),
            ("app.example:80", "http://app.example", SameOrigin),
            ("app.example:8443", "https://app.example:8443", SameOrigin),
            ("app.example:8443", "http://app.example:8443", SameOrigin),
            ("app.example:8443", "https://app.example", NotAllowed),
            ("app.example", "https://app.example:8443", NotAllowed),
            ("app.example", "http://app.example:443", NotAllowed),
            ("app.example:443", "http://app.example", NotAllowed),
            ("app.example", "https://app.example:80", SameOrigin),
            ("app.example", "https://evil.example", NotAllowed),
            ("app.example", "https://app.example.", NotAllowed),
            ("app.example.", "https://app.example.", SameOrigin),
            ("app.example", "https://app.example/", NotAllowed),
            ("app.example", "https://app.example:", NotAllowed),
            ("app.example", "ws://app.example", NotAllowed),
            ("app.example", "wss://app.example", NotAllowed),
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
            ("[0:0:0::1]:8000", "http://[::1]:8000", SameOrigin),
            ("[2001:DB8::A]", "https://[2001:db8:0:0::a]", SameOrigin),
            ("[::1]", "http://[::2]", NotAllowed),
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
    fn the_scheme_is_compared_where_it_is_known() {
        use OriginOutcome::{NotAllowed, SameOrigin};
        const TRUST: &str = r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.1"}"#;
        const FORWARDED: &str = r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.1", "forwarded_source": "forwarded"}"#;
        const PUBLIC: &str = r#"{"public_base_url": "https://app.example"}"#;
        fn proto(value: &str) -> Header<'_> {
            (b"x-forwarded-proto", value.as_bytes())
        }
        fn forwarded(value: &str) -> Header<'_> {
            (b"forwarded", value.as_bytes())
        }
        let https = proto("https");
        let (same, other) = (SameOrigin, NotAllowed);
        for (settings, tls, headers, at_http, at_https) in [
            // A listener without TLS, and headers that are not trusted or not valid.
            ("{}", false, &[][..], same, same),
            ("{}", false, &[https], same, same),
            (TRUST, false, &[], same, same),
            (TRUST, false, &[proto("gopher")], same, same),
            (TRUST, false, &[proto("https, gopher")], same, same),
            (FORWARDED, false, &[https], same, same),
            // A listener with TLS.
            ("{}", true, &[], other, same),
            ("{}", true, &[proto("http")], other, same),
            // A trusted header.
            (TRUST, false, &[https], other, same),
            (TRUST, false, &[proto("wss")], other, same),
            // A proxy behind one that terminates TLS may say http.
            (TRUST, false, &[proto("http")], same, same),
            (TRUST, true, &[proto("http")], same, same),
            (FORWARDED, false, &[forwarded("proto=https")], other, same),
            (FORWARDED, false, &[forwarded("proto=http")], same, same),
            // The public URL.
            (PUBLIC, false, &[], other, same),
        ] {
            let at = exchange_with(settings, tls, "app.example", headers);
            let check = |origin: &[u8]| AllowedOrigins::default().check(&at, [origin]);
            let got = (
                check(b"http://app.example"),
                check(b"https://app.example"),
                check(b"https://app.example:80"),
            );
            assert_eq!(got.0, at_http, "http: {settings} {tls} {headers:?}");
            assert_eq!(got.1, at_https, "https: {settings} {tls} {headers:?}");
            if at_http == other {
                assert_eq!(got.2, other, "port 80: {settings} {tls} {headers:?}");
            }
        }
    }

    #[test]
    fn the_public_origin_is_that_of_the_public_url() {
        use OriginOutcome::{NotAllowed, SameOrigin};
        let settings = r#"{"public_base_url": "https://portal.example:8443/apps"}"#;
        let at = exchange_with(settings, false, "inner:8501", &[]);
        for (origin, want) in [
            ("https://portal.example:8443", SameOrigin),
            ("https://PORTAL.example:8443", SameOrigin),
            ("http://portal.example:8443", NotAllowed),
            ("https://portal.example", NotAllowed),
            ("http://inner:8501", NotAllowed),
            ("https://inner:8501", NotAllowed),
        ] {
            let got = AllowedOrigins::default().check(&at, [origin.as_bytes()]);
            assert_eq!(got, want, "{origin}");
        }
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
        let mut edits = Edits::from_iter([Edit::Host(b"other"), Edit::Remove("x")]);
        at.set_host_to_origin(b"https://app.example", &mut edits);
        assert!(
            edits
                .iter()
                .eq([Edit::Remove("x"), Edit::Host(b"app.example")])
        );
    }
}
