//! Writes the data of a command to standard output.

use std::io::{ErrorKind, Write as _};

use anyhow::Context;
use serde::Serialize;

/// Writes a text. A reader that has closed the pipe, such as `head`, has what it wants, so that is not an error.
pub(crate) fn write(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(text.as_ref())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes a value as JSON, for people to read.
pub(crate) fn write_json(value: &impl Serialize) -> anyhow::Result<()> {
    write(serde_json::to_string_pretty(value)? + "\n")
}
