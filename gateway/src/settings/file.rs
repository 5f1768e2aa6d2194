//! Reads a settings file: `fluxlit.toml`, or the table `[tool.fluxlit]` of `pyproject.toml`.
//!
//! The names are those of the variables, without `FLUXLIT_` and in lower case: `root_path`, `gateway_port`. A value is
//! written as in a variable, or as a TOML list of strings, table, number or boolean.
//!
//! As in FluxLit, `pyproject.toml` is not read if `fluxlit.toml` exists, so the two are never mixed. A file that is named
//! explicitly takes the place of both.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::settings::error::SettingError;
use crate::settings::fluxlit_variables;
use crate::settings::values::PREFIX;

/// A settings file.
#[derive(Debug, Clone, Default)]
pub(super) struct SettingsFile {
    /// `None` if there is no file.
    pub(super) path: Option<PathBuf>,
    pub(super) entries: Vec<Entry>,
    /// True if a `[tool.fluxlit]` is not read because `fluxlit.toml` exists.
    pub(super) hides_pyproject: bool,
}

/// A key of a settings file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The variable of the same setting.
    pub(super) variable: String,
    pub(super) value: Value,
    /// The line of the key, counted from 1.
    pub(super) line: usize,
}

impl SettingsFile {
    /// Reads the file that is `named`, or the usual one in `folder`.
    pub(super) fn find(
        named: Option<&Path>,
        folder: &Path,
        errors: &mut Vec<SettingError>,
    ) -> Self {
        if let Some(path) = named {
            return Self::read(path, errors);
        }
        let (own, shared) = (in_folder(folder, OWN), in_folder(folder, PYPROJECT));
        if own.is_file() {
            return Self {
                // Faults of a file that is not used do not matter.
                hides_pyproject: shared.is_file()
                    && !Self::read(&shared, &mut Vec::new()).entries.is_empty(),
                ..Self::read(&own, errors)
            };
        }
        if shared.is_file() {
            return Self::read(&shared, errors);
        }
        Self::default()
    }

    fn read(path: &Path, errors: &mut Vec<SettingError>) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, errors),
            Err(source) => {
                errors.push(SettingError::FileRead {
                    path: path.to_owned(),
                    source,
                });
                Self::default()
            }
        }
    }

    pub(super) fn parse(path: &Path, text: &str, errors: &mut Vec<SettingError>) -> Self {
        let line_of = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            before.matches('\n').count().saturating_add(1)
        };
        let (document, faults) = DeTable::parse_recoverable(text);
        let document = document.into_inner();
        let is_pyproject = path.file_name().is_some_and(|name| name == PYPROJECT);
        // Other tools have their tables in that file, which need not concern a gateway.
        if !is_pyproject || text.contains("fluxlit") {
            errors.extend(faults.into_iter().map(|fault| SettingError::TomlSyntax {
                path: path.to_owned(),
                line: line_of(fault.span().map_or(0, |span| span.start)),
                message: fault.message().to_owned(),
            }));
        }
        let table = if is_pyproject {
            let tool = document
                .get("tool")
                .and_then(|tool| tool.get_ref().as_table());
            let own = tool.and_then(|tool| tool.get("fluxlit"));
            own.and_then(|own| own.get_ref().as_table())
        } else {
            Some(&document)
        };
        let mut entries = Vec::new();
        for (key, value) in table.into_iter().flatten() {
            let line = line_of(key.span().start);
            let key = key.get_ref().to_string();
            let is_name = key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !is_name {
                errors.push(SettingError::KeyForm {
                    path: path.to_owned(),
                    line,
                    key,
                });
                continue;
            }
            entries.push(Entry {
                variable: format!("{PREFIX}{}", key.to_ascii_uppercase()),
                key,
                value: json_of(value),
                line,
            });
        }
        entries.sort_by_key(|entry| entry.line);
        Self {
            path: Some(path.to_owned()),
            entries,
            hides_pyproject: false,
        }
    }
}

impl Entry {
    /// Returns the value as it is written in the variable.
    pub(super) fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Array(items)
                if !fluxlit_variables::is_json_list(&self.variable)
                    && items.iter().all(Value::is_string) =>
            {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                items.join(",")
            }
            other => other.to_string(),
        }
    }
}

/// Returns a path in the folder; a path in the current folder stays short, because errors show it.
pub(super) fn in_folder(folder: &Path, path: impl AsRef<Path>) -> PathBuf {
    if folder == Path::new(".") {
        path.as_ref().to_owned()
    } else {
        folder.join(path)
    }
}

fn json_of(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            let digits = i64::from_str_radix(number.as_str(), number.radix());
            digits.map_or_else(|_| number.to_string().into(), Value::from)
        }
        // What JSON cannot express becomes a text, which no setting accepts as a number.
        DeValue::Float(number) => {
            let finite = number.as_str().parse::<f64>().ok();
            let json = finite.and_then(serde_json::Number::from_f64);
            json.map_or_else(|| number.as_str().into(), Value::Number)
        }
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(json_of).collect(),
        DeValue::Table(table) => {
            let members = table.iter();
            let members: Map<String, Value> = members
                .map(|(key, value)| (key.get_ref().to_string(), json_of(value)))
                .collect();
            members.into()
        }
    }
}

