//! Reads settings from JSON, and reports every error instead of only the first.
//!
//! An object is read member by member, each by the name and the type of its setting; the members that are left over are
//! unknown. `null` counts as absent. Serde's derived `Deserialize` is not used, because it stops at the first error.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::config_error::ConfigError;

/// A value of a setting.
pub(crate) trait FromSetting: Sized {
    /// Converts the value of the setting at `path`; reports an error and returns `None` if it is invalid.
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self>;
}

/// A group of settings: a JSON object with known members.
pub(crate) trait ConfigObject: Sized {
    /// Reads all members.
    fn read_members(reader: &mut ConfigReader<'_>) -> Self;
}

/// Declares a group of settings: its struct and how it is read, so that a member is named in one place only.
macro_rules! config_object {
    (
        $(#[$attribute:meta])*
        pub(crate) struct $name:ident {
            $($(#[$member_attribute:meta])* $member:ident: $type:ty,)+
        }
    ) => {
        #[derive(Debug, Clone, Default, PartialEq)]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(deny_unknown_fields))]
        $(#[$attribute])*
        pub(crate) struct $name {
            $($(#[$member_attribute])* pub(crate) $member: Option<$type>,)+
        }

        impl $crate::config_reader::ConfigObject for $name {
            fn read_members(reader: &mut $crate::config_reader::ConfigReader<'_>) -> Self {
                Self {
                    $($member: reader.read(stringify!($member)),)+
                }
            }
        }
    };
}

/// Declares a setting whose value is one of a few keywords: its enum and how it is read.
macro_rules! keyword_enum {
    (
        $(#[$attribute:meta])*
        pub(crate) enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $keyword:tt,)+
        }
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $(#[$attribute])*
        pub(crate) enum $name {
            $($(#[$variant_attribute])* #[cfg_attr(test, schemars(rename = $keyword))] $variant,)+
        }

        impl $crate::config_reader::FromSetting for $name {
            fn from_setting(
                reader: &mut $crate::config_reader::ConfigReader<'_>,
                path: String,
                value: serde_json::Value,
            ) -> Option<Self> {
                let keywords = [$(($keyword, Self::$variant)),+];
                reader.keyword(&keywords, path, value)
            }
        }
    };
}

pub(crate) use {config_object, keyword_enum};

/// Reads the members of one JSON object one by one.
pub(crate) struct ConfigReader<'e> {
    /// The path of the object, such as `mounts[2].`; empty for the whole configuration.
    path: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
    errors: &'e mut Vec<ConfigError>,
}

impl ConfigReader<'_> {
    /// Reads an object and reports its unknown members. `path`: its path, with a dot at the end.
    pub(crate) fn read_object<T: ConfigObject>(
        path: String,
        members: Map<String, Value>,
        errors: &mut Vec<ConfigError>,
    ) -> T {
        let mut reader = ConfigReader {
            path,
            members,
            known: Vec::new(),
            errors,
        };
        let object = T::read_members(&mut reader);
        reader.report_unknown();
        object
    }

    /// Reads a member; `None` if it is absent, null or invalid.
    pub(crate) fn read<T: FromSetting>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        let path = [self.path.as_str(), name].concat();
        T::from_setting(self, path, value)
    }

    /// Reads an object that is nested in this one.
    pub(crate) fn nested<T: ConfigObject>(
        &mut self,
        mut path: String,
        members: Map<String, Value>,
    ) -> T {
        path.push('.');
        ConfigReader::read_object(path, members, self.errors)
    }

    /// Finds a keyword by its text.
    pub(crate) fn keyword<T: Copy>(
        &mut self,
        keywords: &[(&'static str, T)],
        path: String,
        value: Value,
    ) -> Option<T> {
        let written = String::from_setting(self, path.clone(), value)?;
        let found = keywords.iter().find(|(keyword, _)| *keyword == written);
        if found.is_none() {
            let expected: Vec<&str> = keywords.iter().map(|(keyword, _)| *keyword).collect();
            self.error(ConfigError::UnknownKeyword {
                setting: path,
                value: written,
                expected: expected.join(", "),
            });
        }
        found.map(|(_, variant)| *variant)
    }

    /// Reports that a value has the wrong type.
    pub(crate) fn type_error<T>(
        &mut self,
        setting: String,
        value: &Value,
        expected: &'static str,
    ) -> Option<T> {
        self.error(ConfigError::Type {
            setting,
            value: shorten(value),
            expected,
        });
        None
    }

    pub(crate) fn error(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Reports the members that were not read.
    fn report_unknown(self) {
        let Self {
            path,
            members,
            mut known,
            errors,
        } = self;
        known.sort_unstable();
        for key in members.keys() {
            let hint = known
                .iter()
                .map(|name| (strsim::levenshtein(key, name), *name))
                .filter(|(distance, _)| *distance <= key.len().div_ceil(3))
                .min();
            errors.push(ConfigError::UnknownKey {
                key: [path.as_str(), key].concat(),
                hint: hint.map_or(String::new(), |(_, name)| {
                    format!("did you mean \"{name}\"? ")
                }),
                expected: known.join(", "),
            });
        }
    }
}

impl FromSetting for bool {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            value => reader.type_error(path, &value, "true or false"),
        }
    }
}

impl FromSetting for i64 {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value.as_i64() {
            Some(number) => Some(number),
            None => reader.type_error(path, &value, "a whole number"),
        }
    }
}

impl FromSetting for String {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            value => reader.type_error(path, &value, "a string"),
        }
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        let values = array(reader, &path, value, "an array of strings")?;
        let items = values.into_iter().enumerate().filter_map(|(index, value)| {
            String::from_setting(reader, format!("{path}[{index}]"), value)
        });
        Some(items.collect())
    }
}

impl<T: ConfigObject> FromSetting for Vec<T> {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        let values = array(reader, &path, value, "an array of objects")?;
        let mut objects = Self::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            match value {
                Value::Object(members) => objects.push(reader.nested(path, members)),
                value => {
                    reader.type_error::<()>(path, &value, "an object");
                }
            }
        }
        Some(objects)
    }
}

fn array(
    reader: &mut ConfigReader<'_>,
    path: &str,
    value: Value,
    expected: &'static str,
) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        value => reader.type_error(path.to_owned(), &value, expected),
    }
}

/// Parses one JSON object. A repeated key is an error, because a human reader and the program could use different values.
pub(crate) fn parse_object(text: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::from_slice(text) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        // The text itself may contain a secret.
        Ok(Strict(value)) => Err(ConfigError::Document {
            problem: format!("it is {}", type_of(&value)),
        }),
        Err(error) => Err(ConfigError::Document {
            problem: error.to_string(),
        }),
    }
}

/// A JSON value without repeated keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, _>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key \"{key}\" occurs twice"
                )));
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The maximum length of a value that an error repeats, in characters.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_not_be_repeated() {
        for (text, want) in [
            (r#"{"a": 1, "b": {"a": 2}}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some("\"a\" occurs twice")),
            (r#"{"b": [{"a": 1, "a": 2}]}"#, Some("\"a\" occurs twice")),
            ("[]", Some("it is an array")),
            ("", Some("EOF")),
            (r#"{"a": 1} x"#, Some("trailing")),
        ] {
            let got = parse_object(text.as_bytes())
                .err()
                .map(|error| error.to_string());
            match want {
                None => assert_eq!(got, None, "{text}"),
                Some(want) => assert!(
                    got.as_ref().is_some_and(|got| got.contains(want)),
                    "{text}: {got:?}"
                ),
            }
        }
    }
}
