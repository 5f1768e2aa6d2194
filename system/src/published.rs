//! Checks from outside what every front must guarantee for the app of `deploy/images/app`.

use std::net::{IpAddr, SocketAddr};

use fluxlit_support::http1::Response;

use crate::session::Session;
use crate::visitor::Visitor;

/// The app as a front publishes it.
#[derive(Debug)]
pub struct Published {
    /// A browser with the public host name.
    pub visitor: Visitor,
    /// The path of the app, without a slash at its end; empty at the root of the host.
    pub mount: String,
    /// Scheme, host and port of the app's pages.
    pub origin: String,
    /// The address that the app must see; `None` if something in between replaces it.
    pub client: Option<IpAddr>,
    /// Maximum bytes of a request's body.
    pub body_limit: usize,
    /// A name for which `Strict-Transport-Security` is expected over https; it is never sent for an IP address.
    pub name: String,
    /// Where the front redirects http to https.
    pub http: Option<SocketAddr>,
    /// True if the front gives each request of a client an id of its own, as Envoy does by default.
    pub replaces_request_id: bool,
}

/// A check: says what is wrong.
pub type Check = fn(&Published) -> Result<(), String>;

impl Published {
    /// Every check, by the name that tables show.
    pub const CHECKS: [(&str, Check); 10] = [
        ("health", Self::health),
        ("readiness", Self::readiness),
        ("page", Self::page),
        ("WebSocket", Self::web_socket),
        ("upload", Self::upload),
        ("request id", Self::request_id),
        ("413", Self::too_large),
        ("forged headers", Self::forged_headers),
        ("Location, cookie", Self::redirect_and_cookie),
        ("HSTS", Self::hsts),
    ];

