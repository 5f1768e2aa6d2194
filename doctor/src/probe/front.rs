//! Recognizes which hop has answered, by its `Server` field and by the form of its error pages.

use crate::client::Response;

/// A program that answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    Gateway,
    Streamlit,
    Nginx,
    Envoy,
    Istio,
    Traefik,
    Caddy,
    HaProxy,
    Apache,
    LoadBalancer,
    Cdn,
    Unknown,
}

impl Hop {
    /// Recognizes the hop that has made a response. A response that was passed on counts as made by the hop behind.
    pub(crate) fn of(response: &Response) -> Self {
        let text = response.text();
        let page = |part: &str| text.contains(part);
        if is_of_gateway(response) {
            return Self::Gateway;
        }
        // Go's server answers requests that it cannot read before any configuration applies.
        let is_of_go = text.starts_with(&format!("{} ", response.status))
            || text.starts_with("Unsupported transfer encoding");
        if response.status >= 400
            && is_of_go
            && response.first("content-type").starts_with("text/plain")
        {
            return Self::Traefik;
        }
        let by_page = [
            ("<center>nginx", Self::Nginx),
            ("<center>openresty", Self::Nginx),
            ("upstream connect error or disconnect", Self::Envoy),
            ("no healthy upstream", Self::Envoy),
            ("upstream request timeout", Self::Envoy),
            (
                "No server is available to handle this request",
                Self::HaProxy,
            ),
            ("<html><body><h1>4", Self::HaProxy),
            ("<html><body><h1>5", Self::HaProxy),
            ("<address>Apache", Self::Apache),
            (APACHE_PAGES[0], Self::Apache),
            (APACHE_PAGES[1], Self::Apache),
            ("404 page not found", Self::Traefik),
            ("no available server", Self::Traefik),
            ("cloudflare", Self::Cdn),
        ];
        let found = by_page
            .into_iter()
            .find(|(part, _)| response.status >= 300 && page(part));
        if let Some((_, hop)) = found {
            return if hop == Self::Envoy && is_istio(response) {
                Self::Istio
            } else {
                hop
            };
        }
        let server = Self::of_server(&response.first("server"));
        // Streamlit refuses a handshake with an empty response; these add their name to that, but have a page for their own.
        let has_pages = matches!(server, Some(Self::Nginx | Self::Apache));
        if response.status == 403 && text.is_empty() && has_pages {
            return Self::Streamlit;
        }
        server.unwrap_or_else(|| {
            let is_plain = response.first("content-type").starts_with("text/plain");
            let is_terse = matches!(
                text.trim(),
                "Bad Gateway"
                    | "Gateway Timeout"
                    | "Service Unavailable"
                    | "Not Found"
                    | "Forbidden"
            );
            if is_plain
                && is_terse
                && response.first("x-content-type-options") != "nosniff"
                && response.status >= 502
            {
                Self::Traefik
            } else if response.status == 403 && text.is_empty()
                || is_plain && is_terse && response.status == 404
            {
                Self::Streamlit
            } else {
                Self::Unknown
            }
        })
    }

    /// Recognizes a hop by the `Server` field.
    pub(crate) fn of_server(server: &str) -> Option<Self> {
        let server = server.to_ascii_lowercase();
        let known = [
            ("istio-envoy", Self::Istio),
            ("envoy", Self::Envoy),
            ("nginx", Self::Nginx),
            ("openresty", Self::Nginx),
            ("caddy", Self::Caddy),
            ("apache", Self::Apache),
            ("awselb", Self::LoadBalancer),
            ("google", Self::LoadBalancer),
            ("microsoft-azure", Self::LoadBalancer),
            ("cloudflare", Self::Cdn),
            ("cloudfront", Self::Cdn),
            ("akamai", Self::Cdn),
            ("uvicorn", Self::Streamlit),
            ("tornado", Self::Streamlit),
        ];
        let found = known.into_iter().find(|(name, _)| server.contains(name));
        found.map(|(_, hop)| hop)
    }

    /// Returns true if this hop may have passed the response on instead of making it: these write their name into every
    /// response, and have pages of their own for redirects and errors.
    pub(crate) fn may_pass_on(self, response: &Response) -> bool {
        let has = |name| response.lines(name).next().is_some();
        match self {
            Self::Gateway | Self::Streamlit | Self::Unknown => false,
            Self::Nginx => !response.text().contains("<center>"),
            Self::Apache => !APACHE_PAGES
                .iter()
                .any(|part| response.text().contains(part)),
            Self::Caddy => has("via"),
            Self::Envoy | Self::Istio => has("x-envoy-upstream-service-time"),
            _ => has("x-request-id"),
        }
    }

    /// Returns true if the errors for requests that the program cannot read have only the fields of its own: no
    /// configuration adds any.
    pub(crate) fn has_fixed_errors(self) -> bool {
        matches!(self, Self::Caddy | Self::HaProxy | Self::Traefik)
    }

