//! Which bytes does a text of a case file stand for, and which text do bytes become?
//!
//! Latin-1: each character up to U+00FF is the byte of its number. What is checked when the file is read cannot fail
//! when the case is run.

use crate::header_map::HeaderMap;

/// Text of a case file that was checked. A character above U+00FF, which the check refuses, becomes `?`.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Says what is wrong with a text, if anything is.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.chars().all(|character| u32::from(character) <= 0xff) {
        Ok(())
    } else {
        Err(format!("`{text}` has a character above U+00FF"))
    }
}

pub(super) fn fields(lines: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// The lines as they are, for maps that Envoy does not touch.
pub(super) fn map(lines: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::default();
    for (name, value) in fields(lines) {
        map.add(&name, &value);
    }
    map
}

pub(super) fn lines(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}
