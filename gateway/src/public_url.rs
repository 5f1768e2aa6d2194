//! Builds the URLs under which browsers reach an app: its pages, its API and its WebSocket.
//!
//! The rules are those of FluxLit's URL helpers. `public_base_url` names scheme, host and, if it has a path, the path of the
//! app; without a path, the mount follows it. If it is not set, scheme and host are those that the client used, and the mount
//! follows. A URL of the app has no slash at its end, except for the first page.
//!
//! A difference is intended: what a URL cannot contain is percent-encoded, and a page that would lead out of the app is an
//! error. `gateway/tests/public_urls.json` compares both.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use url::{Url, form_urlencoded};

/// The URLs of one app.
///
/// # Examples
///
/// ```
/// use fluxlit_gateway::PublicUrls;
///
/// let urls = PublicUrls::new("https://portal.example.com", "/apps/my-app", "/api")?;
/// assert_eq!(urls.app(), "https://portal.example.com/apps/my-app");
/// assert_eq!(urls.docs(), "https://portal.example.com/apps/my-app/api/docs");
/// assert_eq!(urls.websocket(), "wss://portal.example.com/apps/my-app/_stcore/stream");
/// let query = [("year", "2026")];
/// assert_eq!(
///     urls.page("/Sales report", query)?,
///     "https://portal.example.com/apps/my-app/Sales%20report?year=2026"
/// );
/// # Ok::<(), fluxlit_gateway::PublicUrlError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrls {
    /// Without a slash at its end.
    app: String,
    /// The same with the scheme of a WebSocket.
    socket_base: String,
    /// The path of the API below the app, with a leading slash.
    api_path: String,
}

/// All URLs of an app, with FluxLit's names where FluxLit has the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicUrlTable {
    /// The app, without a slash at the end.
    pub app: String,
    /// The API.
    pub api: String,
    /// The interactive documentation of the API.
    pub docs: String,
    /// Its other documentation.
    pub redoc: String,
    /// The description of the API in the format of OpenAPI.
    pub openapi: String,
    /// Whether the gateway runs.
    pub health: String,
    /// Whether the app can receive requests.
    pub ready: String,
    /// Streamlit's WebSocket.
    pub websocket: String,
}

/// The error when a URL cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicUrlError {
    /// The base is no URL that an app can have.
    #[error(
        "`{base}` is not the URL of an app: use http:// or https:// with a host and an optional path, such as https://portal.example.com/apps/my-app, without user, query and fragment"
    )]
    Base {
        /// The base as written, without user and password.
        base: String,
    },
    /// The path leads out of the app.
    #[error(
        "`{path}` is not a path below the app: it has a segment `.` or `..`, which browsers resolve; write the path without it"
    )]
    DotSegment {
        /// The path as written.
        path: String,
    },
}

impl PublicUrls {
    /// Returns the URLs of an app.
    ///
    /// `base`: `public_base_url`, or the scheme and the host that the client used. `mount`: the path of the app if `base` has
    /// none; empty if there is no mount. `api_path`: the path of the API below the app, such as `/api`.
    ///
    /// # Errors
    ///
    /// [`PublicUrlError::Base`] if `base` is not an http or https URL, or has a user, a query or a fragment.
    pub fn new(base: &str, mount: &str, api_path: &str) -> Result<Self, PublicUrlError> {
        let invalid = || PublicUrlError::Base {
            base: without_credentials(base),
        };
        // The parser accepts `https:/host`.
        let has_authority = base.trim().contains("://");
        let url = Url::parse(base.trim()).map_err(|_| invalid())?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let socket_scheme = match url.scheme() {
            "http" => "ws",
            "https" => "wss",
            _ => return Err(invalid()),
        };
        if !(has_authority && is_plain) {
            return Err(invalid());
        }
        let path = match url.path().trim_end_matches('/') {
            "" => with_leading_slash(mount.trim().trim_end_matches('/')),
            path => path.to_owned(),
        };
        let authority = url.authority();
        Ok(Self {
            app: format!("{}://{authority}{path}", url.scheme()),
            socket_base: format!("{socket_scheme}://{authority}{path}"),
            api_path: with_leading_slash(api_path.trim().trim_end_matches('/')),
        })
    }

    /// Returns the URL of the app, without a slash at its end.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Returns the URL of the API.
    pub fn api(&self) -> String {
        self.below_api("")
    }

    /// Returns the URL of the interactive documentation of the API.
    pub fn docs(&self) -> String {
        self.below_api("/docs")
    }

