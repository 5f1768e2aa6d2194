//! A scripted front: Streamlit behind nginx, with one fault, on real sockets.

use std::io::{BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fluxlit_policy::{Defaults, Hop, PROBE_PATH, Peer, Policy, ProbeOutcome, Request};
use fluxlit_support::certificate::Certificate;
use fluxlit_support::http1::{self, Head};
use fluxlit_support::port::local;
use fluxlit_support::upstream;
use rustix::net::RecvFlags;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncWriteExt as _, BufReader as AsyncBufReader};
use tokio_rustls::TlsAcceptor;

/// The fault of a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    LosesUpgrade,
    RewritesHost,
    /// The app believes that the page's scheme is https.
    ClaimsOtherScheme,
    NoUpgradeRoute,
    SilentAboveEightKilobytes,
    /// No request with more than 100 lines is answered, if it is no handshake.
    SilentAboveManyLines,
    LimitsBodies,
    /// The upgrade is lost, and every second long upload is 502: the app has answered it before it was passed on completely.
    BreaksLongUploads,
    ErrorPages,
    PrefixWithoutBoundary,
    HtmlForScripts,
    RedirectsToHttp,
    AcceptsForeignOrigins,
    DropsProtocol,
    ClosesSilentSockets,
    /// The first WebSocket is closed, as by a reload, and no later one.
    ClosesFirstSocket,
    LoginBeforeSocket,
    CachesHealth,
    ReencodesCookies,
    ForgedHostInRedirect,
    Metrics,
    /// The API documents itself. No fault.
    DocumentsApi,
    /// Other apps' cookies reach this one.
    OtherAppAtRoot,
    /// Streamlit begins a new session on each WebSocket.
    ForgetsSessions,
    /// Messages of more than 100 kB to the app end the WebSocket.
    LimitsMessagesToApp,
    /// Messages of more than 100 kB from the app do.
    LimitsMessagesToPage,
    /// Uploads reach a replica that does not have the session.
    OtherReplica,
    /// Answers for the holder of the probe key; none of the others does but the next ones.
    Records,
    /// Fields that are not ASCII are refused. No fault.
    RefusesOddOctets,
    /// They end the connection.
    BreaksOnOddOctets,
    /// After them, nobody answers for the holder of the key.
    GoneAfterOddOctets,
    /// They are answered 502.
    FailsOnOddOctets,
    /// They and all later requests are.
    FailsAfterOddOctets,
    /// Each second request for a record reaches an upstream that is gone. P19 does not tell that.
    SecondRecordFails,
    /// The dots of a path are resolved behind the rule that protects `/`.
    ResolvesDots,
    /// The dots of a path are resolved before anything else, and `/` is a portal. No fault.
    NormalizesPaths,
    /// The page has a `<base>`.
    AddsBase,
    RedirectsToOtherSite,
    /// The page needs a login, and so does the WebSocket. No fault.
    Login,
    LoginForPageOnly,
    /// The login is for the mount as it is written, and slashes are merged after it.
    LoginForOneSpelling,
    /// The same, but all paths belong to one app. No fault.
    LoginInAppAtRoot,
    /// Each second page is of another version.
    TwoVersions,
    InjectsScript,
    /// The page names its script without the mount.
    RewritesScript,
    /// The page has a policy that forbids everything but its own scripts.
    StrictPolicy,
    /// The page has a policy that only reports, and one for frames. No fault.
    HarmlessPolicy,
    /// PUT is refused.
    OnlyReads,
    /// What the app answers uploads is replaced by a page of the front. No fault.
    ReplacesErrors,
    /// Below the mount, nothing but the page reaches the app.
    RoutesPageOnly,
    /// One request a second is accepted; the others are answered 503.
    LimitsRate,
    /// Each second request reaches an upstream that is gone.
    SecondUpstreamFails,
    /// No request reaches the app.
    NoUpstream,
    /// After the first requests, none does.
    LosesUpstream,
    /// After the first requests, all are answered 429.
    TooManyRequests,
    /// The first request is answered 503, as while an app starts. No fault.
    StartsLate,
    /// No request over HTTP/1.1 is answered.
    RefusesHttp1,
    /// Each User-Agent that does not begin like a browser's is refused.
    AdmitsBrowsers,
    /// The same for WebSockets only.
    AdmitsBrowsersToSocket,
    /// Each User-Agent with the name of the doctor is refused.
    KeepsDoctorOut,
    ForbidsFrames,
    /// Pages of each site of a domain may embed the page. No fault.
    AllowsFrames,
    /// The XSRF cookie is that of Streamlit by default.
    LaxCookie,
    /// Over plain HTTP, the page is shown.
    NoRedirectToTls,
    /// Over plain HTTP, the redirect leads to another host.
    RedirectsToOtherHost,
    /// Over plain HTTP, the redirect is right. No fault.
    RedirectsToTls,
    HstsTwice,
    HstsOnPageOnly,
}