    /// Returns the name for a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "the FluxLit gateway or filter",
            Self::Streamlit => "Streamlit",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
            Self::Istio => "Istio's Envoy",
            Self::Traefik => "a Go proxy such as Traefik",
            Self::Caddy => "Caddy",
            Self::HaProxy => "HAProxy",
            Self::Apache => "Apache",
            Self::LoadBalancer => "a cloud load balancer",
            Self::Cdn => "a CDN",
            Self::Unknown => "a hop that does not say its name",
        }
    }
}

/// How Apache's own pages for redirects and errors begin, before and since version 2.4.70.
const APACHE_PAGES: [&str; 2] = [
    "-//IETF//DTD HTML 2.0//EN",
    "html4/strict.dtd\">\n<html><head>\n<title>",
];

fn is_of_gateway(response: &Response) -> bool {
    let id = response.first("x-request-id");
    let text = response.text();
    !id.is_empty() && text.contains(&format!("Request {id}"))
        || text.starts_with("The app is published at this path with a trailing slash")
        || !id.is_empty() && text.starts_with("No app is published at this path")
        || text.starts_with("This app is published under another path")
}

fn is_istio(response: &Response) -> bool {
    response.first("server").starts_with("istio")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hop_is_recognized_by_its_pages_before_its_server_field() {
        for (head, body, expected) in [
            (
                "HTTP/1.1 502 Bad Gateway\r\nserver: cloudflare\r\n\r\n",
                "<center>nginx/1.22</center>",
                Hop::Nginx,
            ),
            (
                "HTTP/1.1 503 No\r\nserver: envoy\r\n\r\n",
                "no healthy upstream",
                Hop::Envoy,
            ),
            (
                "HTTP/1.1 503 No\r\nserver: istio-envoy\r\n\r\n",
                "no healthy upstream",
                Hop::Istio,
            ),
            (
                "HTTP/1.1 503 No\r\n\r\n",
                "<html><body><h1>503 Service Unavailable</h1>",
                Hop::HaProxy,
            ),
            (
                "HTTP/1.1 404 No\r\n\r\n",
                "404 page not found\n",
                Hop::Traefik,
            ),
            (
                "HTTP/1.1 431 No\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n",
                "431 Request Header Fields Too Large",
                Hop::Traefik,
            ),
            (
                "HTTP/1.1 403 No\r\nserver: nginx/1.22.1\r\n\r\n",
                "",
                Hop::Streamlit,
            ),
            ("HTTP/1.1 502 No\r\nserver: Caddy\r\n\r\n", "", Hop::Caddy),
            (
                "HTTP/1.1 404 No\r\nserver: Apache/2.4\r\n\r\n",
                "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">",
                Hop::Apache,
            ),
            (
                "HTTP/1.1 431 No\r\nx-request-id: 7\r\n\r\n",
                "Too large.\nRequest 7\n",
                Hop::Gateway,
            ),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "", Hop::Streamlit),
            (
                "HTTP/1.1 403 Forbidden\r\nserver: Apache/2.4\r\n\r\n",
                "",
                Hop::Streamlit,
            ),
            (
                "HTTP/1.1 301 Moved\r\nserver: cloudflare\r\n\r\n",
                "<center>nginx</center>",
                Hop::Nginx,
            ),
            (
                "HTTP/1.1 418 Teapot\r\n\r\n",
                "short and stout",
                Hop::Unknown,
            ),
        ] {
            let mut response = Response::parse(head.as_bytes()).expect("a response");
            response.body = body.into();
            assert_eq!(Hop::of(&response), expected, "{head}{body}");
        }
    }

    #[test]
    fn a_name_in_a_field_does_not_tell_who_has_made_a_response() {
        for (head, body, may_pass_on) in [
            (
                "HTTP/1.1 403 No\r\nserver: nginx\r\n\r\n",
                "<center>nginx</center>",
                false,
            ),
            ("HTTP/1.1 403 No\r\nserver: nginx\r\n\r\n", "no", true),
            ("HTTP/1.1 403 No\r\nserver: Apache\r\n\r\n", "no", true),
            ("HTTP/1.1 403 No\r\nserver: Caddy\r\n\r\n", "", false),
            ("HTTP/1.1 403 No\r\nvia: 1.1 Caddy\r\n\r\n", "no", true),
            ("HTTP/1.1 403 No\r\nserver: envoy\r\n\r\n", "", false),
        ] {
            let mut response = Response::parse(head.as_bytes()).expect("a response");
            response.body = body.into();
            let hop = Hop::of_server(&[response.first("server"), response.first("via")].concat());
            let hop = hop.expect("a name");
            assert_eq!(hop.may_pass_on(&response), may_pass_on, "{head}{body}");
        }
    }
}
