//! Probes scripted fronts that each have one fault, and compares what is found.

use std::net::SocketAddr;
use std::time::Duration;

use fluxlit_doctor::client::{ConnectTo, Credentials, Site, Tls};
use fluxlit_doctor::probe::{self, Options};
use fluxlit_doctor::{CheckSelection, Finding, Status};
use fluxlit_policy::ProbeKey;
use fluxlit_support::certificate::Certificate;

use crate::front::{Fault, HOST, MOUNT, PROBE_KEY, serve, serve_tls};

/// How the front is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    /// The front has TLS, and on port 80 another one with this fault.
    Https(Fault),
    /// The same, and the URL has a port of its own.
    HttpsWithPort(Fault),
    /// The certificate has a fault.
    Certificate(Flaw),
    /// Nothing but TLS 1.1.
    OldTls,
    /// WebSockets in HTTP/2 are answered with this status.
    Http2(u16),
    /// IPv6 leads to a front with this fault.
    Families(Fault),
}

/// The fault of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Authority,
    Expired,
    ExpiresSoon,
    OtherHost,
    UnknownIssuer,
}

/// A fault, the check that must find it, and parts of its finding and its hint.
pub(crate) struct Row {
    pub(crate) check: &'static str,
    fault: Fault,
    finding: &'static [&'static str],
    hint: &'static str,
    transport: Transport,
    /// Changes the options of the doctor.
    change: fn(&mut Options),
}

impl Row {
    fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    fn with(self, change: fn(&mut Options)) -> Self {
        Self { change, ..self }
    }
}

fn row(
    check: &'static str,
    fault: Fault,
    finding: &'static [&'static str],
    hint: &'static str,
) -> Row {
    Row {
        check,
        fault,
        finding,
        hint,
        transport: Transport::Http,
        change: |_| (),
    }
}

