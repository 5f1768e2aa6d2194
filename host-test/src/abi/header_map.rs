//! Stores header lines and serializes them as they are passed to the module.
//!
//! A map is an ordered list of lines. Names are in lower case and may repeat; values are bytes. The serialized form is a u32
//! count, the u32 lengths of each name and value, then each name and value followed by a zero byte, all little-endian.

use std::ops::Range;

/// Header or trailer lines in order.
///
/// All text is in one buffer: maps are cloned often, and one copy is cheaper than one for each line.
#[derive(Debug, Clone, Default)]
pub struct HeaderMap {
    /// Names and values, including those of removed lines.
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// The positions of a line's name and value in the text.
#[derive(Debug, Clone)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for HeaderMap {}

/// Builds a header map from text.
pub fn lines(lines: &[(&str, &str)]) -> HeaderMap {
    lines.iter().copied().collect()
}

impl HeaderMap {
    /// Returns the first value of `name`, which must be in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_bytes(name.as_bytes())
    }

    /// Returns all values of `name`, in order.
    pub fn get_all(&self, name: &str) -> Vec<&[u8]> {
        self.iter()
            .filter(|(other, _)| *other == name.as_bytes())
            .map(|(_, value)| value)
            .collect()
    }

    /// Iterates over the lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let piece = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.lines
            .iter()
            .map(move |line| (piece(&line.name), piece(&line.value)))
    }

    /// Returns the number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns true if there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line after all others, or a pseudo-header after the other pseudo-headers.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let line = self.write(name, value);
        let index = match name {
            [b':', ..] => self
                .iter()
                .take_while(|(name, _)| name.starts_with(b":"))
                .count(),
            _ => self.lines.len(),
        };
        self.lines.insert(index, line);
    }

    /// Adds a line without lower-casing its name, for maps that are not header maps.
    pub(crate) fn add_verbatim(&mut self, name: &[u8], value: &[u8]) {
        let line = self.write_verbatim(name, value);
        self.lines.push(line);
    }

    /// Replaces all lines of `name` by one at the position of the first, or adds it after all others.
    pub fn replace(&mut self, name: &[u8], value: &[u8]) {
        let Some(index) = self.position(name) else {
            return self.add(name, value);
        };
        let line = self.write(name, value);
        self.remove(name);
        self.lines.insert(index, line);
    }

    /// Removes all lines of `name`.
    pub fn remove(&mut self, name: &[u8]) {
        let text = &self.text;
        self.lines.retain(|line| {
            !text
                .get(line.name.clone())
                .is_some_and(|other| other.eq_ignore_ascii_case(name))
        });
    }

    pub(crate) fn get_bytes(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Returns the index of the first line of `name`.
    fn position(&self, name: &[u8]) -> Option<usize> {
        self.iter()
            .position(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    fn write(&mut self, name: &[u8], value: &[u8]) -> Line {
        let line = self.write_verbatim(name, value);
        if let Some(name) = self.text.get_mut(line.name.clone()) {
            name.make_ascii_lowercase();
        }
        line
    }

    fn write_verbatim(&mut self, name: &[u8], value: &[u8]) -> Line {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        Line {
            name: start..middle,
            value: middle..self.text.len(),
        }
    }

    /// Returns the sum of all name and value lengths, which Envoy reports as the size of a map.
    pub(crate) fn byte_size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// Returns the serialized form; no bytes for an empty map, as in Envoy.
    pub(crate) fn serialize(&self) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let size = 4 + self.len() * 10 + self.byte_size();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend(length(self.len()));
        for (name, value) in self.iter() {
            bytes.extend(length(name.len()));
            bytes.extend(length(value.len()));
        }
        for (name, value) in self.iter() {
            bytes.extend(name);
            bytes.push(0);
            bytes.extend(value);
            bytes.push(0);
        }
        bytes
    }

    /// Parses the serialized form. As in Envoy, a malformed map, one of more than 1024 pairs and one of more than 1 MiB
    /// are read as empty.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::parse_strictly(bytes).unwrap_or_default()
    }

    fn parse_strictly(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let (count, rest) = split_u32(bytes)?;
        if count > MAX_PAIRS {
            return None;
        }
        let (lengths, mut rest) = rest.split_at_checked(count * 8)?;
        let mut map = Self {
            text: Vec::with_capacity(rest.len()),
            lines: Vec::with_capacity(count),
        };
        for lengths in lengths.chunks_exact(8) {
            let (name_length, lengths) = split_u32(lengths)?;
            let (value_length, _) = split_u32(lengths)?;
            let (name, after) = split_terminated(rest, name_length)?;
            let (value, after) = split_terminated(after, value_length)?;
            map.add(name, value);
            rest = after;
        }
        rest.is_empty().then_some(map)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(lines: I) -> Self {
        let mut map = Self::default();
        for (name, value) in lines {
            map.add(name.as_bytes(), value.as_bytes());
        }
        map
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(lines: I) -> Self {
        let mut map = Self::default();
        for (name, value) in lines {
            map.add(name, value);
        }
        map
    }
}

fn split_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn split_terminated(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.strip_prefix(&[0])?))
}

