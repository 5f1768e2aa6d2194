//! Compares the settings and the error codes with the page that documents them.

use std::collections::BTreeSet;

use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/settings.md");

/// Returns the first cells of the tables with this heading in their first column.
fn first_cells(heading: &str) -> Vec<&'static str> {
    let mut cells = Vec::new();
    let mut is_wanted = false;
    for line in PAGE.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            is_wanted = false;
            continue;
        };
        let cell = row.split(" |").next().unwrap_or_default();
        if cell == heading {
            is_wanted = true;
        } else if is_wanted && !cell.starts_with("---") {
            cells.push(cell.trim_matches('`'));
        }
    }
    cells
}

fn properties(schema: &Value) -> BTreeSet<&str> {
    let properties = schema["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../schema.json")).expect("JSON")
}

#[test]
fn the_page_has_a_row_for_every_setting_and_no_other() {
    let rows = first_cells("key");
    let documented: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(documented.len(), rows.len(), "a setting is there twice");
    assert_eq!(documented, properties(&schema()));
}

/// The members of groups, such as those of `hsts`.
#[test]
fn the_page_names_every_member_of_a_group() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions");
    let mut count = 0;
    for (group, definition) in definitions {
        for member in properties(definition) {
            let is_named = PAGE.contains(&format!("`{member}`"))
                || PAGE.contains(&format!("{{{member},"))
                || PAGE.contains(&format!(", {member},"))
                || PAGE.contains(&format!(", {member}}}"));
            assert!(is_named, "{group}: {member} is not in docs/settings.md");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

/// Returns the words of a text that are codes, such as `E01`.
fn codes(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| {
            word.strip_prefix('E')
                .is_some_and(|digits| digits.len() == 2 && digits.parse::<u8>().is_ok())
        })
        .collect()
}

/// The codes are in the sources of the errors, and of the one warning that only a host can give.
#[test]
fn the_page_has_a_row_for_every_error_code_and_no_other() {
    let mut wanted = codes(include_str!("../../src/config_error.rs"));
    wanted.extend(codes(include_str!("../../../stream/src/stream.rs")));
    let rows = first_cells("code");
    let documented: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(documented.len(), rows.len(), "a code is there twice");
    assert_eq!(documented, wanted);
    assert!(wanted.len() > 15, "{wanted:?}");
}
