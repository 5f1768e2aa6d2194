//! Does the schema that editors use say what the types say, and are the project's own cases of that form?

use std::path::Path;

use crate::CaseFile;

/// `cases.schema.json` is made from the types; run with `UPDATE_SCHEMA=1` to make it anew.
#[test]
fn the_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-test/cases.schema.json");
    let schema = schemars::schema_for!(CaseFile);
    let made = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "host-test/cases.schema.json differs from the types; make it anew with `UPDATE_SCHEMA=1 cargo test -p fluxlit-cases schema`"
    );
}

#[test]
fn the_projects_cases_are_case_files_by_type_and_by_schema() {
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
