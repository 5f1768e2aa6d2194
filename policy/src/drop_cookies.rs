//! Removes cookies from `Cookie` that are not meant for the app.
//!
//! The session cookie of an authenticating proxy can be thousands of bytes long. The app never reads it, and Streamlit's
//! WebSocket server does not respond at all to a handshake with a line of more than 8 KiB. The listed cookies are removed
//! from `Cookie` ([RFC 6265 §4.2]); the others are left as they are.
//!
//! [RFC 6265 §4.2]: https://www.rfc-editor.org/rfc/rfc6265#section-4.2

use crate::address::trim;

/// Names of cookies, with `*` for any characters: `_oauth2_proxy*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropCookies(Vec<String>);

impl DropCookies {
    /// Parses patterns. `Err` returns a pattern that matches no valid cookie name, RFC 6265 §4.1.1.
    pub fn parse(patterns: &[String]) -> Result<Self, String> {
        let is_name = |pattern: &str| {
            !pattern.is_empty()
                && pattern.bytes().all(|octet| {
                    octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&octet)
                })
        };
        match patterns.iter().find(|pattern| !is_name(pattern)) {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(Self(patterns.to_vec())),
        }
    }

    /// Returns true if there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the cookies from a `Cookie` line: `None` if it is unchanged, empty if no cookie is left.
    pub fn filter(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut kept = Vec::with_capacity(line.len());
        let mut is_changed = false;
        for pair in line.split(|octet| *octet == b';') {
            let name = pair.split(|octet| *octet == b'=').next().unwrap_or(pair);
            if self.covers(trim(name)) {
                is_changed = true;
            } else {
                if !kept.is_empty() {
                    kept.push(b';');
                }
                kept.extend_from_slice(if kept.is_empty() { trim(pair) } else { pair });
            }
        }
        is_changed.then_some(kept)
    }

    fn covers(&self, name: &[u8]) -> bool {
        self.0
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), name))
    }
}

/// Returns true if `name` matches `pattern`, where `*` is any text.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|octet| *octet == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let found = rest
            .windows(part.len().max(1))
            .position(|window| window == part);
        match (part.is_empty(), found) {
            (true, _) => {}
            (false, Some(start)) => {
                rest = rest
                    .get(start.saturating_add(part.len())..)
                    .unwrap_or_default();
            }
            (false, None) => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_names() {
        for (pattern, name, want) in [
            ("session", "session", true),
            ("session", "session2", false),
            ("_oauth2_proxy*", "_oauth2_proxy_1", true),
            ("_oauth2_proxy*", "_oauth2_proxy", true),
            ("*_proxy*", "_oauth2_proxy_1", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a*b*c", "axc", false),
            ("a*a", "a", false),
            ("*", "anything", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                want,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn filters_lines() {
        let drop = DropCookies::parse(&["auth*".to_owned()]).unwrap();
        for (line, want) in [
            ("a=1; b=2", None),
            ("auth=x; a=1; b=2", Some("a=1; b=2")),
            ("a=1; auth_0=x; auth_1=y; b=\"2\"", Some("a=1; b=\"2\"")),
            ("a=1;auth=x", Some("a=1")),
            ("auth", Some("")),
            ("b=auth=1", None),
        ] {
            let want = want.map(|want| want.as_bytes().to_vec());
            assert_eq!(drop.filter(line.as_bytes()), want, "{line}");
        }
        assert!(DropCookies::parse(&["a;b".to_owned()]).is_err());
        assert!(!drop.is_empty());
        assert!(DropCookies::parse(&[]).unwrap().is_empty());
    }
}
