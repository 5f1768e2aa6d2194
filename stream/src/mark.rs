//! Marks each request that was processed, so that routes can refuse the others.
//!
//! Envoy can serve a path without the filter: if a VM could not be made, if the filter is disabled on a route, or if an
//! upgrade has a filter list of its own. So routes match the mark, and a request without it has no route.

use fluxlit_policy::{Exchange, Peer};

use crate::host::Host;

/// The name under which a wasm filter stores the client's address.
pub const CLIENT: &str = "fluxlit.client";

/// The name under which routes, access logs, RBAC and rate limits find it: Envoy prefixes the filter state that wasm
/// filters store, so that no header and no other kind of filter can set it by accident. The dynamic module stores it under
/// the same name, so that the same routes serve both.
pub const CLIENT_KEY: &str = "wasm.fluxlit.client";

/// What is stored instead of the client with `report_only`. It must not be empty, and is not an address.
const REPORT_ONLY: &[u8] = b"report_only";

/// What is stored about a request that was processed.
#[derive(Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// The headers are rewritten, and this is the client.
    Rewritten(&'a str),
    /// The headers are unchanged, because of `report_only`.
    ReportOnly,
}

impl<'a> Mark<'a> {
    pub(crate) fn of(is_report_only: bool, exchange: &'a Exchange, peer: Peer) -> Self {
        if is_report_only {
            Self::ReportOnly
        } else {
            Self::Rewritten(name_client(exchange, peer))
        }
    }

    pub(crate) fn store<H: Host>(self, host: &mut H) {
        match self {
            Self::Rewritten(client) => host.store_client(client.as_bytes()),
            // Another plugin of this chain, which does rewrite, may have stored the client.
            Self::ReportOnly if is_rewritten(host) => {}
            Self::ReportOnly => host.store_client(REPORT_ONLY),
        }
    }
}

/// Returns true if the headers of the request have already been rewritten.
pub(crate) fn is_rewritten<H: Host>(host: &H) -> bool {
    host.stored_client()
        .is_some_and(|mark| mark.as_ref() != REPORT_ONLY)
}

/// Returns the client as access logs, RBAC and rate limits read it in the filter state.
fn name_client(exchange: &Exchange, peer: Peer) -> &str {
    match (&exchange.client_text, peer) {
        (Some(address), _) => address,
        (None, Peer::Unix) => "unix",
        (None, _) => "unknown",
    }
}
