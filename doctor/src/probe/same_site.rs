//! Compares two sites as browsers do for cookies with `SameSite`, as far as that is possible without a list of public suffixes.
//!
//! Names are compared by whole labels. Whether two names below a common domain, such as `a.example.com` and `b.example.com`,
//! are one site depends on who may have names there: below `github.io`, each is another one's. So that is left open.

use url::Host;

use crate::client::Site;

/// What the names of two sites tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Relation {
    Same,
    Other,
    /// They are names below this domain, and the same site unless it is a public suffix.
    Below(String),
}

impl Relation {
    /// Compares two sites; the scheme counts, the port does not.
    pub(crate) fn of(one: &Site, other: &Site) -> Self {
        if one.is_tls != other.is_tls {
            return Self::Other;
        }
        match (&one.host, &other.host) {
            (Host::Domain(one), Host::Domain(other)) => Self::of_names(one, other),
            (one, other) if one == other => Self::Same,
            _ => Self::Other,
        }
    }

    fn of_names(one: &str, other: &str) -> Self {
        let labels = |name: &'_ str| -> Vec<String> {
            let labels = name.trim_end_matches('.').rsplit('.');
            labels.map(str::to_ascii_lowercase).collect()
        };
        let (one, other) = (labels(one), labels(other));
        let pairs = one.iter().zip(&other);
        let mut shared: Vec<&str> = pairs
            .take_while(|(one, other)| one == other)
            .map(|(label, _)| label.as_str())
            .collect();
        if one == other {
            return Self::Same;
        }
        // A domain of one label, such as `com` or `localhost`, is a public suffix.
        if shared.len() < 2 {
            return Self::Other;
        }
        if shared.len() == one.len().min(other.len()) {
            return Self::Same;
        }
        shared.reverse();
        Self::Below(shared.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_compared_by_whole_labels() {
        let below = |domain: &str| Relation::Below(domain.to_owned());
        for (one, other, expected) in [
            (
                "https://localhost",
                "https://localhost:8443",
                Relation::Same,
            ),
            (
                "https://evillocalhost",
                "https://localhost",
                Relation::Other,
            ),
            (
                "https://app.localhost",
                "https://localhost",
                Relation::Other,
            ),
            ("http://localhost", "https://localhost", Relation::Other),
            (
                "https://example.com",
                "https://Portal.Example.com.",
                Relation::Same,
            ),
            (
                "https://portal.example.com",
                "https://example.com",
                Relation::Same,
            ),
            (
                "https://notexample.com",
                "https://example.com",
                Relation::Other,
            ),
            (
                "https://example.org",
                "https://example.com",
                Relation::Other,
            ),
            (
                "https://site.example.com",
                "https://portal.example.com",
                below("example.com"),
            ),
            (
                "https://a.b.example.com",
                "https://c.b.example.com",
                below("b.example.com"),
            ),
            ("https://127.0.0.1", "https://127.0.0.1:1", Relation::Same),
            ("https://127.0.0.1", "https://127.1.0.1", Relation::Other),
            ("https://[::1]", "https://[::1]", Relation::Same),
            ("https://[::1]", "https://localhost", Relation::Other),
        ] {
            let site = |url| Site::parse(url).expect("a URL");
            let found = [(one, other), (other, one)]
                .map(|(one, other)| Relation::of(&site(one), &site(other)));
            assert_eq!(found, [expected.clone(), expected], "{one} {other}");
        }
    }
}
