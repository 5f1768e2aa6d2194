//! Which host calls did a filter make, in order?
//!
//! An aid to find out why an outcome is what it is, not something to assert on: a filter may change the order of its
//! calls and still do the same.

use std::fmt;

/// One host call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCall {
    /// The callback in which it was made.
    pub callback: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The arguments as numbers: addresses, lengths, ids.
    pub arguments: Vec<i64>,
    /// The bytes that the module passed, in the order of its arguments.
    pub passed: Vec<Vec<u8>>,
    /// The bytes that the module was given.
    pub given: Option<Vec<u8>>,
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
        match &self.given {
            Some(bytes) => write!(f, " \"{}\"", Short(bytes)),
            None => Ok(()),
        }
    }
}

/// Bytes in one readable line, cut.
struct Short<'a>(&'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        match self.0.get(..LONGEST) {
            Some(start) if self.0.len() > LONGEST => write!(f, "{}…", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}
