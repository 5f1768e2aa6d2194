//! Does the JSON Schema say what the types say?

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::{Defaults, Policy};

/// `policy/schema.json` is made from the types; run with `UPDATE_SCHEMA=1` to make it anew.
#[test]
fn the_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
    let mut made = serde_json::to_string_pretty(&schemars::schema_for!(Config)).unwrap();
    made.push('\n');
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "policy/schema.json differs from the types; make it anew with `UPDATE_SCHEMA=1 cargo test -p fluxlit-policy schema`"
    );
}

/// The types, from which the schema is made, and the reader, which is written by hand, know the same keys.
#[test]
fn the_reader_knows_the_keys_of_the_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let properties = |object: &Value| -> Vec<String> {
        let properties = object["properties"].as_object().expect("an object");
        properties.keys().cloned().collect()
    };
    for (name, wrap) in [
        (None, "{*}"),
        (Some("Mount"), r#"{"mounts": [{*}]}"#),
        (
            Some("ContentSecurityPolicyRule"),
            r#"{"content_security_policy": [{*}]}"#,
        ),
        (Some("HstsValues"), r#"{"hsts": {*}}"#),
        (Some("SecurityHeaderValues"), r#"{"security_headers": {*}}"#),
    ] {
        let text = wrap.replace("{*}", r#"{"?": 1}"#);
        let settings: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
        let message = Policy::from_settings(settings, Defaults::FILTER)
            .expect_err("an unknown key")
            .to_string();
        let known = message
            .lines()
            .find_map(|line| line.split_once("expected one of "))
            .map(|(_, known)| known.trim_end_matches('.').to_owned())
            .unwrap_or_default();
        let object = name.map_or(&schema, |name| &schema["$defs"][name]);
        assert_eq!(known, properties(object).join(", "), "{name:?}");
    }
}