    /// Returns the URL of Streamlit's WebSocket.
    pub fn websocket(&self) -> String {
        format!("{}/_stcore/stream", self.socket_base)
    }

    /// Returns the URL of a page. `path`: the page as in a URL, such as `/reports`; what a URL cannot contain is
    /// percent-encoded, escapes stay. `query`: names and values, which are encoded.
    ///
    /// # Errors
    ///
    /// [`PublicUrlError::DotSegment`] if the path has a segment `.` or `..`.
    pub fn page<'q>(
        &self,
        path: &str,
        query: impl IntoIterator<Item = (&'q str, &'q str)>,
    ) -> Result<String, PublicUrlError> {
        below(&self.app, path, query)
    }

    /// Returns the URL of a path of the API; see [`PublicUrls::page`].
    ///
    /// # Errors
    ///
    /// [`PublicUrlError::DotSegment`] if the path has a segment `.` or `..`.
    pub fn api_path<'q>(
        &self,
        path: &str,
        query: impl IntoIterator<Item = (&'q str, &'q str)>,
    ) -> Result<String, PublicUrlError> {
        below(&self.api(), path, query)
    }

    /// Returns all URLs that do not depend on a path.
    pub fn table(&self) -> PublicUrlTable {
        PublicUrlTable {
            app: self.app.clone(),
            api: self.api(),
            docs: self.docs(),
            redoc: self.below_api("/redoc"),
            openapi: self.below_api("/openapi.json"),
            health: self.below_api("/healthz"),
            ready: self.below_api("/readyz"),
            websocket: self.websocket(),
        }
    }

    fn below_api(&self, path: &str) -> String {
        format!("{}{}{path}", self.app, self.api_path)
    }
}

fn below<'q>(
    base: &str,
    path: &str,
    query: impl IntoIterator<Item = (&'q str, &'q str)>,
) -> Result<String, PublicUrlError> {
    let is_dots = |segment: &str| {
        let decoded = percent_decode_str(segment).collect::<Vec<u8>>();
        matches!(decoded.as_slice(), b"." | b"..")
    };
    // Browsers read a backslash in a path as a slash.
    if path.split(['/', '\\']).any(is_dots) {
        return Err(PublicUrlError::DotSegment {
            path: path.to_owned(),
        });
    }
    let mut url = format!("{base}{}", encode_path(&with_leading_slash(path)));
    if path.is_empty() {
        url.push('/');
    }
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query);
    let query = pairs.finish();
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query);
    }
    Ok(url)
}

/// Encodes what a path cannot contain, RFC 3986 §3.3. An escape stays, a lone `%` does not.
fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for (index, part) in path.split('%').enumerate() {
        if index > 0 {
            let is_escape = part
                .get(..2)
                .is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            encoded.push_str(if is_escape { "%" } else { "%25" });
        }
        encoded.extend(utf8_percent_encode(part, NOT_IN_PATH));
    }
    encoded
}

/// Adds a slash in front of text that is not empty and has none.
fn with_leading_slash(path: &str) -> String {
    match path {
        "" => String::new(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}

/// The ASCII characters that RFC 3986 does not allow in a path, except for `%`.
const NOT_IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Returns a text without user and password in its URLs.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', '?', '#', ',', ' ']).unwrap_or(part.len());
        let (authority, rest) = part.split_at_checked(end).unwrap_or((part, ""));
        redacted.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => redacted.extend([REDACTED, "@", host]),
            None => redacted.push_str(authority),
        }
        redacted.push_str(rest);
    }
    redacted
}

