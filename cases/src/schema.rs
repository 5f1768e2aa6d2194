//! Tests that the JSON schema matches the types, and that the project's own cases conform to it.

use std::path::Path;

use crate::CaseFile;

/// `cases.schema.json` is generated from the types; run with `UPDATE_SCHEMA=1` to regenerate it.
#[test]
fn schema_is_generated_from_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-test/cases.schema.json");
    let schema = schemars::schema_for!(CaseFile);
    let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "host-test/cases.schema.json differs from the types; regenerate it with `UPDATE_SCHEMA=1 cargo test -p fluxlit-cases schema`"
    );
}

#[test]
fn project_cases_conform_to_the_types_and_the_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(CaseFile)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = CaseFile::load_folder(folder).unwrap();
    assert!(!files.is_empty());
    for (path, file) in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for json in [text, file.to_text()] {
            let value = serde_json::from_str(&json).unwrap();
            let errors: Vec<String> = validator
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
    }
}
