//! Applies edits to a header map, if Envoy can send the values unchanged.

use fluxlit_policy::{Edit, Edits, has_control};

use crate::host::{Host, Map};

/// Applies edits in order until one fails. Returns true if all succeeded.
pub(crate) fn apply<H: Host>(host: &mut H, map: Map, edits: &Edits) -> bool {
    edits.iter().all(|edit| {
        can_be_sent(edit)
            && match edit {
                Edit::Append(name, value) => host.add(map, name, value),
                Edit::Host(value) => host.replace(map, AUTHORITY, value),
                Edit::Remove(name) => host.remove(map, name),
                Edit::Set(name, value) => host.replace(map, name, value),
                Edit::Target(value) => host.replace(map, PATH, value),
            }
    })
}

/// Returns true if Envoy can send what an edit writes.
fn can_be_sent(edit: Edit<'_>) -> bool {
    match edit {
        Edit::Append(name, value) | Edit::Set(name, value) => is_sendable(name, value),
        Edit::Host(value) => is_sendable(AUTHORITY, value),
        Edit::Target(value) => is_sendable(PATH, value),
        Edit::Remove(_) => true,
    }
}

/// Applies the edits of a response to fields that are not in a header map yet.
pub(crate) fn apply_to_fields<'a>(fields: &mut Vec<(&'a str, &'a [u8])>, edits: &'a Edits) {
    for edit in edits.iter() {
        match edit {
            Edit::Append(name, value) => fields.push((name, value)),
            Edit::Remove(name) => fields.retain(|(other, _)| *other != name),
            Edit::Set(name, value) => {
                fields.retain(|(other, _)| *other != name);
                fields.push((name, value));
            }
            // These are edits of requests.
            Edit::Host(_) | Edit::Target(_) => {}
        }
    }
}

/// Returns true if Envoy can send the value unchanged.
///
/// Envoy does not check response headers, so a line break here would start another header. No control octet is allowed
/// in a field value except the tab, RFC 9110 §5.5. Cookies are an exception: if one of several is rewritten, all have to
/// be written again, even one that the app has spoilt by such an octet. Envoy also sends spaces and fragments in `:path`
/// and spaces in `:authority` unchanged, which would split the request line.
pub(crate) fn is_sendable(name: &str, value: &[u8]) -> bool {
    match name {
        PATH => {
            value.starts_with(b"/")
                && value
                    .iter()
                    .all(|octet| octet.is_ascii_graphic() && *octet != b'#')
        }
        AUTHORITY => value.iter().all(u8::is_ascii_graphic),
        "set-cookie" => !value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)),
        _ => !has_control(value),
    }
}

const AUTHORITY: &str = ":authority";
const PATH: &str = ":path";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_that_envoy_would_send_as_something_else() {
        for (edit, is_allowed) in [
            (Edit::Append("x-a", b"1"), true),
            (Edit::Append("x-a", b"1\r\nx-b: 1"), false),
            (Edit::Set("x-a", b"1"), true),
            (Edit::Set("x-a", b"1\r\nx-b: 1"), false),
            (Edit::Host(b"a.example"), true),
            (Edit::Host(b"a b"), false),
            (Edit::Target(b"/a"), true),
            (Edit::Target(b"/a b"), false),
            (Edit::Remove("x-a"), true),
        ] {
            assert_eq!(can_be_sent(edit), is_allowed, "{edit:?}");
        }
    }

    #[test]
    fn values_that_envoy_would_send_as_something_else() {
        for (name, value, is_allowed) in [
            ("x-a", "text, with a\ttab", true),
            ("x-a", "\u{e9}", true),
            ("x-a", "a\r\nx-b: 1", false),
            ("x-a", "a\nb", false),
            ("x-a", "a\0b", false),
            ("x-a", "a\u{7f}b", false),
            ("set-cookie", "a=\u{1}", true),
            ("set-cookie", "a=1\r\nx-b: 1", false),
            (":path", "/a?b=%20", true),
            (":path", "/a b", false),
            (":path", "/a#b", false),
            (":path", "a", false),
            (":path", "", false),
            (":authority", "a.example:1", true),
            (":authority", "a b", false),
        ] {
            assert_eq!(
                is_sendable(name, value.as_bytes()),
                is_allowed,
                "{name}: {value:?}"
            );
        }
    }

    #[test]
    fn edits_of_fields_in_order() {
        let edits = Edits::from_iter([
            Edit::Append("a", b"2"),
            Edit::Set("b", b"new"),
            Edit::Remove("c"),
        ]);
        let mut fields: Vec<(&str, &[u8])> = vec![
            ("a", b"1"),
            ("b", b"old"),
            ("c", b"1"),
            ("b", b"older"),
            ("d", b"1"),
        ];
        apply_to_fields(&mut fields, &edits);
        let wanted: [(&str, &[u8]); 4] = [("a", b"1"), ("d", b"1"), ("a", b"2"), ("b", b"new")];
        assert_eq!(fields, wanted);
    }
}
