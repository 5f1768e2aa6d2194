//! Finds the places of the settings that an error names.

use crate::settings::error::{LocatedError, SettingError, SettingErrors};
use crate::settings::origin::{Origin, Setting};
use crate::settings::values::PREFIX;
use crate::settings::warning::SettingWarning;

/// Adds the origins of the settings that the errors name.
pub(super) fn located(
    errors: Vec<SettingError>,
    warnings: Vec<SettingWarning>,
    table: &[Setting],
) -> SettingErrors {
    let locate = |error: SettingError| {
        let origins = match &error {
            SettingError::Policy(of_policy) => origins_of(
                &format!("{} {of_policy}", concerns(of_policy.code())),
                table,
            ),
            SettingError::Value { .. }
            | SettingError::UnknownKey { .. }
            | SettingError::KeyForm { .. }
            | SettingError::TomlSyntax { .. }
            | SettingError::DotEnvSyntax { .. }
            | SettingError::FileRead { .. }
            | SettingError::NotText { .. }
            | SettingError::Strict(_) => Vec::new(),
            other => origins_of(&other.to_string(), table),
        };
        LocatedError { error, origins }
    };
    SettingErrors {
        errors: errors.into_iter().map(locate).collect(),
        warnings,
    }
}

/// Returns the setting that an error of the policy concerns if its text does not name it.
fn concerns(code: &str) -> &'static str {
    match code {
        "E02" | "E03" | "E04" | "E05" | "E06" | "E07" | "E08" | "E09" | "E10" => {
            "forwarded_allow_ips"
        }
        _ => "",
    }
}

/// Returns the origin of each setting that a text names, as the variable or as the key.
fn origins_of(text: &str, table: &[Setting]) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words: Vec<&str> = text.split(|character| !is_part(character)).collect();
    let named = table.iter().filter(|setting| {
        let key = setting.name.strip_prefix(PREFIX).unwrap_or(&setting.name);
        let key = key.to_ascii_lowercase();
        setting.origin != Origin::Default
            && (words.contains(&setting.name.as_str())
                // A key of one word is also an English word.
                || (key.contains('_') || key == "mounts" || key == "hsts") && words.contains(&key.as_str()))
    });
    named
        .map(|setting| match &setting.origin {
            Origin::Environment { variable } => format!("{variable} is from the environment"),
            origin => format!("{} is from {origin}", setting.name),
        })
        .collect()
}
