//! Decides the `Strict-Transport-Security` of a response.
//!
//! [RFC 6797]: only over https, only for host names, and exactly one line (§7.1, §7.2, §8.1.1). The scheme is the
//! effective one, so a forged header can neither add nor suppress the line. Subdomains are not covered by default, because
//! they may be other people's servers.
//!
//! [RFC 6797]: https://www.rfc-editor.org/rfc/rfc6797

use std::net::Ipv4Addr;

use crate::address::trim;
use crate::config::{HstsConfig, HstsMaxAge, HstsMode, HstsPreset, HstsSetting};
use crate::config_error::ConfigError;
use crate::effective::{Effective, Scheme};
use crate::header::{has_control, is_token, parse_value, split_outside_quotes};

/// The rule for Strict-Transport-Security.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hsts {
    mode: HstsMode,
    value: String,
}

impl Hsts {
    pub(crate) fn from_config(written: Option<HstsSetting>, errors: &mut Vec<ConfigError>) -> Self {
        let HstsConfig {
            include_sub_domains,
            max_age,
            mode,
            preload,
        } = match written {
            None | Some(HstsSetting::Switch(false)) => HstsConfig {
                mode: Some(HstsMode::Off),
                ..HstsConfig::default()
            },
            Some(HstsSetting::Switch(true)) => HstsConfig::default(),
            Some(HstsSetting::Preset(HstsPreset::Fluxlit)) => HstsConfig {
                include_sub_domains: Some(true),
                max_age: Some(HstsMaxAge(TWO_YEARS)),
                ..HstsConfig::default()
            },
            Some(HstsSetting::Values(values)) => values,
        };
        let include_sub_domains = include_sub_domains == Some(true);
        let preload = preload == Some(true);
        let mode = mode.unwrap_or(HstsMode::IfAbsent);
        let max_age = max_age.map_or(ONE_YEAR, |HstsMaxAge(seconds)| seconds);
        if preload && !(include_sub_domains && max_age >= ONE_YEAR) {
            errors.push(ConfigError::HstsPreload);
        }
        let mut value = format!("max-age={max_age}");
        if include_sub_domains {
            value.push_str("; includeSubDomains");
        }
        if preload {
            value.push_str("; preload");
        }
        Self { mode, value }
    }

    /// Returns the one line to send, given the upstream's lines.
    pub(crate) fn line<'a>(
        &'a self,
        effective: &Effective,
        upstream: &[&'a [u8]],
    ) -> Option<&'a [u8]> {
        let host = effective.host.as_deref()?;
        if effective.scheme == Scheme::Http || is_address_or_localhost(host) {
            return None;
        }
        let ours = self.value.as_bytes();
        match self.mode {
            HstsMode::Gateway => Some(ours),
            HstsMode::IfAbsent => Some(
                upstream
                    .iter()
                    .copied()
                    .find(|line| is_valid(line))
                    .unwrap_or(ours),
            ),
            HstsMode::Off => None,
            HstsMode::Upstream => upstream.first().copied().filter(|line| !has_control(line)),
        }
    }
}

/// Returns true for hosts for which browsers keep no rule, RFC 6797 §8.1.1, and for names of the user's own machine.
fn is_address_or_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    host.starts_with('[')
        || name.ends_with(|end: char| end.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// Returns true if a value follows the grammar of RFC 6797 §6.1: `max-age` once, no directive twice.
fn is_valid(value: &[u8]) -> bool {
    if has_control(value) {
        return false;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    let mut has_max_age = false;
    for directive in split_outside_quotes(value, b';') {
        let directive = trim(directive);
        if directive.is_empty() {
            continue;
        }
        let (name, argument) = match directive.iter().position(|octet| *octet == b'=') {
            Some(equals) => match directive.split_at_checked(equals) {
                Some((name, [_, argument @ ..])) => (trim(name), Some(trim(argument))),
                _ => return false,
            },
            None => (directive, None),
        };
        let repeated = names.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !is_token(name) || repeated {
            return false;
        }
        names.push(name);
        let is_argument_valid = if name.eq_ignore_ascii_case(b"max-age") {
            has_max_age = true;
            argument.is_some_and(is_seconds)
        } else if name.eq_ignore_ascii_case(b"includeSubDomains")
            || name.eq_ignore_ascii_case(b"preload")
        {
            argument.is_none()
        } else {
            argument.is_none_or(|argument| parse_value(argument).is_some())
        };
        if !is_argument_valid {
            return false;
        }
    }
    has_max_age
}

fn is_seconds(argument: &[u8]) -> bool {
    parse_value(argument)
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// Seconds in 365 days: the minimum that preload lists accept.
const ONE_YEAR: u64 = 31_536_000;

/// Seconds in 730 days: the value that FluxLit sends.
const TWO_YEARS: u64 = 63_072_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validates_by_the_grammar() {
        for (value, want) in [
            ("max-age=123", true),
            ("; ; max-age=123; ; ", true),
            ("  Max-agE    = 567", true),
            ("incLudesUbdOmains; max-age=123", true),
            ("max-age=\"123\"", true),
            ("max-age=1; preload; pumpkin=kitten", true),
            ("max-age=1;\tincludeSubDomains", true),
            ("animal=\"a\\\";b\"; max-age=1", true),
            ("animal=\"a\\\"; max-age=1", false),
            ("animal=\"squirrel; distinguished\"; max-age=1", true),
            ("max-age=99999999999999999999999999", true),
            ("", false),
            (";", false),
            ("max-age", false),
            ("max-age=", false),
            ("max-age==1", false),
            ("max-age=-1", false),
            ("max-age=1.5", false),
            ("max-age='1'", false),
            ("max-age=1a", false),
            ("\"max-age\"=1", false),
            ("max-age=1; MaX-AgE=2", false),
            ("max-age=1; includeSubDomains=true", false),
            ("max-age=1; includeSubDomains=\"\"", false),
            ("max-age=1; non,token", false),
            ("max-age=5, max-age=6", false),
            ("max-age=3488923includesubdomains", false),
        ] {
            assert_eq!(is_valid(value.as_bytes()), want, "{value}");
        }
    }
}