pub(crate) const MOUNT: &str = "/apps/my-app";
const NGINX: &str = "<html><center>nginx/1.22.1</center></html>";

fn field(head: &Head, name: &str) -> Option<String> {
    head.lines.iter().skip(1).find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nserver: nginx\r\ncontent-length: {length}\r\n{fields}\r\n{body}")
        .into_bytes()
}

/// Responds as Streamlit behind nginx does, except for the fault. `None`: never. `count`: the number of requests before.
fn respond(fault: Fault, head: &Head, count: usize) -> Option<Vec<u8>> {
    let target = head.word(1).to_owned();
    let method = head.word(0).to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let html = "content-type: text/html\r\n";
    let page = "<html><div id=\"root\"></div><script src=\"./static/js/index.js\"></script></html>";
    let page = match fault {
        Fault::InjectsScript => {
            &page.replace("</html>", "<script src=\"/cdn-cgi/x.js\"></script></html>")
        }
        Fault::RewritesScript => &page.replace("./static", "/static"),
        Fault::AddsBase => &format!("<base href=\"/\">{page}"),
        Fault::TwoVersions if count.is_multiple_of(2) => &page.replace("index.js", "index.B.js"),
        _ => page,
    };
    let not_found = || Some(response("404 Not Found", html, NGINX));
    let redirect = |to: &str| Some(response("302 Found", &format!("location: {to}\r\n"), ""));
    let portal = || Some(response("200 OK", html, "<html>portal</html>"));
    let name = field(head, "user-agent").unwrap_or_default();
    let is_handshake = field(head, "upgrade").is_some();
    let is_kept_out = match fault {
        Fault::AdmitsBrowsers => !name.starts_with("Mozilla/"),
        Fault::AdmitsBrowsersToSocket => is_handshake && !name.starts_with("Mozilla/"),
        // A request without that name says in another field who has sent it.
        Fault::KeepsDoctorOut => {
            name.contains("fluxlit-doctor") || field(head, "x-fluxlit-doctor").is_none()
        }
        _ => false,
    };
    if is_kept_out {
        return Some(response("403 Forbidden", html, NGINX));
    }
    let loses_upgrade = matches!(fault, Fault::LosesUpgrade | Fault::BreaksLongUploads);
    let has_odd_octets = !head.lines.iter().all(|line| line.is_ascii());
    /// Whether the hop that answers for the holder of the key has failed. One front has that fault.
    static ARE_GONE: AtomicBool = AtomicBool::new(false);
    /// The same for a front that answers with an error then.
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    match fault {
        Fault::SecondUpstreamFails if count > 3 && !count.is_multiple_of(2) => {
            return Some(response("502 Bad Gateway", html, NGINX));
        }
        Fault::NoUpstream => return Some(response("502 Bad Gateway", html, NGINX)),
        Fault::LosesUpstream if count > 3 => {
            return Some(response("504 Gateway Time-out", html, NGINX));
        }
        Fault::TooManyRequests if count > 3 => {
            return Some(response("429 Too Many Requests", html, NGINX));
        }
        Fault::StartsLate if count == 0 => {
            return Some(response("503 Service Temporarily Unavailable", html, NGINX));
        }
        Fault::RoutesPageOnly if path != format!("{MOUNT}/") => return not_found(),
        Fault::NoRedirectToTls => return Some(response("200 OK", html, page)),
        Fault::RedirectsToTls => return redirect(&format!("https://{HOST}{target}")),
        Fault::RedirectsToOtherHost => return redirect("https://login.example.com/"),
        Fault::RedirectsToOtherSite if target.starts_with("//") => return redirect(&target),
        Fault::ResolvesDots if path == "/" => return redirect("https://login.example.com/"),
        Fault::ResolvesDots if path.contains("..") => return portal(),
        Fault::NormalizesPaths if path == "/" || path.contains("..") => return portal(),
        Fault::OtherAppAtRoot if path == "/_stcore/health" => {
            let cookie =
                "content-type: text/plain\r\nset-cookie: _streamlit_xsrf=2|c|d|1; Path=/\r\n";
            return Some(response("200 OK", cookie, "ok"));
        }
        Fault::Login | Fault::LoginForPageOnly if field(head, "cookie").is_none() => {
            if !is_handshake {
                return redirect("https://login.example.com/");
            }
            if fault == Fault::Login {
                return Some(response("401 Unauthorized", html, NGINX));
            }
        }
        Fault::LoginForOneSpelling | Fault::LoginInAppAtRoot if field(head, "cookie").is_none() => {
            if is_handshake {
                return Some(response("401 Unauthorized", html, NGINX));
            }
            if path.starts_with(MOUNT) {
                return redirect("https://login.example.com/");
            }
            if fault == Fault::LoginInAppAtRoot || path.replace("//", "/") == format!("{MOUNT}/") {
                return Some(response("200 OK", html, page));
            }
        }
        Fault::SilentAboveManyLines if !is_handshake && head.lines.len() > 100 => return None,
        Fault::RefusesOddOctets if has_odd_octets => {
            return Some(response("400 Bad Request", html, NGINX));
        }
        // The connection ends.
        Fault::BreaksOnOddOctets if has_odd_octets => return Some(Vec::new()),
        Fault::GoneAfterOddOctets if has_odd_octets || ARE_GONE.load(Ordering::Relaxed) => {
            ARE_GONE.store(true, Ordering::Relaxed);
        }
        Fault::FailsOnOddOctets if has_odd_octets => {
            return Some(response("502 Bad Gateway", html, NGINX));
        }
        Fault::FailsAfterOddOctets if has_odd_octets || HAS_FAILED.load(Ordering::Relaxed) => {
            HAS_FAILED.store(true, Ordering::Relaxed);
            return Some(response("502 Bad Gateway", html, NGINX));
        }
        Fault::SecondRecordFails if path.ends_with(PROBE_PATH) && count.is_multiple_of(2) => {
            return Some(response("502 Bad Gateway", html, NGINX));
        }
        Fault::Records
        | Fault::RefusesOddOctets
        | Fault::BreaksOnOddOctets
        | Fault::GoneAfterOddOctets
        | Fault::FailsOnOddOctets
        | Fault::FailsAfterOddOctets
        | Fault::SecondRecordFails => {
            if let Some(record) = record(head) {
                return Some(record);
            }
        }
        _ => {}
    }
    let rest = match path.strip_prefix(MOUNT) {
        Some("") => {
            let host =
                field(head, "x-forwarded-host").filter(|_| fault == Fault::ForgedHostInRedirect);
            let host = host.or_else(|| field(head, "host")).unwrap_or_default();
            let scheme = if fault == Fault::RedirectsToHttp {
                "http://internal:8501"
            } else {
                ""
            };
            let own = if fault == Fault::ForgedHostInRedirect {
                format!("http://{host}")
            } else {
                scheme.to_owned()
            };
            let query = target
                .split_once('?')
                .map_or(String::new(), |(_, query)| format!("?{query}"));
            return Some(response(
                "308 Permanent Redirect",
                &format!("location: {own}{MOUNT}/{query}\r\n"),
                "",
            ));
        }
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(_) if fault == Fault::PrefixWithoutBoundary && path.ends_with("/_stcore/health") => {
            "/_stcore/health".to_owned()
        }
        _ => return not_found(),
    };
    match rest.as_str() {
        "/_stcore/health" => {
            // Streamlit's tokens differ from one response to the next.
            static TOKENS: AtomicUsize = AtomicUsize::new(0);
            let mut token = format!("2|a|b|{}", TOKENS.fetch_add(1, Ordering::Relaxed));
            if fault == Fault::ReencodesCookies {
                token = token.replace('|', "%7C");
            }
            let same_site = if fault == Fault::LaxCookie {
                "Lax"
            } else {
                "None"
            };
            let cached = if fault == Fault::CachesHealth {
                "age: 17\r\n"
            } else {
                ""
            };
            let body = if method == "HEAD" { "" } else { "ok" };
            Some(response(
                "200 OK",
                &format!(
                    "content-type: text/plain\r\nset-cookie: _streamlit_xsrf={token}; Path={MOUNT}/; SameSite={same_site}; Secure\r\n{cached}"
                ),
                body,
            ))
        }
        "/_stcore/stream" if is_handshake && !loses_upgrade => handshake(fault, head),
        "/_stcore/metrics" if fault == Fault::Metrics => Some(response(
            "200 OK",
            "content-type: text/plain\r\n",
            "# TYPE a counter\n# EOF\n",
        )),
        "/api/openapi.json" if fault == Fault::DocumentsApi => Some(response(
            "200 OK",
            "content-type: application/json\r\n",
            r#"{"openapi":"3.1.0","paths":{}}"#,
        )),
        "/api/docs" if fault == Fault::DocumentsApi => Some(response(
            "200 OK",
            html,
            "<script src=\"swagger-ui-bundle.js\"></script>",
        )),
        "/static/js/index.js" if fault != Fault::HtmlForScripts => {
            Some(response("200 OK", "content-type: text/javascript\r\n", "1"))
        }
        "/static/js/index.B.js" => {
            Some(response("200 OK", "content-type: text/javascript\r\n", "2"))
        }
        "/" if fault == Fault::StrictPolicy => {
            let fields =
                format!("{html}content-security-policy: default-src 'none'; script-src 'self'\r\n");
            Some(response("200 OK", &fields, page))
        }
        "/" if fault == Fault::HarmlessPolicy => {
            let fields = format!(
                "{html}content-security-policy: frame-ancestors 'self'\r\ncontent-security-policy-report-only: default-src 'none'\r\n"
            );
            Some(response("200 OK", &fields, page))
        }
        "/" if fault == Fault::AllowsFrames => {
            let fields = format!(
                "{html}x-frame-options: DENY\r\ncontent-security-policy: frame-ancestors 'self' *.example.com\r\n"
            );
            Some(response("200 OK", &fields, page))
        }
        "/" if fault == Fault::ForbidsFrames => {
            let fields = format!("{html}x-frame-options: SAMEORIGIN\r\n");
            Some(response("200 OK", &fields, page))
        }
        "/" | "/_stcore/stream" | "/static/js/index.js" => Some(response("200 OK", html, page)),
        _ if rest.ends_with("/_stcore/health") => {
            if fault == Fault::ErrorPages {
                Some(response("200 OK", html, page))
            } else {
                not_found()
            }
        }
        _ if method == "PUT" && fault == Fault::OnlyReads => {
            Some(response("405 Not Allowed", html, NGINX))
        }
        _ if method == "PUT" => {
            let length: u64 = field(head, "content-length")
                .and_then(|value| value.parse().ok())
                .unwrap_or_default();
            let has_token = field(head, "x-xsrftoken").is_some();
            if fault == Fault::ReplacesErrors {
                let status = if has_token {
                    "400 Bad Request"
                } else {
                    "403 Forbidden"
                };
                Some(response(status, html, NGINX))
            } else if fault == Fault::BreaksLongUploads
                && length > 1024 * 1024
                && field(head, "expect").is_none()
                && count.is_multiple_of(2)
            {
                Some(response("502 Bad Gateway", html, NGINX))
            } else if fault == Fault::LimitsBodies && length > 1024 * 1024 {
                Some(response("413 Request Entity Too Large", html, NGINX))
            } else if has_token {
                let is_known = rest.contains(SESSION) && fault != Fault::OtherReplica;
                let text = if is_known {
                    "no file"
                } else {
                    "Invalid session_id"
                };
                Some(response(
                    "400 Bad Request",
                    "content-type: text/plain\r\n",
                    text,
                ))
            } else {
                Some(response(
                    "403 Forbidden",
                    "content-type: text/plain\r\n",
                    "XSRF token missing or invalid",
                ))
            }
        }
        _ => not_found(),
    }
}

