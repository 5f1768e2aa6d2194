//! Reads the URL of a collector of spans.

use http::Uri;
use rustls::pki_types::ServerName;

/// The address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(super) authority: String,
    pub(super) path: String,
    /// The name that the collector's certificate must have; `None` for http.
    pub(super) tls_name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// The description of a valid URL, for the errors of settings.
    pub(crate) const EXPECTED: &'static str =
        "the URL of a collector, such as http://127.0.0.1:4318 or https://otel.example.com";

    /// Reads `http://host:port/path` or `https://host:port/path`; the path of the OTLP specification is appended.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let uri: Uri = text.trim().parse().ok()?;
        let authority = uri.authority()?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return None;
        }
        let (default_port, tls_name) = match uri.scheme_str()? {
            "http" => (80, None),
            "https" => {
                let host = authority.host().trim_matches(['[', ']']).to_owned();
                (443, Some(ServerName::try_from(host).ok()?))
            }
            _ => return None,
        };
        let port = authority.port_u16().unwrap_or(default_port);
        Some(Self {
            authority: format!("{}:{port}", authority.host()),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
            tls_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_collector() {
        let table = [
            (
                "http://127.0.0.1:4318",
                "127.0.0.1:4318",
                "/v1/traces",
                None,
            ),
            (" http://otel/ ", "otel:80", "/v1/traces", None),
            (
                "http://[::1]:4318/a/b/",
                "[::1]:4318",
                "/a/b/v1/traces",
                None,
            ),
            (
                "https://otel.example",
                "otel.example:443",
                "/v1/traces",
                Some("otel.example"),
            ),
            (
                "https://[::1]:4318/a",
                "[::1]:4318",
                "/a/v1/traces",
                Some("::1"),
            ),
        ];
        for (text, authority, path, tls_name) in table {
            let endpoint = Endpoint::read(text).expect(text);
            let name = endpoint.tls_name.map(|name| name.to_str().into_owned());
            assert_eq!((&*endpoint.authority, &*endpoint.path), (authority, path));
            assert_eq!(name.as_deref(), tls_name);
        }
    }

    #[test]
    fn other_text_is_rejected() {
        for text in [
            "",
            "otel:4318",
            "ftp://otel",
            "http://me:pw@otel",
            "http://otel?a",
            "https://a_b-",
            "/v1",
        ] {
            assert_eq!(Endpoint::read(text), None, "{text}");
        }
    }
}
