//! Expands the shorthands of guest texts, so that a test names a text instead of its place in memory.
//!
//! | shorthand | becomes |
//! | --- | --- |
//! | `@"text"` | address and length of the text |
//! | `@'c'` | the number of the character |
//! | `@pairs("name" "value" …)` | address and length of a header map as the ABI serializes it |
//! | `@request`, `@response` | the number of the map with the headers of that message |
//! | `@request_trailers`, `@response_trailers` | the number of the map with its trailers |
//! | `@to_result` | the two addresses at which a host function stores the address and length of its result |
//! | `@result` | address and length of that result |
//!
//! Texts have the escapes of WebAssembly's text format, such as `\00`.

use std::fmt::Write as _;

/// Address of the first text. The guest's allocator starts at 1024 and reaches it after 59 KiB.
const TEXTS: usize = 61_440;

/// Shorthands without arguments. One that begins with another one comes first.
const WORDS: [(&str, &str); 6] = [
    ("request_trailers", "(i32.const 1)"),
    ("request", "(i32.const 0)"),
    ("response_trailers", "(i32.const 3)"),
    ("response", "(i32.const 2)"),
    (
        "result",
        "(i32.load (i32.const 0)) (i32.load (i32.const 4))",
    ),
    ("to_result", "(i32.const 0) (i32.const 4)"),
];

/// Replaces the shorthands of `guest` and appends the data segments with its texts.
pub(super) fn expand(guest: &str) -> String {
    let mut texts = Texts::default();
    let mut expanded = String::new();
    let mut rest = guest;
    while let Some((before, after)) = rest.split_once('@') {
        expanded.push_str(before);
        rest = after;
        if rest.starts_with('"') {
            let text;
            (text, rest) = literal(rest);
            expanded.push_str(&texts.place(text));
        } else if let [b'\'', character, b'\'', ..] = rest.as_bytes() {
            write!(expanded, "(i32.const {character})").unwrap();
            rest = &rest[3..];
        } else if let Some(pairs) = rest.strip_prefix("pairs(") {
            let end;
            (end, rest) = pairs.split_once(')').expect("`@pairs(` needs `)`");
            expanded.push_str(&texts.place(serialized(end)));
        } else {
            let (short, long) = WORDS
                .iter()
                .find(|(short, _)| rest.starts_with(short))
                .unwrap_or_else(|| panic!("unknown shorthand: @{rest}"));
            expanded.push_str(long);
            rest = &rest[short.len()..];
        }
    }
    expanded.push_str(rest);
    expanded.push_str(&texts.segments);
    expanded
}

/// The texts of a guest and the data segments that hold them.
#[derive(Default)]
struct Texts {
    placed: Vec<(Vec<u8>, usize)>,
    size: usize,
    segments: String,
}

impl Texts {
    /// Returns the address and length of a text. Equal texts share one address.
    fn place(&mut self, text: Vec<u8>) -> String {
        let length = text.len();
        let placed = self.placed.iter().find(|(placed, _)| *placed == text);
        let address = match placed {
            Some((_, address)) => *address,
            None => {
                let address = TEXTS + self.size;
                let escaped: String = text.iter().map(|byte| format!("\\{byte:02x}")).collect();
                write!(self.segments, "(data (i32.const {address}) \"{escaped}\")").unwrap();
                self.size += length;
                self.placed.push((text, address));
                address
            }
        };
        format!("(i32.const {address}) (i32.const {length})")
    }
}

/// Parses the quoted text at the start of `text`. Returns its bytes and what follows.
fn literal(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"').expect("a text in quotes").chars();
    loop {
        bytes.push(match rest.next().expect("the end of the text") {
            '"' => return (bytes, rest.as_str()),
            '\\' => match rest.next().expect("an escape") {
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                high if high.is_ascii_hexdigit() => {
                    let digits: String = [Some(high), rest.next()].into_iter().flatten().collect();
                    u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
                }
                quoted => u8::try_from(quoted).unwrap(),
            },
            character => u8::try_from(character).expect("other bytes are escaped"),
        });
    }
}

/// Serializes a header map as the ABI does: count, lengths, then names and values, each followed by a zero byte.
fn serialized(pairs: &str) -> Vec<u8> {
    let mut texts = Vec::new();
    let mut rest = pairs.trim_start();
    while !rest.is_empty() {
        let text;
        (text, rest) = literal(rest);
        texts.push(text);
        rest = rest.trim_start();
    }
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut map = number(texts.len() / 2).to_vec();
    map.extend(texts.iter().flat_map(|text| number(text.len())));
    for text in texts {
        map.extend(text);
        map.push(0);
    }
    map
}

#[test]
fn equal_texts_share_one_address() {
    let text = "(i32.const 61440) (i32.const 2)";
    let segment = r#"(data (i32.const 61440) "\61\00")"#;
    assert_eq!(
        expand(r#"@"a\00" @"\61\00""#),
        format!("{text} {text}{segment}")
    );
}

#[test]
fn pairs_are_serialized_as_in_the_abi() {
    let want = b"\x01\0\0\0\x05\0\0\0\x01\0\0\0:path\0/\0";
    assert_eq!(serialized(r#"":path" "/""#), want);
}
