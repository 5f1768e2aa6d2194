//! Defines the exit codes of the program.

use std::process::ExitCode;

/// The result of a command. The numbers are the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command succeeded.
    Done = 0,
    /// The command ran and failed, or found something that is wrong.
    Failed = 1,
    /// The usage or the settings are wrong, so that nothing was started. clap exits with the same code.
    Unusable = 2,
}

/// Marks an error as one of usage or settings. Use it as `.map_err(Unusable)`; every other error means [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Unusable(#[from] pub(crate) anyhow::Error);

impl Exit {
    /// Returns the exit code for the error of a command.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        if error.is::<Unusable>() {
            Self::Unusable
        } else {
            Self::Failed
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn only_marked_errors_are_errors_of_usage() {
        let marked = || anyhow::Error::from(Unusable(anyhow!("no port").context("settings")));
        assert_eq!(Exit::of_error(&marked()), Exit::Unusable);
        let explained = Err::<(), _>(marked()).context("cannot start");
        assert_eq!(
            explained.as_ref().map_err(Exit::of_error),
            Err(Exit::Unusable)
        );
        assert_eq!(
            format!("{:#}", explained.expect_err("an error")),
            "cannot start: settings: no port"
        );
        assert_eq!(Exit::of_error(&anyhow!("the port is in use")), Exit::Failed);
    }
}
