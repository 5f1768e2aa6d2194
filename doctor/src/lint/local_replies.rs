//! Finds listeners whose own error responses lack HSTS (F06).
//!
//! Envoy responds to malformed or too large requests before any filter runs.

use serde_json::Value;

use crate::lint::envoy::Ours;
use crate::lint::message::items;
use crate::outcome::Outcome;

/// Says why manifests with the filter are not checked.
pub(crate) fn not_in_manifests(label: &str, outcome: &mut Outcome) {
    outcome.skip(format!(
        "{label}: the control plane decides which fields Envoy's own responses have; lint a dump of the proxy (/config_dump)"
    ));
}

/// Checks one connection manager with the FluxLit filter.
pub(crate) fn check(ours: &Ours<'_>, outcome: &mut Outcome) {
    let place = ours.place();
    let hsts = &ours.filter.settings()["hsts"];
    let is_on = match hsts {
        Value::Null | Value::Bool(false) => false,
        Value::Object(fields) => fields
            .get("mode")
            .is_none_or(|mode| mode != "off" && mode != "upstream"),
        _ => true,
    };
    let adds_hsts = items(&ours.manager.config["local_reply_config"]["mappers"]).any(|mapper| {
        items(&mapper["headers_to_add"]).any(|addition| {
            addition["header"]["key"]
                .as_str()
                .is_some_and(|name| name.eq_ignore_ascii_case("strict-transport-security"))
        })
    });
    match (ours.manager.has_tls, adds_hsts) {
        (false, true) => outcome.warn(
            format!("{place}: local_reply_config sends HSTS over plain HTTP, which browsers must ignore (RFC 6797 7.2)"),
            "remove it from listeners that do not terminate TLS",
        ),
        (true, false) if is_on => outcome.warn(
            format!("{place}: 400, 431 and other responses that Envoy sends before the filter runs have no HSTS"),
            "add the local_reply_config of envoy/tls.yaml to the connection manager",
        ),
        (true, true) => outcome.right(format!("{place}: Envoy's own responses carry HSTS")),
        (true, false) => outcome.right(format!("{place}: HSTS is off")),
        (false, false) => outcome.right(format!("{place}: no TLS, so no HSTS")),
    }
}
