//! Parses the path under which an app is published, and matches paths against it.
//!
//! A mount is matched by whole segments on the raw path, without case folding and without merging slashes; `%2F` is
//! never a boundary. In the part of the path that matches the mount, and nowhere else, an escaped unreserved character
//! equals the character itself, RFC 3986 §6.2.2.2. The mount is stripped once: `/a/a/x` under `/a` becomes `/a/x`.

/// A mount in canonical form: empty, or `/segment` one or more times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount(String);

impl Mount {
    /// The empty mount.
    pub(crate) const NONE: Self = Self(String::new());

    /// Parses `root_path`: trimmed, a leading slash added, trailing slashes dropped; `/` and blank text mean no mount.
    /// `Err` returns the invalid text.
    pub(crate) fn parse(written: &str) -> Result<Self, String> {
        let path = written.trim().trim_end_matches('/');
        if path.is_empty() {
            return Ok(Self::default());
        }
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("/{path}"),
        };
        let are_segments_valid = path.split('/').skip(1).all(|segment| {
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved)
        });
        if are_segments_valid && path.len() <= MAX_MOUNT {
            Ok(Self(path))
        } else {
            Err(written.to_owned())
        }
    }

    /// Parses `X-Forwarded-Prefix`. Trailing slashes are dropped as in `root_path`, because some proxies send one; otherwise
    /// only the canonical form is valid.
    pub(crate) fn parse_prefix(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_end_matches('/');
        let mount = Self::parse(text).ok()?;
        (mount.0 == text && !mount.is_none()).then_some(mount)
    }

    /// Appends `inner` to this mount.
    pub(crate) fn join(&self, inner: &Self) -> Self {
        Self([self.as_str(), inner.as_str()].concat())
    }

    /// Returns the mount without trailing slash; empty if there is none.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what follows the mount in `path`: empty for the mount itself, else beginning with a slash. `None` if the
    /// path is not under the mount.
    pub(crate) fn strip<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let mut rest = path;
        for want in self.0.bytes() {
            rest = match rest {
                [got, after @ ..] if *got == want => after,
                [b'%', high, low, after @ ..]
                    if is_unreserved(want) && decode_hex(*high, *low) == Some(want) =>
                {
                    after
                }
                _ => return None,
            };
        }
        matches!(rest, [] | [b'/', ..]).then_some(rest)
    }

    /// Returns the mount followed by `rest`.
    pub(crate) fn prepend(&self, rest: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), rest].concat()
    }
}

/// Returns true for an unreserved character, RFC 3986 §2.3.
pub(crate) fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// Returns the octet that `%` and these two digits stand for.
pub(crate) fn decode_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let value = digit(high)?.checked_mul(16)?.checked_add(digit(low)?)?;
    u8::try_from(value).ok()
}

/// The maximum length of a mount in bytes.
pub(crate) const MAX_MOUNT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        for (written, want) in [
            ("", Some("")),
            ("/", Some("")),
            ("///", Some("")),
            ("/apps/my-app", Some("/apps/my-app")),
            ("apps/my-app", Some("/apps/my-app")),
            ("/apps/my-app///", Some("/apps/my-app")),
            ("  /apps/my-app ", Some("/apps/my-app")),
            ("//apps", None),
            ("/apps//x", None),
            ("/apps/./x", None),
            ("/apps/..", None),
            ("/apps?x", None),
            ("/apps#x", None),
            ("/my app", None),
            ("/app;v=1", None),
            ("/{id}", None),
            ("https://host/app", None),
            ("/caf\u{e9}", None),
            ("/a%2Db", None),
        ] {
            let got = Mount::parse(written).ok();
            assert_eq!(got.as_ref().map(Mount::as_str), want, "{written:?}");
        }
        assert!(Mount::parse(&format!("/{}", "a".repeat(255))).is_ok());
        assert!(Mount::parse(&format!("/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn matches_whole_segments_only() {
        let mount = Mount::parse("/apps/my-app").unwrap();
        for (path, want) in [
            ("/apps/my-app", Some("")),
            ("/apps/my-app/", Some("/")),
            ("/apps/my-app//x", Some("//x")),
            ("/apps/my%2Dapp/x", Some("/x")),
            ("/apps/my%2dapp/x", Some("/x")),
            ("/apps/my-application", None),
            ("/apps/my-app;v=1/x", None),
            ("/apps/my-app%2Fx", None),
            ("/apps%2Fmy-app/x", None),
            ("/Apps/my-app", None),
            ("/apps//my-app", None),
            ("/apps/my-ap", None),
            ("/apps/my-ap%7", None),
        ] {
            let got = mount.strip(path.as_bytes());
            assert_eq!(got, want.map(str::as_bytes), "{path}");
        }
    }
}