fn handshake(fault: Fault, head: &Head) -> Option<Vec<u8>> {
    let host = field(head, "host").unwrap_or_default();
    let origin = field(head, "origin");
    let longest = head.lines.iter().map(String::len).max().unwrap_or_default();
    match fault {
        Fault::NoUpgradeRoute => {
            return Some(response(
                "404 Not Found",
                "content-type: text/html\r\n",
                NGINX,
            ));
        }
        Fault::LoginBeforeSocket => {
            return Some(response(
                "302 Found",
                "location: https://login.example.com/start?secret=1\r\n",
                "",
            ));
        }
        Fault::SilentAboveEightKilobytes if longest > 8192 => return None,
        _ => {}
    }
    let seen = if fault == Fault::RewritesHost {
        "127.0.0.1:8501".to_owned()
    } else {
        host
    };
    let scheme = if fault == Fault::ClaimsOtherScheme {
        "https"
    } else {
        "http"
    };
    let is_own = origin.is_none_or(|origin| {
        origin == format!("{scheme}://{seen}") || origin == "http://localhost"
    });
    if !is_own && fault != Fault::AcceptsForeignOrigins {
        return Some(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec());
    }
    let protocol = if fault == Fault::DropsProtocol {
        ""
    } else {
        "sec-websocket-protocol: streamlit\r\n"
    };
    let mut accepted = format!("HTTP/1.1 101 Switching Protocols\r\nserver: nginx\r\nupgrade: websocket\r\nconnection: upgrade\r\n{protocol}\r\n").into_bytes();
    if fault == Fault::ClosesSilentSockets {
        accepted.extend([0x88, 0x02, 0x03, 0xe8]);
    }
    Some(accepted)
}

