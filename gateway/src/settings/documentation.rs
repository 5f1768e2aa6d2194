//! Tests that the documentation names the settings that exist, with their defaults, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::fluxlit_variables;
use super::limits::Limits;
use super::observe::Observe;
use super::process::Process;
use super::sources::{APP, SETTINGS_FILE, Sources, TARGET};
use super::upstream::{ApiSettings, Streamlit};
use super::values::PREFIX;
use super::{App, Settings};

const PAGE: &str = include_str!("../../../docs/gateway.md");

/// The variables of the gateway that the policy does not read.
fn own() -> BTreeSet<&'static str> {
    let groups = [
        Process::NAMES,
        Limits::NAMES,
        Observe::NAMES,
        Streamlit::NAMES,
        ApiSettings::NAMES,
    ];
    groups.concat().into_iter().collect()
}

/// The first two cells of each row of the tables of variables: names, and the default.
fn rows() -> Vec<(Vec<&'static str>, &'static str)> {
    let mut rows = Vec::new();
    let mut is_wanted = false;
    for line in PAGE.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            is_wanted = false;
            continue;
        };
        let mut cells = row.split('|').map(str::trim);
        let (names, default) = (cells.next().unwrap_or_default(), cells.next());
        if names == "variable" {
            is_wanted = true;
        } else if is_wanted && !names.starts_with("---") {
            let names = names.split(", ").map(|name| name.trim_matches('`'));
            rows.push((names.collect(), default.unwrap_or_default()));
        }
    }
    rows
}

/// What the page shows for a default, such as `10` for 10.0 seconds.
fn shown(default: &Value) -> String {
    match default {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string().trim_end_matches(".0").to_owned(),
    }
}

#[test]
fn every_setting_has_one_row_with_its_default_and_every_row_is_a_setting() {
    let up = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [(up.0.into(), up.1.into())].into_iter();
    let sources = Sources::read(Vec::new(), None, folder.path(), environment);
    let settings = Settings::read(None::<App>, sources).expect("settings");
    let defaults: BTreeMap<&str, &Value> = settings
        .table
        .iter()
        .map(|setting| (setting.name.as_str(), &setting.default))
        .collect();
    let mut documented = BTreeSet::new();
    for (names, cell) in rows() {
        for name in names {
            assert!(documented.insert(name), "{name} has two rows");
            let default = defaults.get(name).map(|default| shown(default));
            let default = default.unwrap_or_default();
            // Words describe a default that depends on something else; an empty cell, that there is none.
            let is_right = match cell.strip_prefix('`') {
                Some(cell) => cell.split('`').next() == Some(default.as_str()),
                None => cell.is_empty() == default.is_empty() || !cell.is_empty(),
            };
            assert!(
                is_right,
                "{name}: the page has {cell}, the default is `{default}`"
            );
        }
    }
    let own = own();
    let is_named = |name: &&str| documented.contains(name) || PAGE.contains(&format!("`{name}`"));
    let missing: Vec<&&str> = own.iter().filter(|name| !is_named(name)).collect();
    assert!(missing.is_empty(), "not in docs/gateway.md: {missing:?}");
    let unknown: Vec<&&str> = documented.difference(&own).collect();
    assert!(unknown.is_empty(), "no settings: {unknown:?}");
}

/// The variables in a text; a name that ends with an underscore is the beginning of names.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let is_name =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.split(move |letter| !is_name(letter))
        .filter(|word| word.starts_with(PREFIX) && !word.ends_with('_'))
}

fn pages(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_variable_in_the_documentation_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![root.join("README.md"), root.join("envoy/README.md")];
    for folder in ["docs", "deploy"] {
        pages(&root.join(folder), &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    let schema = include_str!("../../../policy/schema.json");
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let of_policy = schema["properties"].as_object().expect("properties");
    let mut known: BTreeSet<String> = of_policy
        .keys()
        .map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase()))
        .collect();
    let others = fluxlit_variables::names().chain([APP, SETTINGS_FILE, TARGET]);
    known.extend(others.chain(own()).chain(NO_SETTINGS).map(str::to_owned));
    for page in found {
        let text = std::fs::read_to_string(&page).expect("a page");
        for name in variables(&text) {
            assert!(known.contains(name), "{}: {name}", page.display());
        }
    }
}

/// Variables of the tests and of other programs, which are not settings of the gateway.
const NO_SETTINGS: [&str; 5] = [
    // In a compose file, the image of the app.
    "FLUXLIT_APP_IMAGE",
    // The commit that a build writes into the programs.
    "FLUXLIT_COMMIT",
    // In the printed configuration of Apache, the folder of its modules.
    "FLUXLIT_MODULES",
    // Selects the problems that a test runs.
    "FLUXLIT_TEST_DOCTOR",
    // Makes a test write the page that it compares.
    "FLUXLIT_WRITE",
];
