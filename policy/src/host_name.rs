//! Holds a host in the form in which hosts are compared, without allocating memory unless it is long.

use std::fmt;
use std::ops::Deref;

use arrayvec::ArrayString;

/// A host: a name in lower case, or an address (IPv6 in brackets, in canonical form).
#[derive(Clone, PartialEq, Eq)]
pub struct HostName(Text);

#[derive(Clone)]
enum Text {
    Short(ArrayString<SHORT>),
    Long(Box<str>),
}

impl HostName {
    /// Converts a text to lower case.
    pub(crate) fn in_lower_case(text: &str) -> Self {
        Self(match ArrayString::from(text) {
            Ok(mut text) => {
                text.make_ascii_lowercase();
                Text::Short(text)
            }
            Err(_) => Text::Long(text.to_ascii_lowercase().into()),
        })
    }
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Short(one), Self::Short(other)) => one == other,
            (Self::Long(one), Self::Long(other)) => one == other,
            // The length of a text decides which of the two it is.
            (Self::Short(_), Self::Long(_)) | (Self::Long(_), Self::Short(_)) => false,
        }
    }
}

impl Eq for Text {}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The length up to which a host is kept in place: most hosts are shorter.
const SHORT: usize = 59;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_any_length_are_kept_in_lower_case() {
        for length in [1, SHORT - 1, SHORT, SHORT + 1, 253] {
            let host = HostName::in_lower_case(&"A".repeat(length));
            assert_eq!(&*host, "a".repeat(length));
            assert_eq!(format!("{host:?}"), format!("{:?}", "a".repeat(length)));
            assert_eq!(host, HostName::in_lower_case(&host));
            assert_ne!(host, HostName::in_lower_case(&format!("{}c", &*host)));
        }
    }
}
