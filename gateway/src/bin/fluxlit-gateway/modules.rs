//! Asks Python where it looks for modules, and which files of an app hide other modules.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fluxlit_doctor::fluxlit::Shadow;
use serde::Deserialize;

/// What Python says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modules {
    /// Where it looks for modules, the current folder first.
    pub(crate) paths: Vec<PathBuf>,
    /// The modules of the app that it finds instead of others.
    pub(crate) shadows: Vec<Shadow>,
}

/// Returns what this Python says about the modules in these folders, which it searches first.
pub(crate) fn find<'a>(python: &OsStr, folders: impl IntoIterator<Item = &'a str>) -> Modules {
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .args(folders)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let said = output.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        serde_json::from_str::<Said>(text.lines().last()?).ok()
    });
    let Said { paths, shadows } = said.unwrap_or_else(|| Said {
        // Without Python, what the variable says is all there is.
        paths: std::env::var_os("PYTHONPATH")
            .iter()
            .flat_map(std::env::split_paths)
            .collect(),
        shadows: Vec::new(),
    });
    Modules {
        paths: std::iter::once(PathBuf::from(".")).chain(paths).collect(),
        shadows: shadows.into_iter().map(Shadow::from).collect(),
    }
}

/// Returns the folder of a script, such as `pages` for `pages/app.py` and for `pages/app.py:app`.
pub(crate) fn folder_of_script(target: &str) -> Option<&str> {
    let file = target.split_once(".py:").map_or(target, |(stem, _)| stem);
    if file == target && target.contains(':') {
        return None;
    }
    let folder = Path::new(file).parent()?.to_str()?;
    Some(if folder.is_empty() { "." } else { folder })
}

/// What the script prints.
#[derive(Deserialize)]
struct Said {
    paths: Vec<PathBuf>,
    shadows: Vec<SaidShadow>,
}

#[derive(Deserialize)]
struct SaidShadow {
    name: String,
    file: PathBuf,
    hidden: PathBuf,
}

impl From<SaidShadow> for Shadow {
    fn from(said: SaidShadow) -> Self {
        let SaidShadow { name, file, hidden } = said;
        Self { name, file, hidden }
    }
}

const SCRIPT: &str = include_str!("modules.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_in_a_folder_and_a_module_is_not() {
        for (target, folder) in [
            ("app.py", Some(".")),
            ("./app.py", Some(".")),
            ("pages/app.py", Some("pages")),
            ("/srv/app.py:app", Some("/srv")),
            ("app:app", None),
            ("package.app:app", None),
        ] {
            assert_eq!(folder_of_script(target), folder, "{target}");
        }
    }
}
