//! Reads the probe key from a file, so that it need not be in the environment.

use std::path::Path;

use serde_json::{Map, Value};

use crate::settings::error::SettingError;

/// Adds the key to the settings of the policy, which checks it. `path`: the file, if one is set.
///
/// # Errors
///
/// If the file cannot be read, or the key is set as well.
pub(super) fn read(rules: &mut Map<String, Value>, path: Option<&str>) -> Result<(), SettingError> {
    let Some(path) = path else {
        return Ok(());
    };
    if rules.contains_key(PROBE_KEY) {
        return Err(SettingError::Refused {
            place: "FLUXLIT_PROBE_KEY_FILE".to_owned(),
            reason: "FLUXLIT_PROBE_KEY is set as well: use one of them".to_owned(),
        });
    }
    let key = std::fs::read_to_string(path).map_err(|source| SettingError::FileRead {
        path: Path::new(path).to_owned(),
        source,
    })?;
    rules.insert(PROBE_KEY.to_owned(), key.into());
    Ok(())
}

/// The setting of the policy.
pub(super) const PROBE_KEY: &str = "probe_key";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_into(rules: Value, path: &str) -> Result<Value, String> {
        let Value::Object(mut rules) = rules else {
            panic!("an object");
        };
        let read = read(&mut rules, Some(path).filter(|path| !path.is_empty()));
        read.map_err(|error| error.to_string())?;
        Ok(rules.remove(PROBE_KEY).unwrap_or_default())
    }

    #[test]
    fn the_key_is_that_of_the_file_or_of_the_variable() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "0123456789abcdef\n").expect("a file");
        let file = file.to_str().expect("text");
        let missing = format!("{file}2");
        let set = json!({"probe_key": "fedcba9876543210"});
        assert_eq!(read_into(json!({}), ""), Ok(Value::Null));
        assert_eq!(read_into(json!({}), file), Ok("0123456789abcdef\n".into()));
        assert_eq!(read_into(set.clone(), ""), Ok("fedcba9876543210".into()));
        for (rules, path, want) in [
            (set, file, "FLUXLIT_PROBE_KEY is set as well"),
            (json!({}), &missing, &missing),
        ] {
            let error = read_into(rules, path).expect_err(want);
            assert!(error.contains(want), "{error}");
            assert!(
                !error.contains("0123") && !error.contains("fedc"),
                "{error}"
            );
        }
    }
}