/// Stands for what is not shown.
pub(crate) const REDACTED: &str = "[REDACTED]";

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A row of the table in `tests/public_urls.json`.
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        name: String,
        /// What is configured, or the scheme and host that the client used.
        public_base_url: Option<String>,
        scheme: String,
        host: String,
        mount: String,
        api_path: String,
        pages: Vec<Page>,
        /// The results of FluxLit.
        fluxlit: Results,
        /// Ours, if they differ.
        ours: Option<Results>,
        /// Why they differ.
        why: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        path: String,
        query: Vec<(String, String)>,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Results {
        app: String,
        api: String,
        docs: String,
        redoc: String,
        openapi: String,
        health: String,
        ready: String,
        pages: Vec<String>,
    }

    fn results(row: &Row) -> Result<Results, PublicUrlError> {
        let effective = format!("{}://{}", row.scheme, row.host);
        let base = row.public_base_url.as_deref().unwrap_or(&effective);
        let urls = PublicUrls::new(base, &row.mount, &row.api_path)?;
        let pages = row.pages.iter().map(|page| {
            let query = page.query.iter();
            urls.page(
                &page.path,
                query.map(|(name, value)| (name.as_str(), value.as_str())),
            )
            .unwrap_or_else(|error| format!("error: {error}"))
        });
        let pages = pages.collect();
        let PublicUrlTable {
            app,
            api,
            docs,
            redoc,
            openapi,
            health,
            ready,
            websocket: _,
        } = urls.table();
        Ok(Results {
            app,
            api,
            docs,
            redoc,
            openapi,
            health,
            ready,
            pages,
        })
    }

    #[test]
    fn the_urls_are_fluxlit_s_or_differ_for_a_reason() {
        let rows: Vec<Row> =
            serde_json::from_str(include_str!("../tests/public_urls.json")).expect("rows");
        assert!(rows.len() > 10);
        for row in rows {
            let expected = row.ours.as_ref().unwrap_or(&row.fluxlit);
            assert_eq!(&results(&row).expect(&row.name), expected, "{}", row.name);
            let differs = row.ours.as_ref().is_some_and(|ours| *ours != row.fluxlit);
            let is_explained = row.why.is_some();
            assert_eq!(differs, row.ours.is_some(), "{}", row.name);
            assert_eq!(differs, is_explained, "{}", row.name);
        }
    }

    #[test]
    fn a_websocket_has_the_scheme_of_its_page() {
        for (base, mount, expected) in [
            (
                "http://localhost:8000",
                "",
                "ws://localhost:8000/_stcore/stream",
            ),
            (
                "https://h.example/",
                "/a",
                "wss://h.example/a/_stcore/stream",
            ),
            (
                "https://[2001:db8::1]:8443/b/",
                "/a",
                "wss://[2001:db8::1]:8443/b/_stcore/stream",
            ),
        ] {
            let urls = PublicUrls::new(base, mount, "/api").expect(base);
            assert_eq!(urls.websocket(), expected);
        }
    }

    #[test]
    fn a_path_of_the_api_is_below_the_api() {
        let urls = PublicUrls::new("https://h.example", "/a", "/v1/api/").expect("a URL");
        assert_eq!(
            urls.api_path("items/é", []).as_deref(),
            Ok("https://h.example/a/v1/api/items/%C3%A9")
        );
        assert_eq!(urls.api(), "https://h.example/a/v1/api");
    }

    #[test]
    fn a_base_that_is_no_url_of_an_app_is_an_error() {
        for base in [
            "",
            "portal.example.com",
            "//portal.example.com",
            "ftp://portal.example.com",
            "https:/portal.example.com",
            "https://",
            "https://portal.example.com/?a",
            "https://portal.example.com/#a",
            "javascript://portal.example.com/%0aalert(1)",
        ] {
            let error = PublicUrls::new(base, "", "/api").expect_err(base);
            assert!(
                error.to_string().starts_with(&format!("`{base}` ")),
                "{error}"
            );
        }
        for user in ["me", ":hunter2", "me:hunter2"] {
            let base = format!("https://{user}@portal.example.com");
            let error = PublicUrls::new(&base, "", "/api").expect_err(&base);
            let wanted = "`https://[REDACTED]@portal.example.com` ";
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn a_page_cannot_lead_out_of_the_app() {
        let urls = PublicUrls::new("https://h.example", "/a", "/api").expect("a URL");
        for path in [
            "..",
            "/../b",
            "/x/./y",
            "/%2e%2E/b",
            "/.%2e",
            "\\..\\b",
            "/x/..",
        ] {
            let error = urls.page(path, []).expect_err(path);
            assert!(matches!(error, PublicUrlError::DotSegment { .. }), "{path}");
        }
        for (path, expected) in [
            ("/..b/.c", "https://h.example/a/..b/.c"),
            ("//evil.example", "https://h.example/a//evil.example"),
            ("/%2F..%2Fb", "https://h.example/a/%2F..%2Fb"),
            ("/a\r\nb", "https://h.example/a/a%0D%0Ab"),
            ("/100%", "https://h.example/a/100%25"),
            ("/%zz%2", "https://h.example/a/%25zz%252"),
            ("/%é", "https://h.example/a/%25%C3%A9"),
        ] {
            assert_eq!(urls.page(path, []).as_deref(), Ok(expected), "{path}");
        }
    }
}
