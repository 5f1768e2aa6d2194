//! Records the host calls of a filter in order.
//!
//! A trace explains an outcome. Tests should not assert on it: a filter may reorder its calls and still do the same.

use std::fmt;

/// A recorded host call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCall {
    /// The callback during which it was made.
    pub callback: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The arguments as numbers: addresses, lengths, ids.
    pub arguments: Vec<i64>,
    /// The bytes that the module passed, in the order of its arguments.
    pub passed: Vec<Vec<u8>>,
    /// The bytes that the module received.
    pub returned: Option<Vec<u8>>,
    /// The status or WASI error number; `None` for a function without a result.
    pub result: Option<i32>,
}

impl fmt::Display for HostCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}(", self.callback, self.function)?;
        for (number, bytes) in self.passed.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}\"{}\"", Short(bytes))?;
        }
        if self.passed.is_empty() {
            let arguments: Vec<String> = self.arguments.iter().map(i64::to_string).collect();
            f.write_str(&arguments.join(", "))?;
        }
        f.write_str(")")?;
        if let Some(result) = self.result {
            write!(f, " = {result}")?;
        }
        match &self.returned {
            Some(bytes) => write!(f, " \"{}\"", Short(bytes)),
            None => Ok(()),
        }
    }
}

/// Displays bytes in one line, truncated.
struct Short<'a>(&'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_BYTES: usize = 200;
        match self.0.get(..MAX_BYTES) {
            Some(start) if self.0.len() > MAX_BYTES => write!(f, "{}…", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}
