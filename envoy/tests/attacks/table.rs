//! Lists the attacks.

use super::runner::Expected::{self, Forwarded, Rejected};

/// A name and a value.
pub(crate) type Pair = (&'static str, &'static str);

pub(crate) const HOST: &str = "app.example.test";

/// Every field from which some framework reads the client, scheme, host, port, path or user, with a forged value. Of each
/// group of names with a common prefix: the members that frameworks are known to read, and one that is unknown.
pub(crate) const PROTECTED: &[Pair] = &[
    // Forwarding.
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "666"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-server", "evil.example"),
    ("x-forwarded-scheme", "https"),
    ("x-forwarded-protocol", "https"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-by", "6.6.6.6"),
    ("x-forwarded-path", "/evil"),
    ("x-forwarded-uri", "/evil"),
    ("x-forwarded-method", "EVIL"),
    ("x-forwarded-client-cert", "By=evil;Subject=\"CN=evil\""),
    ("x-forwarded-unknown", "evil"),
    ("forwarded", "for=6.6.6.6;host=evil.example;proto=https"),
    ("x-real-ip", "6.6.6.6"),
    // The client's address.
    ("x-client-ip", "6.6.6.6"),
    ("client-ip", "6.6.6.6"),
    ("x-cluster-client-ip", "6.6.6.6"),
    ("true-client-ip", "6.6.6.6"),
    ("cf-connecting-ip", "6.6.6.6"),
    ("cf-connecting-ipv6", "2001:db8::666"),
    ("cf-pseudo-ipv4", "6.6.6.6"),
    ("fastly-client-ip", "6.6.6.6"),
    ("fly-client-ip", "6.6.6.6"),
    ("x-azure-clientip", "6.6.6.6"),
    ("x-azure-socketip", "6.6.6.6"),
    ("x-appengine-user-ip", "6.6.6.6"),
    ("x-originating-ip", "6.6.6.6"),
    ("x-remote-ip", "6.6.6.6"),
    ("x-remote-addr", "6.6.6.6"),
    ("x-proxyuser-ip", "6.6.6.6"),
    ("x-original-forwarded-for", "6.6.6.6"),
    ("x-original-for", "6.6.6.6"),
    ("x-envoy-external-address", "6.6.6.6"),
    ("x-forwarded", "6.6.6.6"),
    ("forwarded-for", "6.6.6.6"),
    ("wl-proxy-client-ip", "6.6.6.6"),
    ("cloudfront-viewer-address", "6.6.6.6"),
    ("x-vercel-forwarded-for", "6.6.6.6"),
    ("x-nf-client-connection-ip", "6.6.6.6"),
    // The scheme.
    ("front-end-https", "on"),
    ("x-url-scheme", "https"),
    ("x-scheme", "https"),
    ("x-proxied-https", "on"),
    ("x-original-proto", "https"),
    ("cloudfront-forwarded-proto", "https"),
    ("wl-proxy-ssl", "https"),
    ("x-arr-ssl", "https"),
    ("cf-visitor", "{\"scheme\":\"https\"}"),
    ("https", "https"),
    ("x-proto", "https"),
    // The host.
    ("x-host", "evil.example"),
    ("x-original-host", "evil.example"),
    ("x-http-host-override", "evil.example"),
    // The path and the method.
    ("x-original-url", "/evil"),
    ("x-original-uri", "/evil"),
    ("x-original-method", "EVIL"),
    ("x-original-path", "/evil"),
    ("x-rewrite-url", "/evil"),
    ("x-envoy-original-path", "/evil"),
    ("x-script-name", "/evil"),
    ("script-name", "/evil"),
    ("path-info", "/evil"),
    ("x-ingress-path", "/evil"),
    ("x-original-prefix", "/evil"),
    // The user.
    ("remote-user", "evil"),
    ("x-remote-user", "evil"),
    ("x-auth-request-user", "evil"),
    ("x-auth-request-email", "evil@evil.example"),
    ("x-auth-request-what-nobody-knows", "evil"),
    ("x-ssl-client-cert", "evil"),
    ("x-ssl-client-verify", "EVIL"),
    ("ssl-client-s-dn", "CN=evil"),
    ("ssl-client-what-nobody-knows", "evil"),
    ("x-client-cert", "evil"),
    ("x-forwarded-user", "evil"),
    ("x-forwarded-email", "evil@evil.example"),
    ("x-forwarded-groups", "evil"),
    ("x-forwarded-preferred-username", "evil"),
    ("x-forwarded-access-token", "evil"),
    ("x-forwarded-tls-client-cert", "evil"),
    ("x-forwarded-tls-client-cert-info", "evil"),
    // CGI.
    ("proxy", "http://evil.example"),
];

/// Fields that are trusted if a trusted peer sends one line of them. The peer itself must set or remove them.
pub(crate) const TRUSTED_FIELDS: &[&str] =
    &["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"];

/// Texts that only an attacker writes.
pub(crate) const FORGED_TEXTS: &[&str] = &["6.6.6.6", "::666", "evil"];

/// Lines that are sent together. Each of these requests must be forwarded, with the true values only.
#[rustfmt::skip]
pub(crate) const LINES: &[(&str, &[&str])] = &[
    (
        "repeated lines",
        &[
            "X-Forwarded-For: 6.6.6.6",
            "X-Real-IP: 6.6.6.6",
            "X-Forwarded-For: 6.6.6.66",
            "X-Real-IP: 6.6.6.66",
            "Forwarded: for=6.6.6.6",
            "Forwarded: for=6.6.6.66",
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Prefix: /eviler",
        ],
    ),
    (
        "lists with commas",
        &[
            "X-Forwarded-For: 6.6.6.6, 6.6.6.66,6.6.6.67 ,",
            "X-Real-IP: 6.6.6.6, 6.6.6.66",
            "True-Client-IP: 6.6.6.6,6.6.6.66",
            "X-Forwarded-Prefix: /evil,/eviler",
        ],
    ),
    (
        "the address of a trusted peer",
        &["X-Forwarded-For: 6.6.6.6, 127.0.0.1", "X-Real-IP: 127.0.0.1"],
    ),
    (
        "our own lines, as they would be",
        &["X-Forwarded-For: 127.0.0.9", "X-Real-IP: 127.0.0.9", "X-Forwarded-Prefix: /apps/my-app"],
    ),
    ("an empty line", &["X-Forwarded-For: ", "X-Real-IP: ", "Forwarded: "]),
    (
        "no address",
        &["X-Forwarded-For: evil, [::, unknown, _evil, 6.6.6.6:666:6, \"6.6.6.6\"", "X-Real-IP: evil"],
    ),
    (
        "a quote that does not end",
        &["Forwarded: for=\"6.6.6.6", "Forwarded: by=evil\", for=6.6.6.66;;;=,"],
    ),
    (
        "bytes that are not UTF-8",
        &[
            "X-Forwarded-For: \u{80}\u{ff}6.6.6.6\u{c3}\u{28}",
            "X-Real-IP: \u{ff}",
            "Forwarded: for=\u{fe}\u{ed}",
            "X-Auth-Request-User: evil\u{e9}",
            "X-Forwarded-Prefix: /\u{c0}\u{af}evil",
        ],
    ),
    (
        "a WebSocket's own fields",
        &["Origin: https://other.example", "Sec-WebSocket-Protocol: streamlit, x", "X-Forwarded-For: 6.6.6.6"],
    ),
];

/// Lines that only HTTP/1.1 can carry, and the expected result of a plain request and of a handshake with them. Envoy
/// rejects nominations of fields that it writes itself, but not in a handshake.
#[rustfmt::skip]
pub(crate) const HTTP1_LINES: &[(&str, &[&str], Expected, Expected)] = &[
    ("a nomination of X-Real-IP", &["Connection: X-Real-IP", "X-Real-IP: 6.6.6.6"], Forwarded, Forwarded),
    ("nominations of what we write", &["Connection: x-forwarded-port, X-REAL-IP,x-forwarded-prefix"], Forwarded, Forwarded),
    ("a nomination with underscores", &["Connection: x_forwarded_for, X_Real_IP"], Forwarded, Forwarded),
    ("a nomination of X-Forwarded-For", &["Connection: X-Forwarded-For", "X-Forwarded-For: 6.6.6.6"], Rejected, Forwarded),
    ("nominations of the others", &["Connection: X-Forwarded-Proto, X-Forwarded-Host"], Rejected, Forwarded),
    ("nominations beside TE", &["Connection: TE, X-Forwarded-For, X-Real-IP", "TE: trailers"], Rejected, Forwarded),
    ("nominations of the target", &["Connection: Host, :authority, :path, :method"], Rejected, Forwarded),
    ("Keep-Alive and Proxy-Connection", &["Keep-Alive: 6", "Proxy-Connection: X-Real-IP"], Forwarded, Forwarded),
    ("an upgrade to HTTP/2", &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"], Forwarded, Rejected),
    // Envoy reads a folded value as one line, drops a bare carriage return, and takes a bare line feed as an end of line.
    // The filter gets the result.
    ("a folded line", &["X-A: b", " X-Forwarded-For: 192.0.2.6"], Forwarded, Forwarded),
    ("a folded value", &["X-Forwarded-For:\r\n\t6.6.6.6", "X-Real-IP:\r\n 6.6.6.6"], Forwarded, Forwarded),
    ("a carriage return alone", &["X-A: b\rX-Forwarded-For: 192.0.2.6"], Forwarded, Forwarded),
    ("a line feed alone", &["X-A: b\nX-Forwarded-For: 6.6.6.6\nX-Real-IP: 6.6.6.6"], Forwarded, Forwarded),
    ("a space before the colon", &["X-Forwarded-For : 6.6.6.6"], Rejected, Rejected),
    ("a tab before the colon", &["X-Forwarded-For\t: 6.6.6.6"], Rejected, Rejected),
    ("a space in the name", &["X Forwarded For: 6.6.6.6"], Rejected, Rejected),
    ("a zero in the value", &["X-A: b\0X-Forwarded-For: 6.6.6.6"], Rejected, Rejected),
    ("a zero in the name", &["X-Forwarded-For\0: 6.6.6.6"], Rejected, Rejected),
    ("a byte above ASCII in the name", &["X-Forwarded-For\u{e9}: 6.6.6.6"], Rejected, Rejected),
    ("a line without a colon", &["X-Forwarded-For 6.6.6.6"], Rejected, Rejected),
    ("a line without a name", &[": 6.6.6.6"], Rejected, Rejected),
];

/// Targets, the result of the shipped listener, and the result of the filter alone: a status, or the path that the
/// upstream must receive.
#[rustfmt::skip]
pub(crate) const TARGETS: &[(&str, &str, &str)] = &[
    // Leaving the mount, and entering it.
    ("/", "404", "404"),
    ("/apps/my-application/x", "404", "404"),
    ("/APPS/MY-APP/x", "404", "404"),
    ("/apps/my-app/../x", "404", "400"),
    ("/apps/my-app/%2e%2e/x", "404", "400"),
    ("/apps/my-app/.%2E/x", "404", "400"),
    ("/apps/my-app/..;/x", "404", "400"),
    ("/apps/my-app/..;a=b/x", "404", "400"),
    ("/apps/my-app/%252e%252e/x", "400", "400"),
    ("/apps/my-app/%25%32%65%25%32%65/x", "400", "400"),
    ("/apps/my-app/..%2fx", "400", "400"),
    ("/apps/my-app/..%5cx", "400", "400"),
    ("/apps/my-app/..%252fx", "400", "400"),
    ("/apps/my-app/..\\x", "404", "400"),
    ("/apps/my-app/./x", "/x", "400"),
    ("/x/../apps/my-app/x", "/x", "400"),
    ("/../../apps/my-app/x", "/x", "400"),
    ("/apps%2fmy-app/x", "400", "404"),
    ("/apps\\my-app/x", "/x", "400"),
    ("/apps/my-app;a=b/x", "404", "404"),
    // To another host.
    ("//evil.example/apps/my-app/x", "404", "404"),
    ("//apps/my-app/x", "/x", "404"),
    ("/apps/my-app//evil.example/x", "/evil.example/x", "/evil.example/x"),
    ("/apps/my-app////evil.example", "/evil.example", "/evil.example"),
    ("/apps/my-app/\\evil.example", "/evil.example", "400"),
    ("/apps/my-app/%2fevil.example", "400", "/%2fevil.example"),
    ("/apps/my-app/%5cevil.example", "400", "/%5cevil.example"),
    ("/apps/my-app/%252fevil.example", "/%252fevil.example", "/%252fevil.example"),
    // Smuggled requests.
    ("/apps/my-app/x%00", "400", "400"),
    ("/apps/my-app/x%0d%0aX-Forwarded-For:%206.6.6.6", "400", "400"),
    ("/apps/my-app/x%zz", "400", "400"),
    ("/apps/my-app/x%", "400", "400"),
    ("/apps/my-app/x%250a", "/x%250a", "/x%250a"),
    ("/apps/my-app/x#y", "400", "400"),
    ("/apps/my-app/x y", "400", "400"),
    ("/apps/my-app/x?next=//evil.example/../%2e%2e/\\", "/x?next=//evil.example/../%2e%2e/\\", "/x?next=//evil.example/../%2e%2e/\\"),
    ("apps/my-app/x", "400", "400"),
    ("?/apps/my-app/x", "400", "400"),
];

/// Targets that only HTTP/2 can carry. Envoy escapes bytes of a path that are not ASCII.
#[rustfmt::skip]
pub(crate) const HTTP2_TARGETS: &[(&str, &str, &str)] = &[
    ("/apps/my-app/\u{e9}", "/%E9", "400"),
    ("/apps/my-app/\u{ff}\u{c0}\u{af}..", "/%FF%C0%AF..", "400"),
    ("/apps/my-app/\u{c0}\u{ae}\u{c0}\u{ae}/x", "/%C0%AE%C0%AE/x", "400"),
    ("/apps/my-app/x?\u{ff}", "400", "400"),
];

/// `Host` lines or `:authority`, and the true host; `None` if the request must be rejected.
#[rustfmt::skip]
pub(crate) const HOSTS: &[(&[&str], Option<&str>)] = &[
    (&["APP.Example.Test"], Some(HOST)),
    (&["app.example.test:8443"], Some("app.example.test:8443")),
    (&[], None),
    (&["evil@app.example.test"], None),
    (&["app.example.test:80@evil.example"], None),
    (&["app.example.test,evil.example"], None),
    (&["app.example.test evil.example"], None),
    (&["app.example.test/evil"], None),
    (&["app.example.test?evil"], None),
    (&["app.example.test#evil"], None),
    (&["app.example.test\\evil"], None),
    (&["app.example.test:evil"], None),
    (&["app.example.test:666666"], None),
    (&["app.example.test%00.evil.example"], None),
    (&["app.example.test\u{ff}"], None),
    (&["[::1"], None),
    (&["[evil]"], None),
    (&["app.example.test", "evil.example"], None),
    (&["app.example.test", "app.example.test"], None),
];

/// Request lines that only HTTP/1.1 can carry.
#[rustfmt::skip]
pub(crate) const REQUEST_LINES: &[(&str, Expected)] = &[
    ("GET ftp://evil.example/apps/my-app/x HTTP/1.1", Rejected),
    ("GET http://other.example/apps/my-app/../x HTTP/1.1", Rejected),
    ("GET http:///apps/my-app/x HTTP/1.1", Rejected),
    ("GET http:/apps/my-app/x HTTP/1.1", Rejected),
    ("GET /apps/my-app/x HTTP/1.0", Rejected),
    ("GET /apps/my-app/x HTTP/3.0", Rejected),
    ("GET /apps/my-app/x", Rejected),
    ("GET  /apps/my-app/x HTTP/1.1 evil", Rejected),
    ("GET /apps/my-app/x\tHTTP/1.1", Forwarded),
    ("GET /apps/my-app/\u{e9} HTTP/1.1", Rejected),
    ("GET /apps/my-app/x?\u{ff} HTTP/1.1", Rejected),
    ("GET\0 /apps/my-app/x HTTP/1.1", Rejected),
    ("CONNECT app.example.test:443 HTTP/1.1", Rejected),
    ("CONNECT /apps/my-app/x HTTP/1.1", Rejected),
    ("OPTIONS * HTTP/1.1", Rejected),
];

/// Bodies whose end two readers could find at different places, and the status of their rejection. The bytes after such a
/// body would be a separate, unfiltered request.
#[rustfmt::skip]
pub(crate) const BODIES: &[(&str, &[&str], &str, u16)] = &[
    ("a length and chunks", &["Content-Length: 4", "Transfer-Encoding: chunked"], "0\r\n\r\n", 400),
    ("two lengths", &["Content-Length: 0", "Content-Length: 100"], "", 400),
    ("a list of lengths", &["Content-Length: 0, 100"], "", 400),
    ("a length with a sign", &["Content-Length: +0"], "", 400),
    ("chunks, but not last", &["Transfer-Encoding: chunked, identity"], "0\r\n\r\n", 501),
    ("chunks twice", &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "0\r\n\r\n", 501),
    ("an unknown coding", &["Transfer-Encoding: xchunked"], "0\r\n\r\n", 501),
    ("a vertical tab", &["Transfer-Encoding: \u{b}chunked"], "0\r\n\r\n", 400),
    ("a space before the colon", &["Transfer-Encoding : chunked"], "0\r\n\r\n", 400),
];

/// Heads that only HTTP/2 can carry: fields that replace those of the same name or are added.
#[rustfmt::skip]
pub(crate) const HTTP2_FIELDS: &[(&str, &[Pair], Expected)] = &[
    ("a scheme that is not the listener's", &[(":scheme", "https")], Forwarded),
    ("the other scheme", &[(":scheme", "http")], Forwarded),
    ("a WebSocket's scheme", &[(":scheme", "wss")], Forwarded),
    ("an upper-case name", &[("X-Forwarded-For", "6.6.6.6")], Rejected),
    ("a line break in a value", &[("x-a", "b\r\nx-forwarded-for: 6.6.6.6")], Rejected),
    ("a line feed in a value", &[("x-a", "b\nx-forwarded-for: 6.6.6.6")], Rejected),
    ("a line break in a name", &[("x-a: b\r\nx-forwarded-for", "6.6.6.6")], Rejected),
    ("a zero in a value", &[("x-a", "b\0evil")], Rejected),
    ("a space in a name", &[("x-forwarded-for ", "6.6.6.6")], Rejected),
    ("a colon in a name", &[("x-forwarded-for:", "6.6.6.6")], Rejected),
    ("an empty name", &[("", "6.6.6.6")], Rejected),
    ("an unknown pseudo-header", &[(":x-forwarded-for", "6.6.6.6")], Rejected),
    ("Connection", &[("connection", "x-forwarded-for")], Rejected),
    ("Upgrade", &[("connection", "upgrade"), ("upgrade", "websocket")], Rejected),
    ("Transfer-Encoding", &[("transfer-encoding", "chunked")], Rejected),
    ("an empty :authority", &[(":authority", "")], Rejected),
    ("Host beside :authority", &[("host", "evil.example")], Forwarded),
    ("a line break in the path", &[(":path", "/apps/my-app/x HTTP/1.1\r\nx-forwarded-for: 6.6.6.6\r\n\r\n")], Rejected),
    ("an absolute path", &[(":path", "http://evil.example/apps/my-app/x")], Rejected),
    ("an asterisk", &[(":path", "*")], Rejected),
    ("an empty path", &[(":path", "")], Rejected),
    ("a line break in the method", &[(":method", "GET /evil HTTP/1.1\r\nx-forwarded-for: 6.6.6.6\r\n\r\nGET")], Rejected),
    ("CONNECT", &[(":method", "CONNECT")], Rejected),
    ("a WebSocket by CONNECT", &[(":method", "CONNECT"), (":protocol", "websocket")], Rejected),
];

/// Fields of a trusted peer, and the resulting client, scheme and host. Where Envoy overwrites the peer's scheme, the
/// scheme is the listener's.
#[rustfmt::skip]
pub(crate) const TRUSTED: &[(&str, &[&str], [&str; 3])] = &[
    ("nothing", &[], ["127.0.0.1", "", HOST]),
    ("a chain", &["X-Forwarded-For: 6.6.6.6, 198.51.100.7"], ["198.51.100.7", "", HOST]),
    ("a chain of lines", &["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 198.51.100.7"], ["198.51.100.7", "", HOST]),
    ("two trusted peers", &["X-Forwarded-For: 6.6.6.6, 198.51.100.7, 127.0.0.1"], ["198.51.100.7", "", HOST]),
    ("a port", &["X-Forwarded-For: 6.6.6.6, 198.51.100.7:4711"], ["198.51.100.7", "", HOST]),
    ("IPv4 in IPv6", &["X-Forwarded-For: 6.6.6.6, ::ffff:198.51.100.7"], ["198.51.100.7", "", HOST]),
    ("IPv6", &["X-Forwarded-For: 6.6.6.6, 2001:DB8:0::7"], ["2001:db8::7", "", HOST]),
    ("no address", &["X-Forwarded-For: 6.6.6.6, unknown"], ["127.0.0.1", "", HOST]),
    ("an empty element", &["X-Forwarded-For: 6.6.6.6,"], ["127.0.0.1", "", HOST]),
    ("a byte that is not UTF-8", &["X-Forwarded-For: 6.6.6.6, \u{ff}"], ["127.0.0.1", "", HOST]),
    ("the other family", &["Forwarded: for=6.6.6.6;proto=https;host=evil.example"], ["127.0.0.1", "", HOST]),
    ("X-Real-IP", &["X-Real-IP: 6.6.6.6"], ["127.0.0.1", "", HOST]),
    ("https", &["X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https"], ["198.51.100.7", "https", HOST]),
    ("HTTPS", &["X-Forwarded-Proto: HTTPS"], ["127.0.0.1", "https", HOST]),
    ("https and http", &["X-Forwarded-Proto: https, http"], ["127.0.0.1", "http", HOST]),
    ("an unknown scheme", &["X-Forwarded-Proto: evil"], ["127.0.0.1", "", HOST]),
    ("a host", &["X-Forwarded-Host: Public.Example"], ["127.0.0.1", "", "public.example"]),
    ("a host with a user", &["X-Forwarded-Host: evil@public.example"], ["127.0.0.1", "", HOST]),
    ("two hosts", &["X-Forwarded-Host: evil.example", "X-Forwarded-Host: a.example"], ["127.0.0.1", "", HOST]),
    ("a port", &["X-Forwarded-Port: 8443"], ["127.0.0.1", "", "app.example.test:8443"]),
    ("no port", &["X-Forwarded-Port: 666666"], ["127.0.0.1", "", HOST]),
    ("a twin of the host", &["X-Host: evil.example", "X-Original-Host: evil.example"], ["127.0.0.1", "", HOST]),
];

/// The identity field that the configuration allows a trusted peer to send.
pub(crate) const PASSED: &str = "x-auth-request-preferred-username";
