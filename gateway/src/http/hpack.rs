//! Decodes header blocks of HTTP/2, RFC 7541, into field lines as they were sent.
//!
//! A decoder belongs to a connection, because its dynamic table does. Its size is the one of RFC 7541 §4.2, since this
//! server announces no other. The cost of a block is bounded: lines beyond the limit are decoded, because later blocks depend
//! on the table, but not kept, and a block that goes far beyond it is an error.

use fluxlit_policy::Header;

use crate::http::hpack_table::{DynamicTable, LINE_OVERHEAD, TABLE_SIZE};
use crate::http::huffman;

/// Decodes the header blocks of a connection, in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
}

/// The field lines of a header block in order. Those of a request include the pseudo-header fields.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct FieldLines {
    /// Name and value of each line, one after the other.
    text: Vec<u8>,
    /// Where the name and the value of each line end in `text`.
    ends: Vec<(usize, usize)>,
    /// Size of the whole block as RFC 9113 §10.5.1 counts it.
    size: usize,
    /// True if the block was larger than the limit, so that lines are missing.
    pub(crate) is_truncated: bool,
}

/// The error when a block cannot be decoded, after which the table is unknown and the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HpackError {
    #[error("the header block is malformed")]
    Malformed,
    #[error("the header block is far too large")]
    TooLarge,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            table: DynamicTable::new(),
        }
    }

    /// Decodes a whole block. `max`: limit of its size as RFC 9113 §10.5.1 counts it.
    pub(crate) fn decode(&mut self, block: &[u8], max: usize) -> Result<FieldLines, HpackError> {
        let mut lines = FieldLines::with_room_for_a_head();
        let text = block.len().saturating_mul(2).min(max);
        lines.text.reserve(text);
        let mut input = Input(block);
        while let [first, ..] = input.0 {
            let line = lines.begin();
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    let (name, value) = self.table.get(index).ok_or(HpackError::Malformed)?;
                    if lines.is_truncated {
                        // An octet can refer to thousands, which need not be copied any more.
                        lines.count(name.len() + value.len(), max)?;
                    } else {
                        lines.text.extend_from_slice(name);
                        lines.text.extend_from_slice(value);
                        lines.end(line, line + name.len(), max)?;
                    }
                }
                0x40..0x80 => {
                    let name_end = self.literal(&mut input, 6, &mut lines.text)?;
                    let added = lines.text.get(line..).unwrap_or_default();
                    self.table.insert(added, name_end - line);
                    lines.end(line, name_end, max)?;
                }
                // Only before the first line, RFC 7541 §4.2.
                0x20..0x40 if lines.size == 0 => {
                    let size = input.integer(5)?;
                    if size > TABLE_SIZE {
                        return Err(HpackError::Malformed);
                    }
                    self.table.resize(size);
                }
                0x20..0x40 => return Err(HpackError::Malformed),
                _ => {
                    let name_end = self.literal(&mut input, 4, &mut lines.text)?;
                    lines.end(line, name_end, max)?;
                }
            }
        }
        Ok(lines)
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> (usize, usize, usize) {
        self.table.sizes()
    }

    /// Appends name and value of a literal to `text`. Returns where the name ends.
    fn literal(
        &self,
        input: &mut Input<'_>,
        prefix: u32,
        text: &mut Vec<u8>,
    ) -> Result<usize, HpackError> {
        match input.integer(prefix)? {
            0 => input.string(text)?,
            index => {
                let (name, _) = self.table.get(index).ok_or(HpackError::Malformed)?;
                text.extend_from_slice(name);
            }
        }
        let name_end = text.len();
        input.string(text)?;
        Ok(name_end)
    }
}

impl FieldLines {
    /// Has room for the head of a usual request or response.
    pub(crate) fn with_room_for_a_head() -> Self {
        Self {
            text: Vec::with_capacity(TYPICAL_TEXT),
            ends: Vec::with_capacity(TYPICAL_LINES),
            ..Self::default()
        }
    }

    /// Appends a line. Its name is converted to lower case, RFC 9113 §8.2.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        if let Some(name) = self.text.get_mut(start..) {
            name.make_ascii_lowercase();
        }
        self.text.extend_from_slice(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// Returns the text of each line, and where its name ends in it.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut start = 0;
        self.ends.iter().map(move |(name_end, end)| {
            let text = self.text.get(start..*end).unwrap_or_default();
            let name_end = name_end - start;
            start = *end;
            (text, name_end)
        })
    }

    /// Returns the lines in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        self.texts()
            .filter_map(|(text, name_end)| text.split_at_checked(name_end))
    }

    /// Returns the size of the whole block as RFC 9113 §10.5.1 counts it.
    #[cfg(fuzzing)]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of lines.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of bytes that are kept in memory.
    pub(crate) fn memory(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<(usize, usize)>()
    }

    /// Returns where the next line begins in `text`.
    fn begin(&self) -> usize {
        self.text.len()
    }

    /// Ends the line that begins at `start` and whose name ends at `name_end`.
    fn end(&mut self, start: usize, name_end: usize, max: usize) -> Result<(), HpackError> {
        let end = self.text.len();
        self.count(end - start, max)?;
        if self.is_truncated {
            self.text.truncate(start);
        } else {
            self.ends.push((name_end, end));
        }
        Ok(())
    }

    /// Counts a line with a text of this length.
    fn count(&mut self, length: usize, max: usize) -> Result<(), HpackError> {
        self.size += length + LINE_OVERHEAD;
        self.is_truncated |= self.size > max;
        if self.size > max.saturating_mul(ABUSE) {
            return Err(HpackError::TooLarge);
        }
        Ok(())
    }
}

