//! Describes one attack: what is sent, and what the upstream must receive.

use fluxlit_cases::{UpstreamRequest, latin1};
use fluxlit_envoy::MOUNT;

use super::http2;
use super::runner::Expected::{self, Forwarded, Rejected};
use super::runner::{Form, Paths, Peer, Protocol};
use super::table::{FORGED_TEXTS, HOST, PROTECTED};

/// A forged request. Texts are Latin-1.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    pub(crate) what: String,
    /// HTTP/1.1: the whole request line.
    pub(crate) request_line: Option<String>,
    pub(crate) target: String,
    pub(crate) hosts: Vec<String>,
    /// Further lines of the head. Over HTTP/2, their fields are sent.
    pub(crate) lines: Vec<String>,
    /// HTTP/1.1: the text after the head.
    pub(crate) body: String,
    /// HTTP/2: fields that replace those of the same name or are added.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) trailers: Vec<String>,
    pub(crate) expected: Expected,
    /// The status of a rejection; `None` if several are allowed.
    pub(crate) status: Option<u16>,
    pub(crate) forwarded: ExpectedRequest,
}

/// The request that the upstream must receive.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedRequest {
    /// `None`: the peer, or the client that the trusted proxy named.
    pub(crate) client: Option<String>,
    /// `None`: the listener's.
    pub(crate) scheme: Option<String>,
    /// The effective host, with its port if the request names one; empty if there is none.
    pub(crate) authority: String,
    /// The received `Host`.
    pub(crate) host: String,
    pub(crate) target: String,
    /// Lines of protected fields that the upstream must receive unchanged.
    pub(crate) passed: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Attack {
    /// Returns an honest request, which must be forwarded.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            request_line: None,
            target: format!("{MOUNT}/x"),
            hosts: vec![HOST.to_owned()],
            lines: Vec::new(),
            body: String::new(),
            fields: Vec::new(),
            trailers: Vec::new(),
            expected: Forwarded,
            status: None,
            forwarded: ExpectedRequest {
                client: None,
                scheme: None,
                authority: HOST.to_owned(),
                host: HOST.to_owned(),
                target: "/x".to_owned(),
                passed: Vec::new(),
                trailers: Vec::new(),
            },
        }
    }

    /// Returns a request with these lines.
    pub(crate) fn lines(
        what: impl Into<String>,
        lines: &[impl AsRef<str>],
        expected: Expected,
    ) -> Self {
        Self {
            lines: lines.iter().map(|line| line.as_ref().to_owned()).collect(),
            expected,
            ..Self::new(what)
        }
    }

    /// Returns a request with a body and these trailers, which must be forwarded.
    pub(crate) fn trailers(what: impl Into<String>, trailers: &[impl AsRef<str>]) -> Self {
        let lines = trailers.iter().map(|line| line.as_ref().to_owned());
        Self {
            trailers: lines.collect(),
            ..Self::new(what)
        }
    }

    /// Returns the same request, which must be rejected.
    pub(crate) fn refused(self) -> Self {
        if self.expected == Rejected {
            return self;
        }
        Self {
            expected: Rejected,
            status: None,
            ..self
        }
    }

    /// Writes the request as HTTP/1.1.
    pub(crate) fn http1(&self, run: usize, peer: Peer, is_handshake: bool) -> Vec<u8> {
        let request_line = self
            .request_line
            .clone()
            .unwrap_or_else(|| format!("GET {} HTTP/1.1", self.target));
        let mut lines = vec![request_line, format!("X-Run: {run}")];
        lines.extend(self.hosts.iter().map(|host| format!("Host: {host}")));
        lines.extend(self.lines.iter().cloned());
        lines.extend(added_by(peer).map(|(name, value)| format!("{name}: {value}")));
        if is_handshake {
            lines.extend(HANDSHAKE.map(str::to_owned));
        }
        let mut body = self.body.clone();
        if !self.trailers.is_empty() {
            lines.push("Transfer-Encoding: chunked".to_owned());
            body = format!("1\r\na\r\n0\r\n{}\r\n\r\n", self.trailers.join("\r\n"));
        }
        latin1::bytes(&format!("{}\r\n\r\n{body}", lines.join("\r\n")))
    }

    /// Returns the HTTP/2 fields of the head and of the trailers.
    pub(crate) fn http2(
        &self,
        form: Form,
        run: usize,
        peer: Peer,
    ) -> (Vec<http2::Field>, Vec<http2::Field>) {
        let mut fields = vec![
            (":method".to_owned(), "GET".to_owned()),
            (":scheme".to_owned(), form.scheme().to_owned()),
        ];
        let hosts = self.hosts.iter().map(|host| (":authority", host));
        fields.extend(hosts.map(|(name, host)| (name.to_owned(), host.clone())));
        fields.push((":path".to_owned(), self.target.clone()));
        fields.push(("x-run".to_owned(), run.to_string()));
        fields.extend(self.lines.iter().map(|line| to_field(line)));
        fields.extend(added_by(peer));
        for (name, value) in &self.fields {
            match fields.iter_mut().find(|(other, _)| other == name) {
                Some((_, old)) => old.clone_from(value),
                // Pseudo-headers come first.
                None if name.starts_with(':') => fields.insert(0, (name.clone(), value.clone())),
                None => fields.push((name.clone(), value.clone())),
            }
        }
        let bytes = |(name, value): (String, String)| (latin1::bytes(&name), latin1::bytes(&value));
        (
            fields.into_iter().map(bytes).collect(),
            self.trailers
                .iter()
                .map(|line| bytes(to_field(line)))
                .collect(),
        )
    }

    /// Returns how the received request differs from the expected one.
    pub(crate) fn mismatches(
        &self,
        form: Form,
        protocol: Protocol,
        peer: Peer,
        received: &UpstreamRequest,
    ) -> Vec<String> {
        let forwarded = &self.forwarded;
        let scheme = match &forwarded.scheme {
            // Envoy overwrites the peer's field before the filter sees it.
            Some(scheme) if form.reads_scheme() && form.trusts(peer) => scheme.as_str(),
            _ => form.scheme(),
        };
        let client = match (&forwarded.client, peer) {
            _ if !form.knows_peers() => {
                // The true address or none.
                let own = peer.address().to_string();
                let has_own = lines_of(&received.headers, "x-forwarded-for").eq([own.as_str()]);
                if has_own { own } else { String::new() }
            }
            (Some(client), _) => client.clone(),
            (None, Peer::Proxy) if form.trusts(peer) => CLIENT.to_owned(),
            (None, _) => peer.address().to_string(),
        };
        let default_port = if scheme == "https" { "443" } else { "80" };
        let port = forwarded
            .authority
            .split_once(':')
            .map_or(default_port, |(_, port)| port);
        let ours = [
            ("x-forwarded-for", client.as_str()),
            ("x-real-ip", client.as_str()),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", forwarded.authority.as_str()),
            ("x-forwarded-port", port),
            ("x-forwarded-prefix", MOUNT),
        ];
        let passed = forwarded
            .passed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let allowed: Vec<(&str, &str)> = ours
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .chain(passed)
            .collect();

        let mut mismatches = Vec::new();
        for (name, value) in &allowed {
            let lines: Vec<&str> = lines_of(&received.headers, name).collect();
            if lines != [*value] {
                mismatches.push(format!("{name} is {lines:?}, not {value:?}"));
            }
        }
        for (name, value) in &received.headers {
            let is_allowed = allowed.iter().any(|(allowed, _)| allowed == name);
            // Envoy's own, of the connection.
            let is_certificate = name == CERTIFICATE && form.names_certificate(value);
            if is_protected(name) && !is_allowed && name != ORIGINAL_PATH && !is_certificate {
                mismatches.push(format!("{name:?}: {value:?} arrived"));
            }
        }
        // The path before the filter removed the mount and merged the slashes after it into one. With the mount, the app
        // receives this path itself.
        let original: Vec<&str> = lines_of(&received.headers, ORIGINAL_PATH).collect();
        let is_true = |path: &str| {
            path.strip_prefix(MOUNT).is_some_and(|rest| {
                format!("/{}", rest.trim_start_matches('/')) == forwarded.target
            })
        };
        let is_right = match original[..] {
            [] => form.keeps_mount(),
            [path] => is_true(path),
            _ => false,
        };
        if !is_right {
            mismatches.push(format!(
                "the original path is {original:?}, and {} arrived",
                forwarded.target
            ));
        }
        let target = if form.keeps_mount() {
            format!("{MOUNT}{}", forwarded.target)
        } else {
            forwarded.target.clone()
        };
        if received.trailers != forwarded.trailers {
            let (got, want) = (&received.trailers, &forwarded.trailers);
            mismatches.push(format!("the trailers are {got:?}, not {want:?}"));
        }
        for (name, value) in &received.headers {
            if name == ORIGINAL_PATH {
                continue;
            }
            if FORGED_TEXTS
                .iter()
                .any(|forged| name.contains(forged) || value.contains(forged))
            {
                mismatches.push(format!("a forged text arrived: {name:?}: {value:?}"));
            }
        }
        // Another proxy after the listener would remove nominated fields, and with them the true values.
        for nominated in lines_of(&received.headers, "connection").flat_map(|line| line.split(','))
        {
            if is_protected(nominated.trim()) {
                mismatches.push(format!("the upstream is told to remove {nominated:?}"));
            }
        }
        let upgrades: Vec<&str> = lines_of(&received.headers, "upgrade").collect();
        let want: &[&str] = if protocol == Protocol::WebSocket {
            &["websocket"]
        } else {
            &[]
        };
        if upgrades != want {
            mismatches.push(format!("the upgrades are {upgrades:?}, not {want:?}"));
        }
        // The filter leaves the slashes after the mount to the app if it leaves the mount, and so does Istio.
        let received_target = match received.target.strip_prefix(MOUNT) {
            Some(rest) if form.keeps_mount() && form.paths() == Paths::Resolved => {
                format!("{MOUNT}/{}", rest.trim_start_matches('/'))
            }
            _ => received.target.clone(),
        };
        for (what, got, want) in [
            ("the method", received.method.as_str(), "GET"),
            ("the target", received_target.as_str(), target.as_str()),
            (
                "the host",
                received.host.as_deref().unwrap_or_default(),
                forwarded.host.as_str(),
            ),
        ] {
            if got != want {
                mismatches.push(format!("{what} is {got:?}, not {want:?}"));
            }
        }
        mismatches
    }
}

/// Returns true if only the filter may set a field of this name, in any spelling.
fn is_protected(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let groups = [
        "x-forwarded-",
        "x-auth-request-",
        "x-ssl-client-",
        "ssl-client-",
    ];
    groups.iter().any(|group| name.starts_with(group))
        || PROTECTED.iter().any(|(protected, _)| *protected == name)
}

pub(crate) fn lines_of<'a>(
    fields: &'a [(String, String)],
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    fields
        .iter()
        .filter(move |(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}

pub(crate) fn to_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").expect("a line is `name: value`");
    (name.to_ascii_lowercase(), value.to_owned())
}

fn added_by(peer: Peer) -> Option<(String, String)> {
    (peer == Peer::Proxy).then(|| ("x-forwarded-for".to_owned(), CLIENT.to_owned()))
}

/// The client of the trusted proxy.
const CLIENT: &str = "198.51.100.7";

const HANDSHAKE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// The field in which Envoy names the certificate of the peer.
pub(crate) const CERTIFICATE: &str = "x-forwarded-client-cert";

/// The field that holds the path as the client sent it.
const ORIGINAL_PATH: &str = "x-envoy-original-path";