/// Returns the set-ups in which checks find something.
#[rustfmt::skip]
pub(crate) fn failing() -> Vec<Row> {
    use Fault::*;
    let broken = |flaw, finding, hint| row("P01", None, finding, hint).over(Transport::Certificate(flaw));
    vec![
        broken(Flaw::Authority, &["TLS fails", "CaUsedAsEndEntity"], "basicConstraints=critical,CA:FALSE"),
        broken(Flaw::Expired, &["TLS fails", "expired"], "renew"),
        broken(Flaw::ExpiresSoon, &["expires in 6 days"], "renew"),
        broken(Flaw::OtherHost, &["TLS fails", "not valid for name", HOST], "lists this host"),
        broken(Flaw::UnknownIssuer, &["TLS fails", "UnknownIssuer"], "--ca-file"),
        row("P01", None, &["TLS fails"], "ssl_protocols TLSv1.2 TLSv1.3").over(Transport::OldTls),
        row("P02", None, &["plain HTTP is answered 200", "not redirected"], "status 308").over(Transport::Https(NoRedirectToTls)),
        row("P02", None, &["plain HTTP redirects to `https://login.example.com/`"], "$request_uri").over(Transport::Https(RedirectsToOtherHost)),
        row("P02", None, &["plain HTTP redirects to `https://", "instead of `https://", ":8443/"], "https://$host:8443$request_uri").over(Transport::HttpsWithPort(RedirectsToTls)),
        row("P03", HstsTwice, &["twice"], "proxy_hide_header").over(Transport::Https(RedirectsToTls)),
        row("P03", HstsOnPageOnly, &["missing on the health check"], "add_header").over(Transport::Https(RedirectsToTls)),
        row("P04", RedirectsToHttp, &["http://internal:8501", "another host"], "proxy_set_header Host"),
        row("P04", ForgedHostInRedirect, &["X-Forwarded-Host", "probe.invalid"], "X-Forwarded-Host"),
        row("P05", PrefixWithoutBoundary, &["without a boundary"], "(/|$)"),
        row("P06", RewritesScript, &["names 1 files outside of the mount", "`/static/js/index.js`", "404 by nginx is the answer"], "nginx: remove `sub_filter`"),
        row("P06", AddsBase, &["names 1 files outside of the mount, because of a `<base>`: `./static/js/index.js` is looked for at `/static/js/index.js`"], "nginx: remove `sub_filter`"),
        row("P06", HtmlForScripts, &["200 with HTML"], "location"),
        row("P07", ErrorPages, &["200 by", "instead of 404"], "proxy_intercept_errors off"),
        row("P08", LosesUpgrade, &["loses the upgrade", "as a GET without an upgrade"], "nginx: write `proxy_http_version 1.1;`"),
        row("P08", RewritesHost, &["403", "accepted without Origin", "Host"], "proxy_set_header Host $http_host"),
        row("P08", ClaimsOtherScheme, &["403", "accepted with `https://", "another scheme"], "X-Forwarded-Proto $scheme"),
        row("P08", NoUpgradeRoute, &["404 by nginx", "upgrades"], "proxy_set_header Upgrade"),
        row("P08", LoginBeforeSocket, &["302", "login"], "--cookie-file"),
        row("P09", None, &["offers WebSockets", "answered 404"], "SETTINGS_ENABLE_CONNECT_PROTOCOL").over(Transport::Http2(404)),
        row("P08", RefusesHttp1, &["does not speak HTTP/1.1 (the connection is closed without an answer)", "answered 200", "a WebSocket 404 (RFC 8441): no browser"], "Caddy: write `protocols h1 h2 h3`").over(Transport::Http2(404)),
        row("P08", RefusesHttp1, &["does not speak HTTP/1.1", "a WebSocket opens inside HTTP/2"], "Caddy: write `protocols h1 h2 h3`").over(Transport::Http2(200)),
        row("P10", AcceptsForeignOrigins, &["another site"], "enableCORS"),
        row("P11", DropsProtocol, &["none", "login and reconnects fail"], "Sec-WebSocket-Protocol"),
        row("P12", ForgetsSessions, &["not resumed", "a new session"], "P18"),
        row("P13", ClosesSilentSockets, &["is closed", "code 1000", "0 pings", "and the next one after"], "proxy_read_timeout").with(|options| options.hold = Duration::from_secs(60)),
        row("P13", ClosesFirstSocket, &["is closed", "code 1001", "the next one stays open", "reload or restart"], "worker_shutdown_timeout"),
        row("P14", LimitsMessagesToApp, &["65536 bytes passes to the app", "1048576 bytes", "code 1009"], "maxMessageSize").with(|options| options.may_write = true),
        row("P14", LimitsMessagesToPage, &["65536 bytes passes from the app", "1048576 bytes", "code 1009"], "maxMessageSize").with(|options| options.may_write = true),
        row("P15", SilentAboveEightKilobytes, &["no answer", "waits for ever"], "WEBSOCKETS_MAX_LINE_LENGTH"),
        row("P15", SilentAboveManyLines, &["a GET with 110 additional header lines gets no answer"], "large_client_header_buffers"),
        row("P16", LimitsBodies, &[" kB are answered 413 by nginx"], "client_max_body_size"),
        row("P16", OnlyReads, &["an upload of 1 kB is answered 405 by nginx"], "nginx: remove `limit_except`"),
        row("P17", ReencodesCookies, &["re-encoded"], "encode"),
        row("P17", OtherAppAtRoot, &["another app, at `/`", "uploads get 403"], "FLUXLIT_COOKIE_PATH=confine"),
        row("P17", None, &["sends `_streamlit_xsrf` twice"], "FLUXLIT_COOKIE_PATH=confine").with(|options| options.credentials = cookies("_streamlit_xsrf=2|a; _streamlit_xsrf=2|b")),
        row("P18", OtherReplica, &["10 of 10 uploads", "another replica"], "affinity"),
        row("P19", None, &["neither the filter nor the gateway answers"], "probe_key").with(|options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        row("P19", BreaksOnOddOctets, &["not ASCII", "is not answered", "and the next one gets a record of the gateway"], "F03").with(|options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        row("P19", GoneAfterOddOctets, &["is answered 404, and the next one gets no longer a record of the gateway"], "F03").with(|options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        row("P19", FailsAfterOddOctets, &["is answered 502, and the next one gets no longer a record of the gateway"], "F03").with(|options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        row("P19", FailsOnOddOctets, &["is answered 502, and the next one gets a record of the gateway"], "F03").with(|options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        row("P20", ResolvesDots, &["`/apps/my-app/../` shows something that is not of the app, and `/` is answered 302"], "normalize"),
        row("P20", RedirectsToOtherSite, &["redirects to another site", "probe.invalid"], "merge_slashes"),
        row("P21", LoginForPageOnly, &["302", "the WebSocket opens"], "/_stcore/stream").with(|options| options.credentials = cookies("session=1")),
        row("P21", LoginForOneSpelling, &["`/apps/my-app/` is answered 302", "`//apps/my-app/` shows the page", "can be evaded"], "is_bare_mount").with(|options| options.credentials = cookies("session=1")),
        row("P21", None, &["need no credentials"], "auth rule").with(|options| options.credentials = cookies("session=1")),
        row("P22", CachesHealth, &["`Age: 17`: a cache in front has answered"], "proxy_cache off"),
        row("P23", Metrics, &["/apps/my-app/_stcore/metrics"], "404"),
        row("P25", TwoVersions, &["20 connections get 2 versions"], "rollout"),
        row("P26", InjectsScript, &["`cdn-cgi/`"], "optimization"),
        row("P27", ForbidsFrames, &["X-Frame-Options is `SAMEORIGIN`"], "frame-ancestors").with(|options| options.embed = Site::parse("https://site.example.com").ok()),
        row("P27", LaxCookie, &["is not SameSite=None"], "xsrfCookieSameSite").over(Transport::Https(None)).with(|options| options.embed = Site::parse("https://notportal.example.org").ok()),
        row("P29", StrictPolicy, &["that Streamlit does not send", "the WebSocket (default-src without 'self')", "WebAssembly (eval) (script-src without"], "write in the policy `script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'`"),
        row("P29", StrictPolicy, &["that the page without the front does not have; it blocks"], "nginx: remove `add_header Content-Security-Policy`").with(|options| {
            let direct = format!("http://{}{MOUNT}", serve(None));
            options.direct = Some(Site::parse(&direct).expect("a URL"));
        }),
        row("P30", LimitsRate, &["is answered 200 and, when it is repeated, 503 by nginx"], "nginx: remove `limit_req`"),
        row("P30", TooManyRequests, &["answered 429 by nginx"], "nginx: remove `limit_req`"),
        row("P31", NoUpstream, &["is answered 502 by nginx, like the page", "the front does not reach the app"], "nginx: write `proxy_pass"),
        row("P31", SecondUpstreamFails, &["repeated unchanged, is answered 200, and 5 of 10 times 502 by nginx", "one of several upstreams"], "nginx: write `proxy_next_upstream"),
        row("P31", LosesUpstream, &["is answered 504 by nginx, but was accepted at first"], "nginx: write `proxy_pass"),
        row("P32", AdmitsBrowsers, &["`/apps/my-app/_stcore/health`: 403 by nginx for the User-Agent of the doctor", "200 by nginx", "`Mozilla/5.0 (compatible; fluxlit-doctor/"], "nginx: remove `if ($http_user_agent`"),
        row("P32", AdmitsBrowsersToSocket, &["the handshake: 403 by nginx", "101 by"], "nginx: remove `if ($http_user_agent`"),
        row("P32", KeepsDoctorOut, &["403 by nginx for each User-Agent with `fluxlit-doctor` in it", "nothing but the certificate is checked"], "nginx: remove `if ($http_user_agent`"),
        row("P28", None, &["differs by address family", "101", "200"], "DNS").over(Transport::Families(LosesUpgrade)),
    ]
}

/// Checks that pass together.
pub(crate) struct Pass {
    pub(crate) checks: &'static [&'static str],
    row: Row,
}

/// Returns the set-ups in which checks find nothing.
#[rustfmt::skip]
pub(crate) fn passing() -> Vec<Pass> {
    use Fault::*;
    let pass = |checks, fault| Pass { checks, row: row("", fault, &[], "") };
    let over = |checks, transport| Pass { checks, row: row("", None, &[], "").over(transport) };
    let with = |checks, fault, change| Pass { checks, row: row("", fault, &[], "").with(change) };
    vec![
        pass(&[
            "P04", "P05", "P06", "P07", "P08", "P10", "P11", "P12", "P13", "P15", "P16", "P17", "P18", "P20", "P22", "P23", "P25",
            "P26", "P29", "P30", "P31", "P32",
        ], None),
        pass(&["P20"], NormalizesPaths),
        with(&["P17"], Login, |options| options.credentials = cookies("session=1")),
        pass(&["P29"], HarmlessPolicy),
        pass(&["P30", "P31"], StartsLate),
        over(&["P01", "P02", "P03"], Transport::Https(RedirectsToTls)),
        over(&["P09"], Transport::Http2(200)),
        with(&["P14"], None, |options| options.may_write = true),
        with(&["P19"], Records, |options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        with(&["P19"], RefusesOddOctets, |options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        with(&["P19"], SecondRecordFails, |options| options.key = ProbeKey::new(PROBE_KEY).ok()),
        with(&["P21"], Login, |options| options.credentials = cookies("session=1")),
        with(&["P21"], LoginInAppAtRoot, |options| options.credentials = cookies("session=1")),
        with(&["P27"], None, |options| options.embed = Site::parse("https://site.example.com").ok()),
        with(&["P27"], AllowsFrames, |options| options.embed = Site::parse("https://site.example.com").ok()),
        over(&["P28"], Transport::Families(None)),
    ]
}

fn cookies(text: &str) -> Credentials {
    let mut credentials = Credentials::default();
    credentials.add_cookies(text).expect("cookies");
    credentials
}

/// Starts the fronts of a row, and returns the site and what it trusts.
fn start(row: &Row) -> (Site, Tls) {
    let of_system = || Tls::new(None).expect("certificates");
    let site = |scheme: &str, addresses: &[(Option<u16>, SocketAddr)]| {
        let mut site = Site::parse(&format!("{scheme}://{HOST}{MOUNT}/")).expect("a URL");
        let addresses = addresses.iter();
        site.connect_to = addresses
            .map(|&(port, address)| ConnectTo { port, address })
            .collect();
        site
    };
    let trusting = |certificate: &Certificate| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &certificate.pem).expect("a file");
        Tls::new(Some(file.path())).expect("a certificate")
    };
    let valid = || Certificate::create(&[HOST], &[]).expect("a certificate");
    match row.transport {
        Transport::Http => {
            let address = serve(row.fault);
            let site = Site::parse(&format!("http://{address}{MOUNT}/")).expect("a URL");
            (site, of_system())
        }
        Transport::Https(plain) | Transport::HttpsWithPort(plain) => {
            let certificate = valid();
            let address = serve_tls(row.fault, &certificate, None);
            let addresses = [(None, address), (Some(80), serve(plain))];
            let mut site = site("https", &addresses);
            if matches!(row.transport, Transport::HttpsWithPort(_)) {
                site.port = 8443;
            }
            (site, trusting(&certificate))
        }
        Transport::Certificate(flaw) => {
            let day = |days: i64| std::time::Duration::from_secs(days.unsigned_abs() * 86_400);
            let now = std::time::SystemTime::now();
            let certificate = match flaw {
                Flaw::Authority => Certificate::create_as_authority(&[HOST]),
                Flaw::Expired => Certificate::create_until(&[HOST], now - day(1)),
                // Half a day more, so that the number of whole days does not depend on the second.
                Flaw::ExpiresSoon => Certificate::create_until(&[HOST], now + day(6) + day(1) / 2),
                Flaw::OtherHost => Certificate::create(&["other.example.com"], &[]),
                Flaw::UnknownIssuer => Certificate::create(&[HOST], &[]),
            };
            let certificate = certificate.expect("a certificate");
            let address = serve_tls(row.fault, &certificate, None);
            let tls = match flaw {
                Flaw::UnknownIssuer => of_system(),
                _ => trusting(&certificate),
            };
            (site("https", &[(None, address)]), tls)
        }
        Transport::OldTls => {
            let address = crate::front::serve_old_tls();
            (site("https", &[(None, address)]), of_system())
        }
        Transport::Http2(status) => {
            let certificate = valid();
            let address = serve_tls(row.fault, &certificate, Some(status));
            (site("https", &[(None, address)]), trusting(&certificate))
        }
        Transport::Families(other) => {
            let one = serve(row.fault);
            let other = if other == row.fault {
                one
            } else {
                serve(other)
            };
            // An address of the other family that needs no IPv6 on this machine.
            let mapped = std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            let other = SocketAddr::new(mapped.into(), other.port());
            (site("http", &[(None, one), (None, other)]), of_system())
        }
    }
}

fn run(row: &Row, checks: &[&str]) -> Vec<Finding> {
    run_with(row, checks, |_| ())
}

/// Runs checks with further changes of the options.
fn run_with(row: &Row, checks: &[&str], change: impl Fn(&mut Options)) -> Vec<Finding> {
    let (site, tls) = start(row);
    let mut options = options(tls);
    (row.change)(&mut options);
    change(&mut options);
    let only: Vec<String> = checks.iter().map(|check| (*check).to_owned()).collect();
    let selection = CheckSelection::new(&only, &[]).expect("checks");
    runtime()
        .block_on(probe::run(site, options, &selection, |_| {}))
        .expect("a site")
}

pub(crate) fn options(tls: Tls) -> Options {
    Options {
        credentials: Credentials::default(),
        tls,
        key: None,
        hold: Duration::from_secs(1),
        may_write: false,
        direct: None,
        embed: None,
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn each_fault_is_found_by_its_check_with_its_cure() {
    let mut unexpected = Vec::new();
    for row in failing() {
        let name = format!("{} {:?} {:?}", row.check, row.fault, row.transport);
        let found = run(&row, &[row.check]);
        let problems: Vec<&Finding> = found
            .iter()
            .filter(|finding| finding.status >= Status::Warn)
            .collect();
        let is_expected = problems.iter().any(|problem| {
            let hint = problem.hint.as_deref().unwrap_or_default();
            let says = |part: &&str| problem.finding.contains(part);
            problem.check.id == row.check && row.finding.iter().all(says) && hint.contains(row.hint)
        });
        let have_hints = problems.iter().all(|problem| problem.hint.is_some());
        if !is_expected || !have_hints {
            unexpected.push((name, found));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[test]
fn nothing_is_found_in_a_front_without_a_fault() {
    for pass in passing() {
        let found = run(&pass.row, pass.checks);
        let ids: Vec<&str> = found.iter().map(|finding| finding.check.id).collect();
        assert_eq!(ids, pass.checks, "{found:#?}");
        for finding in found {
            assert_eq!(finding.status, Status::Pass, "{finding:#?}");
        }
    }
}

#[test]
fn a_check_that_cannot_run_is_skipped_with_its_reason() {
    let checks = [
        "P01", "P02", "P09", "P12", "P14", "P19", "P21", "P24", "P27", "P28",
    ];
    let found = run(&row("", Fault::NoUpgradeRoute, &[], ""), &checks);
    assert_eq!(found.len(), checks.len(), "{found:#?}");
    for finding in found {
        assert_eq!(finding.status, Status::Skipped, "{finding:#?}");
        assert!(!finding.finding.is_empty());
    }
}

/// Otherwise each of them would blame what it asks for.
#[test]
fn checks_that_meet_a_limit_of_the_rate_are_skipped() {
    let checks = ["P05", "P06", "P16", "P22", "P30"];
    for fault in [Fault::LimitsRate, Fault::TooManyRequests] {
        let found = run(&row("", fault, &[], ""), &checks);
        let statuses: Vec<(&str, Status)> = found
            .iter()
            .map(|finding| (finding.check.id, finding.status))
            .collect();
        let skipped = checks[..4].iter().map(|check| (*check, Status::Skipped));
        let expected: Vec<_> = skipped.chain([("P30", Status::Fail)]).collect();
        assert_eq!(statuses, expected, "{found:#?}");
        for finding in &found[..4] {
            assert!(finding.finding.contains("see P30"), "{finding:#?}");
        }
    }
}

/// The other checks go on with a name that passes. A front that refuses each name with the doctor's is left alone.
#[test]
fn a_rule_about_user_agent_is_told_once() {
    let checks = ["P05", "P06", "P08", "P12", "P16", "P18", "P30", "P31"];
    for (fault, status, own) in [
        (Fault::AdmitsBrowsers, Status::Pass, Status::Warn),
        (Fault::AdmitsBrowsersToSocket, Status::Pass, Status::Warn),
        (Fault::KeepsDoctorOut, Status::Skipped, Status::Fail),
    ] {
        let found = run(&row("", fault, &[], ""), &checks);
        let statuses: Vec<(&str, Status)> = found
            .iter()
            .map(|finding| (finding.check.id, finding.status))
            .collect();
        let others = checks.iter().map(|check| (*check, status));
        let expected: Vec<_> = others.chain([("P32", own)]).collect();
        assert_eq!(statuses, expected, "{fault:?} {found:#?}");
    }
    // The certificate is checked all the same: no request is needed for it.
    let found = run(&row("", Fault::KeepsDoctorOut, &[], ""), &["P01"]);
    assert_eq!(found[0].finding, "the URL is http", "{found:#?}");
}

/// Otherwise they would blame the length of a header, a version or a method. P31 is reported even if it is not selected.
#[test]
fn checks_that_meet_an_upstream_that_fails_are_skipped() {
    let checks = ["P05", "P06", "P15", "P16", "P30"];
    for fault in [
        Fault::NoUpstream,
        Fault::SecondUpstreamFails,
        Fault::LosesUpstream,
    ] {
        let found = run(&row("", fault, &[], ""), &checks);
        let statuses: Vec<(&str, Status)> = found
            .iter()
            .map(|finding| (finding.check.id, finding.status))
            .collect();
        let skipped = checks.iter().map(|check| (*check, Status::Skipped));
        let expected: Vec<_> = skipped.chain([("P31", Status::Fail)]).collect();
        assert_eq!(statuses, expected, "{fault:?} {found:#?}");
        for finding in &found[..checks.len()] {
            assert!(finding.finding.contains("see P31"), "{finding:#?}");
        }
    }
}

/// A hop answers 502 if the app answers an upload before all of it was passed on. That is no upstream that fails.
#[test]
fn a_long_upload_that_the_app_does_not_read_is_not_blamed_on_an_upstream() {
    let found = run(&row("", Fault::BreaksLongUploads, &[], ""), &["P16", "P31"]);
    let of_p31 = found.iter().find(|finding| finding.check.id == "P31");
    assert_eq!(of_p31.expect("P31").status, Status::Pass, "{found:#?}");
}

#[test]
fn a_check_does_not_blame_what_the_answer_does_not_show() {
    for (fault, check, status, says) in [
        (
            Fault::RoutesPageOnly,
            "P06",
            Status::Skipped,
            "like the health check; see P05",
        ),
        (
            Fault::ReplacesErrors,
            "P16",
            Status::Pass,
            "passes every hop",
        ),
        (
            Fault::None,
            "P23",
            Status::Pass,
            "no internal page was found",
        ),
        (
            Fault::DocumentsApi,
            "P23",
            Status::Pass,
            "neither metrics nor the pages of a proxy were found, but the API documents itself to everybody at \
             `/apps/my-app/api/openapi.json`, `/apps/my-app/api/docs`; the app decides that: FastAPI(docs_url=None",
        ),
        (
            Fault::ReplacesErrors,
            "P18",
            Status::Skipped,
            "400 by nginx, which replaces what the app says",
        ),
    ] {
        let found = run(&row("", fault, &[], ""), &[check]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].status, status, "{found:#?}");
        assert!(found[0].finding.contains(says), "{found:#?}");
    }
}

/// Whether browsers send a cookie in a frame depends on whose names are below a domain, unless one host is below the other.
#[test]
fn a_site_that_embeds_the_app_is_compared_by_its_labels() {
    for (origin, status, says) in [
        ("https://portal.example.com:8443", Status::Pass, "may embed"),
        ("https://example.com", Status::Pass, "may embed"),
        ("https://a.portal.example.com", Status::Pass, "may embed"),
        (
            "https://a.example.com",
            Status::Skipped,
            "below `example.com`",
        ),
        (
            "https://evilportal.example.com",
            Status::Skipped,
            "below `example.com`",
        ),
        (
            "https://portal.example.com.example.org",
            Status::Warn,
            "of another site",
        ),
    ] {
        let row = row("", Fault::LaxCookie, &[], "").over(Transport::Https(Fault::None));
        let embed = Site::parse(origin).ok();
        let found = run_with(&row, &["P27"], |options| options.embed.clone_from(&embed));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].status, status, "{origin}: {found:#?}");
        assert!(found[0].finding.contains(says), "{origin}: {found:#?}");
    }
}

#[test]
fn nothing_but_tls_is_checked_if_tls_fails() {
    let row = row("", Fault::None, &[], "").over(Transport::Certificate(Flaw::OtherHost));
    let found = run(&row, &["P08", "P15"]);
    let found: Vec<(&str, Status)> = found
        .iter()
        .map(|finding| (finding.check.id, finding.status))
        .collect();
    let expected = [
        ("P01", Status::Fail),
        ("P08", Status::Skipped),
        ("P15", Status::Skipped),
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_value_of_a_credential_is_in_a_finding() {
    let with_secrets = |fault| {
        row("", fault, &[], "").with(|options| {
            options.credentials = cookies("session=hunter2-cookie");
            options
                .credentials
                .add_fields("Authorization: Bearer hunter2-field")
                .expect("fields");
        })
    };
    for fault in [
        Fault::LosesUpgrade,
        Fault::LoginBeforeSocket,
        Fault::RewritesHost,
        Fault::ClaimsOtherScheme,
    ] {
        let found = run(&with_secrets(fault), &["P08", "P11", "P17", "P21"]);
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
    let options = options(Tls::new(None).expect("certificates"));
    let error = runtime()
        .block_on(probe::run(
            site,
            options,
            &CheckSelection::default(),
            |_| {},
        ))
        .expect_err("nothing listens");
    assert!(
        error
            .to_string()
            .starts_with("http://127.0.0.1:1/ cannot be reached"),
        "{error}"
    );
}
