//! Lists the checks: their ids, names and purposes, in the order of the report.
//!
//! An id never changes its meaning, and each has a section in `docs/doctor.md`.

/// A check.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// The stable id, such as `D05`. The checks that FluxLit has too are identified by their names there.
    pub id: &'static str,
    /// The stable name, such as `ws-origin`.
    pub name: &'static str,
    /// What is checked, in one phrase.
    pub purpose: &'static str,
}

impl Check {
    /// Returns the section of the documentation, such as `docs/doctor.md#d05-ws-origin`.
    #[must_use]
    pub fn documentation(&self) -> String {
        let anchor = if self.id == self.name {
            self.name.to_owned()
        } else {
            format!("{}-{}", self.id.to_ascii_lowercase(), self.name)
        };
        format!("docs/doctor.md#{anchor}")
    }
}

const fn check(id: &'static str, name: &'static str, purpose: &'static str) -> Check {
    Check { id, name, purpose }
}

/// The checks of the own settings, of Streamlit, and of further instances of the gateway.
#[rustfmt::skip]
pub static APP: [Check; 18] = [
    check("D01", "trust-config", "the settings are valid, and trust nobody by accident"),
    check("D02", "generation", "the upstream is Streamlit, and of which generation"),
    check("D03", "health", "the health check responds `ok` under the base path"),
    check("D04", "base-vs-mount", "the mount and Streamlit's base path agree"),
    check("D05", "ws-origin", "the app's page may open the WebSocket, and foreign pages may not"),
    check("D06", "ws-protocol", "Streamlit receives the protocol line of the WebSocket unchanged"),
    check("D07", "ws-headers", "Streamlit answers every handshake that the gateway forwards"),
    check("D08", "xsrf", "Streamlit's protection against cross-site uploads is on"),
    check("D09", "upstream-trust", "Streamlit believes the gateway's forwarded headers"),
    check("D10", "client-address", "a page sees the client's address (--page)"),
    check("D11", "spoof-self-test", "no forged header passes a second gateway with the same settings"),
    check("D12", "isolation-self-test", "a second gateway keeps no cookie of one client for another"),
    check("D13", "limits", "the gateway lets pass the uploads that Streamlit accepts"),
    check("D14", "timeouts", "no idle limit is shorter than two pings (--slow observes one)"),
    check("D15", "internals", "no internal page is reachable from outside"),
    check("D16", "identity", "the headers that name the user agree between Streamlit and the gateway"),
    check("D17", "lifecycle", "a gateway that stops ends its WebSockets and children (--slow)"),
    check("D18", "hsts-config", "HSTS reaches only own hosts, and is set in one place"),
];

/// The checks of FluxLit's doctor that concern the gateway, under FluxLit's names.
#[rustfmt::skip]
pub static FLUXLIT: [Check; 5] = [
    check("import_shadowing", "import_shadowing", "the target's module is found in one place only"),
    check("proxy_headers", "proxy_headers", "an app with a mount believes its proxy"),
    check("forwarded_allow_ips", "forwarded_allow_ips", "the trusted proxies are named"),
    check("public_base_url", "public_base_url", "the public URL is valid and ends with the mount"),
    check("gateway_forward_rejected_names", "gateway_forward_rejected_names", "no listed header is one that FluxLit rejects"),
];

/// The checks of configurations of Envoy, Istio and Envoy Gateway.
#[rustfmt::skip]
pub static LINT: [Check; 8] = [
    check("F01", "peer-source", "no header can choose the address of the peer"),
    check("F02", "presence", "no request passes without the filter"),
    check("F03", "failure", "a failed filter passes nothing, and is started again"),
    check("F04", "path", "paths are normalized before they are matched, and rewritten once"),
    check("F05", "live", "the filter's counters move with the requests (--admin)"),
    check("F06", "errors", "Envoy's own responses carry HSTS as well"),
    check("F07", "sockets", "WebSockets and streamed responses pass"),
    check("F08", "offline", "the filter accepts its settings, and Envoy the configuration (--envoy)"),
];

/// The checks of a deployed edge from outside.
#[rustfmt::skip]
pub static PROBE: [Check; 32] = [
    check("P01", "tls", "the certificate is valid, for some time, on each address"),
    check("P02", "http-first", "plain HTTP redirects to the same app over TLS"),
    check("P03", "hsts-and-headers", "HSTS is sent once on every response, errors included"),
    check("P04", "bare-mount", "the mount without its slash redirects to itself, whatever a client claims"),
    check("P05", "shapes", "only the mount itself leads to the app, by whole segments"),
    check("P06", "assets", "each script of the page is below the mount, and a script on every connection"),
    check("P07", "deep-link", "a nested health check responds 404, which links to pages need"),
    check("P08", "socket-h1", "the app's own page can open its WebSocket"),
    check("P09", "socket-h2", "WebSockets inside HTTP/2 work if they are offered"),
    check("P10", "foreign-origin", "pages of other sites cannot open the WebSocket"),
    check("P11", "protocol", "the protocol line of the WebSocket passes unchanged"),
    check("P12", "resume", "a broken WebSocket resumes its session"),
    check("P13", "hold", "a silent WebSocket stays open (--hold)"),
    check("P14", "big-message", "a large message passes in both directions (--write)"),
    check("P15", "big-headers", "long cookies pass or are refused, and never meet silence"),
    check("P16", "upload-limit", "uploads that Streamlit accepts pass every hop"),
    check("P17", "cookies", "cookies stay within the mount, and are sent once"),
    check("P18", "replicas", "all requests of a browser reach the same replica"),
    check("P19", "forged-headers", "forged headers are removed, and filter and gateway are in the path (--token-file)"),
    check("P20", "paths", "odd paths do not lead out of the mount"),
    check("P21", "login", "the WebSocket needs the same login as the page (--cookie-file)"),
    check("P22", "health-check", "the health check responds to GET and HEAD, and is not cached"),
    check("P23", "exposure", "no internal page is reachable from outside"),
    check("P24", "streaming", "responses are streamed"),
    check("P25", "versions", "every connection reaches the same version of the app"),
    check("P26", "transforms", "the page arrives as Streamlit has sent it"),
    check("P27", "embed", "the page may be embedded by a site (--embed)"),
    check("P28", "families", "IPv4 and IPv6 lead to the same app"),
    check("P29", "content-policy", "no Content-Security-Policy blocks what the page needs"),
    check("P30", "rate-limit", "requests that follow each other quickly are not refused"),
    check("P31", "upstreams", "every request reaches the app"),
    check("P32", "user-agent", "the front does not refuse the doctor by its User-Agent"),
];

/// Returns every check, in the order of the report.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    APP.iter().chain(&FLUXLIT).chain(&PROBE).chain(&LINT)
}
