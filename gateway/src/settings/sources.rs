//! Collects the places that settings are read from: command line, environment, `.env` and settings file.
//!
//! The command line takes precedence over the environment, the environment over `.env`, `.env` over the file, and the file
//! over the default. FluxLit compares the names of variables without case, so they count in any case here as well; upper case
//! takes precedence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::settings::dot_env::DotEnv;
use crate::settings::error::SettingError;
use crate::settings::file::{SettingsFile, in_folder};
use crate::settings::fluxlit_variables;
use crate::settings::origin::Origin;
use crate::settings::service_links::without_service_links;
use crate::settings::values::PREFIX;
use crate::settings::warning::SettingWarning;

/// A flag of the command line that sets a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--port`.
    pub name: &'static str,
    /// The variable that it sets, such as `FLUXLIT_GATEWAY_PORT`.
    pub variable: &'static str,
    /// The value.
    pub value: String,
}

/// The places that settings are read from, as they were at one moment.
#[derive(Debug, Default)]
pub struct Sources {
    flags: Vec<Flag>,
    /// The settings file that a flag names.
    named: Option<PathBuf>,
    folder: PathBuf,
    environment: Vec<Variable>,
    /// All variables of the process, for what is not a setting of the gateway.
    pub(super) whole_environment: Vec<(String, String)>,
    dot_env: DotEnv,
    pub(super) file: SettingsFile,
    /// Values that take precedence over every place, by variable; `None` for one that is not set.
    pinned: Vec<(&'static str, Option<Found>)>,
    /// What is wrong with the places themselves.
    pub(super) errors: Vec<SettingError>,
    pub(super) warnings: Vec<SettingWarning>,
    /// True if a variable that Kubernetes sets for a Service was removed.
    pub(super) has_service_links: bool,
}

/// A variable of the environment or of `.env`.
#[derive(Debug, Clone)]
struct Variable {
    /// The name, in upper case if it is a setting's.
    name: String,
    written: String,
    value: String,
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl Sources {
    /// Reads the settings file and `.env`, and keeps `flags` and `environment`. What is wrong with them is reported together
    /// with the settings, by [`Settings::read`](crate::Settings::read).
    ///
    /// `named`: the settings file, if a flag names it. `folder`: where `.env`, `fluxlit.toml` and `pyproject.toml` are looked
    /// for.
    pub fn read(
        flags: Vec<Flag>,
        named: Option<&Path>,
        folder: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut errors = Vec::new();
        let environment = environment.into_iter().filter_map(|(name, value)| {
            // Names that are not text are not settings.
            let name = name.into_string().ok()?;
            let is_setting = is_setting(&name);
            match value.into_string() {
                Ok(value) => Some((name, value)),
                Err(_) if is_setting => {
                    errors.push(SettingError::NotText { name });
                    None
                }
                Err(_) => None,
            }
        });
        let environment: Vec<(String, String)> = environment.collect();
        let before = environment.len();
        let (environment, warnings) = without_service_links(environment);
        let has_service_links = environment.len() < before;
        let look_up = |name: &str| {
            let (_, value) = environment.iter().find(|(other, _)| other == name)?;
            Some(value.clone())
        };
        let dot_env = DotEnv::read(&in_folder(folder, ".env"), &look_up, &mut errors);
        let variables = environment
            .iter()
            .map(|(name, value)| Variable::new(name, value));
        let sources = Self {
            flags,
            named: named.map(Path::to_owned),
            folder: folder.to_owned(),
            environment: variables.collect(),
            dot_env,
            errors,
            warnings,
            has_service_links,
            ..Self::default()
        };
        let mut sources = sources.with_file();
        sources.whole_environment = environment;
        sources
    }

    /// Reads the files again. Flags and environment of a process do not change.
    pub(super) fn read_again(&self) -> Self {
        let mut errors = Vec::new();
        let look_up = |name: &str| {
            let mut variables = self.whole_environment.iter();
            let (_, value) = variables.find(|(other, _)| other == name)?;
            Some(value.clone())
        };
        let dot_env = DotEnv::read(&in_folder(&self.folder, ".env"), &look_up, &mut errors);
        let warnings = self.warnings.iter();
        let warnings = warnings.filter(|warning| warning.code != PYPROJECT_NOT_READ);
        let sources = Self {
            flags: self.flags.clone(),
            named: self.named.clone(),
            folder: self.folder.clone(),
            environment: self.environment.clone(),
            whole_environment: self.whole_environment.clone(),
            dot_env,
            errors,
            warnings: warnings.cloned().collect(),
            has_service_links: self.has_service_links,
            ..Self::default()
        };
        let mut again = sources.with_file();
        again.errors.extend(self.lost(&again));
        again
    }

    /// Returns an error for each file that has set something and is gone, because its settings would silently be those by
    /// default, such as no limit of hosts.
    fn lost(&self, again: &Self) -> Vec<SettingError> {
        let mut lost = Vec::new();
        let mut variables = self.dot_env.variables.iter();
        if variables.any(|variable| is_setting(&variable.name))
            && again.dot_env.path != self.dot_env.path
        {
            lost.push(&self.dot_env.path);
        }
        if let Some(path) = &self.file.path
            && !self.file.entries.is_empty()
            && match &again.file.path {
                Some(other) => other != path && !path.exists(),
                None => true,
            }
        {
            lost.push(path);
        }
        // An error says already that a file cannot be read.
        let is_known = |path: &Path| {
            again.errors.iter().any(
                |error| matches!(error, SettingError::FileRead { path: other, .. } if other == path),
            )
        };
        lost.retain(|path| !is_known(path));
        let lost = lost.into_iter().cloned();
        lost.map(|path| SettingError::FileGone { path }).collect()
    }

    /// Reads the settings file that a flag, a variable or the folder names.
    fn with_file(mut self) -> Self {
        let named = self
            .named
            .as_ref()
            .map(|path| path.as_os_str().to_owned())
            .or_else(|| {
                let found = self.find(SETTINGS_FILE)?;
                (!found.text.is_empty()).then(|| found.text.into())
            });
        let named = named.map(|path| in_folder(&self.folder, path));
        self.file = SettingsFile::find(named.as_deref(), &self.folder, &mut self.errors);
        if self.file.hides_pyproject {
            self.warnings.push(SettingWarning::new(
                PYPROJECT_NOT_READ,
                "[tool.fluxlit] of pyproject.toml is not read, because fluxlit.toml exists: keep the settings in one of them",
            ));
        }
        self
    }

    /// Returns true if the operator has set this variable, in any of the places.
    pub fn is_set(&self, variable: &str) -> bool {
        self.find(variable).is_some()
    }

    /// Returns what `fluxlit run` serves if the command line does not say it, such as `app:app`: `FLUXLIT_APP`, or the key
    /// `target` of the settings file.
    pub fn target(&self) -> Option<(String, Origin)> {
        let named = self.find(APP).or_else(|| self.find(TARGET))?;
        let text = named.text.trim();
        (!text.is_empty()).then(|| (text.to_owned(), named.origin))
    }

    /// Returns the settings file, if there is one.
    pub fn settings_file(&self) -> Option<&Path> {
        self.file.path.as_deref()
    }

    /// Pins variables to the values that they have in `old`, and returns those that would have changed.
    pub(super) fn pin(&mut self, old: &Self, names: &[&'static str]) -> Vec<&'static str> {
        let mut changed = Vec::new();
        for name in names {
            let (before, after) = (old.find(name), self.find(name));
            let text = |found: &Option<Found>| found.as_ref().map(|found| found.text.clone());
            if text(&before) != text(&after) {
                changed.push(*name);
                self.pinned.push((name, before));
            }
        }
        changed
    }

    /// Finds the value of a variable in the place that takes precedence.
    pub(super) fn find(&self, name: &str) -> Option<Found> {
        if let Some((_, pinned)) = self.pinned.iter().find(|(pinned, _)| *pinned == name) {
            return pinned.clone();
        }
        let flag = self.flags.iter().find(|flag| flag.variable == name);
        let flag = flag.map(|flag| Found {
            text: flag.value.clone(),
            origin: Origin::CommandLine { flag: flag.name },
        });
        flag.or_else(|| self.in_environment(name))
            .or_else(|| self.in_dot_env(name))
            .or_else(|| self.in_file(name))
    }

    /// Finds the value of a variable in the environment alone.
    pub(super) fn in_environment(&self, name: &str) -> Option<Found> {
        let named = || self.environment.iter().filter(|other| other.name == name);
        let exact = named().find(|variable| variable.written == name);
        let variable = exact.or_else(|| named().next())?;
        Some(Found {
            text: variable.value.clone(),
            origin: Origin::Environment {
                variable: variable.written.clone(),
            },
        })
    }

    fn in_dot_env(&self, name: &str) -> Option<Found> {
        let variables = self.dot_env.variables.iter();
        // The last one counts, as in python-dotenv.
        let variable = variables.rev().find(|variable| {
            is_setting(&variable.name) && variable.name.eq_ignore_ascii_case(name)
        })?;
        Some(Found {
            text: variable.value.clone(),
            origin: Origin::DotEnv {
                path: self.dot_env.path.clone(),
                line: variable.line,
                variable: variable.name.clone(),
            },
        })
    }

    fn in_file(&self, name: &str) -> Option<Found> {
        let entry = self
            .file
            .entries
            .iter()
            .find(|entry| entry.variable == name)?;
        Some(Found {
            text: entry.text(),
            origin: self.file_origin(entry.line, &entry.key),
        })
    }

    pub(super) fn file_origin(&self, line: usize, key: &str) -> Origin {
        Origin::File {
            path: self.file.path.clone().unwrap_or_default(),
            line,
            key: key.to_owned(),
        }
    }

    /// Returns the names in the environment and in `.env` that look like settings, with the place.
    pub(super) fn variables(&self) -> Vec<(String, Origin)> {
        let in_environment = self.environment.iter().map(|variable| {
            let origin = Origin::Environment {
                variable: variable.written.clone(),
            };
            (variable.name.clone(), origin)
        });
        let in_file = self.dot_env.variables.iter().map(|variable| {
            let origin = Origin::DotEnv {
                path: self.dot_env.path.clone(),
                line: variable.line,
                variable: variable.name.clone(),
            };
            (variable.name.to_ascii_uppercase(), origin)
        });
        in_environment
            .chain(in_file)
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect()
    }

    /// Returns the values that the app must be given, because it does not inherit them with the environment of the gateway: of
    /// the settings that FluxLit reads, those from the command line, from `.env` and from the settings file, in FluxLit's form.
    pub(super) fn for_app(&self) -> Vec<(String, String)> {
        fluxlit_variables::for_app()
            .filter(|name| name.starts_with(PREFIX))
            .filter_map(|name| {
                let Found { text, origin } = self.find(name)?;
                let is_inherited = match &origin {
                    // The app's own library may compare the name with case.
                    Origin::Environment { variable } => variable == name,
                    _ => false,
                };
                (!is_inherited).then(|| (name.to_owned(), text))
            })
            .collect()
    }
}

impl Variable {
    fn new(name: &str, value: &str) -> Self {
        Self {
            name: if is_setting(name) {
                name.to_ascii_uppercase()
            } else {
                name.to_owned()
            },
            written: name.to_owned(),
            value: value.to_owned(),
        }
    }
}

fn is_setting(name: &str) -> bool {
    let start = name.get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Names the settings file.
pub(super) const SETTINGS_FILE: &str = "FLUXLIT_SETTINGS_FILE";

/// The variable in which FluxLit names the app, and that of the key `target`.
pub(super) const APP: &str = "FLUXLIT_APP";
pub(super) const TARGET: &str = "FLUXLIT_TARGET";

const PYPROJECT_NOT_READ: &str = "pyproject_not_read";