/// The part of a block that is not decoded yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads an integer that begins in the last `prefix` bits of an octet, RFC 7541 §5.1.
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        let mask = (1usize << prefix) - 1;
        let first = usize::from(self.octet()?) & mask;
        if first < mask {
            return Ok(first);
        }
        let mut value = mask;
        // Nothing larger than 2^28 occurs, and more octets would only be zeros.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(HpackError::Malformed)
    }

    /// Appends a string to `text`, RFC 7541 §5.2.
    fn string(&mut self, text: &mut Vec<u8>) -> Result<(), HpackError> {
        let is_encoded = self.0.first().is_some_and(|first| *first >= 0x80);
        let length = self.integer(7)?;
        let (string, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HpackError::Malformed)?;
        self.0 = rest;
        if is_encoded {
            huffman::decode(string, text).ok_or(HpackError::Malformed)
        } else {
            text.extend_from_slice(string);
            Ok(())
        }
    }

    fn octet(&mut self) -> Result<u8, HpackError> {
        let (octet, rest) = self.0.split_first().ok_or(HpackError::Malformed)?;
        self.0 = rest;
        Ok(*octet)
    }
}

/// How many times the limit a block may have before the connection ends. Below, only the request is rejected.
pub(crate) const ABUSE: usize = 4;

/// Somewhat more than the names and values that a browser sends, in bytes, and their number. A block that refers to an
/// earlier one is much shorter.
const TYPICAL_TEXT: usize = 1024;
const TYPICAL_LINES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &FieldLines) -> Vec<String> {
        lines
            .iter()
            .map(|(name, value)| {
                let text = [name, b"=", value].concat();
                String::from_utf8(text).expect("UTF-8")
            })
            .collect()
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|octet| *octet != b' ').collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| octet(pair).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 §C.3 without the Huffman code, §C.4 with it.
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let encoded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, encoded] {
            let mut decoder = Decoder::new();
            for (block, want) in blocks.iter().zip([
                &[
                    ":method=GET",
                    ":scheme=http",
                    ":path=/",
                    ":authority=www.example.com",
                ][..],
                &[
                    ":method=GET",
                    ":scheme=http",
                    ":path=/",
                    ":authority=www.example.com",
                    "cache-control=no-cache",
                ],
                &[
                    ":method=GET",
                    ":scheme=https",
                    ":path=/index.html",
                    ":authority=www.example.com",
                    "custom-key=custom-value",
                ],
            ]) {
                let lines = decoder.decode(&octets(block), 1000).expect("a block");
                assert_eq!(texts(&lines), want);
            }
            assert_eq!(decoder.table.sizes(), (3, 164, 4096));
        }
    }

    #[test]
    fn old_lines_are_evicted() {
        // RFC 7541 §C.5 uses a table of 256 bytes.
        let mut decoder = Decoder::new();
        let lines = decoder.decode(&octets("3fe1 01 4003 6162 6303 787a 79"), 1000);
        assert_eq!(texts(&lines.expect("a block")), ["abc=xzy"]);
        assert_eq!(decoder.table.sizes(), (1, 38, 256));
        // A line that does not fit empties the table.
        let large = [&octets("4001 61 7f 8102")[..], &[b'x'; 384]].concat();
        let lines = decoder.decode(&large, 1000).expect("a block");
        assert_eq!(lines.size, 1 + 384 + 32);
        assert_eq!(decoder.table.sizes(), (0, 0, 256));
        assert_eq!(decoder.decode(&[0xbe], 1000), Err(HpackError::Malformed));
    }

    #[test]
    fn malformed_blocks() {
        for block in [
            "80",
            "be",
            "ff",
            "ffff ffff ffff",
            "00",
            "0001 61",
            "0001 6102 62",
            "0001 6181 00",
            "41",
            "3fe2 1f",
            "8220",
            "0f",
        ] {
            let decoded = Decoder::new().decode(&octets(block), 1000);
            assert_eq!(decoded, Err(HpackError::Malformed), "{block}");
        }
        for block in ["", "20", "3fe1 1f", "2020 82", "0000 00"] {
            let decoded = Decoder::new().decode(&octets(block), 1000);
            assert!(decoded.is_ok(), "{block}");
        }
    }

    #[test]
    fn a_block_that_is_decoded_to_much_more_is_cut_off() {
        // One line of 4000 bytes in the table, and one byte for each further copy.
        let line = [&octets("4001 61 7f a11e")[..], &[b'x'; 4000]].concat();
        let mut decoder = Decoder::new();
        decoder.decode(&line, 10_000).expect("a block");
        let lines = decoder.decode(&[0xbe; 2], 10_000).expect("a block");
        assert!(!lines.is_truncated);
        let lines = decoder.decode(&[0xbe; 9], 10_000).expect("a block");
        assert!(lines.is_truncated);
        assert_eq!(lines.iter().count(), 2);
        assert!(lines.text.capacity() < 20_000);
        let lines = decoder.decode(&[0xbe; 10_000], 10_000);
        assert_eq!(lines, Err(HpackError::TooLarge));
        // The table is the same as before.
        let mut decoder = Decoder::new();
        decoder.decode(&line, 2000).expect("a block");
        let lines = decoder.decode(&[0xbe], 10_000).expect("a block");
        assert_eq!(lines.iter().count(), 1);
    }
}
