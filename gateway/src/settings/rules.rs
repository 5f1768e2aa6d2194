//! Reads the settings of the policy.
//!
//! This module only converts them to their types; the policy checks their values.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::settings::source::Source;
use crate::settings::sources::{Found, Sources};
use crate::settings::values::{BOOLEANS, Form, PREFIX, read_boolean};

impl Source<'_> {
    /// Returns the settings of the policy, keyed by their names in the policy.
    pub(super) fn rules(&mut self) -> Map<String, Value> {
        let mut rules = Map::new();
        for (name, kind) in RULES {
            let value = match name {
                ROOT_PATH => self.first_that_says_something(
                    [name, STREAMLIT_PUBLIC_PATH],
                    Sources::find,
                    &kind,
                ),
                PUBLIC_BASE_URL => self.first_that_says_something(
                    [name, GENERIC_BASE_URL],
                    Sources::in_environment,
                    &kind,
                ),
                _ => self.optional(name, &kind).flatten(),
            };
            if let (Some(value), Some(rule)) = (value, name.strip_prefix(PREFIX)) {
                rules.insert(rule.to_ascii_lowercase(), value);
            }
        }
        self.fluxlit_security_headers(&mut rules);
        rules
    }

    /// Reads a setting that FluxLit takes from the second of two variables if the first is not set or blank. `find_second`:
    /// where the second is looked for.
    fn first_that_says_something(
        &mut self,
        [name, second]: [&'static str; 2],
        find_second: fn(&Sources, &str) -> Option<Found>,
        kind: &Kind,
    ) -> Option<Value> {
        let is_blank = |found: &Found| found.text.trim().is_empty();
        let first = self.sources.find(name);
        let other = find_second(self.sources, second).filter(|found| !is_blank(found));
        match (first, other) {
            (Some(first), Some(other)) if !is_blank(&first) => {
                if first.text.trim() != other.text.trim() {
                    self.not_used(second, name);
                } else {
                    self.know(second);
                }
                self.convert(name, first, Value::Null, kind)
            }
            (first, Some(other)) => {
                if first.is_none() {
                    self.know(name);
                }
                self.convert(second, other, Value::Null, kind)
            }
            (Some(first), None) => {
                self.know(second);
                let is_blank = is_blank(&first);
                let value = self.convert(name, first, Value::Null, kind);
                value.filter(|_| !is_blank)
            }
            (None, None) => {
                self.know(second);
                self.optional(name, kind).flatten()
            }
        }
    }

    /// Adds what FluxLit's switch means: the security headers, and Strict-Transport-Security with FluxLit's value.
    fn fluxlit_security_headers(&mut self, rules: &mut Map<String, Value>) {
        let is_on = self.default("FLUXLIT_ENABLE_SECURITY_HEADERS", "false", &Kind::Boolean);
        if is_on == Some(Value::Bool(true)) {
            rules
                .entry("security_headers")
                .or_insert_with(|| true.into());
            rules.entry("hsts").or_insert_with(|| "fluxlit".into());
        }
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
                .or_else(|| serde_json::from_str(text).ok())
                .or_else(|| is_keyword(text).then(|| text.trim().into())),
            Self::Text => Some(text.into()),
        };
        let value = value.ok_or(text)?;
        let shown = match &value {
            Value::Bool(_) | Value::Number(_) => value.clone(),
            _ => text.into(),
        };
        Ok((value, shown))
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
const RULES: [(&str, Kind); 30] = [
    ("FLUXLIT_ALLOWED_HOSTS", Kind::List),
    ("FLUXLIT_CLIENT_IP_HEADER", Kind::Text),
    ("FLUXLIT_CONTENT_SECURITY_POLICY", Kind::Json),
    ("FLUXLIT_COOKIE_PATH", Kind::Text),
    ("FLUXLIT_EMIT_FORWARDED", Kind::Boolean),
    ("FLUXLIT_FORWARDED_ALLOW_IPS", Kind::Text),
    ("FLUXLIT_FORWARDED_SOURCE", Kind::Text),
    ("FLUXLIT_HSTS", Kind::Switch),
    ("FLUXLIT_IDENTITY_HEADERS", Kind::List),
    ("FLUXLIT_MOUNTS", Kind::Json),
    ("FLUXLIT_OUTSIDE_MOUNT", Kind::Text),
    ("FLUXLIT_PREFIX_FROM_HEADER", Kind::Boolean),
    ("FLUXLIT_PROBE_KEY", Kind::Text),
    (PUBLIC_BASE_URL, Kind::Text),
    ("FLUXLIT_REDIRECT_BARE_MOUNT", Kind::Boolean),
    ("FLUXLIT_REDIRECT_TO_HTTPS", Kind::Boolean),
    ("FLUXLIT_REPORT_ONLY", Kind::Boolean),
    (ROOT_PATH, Kind::Text),
    ("FLUXLIT_ROOT_PATH_SHAPE", Kind::Text),
    ("FLUXLIT_SECURITY_HEADERS", Kind::Switch),
    ("FLUXLIT_STRIP_HEADERS", Kind::List),
    ("FLUXLIT_TRUST_ANY_PEER", Kind::Boolean),
    ("FLUXLIT_TRUST_PROXY", Kind::Boolean),
    ("FLUXLIT_TRUSTED_HOPS", Kind::Number),
    ("FLUXLIT_TRUSTED_IDENTITIES", Kind::List),
    ("FLUXLIT_TRUSTED_PASS_HEADERS", Kind::List),
    ("FLUXLIT_UPSTREAM_AUTHORITIES", Kind::List),
    ("FLUXLIT_UPSTREAM_HOST", Kind::Text),
    ("FLUXLIT_UPSTREAM_PATH", Kind::Text),
    ("FLUXLIT_XFF_MODE", Kind::Text),
];

/// Returns true for a single word, such as `fluxlit`.
fn is_keyword(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphabetic() || octet == b'_')
}

const ROOT_PATH: &str = "FLUXLIT_ROOT_PATH";
const STREAMLIT_PUBLIC_PATH: &str = "FLUXLIT_STREAMLIT_PUBLIC_PATH";
const PUBLIC_BASE_URL: &str = "FLUXLIT_PUBLIC_BASE_URL";

/// Some platforms set it for every app.
pub(super) const GENERIC_BASE_URL: &str = "PUBLIC_BASE_URL";

/// The settings of the policy that need information that only Envoy has.
#[cfg(test)]
const ONLY_IN_ENVOY: [&str; 2] = ["connection_facts_key", "peer_filter_state_key"];

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
