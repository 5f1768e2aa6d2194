//! Defines the edits that a host applies to a message.
//!
//! The policy never changes a message itself: it returns edits, and the host applies them in order. So the same decision
//! serves two very different kinds of header map, and every decision is a value that a test can compare.

use std::borrow::Cow;

/// One change to a request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Adds one line after the existing lines of the field. It is also used for fields that are known to be absent,
    /// because Envoy adds a field faster than it replaces one.
    Append(HeaderName, Vec<u8>),
    /// Replaces the request's `Host` (`:authority`).
    Host(Vec<u8>),
    /// Removes all lines of a field.
    Remove(HeaderName),
    /// Replaces all lines of a field by one, or adds the field if it is absent.
    Set(HeaderName, Vec<u8>),
    /// Replaces the request target (`:path`).
    Target(Vec<u8>),
}

/// The name of a field, in lower case.
pub type HeaderName = Cow<'static, str>;

impl Edit {
    pub(crate) fn append(name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        Self::Append(Cow::Borrowed(name), value.into())
    }

    pub(crate) fn set(name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        Self::Set(Cow::Borrowed(name), value.into())
    }

    pub(crate) fn remove(name: &'static str) -> Self {
        Self::Remove(Cow::Borrowed(name))
    }
}