    /// The gateway is alive.
    fn health(&self) -> Result<(), String> {
        let response = self.get("/api/healthz", "")?;
        expect(response.text() == r#"{"status":"ok"}"#, &response)
    }

    /// The gateway, Streamlit and the API are ready.
    ///
    /// # Errors
    ///
    /// If there is no response with status 200.
    pub fn readiness(&self) -> Result<(), String> {
        let response = self.get("/api/readyz", "")?;
        expect(response.status == 200, &response)
    }

    fn page(&self) -> Result<(), String> {
        let response = self.get("/", "")?;
        let is_page = response.text().contains("<title>Streamlit</title>");
        expect(response.status == 200 && is_page, &response)
    }

    /// The page of the app may open a WebSocket and gets its first message; the page of another site may not.
    fn web_socket(&self) -> Result<(), String> {
        let path = self.path("/_stcore/stream");
        let open = |origin: &str| {
            let opened = self.visitor.socket(&path, origin);
            opened.map_err(|error| error.to_string())
        };
        let (response, _) = open("https://forged.example")?;
        expect(response.status == 403, &response)?;
        let (response, connection) = open(&self.origin)?;
        expect(response.status == 101, &response)?;
        let session = Session::begin(connection);
        session
            .map(|_| ())
            .map_err(|error| format!("no first message: {error}"))
    }

    /// More than the default limit of nginx arrives.
    fn upload(&self) -> Result<(), String> {
        let size = self.body_limit.min(2_000_000);
        let response = self
            .visitor
            .post(&self.path("/api/upload"), size, true)
            .map_err(|error| error.to_string())?;
        let is_received = response.text().contains(&format!(r#""size":{size}"#));
        expect(response.status == 200 && is_received, &response)
    }

    /// The id of a request reaches the app and is returned.
    fn request_id(&self) -> Result<(), String> {
        let sent = "a-request-of-this-test";
        let response = self.get("/api/request-id", &format!("X-Request-ID: {sent}\r\n"))?;
        let [returned] = response.values("x-request-id")[..] else {
            return expect(false, &response);
        };
        let is_of_client = returned == sent;
        let has_arrived = response.text().contains(&format!(r#""{returned}""#));
        expect(
            has_arrived && is_of_client != self.replaces_request_id,
            &response,
        )
    }

    fn too_large(&self) -> Result<(), String> {
        let response = self
            .visitor
            .post(&self.path("/api/upload"), self.body_limit + 1, false)
            .map_err(|error| error.to_string())?;
        expect(response.status == 413, &response)
    }

    /// What a client says about itself does not arrive, and what is true does.
    fn forged_headers(&self) -> Result<(), String> {
        let response = self.get("/api/received", FORGED)?;
        let text = response.text();
        let mut expected = vec![format!(r#"["x-forwarded-proto","{}"]"#, self.scheme())];
        if let Some(client) = self.client {
            expected.push(format!(r#"["x-forwarded-for","{client}"]"#));
        }
        let is_true = expected.iter().all(|field| text.contains(field));
        expect(
            response.status == 200 && is_true && !is_forged(&text),
            &response,
        )?;
        // Many servers read an underscore as a hyphen. Some fronts reject such names.
        let response = self.get("/api/received", FORGED_WITH_UNDERSCORES)?;
        let is_rejected = response.status == 400;
        let has_passed = response.status == 200 && !is_forged(&response.text());
        expect(is_rejected || has_passed, &response)
    }

    fn redirect_and_cookie(&self) -> Result<(), String> {
        let response = self.get("/api/login", "")?;
        let location = response.values("location").concat();
        let cookie = response.values("set-cookie").concat();
        let path = self.path("/api/smoke");
        let is_below = (location == path || location == format!("{}{path}", self.origin))
            && cookie.contains(&format!("Path={};", self.path("/api")));
        expect(response.status == 302 && is_below, &response)
    }

    /// Once over https, and never for an IP address or over http.
    fn hsts(&self) -> Result<(), String> {
        let named = Visitor {
            host: self.name.clone(),
            ..self.visitor.clone()
        };
        let wanted = usize::from(self.visitor.trusted.is_some());
        for below in ["/", "/api/readyz", "/api/missing"] {
            let response = get(&named, &self.path(below), "")?;
            expect(response.values(HSTS).len() == wanted, &response)?;
        }
        // A front that does not know a path may respond without the header.
        let outside = get(&named, "/outside/of/the/mount", "")?;
        expect(outside.values(HSTS).len() <= wanted, &outside)?;
        if self
            .visitor
            .host
            .starts_with(|first: char| first.is_ascii_digit())
        {
            let response = self.get("/api/readyz", "")?;
            expect(response.values(HSTS).is_empty(), &response)?;
        }
        let Some(front) = self.http else {
            return Ok(());
        };
        let plain = Visitor {
            front,
            trusted: None,
            ..self.visitor.clone()
        };
        let response = get(&plain, &self.path("/"), "")?;
        let location = response.values("location").concat();
        let is_redirect = matches!(response.status, 301 | 308)
            && location == format!("{}{}", self.origin, self.path("/"));
        expect(is_redirect && response.values(HSTS).is_empty(), &response)
    }

    /// Returns a path of the app as browsers request it.
    #[must_use]
    pub fn path(&self, below: &str) -> String {
        format!("{}{below}", self.mount)
    }

    /// Requests a path of the app with further fields; each ends with a line break.
    ///
    /// # Errors
    ///
    /// If there is no complete response.
    pub fn get(&self, below: &str, fields: &str) -> Result<Response, String> {
        get(&self.visitor, &self.path(below), fields)
    }

    fn scheme(&self) -> &'static str {
        match self.visitor.trusted {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// Returns the response as an error unless `holds`.
///
/// # Errors
///
/// Head and beginning of the response.
pub fn expect(holds: bool, response: &Response) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    let head = response.head.lines.join("\n");
    let text: String = response.text().chars().take(SHOWN).collect();
    Err(format!("{head}\n\n{text}"))
}

fn get(visitor: &Visitor, path: &str, fields: &str) -> Result<Response, String> {
    visitor
        .get(path, fields)
        .map_err(|error| format!("{path}: {error}"))
}

/// Returns true if a text has a value that only [`FORGED`] has.
fn is_forged(text: &str) -> bool {
    text.contains("203.0.113.66") || text.contains("forged.example")
}

/// The longest quotation of a response's content, in characters.
const SHOWN: usize = 500;

const HSTS: &str = "strict-transport-security";

const FORGED: &str = "X-Forwarded-For: 203.0.113.66\r\n\
    X-Forwarded-Host: forged.example\r\n\
    X-Forwarded-Proto: forged.example\r\n\
    X-Forwarded-Port: forged.example\r\n\
    X-Forwarded-Prefix: /forged.example\r\n\
    Forwarded: for=203.0.113.66;host=forged.example;proto=ftp\r\n\
    X-Real-IP: 203.0.113.66\r\n\
    X-Forwarded-User: root@forged.example\r\n\
    X-Forwarded-Email: root@forged.example\r\n\
    X-Remote-User: root@forged.example\r\n\
    Remote-User: root@forged.example\r\n\
    X-Auth-Request-Email: root@forged.example\r\n\
    X-Auth-Email: root@forged.example\r\n";

const FORGED_WITH_UNDERSCORES: &str = "X_Forwarded_For: 203.0.113.66\r\n\
    X_Forwarded_Host: forged.example\r\n\
    X_Remote_User: root@forged.example\r\n\
    X_Auth_Email: root@forged.example\r\n";
