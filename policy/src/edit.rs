//! Which changes must a shell make to a message?
//!
//! The policy never touches a message: it returns edits, and the shell applies them in order. That keeps one decision
//! for two very different kinds of header map, and makes every decision a value that a test can look at.

use std::borrow::Cow;

/// One change to a request or a response. Edits are applied in the order they are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Adds one line, after those the field already has.
    Append(HeaderName, Vec<u8>),
    /// Replaces the request's `Host` (`:authority`).
    Host(Vec<u8>),
    /// Removes every line of a field.
    Remove(HeaderName),
    /// Replaces every line of a field by one; adds the field if it is absent.
    Set(HeaderName, Vec<u8>),
    /// Replaces the request target (`:path`).
    Target(Vec<u8>),
}

/// The name of a field, in lower case.
pub type HeaderName = Cow<'static, str>;

impl Edit {
    pub(crate) fn set(name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        Self::Set(Cow::Borrowed(name), value.into())
    }

    pub(crate) fn remove(name: &'static str) -> Self {
        Self::Remove(Cow::Borrowed(name))
    }
}