/// The limit of `proxy-wasm-cpp-host` on the pairs of a map that a module passes.
const MAX_PAIRS: usize = 1024;

/// The limit of `proxy-wasm-cpp-host` on the bytes of a map that a module passes.
const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reverses_serialize() {
        let map = lines(&[("a", "1"), ("b", ""), ("a", "2")]);
        assert_eq!(HeaderMap::parse(&map.serialize()), map);
    }

    #[test]
    fn malformed_map_is_read_as_empty() {
        let whole = lines(&[("name", "value")]).serialize();
        for length in 0..whole.len() {
            assert!(HeaderMap::parse(&whole[..length]).is_empty(), "{length}");
        }
        assert!(HeaderMap::parse(&[whole.as_slice(), b"x"].concat()).is_empty());
        assert!(HeaderMap::parse(&[0xff; 64]).is_empty());
    }

    #[test]
    fn replace_keeps_the_position_of_the_first_line() {
        let mut map = lines(&[("a", "1"), ("b", "2"), ("A", "3")]);
        map.replace(b"A", b"4");
        assert_eq!(map, lines(&[("a", "4"), ("b", "2")]));
    }
    #[test]
    fn lines_are_found_by_name() {
        let map = lines(&[("A", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(map.get("a"), Some(&b"1"[..]));
        assert_eq!(map.get_bytes(b"B"), Some(&b"2"[..]));
        assert_eq!(map.get("c"), None);
        assert_eq!(map.get_all("a"), [b"1", b"3"]);
        assert_eq!(map.get_all("c"), [b""; 0]);
        assert_eq!((map.len(), map.is_empty()), (3, false));
        let empty = HeaderMap::default();
        assert_eq!((empty.len(), empty.is_empty()), (0, true));
    }

    #[test]
    fn maps_are_equal_if_their_lines_are() {
        let mut map = lines(&[("a", "1"), ("b", "2")]);
        map.remove(b"A");
        assert_eq!(map, lines(&[("b", "2")]));
        assert_ne!(map, lines(&[("b", "3")]));
        assert_ne!(map, lines(&[("b", "2"), ("b", "2")]));
        assert_ne!(map, HeaderMap::default());
    }

    #[test]
    fn pseudo_headers_stay_in_front() {
        let mut map = lines(&[("a", "1"), (":path", "/"), ("b", "2")]);
        map.add(b":method", b"GET");
        map.replace(b":scheme", b"http");
        map.replace(b"C", b"3");
        let want = [
            (":path", "/"),
            (":method", "GET"),
            (":scheme", "http"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ];
        let found: Vec<(&[u8], &[u8])> = map.iter().collect();
        assert_eq!(
            found,
            want.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        );
    }

    #[test]
    fn a_line_that_is_added_verbatim_keeps_its_name() {
        let mut map = HeaderMap::default();
        map.add_verbatim(b":Name", b"1");
        map.add_verbatim(b"Name", b"2");
        let found: Vec<(&[u8], &[u8])> = map.iter().collect();
        assert_eq!(found, [(&b":Name"[..], &b"1"[..]), (b"Name", b"2")]);
    }

    #[test]
    fn the_serialized_form_has_lengths_and_terminators() {
        let map = lines(&[("ab", "c"), ("d", "")]);
        let numbers = [2u32, 2, 1, 1, 0].map(u32::to_le_bytes).concat();
        assert_eq!(
            map.serialize(),
            [numbers.as_slice(), b"ab\0c\0d\0\0"].concat()
        );
        assert_eq!(map.byte_size(), 4);
        assert_eq!(HeaderMap::default().serialize(), [0; 0]);
    }

    #[test]
    fn maps_beyond_the_limits_are_read_as_empty() {
        for count in [MAX_PAIRS, MAX_PAIRS + 1] {
            let map: HeaderMap = (0..count).map(|_| ("a", "")).collect();
            let read = HeaderMap::parse(&map.serialize()).len();
            assert_eq!(read, if count > MAX_PAIRS { 0 } else { count });
        }
        // The count, two lengths, a name of one byte and two terminators take 15 bytes.
        for length in [1024 * 1024 - 15, 1024 * 1024 - 14] {
            let map = lines(&[("a", &"b".repeat(length))]);
            let read = HeaderMap::parse(&map.serialize()).len();
            assert_eq!(read, usize::from(length == 1024 * 1024 - 15));
        }
    }

    #[test]
    fn a_map_without_lines_has_a_count_at_most() {
        assert!(HeaderMap::parse(&[]).is_empty());
        assert!(HeaderMap::parse(&0u32.to_le_bytes()).is_empty());
        let wrong = [1u32, 1, 0].map(u32::to_le_bytes).concat();
        assert!(HeaderMap::parse(&[wrong.as_slice(), b"a\0x"].concat()).is_empty());
    }
}
