//! Finds internal pages that an outsider can read through the gateway (D15).

use std::net::SocketAddr;

use crate::api_documentation::ApiDocumentation;
use crate::app::instance::Instance;
use crate::app::server::Server;
use crate::app::subject::Subject;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// D15: asks a second gateway with the same settings for what only operators need. `app`: the gateway that was started for the
/// app, and has started its API, if there is one.
pub(crate) async fn internals(
    server: &Server,
    subject: &Subject,
    app: Option<SocketAddr>,
    outcome: &mut Outcome,
) {
    let settings = subject.settings.iter();
    let api: Vec<(&str, &str)> = settings
        .filter(|(name, _)| name == API_UPSTREAM)
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let gateway = match Instance::in_front_of(subject, server.address, &api).await {
        Ok(gateway) => gateway,
        Err(error) => return outcome.skip(format!("the second gateway does not start: {error}")),
    };
    let host = subject.public_authority();
    let mut open = Vec::new();
    for (path, sign, setting) in PAGES {
        let target = format!("{}{path}", subject.mount);
        match exchange(gateway.address, None, &request("GET", &target, &host, &[])).await {
            Ok(reply) => {
                let body = String::from_utf8_lossy(&reply.body);
                if reply.status == 200 && body.contains(sign) {
                    open.push((path, setting));
                }
            }
            Err(error) => {
                return outcome.skip(format!("the second gateway does not answer: {error}"));
            }
        }
    }
    for (path, setting) in &open {
        outcome.warn(
            format!(
                "`{}{path}` is reachable for everybody who can open the app",
                subject.mount
            ),
            *setting,
        );
    }
    let mut documentation = ApiDocumentation::default();
    let with_api = app.unwrap_or(gateway.address);
    for (target, mark) in ApiDocumentation::targets(&format!("{}{}", subject.mount, subject.api)) {
        let bytes = request("GET", &target, &host, &[]);
        match exchange(with_api, None, &bytes).await {
            Ok(response) if response.status != 308 => documentation.see(&target, mark, &response),
            // The gateway of the app has TLS, or redirects to it.
            _ => outcome.right(
                "the gateway of the app does not answer over http, so whether an API documents itself is not known",
            ),
        }
    }
    outcome.right(documentation.sentence(
        "no internal page is reachable from outside",
        "neither metrics nor the debug page are reachable from outside",
    ));
}

/// Where the API is, if the gateway does not start it.
const API_UPSTREAM: &str = "FLUXLIT_API_UPSTREAM";

/// A path, what its response contains, and how it is closed.
const PAGES: [(&str, &str, &str); 3] = [
    (
        "/__fluxlit/debug",
        "fluxlit_debug",
        "remove FLUXLIT_GATEWAY_PUBLIC_INTERNALS, and set FLUXLIT_GATEWAY_ADMIN_ADDRESS=127.0.0.1:9901",
    ),
    (
        "/__fluxlit/metrics",
        "fluxlit_gateway",
        "remove FLUXLIT_GATEWAY_PUBLIC_INTERNALS, and set FLUXLIT_GATEWAY_ADMIN_ADDRESS=127.0.0.1:9901",
    ),
    (
        "/_stcore/metrics",
        "active_sessions",
        "remove FLUXLIT_GATEWAY_PUBLIC_INTERNALS; operators reach this path on FLUXLIT_GATEWAY_ADMIN_ADDRESS",
    ),
];
