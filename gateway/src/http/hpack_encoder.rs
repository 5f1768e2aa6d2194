//! Encodes header blocks of HTTP/2, RFC 7541.
//!
//! The responses of an app have mostly the same fields, so a line that may occur again is added to the dynamic table, and its
//! next occurrence takes one or two octets. Lines that differ in each response are written in full and not added. So are those
//! with a secret, marked so that no later hop adds them either, RFC 7541 §7.1.3. Strings are written without the Huffman code,
//! which would have to be computed for exactly the lines that differ.

use crate::http::hpack::FieldLines;
use crate::http::hpack_table::{DynamicTable, STATIC_TABLE, TABLE_SIZE};

/// Encodes the header blocks of a connection, in the order in which they are sent.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: DynamicTable,
    /// The smallest and the last size that the peer has allowed since the last block.
    resized: Option<(usize, usize)>,
}

/// How a line is represented, RFC 7541 §6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Incremental,
    Without,
    Never,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            table: DynamicTable::new(),
            resized: None,
        }
    }

    /// Uses no larger table than the peer allows, RFC 9113 §6.5.2. The next block says so.
    pub(crate) fn limit_table(&mut self, max: u32) {
        let max = usize::try_from(max).unwrap_or(TABLE_SIZE).min(TABLE_SIZE);
        let least = self.resized.map_or(max, |(least, _)| least.min(max));
        self.resized = Some((least, max));
    }

    /// Appends the block of a response with these fields to `block`.
    pub(crate) fn response(&mut self, status: u16, fields: &FieldLines, block: &mut Vec<u8>) {
        self.begin(block);
        match STATUSES.iter().position(|known| *known == status) {
            Some(position) => put_integer(block, 0x80, 7, FIRST_STATUS + position),
            None => {
                put_integer(block, 0, 4, FIRST_STATUS);
                put_string(block, itoa::Buffer::new().format(status).as_bytes());
            }
        }
        self.lines(fields, block);
    }

    /// Appends the block of a trailer section to `block`.
    pub(crate) fn trailers(&mut self, fields: &FieldLines, block: &mut Vec<u8>) {
        self.begin(block);
        self.lines(fields, block);
    }

    /// Announces changes of the table's size, RFC 7541 §4.2.
    fn begin(&mut self, block: &mut Vec<u8>) {
        let Some((least, last)) = self.resized.take() else {
            return;
        };
        let smaller = Some(least).filter(|least| *least < last);
        for size in smaller.into_iter().chain([last]) {
            put_integer(block, 0x20, 5, size);
            self.table.resize(size);
        }
    }

    fn lines(&mut self, fields: &FieldLines, block: &mut Vec<u8>) {
        for (text, name_end) in fields.texts() {
            let Some((name, value)) = text.split_at_checked(name_end) else {
                continue;
            };
            let indexing = self.indexing(name, text.len());
            if indexing == Indexing::Incremental
                && let Some(index) = self.table.find(text, name_end)
            {
                put_integer(block, 0x80, 7, index);
                continue;
            }
            let name_index = static_name(name);
            match indexing {
                Indexing::Incremental => put_integer(block, 0x40, 6, name_index),
                Indexing::Without => put_integer(block, 0, 4, name_index),
                Indexing::Never => put_integer(block, 0x10, 4, name_index),
            }
            if name_index == 0 {
                put_string(block, name);
            }
            put_string(block, value);
            if indexing == Indexing::Incremental {
                self.table.insert(text, name_end);
            }
        }
    }

    fn indexing(&self, name: &[u8], length: usize) -> Indexing {
        match name {
            // An attacker who can make responses could find a value in the table by trying, RFC 7541 §7.1.
            b"set-cookie"
            | b"authorization"
            | b"authentication-info"
            | b"proxy-authenticate"
            | b"www-authenticate" => Indexing::Never,
            b"age" | b"content-length" | b"content-range" | b"date" | b"etag" | b"expires"
            | b"last-modified" | b"location" | b"traceparent" | b"x-request-id" => {
                Indexing::Without
            }
            _ if self.table.is_small(length) => Indexing::Incremental,
            _ => Indexing::Without,
        }
    }
}

/// Returns the index of a name in the static table, 0 if it has none.
fn static_name(name: &[u8]) -> usize {
    let mut names = STATIC_TABLE.iter().skip(FIRST_NAME - 1);
    let position = names.position(|(known, _)| known.as_bytes() == name);
    position.map_or(0, |position| FIRST_NAME + position)
}