/// The gateway's file, which is FluxLit's as well.
const OWN: &str = "fluxlit.toml";

/// The file that Python tools share.
const PYPROJECT: &str = "pyproject.toml";

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the variables with text and line, and the errors.
    fn parse(path: &str, text: &str) -> (Vec<(String, String, usize)>, Vec<String>) {
        let mut errors = Vec::new();
        let file = SettingsFile::parse(Path::new(path), text, &mut errors);
        let entries = file.entries.iter();
        let entries = entries.map(|entry| (entry.variable.clone(), entry.text(), entry.line));
        let errors = errors.iter().map(ToString::to_string);
        (entries.collect(), errors.collect())
    }

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[(&str, &str, usize)]) {
        let (entries, errors) = parse(path, text);
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value, line)| ((*name).to_owned(), (*value).to_owned(), *line))
            .collect();
        assert_eq!((entries, errors), (expected, vec![]));
    }

    #[test]
    fn values_are_converted_to_the_text_of_a_variable() {
        let text = r#"root_path = "/apps/my-app"
trust_proxy = true
forwarded_allow_ips = [
    "10.0.0.0/8",
    "192.0.2.1",
]
gateway_port = 8_080
grace_period_s = 2.5
cors_allow_origins = ["https://a", "https://b"]

[hsts]
mode = "if_absent"
max_age = 60

[[mounts]]
root_path = "/a"
[[mounts]]
root_path = "/b"
hosts = ["b.example"]
"#;
        check(
            "fluxlit.toml",
            text,
            &[
                ("FLUXLIT_ROOT_PATH", "/apps/my-app", 1),
                ("FLUXLIT_TRUST_PROXY", "true", 2),
                ("FLUXLIT_FORWARDED_ALLOW_IPS", "10.0.0.0/8,192.0.2.1", 3),
                ("FLUXLIT_GATEWAY_PORT", "8080", 7),
                ("FLUXLIT_GRACE_PERIOD_S", "2.5", 8),
                (
                    "FLUXLIT_CORS_ALLOW_ORIGINS",
                    r#"["https://a","https://b"]"#,
                    9,
                ),
                ("FLUXLIT_HSTS", r#"{"max_age":60,"mode":"if_absent"}"#, 11),
                (
                    "FLUXLIT_MOUNTS",
                    r#"[{"root_path":"/a"},{"hosts":["b.example"],"root_path":"/b"}]"#,
                    15,
                ),
            ],
        );
    }

    #[test]
    fn only_fluxlit_s_table_of_pyproject_toml_is_read() {
        let text = "[project]\nname = \"x\"\n[tool.other]\nroot_path = \"/no\"\n[tool.fluxlit]\ntarget = \"app:app\"\n";
        check("pyproject.toml", text, &[("FLUXLIT_TARGET", "app:app", 6)]);
        check("pyproject.toml", "[project]\nname = \"x\"\n", &[]);
        // A file that no part of which is for the gateway does not keep it from starting.
        check("pyproject.toml", "[project\n", &[]);
    }

    #[test]
    fn every_fault_of_a_file_is_reported_with_its_line() {
        let text =
            "gateway_port = 8080\nROOT_PATH = \"/x\"\nroot_path = /x\nhsts = true\nx y = 1\n";
        let (entries, errors) = parse("fluxlit.toml", text);
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert!(names.contains(&"FLUXLIT_GATEWAY_PORT"), "{names:?}");
        assert!(names.contains(&"FLUXLIT_HSTS"), "{names:?}");
        for expected in [
            "fluxlit.toml:2: unknown setting `ROOT_PATH`",
            "fluxlit.toml:3: not valid TOML",
            "fluxlit.toml:5: not valid TOML",
        ] {
            let found = errors.iter().any(|error| error.starts_with(expected));
            assert!(found, "{expected} is missing in {errors:?}");
        }
    }

    #[test]
    fn fluxlit_toml_takes_the_place_of_pyproject_toml() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        let find = |named: Option<&str>| {
            let mut errors = Vec::new();
            let named = named.map(|name| folder.path().join(name));
            let file = SettingsFile::find(named.as_deref(), folder.path(), &mut errors);
            assert!(errors.is_empty(), "{errors:?}");
            let keys: Vec<String> = file.entries.into_iter().map(|entry| entry.key).collect();
            (keys.join(" "), file.hides_pyproject)
        };
        assert_eq!(find(None), (String::new(), false));
        put(PYPROJECT, "[tool.fluxlit]\nroot_path = \"/a\"\n");
        assert_eq!(find(None), ("root_path".to_owned(), false));
        put(OWN, "gateway_port = 1\n");
        assert_eq!(find(None), ("gateway_port".to_owned(), true));
        assert_eq!(find(Some(PYPROJECT)), ("root_path".to_owned(), false));
        put(PYPROJECT, "[project]\n");
        assert_eq!(find(None), ("gateway_port".to_owned(), false));
    }
}
