//! Finds internal pages that an outsider can read through the gateway (D15).

use crate::app::instance::Instance;
use crate::app::server::Server;
use crate::app::subject::Subject;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// D15: asks a second gateway with the same settings for what only operators need.
pub(crate) async fn internals(server: &Server, subject: &Subject, outcome: &mut Outcome) {
    let gateway = match Instance::in_front_of(subject, server.address, &[]).await {
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
    outcome.right("no internal page is reachable from outside");
}

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