/// What a front has seen of its client.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    sockets: Mutex<Vec<Socket>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
}

/// A connection.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// True after the handshake of a WebSocket was accepted.
    is_websocket: bool,
}

/// Something that the client has done.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    /// How many earlier connections were still open; in the second place, those that are WebSockets.
    pub(crate) open: [usize; 2],
    /// The values of User-Agent, if it was a request.
    pub(crate) user_agents: Option<Vec<String>>,
}

impl Watch {
    /// Notes a connection, and returns its number.
    fn connected(&self, stream: &TcpStream) -> usize {
        let at = Instant::now();
        let mut sockets = self.sockets.lock().expect("no panic");
        let mut open = [0; 2];
        for socket in sockets.iter().filter(|socket| socket.is_open()) {
            open[usize::from(socket.is_websocket)] += 1;
        }
        sockets.push(Socket {
            stream: stream.try_clone().expect("a socket"),
            is_websocket: false,
        });
        self.see(at, open, None);
        sockets.len() - 1
    }

    /// Notes a request.
    fn requested(&self, head: &Head) {
        let values = head.lines.iter().skip(1).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("user-agent");
            is_it.then(|| value.trim().to_owned())
        });
        self.see(Instant::now(), [0; 2], Some(values.collect()));
    }

    fn is_websocket(&self, number: usize) {
        self.sockets.lock().expect("no panic")[number].is_websocket = true;
    }

    fn see(&self, at: Instant, open: [usize; 2], user_agents: Option<Vec<String>>) {
        let seen = Seen {
            at,
            open,
            user_agents,
        };
        self.seen.lock().expect("no panic").push(seen);
    }
}

