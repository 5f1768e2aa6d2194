//! Which settings are the policy's, and how are they written in a variable?
//!
//! What their values mean is the policy's to judge; here they are only given their type.

use serde_json::{Map, Value};

use crate::settings::source::{PREFIX, Source, read_boolean};

impl Source<'_> {
    /// The settings of the policy, by their names there. What their values mean is the policy's to judge; here they are
    /// only given their type.
    pub(super) fn rules(&mut self) -> Map<String, Value> {
        let mut rules = Map::new();
        for (name, kind) in RULES {
            let Some(text) = self.get(name) else {
                continue;
            };
            let Some(setting) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match kind.read(&text) {
                Some(value) => {
                    rules.insert(setting.to_ascii_lowercase(), value);
                }
                None => self.wrong(name, text, kind.expected()),
            }
        }
        rules
    }
}

/// The type that a setting of the policy has, and how it is written in a variable.
#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Json,
    List,
    Number,
    /// A boolean, or JSON with the values of the group.
    Switch,
    Text,
}

impl Kind {
    fn read(self, text: &str) -> Option<Value> {
        match self {
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
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "1, true, yes, on, 0, false, no or off",
            Self::Json => "JSON",
            Self::List | Self::Text => "a text",
            Self::Number => "a whole number",
            Self::Switch => "a boolean or a JSON object with the settings of the group",
        }
    }
}

/// The settings of the policy, but for those that only Envoy has facts for.
const RULES: [(&str, Kind); 26] = [
    ("FLUXLIT_ALLOWED_HOSTS", Kind::List),
    ("FLUXLIT_CLIENT_IP_HEADER", Kind::Text),
    ("FLUXLIT_CONTENT_SECURITY_POLICY", Kind::Json),
    ("FLUXLIT_COOKIE_PATH", Kind::Text),
    ("FLUXLIT_EMIT_FORWARDED", Kind::Boolean),
    ("FLUXLIT_FORWARDED_ALLOW_IPS", Kind::Text),
    ("FLUXLIT_FORWARDED_SOURCE", Kind::Text),
    ("FLUXLIT_HSTS", Kind::Switch),
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
