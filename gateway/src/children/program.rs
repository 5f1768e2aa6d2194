//! Describes a program that the gateway starts.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::observe::upstream::Upstream;
use crate::settings::{FluxLitApp, Settings};

/// The command line and environment of a child, and its names.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The name in front of its log lines.
    pub(super) name: &'static str,
    /// The name in sentences.
    pub(super) title: &'static str,
    /// The upstream that it is.
    pub(super) upstream: Upstream,
    pub(super) executable: OsString,
    pub(super) arguments: Vec<OsString>,
    /// Variables that it gets in addition to the gateway's own environment.
    pub(super) environment: Vec<(String, OsString)>,
}

impl Program {
    /// Returns what both programs have in common: the settings of the app that its environment lacks.
    pub(super) fn environment(
        settings: &Settings,
        fluxlit: Option<&FluxLitApp>,
    ) -> Vec<(String, OsString)> {
        let child_environment = settings.child_environment.iter();
        let mut variables: Vec<(String, OsString)> = child_environment
            .map(|(name, value)| (name.clone(), value.into()))
            .collect();
        let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.into()));
        // Otherwise Python collects lines that go to a pipe, and they are late, or lost if it is killed.
        set("PYTHONUNBUFFERED", "1");
        if let Some(fluxlit) = fluxlit {
            set("FLUXLIT_APP", fluxlit.target.written());
            set("FLUXLIT_API_PREFIX", settings.api.sub_app.path());
        }
        variables
    }

    /// Returns true if the executable exists.
    pub(super) fn exists(&self) -> bool {
        find_executable(&self.executable).is_some()
    }
}

/// Finds an executable as a shell does: a path as it is, a name in the folders of `PATH`.
pub(crate) fn find_executable(name: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
