//! Defines the exit codes of the program.

use std::process::ExitCode;

/// The result of a command. The numbers are the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command succeeded.
    Done = 0,
    /// The command ran and found a mismatch, a difference or a failure.
    Failed = 1,
    /// The usage is wrong, or a file cannot be used. clap exits with the same code.
    Unusable = 2,
}

impl Exit {
    /// Returns [`Exit::Failed`] if something failed, otherwise [`Exit::Done`].
    pub(crate) fn failed_if(has_failed: bool) -> Self {
        if has_failed { Self::Failed } else { Self::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
