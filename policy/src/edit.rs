//! Defines the edits that a host applies to a message.
//!
//! The policy never changes a message itself: it returns edits, and the host applies them in order. So the same decision
//! serves very different kinds of header map, and every decision is a value that a test can compare.

use std::fmt;

/// One change to a request or a response. Names are in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Adds one line after the existing lines of the field. It is also used for fields that are known to be absent,
    /// because Envoy adds a field faster than it replaces one.
    Append(&'a str, &'a [u8]),
    /// Replaces the request's `Host` (`:authority`).
    Host(&'a [u8]),
    /// Removes all lines of a field.
    Remove(&'a str),
    /// Replaces all lines of a field by one, or adds the field if it is absent.
    Set(&'a str, &'a [u8]),
    /// Replaces the request target (`:path`).
    Target(&'a [u8]),
}

/// The edits of one message, in the order in which they must be applied.
///
/// All texts are in two buffers, which [`Edits::clear`] keeps. So a host that passes the same edits to each decision
/// ([`Policy::request_with`](crate::Policy::request_with)) allocates memory for the first ones only.
#[derive(Clone, Default)]
pub struct Edits {
    items: Vec<Item>,
    names: String,
    values: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Item {
    kind: Kind,
    name: Name,
    value: Span,
}

#[derive(Clone, Copy)]
enum Kind {
    Append,
    Host,
    Remove,
    Set,
    Target,
}

#[derive(Clone, Copy)]
enum Name {
    Known(&'static str),
    /// In [`Edits::names`].
    Stored(Span),
}

/// A part of a buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Edits {
    /// Returns no edits, without memory for any.
    pub const fn new() -> Self {
        Self {
            items: Vec::new(),
            names: String::new(),
            values: Vec::new(),
        }
    }

    /// Returns the edits in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Edit<'_>> {
        self.items.iter().map(|item| self.edit(*item))
    }

    /// Returns true if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes all edits, and keeps the memory for others.
    pub fn clear(&mut self) {
        let Self {
            items,
            names,
            values,
        } = self;
        items.clear();
        names.clear();
        values.clear();
    }

    /// Removes all edits, and makes room for those of a typical message.
    pub(crate) fn restart(&mut self) {
        self.clear();
        self.items.reserve(TYPICAL_COUNT);
        self.values.reserve(TYPICAL_SIZE);
    }

    /// Adds an edit at the end.
    pub fn push(&mut self, edit: Edit<'_>) {
        let (kind, name, value) = match edit {
            Edit::Append(name, value) => (Kind::Append, name, value),
            Edit::Host(value) => (Kind::Host, "", value),
            Edit::Remove(name) => (Kind::Remove, name, b"".as_slice()),
            Edit::Set(name, value) => (Kind::Set, name, value),
            Edit::Target(value) => (Kind::Target, "", value),
        };
        let start = self.names.len();
        self.names.push_str(name);
        let end = self.names.len();
        let name = Name::Stored(Span { start, end });
        let value = self.store(&[value]);
        self.items.push(Item { kind, name, value });
    }

    /// Removes the edits for which `keeps` returns false.
    pub fn retain(&mut self, keeps: impl Fn(Edit<'_>) -> bool) {
        let mut items = std::mem::take(&mut self.items);
        items.retain(|item| keeps(self.edit(*item)));
        self.items = items;
    }

    pub(crate) fn append(&mut self, name: &'static str, value: &[u8]) {
        self.add(Kind::Append, name, &[value]);
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &[u8]) {
        self.add(Kind::Set, name, &[value]);
    }

    pub(crate) fn remove(&mut self, name: &'static str) {
        self.add(Kind::Remove, name, &[]);
    }

    pub(crate) fn host(&mut self, value: &[u8]) {
        self.add(Kind::Host, "", &[value]);
    }

    /// Replaces the target by a text that was stored before.
    pub(crate) fn stored_target(&mut self, value: Span) {
        let (kind, name) = (Kind::Target, Name::Known(""));
        self.items.push(Item { kind, name, value });
    }

    /// Removes a field whose name the message has in any case, unless it is removed already. A name that is not text is
    /// left out: protected and nominated names are ASCII, as all header names are.
    pub(crate) fn remove_received(&mut self, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        let is_removed =
            |edit| matches!(edit, Edit::Remove(other) if other.eq_ignore_ascii_case(name));
        if self.iter().any(is_removed) {
            return;
        }
        let start = self.names.len();
        self.names.push_str(name);
        if let Some(name) = self.names.get_mut(start..) {
            name.make_ascii_lowercase();
        }
        let end = self.names.len();
        let name = Name::Stored(Span { start, end });
        let (kind, value) = (Kind::Remove, Span::default());
        self.items.push(Item { kind, name, value });
    }

    /// Stores a text that consists of these parts.
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> Span {
        let start = self.values.len();
        for part in parts {
            self.values.extend_from_slice(part);
        }
        let end = self.values.len();
        Span { start, end }
    }

    /// Returns a text that was stored.
    pub(crate) fn stored(&self, value: Span) -> &[u8] {
        self.values.get(value.start..value.end).unwrap_or_default()
    }

    fn add(&mut self, kind: Kind, name: &'static str, parts: &[&[u8]]) {
        let name = Name::Known(name);
        let value = self.store(parts);
        self.items.push(Item { kind, name, value });
    }

    fn edit(&self, item: Item) -> Edit<'_> {
        let Item { kind, name, value } = item;
        let value = self.stored(value);
        let name = match name {
            Name::Known(name) => name,
            Name::Stored(Span { start, end }) => self.names.get(start..end).unwrap_or_default(),
        };
        match kind {
            Kind::Append => Edit::Append(name, value),
            Kind::Host => Edit::Host(value),
            Kind::Remove => Edit::Remove(name),
            Kind::Set => Edit::Set(name, value),
            Kind::Target => Edit::Target(value),
        }
    }
}

impl<'a> FromIterator<Edit<'a>> for Edits {
    fn from_iter<T: IntoIterator<Item = Edit<'a>>>(edits: T) -> Self {
        let mut collected = Self::default();
        for edit in edits {
            collected.push(edit);
        }
        collected
    }
}

impl PartialEq for Edits {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Edits {}

impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// How many edits a message usually gets.
const TYPICAL_COUNT: usize = 12;

/// How many octets their values usually have.
const TYPICAL_SIZE: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_what_was_added() {
        let mut edits = Edits::default();
        assert!(edits.is_empty());
        edits.append("a", b"1");
        assert!(!edits.is_empty());
        assert_ne!(edits, Edits::default());
        edits.set("b", b"");
        edits.remove_received(b"X-Forged");
        edits.remove_received(b"x-FORGED");
        edits.remove_received(b"\xff");
        let target = edits.store(&[b"/x", b"?y"]);
        edits.stored_target(target);
        edits.host(b"h");
        let want = [
            Edit::Append("a", b"1"),
            Edit::Set("b", b""),
            Edit::Remove("x-forged"),
            Edit::Target(b"/x?y"),
            Edit::Host(b"h"),
        ];
        assert!(edits.iter().eq(want));
        assert_eq!(edits, Edits::from_iter(want));
        edits.retain(|edit| !matches!(edit, Edit::Set(..) | Edit::Host(_)));
        edits.push(Edit::Remove("c"));
        assert_eq!(
            format!("{edits:?}"),
            r#"[Append("a", [49]), Remove("x-forged"), Target([47, 120, 63, 121]), Remove("c")]"#
        );
        edits.clear();
        assert!(edits.is_empty());
        assert_eq!(edits, Edits::default());
    }
}
