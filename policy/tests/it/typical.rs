//! Lists typical exchanges, whose cost is measured.

use std::fmt::Write as _;

use fluxlit_policy::{Defaults, Header, Peer, Policy, Request, Response};

/// A request and the app's response to it.
pub(crate) struct Typical {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) target: &'static str,
    pub(crate) request: &'static [Header<'static>],
    pub(crate) response: &'static [Header<'static>],
}

impl Typical {
    /// Returns the policy, with the defaults of the filter.
    pub(crate) fn policy(&self) -> Policy {
        Policy::from_json(self.settings.as_bytes(), Defaults::FILTER).expect("valid settings")
    }

    /// Returns the facts about the request, which arrives over TLS.
    pub(crate) fn request(&self) -> Request<'static> {
        Request {
            peer: Peer::Ip(self.peer.parse().expect("an address")),
            identity: None,
            is_reentry: false,
            tls: true,
            method: b"GET",
            target: self.target.as_bytes(),
            host: Some(b"portal.example.com"),
            headers: self.request,
        }
    }

    /// Returns the facts about the response.
    pub(crate) fn response(&self) -> Response<'static> {
        Response {
            status: 200,
            headers: self.response,
        }
    }
}

pub(crate) const TYPICAL: [Typical; 5] = [
    Typical {
        name: "a browser, no cookie in the response",
        settings: SHIPPED,
        peer: "203.0.113.9",
        target: "/apps/my-app/_stcore/host-config?x=1",
        request: &FORGED,
        response: &[TYPE, LENGTH],
    },
    Typical {
        name: "a browser, a cookie in the response",
        settings: SHIPPED,
        peer: "203.0.113.9",
        target: "/apps/my-app/_stcore/host-config?x=1",
        request: &FORGED,
        response: &[TYPE, LENGTH, COOKIE],
    },
    Typical {
        name: "a redirect of the app",
        settings: SHIPPED,
        peer: "203.0.113.9",
        target: "/apps/my-app/_stcore/host-config?x=1",
        request: &FORGED,
        response: &[TYPE, LENGTH, (b"location", b"/login?next=1")],
    },
    Typical {
        name: "a browser behind a trusted proxy",
        settings: r#"{"root_path": "/apps/my-app", "hsts": true, "security_headers": true, "trust_proxy": true,
            "forwarded_allow_ips": "10.0.0.0/8"}"#,
        peer: "10.1.2.3",
        target: "/apps/my-app/_stcore/host-config?x=1",
        request: &FORWARDED,
        response: &[TYPE, LENGTH],
    },
    Typical {
        name: "an app without a mount, IPv6",
        settings: r#"{"hsts": true, "security_headers": true}"#,
        peer: "2001:db8::9",
        target: "/_stcore/host-config?x=1",
        request: &BROWSER,
        response: &[TYPE, LENGTH, COOKIE],
    },
];

/// Returns settings with this number of apps; the one of the typical requests is the first.
pub(crate) fn with_mounts(count: u32) -> String {
    let mut mounts = r#"{"root_path": "/apps/my-app"}"#.to_owned();
    for number in 1..count {
        // Writing to a string does not fail.
        let _ = write!(mounts, r#", {{"root_path": "/apps/app-{number}"}}"#);
    }
    format!(r#"{{"hsts": true, "security_headers": true, "mounts": [{mounts}]}}"#)
}

/// Returns settings with this number of trusted networks, of which one is the proxy's.
pub(crate) fn with_networks(count: u32) -> String {
    let mut networks = r#""10.1.2.3""#.to_owned();
    for number in 1..count {
        // No two are adjacent, or they would be merged.
        let _ = write!(
            networks,
            r#", "172.16.{}.{}/32""#,
            number >> 7,
            (number & 127) << 1
        );
    }
    format!(
        r#"{{"root_path": "/apps/my-app", "hsts": true, "security_headers": true, "trust_proxy": true,
            "forwarded_allow_ips": [{networks}]}}"#
    )
}

/// The settings in `envoy/plugin-config.json`.
const SHIPPED: &str = r#"{"root_path": "/apps/my-app", "outside_mount": "reject", "hsts": true,
    "security_headers": true, "peer_filter_state_key": "fluxlit.peer"}"#;

const ACCEPT: Header<'_> = (b"accept", b"*/*");
const ENCODING: Header<'_> = (b"accept-encoding", b"gzip, deflate, br, zstd");
const LANGUAGE: Header<'_> = (b"accept-language", b"de-DE,de;q=0.9,en;q=0.8");
const CACHE: Header<'_> = (b"cache-control", b"no-cache");
const SENT_COOKIE: Header<'_> = (
    b"cookie",
    b"_streamlit_xsrf=2|5c2b|a7d0a2d0ffb1|1763900000; theme=dark",
);
const REFERER: Header<'_> = (b"referer", b"https://portal.example.com/apps/my-app/");
const FETCH_MODE: Header<'_> = (b"sec-fetch-mode", b"cors");
const FETCH_SITE: Header<'_> = (b"sec-fetch-site", b"same-origin");
const AGENT: Header<'_> = (
    b"user-agent",
    b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
);
const ID: Header<'_> = (b"x-request-id", b"0b0e8f0e-6d5b-4d4e-9d5e-2f6d3c1c8a11");

const BROWSER: [Header<'_>; 10] = [
    ACCEPT,
    ENCODING,
    LANGUAGE,
    CACHE,
    SENT_COOKIE,
    REFERER,
    FETCH_MODE,
    FETCH_SITE,
    AGENT,
    ID,
];

/// With forged fields.
const FORGED: [Header<'_>; 12] = [
    ACCEPT,
    ENCODING,
    LANGUAGE,
    CACHE,
    SENT_COOKIE,
    REFERER,
    FETCH_MODE,
    FETCH_SITE,
    AGENT,
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-proto", b"http"),
    ID,
];

/// With the fields of a proxy.
const FORWARDED: [Header<'_>; 14] = [
    ACCEPT,
    ENCODING,
    LANGUAGE,
    CACHE,
    SENT_COOKIE,
    REFERER,
    FETCH_MODE,
    FETCH_SITE,
    AGENT,
    (b"x-forwarded-for", b"198.51.100.7"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"portal.example.com"),
    (b"x-real-ip", b"198.51.100.7"),
    ID,
];

const TYPE: Header<'_> = (b"content-type", b"application/json");
const LENGTH: Header<'_> = (b"content-length", b"2");
const COOKIE: Header<'_> = (
    b"set-cookie",
    b"_streamlit_xsrf=2|5c2b|a7d0a2d0ffb1|1763900000; Path=/",
);
