//! Runs the program `host-test`.

use std::process::{Command, Output};

use super::guest;

/// The exit code and the output of a run.
pub(crate) struct ProgramRun {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program with these arguments to its end.
pub(crate) fn host_test(arguments: &[&str]) -> ProgramRun {
    let Output {
        status,
        stdout,
        stderr,
    } = command().args(arguments).output().expect("it runs");
    ProgramRun {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// The program, without arguments yet.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_host-test"))
}

/// A temporary folder with the files of a test, removed at its end.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The folder's path.
    pub(crate) fn folder(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// The path of the file `name` in this folder.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Writes the module of a guest with these callbacks and returns its path.
    pub(crate) fn write_guest(&self, name: &str, callbacks: &str) -> String {
        self.write(name, guest::module(callbacks))
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}