impl Socket {
    /// Returns true if the client has certainly not closed it. With unread bytes, nobody knows.
    fn is_open(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0], flags) == Err(rustix::io::Errno::AGAIN)
    }
}

/// Serves plain HTTP/1.1.
pub(crate) fn serve(fault: Fault) -> SocketAddr {
    serve_watched(fault, Arc::default())
}

/// Serves plain HTTP/1.1, and notes what the client does.
pub(crate) fn serve_watched(fault: Fault, watch: Arc<Watch>) -> SocketAddr {
    let count = AtomicUsize::new(0);
    let opened = AtomicUsize::new(0);
    let accepted = Mutex::new(None::<Instant>);
    let is_too_fast = move || {
        let mut accepted = accepted.lock().expect("no panic");
        let is_too_fast = accepted.is_some_and(|last| last.elapsed() < Duration::from_secs(1));
        if !is_too_fast {
            *accepted = Some(Instant::now());
        }
        is_too_fast
    };
    upstream::serve(move |reader: &mut BufReader<TcpStream>| {
        let number = watch.connected(reader.get_ref());
        let Ok(Some(head)) = http1::read_head_blocking(reader) else {
            return;
        };
        watch.requested(&head);
        let responded = if fault == Fault::LimitsRate && is_too_fast() {
            let html = "content-type: text/html\r\n";
            Some(response("503 Service Temporarily Unavailable", html, NGINX))
        } else {
            respond(fault, &head, count.fetch_add(1, Ordering::Relaxed))
        };
        match responded {
            Some(mut bytes) => {
                let is_open = bytes.starts_with(b"HTTP/1.1 101");
                let is_first = is_open && opened.fetch_add(1, Ordering::Relaxed) == 0;
                if is_first && fault == Fault::ClosesFirstSocket {
                    // A close frame with code 1001: going away.
                    bytes.extend([0x88, 0x02, 0x03, 0xe9]);
                }
                if is_open {
                    watch.is_websocket(number);
                }
                if reader.get_mut().write_all(&bytes).is_ok() && is_open {
                    websocket(fault, reader);
                }
                let _ = drain(reader);
            }
            // Streamlit's library leaves the connection open.
            None => {
                let _ = http1::read_head_blocking(reader);
            }
        }
    })
    .expect("a port")
}

