//! Which hosts does this app answer for?

use crate::config::ConfigError;
use crate::effective::Authority;

/// The names of `allowed_hosts`; without any, every host is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AllowedHosts {
    exact: Vec<String>,
    /// With the leading dot, so that `*.example.com` cannot match `notexample.com`.
    suffixes: Vec<String>,
}

impl AllowedHosts {
    pub(crate) fn read(written: Vec<String>, errors: &mut Vec<ConfigError>) -> Self {
        let mut read = Self::default();
        for value in written {
            let (name, is_suffix) = match value.strip_prefix("*.") {
                Some(name) => (name, true),
                None => (value.as_str(), false),
            };
            match Authority::read(name.as_bytes()) {
                Some(Authority { host, port: None }) if is_suffix => {
                    read.suffixes.push(format!(".{host}"));
                }
                Some(Authority { host, port: None }) => read.exact.push(host),
                _ => errors.push(ConfigError::Authority {
                    setting: "allowed_hosts",
                    value,
                }),
            }
        }
        read
    }

    /// Whether a request for `host` is answered. A request without a host is not, once hosts are listed.
    pub(crate) fn allow(&self, host: Option<&str>) -> bool {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return true;
        }
        host.is_some_and(|host| {
            self.exact.iter().any(|exact| exact == host)
                || self
                    .suffixes
                    .iter()
                    .any(|suffix| host.len() > suffix.len() && host.ends_with(suffix.as_str()))
        })
    }
}
