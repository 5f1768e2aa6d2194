//! Probes scripted fronts that each have one fault, and compares what is found.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fluxlit_doctor::client::{Credentials, Site, Tls};
use fluxlit_doctor::probe::{self, Options};
use fluxlit_doctor::{CheckSelection, Finding, Status};
use fluxlit_support::http1::{self, Head};
use fluxlit_support::upstream;

/// The fault of a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LosesUpgrade,
    RewritesHost,
    NoUpgradeRoute,
    SilentAboveEightKilobytes,
    LimitsBodies,
    ErrorPages,
    PrefixWithoutBoundary,
    HtmlForScripts,
    RedirectsToHttp,
    AcceptsForeignOrigins,
    DropsProtocol,
    ClosesSilentSockets,
    LoginBeforeSocket,
    CachesHealth,
    ReencodesCookies,
    ForgedHostInRedirect,
    Metrics,
}

const MOUNT: &str = "/apps/my-app";
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

/// Responds as Streamlit behind nginx does, except for the fault. `None`: never.
fn respond(fault: Fault, head: &Head) -> Option<Vec<u8>> {
    let target = head.word(1).to_owned();
    let method = head.word(0).to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let html = "content-type: text/html\r\n";
    let page = "<html><div id=\"root\"></div><script src=\"./static/js/index.js\"></script></html>";
    let not_found = || Some(response("404 Not Found", html, NGINX));
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
    let is_handshake = field(head, "upgrade").is_some();
    match rest.as_str() {
        "/_stcore/health" => {
            let token = if fault == Fault::ReencodesCookies {
                "2%7Ca%7Cb%7C1"
            } else {
                "2|a|b|1"
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
                    "content-type: text/plain\r\nset-cookie: _streamlit_xsrf={token}; Path={MOUNT}/\r\n{cached}"
                ),
                body,
            ))
        }
        "/_stcore/stream" if is_handshake && fault != Fault::LosesUpgrade => handshake(fault, head),
        "/_stcore/metrics" if fault == Fault::Metrics => Some(response(
            "200 OK",
            "content-type: text/plain\r\n",
            "# TYPE a counter\n# EOF\n",
        )),
        "/static/js/index.js" if fault != Fault::HtmlForScripts => {
            Some(response("200 OK", "content-type: text/javascript\r\n", "1"))
        }
        "/" | "/_stcore/stream" | "/static/js/index.js" => Some(response("200 OK", html, page)),
        _ if rest.ends_with("/_stcore/health") => {
            if fault == Fault::ErrorPages {
                Some(response("200 OK", html, page))
            } else {
                not_found()
            }
        }
        _ if method == "PUT" => {
            let length: u64 = field(head, "content-length")
                .and_then(|value| value.parse().ok())
                .unwrap_or_default();
            if fault == Fault::LimitsBodies && length > 1024 * 1024 {
                Some(response("413 Request Entity Too Large", html, NGINX))
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
    let is_own = origin
        .is_none_or(|origin| origin == format!("http://{seen}") || origin == "http://localhost");
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

fn serve(fault: Fault) -> SocketAddr {
    upstream::serve(move |reader: &mut BufReader<TcpStream>| {
        while let Ok(Some(head)) = http1::read_head_blocking(reader) {
            match respond(fault, &head) {
                Some(bytes) => {
                    if reader.get_mut().write_all(&bytes).is_err() {
                        return;
                    }
                    let is_open = bytes.starts_with(b"HTTP/1.1 101");
                    if !is_open {
                        return;
                    }
                }
                None => {
                    // Streamlit's library leaves the connection open.
                    let _ = http1::read_head_blocking(reader);
                    return;
                }
            }
        }
    })
    .expect("a port")
}

fn probe(fault: Fault, checks: &[&str], credentials: Credentials) -> Vec<Finding> {
    let address = serve(fault);
    let site = Site::parse(&format!("http://{address}{MOUNT}/")).expect("a URL");
    let options = Options {
        credentials,
        tls: Tls::new(None).expect("certificates"),
        key: None,
        hold: Duration::from_secs(if fault == Fault::ClosesSilentSockets {
            30
        } else {
            1
        }),
        may_write: false,
        direct: None,
        embed: None,
    };
    let only: Vec<String> = checks.iter().map(|check| (*check).to_owned()).collect();
    let selection = CheckSelection::new(&only, &[]).expect("checks");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(probe::run(site, options, &selection, |_| {}))
        .expect("a site")
}

/// Checks that a fault is found by this check, with these words in the finding and the hint.
#[track_caller]
fn finds(fault: Fault, check: &str, finding: &[&str], hint: &str) {
    let found = probe(fault, &[check], Credentials::default());
    let worst = found
        .iter()
        .max_by_key(|finding| finding.status)
        .expect("a finding");
    assert!(worst.status >= Status::Warn, "{fault:?}: {found:#?}");
    for part in finding {
        assert!(
            worst.finding.contains(part),
            "{fault:?}: {part}: {worst:#?}"
        );
    }
    let given = worst.hint.as_deref().unwrap_or_default();
    assert!(given.contains(hint), "{fault:?}: {given}");
}

#[test]
fn each_fault_is_found_by_its_check_with_its_cure() {
    for (fault, check, finding, hint) in [
        (
            Fault::LosesUpgrade,
            "P08",
            &["loses the upgrade", "as a GET without an upgrade"][..],
            "nginx: proxy_http_version 1.1",
        ),
        (
            Fault::RewritesHost,
            "P08",
            &["403", "accepted without Origin", "Host"],
            "proxy_set_header Host $http_host",
        ),
        (
            Fault::NoUpgradeRoute,
            "P08",
            &["404 by nginx", "upgrades"],
            "proxy_set_header Upgrade",
        ),
        (
            Fault::LoginBeforeSocket,
            "P08",
            &["302", "login"],
            "--cookie-file",
        ),
        (
            Fault::LimitsBodies,
            "P16",
            &[" kB are answered 413 by nginx"],
            "client_max_body_size",
        ),
        (
            Fault::ErrorPages,
            "P07",
            &["200 by", "instead of 404"],
            "proxy_intercept_errors off",
        ),
        (
            Fault::PrefixWithoutBoundary,
            "P05",
            &["without a boundary"],
            "(/|$)",
        ),
        (Fault::HtmlForScripts, "P06", &["200 with HTML"], "location"),
        (
            Fault::RedirectsToHttp,
            "P04",
            &["http://internal:8501", "another host"],
            "X-Forwarded-Proto",
        ),
        (
            Fault::ForgedHostInRedirect,
            "P04",
            &["X-Forwarded-Host", "probe.invalid"],
            "X-Forwarded-Host",
        ),
        (
            Fault::AcceptsForeignOrigins,
            "P10",
            &["another site"],
            "enableCORS",
        ),
        (
            Fault::DropsProtocol,
            "P11",
            &["none", "login and reconnects fail"],
            "Sec-WebSocket-Protocol",
        ),
        (
            Fault::ClosesSilentSockets,
            "P13",
            &["is closed", "code 1000", "0 pings"],
            "proxy_read_timeout",
        ),
        (Fault::CachesHealth, "P22", &["cached"], "proxy_cache off"),
        (Fault::ReencodesCookies, "P17", &["re-encoded"], "encode"),
        (
            Fault::Metrics,
            "P23",
            &["/apps/my-app/_stcore/metrics"],
            "404",
        ),
    ] {
        finds(fault, check, finding, hint);
    }
}

#[test]
fn silence_for_long_cookies_is_told_from_a_refusal() {
    finds(
        Fault::SilentAboveEightKilobytes,
        "P15",
        &["no answer", "waits for ever"],
        "WEBSOCKETS_MAX_LINE_LENGTH",
    );
}

#[test]
fn nothing_is_found_in_a_front_without_a_fault() {
    let checks = [
        "P04", "P05", "P06", "P07", "P08", "P10", "P11", "P13", "P15", "P16", "P17", "P20", "P22",
        "P23", "P25", "P26",
    ];
    for finding in probe(Fault::None, &checks, Credentials::default()) {
        assert_eq!(finding.status, Status::Pass, "{finding:#?}");
    }
}

#[test]
fn a_check_that_cannot_run_is_skipped_with_its_reason() {
    let checks = [
        "P01", "P02", "P09", "P12", "P14", "P19", "P21", "P24", "P27",
    ];
    let found = probe(Fault::NoUpgradeRoute, &checks, Credentials::default());
    assert_eq!(found.len(), checks.len(), "{found:#?}");
    for finding in found {
        assert_eq!(finding.status, Status::Skipped, "{finding:#?}");
        assert!(!finding.finding.is_empty());
    }
}

#[test]
fn no_value_of_a_credential_is_in_a_finding() {
    let mut credentials = Credentials::default();
    credentials
        .add_cookies("session=hunter2-cookie")
        .expect("cookies");
    credentials
        .add_fields("Authorization: Bearer hunter2-field")
        .expect("fields");
    for fault in [
        Fault::LosesUpgrade,
        Fault::LoginBeforeSocket,
        Fault::RewritesHost,
    ] {
        let found = probe(fault, &["P08", "P11", "P17", "P21"], credentials.clone());
        let shown = format!("{found:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("secret=1"),
            "{shown}"
        );
    }
}

#[test]
fn a_site_that_does_not_answer_is_no_finding() {
    let site = Site::parse("http://127.0.0.1:1/").expect("a URL");
    let options = Options {
        credentials: Credentials::default(),
        tls: Tls::new(None).expect("certificates"),
        key: None,
        hold: Duration::ZERO,
        may_write: false,
        direct: None,
        embed: None,
    };
    let selection = CheckSelection::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let error = runtime
        .block_on(probe::run(site, options, &selection, |_| {}))
        .expect_err("nothing listens");
    assert!(
        error
            .to_string()
            .starts_with("http://127.0.0.1:1/ cannot be reached"),
        "{error}"
    );
}
