//! Which bytes does a text of a case file stand for, and which text do bytes become?
//!
//! Latin-1: each character up to U+00FF is the byte of its number. What is checked when the file is read cannot fail
//! when the case is run.

/// The bytes of a text of a case file. A character above U+00FF, which a file that was read has not, becomes `?`.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

/// The text that stands for these bytes.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes of field lines.
pub fn fields(lines: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// Says what is wrong with a text, if anything is.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.chars().all(|character| u32::from(character) <= 0xff) {
        Ok(())
    } else {
        Err(format!("`{text}` has a character above U+00FF"))
    }
}
