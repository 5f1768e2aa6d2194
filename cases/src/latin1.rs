//! Converts between the text of a case file and bytes.
//!
//! The encoding is Latin-1: each character up to U+00FF is the byte with its number. Other characters are rejected when the
//! file is read, so that a conversion cannot fail when the case is run.

/// Converts text of a case file to bytes. A character above U+00FF, which a case file cannot contain, becomes `?`.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

/// Converts bytes to text of a case file.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Converts field lines to bytes.
pub fn fields(lines: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// Returns an error if a text has a character above U+00FF.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.chars().all(|character| u32::from(character) <= 0xff) {
        Ok(())
    } else {
        Err(format!("`{text}` has a character above U+00FF"))
    }
}
