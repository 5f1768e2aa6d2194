//! Finds the value of each setting, and collects the values with their origins and all errors.
//!
//! The command line takes precedence over the environment, the environment over the file, and the file over the default.
//!
//! The macro [`settings`] declares a group of settings as a struct. One entry defines a setting completely: documentation,
//! field, name, default and form. An entry that lacks a part does not compile, and every setting that is read is listed by
//! `fluxlit-gateway config`.

use serde_json::Value;

use crate::settings::error::SettingError;
use crate::settings::file::SettingsFile;
use crate::settings::values::{Form, PREFIX};

/// Declares a struct whose fields are settings, with a function `read` and a list of the variables' `NAMES`.
///
/// An entry is `/// documentation`, `field: Type = "VARIABLE", default, form;` where the default is one of:
/// - `default("text")`: the text that is used if the variable is not set;
/// - `default_from(function)`: the same, returned by a function of the [`Source`];
/// - `or_empty`: the type's default value, which `config` does not list;
/// - `optional`: the field is an `Option`, and `config` does not list it if it is not set.
///
/// `"VARIABLE" or "OTHER"` reads the second variable if the first is not set.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $group:ident {
            $(
                $(#[doc = $documentation:literal])+
                $field_visibility:vis $field:ident: $type:ty =
                    $name:literal $(or $alias:literal)?, $default:ident $(($argument:expr))?, $form:expr;
            )+
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $group {
            $(
                $(#[doc = $documentation])+
                $field_visibility $field: $type,
            )+
        }

        impl $group {
            /// The variable of each setting.
            #[cfg(test)]
            pub(super) const NAMES: &[&str] = &[$($name, $($alias,)?)+];

            /// Reads every setting; `None` if one of them is wrong.
            pub(super) fn read(source: &mut $crate::settings::source::Source<'_>) -> Option<Self> {
                $(
                    let name = $name;
                    $(let name = source.name_or(name, $alias);)?
                    let $field: Option<$type> = source.$default(name, $($argument,)? &$form);
                )+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
}

pub(super) use settings;

/// A setting with its value and origin.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The value: a boolean, a number, or text.
    pub value: serde_json::Value,
    /// The origin of the value.
    pub origin: Origin,
}

/// The origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// The built-in default.
    Default,
    /// The environment.
    Environment,
    /// The settings file.
    File,
}

/// The places from which settings are read, the settings that were found, and their errors.
pub(super) struct Source<'a> {
    pub(super) flags: &'a [(&'static str, String)],
    pub(super) environment: &'a [(String, String)],
    pub(super) file: &'a SettingsFile,
    /// True if the gateway starts Streamlit itself.
    pub(super) starts_streamlit: bool,
    pub(super) table: Vec<Setting>,
    pub(super) errors: Vec<SettingError>,
}

impl Source<'_> {
    /// Reads a setting with a default. This and the three functions below return `None` if the value is invalid.
    pub(super) fn default<F: Form>(
        &mut self,
        name: &'static str,
        default: &str,
        form: &F,
    ) -> Option<F::Value> {
        let (text, origin) = self
            .find(name)
            .unwrap_or_else(|| (default.to_owned(), Origin::Default));
        self.convert(name, &text, origin, form)
    }

    /// Reads a setting whose default is computed from the source.
    pub(super) fn default_from<F: Form>(
        &mut self,
        name: &'static str,
        default: fn(&Self) -> String,
        form: &F,
    ) -> Option<F::Value> {
        let default = default(self);
        self.default(name, &default, form)
    }

    /// Reads a setting whose value is empty if it is not set.
    pub(super) fn or_empty<F: Form<Value: Default>>(
        &mut self,
        name: &'static str,
        form: &F,
    ) -> Option<F::Value> {
        self.optional(name, form).map(Option::unwrap_or_default)
    }

    /// Reads a setting that need not be set.
    #[expect(
        clippy::option_option,
        reason = "the outer one says whether the value is right, the inner one whether there is one"
    )]
    pub(super) fn optional<F: Form>(
        &mut self,
        name: &'static str,
        form: &F,
    ) -> Option<Option<F::Value>> {
        match self.find(name) {
            Some((text, origin)) => self.convert(name, &text, origin, form).map(Some),
            None => Some(None),
        }
    }

    /// Returns the name under which a setting with two names is set.
    pub(super) fn name_or(&self, name: &'static str, alias: &'static str) -> &'static str {
        let uses_alias = self.find(name).is_none() && self.find(alias).is_some();
        if uses_alias { alias } else { name }
    }

    /// Returns the text of a variable, without listing it as a setting.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.find(name).map(|(text, _)| text)
    }

    fn find(&self, name: &str) -> Option<(String, Origin)> {
        if let Some((_, text)) = self.flags.iter().find(|(flag, _)| *flag == name) {
            return Some((text.clone(), Origin::CommandLine));
        }
        let find_in = |variables: &[(String, String)]| {
            let (_, text) = variables.iter().find(|(variable, _)| variable == name)?;
            Some(text.clone())
        };
        let from_environment = find_in(self.environment).map(|text| (text, Origin::Environment));
        from_environment.or_else(|| Some((find_in(&self.file.values)?, Origin::File)))
    }

    fn convert<F: Form>(
        &mut self,
        name: &'static str,
        text: &str,
        origin: Origin,
        form: &F,
    ) -> Option<F::Value> {
        let (value, shown) = match form.read(text) {
            Ok((value, shown)) => (Some(value), shown),
            Err(wrong) => {
                self.errors.push(SettingError::Value {
                    name,
                    value: wrong,
                    expected: form.expected(),
                });
                (None, Value::from(text))
            }
        };
        self.table.push(Setting {
            name: name.to_owned(),
            value: shown,
            origin,
        });
        value
    }

    /// Reports the keys of the file that are not settings.
    pub(super) fn reject_unread_keys(&mut self) {
        let unread = self
            .file
            .values
            .iter()
            .filter(|(name, _)| !self.has_read(name));
        let keys = unread.map(|(name, _)| name.trim_start_matches(PREFIX).to_ascii_lowercase());
        let errors: Vec<SettingError> = keys
            .filter(|key| !FLUXLIT_KEYS.contains(&key.as_str()))
            .map(|key| SettingError::UnknownKey {
                path: self.file.path.clone(),
                key,
            })
            .collect();
        self.errors.extend(errors);
    }

    /// Returns a warning for each variable that looks like a setting but is not one.
    pub(super) fn unread_variables(&self) -> Vec<String> {
        self.environment
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(PREFIX) && !self.has_read(name))
            .filter(|name| !OTHER_VARIABLES.contains(&name.as_str()))
            .map(|name| format!("{name} is not a setting of the gateway and has no effect"))
            .collect()
    }

    fn has_read(&self, name: &str) -> bool {
        self.table.iter().any(|setting| setting.name == name)
    }
}

/// Keys of the file that only FluxLit reads: the Python app, and its log level.
const FLUXLIT_KEYS: [&str; 2] = ["log_level", "target"];

/// Variables that are not settings: FluxLit reads the first in the app's process, and the second names the file.
const OTHER_VARIABLES: [&str; 2] = ["FLUXLIT_APP", "FLUXLIT_SETTINGS_FILE"];
