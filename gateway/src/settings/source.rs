//! Finds the value of each setting, and collects the values with their origins and all errors.
//!
//! The macro [`settings`] declares a group of settings as a struct. One entry defines a setting completely: documentation,
//! field, name, default and form. An entry that lacks a part does not compile, and every setting that is read is listed by
//! `fluxlit-gateway config`.

use serde_json::Value;

use crate::settings::error::SettingError;
use crate::settings::fluxlit_variables::{self, Meaning};
use crate::settings::origin::{Origin, Setting, shown};
use crate::settings::sources::{Found, SETTINGS_FILE, Sources, TARGET};
use crate::settings::values::{Form, PREFIX};
use crate::settings::warning::SettingWarning;

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

/// The settings that were found in the sources, and their errors.
pub(super) struct Source<'a> {
    pub(super) sources: &'a Sources,
    /// True if the gateway starts Streamlit itself.
    pub(super) starts_streamlit: bool,
    /// The variables that were looked for.
    known: Vec<&'static str>,
    pub(super) table: Vec<Setting>,
    pub(super) errors: Vec<SettingError>,
    pub(super) warnings: Vec<SettingWarning>,
}

impl<'a> Source<'a> {
    pub(super) fn new(sources: &'a Sources, starts_streamlit: bool) -> Self {
        Self {
            sources,
            starts_streamlit,
            known: Vec::new(),
            table: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Source<'_> {
    /// Reads a setting with a default. This and the three functions below return `None` if the value is invalid.
    pub(super) fn default<F: Form>(
        &mut self,
        name: &'static str,
        default: &str,
        form: &F,
    ) -> Option<F::Value> {
        let default_shown = form.read(default).map(|(_, shown)| shown);
        let found = self.sources.find(name).unwrap_or_else(|| Found {
            text: default.to_owned(),
            origin: Origin::Default,
        });
        self.convert(name, found, default_shown.unwrap_or_default(), form)
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
        if let Some(found) = self.sources.find(name) {
            return self.convert(name, found, Value::Null, form).map(Some);
        }
        self.known.push(name);
        self.table.push(Setting {
            name: name.to_owned(),
            value: Value::Null,
            default: Value::Null,
            origin: Origin::Default,
        });
        Some(None)
    }

    /// Returns the name under which a setting with two names is set.
    pub(super) fn name_or(&mut self, name: &'static str, alias: &'static str) -> &'static str {
        let is_set = |name| self.sources.find(name).is_some();
        match (is_set(name), is_set(alias)) {
            (false, true) => {
                self.known.push(name);
                alias
            }
            (false, false) => {
                self.known.push(alias);
                name
            }
            (true, false) => {
                self.known.push(alias);
                name
            }
            (true, true) => {
                self.not_used(alias, name);
                name
            }
        }
    }

    /// Notes a variable that is a setting, although it is not listed.
    pub(super) fn know(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// Warns that a variable is set and not used, because another one of the same meaning is set as well.
    pub(super) fn not_used(&mut self, alias: &'static str, name: &str) {
        self.known.push(alias);
        self.warnings.push(SettingWarning::new(
            "not_used",
            format!("{alias} is not used, because {name} is set"),
        ));
    }

    /// Returns the text of a variable that is no setting of the gateway.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let found = self.sources.find(name).map(|found| found.text);
        found.or_else(|| {
            let mut variables = self.sources.whole_environment.iter();
            variables
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
        })
    }

    pub(super) fn convert<F: Form>(
        &mut self,
        name: &'static str,
        found: Found,
        default: Value,
        form: &F,
    ) -> Option<F::Value> {
        self.known.push(name);
        let Found { text, origin } = found;
        let (value, as_read) = match form.read(&text) {
            Ok((value, as_read)) => (Some(value), as_read),
            Err(wrong) => {
                let value = shown(name, Value::from(wrong));
                self.errors.push(SettingError::Value {
                    place: origin.place(name),
                    value: value.as_str().unwrap_or_default().to_owned(),
                    expected: form.expected(),
                });
                (None, Value::from(text))
            }
        };
        self.table.push(Setting {
            name: name.to_owned(),
            value: shown(name, as_read),
            default,
            origin,
        });
        value
    }

    /// Judges the variables and keys that are not settings of the gateway, and lists those of the app.
    pub(super) fn judge_others(&mut self) {
        for name in fluxlit_variables::for_app() {
            if !self.known.contains(&name)
                && let Some(Found { text, origin }) = self.sources.find(name)
            {
                self.known.push(name);
                self.table.push(Setting {
                    name: name.to_owned(),
                    value: shown(name, text.into()),
                    default: Value::Null,
                    origin,
                });
            }
        }
        for (name, origin) in self.sources.variables() {
            if self.known.contains(&name.as_str()) || name == SETTINGS_FILE {
                continue;
            }
            let place = origin.place(&name);
            if !self.judge(&name, &place) {
                self.warnings.push(SettingWarning::new(
                    "unknown_variable",
                    format!(
                        "{place} is not a variable of the gateway or of FluxLit 0.13.2, so it has no effect on them{}",
                        self.suggestion(&name, |variable| variable.to_owned())
                            .map(|name| format!(": did you mean {name}?"))
                            .unwrap_or_default()
                    ),
                ));
            }
        }
        for entry in &self.sources.file.entries {
            let name = entry.variable.as_str();
            if self.known.contains(&name) || name == TARGET {
                continue;
            }
            let origin = self.sources.file_origin(entry.line, &entry.key);
            let is_for_app = fluxlit_variables::meaning(name) == Some(Meaning::SetForApp);
            if is_for_app || !self.judge(name, &origin.place(name)) {
                let key = |variable: &str| {
                    let key = variable.strip_prefix(PREFIX).unwrap_or(variable);
                    key.to_ascii_lowercase()
                };
                let suggestion = self.suggestion(name, key);
                self.errors.push(SettingError::UnknownKey {
                    place: format!("{origin}: `{}`", entry.key),
                    cure: suggestion.map_or("correct or remove it".to_owned(), |key| {
                        format!("did you mean `{key}`?")
                    }),
                });
            }
        }
    }

    /// Reports what a variable of FluxLit means that is not a setting of the gateway. Returns false if it is not FluxLit's.
    fn judge(&mut self, name: &str, place: &str) -> bool {
        let meaning = match name {
            PEER_KEY => Meaning::NoEffect(
                "the gateway takes the peer from its own connection; only the filter needs a key",
            ),
            _ => match fluxlit_variables::meaning(name) {
                Some(meaning) => meaning,
                None => return false,
            },
        };
        let reason = match meaning {
            Meaning::Gateway | Meaning::App | Meaning::Always => return true,
            // What FluxLit's own processes set for the app, and what names the app.
            Meaning::SetForApp if name == crate::settings::sources::APP => return true,
            Meaning::SetForApp => "the gateway sets it for an app that it starts",
            Meaning::NoEffect(reason) => reason,
            Meaning::Refused(reason) => {
                self.errors.push(SettingError::Refused {
                    place: place.to_owned(),
                    reason: reason.to_owned(),
                });
                return true;
            }
        };
        self.warnings.push(SettingWarning::new(
            "no_effect",
            format!("{place} has no effect: {reason}"),
        ));
        true
    }

    /// Returns the setting whose name is most similar to one that does not exist.
    fn suggestion(&self, name: &str, written: impl Fn(&str) -> String) -> Option<String> {
        let length = name.len().saturating_sub(PREFIX.len());
        let limit = 1.max(length / 4);
        let letters = name.chars().count();
        let candidates = self.known.iter().copied().chain(fluxlit_variables::names());
        let (_, similar) = candidates
            // The distance is at least the difference in length, and costs more.
            .filter(|candidate| candidate.len().abs_diff(letters) <= limit)
            .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
            .filter(|(distance, _)| *distance <= limit)
            .min()?;
        Some(written(similar))
    }
}

/// A setting of the policy that only the filter has.
const PEER_KEY: &str = "FLUXLIT_PEER_FILTER_STATE_KEY";
