//! Describes the configuration that runs, for metrics.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::debug::redacted;

/// What operators must know about the configuration that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Equal settings have equal hashes: 16 hexadecimal digits. Secrets are not a part of it, so that it does not reveal them.
    pub(crate) hash: String,
    /// Number of warnings.
    pub(super) warnings: usize,
}

impl Config {
    /// `settings`: each variable, such as `FLUXLIT_ROOT_PATH`, with its value, in any order.
    pub(crate) fn new<'s>(
        settings: impl IntoIterator<Item = (&'s str, &'s Value)>,
        warnings: usize,
    ) -> Self {
        let mut lines: Vec<String> = settings
            .into_iter()
            .map(|(name, value)| {
                let value = redacted(&name.to_ascii_lowercase(), value.clone());
                format!("{name}={value}\n")
            })
            .collect();
        lines.sort_unstable();
        let digest = Sha256::digest(lines.concat());
        let mut hash = String::new();
        for octet in digest.iter().take(HASH_BYTES) {
            // Writing to a string does not fail.
            let _ = write!(hash, "{octet:02x}");
        }
        Self { hash, warnings }
    }
}

/// Enough to tell configurations apart.
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hash(settings: &[(&str, Value)]) -> String {
        let settings = settings.iter().map(|(name, value)| (*name, value));
        Config::new(settings, 0).hash
    }

    #[test]
    fn equal_settings_have_equal_hashes() {
        let port = ("FLUXLIT_GATEWAY_PORT", json!(8000));
        let path = ("FLUXLIT_ROOT_PATH", json!("/a"));
        let one = hash(&[port.clone(), path.clone()]);
        assert_eq!(one, hash(&[path.clone(), port.clone()]));
        assert_eq!(one.len(), 16);
        for other in [
            vec![],
            vec![port.clone()],
            vec![port.clone(), ("FLUXLIT_ROOT_PATH", json!("/b"))],
            vec![("FLUXLIT_GATEWAY_PORT", json!("8000")), path],
        ] {
            assert_ne!(one, hash(&other), "{other:?}");
        }
    }

    #[test]
    fn a_secret_does_not_change_the_hash() {
        let with = |secret: &str| hash(&[("FLUXLIT_PROBE_KEY", json!(secret))]);
        assert_eq!(with("one"), with("other"));
        assert_ne!(with("one"), with(""), "whether it is set does");
    }
}
