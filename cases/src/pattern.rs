//! How is a regular expression of a case file read?
//!
//! It must match the whole of a text, as in Google's suites; a dot matches a line feed, too.

use regex::Regex;

/// The expression for a whole text.
///
/// # Errors
///
/// What is wrong with it.
pub fn whole(regex: &str) -> Result<Regex, String> {
    Regex::new(&format!("(?s)^(?:{regex})$")).map_err(|error| format!("regex `{regex}`: {error}"))
}

/// Whether `regex`, which was checked when the file was read, matches the whole of `text`.
pub fn matches_whole(regex: &str, text: &str) -> bool {
    whole(regex).is_ok_and(|regex| regex.is_match(text))
}