/// Reads a body that was announced, so that the response is not lost in a reset.
fn drain(reader: &mut BufReader<TcpStream>) -> std::io::Result<u64> {
    reader.get_mut().shutdown(std::net::Shutdown::Write)?;
    std::io::copy(reader, &mut std::io::sink())
}

/// Serves TLS with this certificate: HTTP/1.1, or HTTP/2 for clients that offer it if `websocket_status` is given, with which
/// WebSockets in HTTP/2 are answered.
pub(crate) fn serve_tls(
    fault: Fault,
    certificate: &Certificate,
    websocket_status: Option<u16>,
) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(certificate.pem.as_bytes());
    let chain: Result<Vec<_>, _> = chain.collect();
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key)
        .expect("a certificate with its key");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if websocket_status.is_some() {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind(local(0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not like the certificate ends the handshake.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        match websocket_status {
                            Some(status) if is_h2 => over_http2(stream, status).await,
                            _ => over_http1(fault, stream).await,
                        }
                    }
                });
            }
        });
    });
    address
}

async fn over_http1(fault: Fault, stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) {
    let mut reader = AsyncBufReader::new(stream);
    let Ok(Some(head)) = http1::read_head(&mut reader).await else {
        return;
    };
    if fault == Fault::RefusesHttp1 {
        return;
    }
    let Some(bytes) = respond(fault, &head, 0) else {
        return;
    };
    let text = String::from_utf8(bytes).expect("text");
    let is_page = head.word(1) == format!("{MOUNT}/");
    let lines = match fault {
        Fault::HstsTwice => [HSTS, HSTS].concat(),
        Fault::HstsOnPageOnly if !is_page => String::new(),
        _ => HSTS.to_owned(),
    };
    let text = text.replacen("\r\n", &format!("\r\n{lines}"), 1);
    let _ = reader.write_all(text.as_bytes()).await;
    let _ = reader.shutdown().await;
}

async fn over_http2(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    websocket_status: u16,
) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, bytes::Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let is_websocket = request.method() == http::Method::CONNECT;
        let status = if is_websocket { websocket_status } else { 200 };
        let response = http::Response::builder().status(status).body(());
        let _ = respond.send_response(response.expect("a response"), !is_websocket);
    }
}

