//! How are settings read out of JSON, with every fault and not only the first?
//!
//! An object is taken apart member by member, each by the name and type of its setting; what is left in the end is
//! unknown. `null` is as good as absent.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::config_error::ConfigError;

/// One of a closed set of words.
pub(crate) trait Keyword: Copy + 'static {
    /// The words, and what each means.
    const KEYWORDS: &'static [(&'static str, Self)];
}

/// The members of one JSON object, to be taken one by one.
pub(crate) struct ConfigReader<'e> {
    /// Where the object stands, such as `mounts[2].`; empty for the whole configuration.
    at: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
    errors: &'e mut Vec<ConfigError>,
}

impl<'e> ConfigReader<'e> {
    pub(crate) fn new(
        at: String,
        members: Map<String, Value>,
        errors: &'e mut Vec<ConfigError>,
    ) -> Self {
        Self {
            at,
            members,
            known: Vec::new(),
            errors,
        }
    }

    /// Takes a member as it is.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        self.read_string(self.path(name), value)
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            value => self.type_error(self.path(name), &value, "true or false"),
        }
    }

    pub(crate) fn integer(&mut self, name: &'static str) -> Option<i64> {
        let value = self.take(name)?;
        match value.as_i64() {
            Some(number) => Some(number),
            None => self.type_error(self.path(name), &value, "a whole number"),
        }
    }

    pub(crate) fn keyword<T: Keyword>(&mut self, name: &'static str) -> Option<T> {
        let written = self.string(name)?;
        let found = T::KEYWORDS.iter().find(|(word, _)| *word == written);
        if found.is_none() {
            self.errors.push(ConfigError::UnknownWord {
                setting: self.path(name),
                value: written,
                expected: T::KEYWORDS
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
        found.map(|(_, meaning)| *meaning)
    }

    pub(crate) fn strings(&mut self, name: &'static str) -> Option<Vec<String>> {
        let values = self.values(name, "an array of texts")?;
        Some(
            values
                .into_iter()
                .enumerate()
                .filter_map(|(index, value)| {
                    self.read_string(format!("{}[{index}]", self.path(name)), value)
                })
                .collect(),
        )
    }

    /// Reads an array of objects.
    pub(crate) fn objects<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut ConfigReader<'_>) -> T,
    ) -> Option<Vec<T>> {
        let values = self.values(name, "an array of objects")?;
        let mut objects = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let at = format!("{}[{index}]", self.path(name));
            match value {
                Value::Object(members) => objects.push(self.object(at, members, &read)),
                value => {
                    self.type_error::<()>(at, &value, "an object");
                }
            }
        }
        Some(objects)
    }

    /// Reads the members of a nested object.
    pub(crate) fn object<T>(
        &mut self,
        mut at: String,
        members: Map<String, Value>,
        read: impl FnOnce(&mut ConfigReader<'_>) -> T,
    ) -> T {
        at.push('.');
        let mut reader = ConfigReader::new(at, members, self.errors);
        let object = read(&mut reader);
        reader.finish();
        object
    }

    /// Says that a value has the wrong type.
    pub(crate) fn type_error<T>(
        &mut self,
        setting: String,
        value: &Value,
        expected: &'static str,
    ) -> Option<T> {
        self.errors.push(ConfigError::Type {
            setting,
            value: shorten(value),
            expected,
        });
        None
    }

    pub(crate) fn error(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// The name of a member with where it stands.
    pub(crate) fn path(&self, name: &str) -> String {
        [self.at.as_str(), name].concat()
    }

    /// Reports what nobody has asked for.
    pub(crate) fn finish(self) {
        let Self {
            at,
            members,
            mut known,
            errors,
        } = self;
        known.sort_unstable();
        for key in members.keys() {
            let hint = known
                .iter()
                .map(|name| (distance(key, name), *name))
                .filter(|(distance, _)| *distance <= key.len().div_ceil(3))
                .min();
            errors.push(ConfigError::UnknownKey {
                key: [at.as_str(), key].concat(),
                hint: hint.map_or(String::new(), |(_, name)| {
                    format!("did you mean \"{name}\"? ")
                }),
                expected: known.join(", "),
            });
        }
    }

    fn values(&mut self, name: &'static str, expected: &'static str) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(values) => Some(values),
            value => self.type_error(self.path(name), &value, expected),
        }
    }

    fn read_string(&mut self, setting: String, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            value => self.type_error(setting, &value, "a text"),
        }
    }
}

/// Reads one JSON object. A key that stands there twice is an error: whoever reads the text sees one, the program the
/// other.
pub(crate) fn read_object(text: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::from_slice(text) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        Ok(Strict(value)) => Err(ConfigError::Document {
            problem: format!("it is {}", shorten(&value)),
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
                    "the key \"{key}\" is there twice"
                )));
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// How many letters must be added, dropped or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (place, candidate) in row.iter_mut().skip(1).zip(other.bytes()) {
            let changed = diagonal.saturating_add(usize::from(letter != candidate));
            diagonal = *place;
            left = changed
                .min(place.saturating_add(1))
                .min(left.saturating_add(1));
            *place = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// How much of a wrong value an error repeats, in characters.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_there_once() {
        for (text, want) in [
            (r#"{"a": 1, "b": {"a": 2}}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some("\"a\" is there twice")),
            (r#"{"b": [{"a": 1, "a": 2}]}"#, Some("\"a\" is there twice")),
            ("[]", Some("it is []")),
            ("", Some("EOF")),
            (r#"{"a": 1} x"#, Some("trailing")),
        ] {
            let got = read_object(text.as_bytes())
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

    #[test]
    fn distances() {
        for (one, other, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("root_paht", "root_path", 2),
            ("hsts", "hts", 1),
        ] {
            assert_eq!(distance(one, other), want, "{one} {other}");
            assert_eq!(distance(other, one), want, "{other} {one}");
        }
    }
}
