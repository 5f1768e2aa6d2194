//! Reads the import target of a Python application, such as `app:app` or `./app.py:app`.
//!
//! FluxLit and uvicorn read the same form, except that only FluxLit accepts a file. For uvicorn, a file is a module in its
//! folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A module or file, and the name of an application in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTarget {
    written: String,
    module: String,
    attribute: String,
    folder: Option<PathBuf>,
}

/// The error when a text is not an import target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a Python application: expected module:variable or file.py:variable, such as app:app or ./app.py:app"
)]
pub struct ImportTargetError(String);

impl ImportTarget {
    /// Returns the target as it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Returns the target in uvicorn's form, of the application or of a member of it.
    pub(crate) fn application(&self, member: Option<&str>) -> String {
        let Self {
            module, attribute, ..
        } = self;
        match member {
            Some(member) => format!("{module}:{attribute}.{member}"),
            None => format!("{module}:{attribute}"),
        }
    }

    /// Returns the folder that Python has to look in first, if the target names a file.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}

impl FromStr for ImportTarget {
    type Err = ImportTargetError;

    fn from_str(text: &str) -> Result<Self, ImportTargetError> {
        let written = text.trim();
        let read = || {
            let (module, attribute) = written.split_once(':')?;
            let is_name = |name: &str| {
                !name.is_empty()
                    && name
                        .chars()
                        .all(|letter| letter.is_alphanumeric() || letter == '_')
                    && !name.starts_with(|letter: char| letter.is_ascii_digit())
            };
            if !attribute.split('.').all(is_name) {
                return None;
            }
            let path = Path::new(module);
            let is_file = module.contains('/') || path.extension().is_some_and(|end| end == "py");
            let (module, folder) = if is_file {
                // A leading dash would be read as an option.
                let stem = path.file_stem()?.to_str()?;
                let folder = match path.parent() {
                    Some(folder) if !folder.as_os_str().is_empty() => folder,
                    _ => Path::new("."),
                };
                (stem.to_owned(), Some(folder.to_owned()))
            } else {
                if !module.split('.').all(is_name) {
                    return None;
                }
                (module.to_owned(), None)
            };
            let is_option = |text: &str| text.starts_with('-');
            (!is_option(&module) && !is_option(written)).then(|| Self {
                written: written.to_owned(),
                module,
                attribute: attribute.to_owned(),
                folder,
            })
        };
        read().ok_or_else(|| ImportTargetError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_module_or_a_file_and_a_variable() {
        for (text, application, folder) in [
            ("app:app", "app:app.api", None),
            (" main:app ", "main:app.api", None),
            (
                "examples.smoke_app.app:app",
                "examples.smoke_app.app:app.api",
                None,
            ),
            ("./app.py:app", "app:app.api", Some(".")),
            ("app.py:app", "app:app.api", Some(".")),
            (
                "/srv/my-app/main.py:site",
                "main:site.api",
                Some("/srv/my-app"),
            ),
            ("app:factory.app", "app:factory.app.api", None),
        ] {
            let target: ImportTarget = text.parse().expect(text);
            assert_eq!(target.application(Some("api")), application, "{text}");
            assert_eq!(target.folder(), folder.map(Path::new), "{text}");
            assert_eq!(target.written(), text.trim());
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "app",
            "app.py",
            "app:",
            ":app",
            "app:1",
            "a b:app",
            "app:app:app",
            "-m:app",
            "--help:app",
            "app:app()",
            "./-x.py:app",
            "app:..",
        ] {
            let error = text.parse::<ImportTarget>().expect_err(text);
            assert!(error.to_string().contains("./app.py:app"), "{error}");
        }
    }
}