/// Appends an integer after the bits of `first`, RFC 7541 §5.1.
fn put_integer(block: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    // Neither conversion changes a value: the prefix has at most seven bits.
    if value < mask {
        block.push(first | u8::try_from(value).unwrap_or_default());
        return;
    }
    block.push(first | u8::try_from(mask).unwrap_or_default());
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or_default());
        rest >>= 7;
    }
    block.push(u8::try_from(rest).unwrap_or_default());
}

/// Appends a string without the Huffman code, RFC 7541 §5.2.
fn put_string(block: &mut Vec<u8>, text: &[u8]) {
    put_integer(block, 0, 7, text.len());
    block.extend_from_slice(text);
}

/// The statuses of the static table, and the index of the first one.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
const FIRST_STATUS: usize = 8;

/// The index of the first name in the static table that is not a pseudo-header field.
const FIRST_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::hpack::Decoder;

    fn lines(fields: &[(&str, &str)]) -> FieldLines {
        let mut lines = FieldLines::default();
        for (name, value) in fields {
            lines.push(name.as_bytes(), value.as_bytes());
        }
        lines
    }

    fn encode(encoder: &mut Encoder, status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.response(status, &lines(fields), &mut block);
        block
    }

    #[test]
    fn lines_are_indexed_unless_they_are_secret_or_change() {
        let mut encoder = Encoder::new();
        let fields = [
            ("Server", "a"),
            ("X", "b"),
            ("Set-Cookie", "c"),
            ("Content-Length", "5"),
        ];
        let rest = [&[0x1f, 40, 1, b'c'][..], &[0x0f, 13, 1, b'5']].concat();
        let first = [&[0x88, 0x76, 1, b'a', 0x40, 1, b'x', 1, b'b'][..], &rest].concat();
        assert_eq!(encode(&mut encoder, 200, &fields), first);
        let again = [&[0x8d, 0xbf, 0xbe][..], &rest].concat();
        assert_eq!(encode(&mut encoder, 404, &fields), again);
        let other = encode(&mut encoder, 418, &[]);
        assert_eq!(other, [&[0x08, 3][..], b"418"].concat());
        // A longer line would take the place of many others.
        let long = encode(&mut encoder, 200, &[("x", &"y".repeat(1000))]);
        assert_eq!(long[..6], [0x88, 0, 1, b'x', 0x7f, 0xe9]);
        assert_eq!(encoder.table.sizes().0, 2);
    }

    #[test]
    fn a_change_of_the_size_is_announced() {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new();
        for (limits, want) in [
            (&[][..], &[][..]),
            (&[100], &[0x3f, 69]),
            (&[], &[]),
            (&[0, 5000], &[0x20, 0x3f, 0xe1, 0x1f]),
            (&[0], &[0x20]),
            (&[30, 20, 30], &[0x34, 0x3e]),
        ] {
            for limit in limits {
                encoder.limit_table(*limit);
            }
            let block = encode(&mut encoder, 200, &[("server", "a")]);
            let (start, end) = block.split_at(want.len());
            assert_eq!(start, want, "{limits:?}");
            assert!(matches!(end, [0x88, ..]), "{end:?}");
            let lines = decoder.decode(&block, 1000).expect("a block");
            assert_eq!(lines.iter().last(), Some((&b"server"[..], &b"a"[..])));
        }
    }

    proptest! {
        #[test]
        fn a_decoder_reads_what_was_written(
            blocks in proptest::collection::vec(
                (
                    100u16..600,
                    proptest::collection::vec(
                        (
                            prop_oneof!["[a-c]", Just("vary".to_owned()), Just("set-cookie".to_owned())],
                            prop_oneof!["[a-c]", "[ -~]{0,1200}"],
                        ),
                        0..20,
                    ),
                    proptest::option::of(0u32..6000),
                ),
                1..12,
            ),
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for (status, fields, limit) in blocks {
                if let Some(limit) = limit {
                    encoder.limit_table(limit);
                }
                let fields: Vec<(&str, &str)> = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let block = encode(&mut encoder, status, &fields);
                let decoded = decoder.decode(&block, 1 << 20).expect("a block");
                let status = status.to_string();
                let want = [&[(":status", status.as_str())][..], &fields].concat();
                let want: Vec<_> = want
                    .iter()
                    .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                    .collect();
                prop_assert_eq!(decoded.iter().collect::<Vec<_>>(), want);
                prop_assert_eq!(decoder.table_sizes(), encoder.table.sizes());
            }
        }
    }
}
