//! Compiles the regular expressions of case files.
//!
//! An expression must match the whole text, as in Google's suites; a dot also matches a line feed.

use regex::Regex;

/// Compiles an expression that matches whole texts.
///
/// # Errors
///
/// If the expression is invalid.
pub fn whole(regex: &str) -> Result<Regex, String> {
    Regex::new(&format!("(?s)^(?:{regex})$")).map_err(|error| format!("regex `{regex}`: {error}"))
}

/// Returns true if `regex`, which was checked when the file was read, matches the whole `text`.
pub fn matches_whole(regex: &str, text: &str) -> bool {
    whole(regex).is_ok_and(|regex| regex.is_match(text))
}
