//! Reads the settings of the policy.
//!
//! This module only converts them to their types; the policy checks their values.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::settings::source::Source;
use crate::settings::values::{BOOLEANS, Form, PREFIX, read_boolean};

impl Source<'_> {
    /// Returns the settings of the policy, keyed by their names in the policy.
    pub(super) fn rules(&mut self) -> Map<String, Value> {
        let mut rules = Map::new();
        for (name, kind) in RULES {
            if let (Some(Some(value)), Some(rule)) =
                (self.optional(name, &kind), name.strip_prefix(PREFIX))
            {
                rules.insert(rule.to_ascii_lowercase(), value);
            }
        }
        rules
    }
}

/// The type of a setting of the policy, and how it is written in a variable.
#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Json,
    List,
    Number,
    /// A boolean, or a JSON object with the settings of the group.
    Switch,
    Text,
}

impl Form for Kind {
    type Value = Value;

    fn read(&self, text: &str) -> Result<(Value, Value), String> {
        let value = match self {
            Self::Boolean => read_boolean(text).map(Value::Bool),
            Self::Json => serde_json::from_str(text).ok(),
            Self::List if text.trim().is_empty() => Some(Value::Array(Vec::new())),
            Self::List => Some(
                text.split(',')
                    .map(|item| Value::from(item.trim()))
                    .collect(),
            ),
            Self::Number => text.trim().parse::<i64>().ok().map(Value::from),
            Self::Switch => read_boolean(text)
                .map(Value::Bool)
                .or_else(|| serde_json::from_str(text).ok()),
            Self::Text => Some(text.into()),
        };
        Ok((value.ok_or(text)?, text.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Boolean => BOOLEANS,
            Self::Json => "JSON",
            Self::List => "a comma-separated list",
            Self::Number => "a whole number",
            Self::Switch => "a boolean or a JSON object with the settings of the group",
            Self::Text => "a text",
        }
        .into()
    }
}

/// The settings of the policy, except those in `ONLY_IN_ENVOY`.
const RULES: [(&str, Kind); 27] = [
    ("FLUXLIT_ALLOWED_HOSTS", Kind::List),
    ("FLUXLIT_CLIENT_IP_HEADER", Kind::Text),
    ("FLUXLIT_CONTENT_SECURITY_POLICY", Kind::Json),
    ("FLUXLIT_COOKIE_PATH", Kind::Text),
    ("FLUXLIT_EMIT_FORWARDED", Kind::Boolean),
    ("FLUXLIT_FORWARDED_ALLOW_IPS", Kind::Text),
    ("FLUXLIT_FORWARDED_SOURCE", Kind::Text),
    ("FLUXLIT_HSTS", Kind::Switch),
    ("FLUXLIT_IDENTITY_HEADERS", Kind::List),
    ("FLUXLIT_OUTSIDE_MOUNT", Kind::Text),
    ("FLUXLIT_PREFIX_FROM_HEADER", Kind::Boolean),
    ("FLUXLIT_PUBLIC_BASE_URL", Kind::Text),
    ("FLUXLIT_REDIRECT_BARE_MOUNT", Kind::Boolean),
    ("FLUXLIT_REDIRECT_TO_HTTPS", Kind::Boolean),
    ("FLUXLIT_REPORT_ONLY", Kind::Boolean),
    ("FLUXLIT_ROOT_PATH", Kind::Text),
    ("FLUXLIT_ROOT_PATH_SHAPE", Kind::Text),
    ("FLUXLIT_SECURITY_HEADERS", Kind::Switch),
    ("FLUXLIT_STRIP_HEADERS", Kind::List),
    ("FLUXLIT_TRUST_ANY_PEER", Kind::Boolean),
    ("FLUXLIT_TRUST_PROXY", Kind::Boolean),
    ("FLUXLIT_TRUSTED_HOPS", Kind::Number),
    ("FLUXLIT_TRUSTED_PASS_HEADERS", Kind::List),
    ("FLUXLIT_UPSTREAM_AUTHORITIES", Kind::List),
    ("FLUXLIT_UPSTREAM_HOST", Kind::Text),
    ("FLUXLIT_UPSTREAM_PATH", Kind::Text),
    ("FLUXLIT_XFF_MODE", Kind::Text),
];

/// The settings of the policy that need information that only Envoy has.
#[cfg(test)]
const ONLY_IN_ENVOY: [&str; 3] = ["mounts", "peer_filter_state_key", "trusted_identities"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_of_the_policy_is_here() {
        let schema: Value =
            serde_json::from_str(include_str!("../../../policy/schema.json")).expect("JSON");
        let properties = schema["properties"].as_object().expect("an object");
        let expected: BTreeSet<String> = properties.keys().cloned().collect();
        let here: BTreeSet<String> = RULES
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(PREFIX))
            .map(str::to_ascii_lowercase)
            .chain(ONLY_IN_ENVOY.map(str::to_owned))
            .collect();
        assert_eq!(here, expected);
    }
}
