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

/// Returns every check, in the order of the report.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    APP.iter().chain(&FLUXLIT).chain(&LINT)
}
