//! Builds the policy from the configuration text, and logs why it is invalid.

use fluxlit_policy::{Defaults, Policy};
use log::{error, warn};

/// Reads the configuration of a plugin, and logs the warnings about it. Returns `None` if it is invalid; the reasons are in
/// the log, one line each.
pub fn read_policy(configuration: &[u8]) -> Option<Policy> {
    match parse(configuration) {
        Ok(policy) => {
            for warning in policy.warnings() {
                warn!("{warning}");
            }
            Some(policy)
        }
        Err(reason) => {
            for line in reason.lines() {
                error!("configuration refused: {line}");
            }
            None
        }
    }
}

fn parse(configuration: &[u8]) -> Result<Policy, String> {
    if configuration.trim_ascii().is_empty() {
        return Err(
            "there is no plugin configuration. Give a JSON object; {} trusts no peer, has no mount \
             and removes every forged header."
                .to_owned(),
        );
    }
    if !configuration.trim_ascii_start().starts_with(b"{") {
        return Err(
            "the plugin configuration is not a JSON object. In Envoy, give it as a \
             google.protobuf.StringValue that holds JSON; a Struct arrives as binary."
                .to_owned(),
        );
    }
    Policy::from_json(configuration, Defaults::FILTER).map_err(|errors| errors.to_string())
}
