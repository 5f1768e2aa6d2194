//! Compares the checks with their documentation.

use std::collections::BTreeSet;

use fluxlit_doctor::checks;

#[test]
fn every_check_has_a_section_and_every_section_a_check() {
    let text = include_str!("../../../docs/doctor.md");
    // As GitHub makes the anchor of a heading.
    let anchor = |heading: &str| {
        heading
            .to_lowercase()
            .replace(['`', '.'], "")
            .replace(' ', "-")
    };
    let sections: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(anchor)
        .collect();
    let documented: BTreeSet<String> = sections.iter().cloned().collect();
    assert_eq!(documented.len(), sections.len(), "a section is there twice");
    let wanted: BTreeSet<String> = checks()
        .filter_map(|check| {
            check
                .documentation()
                .split_once('#')
                .map(|(_, anchor)| anchor.to_owned())
        })
        .collect();
    assert_eq!(documented, wanted);
}

#[test]
fn ids_and_names_are_unique() {
    let ids: BTreeSet<&str> = checks().map(|check| check.id).collect();
    let names: BTreeSet<&str> = checks().map(|check| check.name).collect();
    assert_eq!(
        (ids.len(), names.len()),
        (checks().count(), checks().count())
    );
}
