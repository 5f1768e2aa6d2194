//! Decodes the Huffman code of HPACK, RFC 7541 §5.2 and appendix B.
//!
//! The code is canonical: among codes of one length, the order of the codes is that of the octets, and the first code of a
//! length follows from the number of shorter ones. So the lengths alone define it, and all tables are computed from them.

/// Decodes `encoded` and appends the text to `into`. Returns `None` if it is not a valid encoding.
pub(crate) fn decode(encoded: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let mut rest = encoded.iter();
    // The last `count` bits are those that are not decoded yet.
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    loop {
        while count <= 48
            && let Some(octet) = rest.next()
        {
            bits = (bits << 8) | u64::from(*octet);
            count += 8;
        }
        // The longest code, filled up with ones as at the end of a string.
        let window = match count.checked_sub(LONGEST) {
            Some(later) => bits >> later,
            None => !(!bits << (LONGEST - count)),
        };
        let (symbol, length) = first_symbol((window & WINDOW) as u32)?;
        if length > count {
            // Padding: fewer than eight bits, all ones.
            let padding = (1u64 << count) - 1;
            return (count < 8 && bits & padding == padding).then_some(());
        }
        // The end-of-string symbol must not be encoded.
        into.push(u8::try_from(symbol).ok()?);
        count -= length;
    }
}

/// Returns the symbol that `window` begins with, and the length of its code.
fn first_symbol(window: u32) -> Option<(u16, u32)> {
    let (symbol, length) = *TABLES.short.get((window >> (LONGEST - 8)) as usize)?;
    if length > 0 {
        return Some((symbol.into(), length.into()));
    }
    (9..=LONGEST).find_map(|length| {
        let code = window >> (LONGEST - length);
        let (first, index, count) = *TABLES.of_length.get(length as usize)?;
        let offset = code.checked_sub(first).filter(|offset| *offset < count)?;
        let symbol = *TABLES.symbols.get((index + offset) as usize)?;
        Some((symbol, length))
    })
}

struct Tables {
    /// The symbols in the order of their codes.
    symbols: [u16; 257],
    /// For each length of a code: the first code, its index in `symbols`, and the number of codes.
    of_length: [(u32, u32, u32); LONGEST as usize + 1],
    /// For each octet: the symbol whose code it begins with, and the length of that code; length 0 if the code is longer.
    short: [(u8, u8); 256],
}

static TABLES: Tables = {
    let mut tables = Tables {
        symbols: [0; 257],
        of_length: [(0, 0, 0); LONGEST as usize + 1],
        short: [(0, 0); 256],
    };
    let (mut length, mut code, mut index) = (1, 0, 0);
    while length <= LONGEST {
        let (first, start) = (code, index);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as u32 == length {
                tables.symbols[index as usize] = symbol as u16;
                if length <= 8 {
                    let unused = 8 - length;
                    let mut octet = code << unused;
                    while octet < (code + 1) << unused {
                        tables.short[octet as usize] = (symbol as u8, length as u8);
                        octet += 1;
                    }
                }
                code += 1;
                index += 1;
            }
            symbol += 1;
        }
        tables.of_length[length as usize] = (first, start, index - start);
        code <<= 1;
        length += 1;
    }
    tables
};

/// Length of the longest code in bits.
const LONGEST: u32 = 30;

const WINDOW: u64 = (1 << LONGEST) - 1;

/// Length of the code of each octet, and of the end of a string, RFC 7541 appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoded: &[u8], want: Option<&[u8]>) {
        let mut decoded = Vec::new();
        let result = decode(encoded, &mut decoded);
        assert_eq!(result.map(|()| decoded.as_slice()), want, "{encoded:02x?}");
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 §C.4 and §C.6.
        check(
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
            Some(b"www.example.com"),
        );
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], Some(b"no-cache"));
        check(&[0x64, 0x02], Some(b"302"));
        check(&[], Some(b""));
    }

    #[test]
    fn every_octet_has_a_code() {
        let mut code = [None; 257];
        for (length, (first, index, count)) in TABLES.of_length.iter().enumerate() {
            for offset in 0..*count {
                let symbol = TABLES.symbols[(index + offset) as usize];
                code[usize::from(symbol)] = Some((first + offset, length));
            }
        }
        // Samples of RFC 7541 appendix B, from the shortest to the longest.
        for (symbol, want) in [
            (48, (0x0, 5)),
            (32, (0x14, 6)),
            (88, (0xfc, 8)),
            (63, (0x3fc, 10)),
            (0, (0x1ff8, 13)),
            (92, (0x7fff0, 19)),
            (249, (0xfff_fffe, 28)),
            (22, (0x3fff_fffe, 30)),
            (256, (0x3fff_ffff, 30)),
        ] {
            assert_eq!(code[symbol], Some(want), "{symbol}");
        }
        for (octet, code) in (0..=255).zip(code) {
            let (code, length) = code.expect("a code");
            // At the front, and then filled up with ones.
            let padded = (u64::from(code) << (64 - length)) | (u64::MAX >> length);
            let bytes = padded.to_be_bytes();
            check(&bytes[..length.div_ceil(8)], Some(&[octet]));
        }
    }

    #[test]
    fn padding_is_checked() {
        check(&[0x07], Some(b"0"));
        // Zeros, more than seven bits, and the whole end-of-string symbol.
        check(&[0x00], None);
        check(&[0x06], None);
        check(&[0x07, 0xff], None);
        check(&[0xff], None);
        check(&[0xff, 0xff, 0xff, 0xff], None);
        check(&[0xff, 0xff, 0xff, 0xfc, 0x07], None);
    }
}
