//! Checks the filter's settings as the filter itself does, without Envoy (a part of F08).

use fluxlit_policy::{Defaults, Policy};
use serde_json::{Map, Value};

use crate::outcome::Outcome;

/// Checks the text that the filter gets as its configuration.
pub(crate) fn check(place: &str, text: &str, outcome: &mut Outcome) {
    if text.trim().is_empty() {
        outcome.fail(
            format!("{place}: there is no plugin configuration, so the filter does not start"),
            "write the settings as JSON; {} is allowed and trusts nobody",
        );
        return;
    }
    match Policy::from_json(text.as_bytes(), Defaults::FILTER) {
        Ok(policy) => {
            outcome.right(format!("{place}: the filter accepts its settings"));
            for warning in policy.warnings() {
                outcome.warn(format!("{place}: {warning}"), "see docs/settings.md");
            }
        }
        Err(errors) => {
            for error in errors.errors() {
                outcome.fail(
                    format!("{place}: {}: {error}", error.code()),
                    "correct the plugin configuration: Envoy rejects the whole listener",
                );
            }
        }
    }
}

/// Returns true for settings of the FluxLit filter that are valid and not empty.
pub(crate) fn are_ours(text: &str) -> bool {
    let settings: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    !settings.is_empty() && Policy::from_json(text.as_bytes(), Defaults::FILTER).is_ok()
}
