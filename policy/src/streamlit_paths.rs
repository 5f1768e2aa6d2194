//! Recognizes paths of Streamlit with a meaning for proxies.
//!
//! Streamlit's metrics, with the number of sessions and the sizes of caches, need no login.
//!
//! Two further paths receive requests that something in front of Streamlit has spoilt.
//! Streamlit responds to every path that it does not know with its page and status 200.
//!
//! - After an upgrade, a page that a browser has loaded before names scripts that no longer exist. Their URLs return the page,
//!   which the browser refuses as a script, and which a cache may keep under that URL.
//! - A WebSocket handshake whose `Upgrade` was lost in a proxy arrives as a plain GET, and gets the page too.

use crate::header::lines;
use crate::message::Response;
use crate::mount::decode_hex;
use crate::policy::Policy;

/// Returns true if a target without its mount is that of a script or a style sheet of Streamlit: `/static/…` that ends in
/// `.js`, `.mjs` or `.css`.
pub fn is_asset(stripped_target: &[u8]) -> bool {
    let path = path_of(stripped_target);
    path.starts_with(b"/static/")
        && [b".js".as_slice(), b".mjs", b".css"]
            .iter()
            .any(|end| path.ends_with(end))
}

/// Returns true if a target without its mount is that of Streamlit's WebSocket.
pub fn is_stream(stripped_target: &[u8]) -> bool {
    path_of(stripped_target) == b"/_stcore/stream"
}

/// Returns true if a target without its mount is that of Streamlit's metrics, `/_stcore/metrics`.
///
/// Streamlit's server decodes a path before it selects the page, so every spelling that it decodes to this path is one.
/// Empty segments are ignored.
pub fn is_metrics(stripped_target: &[u8]) -> bool {
    let path = decode(path_of(stripped_target));
    let segments = path.split(|octet| *octet == b'/');
    segments
        .filter(|segment| !segment.is_empty())
        .eq([b"_stcore".as_slice(), b"metrics"])
}

impl Policy {
    /// Returns true if the response to a request for an [asset](is_asset) must not be passed on, because it is the page: the
    /// client must get 404 instead. Never with `report_only`.
    pub fn replaces_asset(&self, response: &Response<'_>) -> bool {
        !self.report_only
            && response.status == 200
            && lines(response.headers, b"content-type").any(is_html)
    }
}

fn is_html(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|octet| *octet == b';');
    let (media_type, _) = content_type
        .split_at_checked(end.unwrap_or(content_type.len()))
        .unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"text/html")
}

/// Replaces each percent-encoded octet, as servers do once.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, after @ ..] => decode_hex(*high, *low).map(|octet| (octet, after)),
            _ => None,
        };
        let (octet, after) = escaped.unwrap_or((*first, after));
        decoded.push(octet);
        rest = after;
    }
    decoded
}

fn path_of(target: &[u8]) -> &[u8] {
    target
        .split(|octet| *octet == b'?')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Defaults;

    #[test]
    fn assets_are_scripts_and_style_sheets_of_streamlit() {
        for target in [
            "/static/js/index.B1x.js",
            "/static/css/index.css?v=1",
            "/static/a.mjs",
        ] {
            assert!(is_asset(target.as_bytes()), "{target}");
        }
        for target in [
            "/",
            "/static/",
            "/static/media/font.woff2",
            "/static/a.jsx",
            "/static/page.html",
            "/page?x=/static/a.js",
            "/static/?x=a.js",
            // Files of the app itself.
            "/app/static/a.js",
            "/page/static/a.js",
        ] {
            assert!(!is_asset(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn the_stream_is_one_path() {
        for (target, expected) in [
            ("/_stcore/stream", true),
            ("/_stcore/stream?x", true),
            ("/_stcore/stream/", false),
            ("/_stcore/streams", false),
            ("/x/_stcore/stream", false),
        ] {
            assert_eq!(is_stream(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn the_metrics_are_one_path_in_every_spelling() {
        for (target, expected) in [
            ("/_stcore/metrics", true),
            ("/_stcore/metrics?families=active_sessions", true),
            ("/_stcore/metrics/", true),
            ("/_stcore/%6detrics", true),
            ("/%5Fstcore/metrics", true),
            ("/_stcore%2fmetrics", true),
            ("/_stcore%2F/metrics", true),
            ("//_stcore//metrics", true),
            ("/_stcore/%256detrics", false),
            ("/_stcore/metrics%", false),
            ("/_stcore/metrics%3f", false),
            ("/_stcore/metrics/x", false),
            ("/_stcore/Metrics", false),
            ("/_stcore/metrics.json", false),
            ("/x/_stcore/metrics", false),
            ("/?/_stcore/metrics", false),
            ("/_stcore/health", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(is_metrics(target.as_bytes()), expected, "{target}");
        }
    }

    #[test]
    fn only_a_page_with_status_200_is_replaced() {
        let policy = |settings: &str| {
            let settings = serde_json::from_str(settings).expect("JSON");
            Policy::from_settings(settings, Defaults::GATEWAY).expect("valid")
        };
        let (acts, reports) = (policy("{}"), policy(r#"{"report_only": true}"#));
        for (status, content_type, expected) in [
            (200, "text/html", true),
            (200, "Text/HTML ; charset=utf-8", true),
            (200, "text/javascript", false),
            (200, "text/html5", false),
            (200, "", false),
            (404, "text/html", false),
            (304, "text/html", false),
        ] {
            let headers = [(b"Content-Type".as_slice(), content_type.as_bytes())];
            let response = Response {
                status,
                headers: &headers,
            };
            let found = acts.replaces_asset(&response);
            assert_eq!(found, expected, "{status} {content_type}");
            assert!(!reports.replaces_asset(&response));
        }
        let none = Response {
            status: 200,
            headers: &[],
        };
        assert!(!acts.replaces_asset(&none));
    }
}
