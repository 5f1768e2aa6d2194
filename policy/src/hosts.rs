//! What is said of which hosts?
//!
//! Names are whole, or suffixes written `*.example.com`, which cover any name below `example.com` and not itself. A
//! look-up costs the same for one name as for hundreds.

use std::collections::BTreeMap;

use crate::config_error::ConfigError;
use crate::effective::Authority;

/// A host name as a setting may list it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    /// Every host, and requests without one.
    Any,
    /// This name.
    Exact(String),
    /// Names that end with this; it begins with a dot, so that `*.example.com` cannot match `notexample.com`.
    Suffix(String),
}

impl HostPattern {
    /// Reads a list; an empty one means every host.
    pub(crate) fn read_list(
        setting: &str,
        written: Vec<String>,
        errors: &mut Vec<ConfigError>,
    ) -> Vec<Self> {
        if written.is_empty() {
            return vec![Self::Any];
        }
        let mut read = Vec::with_capacity(written.len());
        for value in written {
            let (name, is_suffix) = match value.strip_prefix("*.") {
                Some(name) => (name, true),
                None => (value.as_str(), false),
            };
            match Authority::read(name.as_bytes()) {
                Some(Authority { host, port: None }) if is_suffix => {
                    read.push(Self::Suffix(format!(".{host}")));
                }
                Some(Authority { host, port: None }) => read.push(Self::Exact(host)),
                _ => errors.push(ConfigError::Authority {
                    setting: setting.to_owned(),
                    value,
                }),
            }
        }
        read
    }
}

/// Something for each of many hosts.
#[derive(Debug, Clone)]
pub(crate) struct HostTable<T> {
    any: Option<T>,
    exact: BTreeMap<String, T>,
    suffixes: BTreeMap<String, T>,
}

impl<T> HostTable<T> {
    /// Adds an entry; gives back the one that was there.
    pub(crate) fn insert(&mut self, pattern: HostPattern, value: T) -> Option<T> {
        match pattern {
            HostPattern::Any => self.any.replace(value),
            HostPattern::Exact(host) => self.exact.insert(host, value),
            HostPattern::Suffix(suffix) => self.suffixes.insert(suffix, value),
        }
    }

    /// What is said of `host`: by its name, else by the longest suffix, else of every host.
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
    fn the_most_specific_name_counts() {
        let mut table = HostTable::default();
        for name in ["*.example", "*.b.example", "a.b.example", "[::1]"] {
            let pattern = HostPattern::read_list("hosts", vec![name.to_owned()], &mut Vec::new());
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
