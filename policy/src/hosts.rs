//! Matches host names against the names and suffixes that settings list.
//!
//! A name is exact, or a suffix such as `*.example.com`, which covers any name below `example.com` but not `example.com`
//! itself. A look-up costs the same for one name as for hundreds.

use std::collections::BTreeMap;

use crate::config_error::ConfigError;
use crate::effective::Authority;

/// A host name as a setting may list it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    /// Every host, and requests without a host.
    Any,
    /// This name.
    Exact(String),
    /// Names that end with this text. It begins with a dot, so that `*.example.com` cannot match `notexample.com`.
    Suffix(String),
}

impl HostPattern {
    /// Parses the list of a setting; an empty list means every host.
    pub(crate) fn parse_list(
        setting: &str,
        written: Vec<String>,
        errors: &mut Vec<ConfigError>,
    ) -> Vec<Self> {
        if written.is_empty() {
            return vec![Self::Any];
        }
        let mut patterns = Vec::with_capacity(written.len());
        for value in written {
            let (name, is_suffix) = match value.strip_prefix("*.") {
                Some(name) => (name, true),
                None => (value.as_str(), false),
            };
            match Authority::parse(name.as_bytes()) {
                Some(Authority { host, port: None }) if is_suffix => {
                    patterns.push(Self::Suffix(format!(".{}", &*host)));
                }
                Some(Authority { host, port: None }) => {
                    patterns.push(Self::Exact(host.to_string()));
                }
                _ => errors.push(ConfigError::Authority {
                    setting: setting.to_owned(),
                    value,
                }),
            }
        }
        patterns
    }
}

/// A map from host patterns to values.
#[derive(Debug, Clone)]
pub(crate) struct HostTable<T> {
    any: Option<T>,
    exact: BTreeMap<String, T>,
    suffixes: BTreeMap<String, T>,
}

impl<T> HostTable<T> {
    /// Adds an entry and returns the value that it replaces.
    pub(crate) fn insert(&mut self, pattern: HostPattern, value: T) -> Option<T> {
        match pattern {
            HostPattern::Any => self.any.replace(value),
            HostPattern::Exact(host) => self.exact.insert(host, value),
            HostPattern::Suffix(suffix) => self.suffixes.insert(suffix, value),
        }
    }

    /// Finds the value for `host`: that of its exact name, else of the longest suffix, else of every host.
    pub(crate) fn find(&self, host: Option<&str>) -> Option<&T> {
        host.and_then(|host| self.exact.get(host).or_else(|| self.find_by_suffix(host)))
            .or(self.any.as_ref())
    }

    fn find_by_suffix(&self, host: &str) -> Option<&T> {
        if self.suffixes.is_empty() {
            return None;
        }
        host.match_indices('.')
            .filter(|(start, _)| *start > 0)
            .find_map(|(start, _)| self.suffixes.get(host.get(start..)?))
    }
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self {
            any: None,
            exact: BTreeMap::new(),
            suffixes: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_wins() {
        let mut table = HostTable::default();
        for name in ["*.example", "*.b.example", "a.b.example", "[::1]"] {
            let pattern = HostPattern::parse_list("hosts", vec![name.to_owned()], &mut Vec::new());
            for pattern in pattern {
                assert_eq!(table.insert(pattern, name), None);
            }
        }
        for (host, want) in [
            (Some("a.b.example"), Some("a.b.example")),
            (Some("c.b.example"), Some("*.b.example")),
            (Some("b.example"), Some("*.example")),
            (Some("example"), None),
            (Some(".example"), None),
            (Some("notb.example"), Some("*.example")),
            (Some("notexample"), None),
            (Some("[::1]"), Some("[::1]")),
            (None, None),
        ] {
            assert_eq!(table.find(host).copied(), want, "{host:?}");
        }
        table.insert(HostPattern::Any, "any");
        assert_eq!(table.find(None).copied(), Some("any"));
        assert_eq!(table.find(Some("other")).copied(), Some("any"));
    }
}