/// Answers every ClientHello with a ServerHello of TLS 1.1.
pub(crate) fn serve_old_tls() -> SocketAddr {
    upstream::serve(|reader: &mut BufReader<TcpStream>| {
        let mut first = [0];
        if reader.read_exact(&mut first).is_err() {
            return;
        }
        // The version, a random value, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
        let hello = [&[3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        let length = hello.len() as u8;
        let message = [&[2, 0, 0, length][..], &hello].concat();
        let record = [&[22, 3, 2, 0, length + 4][..], &message].concat();
        let _ = reader.get_mut().write_all(&record);
        let _ = drain(reader);
    })
    .expect("a port")
}

/// Takes part in a WebSocket as Streamlit does, until it ends.
fn websocket(fault: Fault, reader: &mut BufReader<TcpStream>) {
    while let Some((opcode, payload)) = read_frame(reader) {
        let limit = 100 * 1024;
        let text = String::from_utf8_lossy(&payload);
        let wanted: usize = text
            .split_once("doctor_echo=")
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or_default();
        let is_cut = fault == Fault::LimitsMessagesToApp && payload.len() > limit
            || fault == Fault::LimitsMessagesToPage && wanted > limit;
        let bytes = match opcode {
            // A close frame with code 1009: too big.
            2 if is_cut => vec![0x88, 0x02, 0x03, 0xf1],
            2 => {
                let id = match fault {
                    Fault::ForgetsSessions => format!("{SESSION}-{}", unique()),
                    _ => SESSION.to_owned(),
                };
                [
                    frame(&field_of(4, &field_of(1, &field_of(6, id.as_bytes())))),
                    frame(&field_of(5, &vec![b'x'; wanted])),
                    frame(&[0x30, 0x00]),
                ]
                .concat()
            }
            8 => vec![0x88, 0x00],
            _ => continue,
        };
        if reader.get_mut().write_all(&bytes).is_err() || bytes.starts_with(&[0x88]) {
            return;
        }
    }
}

fn unique() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reads a frame of the doctor, whose mask is zero.
fn read_frame(reader: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut take = |count: usize| -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let start = take(2)?;
    let length = match start[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes(take(2)?.try_into().ok()?)),
        127 => usize::try_from(u64::from_be_bytes(take(8)?.try_into().ok()?)).ok()?,
        short => usize::from(short),
    };
    take(4)?;
    Some((start[0] & 0x0f, take(length)?))
}

/// Returns a binary frame of a server.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    [&[0x82, 127][..], &length, payload].concat()
}

/// Returns a field of a protocol buffers message that has a length.
fn field_of(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut rest = content.len();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend(content);
    bytes
}

/// Answers a request for a decision record as the gateway does; `None` for every other request.
fn record(head: &Head) -> Option<Vec<u8>> {
    let settings = format!(r#"{{"root_path": "{MOUNT}", "probe_key": "{PROBE_KEY}"}}"#);
    let policy = Policy::from_json(settings.as_bytes(), Defaults::GATEWAY).expect("a policy");
    let host = field(head, "host").unwrap_or_default();
    let fields: Vec<(&[u8], &[u8])> = head
        .lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.as_bytes(), value.trim().as_bytes()))
        .filter(|(name, _)| !name.eq_ignore_ascii_case(b"host"))
        .collect();
    let request = Request {
        peer: Peer::Unknown,
        identity: None,
        is_reentry: false,
        tls: false,
        method: head.word(0).as_bytes(),
        target: head.word(1).as_bytes(),
        host: Some(host.as_bytes()),
        headers: &fields,
    };
    let probe = policy.probe(&request, Hop::Gateway)?.ok()?;
    let answer = policy.answer_probe(&request, &probe, ProbeOutcome::Answered)?;
    let fields = answer.fields.iter();
    let fields: String = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    Some(response("200 OK", &fields, &answer.body))
}

pub(crate) const PROBE_KEY: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const HOST: &str = "portal.example.com";
const SESSION: &str = "session-of-the-doctor";
const HSTS: &str = "strict-transport-security: max-age=31536000\r\n";
